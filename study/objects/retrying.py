"""The one way in which something is tried again: after pauses that grow and are drawn at random, up to a deadline."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["retried"]

_Result = TypeVar("_Result")

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 15.0


def retried(action: Callable[[], _Result], patience_s: float, may_pass: Callable[[Exception], bool]) -> _Result:
    """What an action returns, once it works.

    Args:
        action: is called at least once, and a last time when patience ends.
        patience_s: for how long it is tried again, seconds.
        may_pass: is told of each failure, and says whether the same call may work a little later.

    Raises:
        Exception: the action's own, when it will not pass, or patience has ended.
    """
    deadline = time.monotonic() + patience_s
    longest_s = _FIRST_PAUSE_S
    while True:
        try:
            return action()
        except Exception as error:
            left_s = deadline - time.monotonic()
            if not may_pass(error) or left_s <= 0:
                raise
        # At random, so that those whom one fault has stopped do not all come back at once.
        time.sleep(min(left_s, random.uniform(0.5, 1.0) * longest_s))  # noqa: S311  # no secret depends on it
        longest_s = min(2 * longest_s, _LONGEST_PAUSE_S)
