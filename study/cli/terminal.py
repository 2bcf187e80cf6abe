"""How a command speaks and ends: what was asked for on stdout, all else on stderr, and an exit status."""

import sys
from collections.abc import Callable

from rich.console import Console

from study.errors import Interrupted, RunError, UserError
from study.store import UnreadableObject

__all__ = ["err", "exit_status", "out", "show_warning"]

_PIPE_WIDTH = 200

err = Console(stderr=True, highlight=False)


def out() -> Console:
    """Where tables go. A pipe has no width; they are not folded for it."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def exit_status(command: Callable[[], object]) -> int:
    """Run a command; an error is one line that says what to do, and with `--debug` what it was."""
    try:
        command()
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
    except (UserError, RunError) as error:
        if "--debug" in sys.argv:
            raise
        err.print(f"error: {error}", markup=False, soft_wrap=True)
        return 2 if isinstance(error, UserError) else 1
    except Interrupted:
        return 130
    return 0


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Show what concerns the user; libraries' own warnings to their callers do not."""
    if issubclass(category, UnreadableObject):
        err.print(f"warning: {message}", markup=False, soft_wrap=True)
