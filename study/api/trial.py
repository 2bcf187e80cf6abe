"""A trial of a study, as scripts and notebooks use it."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import pandas as pd

from study.analysis import StudyResults, metric_columns
from study.errors import UserError, option
from study.formatting import suggestion
from study.spec import Scalar
from study.store import StudyStore

if TYPE_CHECKING:
    from marl.extractor import FeatureExtractor
    from study.export.audition import Audition


class Trial:
    """A trial of a study: its configuration, metrics, learning curves, models and sounds.

    `Study.trial` and `Study.best` return it. A trial has a model for each seed. Methods that read one of them take the
    seed, by default the first one of the study.

    Attributes:
        number: Number of the trial.

    Example:
        >>> best = study.open("quickstart").best()
        >>> best.config, best.metrics["disentanglement/separation"]
        >>> private, shared = best.model().encode_file("note.wav")
    """

    def __init__(self, store: StudyStore, number: int) -> None:
        self._store, self.number = store, number

    def __repr__(self) -> str:
        return f"Trial({self.number}, study={self._store.name!r}, state={self.state!r})"

    @property
    def state(self) -> str:
        """State of the trial: running, interrupted, complete, pruned or failed."""
        return str(self._row()["state"])

    @property
    def config(self) -> dict[str, Scalar]:
        """Parameters of the search by path. A parameter whose conditions do not hold is left out."""
        results = self._results()
        row, space = self._row(results), results.spec.space
        values = {name: row.get(f"config/{name}") for name in space}
        return {name: space[name].typed(value) for name, value in values.items() if pd.notna(value)}

    @property
    def metrics(self) -> dict[str, float]:
        """Means of the metrics over the replicates, by name."""
        row = self._row()
        names = metric_columns(row.to_frame().T)
        return {name: float(row[name]) for name in names if pd.notna(row[name])}

    def curve(self, metrics: Collection[str] | None = None) -> pd.DataFrame:
        """Return learning curves.

        Args:
            metrics: Names of metrics. Default: the objectives.

        Returns:
            A row for each metric, replicate and budget: `metric`, `seed`, `step` and `value`; over the replicates
            `mean`, and `low` and `high`, one standard deviation below and above it.

        Raises:
            UserError: If no report of the trial has one of the metrics.

        Example:
            >>> curve = study.open("quickstart").trial(7).curve()
            >>> alt.Chart(curve).mark_line().encode(x="step", y="value", color="seed:N", row="metric")
        """
        from study.charts.trial import learning_data

        results = self._results()
        reports = results.reports([self.number])
        names = list(results.spec.objectives if metrics is None else metrics)
        known = [name for name in metric_columns(reports) if reports[name].notna().any()]
        if unknown := [name for name in names if name not in known]:
            rule = f"must be metrics in the reports of trial {self.number}"
            raise UserError(f"{option('metrics')}: {rule}; got {unknown[0]!r}; {suggestion(unknown[0], known)}")
        return learning_data(reports, names)

    def leakage(self) -> pd.DataFrame:
        """Return how much each subspace encodes of each factor, as several readers find it.

        Returns:
            A row for each factor, subspace and reader: `factor`, `subspace`, `belongs` (whether the subspace is meant
            to hold the factor), `reader`, `of` (`means` or `samples` of the posteriors), `metric`, `share` (0 is
            nothing, 1 is all of the factor), and its spread `sd`, `ci` and `clips_se`.

        Raises:
            UserError: If the trial is not complete.
        """
        from marl.evaluation import HELD_OUT_CLIPS
        from study.analysis.statistics import leakage
        from study.datasets import clips_of
        from study.spec.resolved_spec import ResolvedSpec

        results = self._results()
        clips = clips_of(ResolvedSpec(results.spec), self._store.objects)
        names = [factor.name for factor in clips.factors]
        classes = dict(zip(names, clips.num_eval_classes("validation"), strict=True))
        held_out = min(HELD_OUT_CLIPS, len(clips.splits["validation"]))
        return leakage(results.results(), results.spec, self.number, classes, held_out)

    def model(self, seed: int | None = None) -> "FeatureExtractor":
        """Load the model of a replicate from the store, as safetensors and JSON.

        Raises:
            UserError: If the trial is not complete, the study does not have the seed, or the weights were deleted.
            RunError: If the checkpoint is missing or damaged.

        Example:
            >>> private, shared = study.open("quickstart").trial(7).model(seed=1).encode_file("note.wav")
        """
        from study.export.replicates import load_extractor

        results = self._results()
        return load_extractor(results, self.number, _seed(results, seed))

    def audition(self, seed: int | None = None) -> "Audition":
        """Load the model of a replicate together with held-out clips of the study's data, to listen to.

        Its table `clips` lists the clips with their factors. Its methods return the sound of a clip, its
        reconstruction, or the clip with the private or shared latents of another one. A notebook shows a sound as a
        player.

        Raises:
            UserError: If the trial is not complete, the study does not have the seed, or the weights were deleted.
            RunError: If the checkpoint is missing or damaged.

        Example:
            >>> audition = study.open("quickstart").best().audition()
            >>> one, other = audition.clips["clip"].head(2)
            >>> audition.swapped(one, shared_from=other)
        """
        from study.export.audition import Audition

        results = self._results()
        return Audition.of(results, self.number, _seed(results, seed))

    def latents(self, seed: int | None = None) -> pd.DataFrame:
        """Return the posterior means that a replicate encodes held-out clips to.

        Returns:
            A row for each clip: `clip`, `factor/<name>`, `private/<number>` and `shared/<number>`.

        Raises:
            UserError: If the store has no readable latents of the replicate.
        """
        number = _seed(self._results(), seed)
        latents = self._store.read_latents(self.number, number)
        if latents is None:
            raise UserError(
                f"the store has no readable latents of trial {self.number}, seed {number}, which is {self.state}; "
                "latents are written when a replicate reaches the full budget"
            )
        return latents

    def _results(self) -> StudyResults:
        return StudyResults(self._store)

    def _row(self, results: StudyResults | None = None) -> pd.Series:
        table = (results or self._results()).results()
        return table[table["trial"] == self.number].iloc[0]


def _seed(results: StudyResults, seed: int | None) -> int:
    return results.spec.first_seed if seed is None else seed
