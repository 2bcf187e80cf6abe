"""What probes read from each subspace, as bars."""

from collections.abc import Mapping

import altair as alt
import pandas as pd
from altair.typing import ChartType

from study.charts.style import COLOURS, GREY, RED, WIDTH
from study.report.context import Material, MissingError, Picture

__all__ = ["accuracy_chart", "accuracy_data", "accuracy_picture"]

_PARTS = ("private", "shared", "both")
_MOST_IN_A_ROW = 4


def accuracy_picture(material: Material) -> Picture:
    """How well each factor is read from each subspace of the chosen trial."""
    trial = int(material.chosen["trial"])
    classes = {factor.name: factor.classes for factor in material.factors}
    baselines = (material.results.store.baselines() or {}).get("untrained", {})
    data = accuracy_data(material.chosen, classes, baselines)
    untrained = ", the red tick what the untrained network allows" if data["untrained"].notna().any() else ""
    return Picture(
        title="What can be read from each subspace",
        caption=(
            f"Each bar is the share of held-out clips of which a small network tells the factor's class from one "
            f"subspace of trial {trial}, or from both; {material.spread}. The dashed line is chance{untrained}: in a "
            "model that separates, the subspace named above a panel comes far above the line and the other one near it."
        ),
        chart=accuracy_chart(data, material.home),
        data=data,
    )


def accuracy_data(row: pd.Series, classes: Mapping[str, int], untrained: Mapping[str, float]) -> pd.DataFrame:
    """Probe accuracy by factor and subspace.

    Args:
        row: results of one trial.
        classes: of each factor.
        untrained: what the untrained network scores, by the same names.

    Returns:
        `factor, subspace, accuracy, low, high` (minus and plus one standard deviation, not a number without spread),
        `chance` and `untrained`.

    Raises:
        MissingError: when the trial has no accuracy.
    """
    rows = []
    for factor, count in classes.items():
        for subspace in _PARTS:
            name = f"probe/{factor}/{subspace}"
            if pd.isna(row.get(name)):
                continue
            mean, spread = float(row[name]), float(row.get(f"{name}/sd", float("nan")))
            rows.append(
                {
                    "factor": factor,
                    "subspace": subspace,
                    "accuracy": mean,
                    "low": mean - spread,
                    "high": mean + spread,
                    "chance": 1 / count,
                    "untrained": untrained.get(name, float("nan")),
                }
            )
    if not rows:
        raise MissingError(f"trial {int(row['trial'])} has no values of probe/…")
    return pd.DataFrame(rows)


def accuracy_chart(data: pd.DataFrame, home: Mapping[str, str]) -> ChartType:
    """Draw `accuracy_data`: a panel for each factor, a bar for each subspace."""
    factors = list(data["factor"].unique())
    width = WIDTH // min(max(len(factors), 2), _MOST_IN_A_ROW) - 60
    top = max(1.0, float(data["high"].max()))
    panels: list[ChartType] = []
    for place, factor in enumerate(factors):
        part = data[data["factor"] == factor]
        base = alt.Chart(part).encode(
            x=alt.X(
                "subspace:N", sort=list(_PARTS), title=None, axis=alt.Axis(labelAngle=0, ticks=False, labelFontSize=11)
            )
        )
        y = alt.Y(
            "accuracy:Q",
            title="probe accuracy" if place % _MOST_IN_A_ROW == 0 else None,
            scale=alt.Scale(domain=[0, top], nice=False),
            axis=alt.Axis(format="%", tickCount=5),
        )
        bars = base.mark_bar(width={"band": 0.62}).encode(
            y=y,
            color=alt.Color(
                "subspace:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())), legend=None
            ),
        )
        # Dark on light, to be seen on bars and on pages of either kind.
        spread = base.transform_filter("isValid(datum.low)").encode(y="low:Q", y2="high:Q")
        errors = [
            spread.mark_rule(strokeWidth=width, color=colour, clip=True)
            for width, colour in ((4, "white"), (1.5, "#222222"))
        ]
        chance = alt.Chart(part.head(1)).mark_rule(strokeDash=[4, 3], color=GREY).encode(y="chance:Q")
        untrained = (
            base.transform_filter("isValid(datum.untrained)")
            .mark_tick(color=RED, thickness=2.5, width={"band": 0.62})
            .encode(y="untrained:Q")
        )
        title = alt.Title(factor, subtitle=f"belongs into the {home[factor]} subspace", subtitleColor=GREY)
        panels.append(alt.layer(bars, chance, untrained, *errors).properties(width=width, height=200, title=title))
    return alt.concat(*panels, columns=_MOST_IN_A_ROW, spacing=24)
