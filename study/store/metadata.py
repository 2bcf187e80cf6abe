"""The document that a study begins with."""

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator

from study.errors import UserError
from study.spec import Spec, explain

__all__ = ["Document", "incompatible"]


class Document(BaseModel, frozen=True):
    """`study.json`: written once, when the study begins.

    Attributes:
        format: of the store.
        spec: resolved, every default filled in. A field that came later is not there, and means what code without it
            did.
        stack: how wide stacks are, as `study.spec.model_config.StackPlan`.
        factors: names of the data's factors.
        created: when.
        writer: version of marl-study that wrote it, with its commit where that is known; none for the first ones.
    """

    format: Literal[1] = 1
    spec: Spec
    stack: dict[str, Any]
    factors: tuple[str, ...]
    created: datetime
    writer: str | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _is_understood(cls, content: Any, handler: ModelWrapValidatorHandler["Document"]) -> "Document":
        """Tell what another version wrote from what is damaged, which stays a ValidationError."""
        try:
            return handler(content)
        except ValidationError as error:
            writer = content.get("writer") if isinstance(content, Mapping) else None
            if writer is None and error.errors()[0]["type"] != "extra_forbidden":
                raise
            raise incompatible(content.get("spec"), writer, explain(error, cls)) from None


def incompatible(spec: Any, writer: Any, reason: str) -> UserError:
    """The error of a document that this version does not understand.

    Args:
        spec: the document's, as far as it can be read; for its name.
        writer: as the document has it.
        reason: the field and what is wrong with it.
    """
    name = spec.get("name") if isinstance(spec, Mapping) else getattr(spec, "name", None)
    wrote = f"marl-study {writer}" if writer else "an unknown version of marl-study"
    return UserError(
        f"study {name!r} was begun by {wrote}, and this is marl-study {version('marl-study')}: {reason}; "
        "read it and go on with it by the version that began it, or a later one"
    )
