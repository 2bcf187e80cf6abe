"""Entry point of the dashboard: pages and navigation. Run by `marl-study dashboard`."""

import sys
from functools import partial
from importlib import import_module

import streamlit as st

from dashboard.access import require_sign_in
from dashboard.address import STUDY, chosen_trials, link, remember_pages, study_of
from dashboard.reading import LIVE_S, QUIET_S, Reading, Shelf, shelf
from dashboard.text import plain
from dashboard.views import studies
from study.errors import UserError

# Title and module of each page about a study. Modules are imported when a page is drawn: some take seconds.
_PAGES = {
    "trade-off": ("Trade-off", "trade_off"),
    "trial": ("Trial", "trial"),
    "compare": ("Compare", "compare"),
    "ablation": ("Ablation", "ablation"),
    "search": ("Search", "search"),
    "export": ("Export", "export"),
}

# On a narrow screen, a chart of fixed width scrolls sideways instead of being cut.
_STYLE = "<style>[data-testid='stVegaLiteChart'] {overflow-x: auto}</style>"
_OTHER_STUDY = "other study"


def main(store_uri: str) -> None:
    """Draw the page of the current address.

    Args:
        store_uri: Folder or `s3://bucket/prefix` with the studies.
    """
    st.set_page_config(page_title="marl-study", page_icon="\N{HEADPHONE}", layout="wide")
    st.html(_STYLE)
    require_sign_in()
    try:
        store = shelf(store_uri)
        names = store.studies()
    except UserError as error:
        st.error(plain(str(error)))
        st.caption("Reload the page to try again.")
        return
    pages = {"studies": st.Page(partial(studies.page, store, names), title="Studies", url_path="studies", default=True)}
    for path, (title, module) in _PAGES.items():
        pages[path] = st.Page(partial(_of_a_study, store, names, module), title=title, url_path=path)
    remember_pages(pages)
    chosen = st.navigation(list(pages.values()), position="hidden")
    name = study_of(names) if names else None
    _sidebar(store, names, name)
    chosen.run()


def _sidebar(store: Shelf, names: list[str], name: str | None) -> None:
    """Draw the navigation."""

    def other_study() -> None:
        # The other query parameters belong to the previous study.
        st.query_params.from_dict({STUDY: st.session_state[_OTHER_STUDY]})

    with st.sidebar:
        link("studies", "Studies", "")
        if name is not None:
            st.session_state[_OTHER_STUDY] = name
            st.selectbox("Study", names, key=_OTHER_STUDY, on_change=other_study)
            for path, (title, _) in _PAGES.items():
                link(path, title, name, chosen_trials())
        st.caption(plain(store.objects.uri))


def _of_a_study(store: Shelf, names: list[str], module: str) -> None:
    """Draw a page about a study below the state of the study."""
    if not names:
        studies.nothing_yet(store)
        return
    named, name = st.query_params.get(STUDY), study_of(names)
    if named not in (None, name):
        st.warning(plain(f"There is no study {named} in this store. This page shows {name}."))
    st.query_params[STUDY] = name
    try:
        reading = store.latest(name)
    except UserError as error:
        st.error(plain(str(error)))
        return
    st.title(plain(name))
    _watch(store, name, reading)
    for sentence in reading.damaged:
        st.warning(plain(sentence))
    import_module(f"dashboard.views.{module}").page(reading)


def _watch(store: Shelf, name: str, drawn: Reading) -> None:
    """Show the state of the study, poll the store, and redraw the page when the study has changed."""

    @st.fragment(run_every=LIVE_S if drawn.is_live or drawn.trouble else QUIET_S)
    def look() -> None:
        reading = store.latest(name)
        if (reading.facts, bool(reading.trouble)) != (drawn.facts, bool(drawn.trouble)):
            st.rerun()
        studies.state_line(reading)

    look()


if __name__ == "__main__":
    main(sys.argv[1])
