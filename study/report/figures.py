"""Figures of a study's report: a chart with its title and caption."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
from altair.typing import ChartType

from study.analysis import StudyResults
from study.analysis.aggregation import Spread
from study.analysis.parameter_effects import Sweep, find_sweep
from study.analysis.trade_off import trade_off_data
from study.charts.leakage import readers_of
from study.charts.parameter_panels import categorical_chart, numeric_chart, sweep_panels
from study.charts.style import SUBSPACES, MissingDataError, parameter_label, value_label
from study.charts.trade_off import trade_off_chart
from study.charts.trial import (
    mutual_information_chart,
    mutual_information_data,
    readings_chart,
    readings_data,
    umap_chart,
    umap_data,
)
from study.spec import Scalar, Spec
from study.spec.loader import SpecError
from study.spec.resolved_spec import ResolvedSpec

if TYPE_CHECKING:
    from marl.data import Factor


@dataclass(frozen=True)
class Figure:
    """A chart with its text, and the numbers that it shows if they are one table.

    The caption says what the chart shows and what its error bars are.
    """

    title: str
    caption: str
    chart: ChartType
    note: str = ""
    data: pd.DataFrame | None = None


class ReportContext:
    """Results of a study, and the latents of one replicate of an example trial, which are read when they are needed.

    The default example is the first replicate of the trial on the front that is best in disentanglement.
    """

    def __init__(
        self, results: StudyResults, trial: int | None = None, seed: int | None = None, spread: Spread = "ci"
    ) -> None:
        self.results = results
        self.spec = results.spec
        self.table = results.results()
        self.seed = results.spec.first_seed if seed is None else seed
        self._trial = trial
        self.spread = spread

    @cached_property
    def example_metric(self) -> str:
        """Metric that selects the example trial: one of disentanglement if possible, else the last objective."""
        complete = self.table[self.table["state"] == "complete"]
        names = [*self.spec.objectives, "disentanglement/separation"]
        available = [name for name in names if name in complete and complete[name].notna().any()]
        return next((name for name in available if name.startswith("disentanglement/")), list(self.spec.objectives)[-1])

    @cached_property
    def example(self) -> pd.Series:
        """Row of the example trial in the table of results."""
        if self._trial is not None:
            return self.table.set_index("trial", drop=False).loc[self._trial]
        front = self.results.front(self.table)
        if front.empty:
            raise MissingDataError("no trial is complete yet")
        values = front[self.example_metric]
        is_min = self.spec.objectives.get(self.example_metric) == "min"
        return front.loc[values.idxmin() if is_min else values.idxmax()]

    @property
    def trial(self) -> int:
        """Number of the example trial."""
        return int(self.example["trial"])

    @cached_property
    def latents(self) -> pd.DataFrame:
        """Latent means of held-out clips by one replicate of the example trial, with the clips' factors."""
        latents = self.results.store.read_latents(self.trial, self.seed)
        if latents is None or latents.empty:
            raise MissingDataError(f"the store has no readable latents of trial {self.trial}, seed {self.seed}")
        return latents

    @cached_property
    def factors(self) -> "tuple[Factor, ...]":
        """Factors of the study's data."""
        from study.datasets import factors_of  # imports torch, which takes seconds

        try:
            return factors_of(ResolvedSpec(self.spec), self.results.store.objects)
        except SpecError as error:  # a plug-in that is not loaded
            raise MissingDataError(str(error)) from None

    @property
    def home(self) -> Mapping[str, str]:
        """Subspace that is meant to hold each factor."""
        return {name: SUBSPACES[name in self.spec.shared_factors] for name in self.results.metadata.factors}

    @property
    def error_bars(self) -> str:
        """A clause that says what the error bars of the study are."""
        if self.spec.replicates == 1:
            return "there are no error bars, because each trial has one replicate"
        if self.spread == "sd":
            return f"error bars are one standard deviation over {self.spec.replicates} replicates to either side"
        return f"error bars are 90 % intervals of the mean over {self.spec.replicates} replicates"


def trade_off_figure(context: ReportContext) -> Figure:
    """Return a figure of the trade-off between the objectives."""
    if trade_off_data(context.results)["is_baseline"].all():
        raise MissingDataError("no trial has values of both objectives yet")
    caption = (
        f"Each point is a trial, the mean over its replicates; {context.error_bars}. The dashed line is the Pareto "
        "front: the trials that no other complete trial beats in both objectives, numbered where there is room."
    )
    return Figure("Trade-off", caption, trade_off_chart(context.results))


def numeric_figure(context: ReportContext) -> Figure:
    """Return a figure of each numeric parameter against each objective."""
    sweep = find_sweep(context.table, context.spec)
    panels = sweep_panels(sweep, context.spec, numeric=True)
    trials = len({trial for metrics in panels.values() for data in metrics.values() for trial in data["trial"]})
    if sweep.reference is None:
        caption = (
            f"Each point is one of {trials} complete trials, the mean over its replicates; {context.error_bars}. The "
            "trials also differ in the other parameters, which causes the scatter around a trend."
        )
    else:
        has_reference = any(name in sweep.reference for name in panels)
        others = "The other parameters have their reference values" if has_reference else "The others are fixed"
        ring = "; a ring marks the reference" if has_reference else ""
        caption = (
            f"Each panel shows the complete trials that differ in one parameter alone, {trials} in total. Points are "
            f"means over replicates; {context.error_bars}. {others}{ring}."
        )
    chart = numeric_chart(panels, sweep, context.spec)
    return Figure("Effect of numeric parameters", caption, chart, note=_reference_note(sweep, context.spec))


def categorical_figure(context: ReportContext) -> Figure:
    """Return a figure of each categorical parameter against each objective."""
    sweep = find_sweep(context.table, context.spec)
    panels = sweep_panels(sweep, context.spec, numeric=False)
    others = "also differ between trials" if sweep.reference is None else "have their reference values"
    caption = (
        f"Each point is a complete trial, the mean over its replicates; {context.error_bars}. A black tick is the "
        f"mean over the trials with one choice. The other parameters {others}."
    )
    chart = categorical_chart(panels, context.spec)
    return Figure("Effect of categorical parameters", caption, chart, note=_reference_note(sweep, context.spec))


def readings_figure(context: ReportContext) -> Figure:
    """Return a figure of what readers find of each factor in each subspace of the example trial."""
    row = context.example  # before the factors, which exist without complete trials
    classes = {factor.name: factor.classes for factor in context.factors}
    baselines = (context.results.store.baselines() or {}).get("untrained", {})
    data = readings_data(row, classes, baselines, context.spread)
    untrained = " A magenta tick is the untrained network." if data["untrained"].notna().any() else ""
    bars = {
        "strong": "the information that a strong reader finds in samples of the posteriors, which the decoder receives",
        "lightweight": "the accuracy of a lightweight reader of posterior means, the small network of the papers, "
        "where chance is 0 %",
    }
    shades = zip(("dark", "light"), readers_of(data), strict=False)
    described = "; ".join(f"{shade} bars are {bars[reader]}" for shade, reader in shades)
    caption = (
        f"What readers find out about a factor from the private or shared latents of trial {context.trial}, on "
        f"held-out clips: 0 % is nothing, 100 % everything; {described}; "
        f"{context.error_bars}.{untrained} If the model separates the factors, dark bars are high in the subspace that "
        "a factor belongs in, and near 0 in the other."
    )
    return Figure("What readers find in each subspace", caption, readings_chart(data, context.home), data=data)


def mutual_information_figure(context: ReportContext) -> Figure:
    """Return a figure of the mutual information between the latents of the example trial and the factors."""
    data = mutual_information_data(context.latents, context.factors)
    caption = (
        f"A cell is the mutual information between one latent of trial {context.trial}, seed {context.seed}, and "
        "one factor, divided by the factor's entropy: 1 means that this latent alone determines the factor's "
        "class, 0 that it is independent of it. If the model separates the factors, each has strong cells only in "
        "the subspace in parentheses. There are no error bars, because the figure shows one replicate."
    )
    chart = mutual_information_chart(data, context.home)
    return Figure("Mutual information of latents and factors", caption, chart, data=data)


def umap_figure(context: ReportContext, data: pd.DataFrame | None = None) -> Figure:
    """Return a figure of the UMAP of each subspace of the example trial; `data` is `umap_data` of its latents."""
    data = umap_data(context.latents) if data is None else data
    caption = (
        f"Each point is one of {data['clip'].nunique():,} held-out clips in one subspace of trial {context.trial}, "
        f"seed {context.seed}. UMAP places clips with similar latents near one another; its axes have no unit. A "
        "subspace that holds the factor of a column shows clusters or a gradient of its colours; otherwise colours "
        "are mixed. There are no error bars, because the figure shows one replicate."
    )
    return Figure("UMAP of the subspaces", caption, umap_chart(data), data=data)


def _reference_note(sweep: Sweep, spec: Spec) -> str:
    """Return the reference of a sweep as a sentence; empty without one."""
    return f"Reference: {parameters_text(spec, sweep.reference)}." if sweep.reference else ""


def parameters_text(spec: Spec, values: Mapping[str, Scalar]) -> str:
    """Return labels and values of parameters in one line."""
    return ", ".join(f"{parameter_label(name)} {value_label(spec.space[name], values[name])}" for name in values)


FIGURES: Mapping[str, tuple[str, Callable[[ReportContext], Figure]]] = {
    "trade-off": ("the trade-off", trade_off_figure),
    "numeric-parameters": ("numeric parameters", numeric_figure),
    "categorical-parameters": ("categorical parameters", categorical_figure),
    "readings": ("what readers find", readings_figure),
    "mutual-information": ("mutual information", mutual_information_figure),
    "umap": ("UMAP", umap_figure),
}
"""Label and function of each figure, by the name of its file, in the order of the page."""
