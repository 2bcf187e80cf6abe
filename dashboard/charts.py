"""Charts on a page, with buttons that download them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st
from altair.typing import ChartType

from study.charts.style import save_chart

_FORMATS = {".png": "PNG for slides", ".svg": "SVG for a paper", ".html": "HTML, interactive"}


def show_chart(
    chart: ChartType,
    key: str,
    description: str,
    data: pd.DataFrame | None,
    file: str,
    caption: str | None = None,
    width: Literal["stretch", "content"] = "stretch",
) -> None:
    """Draw a chart with a description for screen readers, a caption below it, and downloads as in `download_chart`."""
    st.altair_chart(chart, width=width, key=key, alt=description)
    if caption is not None:
        st.caption(caption)
    download_chart(lambda: chart, data, file)


def show_grid(charts: Mapping[str, ChartType], columns: int, key: str, descriptions: Sequence[str]) -> None:
    """Draw charts in rows, with descriptions for screen readers. The Streamlit key of a chart is `key` and its name."""
    cells = st.columns(columns)
    for position, ((name, chart), description) in enumerate(zip(charts.items(), descriptions, strict=True)):
        with cells[position % columns]:
            st.altair_chart(chart, width="stretch", key=f"{key} {name}", alt=description)


def download_chart(draw: Callable[[], ChartType], data: pd.DataFrame | None, file: str) -> None:
    """Offer a chart as PNG, SVG and HTML, and its data, if any, as CSV.

    `draw` returns the whole chart, and is called on download. `file` is the name without suffix, unique on the page.
    """
    with st.popover("Save this chart"):
        for suffix, label in _FORMATS.items():
            name = f"{file}{suffix}"
            st.download_button(label, partial(_content, draw, suffix), name, key=name, on_click="ignore")
        if data is not None:
            name = f"{file}.csv"
            csv = partial(data.to_csv, index=False)
            st.download_button("CSV of its data", csv, name, mime="text/csv", key=name, on_click="ignore")


def _content(draw: Callable[[], ChartType], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"chart{suffix}"
        save_chart(draw(), path)
        return path.read_bytes()
