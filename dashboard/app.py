"""Entry point of the dashboard: pages, navigation and sign-in. Run by `marl-study dashboard`."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import streamlit as st

from dashboard import address
from dashboard.address import study_in_address
from dashboard.links import PAGES, link
from dashboard.reading import LIVE_S, QUIET_S, Reading, StoreReader, store_reader
from dashboard.text import plain
from dashboard.views import studies
from study.errors import UserError, command_line

# Pages about a study, in modules of the same names. These are imported when a page is drawn: some take seconds.
_PAGES = {
    "": ("trade-off", "trials", "overview"),
    "Models": ("trial", "compare", "leakage", "marks", "export"),
    "Search": ("search", "ablation", "timeline", "log"),
}
_TITLES = {"trials": "All trials", "marks": "Stars and notes", "log": "Log and failures"}
_WITHOUT_REPORTS = {"overview", "timeline", "log"}  # pages that have content before the first report
_OTHER_STUDY = "other study"
_STYLE = Path(__file__).with_name("style.css")

_logger = logging.getLogger(__name__)


@command_line()
def main(store_uri: str) -> None:
    """Draw the page of the current address, about the studies in a folder or in `s3://bucket/prefix`."""
    st.set_page_config(page_title="marl-study", page_icon="\N{HEADPHONE}", layout="wide")
    st.html(_STYLE)
    _require_sign_in()
    try:
        store = store_reader(store_uri)
        names = store.studies()
    except UserError as error:
        st.error(plain(str(error)))
        st.caption("Reload the page to try again.")
        return
    pages = {
        "studies": st.Page(
            partial(_whole, studies.page, store, names), title="Studies", url_path="studies", default=True
        ),
        "across": st.Page(partial(_whole, _across, store, names), title="Compare studies", url_path="across"),
    }
    for path in _study_pages():
        pages[path] = st.Page(partial(_whole, _study_page, store, names, path), title=_title(path), url_path=path)
    st.session_state[PAGES] = pages
    page = st.navigation(list(pages.values()), position="hidden")
    address.clear_notes()
    _sidebar(store, names)
    page.run()


def _study_pages() -> list[str]:
    return [path for paths in _PAGES.values() for path in paths]


def _title(path: str) -> str:
    return _TITLES.get(path, path.capitalize())


def _require_sign_in() -> None:
    """Stop the page until the user has signed in, if Streamlit's secrets name an OpenID Connect provider in `auth`."""
    try:
        is_required = "auth" in st.secrets
    except FileNotFoundError:  # there is no secrets file
        return
    if is_required and not st.user.to_dict().get("is_logged_in", False):
        st.title("marl-study")
        st.write("Sign in to see the studies of this store.")
        st.button("Sign in", on_click=st.login, type="primary")
        st.stop()
    elif is_required:
        st.sidebar.button("Sign out", on_click=st.logout)


def _sidebar(store: StoreReader, names: list[str]) -> None:
    """Draw the navigation."""

    def open_other_study() -> None:
        address.open_study(st.session_state[_OTHER_STUDY])

    with st.sidebar:
        link("studies", "Studies", "")
        link("across", "Compare studies", "")
        if names:
            name = st.session_state[_OTHER_STUDY] = study_in_address(names)
            st.selectbox("Study", names, key=_OTHER_STUDY, on_change=open_other_study)
            trial = st.query_params.get(address.TRIAL, "")
            viewed = int(trial) if trial.isdecimal() and trial.isascii() and len(trial) < 10 else None
            for group, paths in _PAGES.items():
                if group:
                    st.caption(group)
                for path in paths:
                    link(path, _title(path), name, address.selected_trials(), viewed)
            st.caption("Error bars")
            address.choose_spread()
        st.caption(plain(store.objects.uri))


def _whole(draw: Callable[..., None], *arguments: object) -> None:
    """Draw a page below the notes on its address; on an error of the page, show where its details are."""
    notes = st.container()
    try:
        draw(*arguments)
    except Exception:
        _logger.exception("error on the page %s", st.context.url)
        st.error("This page cannot be drawn because of an error. The log of the dashboard's server has the details.")
        st.caption("Other pages may work. Remove what follows the question mark of the address, or reload the page.")
    for note in address.notes():
        notes.warning(plain(note))


def _across(store: StoreReader, names: list[str]) -> None:
    st.title("Compare studies")
    if names:
        import_module("dashboard.views.across").page(store, names)
    else:
        studies.show_first_command(store)


def _study_page(store: StoreReader, names: list[str], path: str) -> None:
    """Draw a page about a study below the state of the study."""
    if not names:
        studies.show_first_command(store)
        return
    name = study_in_address(names)
    try:
        reading = store.latest(name)
    except UserError as error:
        st.error(plain(str(error)))
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        link("studies", "Studies", "")
        st.markdown(f"/ **{plain(name)}**", width="content")
        with st.container(width="stretch"):
            _watch(store, name, reading)
    st.title(_title(path), anchor=False)
    for sentence in reading.warnings:
        st.warning(plain(sentence))
    if path in _WITHOUT_REPORTS or studies.has_reports(reading):
        import_module(f"dashboard.views.{path.replace('-', '_')}").page(reading)


def _watch(store: StoreReader, name: str, drawn: Reading) -> None:
    """Show the state of the study, poll the store, and redraw the page when the study has changed."""

    @st.fragment(run_every=LIVE_S if drawn.is_live or drawn.outage else QUIET_S)
    @command_line()
    def poll() -> None:
        reading = store.latest(name)
        if (reading.fingerprint, bool(reading.outage)) != (drawn.fingerprint, bool(drawn.outage)):
            st.rerun()
        studies.state_line(reading)

    poll()


if __name__ == "__main__":
    main(sys.argv[1])
