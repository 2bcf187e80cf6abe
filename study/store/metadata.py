"""The metadata of a study, which is written once when the study is created."""

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator

from study.errors import UserError
from study.spec import Spec, explain

__all__ = ["StudyMetadata", "incompatible"]


class StudyMetadata(BaseModel, frozen=True):
    """Content of `study.json`, written once when the study is created.

    Attributes:
        format: Version of the store's layout.
        spec: The resolved spec. A field that a later version added is absent and means what code without the field did.
        stack: Stack plan, as `study.spec.resolved_spec.StackPlan`.
        factors: Names of the data's factors.
        created: Time of creation.
        writer: Version of marl-study that created the study, with its commit where that is known.
    """

    format: Literal[2] = 2
    spec: Spec
    stack: dict[str, Any]
    factors: tuple[str, ...]
    created: datetime
    writer: str

    @model_validator(mode="wrap")
    @classmethod
    def _is_compatible(cls, content: Any, handler: ModelWrapValidatorHandler["StudyMetadata"]) -> "StudyMetadata":
        """Raise a UserError for metadata of another version; damaged metadata stays a ValidationError."""
        try:
            return handler(content)
        except ValidationError as error:
            writer = content.get("writer") if isinstance(content, Mapping) else None
            if not isinstance(writer, str):
                raise
            raise incompatible(content.get("spec"), writer, explain(error, cls)) from None


def incompatible(spec: Any, writer: str, reason: str) -> UserError:
    """Return the error for a study whose metadata this version cannot read.

    Args:
        spec: The study's spec, as far as it can be read; it holds the name.
        writer: Version that created the study.
        reason: The field and the rule that it breaks.
    """
    name = spec.get("name") if isinstance(spec, Mapping) else getattr(spec, "name", None)
    return UserError(
        f"study {name!r} was created by marl-study {writer}, and this is marl-study {version('marl-study')}: {reason}; "
        "use the version that created the study, or a later one"
    )
