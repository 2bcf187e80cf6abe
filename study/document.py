"""The document that a study begins with."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from study.spec import Spec

__all__ = ["Document"]


class Document(BaseModel, frozen=True):
    """`study.json`: written once, when the study begins.

    Attributes:
        format: of the store.
        spec: resolved, every default filled in.
        stack: how wide stacks are, as `study.stacks.StackPlan`.
        factors: names of the data's factors.
        created: when.
    """

    format: Literal[1] = 1
    spec: Spec
    stack: dict[str, Any]
    factors: tuple[str, ...]
    created: datetime
