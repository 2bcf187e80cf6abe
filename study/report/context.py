"""What the pictures of a study are drawn from: its results, and the latents of one model that stands for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
from altair.typing import ChartType

from study.analysis import StudyResults
from study.spec.resolved_spec import ResolvedSpec

if TYPE_CHECKING:
    from marl.data import Factor

__all__ = ["SUBSPACES", "Material", "MissingError", "Picture"]

SUBSPACES = ("private", "shared")


class MissingError(Exception):
    """A picture cannot be drawn; the message says why."""


@dataclass(frozen=True)
class Picture:
    """One picture of the page.

    Attributes:
        title: its heading.
        caption: what it shows, and what its error bars are, in plain words.
        chart: the picture.
        note: what else belongs below it.
        data: the numbers that it shows, where they are one table.
    """

    title: str
    caption: str
    chart: ChartType
    note: str = ""
    data: pd.DataFrame | None = None


class Material:
    """A study as its pictures need it; what takes long is read when it is first asked for.

    Args:
        results: the study.
        trial: whose latents are shown; without one, that of the front which is best in disentanglement.
        seed: the replicate whose latents are shown; without one, the first.
    """

    def __init__(self, results: StudyResults, trial: int | None = None, seed: int | None = None) -> None:
        self.results = results
        self.spec = results.spec
        self.table = results.results()
        self.seed = results.spec.first_seed if seed is None else seed
        self._trial = trial

    @property
    def complete(self) -> pd.DataFrame:
        """Results of the trials that came to their end: only these are compared."""
        return self.table[self.table["state"] == "complete"]

    @cached_property
    def chosen_by(self) -> str:
        """The metric that chooses the trial whose latents are shown: of disentanglement, else the last objective."""
        names = [*self.spec.objectives, "disentanglement/separation"]
        known = [name for name in names if name in self.table and self.complete[name].notna().any()]
        return next((name for name in known if name.startswith("disentanglement/")), list(self.spec.objectives)[-1])

    @cached_property
    def chosen(self) -> pd.Series:
        """The trial that is shown, or the one of the front that is best in it.

        Raises:
            MissingError: when there is no front yet.
        """
        if self._trial is not None:
            return self.table.set_index("trial", drop=False).loc[self._trial]
        front = self.results.front(self.table)
        if front.empty:
            raise MissingError("no trial is complete yet, so there is no front to choose a trial from")
        values = front[self.chosen_by]
        return front.loc[values.idxmin() if self.spec.objectives.get(self.chosen_by) == "min" else values.idxmax()]

    @cached_property
    def latents(self) -> pd.DataFrame:
        """Means of held-out clips by one replicate of the chosen trial, with the clips' factors.

        Raises:
            MissingError: when there are none in the store.
        """
        trial = int(self.chosen["trial"])
        found = self.results.store.read_latents(trial, self.seed)
        if found is None or found.empty:
            raise MissingError(f"the store has no readable latents of trial {trial}, seed {self.seed}")
        return found

    @cached_property
    def factors(self) -> "tuple[Factor, ...]":
        """The factors of the study's data."""
        from study.datasets.load import factors_of  # imports torch, which takes seconds

        return factors_of(ResolvedSpec(self.spec), self.results.store.objects)

    @property
    def home(self) -> Mapping[str, str]:
        """The subspace that each factor belongs into."""
        return {name: SUBSPACES[name in self.spec.shared_factors] for name in self.results.metadata.factors}

    @property
    def spread(self) -> str:
        """What error bars are in this study, as the end of a sentence."""
        if self.spec.replicates == 1:
            return "there are no error bars, as each trial has a single replicate"
        return f"error bars are one standard deviation over {self.spec.replicates} replicates to either side"


def latent_columns(latents: pd.DataFrame, subspace: str) -> list[str]:
    """Names of the columns of one subspace, in the order of the model."""
    return [name for name in latents if str(name).startswith(f"{subspace}/")]
