"""Query parameters of a page. They hold the whole view (study, trials and choices), so that a link reproduces it.

Default values are left out. Values that do not exist in the study are ignored.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import streamlit as st

from dashboard.text import plain

STUDY = "study"
TRIALS = "trials"
MAX_SELECTED = 50
"""Maximum number of trials in an address, limited by the length of links that browsers and mail accept."""

PAGES = "pages"
"""Key of the session state for the pages by the last part of their address."""

_Option = TypeVar("_Option", bound=str | int)


def study_in_address(names: list[str]) -> str:
    """Return the study in the address; the first of `names` if the address has none of them."""
    name = st.query_params.get(STUDY)
    return name if name in names else names[0]


def parse_trials(text: str, trials: Iterable[int] | None = None) -> list[int]:
    """Return the trial numbers in a text, at most `MAX_SELECTED`, limited to `trials` if these are given."""
    words = re.split(r"[,\s]+", text)
    numbers = dict.fromkeys(int(word) for word in words if word.isascii() and word.isdigit())
    valid = numbers if trials is None else set(trials)
    return [number for number in numbers if number in valid][:MAX_SELECTED]


def selected_trials(trials: Iterable[int] | None = None) -> list[int]:
    """Return the trials in the address, limited to `trials` if these are given."""
    return parse_trials(st.query_params.get(TRIALS, ""), trials)


def select_trials(trials: Iterable[int]) -> None:
    """Put trials into the address."""
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
    selected = {str(option): option for option in options}.get(st.query_params.get(name, ""), default)
    if is_segmented:
        segment = st.segmented_control(label, options, default=selected, required=True, key=f"part {name}")
        chosen = default if segment is None else segment
    else:
        chosen = st.selectbox(label, options, options.index(selected), format_func=text, key=f"one {name}")
    _keep(name, str(chosen), str(default))
    return chosen


def choose_many(
    name: str,
    label: str,
    options: Sequence[_Option],
    default: Sequence[_Option],
    text: Callable[[_Option], str] = str,
    limit: int | None = None,
) -> list[_Option]:
    """Draw a multiselect box whose values, at most `limit`, are kept in the address."""
    selected = list(default)
    if name in st.query_params:
        by_text = {str(option): option for option in options}
        selected = [by_text[word] for word in st.query_params[name].split(",") if word in by_text]
    chosen = st.multiselect(
        label, options, selected[:limit], format_func=text, max_selections=limit, key=f"many {name}"
    )
    _keep(name, _joined(chosen), _joined(default[:limit]))
    return chosen


def choose_value(name: str, label: str, low: float, high: float, default: float) -> float:
    """Draw a slider whose value is kept in the query parameter `name`."""
    try:
        selected = min(max(float(st.query_params.get(name, default)), low), high)
    except ValueError:
        selected = default
    # Streamlit renders labels as Markdown. The hidden label is for screen readers only.
    st.markdown(plain(label))
    step = (high - low) / 200
    chosen = st.slider(label, low, high, selected, step=step, key=f"slide {name}", label_visibility="collapsed")
    _keep(name, f"{chosen:.6g}", f"{default:.6g}")
    return chosen


def link(page: str, label: str, study: str, trials: Sequence[int] = ()) -> None:
    """Draw a link to a page about a study and trials."""
    parameters = {STUDY: study, TRIALS: _joined(trials[:MAX_SELECTED])}
    query = {name: value for name, value in parameters.items() if value}
    st.page_link(st.session_state[PAGES][page], label=label, query_params=query)


def _joined(values: Sequence[Any]) -> str:
    return ",".join(map(str, values))


def _keep(name: str, value: str, default: str) -> None:
    """Write a query parameter, or delete it at its default; only a change is written, as writes reach the browser.

    Trials are kept at their default, because it changes with the study.
    """
    if value == ("" if name == TRIALS else default):
        if name in st.query_params:
            del st.query_params[name]
    elif st.query_params.get(name) != value:
        st.query_params[name] = value
