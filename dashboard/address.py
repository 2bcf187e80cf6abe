"""The address of a page carries its whole view, so that it can be pasted elsewhere: study, trials, and each choice.

A choice that is the usual one is not in the address. What the address names and is not there is passed over.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import streamlit as st

from dashboard.text import plain

__all__ = [
    "CHOSEN",
    "MOST_CHOSEN",
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
MOST_CHOSEN = 50
"""Trials in an address; more would not fit into what browsers and mail accept."""

_PAGES = "pages"
_BETWEEN = ","

_Option = TypeVar("_Option", bound=str | int)


def study_of(names: list[str]) -> str:
    """The study that the address names, else the first."""
    named = st.query_params.get(STUDY)
    return named if named in names else names[0]


def chosen_trials(known: Iterable[int] | None = None) -> list[int]:
    """The trials that the address names; of those that are known, if these are given."""
    there = None if known is None else set(known)
    words = st.query_params.get(CHOSEN, "").split(_BETWEEN)
    found = dict.fromkeys(int(word) for word in words if word.isascii() and word.isdigit())
    return [trial for trial in found if there is None or trial in there][:MOST_CHOSEN]


def set_chosen(trials: Iterable[int]) -> None:
    """Put trials into the address."""
    _keep(CHOSEN, _words(trials), "")


def choose(
    name: str, label: str, options: Sequence[_Option], usual: _Option, words: Callable[[_Option], str] = str
) -> _Option:
    """A select box that the address remembers.

    Args:
        name: in the address.
        label: above it.
        options: what there is.
        usual: what is chosen where the address says nothing.
        words: an option as it is read.
    """
    named = {str(option): option for option in options}.get(st.query_params.get(name, ""), usual)
    chosen = st.selectbox(label, options, options.index(named), format_func=words, key=f"one {name}")
    _keep(name, str(chosen), _usual(name, [usual]))
    return chosen


def choose_part(name: str, label: str, options: Sequence[_Option], usual: _Option) -> _Option:
    """The same, all options beside one another."""
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
    """The same, of which several can be chosen, at most so many."""
    known = {str(option): option for option in options}
    named = list(usual)
    if name in st.query_params:
        named = [known[word] for word in st.query_params[name].split(_BETWEEN) if word in known]
    chosen = st.multiselect(label, options, named[:most], format_func=words, max_selections=most, key=f"many {name}")
    _keep(name, _BETWEEN.join(map(str, chosen)), _usual(name, list(usual)[:most]))
    return chosen


def slide(name: str, label: str, low: float, high: float, usual: float) -> float:
    """A slider that the address remembers."""
    try:
        named = min(max(float(st.query_params.get(name, usual)), low), high)
    except ValueError:
        named = usual
    # A label is read as Markdown; hidden, it is only what a screen reader says.
    st.markdown(plain(label))
    step = (high - low) / 200
    chosen = st.slider(label, low, high, named, step=step, key=f"slide {name}", label_visibility="collapsed")
    _keep(name, f"{chosen:.6g}", f"{usual:.6g}")
    return chosen


def remember_pages(pages: dict[str, Any]) -> None:
    """Which pages there are, by the name that their address ends with."""
    st.session_state[_PAGES] = pages


def link(page: str, label: str, study: str, trials: Iterable[int] = ()) -> None:
    """A link to another page about the same study and trials."""
    parameters = {STUDY: study, CHOSEN: _words(trials)}
    st.page_link(
        st.session_state[_PAGES][page],
        label=label,
        query_params={name: value for name, value in parameters.items() if value},
    )


def _usual(name: str, values: Sequence[Any]) -> str:
    """What need not be said: not which trials, as others may be the usual ones tomorrow."""
    return "" if name == CHOSEN else _BETWEEN.join(map(str, values))


def _words(trials: Iterable[int]) -> str:
    return _BETWEEN.join(map(str, list(trials)[:MOST_CHOSEN]))


def _keep(name: str, value: str, usual: str) -> None:
    """Only what differs is written: writing tells the browser."""
    if value == usual:
        if name in st.query_params:
            del st.query_params[name]
    elif st.query_params.get(name) != value:
        st.query_params[name] = value
