"""Download buttons for charts and their data."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st
from altair.typing import ChartType

from study.charts.style import save_chart

__all__ = ["download_chart"]

_FORMATS = {".png": "PNG for slides", ".svg": "SVG for a paper", ".html": "HTML, interactive"}


def download_chart(draw: Callable[[], ChartType], data: pd.DataFrame | None, name: str) -> None:
    """Offer a chart as PNG, SVG and HTML, and its data as CSV.

    Args:
        draw: Function that returns the whole chart; called on download.
        data: Data of the chart; None for no CSV file.
        name: File name without suffix; must be unique on the page.
    """
    with st.popover("Save this chart"):
        for ending, label in _FORMATS.items():
            st.download_button(
                label, partial(_content, draw, ending), f"{name}{ending}", key=f"{name}{ending}", on_click="ignore"
            )
        if data is None:
            return
        st.download_button(
            "CSV of its data",
            partial(_csv, data),
            f"{name}.csv",
            mime="text/csv",
            key=f"{name}.csv",
            on_click="ignore",
        )


def _content(draw: Callable[[], ChartType], ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"chart{ending}"
        save_chart(draw(), path)
        content: bytes = path.read_bytes()
    return content


def _csv(data: pd.DataFrame) -> bytes:
    return str(data.to_csv(index=False)).encode()
