"""Stars and notes on trials: buttons and forms that write them, and show them at once."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import streamlit as st

from dashboard.reading import Reading
from dashboard.text import ago, paragraphs, plain
from study.errors import UserError
from study.store.notes import MAX_AUTHOR, MAX_TEXT, Note

_AUTHOR = "author of notes"
_FAILURE = "why a note or a star was not saved"


def star_button(reading: Reading, trial: int) -> None:
    """Draw the button that gives a trial a star, or removes it."""
    is_starred = trial in reading.marks.starred
    action, done = (reading.notes.unstar, "Star removed") if is_starred else (reading.notes.star, "Star saved")
    st.button(
        "★ Starred" if is_starred else "☆ Star",
        help="Stars are kept in the store and visible to all users.",
        on_click=change,
        args=[reading, action, trial],
        kwargs={"done": done},
    )


def notes_of_trial(reading: Reading, trial: int) -> None:
    """Draw the notes on a trial, and fields that add one. A draft stays until it is saved."""
    st.subheader("Notes", anchor=False)
    show_failure()
    now = datetime.now(UTC)
    for note in reading.marks.notes:
        if note.trial == trial:
            with st.container(border=True):
                note_card(reading, note, now)
    key = f"draft {reading.results.spec.name} {trial}"
    for name in (key, _AUTHOR):  # Streamlit forgets the value of a field while another page is shown
        st.session_state.setdefault(name, _drafts().get(name, ""))
    st.text_area(
        "Note on this trial",
        max_chars=MAX_TEXT,
        help="Kept in the store and visible to all users.",
        key=key,
        on_change=_keep_draft,
        args=[key],
    )
    st.text_input("Your name (optional)", max_chars=MAX_AUTHOR, key=_AUTHOR, on_change=_keep_draft, args=[_AUTHOR])
    st.button("Save note", on_click=_save, args=[reading, trial, key])


def note_card(reading: Reading, note: Note, now: datetime) -> None:
    """Draw a note with its author, its time, and a button that removes it."""
    st.markdown(paragraphs(note.text))
    with st.container(horizontal=True, vertical_alignment="center"):
        author = f"{plain(note.author)}, " if note.author else ""
        st.caption(f"{author}{ago(note.time, now)}", width="content")
        remove = partial(change, reading, reading.notes.remove, note, done="Note removed")
        st.button("Remove", key=f"remove {note.name}", on_click=remove, type="tertiary")


def show_failure() -> None:
    """Draw why the last note or star was not saved, once."""
    if failure := st.session_state.pop(_FAILURE, None):
        st.error(plain(failure))


def change(reading: Reading, action: Callable[..., Any], *arguments: Any, done: str = "Saved") -> None:
    """Write a star or note, for a callback of a widget. `show_failure` draws a failure."""
    is_written(reading, action, *arguments, done=done)


def is_written(reading: Reading, action: Callable[..., Any], *arguments: Any, done: str = "Saved") -> bool:
    """Write a star or note in a callback, and return whether it was written.

    The next reading has it. `show_failure` draws a failure.
    """
    try:
        action(*arguments)
    except UserError as error:
        st.session_state[_FAILURE] = str(error)
        return False
    reading.expire()
    st.toast(done)
    return True


def _drafts() -> dict[str, str]:
    drafts: dict[str, str] = st.session_state.setdefault("drafts of notes", {})
    return drafts


def _keep_draft(name: str) -> None:
    _drafts()[name] = st.session_state[name]


def _save(reading: Reading, trial: int, key: str) -> None:
    text, author = st.session_state[key], st.session_state[_AUTHOR]
    if text.strip() and is_written(reading, reading.notes.write, trial, text, author):
        st.session_state[key] = _drafts()[key] = ""
