"""Many models trained as one program: a lane for each model, and one training step for all lanes."""

from marl.stack.compile_step import CheckedStep, StepKind
from marl.stack.stack import Precision, Snapshot, Stack

__all__ = ["CheckedStep", "Precision", "Snapshot", "Stack", "StepKind"]
