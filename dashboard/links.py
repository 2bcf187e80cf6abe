"""Links to pages. They carry the study, the selected and the viewed trials, and what error bars show."""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard.address import view_parameters

PAGES = "pages"
"""Key of the session state for the pages by the last part of their address."""


def link(page: str, label: str, study: str, trials: Sequence[int] = (), trial: int | None = None) -> None:
    """Draw a link to a page about a study, with selected trials and a viewed trial."""
    st.page_link(st.session_state[PAGES][page], label=label, query_params=view_parameters(study, trials, trial))


def link_button(
    page: str,
    label: str,
    study: str,
    trials: Sequence[int] = (),
    trial: int | None = None,
    view: Mapping[str, str] | None = None,
) -> None:
    """Draw a link to a page about a study, with selected trials and a viewed trial, that looks like a button.

    `view` has further query parameters. A button that switches pages would leave two views in the browser's history.
    """
    with st.container(key=f"linkbutton-{page}-{label}", width="content"):
        query = view_parameters(study, trials, trial) | dict(view or {})
        st.page_link(st.session_state[PAGES][page], label=label, query_params=query)
