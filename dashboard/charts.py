"""Charts on a page, in the theme of the page, with buttons that download them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from dashboard.reading import Reading
from study.charts.style import save_chart, vega_lite

# Altair limits rows for notebooks, which keep charts in their file. The setting belongs to the process.
alt.data_transformers.enable("default", max_rows=None)

_FORMATS = {".png": "PNG for slides", ".svg": "SVG for a paper", ".html": "HTML, interactive"}


def is_dark() -> bool:
    """Return whether the page is dark."""
    return bool(st.context.theme.type == "dark")


def draw(
    reading: Reading | None,
    create: Callable[[], ChartType],
    key: str,
    description: str,
    width: Literal["stretch", "content"] = "stretch",
    on_select: Callable[[], None] | Literal["ignore"] = "ignore",
    selections: Sequence[str] = (),
) -> Any:
    """Draw a chart in the theme of the page, with a description for screen readers.

    The chart of a `reading` is created once for each address, theme and `key`. `on_select` is called when one
    of the `selections`, parameters of the chart, has changed.
    """

    def specification() -> dict[str, Any]:
        return vega_lite(create(), is_dark())

    options: dict[str, Any] = {} if on_select == "ignore" else {"selection_mode": list(selections)}
    view = (key, is_dark(), st.context.url, *sorted(st.query_params.items()))
    spec = specification() if reading is None else reading.drawn(view, specification)
    return st.vega_lite_chart(
        spec=spec, width=width, key=key, alt=description, on_select=on_select, theme=None, **options
    )


def show_chart(
    reading: Reading | None,
    create: Callable[[], ChartType],
    key: str,
    description: str,
    data: pd.DataFrame | None,
    file: str,
    caption: str | None = None,
    width: Literal["stretch", "content"] = "stretch",
) -> None:
    """Draw a chart as `draw` does, a caption below it, and downloads as in `download_chart`."""
    draw(reading, create, key, description, width)
    if caption is not None:
        st.caption(caption)
    download_chart(create, data, file)


def show_grid(
    reading: Reading, charts: Mapping[str, Callable[[], ChartType]], columns: int, key: str, descriptions: Sequence[str]
) -> None:
    """Draw charts in rows, as `draw` does. The Streamlit key of a chart is `key` and its name."""
    cells = st.columns(columns)
    for position, ((name, create), description) in enumerate(zip(charts.items(), descriptions, strict=True)):
        with cells[position % columns]:
            draw(reading, create, f"{key} {name}", description)


def download_chart(create: Callable[[], ChartType], data: pd.DataFrame | None, file: str) -> None:
    """Offer a chart as PNG, SVG and HTML, and its data, if any, as CSV. Files have the light theme.

    `create` returns the whole chart, and is called on download. `file` is the name without suffix, unique on the page.
    """
    with st.popover("Save this chart"):
        for suffix, label in _FORMATS.items():
            name = f"{file}{suffix}"
            st.download_button(label, partial(_content, create, suffix), name, key=name, on_click="ignore")
        if data is not None:
            name = f"{file}.csv"
            csv = partial(data.to_csv, index=False)
            st.download_button("CSV of its data", csv, name, mime="text/csv", key=name, on_click="ignore")


def _content(create: Callable[[], ChartType], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"chart{suffix}"
        save_chart(create(), path)
        return path.read_bytes()
