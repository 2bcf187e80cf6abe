"""The console of the Python API."""

from rich.console import Console


def console(progress: bool) -> Console:
    """Return a console for progress: stderr, or in a notebook, which shows stderr as an error, stdout as plain text."""
    in_notebook = Console().is_jupyter
    is_terminal = False if in_notebook else None
    return Console(
        stderr=not in_notebook,
        force_jupyter=False,
        force_terminal=is_terminal,
        quiet=not progress,
        highlight=False,
    )
