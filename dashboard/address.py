"""Query parameters of a page. They hold the whole view (study, trials and choices), so that a link reproduces it.

The address is the only state: each widget shows the value in the address, and writes it when the user changes it. A
page never changes its own address, so that the browser's Back leads to the previous view. Default values are left out.
A value that is invalid, or does not exist in the study, is ignored, and `notes` says so.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import streamlit as st

from dashboard.text import plain
from study.analysis.aggregation import Spread
from study.formatting import printable

STUDY, TRIAL, TRIALS = "study", "trial", "trials"
"""Query parameters of all pages about a study: its name, the trial that is viewed, and the trials that are selected."""

MAX_SELECTED = 50
"""Maximum number of trials in an address, limited by the length of links that browsers and mail accept."""

_NOTES = "notes on the address"
_SPREAD, _STANDARD_DEVIATION = "spread", "sd"
_MAX_DIGITS, _MAX_QUOTED = 9, 40
_MAX_TEXT = 200

_Option = TypeVar("_Option", bound=str | int)


def notes() -> list[str]:
    """Return a sentence on each query parameter with ignored values since `clear_notes`."""
    return list(st.session_state.get(_NOTES, {}).values())


def clear_notes() -> None:
    """Forget the sentences on ignored values. Called before a page is drawn."""
    st.session_state[_NOTES] = {}


def study_in_address(names: list[str]) -> str:
    """Return the study in the address; the first of `names` if the address has none of them."""
    name = st.query_params.get(STUDY)
    if name is not None and name not in names:
        _note(STUDY, name, f"is not a study of this store. This page shows {names[0]}")
    return name if name in names else names[0]


def parse_trials(text: str) -> list[int]:
    """Return the trial numbers in a text, each once.

    Raises:
        ValueError: If the text has words that are not trial numbers.
    """
    numbers = [_trial_number(word) for word in text.replace(",", " ").split()]
    return list(dict.fromkeys(numbers))


def selected_trials(trials: Iterable[int] | None = None) -> list[int]:
    """Return the selected trials in the address, limited to `trials` if these are given, at most `MAX_SELECTED`."""
    text = st.query_params.get(TRIALS, "")
    try:
        numbers = parse_trials(text)
    except ValueError:
        _note(TRIALS, text, "must be numbers of trials, separated by commas")
        return []
    if trials is not None:
        known = set(trials)
        missing = [number for number in numbers if number not in known]
        if missing:
            _note(TRIALS, _joined(missing), "are not trials that this page can show")
        numbers = [number for number in numbers if number in known]
    return numbers[:MAX_SELECTED]


def select_trials(trials: Iterable[int]) -> None:
    """Put the selected trials into the address. Call it only for an action of the user."""
    _keep(TRIALS, _joined(list(trials)[:MAX_SELECTED]), "")


def choose(
    name: str,
    label: str,
    options: Sequence[_Option],
    default: _Option,
    text: Callable[[_Option], str] = str,
    is_segmented: bool = False,
) -> _Option:
    """Draw a select box or a segmented control whose value is kept in the query parameter `name`.

    `text` returns the text of an option of a select box.
    """
    by_text = {str(option): option for option in options}
    requested = st.query_params.get(name)
    if requested is not None and requested not in by_text:
        _note(name, requested, f"is not a choice of {label!r} here")
    key = f"one {name}"
    st.session_state[key] = by_text.get(requested or "", default)
    # The default trial changes as the study goes on, so that a viewed trial is always written.
    keep = _keeper(name, key, str, "" if name == TRIAL else str(default))
    chosen: _Option | None
    if is_segmented:
        chosen = st.segmented_control(label, options, required=True, key=key, on_change=keep)
    else:
        chosen = st.selectbox(label, options, format_func=text, key=key, on_change=keep)
    return default if chosen is None else chosen


def choose_many(
    name: str,
    label: str,
    options: Sequence[_Option],
    default: Sequence[_Option],
    text: Callable[[_Option], str] = str,
    limit: int | None = None,
) -> list[_Option]:
    """Draw a multiselect box whose values, at most `limit`, are kept in the query parameter `name`."""
    selected = list(default)
    if name in st.query_params:
        by_text = {str(option): option for option in options}
        words = list(dict.fromkeys(filter(None, st.query_params[name].split(","))))
        if unknown := [word for word in words if word not in by_text]:
            _note(name, _joined(unknown), f"is not a choice of {label!r} here")
        selected = [by_text[word] for word in words if word in by_text]
    if limit is not None and len(selected) > limit:
        _note(name, st.query_params.get(name, ""), f"has more than {limit} values; the first {limit} are shown")
    key = f"many {name}"
    st.session_state[key] = selected[:limit]
    keep = _keeper(name, key, _joined, "" if name == TRIALS else _joined(default[:limit]))
    return st.multiselect(label, options, format_func=text, max_selections=limit, key=key, on_change=keep)


def choose_value(name: str, label: str, low: float, high: float, default: float) -> float:
    """Draw a slider whose value is kept in the query parameter `name`."""
    requested = st.query_params.get(name)
    selected = default
    if requested is not None:
        try:
            selected = float(requested)
        except ValueError:
            selected = math.nan
        if not math.isfinite(selected):
            _note(name, requested, "must be a finite number")
            selected = default
    # Streamlit renders labels as Markdown. The hidden label is for screen readers only.
    st.markdown(plain(label))
    key, step = f"slide {name}", (high - low) / 200
    st.session_state[key] = min(max(selected, low), high)
    keep = _keeper(name, key, _number, _number(default))
    return st.slider(label, low, high, step=step, key=key, label_visibility="collapsed", on_change=keep)


def switch(name: str, label: str, default: bool = False, help_text: str | None = None) -> bool:
    """Draw a toggle whose value is kept in the query parameter `name`, as 0 or 1."""
    requested = st.query_params.get(name)
    if requested not in (None, "0", "1"):
        _note(name, str(requested), "must be 0 or 1")
    key = f"switch {name}"
    st.session_state[key] = {"0": False, "1": True}.get(str(requested), default)
    keep = _keeper(name, key, lambda is_on: str(int(is_on)), str(int(default)))
    return st.toggle(label, key=key, on_change=keep, help=help_text)


def ranges(name: str) -> dict[str, tuple[float, float]]:
    """Return limits by name that a query parameter holds as `name:low:high`, separated by commas."""
    found: dict[str, tuple[float, float]] = {}
    for part in filter(None, st.query_params.get(name, "").split(",")):
        axis, _, limits = part.partition(":")
        try:
            low, high = map(float, limits.split(":"))
        except ValueError:
            low = high = math.nan
        if low < high and math.isfinite(low) and math.isfinite(high):
            found[axis] = (low, high)
        else:
            _note(name, part, "must have the form name:low:high")
    return found


def keep_ranges(name: str, limits: Mapping[str, tuple[float, float]]) -> None:
    """Put limits by name into the address. Call it only for an action of the user."""
    _keep(name, ",".join(f"{axis}:{low:.4g}:{high:.4g}" for axis, (low, high) in limits.items()), "")


def forget(prefix: str) -> None:
    """Delete the query parameters whose names begin with a prefix. Call it only for an action of the user."""
    for name in [name for name in st.query_params if name.startswith(prefix)]:
        del st.query_params[name]


def type_text(name: str, label: str, placeholder: str = "", help_text: str | None = None) -> str:
    """Draw a text field whose value is kept in the query parameter `name`."""
    requested = st.query_params.get(name, "")
    if len(requested) > _MAX_TEXT:
        _note(name, requested, f"must have at most {_MAX_TEXT} characters")
        requested = ""
    key = f"text {name}"
    st.session_state[key] = requested
    keep = _keeper(name, key, str, "")
    typed: str = st.text_input(
        label, key=key, on_change=keep, placeholder=placeholder, help=help_text, max_chars=_MAX_TEXT
    )
    return typed


def choose_spread() -> None:
    """Draw the switch of all error bars between intervals and standard deviations."""
    requested = st.query_params.get(_SPREAD)
    if requested not in (None, _STANDARD_DEVIATION):
        _note(_SPREAD, str(requested), f"must be {_STANDARD_DEVIATION} or absent")
    key = "switch of error bars"
    st.session_state[key] = requested == _STANDARD_DEVIATION
    keep = _keeper(_SPREAD, key, lambda is_on: _STANDARD_DEVIATION if is_on else "", "")
    st.toggle(
        "Standard deviation",
        key=key,
        on_change=keep,
        help="Error bars are 90 % intervals of means over seeds, with this switch one standard deviation of the seeds.",
    )


def spread() -> Spread:
    """Return what error bars show on all pages."""
    return "sd" if st.query_params.get(_SPREAD) == _STANDARD_DEVIATION else "ci"


def is_on(name: str) -> bool:
    """Return whether a query parameter that `toggle_button` keeps is set."""
    requested = st.query_params.get(name)
    if requested not in (None, "1"):
        _note(name, str(requested), "must be 1 or absent")
    return requested == "1"


def toggle_button(name: str, label: str, label_on: str) -> None:
    """Draw a button that sets a query parameter, or with another label deletes it."""
    on = is_on(name)
    st.button(label_on if on else label, key=f"toggle {name}", on_click=_keep, args=[name, "" if on else "1", ""])


def view_parameters(study: str, trials: Sequence[int], trial: int | None) -> dict[str, str]:
    """Return the query parameters of a page about a study, with selected trials and a viewed trial."""
    parameters = {
        STUDY: study,
        TRIAL: "" if trial is None else str(trial),
        TRIALS: _joined(trials[:MAX_SELECTED]),
        _SPREAD: _STANDARD_DEVIATION if spread() == "sd" else "",
    }
    return {name: value for name, value in parameters.items() if value}


def open_study(name: str) -> None:
    """Put another study into the address. Call it only for an action of the user.

    The other query parameters, but what error bars show, belong to the previous study.
    """
    st.query_params.from_dict(view_parameters(name, (), None))


def _trial_number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS):
        raise ValueError(f"{printable(word)} is not the number of a trial")
    return int(word)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _joined(values: Sequence[Any]) -> str:
    return ",".join(map(str, values))


def _note(name: str, value: str, rule: str) -> None:
    shown = printable(value[:_MAX_QUOTED]) + ("…" if len(value) > _MAX_QUOTED else "")
    notes_by_name = st.session_state.setdefault(_NOTES, {})
    notes_by_name.setdefault(name, f"Ignored in the address: {name}={shown} {rule}.")


def _keeper(name: str, key: str, text: Callable[[Any], str], default: str) -> Callable[[], None]:
    """Return a callback that writes the value of the widget `key` into the address."""
    return partial(_keep_widget, name, key, text, default)


def _keep_widget(name: str, key: str, text: Callable[[Any], str], default: str) -> None:
    _keep(name, text(st.session_state[key]), default)


def _keep(name: str, value: str, default: str) -> None:
    """Write a query parameter, or delete it at its default; only a change is written, as writes reach the browser."""
    if value == default:
        if name in st.query_params:
            del st.query_params[name]
    elif st.query_params.get(name) != value:
        st.query_params[name] = value
