"""The console of the Python API."""

import logging
import warnings

from rich.console import Console


def console(progress: bool) -> Console:
    """Return a console for progress: stderr, or in a notebook, which shows stderr as an error, stdout as plain text."""
    if not Console().is_jupyter:
        return Console(stderr=True, quiet=not progress, highlight=False)
    # Ray and tqdm recommend to install widgets, which a study does not use.
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="IProgress not found")
    return Console(force_jupyter=False, force_terminal=False, quiet=not progress, highlight=False)
