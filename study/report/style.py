"""How all pictures look: colours, and a light frame around what is shown."""

from typing import Any

from altair.typing import ChartType

__all__ = ["BLUE", "COLOURS", "GREY", "INK", "ORANGE", "PALE", "RED", "WIDTH", "styled"]

WIDTH = 760
"""Of a picture that fills the column of the page, pixels."""

INK = "#30638e"
# These are seen on white and on black.
BLUE, ORANGE, RED, PALE, GREY = "#3d7ea6", "#e09f3e", "#d1495b", "#8d99ae", "#808080"
COLOURS = {"private": INK, "shared": ORANGE, "both": PALE}
_TEXT, _LINES = "#333333", "#dddddd"


def styled(chart: ChartType) -> ChartType:
    """The same chart in the style of the page; for whole pictures only."""
    axis: dict[str, Any] = {"labelColor": _TEXT, "titleColor": _TEXT, "titleFontWeight": "normal"}
    header: dict[str, Any] = {"color": _TEXT, "subtitleColor": "#666666", "fontSize": 12, "subtitleFontSize": 11}
    in_style: ChartType = (
        chart.configure(font="Helvetica, Arial, sans-serif", background="white", padding=8)
        .configure_view(stroke=_LINES)
        .configure_axis(gridColor="#eeeeee", domainColor=_LINES, tickColor=_LINES, titleFontSize=11, **axis)
        .configure_title(fontWeight="bold", anchor="start", **header)
        .configure_legend(titleFontWeight="normal", titleColor=_TEXT, labelColor=_TEXT)
    )
    return in_style
