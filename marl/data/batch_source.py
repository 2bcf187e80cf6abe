"""Clips of a prepared set for the steps of a stack: put into one place, before each step, from wherever they are kept.

What is compiled reads that place and nothing else, so it is the same program, with the same rounding, for clips on the
device and beside it. K is lanes, R = 2 K B clips of a step with B pairs, F mel bands, T frames.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from marl.data.pairs import PairSampler
from marl.data.stored import Stored

__all__ = ["Feed", "Gather", "Place"]


class Place:
    """Where a step reads its clips.

    Args:
        stored: spectrograms of all clips.
        lanes: of the stack.
        pairs: of a batch.
    """

    def __init__(self, stored: Stored, lanes: int, pairs: int) -> None:
        self._stored, self._pairs = stored, pairs
        shape = (lanes * 2 * pairs, *stored.shape[1:])
        self._block_RFT = torch.zeros(shape, dtype=torch.float16, device=stored.device)

    def take(self, clips: Tensor) -> Tensor:
        """Standardised log-mels [R, F, T] of the clips of this step, whichever they are; as part of the step."""
        return self._stored.standardised(self._block_RFT)


class Gather(Place):
    """Clips that are on the device.

    Args:
        stored: spectrograms of all clips, on the device.
        sampler: draws the pairs, there, too.
        lanes: of the stack.
        pairs: of a batch.
    """

    def __init__(self, stored: Stored, sampler: PairSampler, lanes: int, pairs: int) -> None:
        super().__init__(stored, lanes, pairs)
        self._sampler = sampler

    def fill(self, seed_K: Tensor, step_K: Tensor) -> None:
        """At the beginning of a step: put its clips in place."""
        clips_KVB = self._sampler.draw(seed_K, step_K, self._pairs).clips_KVB
        self._stored.decibels(clips_KVB.flatten(), out=self._block_RFT)


class Feed(Place):
    """Clips that are beside the device, gathered while it computes the step before.

    Which clips a lane needs is a function of its seed and step alone, so those of the next step are known before it is
    begun. They are gathered by a thread of its own, and on a GPU copied beside the computation.

    Args:
        stored: spectrograms of all clips, beside the device.
        sampler: draws the pairs, on the CPU.
        lanes: of the stack.
        pairs: of a batch.
    """

    def __init__(self, stored: Stored, sampler: PairSampler, lanes: int, pairs: int) -> None:
        super().__init__(stored, lanes, pairs)
        self._sampler = sampler
        on_cuda = stored.device.type == "cuda"
        self._gathered_RFT = torch.zeros(self._block_RFT.shape, dtype=torch.float16, pin_memory=on_cuda)
        self._copies = torch.cuda.Stream(stored.device) if on_cuda else None
        self._arrived_RFT = torch.zeros_like(self._block_RFT) if on_cuda else self._gathered_RFT
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._coming: tuple[Tensor, Tensor, Future[None]] | None = None

    def fill(self, seed_K: Tensor, step_K: Tensor, next_step_K: Tensor) -> None:
        """Before a step: put its clips in place, and begin to gather those of the one after.

        Args:
            seed_K: int64 seeds of the lanes, on the CPU.
            step_K: int64 steps of the lanes, on the CPU.
            next_step_K: where they will be after this one.
        """
        if self._coming is None or not self._is_for(seed_K, step_K):
            self._begin(seed_K, step_K)
        assert self._coming is not None  # noqa: S101  # it was just begun
        self._coming[2].result()
        if self._copies is not None:
            torch.cuda.current_stream(self._stored.device).wait_stream(self._copies)
        self._block_RFT.copy_(self._arrived_RFT)
        self._begin(seed_K.clone(), next_step_K.clone())

    def _is_for(self, seed_K: Tensor, step_K: Tensor) -> bool:
        """Whether what is coming are the clips of these steps."""
        if self._coming is None:
            return False
        seeds, steps, gathering = self._coming
        if torch.equal(seeds, seed_K) and torch.equal(steps, step_K):
            return True
        gathering.result()  # nobody else may write where it writes
        return False

    def _begin(self, seed_K: Tensor, step_K: Tensor) -> None:
        """Gather the clips of a step in the thread, after the copy of those before has left their place."""
        block_left = None
        if self._copies is not None:
            block_left = torch.cuda.Event()
            block_left.record(torch.cuda.current_stream(self._stored.device))
        self._coming = (seed_K, step_K, self._thread.submit(self._gather, seed_K, step_K, block_left))

    def _gather(self, seed_K: Tensor, step_K: Tensor, block_left: torch.cuda.Event | None) -> None:
        if self._copies is not None:
            self._copies.synchronize()  # the copy before still reads what is written here
        clips_KVB = self._sampler.draw(seed_K, step_K, self._pairs).clips_KVB
        self._stored.decibels(clips_KVB.flatten(), out=self._gathered_RFT)
        if self._copies is not None and block_left is not None:
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(block_left)
                self._arrived_RFT.copy_(self._gathered_RFT, non_blocking=True)
