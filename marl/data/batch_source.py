"""The log-mels of each training step of a stack: R = 2 K B clips."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from marl.data.dataset import LogMels
from marl.data.pairs import PairSampler

__all__ = ["BatchSource", "DeviceBatchSource", "HostBatchSource"]


class BatchSource:
    """The log-mels of the clips of each training step.

    For each step the stack calls `prefetch`, and the step calls `gather` and then `take`. Only `take` is compiled.
    Prepared log-mels are copied into one block of memory before `take` reads them. So the compiled program, and with it
    the rounding, is the same for log-mels on the device and on the host. The sampler draws where the log-mels are.
    """

    def __init__(self, log_mels: LogMels, sampler: PairSampler, lanes: int, pairs: int) -> None:
        self._log_mels, self._sampler, self._pairs = log_mels, sampler, pairs
        shape = (2 * lanes * pairs if log_mels.is_prepared else 0, *log_mels.values_NFT.shape[1:])
        self._block_RFT = torch.zeros(shape, dtype=log_mels.values_NFT.dtype, device=log_mels.device)

    def prefetch(self, seed_K: Tensor, step_K: Tensor, next_step_K: Tensor) -> None:
        """Load the clips of a step from the host, and start to load the next ones; seeds and steps are on the CPU."""

    def gather(self, seed_K: Tensor, step_K: Tensor) -> None:
        """Load the clips of a step from the device; seeds and steps are on the device, too."""

    def take(self, clips_R: Tensor) -> Tensor:
        """Return the standardised log-mels [R, F, T] of the clips of the current step."""
        return self._log_mels.standardise(self._block_RFT)

    def _read(self, seed_K: Tensor, step_K: Tensor, out_RFT: Tensor) -> None:
        clips_KVB = self._sampler.draw(seed_K, step_K, self._pairs).clips_KVB
        self._log_mels.read(clips_KVB.flatten(), out=out_RFT)


class DeviceBatchSource(BatchSource):
    """Log-mels on the device. `take` reads log-mels of a computed data set directly."""

    def gather(self, seed_K: Tensor, step_K: Tensor) -> None:
        """Copy prepared log-mels into the block."""
        if self._log_mels.is_prepared:
            self._read(seed_K, step_K, self._block_RFT)

    def take(self, clips_R: Tensor) -> Tensor:
        """Return the standardised log-mels [R, F, T] of the clips of the current step."""
        return super().take(clips_R) if self._log_mels.is_prepared else self._log_mels.take(clips_R)


class HostBatchSource(BatchSource):
    """Log-mels in host memory. A thread loads the clips of the next step while the device computes the current one.

    The clips of a step are a function of seeds and steps alone, so they are known before the step starts. On a GPU the
    copy to the device runs beside the computation.
    """

    def __init__(self, log_mels: LogMels, sampler: PairSampler, lanes: int, pairs: int) -> None:
        super().__init__(log_mels, sampler, lanes, pairs)
        on_cuda = log_mels.device.type == "cuda"
        self._host_RFT = torch.zeros(self._block_RFT.shape, dtype=self._block_RFT.dtype, pin_memory=on_cuda)
        self._copies = torch.cuda.Stream(log_mels.device) if on_cuda else None
        self._next_RFT = torch.zeros_like(self._block_RFT) if on_cuda else self._host_RFT
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch-source")
        self._pending: tuple[Tensor, Tensor, Future[None]] | None = None

    def prefetch(self, seed_K: Tensor, step_K: Tensor, next_step_K: Tensor) -> None:
        """Copy the clips of a step into the block, and start to load the clips of the next step."""
        pending = self._pending or self._start(seed_K, step_K)
        pending[2].result()
        if not (torch.equal(pending[0], seed_K) and torch.equal(pending[1], step_K)):
            self._start(seed_K, step_K)[2].result()
        if self._copies is not None:
            torch.cuda.current_stream(self._log_mels.device).wait_stream(self._copies)
        self._block_RFT.copy_(self._next_RFT)
        self._pending = self._start(seed_K.clone(), next_step_K.clone())

    def _start(self, seed_K: Tensor, step_K: Tensor) -> tuple[Tensor, Tensor, Future[None]]:
        block_copied = None
        if self._copies is not None:
            block_copied = torch.cuda.Event()
            block_copied.record(torch.cuda.current_stream(self._log_mels.device))
        return seed_K, step_K, self._thread.submit(self._load, seed_K, step_K, block_copied)

    def _load(self, seed_K: Tensor, step_K: Tensor, block_copied: torch.cuda.Event | None) -> None:
        if self._copies is not None:
            self._copies.synchronize()  # the previous copy reads the memory that is written next
        self._read(seed_K, step_K, self._host_RFT)
        if self._copies is not None and block_copied is not None:
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(block_copied)
                self._next_RFT.copy_(self._host_RFT, non_blocking=True)
