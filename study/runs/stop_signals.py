"""Signals that stop a run, such as Ctrl-C.

The first signal stops a run after checkpoints are written, the second one at once. Only the main thread of a process
can handle signals.
"""

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from study.errors import Interrupted, is_command_line

# After a second Ctrl-C the process ends within 3 s.
_END_WITHIN_S = 2.5


@contextmanager
def handle_signals(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Set a handler of signals within the context; in other threads than the main one, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, previous_handler in previous.items():
            signal.signal(number, previous_handler)


class StopSignals:
    """Handler of signals that stop a run.

    Outside of training it raises Interrupted. While `is_graceful` is set, the first signal only sets `requested`. The
    second raises Interrupted, and ends the process of a command soon, even if that waits for a store that fails. The
    process of a notebook or a script goes on. The handler neither prints nor takes locks, because the main thread may
    hold them.
    """

    def __init__(self, farewell: str = "stopped at once") -> None:
        self._farewell = farewell.encode()
        self._may_end_process = is_command_line()
        self.requested = False
        self.is_graceful = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        was_requested, self.requested = self.requested, True
        if was_requested and self._may_end_process:
            _thread.start_new_thread(_end_process, (self._farewell,))
        if was_requested or not self.is_graceful:
            raise Interrupted


def _end_process(farewell: bytes) -> None:
    time.sleep(_END_WITHIN_S)
    # Rich hides the cursor while it shows progress.
    os.write(2, (b"\x1b[?25h" if os.isatty(2) else b"") + farewell + b"\n")
    os._exit(130)
