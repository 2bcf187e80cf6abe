"""Base of all configurations."""

from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

__all__ = ["BaseConfig", "Distinct"]

_Items = TypeVar("_Items", bound=tuple[object, ...])


class BaseConfig(BaseModel):
    """Immutable configuration, validated when it is created.

    Unknown fields are errors, since a misspelt field would otherwise be ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse the conversions of Pydantic that hide a mistake. Text is a number where YAML reads 1e-3 as text."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if wanted is bool and isinstance(value, int | float | str) and not isinstance(value, bool):
            raise ValueError(f"must be true or false; got {value!r}")
        if wanted is int and isinstance(value, bool | str):
            raise ValueError(f"must be an integer; got {value!r}")
        if wanted is float and isinstance(value, bool):
            raise ValueError(f"must be a number; got {value!r}")
        return value


def _check_distinct(items: _Items) -> _Items:
    if len(set(items)) < len(items):
        raise ValueError(f"must not have a value twice; got {list(items)}")
    return items


Distinct = AfterValidator(_check_distinct)
"""Annotation of a tuple whose values must differ."""
