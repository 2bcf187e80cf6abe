"""Telling that a device's memory is used up from other errors."""

import torch

__all__ = ["is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory for a tensor, on a GPU or on a processor."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
