"""Text of numbers, durations and names, for messages, tables and charts.

This module imports nothing of the project.
"""

import difflib
import math
import re
from collections.abc import Iterable

_LABELS = {
    "fidelity/log_mel_rmse_db": "log-mel RMSE (dB)",
    "disentanglement/separation": "separation (strong reader)",
    "disentanglement/linear_separation": "separation (linear reader)",
    "disentanglement/mig": "MIG",
}
_READ_GROUPS = {
    "information": ("information", "strong reader"),
    "accuracy": ("accuracy", "strong reader"),
    "r2": ("R²", "strong reader"),
    "leakage": ("leakage", "strong reader"),
    "linear_information": ("information", "linear reader"),
    "linear_accuracy": ("accuracy", "linear reader"),
    "linear_r2": ("R²", "linear reader"),
    "linear_leakage": ("leakage", "linear reader"),
    "probe": ("probe", "lightweight reader"),
    "sampled_probe": ("probe", "lightweight reader, samples"),
}
"""Label of a group of metrics, and the reader that its values come from."""
_MAX_PRINTABLE = 300
# Characters of a list of names.
_MAX_LISTED, _MAX_LISTED_BESIDE_GUESS = 200, 80
_FIRST_NAMES = 5
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def objective_label(name: str) -> str:
    """Return the label of a metric, with its unit or the reader that it comes from."""
    if name in _LABELS:
        return _LABELS[name]
    group, _, rest = name.partition("/")
    if group == "test":
        return f"test {objective_label(rest)}"
    if group in _READ_GROUPS:
        label, reader = _READ_GROUPS[group]
        return f"{label} {rest.replace('/', ' ')} ({reader})"
    return rest.replace("/", " ") if group == "disentanglement" else name.replace("/", " ")


def format_number(value: float) -> str:
    """Format a number with three significant digits, and whole numbers up to a million with all."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def format_bytes(size: float) -> str:
    """Format a size with three significant digits, in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB" if size < 999.5 else f"{size:,.0f} TB"


def format_duration(seconds: float) -> str:
    """Format a duration in the two largest units of hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def format_rough_duration(seconds: float) -> str:
    """Format a duration to the nearest 5 s below 100 s, to the nearest minute below 100 min, otherwise in hours."""
    if seconds < 100:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def cell_text(value: object) -> str:
    """Return a table cell for a value; a dash for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return format_number(value) if isinstance(value, float) else printable(str(value))


def printable(text: str) -> str:
    """Return a text in one line of at most `_MAX_PRINTABLE` characters, without control characters."""
    line = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return line if len(line) <= _MAX_PRINTABLE else f"{line[:_MAX_PRINTABLE]}…"


def suggestion(word: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the names that are meant, and all names if they are few."""
    known = list(names)
    close = [name for name in known if len(word) > 2 and word in name][:3] or difflib.get_close_matches(word, known)
    listed = ", ".join(known)
    if close and len(listed) > _MAX_LISTED_BESIDE_GUESS:
        return f"did you mean {' or '.join(close)}?"
    if len(listed) > _MAX_LISTED:
        listed = f"{', '.join(known[:_FIRST_NAMES])} and {len(known) - _FIRST_NAMES} more"
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{guess}there are: {listed or 'none'}"
