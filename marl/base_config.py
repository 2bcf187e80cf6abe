"""Base of all configurations."""

from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

__all__ = ["BaseConfig", "Distinct"]

_Items = TypeVar("_Items", bound=tuple[object, ...])


class BaseConfig(BaseModel):
    """Immutable configuration, validated when it is created.

    Unknown fields are errors, since a misspelt field would otherwise be ignored. The string below a field is its
    description in the reference and in the JSON Schema of the spec.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse the conversions of Pydantic that hide a mistake. Text is a number where YAML reads 1e-3 as text."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        is_tuple, is_union = get_origin(annotation) is tuple, isinstance(annotation, UnionType)
        wanted = {*get_args(annotation)} - {NoneType, ...} if is_tuple or is_union else {annotation}
        for item in value if is_tuple and isinstance(value, list | tuple) else [value]:
            if wanted == {bool} and isinstance(item, int | float | str) and not isinstance(item, bool):
                raise ValueError(f"must be true or false; got {item!r}")
            if wanted == {int} and isinstance(item, bool | str):
                raise ValueError(f"must be an integer; got {item!r}")
            if wanted & {int, float} and bool not in wanted and isinstance(item, bool):
                raise ValueError(f"must be a number; got {item!r}")
        return value


def _check_distinct(items: _Items) -> _Items:
    if len(set(items)) < len(items):
        raise ValueError(f"must not have a value twice; got {list(items)}")
    return items


Distinct = AfterValidator(_check_distinct)
"""Annotation of a tuple whose values must differ."""
