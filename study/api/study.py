"""A study of a store, as scripts and notebooks use it."""

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from study.analysis import StudyResults, metric_columns
from study.api.console import console
from study.api.trial import Trial
from study.errors import UserError
from study.formatting import suggestion
from study.spec import Spec
from study.store import StudyStore

if TYPE_CHECKING:
    from altair.typing import ChartType


class Study:
    """A study of a store: its results, its trials and their models.

    `study.run`, `study.resume` and `study.open` return it. Every method reads the present state of the study, also
    while it runs; only objects that are new in the store are read.

    Example:
        >>> import study
        >>> quickstart = study.open("quickstart")
        >>> quickstart.front()
        >>> quickstart.best("disentanglement/separation").model().encode_file("note.wav")
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"Study({self.name!r}, uri={self.uri!r})"

    @property
    def name(self) -> str:
        """Name of the study."""
        return self._store.name

    @property
    def uri(self) -> str:
        """Address of the study: a folder, or `s3://bucket/prefix/name`."""
        return self._store.uri

    @cached_property
    def spec(self) -> Spec:
        """The resolved spec: every field has a value."""
        return self._snapshot().spec

    def status(self) -> dict[str, Any]:
        """Return a summary: state, number of trials by state, front, trained steps, and last sign of life."""
        return self._snapshot().status()

    def results(self) -> pd.DataFrame:
        """Return the results of all trials and baselines.

        Returns:
            A row for each trial, then one for each baseline: `kind`, `trial`, `state`, the configuration
            (`config/<path>`), and each metric as a mean over replicates, with its standard deviation (`<metric>/sd`)
            and half of its 90 % interval (`<metric>/ci`). `front_probability` is the probability that the trial is on
            the front, given the spread over its seeds.

        Example:
            >>> table = study.open("quickstart").results()
            >>> table.set_index("trial")["disentanglement/separation"].nlargest(3)
        """
        from study.analysis.tables import results_table

        return results_table(self._snapshot())

    def front(self) -> pd.DataFrame:
        """Return the rows of `results` on the Pareto front, best first in the first objective."""
        from study.analysis.tables import front_table

        return front_table(self._snapshot())

    def reports(self, trials: Collection[int] | None = None) -> pd.DataFrame:
        """Return a row for each replicate and budget: `trial`, `seed`, `step`, and the metrics at that step.

        Args:
            trials: Numbers of trials. Default: all of them.
        """
        return self._snapshot().reports(trials)

    def progress(self) -> pd.DataFrame:
        """Return how the front grew: a row for each complete trial, with time, trained steps and hypervolume."""
        return self._snapshot().progress()

    def trial(self, number: int) -> Trial:
        """Return a trial by its number.

        Raises:
            UserError: If the study has no such trial.
        """
        known = self._snapshot().trials()["trial"].tolist()
        if number not in known:
            numbers = f"numbers from {min(known)} to {max(known)}" if known else "no trials yet"
            raise UserError(f"study {self.name!r} has no trial {number!r}; it has {numbers}")
        return Trial(self._store, int(number))

    def best(self, metric: str | None = None) -> Trial:
        """Return the complete trial that is best in a metric, as a mean over its replicates.

        Args:
            metric: Name of the metric. Default: the last objective.

        Raises:
            UserError: If no trial is complete, or none has a value of the metric.
        """
        results = self._snapshot()
        return Trial(self._store, results.best_trial(metric or list(results.spec.objectives)[-1]))

    def plot(self, x: str | None = None, y: str | None = None, colour: str | None = None) -> "ChartType":
        """Draw two metrics of all trials and baselines, with error bars and the front.

        Args:
            x: Metric along x. Default: the first objective.
            y: Metric along y. Default: the second objective.
            colour: Parameter of the space that sets the colour. Default: whether a trial is on the front.

        Returns:
            A chart of Altair, which a notebook shows; `chart.save("tradeoff.html")` writes it.

        Raises:
            UserError: If there is no such metric or parameter.
        """
        from study.analysis.trade_off import Axes, default_axes
        from study.charts.trade_off import trade_off_chart

        results = self._snapshot()
        metrics = metric_columns(results.results())
        for argument, name, known in (("x", x, metrics), ("y", y, metrics), ("colour", colour, results.spec.space)):
            if name is not None and name not in known:
                kind = "parameter of the space" if argument == "colour" else "metric of the study"
                raise UserError(f"{argument}: must be a {kind}; got {name!r}; {suggestion(name, known)}")
        default = default_axes(results.spec)
        return trade_off_chart(results, Axes(x or default.x, y or default.y, colour))

    def export(
        self,
        folder: str | Path,
        trials: Iterable[int] | None = None,
        *,
        best: str | None = None,
        licence: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write models with all that is needed to use them: weights, configuration, scores, clips and a model card.

        It writes the replicate of each trial that is best in the metric `best`, or else in the last objective.
        `marl.load` loads a model. A model that was exported before is left as it is.

        Args:
            folder: Folder that gets a folder for each model.
            trials: Numbers of complete trials. Default: the best trial in `best`, or else the front.
            best: Metric that chooses one trial.
            licence: Licence in the model card, such as `CC-BY-4.0`.
            overwrite: Replace existing folders with all their files.

        Returns:
            The folders of the models.

        Raises:
            UserError: If a trial is not complete, its weights were deleted, or a folder holds other files.
            RunError: If a checkpoint is missing or damaged.

        Example:
            >>> (path,) = study.open("quickstart").export("exported", best="disentanglement/separation")
            >>> model = marl.load(path)
        """
        from study.export.bundle import export_trials
        from study.export.replicates import choose_trials

        results = self._snapshot()
        return export_trials(results, *choose_trials(results, trials, best), Path(folder), licence, overwrite)

    def rescore(
        self,
        metrics: Sequence[str] | None = None,
        trials: Sequence[int] | None = None,
        *,
        split: Literal["validation", "test"] = "validation",
        progress: bool = True,
    ) -> int:
        """Evaluate the stored models again, without training. Earlier values stay in the store.

        Args:
            metrics: Groups of metrics, such as `dci`. Default: all groups but those that take seconds a model.
            trials: Numbers of complete trials. Default: all of them and the plain VAE.
            split: Clips to evaluate on.
            progress: Whether to print progress: to stderr, in a notebook below the cell.

        Returns:
            Number of evaluated models.

        Raises:
            UserError: If there is no such group or complete trial, or the study is running.
            RunError: If weights are missing or damaged.
            Interrupted: If the user stops the evaluation.
        """
        from study.runs.post_training import rescore

        results = self._snapshot()
        results.store.objects.check_writable()
        return rescore(results, metrics, trials, split, console(progress))

    def _snapshot(self) -> StudyResults:
        return StudyResults(self._store)
