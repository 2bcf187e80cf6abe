"""Base of all configurations."""

from typing import TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

__all__ = ["BaseConfig", "Distinct"]

_Items = TypeVar("_Items", bound=tuple[object, ...])


class BaseConfig(BaseModel):
    """Immutable configuration, validated when it is created.

    Unknown fields are errors, since a misspelt field would otherwise be ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_distinct(items: _Items) -> _Items:
    if len(set(items)) < len(items):
        raise ValueError(f"must not have a value twice; got {list(items)}")
    return items


Distinct = AfterValidator(_check_distinct)
"""Annotation of a tuple whose values must differ."""
