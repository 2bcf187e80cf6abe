"""Query parameters of a page. They hold the whole view (study, trials and choices), so that a link reproduces it.

Default values are left out. Values that do not exist in the study are ignored.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import streamlit as st

from dashboard.text import plain

__all__ = [
    "CHOSEN",
    "MAX_CHOSEN",
    "STUDY",
    "choose",
    "choose_many",
    "choose_part",
    "chosen_trials",
    "link",
    "remember_pages",
    "set_chosen",
    "slide",
    "study_of",
]

STUDY = "study"
CHOSEN = "trials"
MAX_CHOSEN = 50
"""Maximum number of trials in an address, limited by the length of links that browsers and mail accept."""

_PAGES = "pages"
_BETWEEN = ","

_Option = TypeVar("_Option", bound=str | int)


def study_of(names: list[str]) -> str:
    """Return the study in the address; the first study if there is none."""
    named = st.query_params.get(STUDY)
    return named if named in names else names[0]


def chosen_trials(known: Iterable[int] | None = None) -> list[int]:
    """Return the trials in the address, limited to known trials if these are given."""
    there = None if known is None else set(known)
    words = st.query_params.get(CHOSEN, "").split(_BETWEEN)
    found = dict.fromkeys(int(word) for word in words if word.isascii() and word.isdigit())
    return [trial for trial in found if there is None or trial in there][:MAX_CHOSEN]


def set_chosen(trials: Iterable[int]) -> None:
    """Put trials into the address."""
    _keep(CHOSEN, _words(trials), "")


def choose(
    name: str, label: str, options: Sequence[_Option], usual: _Option, words: Callable[[_Option], str] = str
) -> _Option:
    """Draw a select box whose value is kept in the address.

    Args:
        name: Name of the query parameter.
        label: Label of the box.
        options: Values to choose from.
        usual: Default value.
        words: Function that returns the text of an option.
    """
    named = {str(option): option for option in options}.get(st.query_params.get(name, ""), usual)
    chosen = st.selectbox(label, options, options.index(named), format_func=words, key=f"one {name}")
    _keep(name, str(chosen), _usual(name, [usual]))
    return chosen


def choose_part(name: str, label: str, options: Sequence[_Option], usual: _Option) -> _Option:
    """Draw a segmented control whose value is kept in the address."""
    named = {str(option): option for option in options}.get(st.query_params.get(name, ""), usual)
    chosen = st.segmented_control(label, options, default=named, required=True, key=f"part {name}")
    chosen = usual if chosen is None else chosen
    _keep(name, str(chosen), str(usual))
    return chosen


def choose_many(
    name: str,
    label: str,
    options: Sequence[_Option],
    usual: Sequence[_Option],
    words: Callable[[_Option], str] = str,
    most: int | None = None,
) -> list[_Option]:
    """Draw a multiselect box whose values are kept in the address. `most` limits their number."""
    known = {str(option): option for option in options}
    named = list(usual)
    if name in st.query_params:
        named = [known[word] for word in st.query_params[name].split(_BETWEEN) if word in known]
    chosen = st.multiselect(label, options, named[:most], format_func=words, max_selections=most, key=f"many {name}")
    _keep(name, _BETWEEN.join(map(str, chosen)), _usual(name, list(usual)[:most]))
    return chosen


def slide(name: str, label: str, low: float, high: float, usual: float) -> float:
    """Draw a slider whose value is kept in the address."""
    try:
        named = min(max(float(st.query_params.get(name, usual)), low), high)
    except ValueError:
        named = usual
    # Streamlit renders labels as Markdown. The hidden label is for screen readers only.
    st.markdown(plain(label))
    step = (high - low) / 200
    chosen = st.slider(label, low, high, named, step=step, key=f"slide {name}", label_visibility="collapsed")
    _keep(name, f"{chosen:.6g}", f"{usual:.6g}")
    return chosen


def remember_pages(pages: dict[str, Any]) -> None:
    """Store the pages by the last part of their address."""
    st.session_state[_PAGES] = pages


def link(page: str, label: str, study: str, trials: Iterable[int] = ()) -> None:
    """Draw a link to a page about a study and trials."""
    parameters = {STUDY: study, CHOSEN: _words(trials)}
    st.page_link(
        st.session_state[_PAGES][page],
        label=label,
        query_params={name: value for name, value in parameters.items() if value},
    )


def _usual(name: str, values: Sequence[Any]) -> str:
    """Return the value that is left out of the address. Trials are never left out, because their default changes."""
    return "" if name == CHOSEN else _BETWEEN.join(map(str, values))


def _words(trials: Iterable[int]) -> str:
    return _BETWEEN.join(map(str, list(trials)[:MAX_CHOSEN]))


def _keep(name: str, value: str, usual: str) -> None:
    """Write a query parameter if it has changed. Each write reaches the browser."""
    if value == usual:
        if name in st.query_params:
            del st.query_params[name]
    elif st.query_params.get(name) != value:
        st.query_params[name] = value
