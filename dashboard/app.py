"""Entry point of the dashboard: pages, navigation and sign-in. Run by `marl-study dashboard`."""

import sys
from functools import partial
from importlib import import_module

import streamlit as st

from dashboard.address import PAGES, STUDY, link, selected_trials, study_in_address
from dashboard.reading import LIVE_S, QUIET_S, Reading, StoreReader, store_reader
from dashboard.text import plain
from dashboard.views import studies
from study.errors import UserError, command_line

# Pages about a study, in modules of the same names. These are imported when a page is drawn: some take seconds.
_PAGES = ("trade-off", "trial", "compare", "ablation", "search", "export")
# On a narrow screen, a chart of fixed width scrolls sideways instead of being cut.
_STYLE = "<style>[data-testid='stVegaLiteChart'] {overflow-x: auto}</style>"
_OTHER_STUDY = "other study"


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
    pages = {"studies": st.Page(partial(studies.page, store, names), title="Studies", url_path="studies", default=True)}
    for path in _PAGES:
        pages[path] = st.Page(partial(_study_page, store, names, path), title=path.capitalize(), url_path=path)
    st.session_state[PAGES] = pages
    page = st.navigation(list(pages.values()), position="hidden")
    _sidebar(store, names)
    page.run()


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
        # The other query parameters belong to the previous study.
        st.query_params.from_dict({STUDY: st.session_state[_OTHER_STUDY]})

    with st.sidebar:
        link("studies", "Studies", "")
        if names:
            name = st.session_state[_OTHER_STUDY] = study_in_address(names)
            st.selectbox("Study", names, key=_OTHER_STUDY, on_change=open_other_study)
            for path in _PAGES:
                link(path, path.capitalize(), name, selected_trials())
        st.caption(plain(store.objects.uri))


def _study_page(store: StoreReader, names: list[str], path: str) -> None:
    """Draw a page about a study below the state of the study."""
    if not names:
        studies.show_first_command(store)
        return
    requested, name = st.query_params.get(STUDY), study_in_address(names)
    if requested not in (None, name):
        st.warning(plain(f"There is no study {requested} in this store. This page shows {name}."))
    st.query_params[STUDY] = name
    try:
        reading = store.latest(name)
    except UserError as error:
        st.error(plain(str(error)))
        return
    st.title(plain(name))
    _watch(store, name, reading)
    for sentence in reading.warnings:
        st.warning(plain(sentence))
    if studies.has_reports(reading):
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
