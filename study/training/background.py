"""What takes time but no device, done beside the training: reading and writing the store."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

__all__ = ["Background"]

_Result = TypeVar("_Result")

# Requests to a bucket wait for the network most of the time.
_THREADS = 8


class Background:
    """Jobs in threads of their own. Those of one trial are done one after the other, in the order of their coming."""

    def __init__(self) -> None:
        self._queues = [ThreadPoolExecutor(1, thread_name_prefix="store") for _ in range(_THREADS)]
        self._jobs: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way, or one that is done was not collected yet."""
        return bool(self._jobs)

    def submit(self, trial: int, job: Callable[[], _Result], then: Callable[[_Result], None]) -> None:
        """Do a job for a trial; `collect` will call `then` with what came of it, in the caller's thread."""
        self._jobs.append((self._queues[trial % _THREADS].submit(job), then))

    def collect(self, within_s: float = 0.0) -> None:
        """Take what is done, waiting so long for the first if there is none.

        Raises:
            Exception: whatever a job raised.
        """
        if not self._jobs:
            return
        if within_s:
            wait([future for future, _ in self._jobs], timeout=within_s, return_when="FIRST_COMPLETED")
        for _ in range(len(self._jobs)):
            future, then = self._jobs.popleft()
            if future.done():
                then(future.result())
            else:
                self._jobs.append((future, then))

    def finish(self) -> None:
        """Wait for all jobs, and collect them."""
        while self._jobs:
            self.collect(within_s=1.0)
