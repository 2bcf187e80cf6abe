"""The base of every configuration: typed, frozen, and without fields that nobody reads."""

from pydantic import BaseModel, ConfigDict

__all__ = ["BaseConfig"]


class BaseConfig(BaseModel):
    """A configuration that is validated once and never changes.

    Unknown fields are refused, since a misspelt field would otherwise train something else than was meant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
