"""Charts of one trial: learning curves, what readers find in each subspace, and latents of one replicate.

A sample of latents has a row for each clip, with `clip`, `factor/<name>`, `private/<number>` and `shared/<number>`.
N is clips, D latents, C factors. torch is imported only where latents are compared with factors.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from study.analysis.aggregation import Spread
from study.analysis.statistics import ci_half_width, readings
from study.charts import style
from study.charts.leakage import readers_of
from study.spec import Spec

if TYPE_CHECKING:
    from marl.data import Factor

MAX_CLIPS = 1000
"""Maximum number of clips in a UMAP: the first of the sample, whose order is random."""

_MIN_CLIPS = 20
_NEIGHBOURS = 15
_MAX_COLUMNS, _MAX_UMAP_COLUMNS = 4, 3
_MAX_CELL, _MIN_CELL, _MIN_CELL_WITH_TEXT = 34, 5, 24  # pixels


def learning_data(reports: pd.DataFrame, metrics: Sequence[str], spread: Spread = "ci") -> pd.DataFrame:
    """Return the learning curves of a trial from its reports.

    Returns:
        `metric`, `seed`, `step`, `value`, and over the replicates that reported at that step: `mean`, and the ends of
        its error bar `low` and `high`, NaN for a single replicate.
    """
    long = reports.melt(["seed", "step"], list(metrics), "metric", "value").dropna(subset=["value"])
    groups = long.groupby(["metric", "step"])["value"]
    mean, half = groups.transform("mean"), groups.transform("std")
    if spread == "ci":
        half = pd.Series(ci_half_width(half, groups.transform("count")), index=half.index)
    return long.assign(mean=mean, low=mean - half, high=mean + half)


def learning_chart(data: pd.DataFrame, spec: Spec, metric: str) -> ChartType:
    """Draw `learning_data`: thin lines are replicates, the thick line their mean, the band its error bar.

    A metric of a single step has no lines, and a vertical line as error bar.
    """
    scale, axis = alt.Scale(zero=False, nice=False, padding=6), alt.Axis(tickCount=5, format=",d", tickMinStep=1)
    x = alt.X("step:Q", title="steps", scale=scale, axis=axis)
    shown = data[data["metric"] == metric]
    base = alt.Chart(shown).encode(x=x)
    y = alt.Y("value:Q", title=style.metric_lines(spec, metric), scale=alt.Scale(zero=False))
    band = base.mark_area(color=style.INK, opacity=0.18).encode(y=alt.Y("low:Q"), y2="high:Q")
    lines = base.mark_line(color=style.INK, strokeWidth=1, opacity=0.45).encode(y=y, detail="seed:N")
    mean = base.mark_line(color=style.INK, strokeWidth=2.5).encode(y="mean:Q")
    points = base.mark_point(color=style.INK, filled=True, size=30, opacity=0.7).encode(
        y="value:Q", tooltip=["seed:N", "step:Q", alt.Tooltip("value:Q", format=".4g")]
    )
    spread = band if shown["step"].nunique() > 1 else style.error_bars(base, color=style.INK, strokeWidth=2)
    return alt.layer(spread, lines, mean, points).properties(height=220)


def curves_chart(reports: pd.DataFrame, spec: Spec, metric: str) -> ChartType:
    """Draw the means over replicates of several trials by steps. The trial below the pointer is bold.

    Up to six trials have the colours of the categories in the order in which `reports` has them.
    """
    trials = reports["trial"].drop_duplicates().tolist()
    means = reports.dropna(subset=[metric]).groupby(["trial", "step"], as_index=False)[metric].mean()
    data = means.rename(columns={metric: "mean"})
    hover = alt.selection_point(fields=["trial"], on="pointerover", clear="pointerout", nearest=True, empty=False)
    is_many = data["trial"].nunique() > len(style.CATEGORIES)
    scale = alt.Scale(domain=trials, range=style.category_marks(len(trials))[0])
    colour = {"color": alt.value(style.INK)} if is_many else {"color": alt.Color("trial:N", scale=scale)}
    base = alt.Chart(data).encode(
        x=alt.X("step:Q", title="steps", axis=alt.Axis(format=",d", tickMinStep=1)),
        y=alt.Y("mean:Q", title=style.metric_lines(spec, metric), scale=alt.Scale(zero=False)),
        detail="trial:N",
        **colour,
    )
    lines = base.mark_line().encode(
        opacity=alt.condition(hover, alt.value(1), alt.value(0.35 if is_many else 0.75)),
        strokeWidth=alt.condition(hover, alt.value(3.5), alt.value(1.5)),
    )
    points = base.mark_point(filled=True, size=35).encode(
        tooltip=["trial:N", "step:Q", alt.Tooltip("mean:Q", format=".3~g")]
    )
    return alt.layer(lines, points.add_params(hover)).properties(height=300)


def readings_data(
    row: pd.Series, classes: Mapping[str, int], untrained: Mapping[str, float], spread: Spread = "ci"
) -> pd.DataFrame:
    """Return what the strong and the lightweight reader find of each factor in each subspace, from 0 to 1.

    `row` is the results of one trial, `classes` the number of classes of each factor, `untrained` the metrics of the
    untrained network.

    Returns:
        `factor`, `subspace`, the columns of `study.analysis.statistics.readings`, `low` and `high` (the
        ends of the error bar, NaN for a single replicate), and `untrained`, the share of the untrained network.
    """
    tables = []
    for (factor, count), subspace in product(classes.items(), style.COLOURS):
        table, other = (readings(values, factor, count, subspace) for values in (row, pd.Series(untrained)))
        untrained_share = table["metric"].map(other.set_index("metric")["share"])
        table = table.assign(factor=factor, subspace=subspace, untrained=untrained_share)
        tables.append(table[table["metric"].str.startswith(("information/", "probe/"))])
    data = pd.concat(tables, ignore_index=True)
    if data.empty:
        raise style.MissingDataError(
            f"trial {int(row['trial'])} has no metrics of the groups information/… and probe/…"
        )
    return data.assign(low=data["share"] - data[spread], high=data["share"] + data[spread])


def readings_chart(data: pd.DataFrame, home: Mapping[str, str]) -> ChartType:
    """Draw `readings_data`: a panel for each factor, a bar for each subspace and reader, the first one darker.

    `home` is the subspace that is meant to hold each factor.
    """
    factors = list(data["factor"].unique())
    width = style.WIDTH // min(max(len(factors), 2), _MAX_COLUMNS) - 60
    x_axis = alt.Axis(labelAngle=0, ticks=False, labelFontSize=11)
    x = alt.X("subspace:N", sort=list(style.COLOURS), title=None, axis=x_axis)
    readers = readers_of(data)
    offset = alt.XOffset("reader:N", sort=readers)
    y_scale = alt.Scale(domain=[min(0.0, float(data["low"].min())), max(1.0, float(data["high"].max()))], nice=False)
    y_axis = alt.Axis(format="%", tickCount=5)
    colours = alt.Scale(domain=list(style.COLOURS), range=list(style.COLOURS.values()))
    colour = alt.Color("subspace:N", scale=colours, legend=None)
    legend = alt.Legend(orient="bottom", symbolType="square")
    shades = alt.Scale(domain=readers, range=[1.0, 0.45][: len(readers)])
    opacity = alt.Opacity("reader:N", scale=shades, sort=readers, legend=legend)
    panels: list[ChartType] = []
    for index, factor in enumerate(factors):
        base = alt.Chart(data[data["factor"] == factor]).encode(x=x, xOffset=offset)
        y_title = "share of the factor" if index % _MAX_COLUMNS == 0 else None
        y = alt.Y("share:Q", title=y_title, scale=y_scale, axis=y_axis)
        tooltip = ["metric:N", alt.Tooltip("share:Q", format=".3f")]
        bars = base.mark_bar(width={"band": 0.8}).encode(y=y, color=colour, opacity=opacity, tooltip=tooltip)
        ticks = base.transform_filter("isValid(datum.untrained)").encode(y="untrained:Q")
        untrained = ticks.mark_tick(color=style.MAGENTA, thickness=2.5, width={"band": 0.8})
        # A dark line on a white one is visible on bars and on light and dark pages.
        wide = style.error_bars(base, strokeWidth=4, color="white", clip=True)
        narrow = style.error_bars(base, strokeWidth=1.5, color=style.TEXT, clip=True)
        title = alt.Title(factor, subtitle=f"belongs in the {home[factor]} subspace", subtitleColor=style.GREY)
        panel = alt.layer(bars, untrained, wide, narrow)
        panels.append(panel.properties(width=width, height=200, title=title))
    return alt.concat(*panels, columns=_MAX_COLUMNS, spacing=24)


def mutual_information_data(latents: pd.DataFrame, factors: "Sequence[Factor]") -> pd.DataFrame:
    """Return the mutual information of each latent with each factor, as the study's metrics compute it.

    Returns:
        `factor`, `subspace`, `latent` (its number), and `nmi`, the mutual information divided by the factor's entropy;
        0 for a factor with one class.
    """
    import torch

    from marl.metrics.mutual_information import information

    columns = [(subspace, name) for subspace in style.SUBSPACES for name in style.latent_columns(latents, subspace)]
    if not columns:
        raise style.MissingDataError("the sample of latents has no latents")
    latents_ND = latents[[name for _, name in columns]].to_numpy(dtype=np.float64)
    classes_NC = torch.from_numpy(np.stack([factor_classes(latents, factor) for factor in factors], axis=1))
    finite_1ND = torch.tensor(latents_ND).nan_to_num(0.0, 0.0, 0.0)[None]
    table = information(finite_1ND, torch.ones_like(finite_1ND[:, 0]), classes_NC)
    entropy_C = table.factor_entropy_C
    nmi_DC = torch.where(entropy_C > 0, table.mutual_KDC[0] / entropy_C, 0.0)
    rows = [
        (factor.name, subspace, int(name.rpartition("/")[2])) for (subspace, name), factor in product(columns, factors)
    ]
    return pd.DataFrame(rows, columns=["factor", "subspace", "latent"]).assign(nmi=nmi_DC.flatten().numpy())


def mutual_information_chart(data: pd.DataFrame, home: Mapping[str, str]) -> ChartType:
    """Draw `mutual_information_data`: a row for each factor, a column for each latent, a panel for each subspace.

    `home` is the subspace that is meant to hold each factor.
    """
    count = len(data[["subspace", "latent"]].drop_duplicates())
    cell = int(np.clip((style.WIDTH - 220) // count, _MIN_CELL, _MAX_CELL))
    has_text = cell >= _MIN_CELL_WITH_TEXT
    names = {name: f"{name} ({home[name]})" for name in data["factor"].unique()}
    labelled = data.assign(row=data["factor"].map(names), text=data["nmi"].map("{:.2f}".format))
    x_axis = alt.Axis(labelAngle=0, labelOverlap=True, ticks=False, domain=False, grid=False)
    y_axis = alt.Axis(labelLimit=180, ticks=False, domain=False, labelFontSize=11, grid=False)
    colour = alt.Color(
        "nmi:Q",
        title="mutual information / entropy",
        scale=style.cell_colours() if has_text else alt.Scale(domain=[0, 1], range=list(style.SHADES)),
        legend=alt.Legend(orient="bottom", gradientLength=200, titleLimit=260),
    )
    panels: list[ChartType] = []
    for subspace in data["subspace"].unique():
        base = alt.Chart(labelled[labelled["subspace"] == subspace]).encode(
            x=alt.X("latent:O", title="latent", axis=x_axis),
            y=alt.Y("row:N", title=None, sort=list(names.values()), axis=None if panels else y_axis),
        )
        layers = [base.mark_rect(stroke="white", strokeWidth=1).encode(color=colour)]
        if has_text:
            text = base.mark_text(fontSize=10 if cell > 28 else 8.5)
            layers.append(text.encode(text="text:N", color=style.cell_text_colour("nmi")))
        title = alt.Title(subspace, color=style.COLOURS[subspace])
        panels.append(alt.layer(*layers).properties(width=alt.Step(cell), height=alt.Step(max(cell, 26)), title=title))
    return alt.hconcat(*panels, spacing=18)


def umap_data(latents: pd.DataFrame) -> pd.DataFrame:
    """Return the positions of the clips in the UMAP of each subspace.

    Returns:
        `clip`, `subspace`, `x`, `y`, and the factors by their names in the store. Empty subspaces are skipped.
    """
    sample = latents.iloc[:MAX_CLIPS]
    if len(sample) < _MIN_CLIPS:
        raise style.MissingDataError(f"UMAP needs at least {_MIN_CLIPS} clips; the sample of latents has {len(sample)}")
    clips = sample[["clip", *(name for name in sample if str(name).startswith("factor/"))]]
    maps = []
    for subspace in style.SUBSPACES:
        if columns := style.latent_columns(sample, subspace):
            position_N2 = _embed(sample[columns].to_numpy(dtype=np.float32))
            maps.append(clips.assign(subspace=subspace, x=position_N2[:, 0], y=position_N2[:, 1]))
    if not maps:
        raise style.MissingDataError("the sample of latents has no latents")
    return pd.concat(maps, ignore_index=True)


def umap_chart(data: pd.DataFrame) -> ChartType:
    """Draw `umap_data`: a row for each subspace, a column for each factor."""
    factors = [str(name).removeprefix("factor/") for name in data if str(name).startswith("factor/")]
    size = style.WIDTH // min(max(len(factors), 2), _MAX_UMAP_COLUMNS) - 40
    gradient = alt.Legend(orient="top", gradientLength=size - 10, gradientThickness=8, gradientOpacity=1, tickCount=4)
    symbols = alt.Legend(orient="top", columns=4, labelLimit=70, columnPadding=6, symbolSize=50, symbolOpacity=1)
    y_axis = alt.Axis(labels=False, ticks=False, grid=False, domain=False, titleFontSize=12)
    scale = alt.Scale(zero=False)
    columns: list[ChartType] = []
    for index, factor in enumerate(factors):
        values = data[f"factor/{factor}"]
        points = data[["subspace", "x", "y"]].assign(value=values)
        is_number = pd.api.types.is_numeric_dtype(values)
        colour = alt.Color(
            "value:Q" if is_number else "value:N",
            title=style.factor_label(factor),
            scale=alt.Scale(range=list(style.RAMP if is_number else style.CATEGORIES)),
            legend=gradient if is_number else symbols,
        )
        rows = []
        for subspace in data["subspace"].unique():
            title = f"{subspace} latents" if index % _MAX_UMAP_COLUMNS == 0 else None
            base = alt.Chart(points[points["subspace"] == subspace]).mark_circle(size=9, opacity=0.8)
            x, y = alt.X("x:Q", axis=None, scale=scale), alt.Y("y:Q", title=title, axis=y_axis, scale=scale)
            rows.append(base.encode(x=x, y=y, color=colour).properties(width=size, height=size))
        columns.append(alt.vconcat(*rows, spacing=10))
    chart: ChartType = alt.concat(*columns, columns=_MAX_UMAP_COLUMNS, spacing=16).resolve_scale(color="independent")
    return chart


def factor_classes(latents: pd.DataFrame, factor: "Factor") -> np.ndarray:
    """Return the class of each clip, int64 [N]. A number is rounded to the nearest value of the factor."""
    column = f"factor/{factor.name}"
    if column not in latents:
        raise style.MissingDataError(f"the sample of latents lacks the {factor.name} of its clips")
    values = np.array(factor.values)
    if pd.api.types.is_numeric_dtype(latents[column]) and np.issubdtype(values.dtype, np.number):
        index_N = np.abs(latents[column].to_numpy()[:, None] - values).argmin(axis=1)
    else:
        index_of_value = {value: index for index, value in enumerate(factor.values)}
        unknown = set(latents[column]) - set(index_of_value)
        if unknown:
            raise style.MissingDataError(f"the sample of latents has an unknown {factor.name}: {unknown.pop()!r}")
        index_N = latents[column].map(index_of_value).to_numpy()
    return np.asarray(np.array(factor.class_of_value, dtype=np.int64)[index_N])


def _embed(latents_ND: np.ndarray) -> np.ndarray:
    """Return the UMAP to two dimensions, float64 [N, 2]. It is deterministic on one machine."""
    from umap import UMAP  # takes ten seconds to compile

    reducer = UMAP(n_neighbors=min(_NEIGHBOURS, len(latents_ND) - 1), min_dist=0.1, random_state=0, n_jobs=1)
    return np.asarray(reducer.fit_transform(np.nan_to_num(latents_ND)), dtype=np.float64)
