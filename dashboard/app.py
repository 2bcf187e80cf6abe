"""The dashboard's page: a study's state, its trade-off and its front. Run by `marl-study dashboard`."""

import sys
import warnings

import streamlit as st

from study.errors import UserError
from study.objects import Objects
from study.plot import trade_off_chart
from study.results import StudyResults
from study.status import status_of
from study.store import StudyStore, UnreadableObject, list_studies

_REFRESH_S = 10


def page(store_uri: str) -> None:
    """Draw the page.

    Args:
        store_uri: folder or `s3://bucket/prefix` with the studies.
    """
    st.set_page_config(page_title="marl-study", layout="wide")
    objects = Objects(store_uri)
    names = list_studies(objects)
    if not names:
        st.info(f"No studies in {objects.uri} yet. Start one with `marl-study run studies/quickstart.yaml`.")
        return
    name = st.sidebar.selectbox("Study", names, key="study")
    st.sidebar.caption(objects.uri)
    _study(objects, name)


@st.fragment(run_every=_REFRESH_S)
def _study(objects: Objects, name: str) -> None:
    with warnings.catch_warnings(record=True) as damaged:
        warnings.simplefilter("always", UnreadableObject)
        store = StudyStore(objects, name)
        results, status = StudyResults(store), status_of(store)
        front = results.front()
    st.header(f"Study {name}")
    for message in dict.fromkeys(str(one.message) for one in damaged if issubclass(one.category, UnreadableObject)):
        st.warning(message)
    states = {state: count for state, count in status["trials"].items() if count}
    for column, (label, value) in zip(
        st.columns(len(states) + 2),
        {"state": status["state"], **states, "trials wanted": status["target"]}.items(),
        strict=True,
    ):
        column.metric(label, value)
    if not status["trials"]["complete"]:
        st.info("No trial is complete yet.")
        return
    st.altair_chart(trade_off_chart(results), width="content")
    st.subheader("Front")
    shown = ["trial", *(column for name in results.spec.objectives for column in (name, f"{name}/sd"))]
    st.dataframe(front[[*shown, *(f"config/{name}" for name in results.spec.space)]], hide_index=True)


if __name__ == "__main__":
    try:
        page(sys.argv[1])
    except UserError as error:
        st.error(str(error))
