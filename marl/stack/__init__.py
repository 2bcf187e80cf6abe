"""Many models trained as one program."""

from marl.stack.stack import Precision, Snapshot, Stack

__all__ = ["Precision", "Snapshot", "Stack"]
