"""Which configurations to try: a study's space put to Optuna by ask and tell.

Grid, random and quasi-random points are functions of the trial's number. The other samplers learn from finished trials;
for each trial they are made anew with a seed of its own, and all that they learn from comes from the store. So a search
can be taken up by another process without repeating a proposal.
"""

import copy
import hashlib
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from study.analysis.pareto import pareto_front
from study.spec import Parameter, Scalar, Spec, grid, parameter_order

__all__ = ["PastTrial", "Search", "distribution_of", "frozen_trial"]

# A proposal of TPE takes time in proportion to the trials that it learns from: after ten thousand a second and more, in
# which no other trial is served. So it learns from the front and from as many others as this leaves, the latest.
_TPE_LEARNS_FROM = 1000

# Optuna announces each trial, and each parameter that its model does not cover; neither is for the user of a study.
optuna.logging.set_verbosity(optuna.logging.ERROR)


class PastTrial(NamedTuple):
    """A trial as the store knows it.

    Attributes:
        number: the trial.
        state: as in the column `state`; `running` and `interrupted` trials are still expected to report.
        parameters: its values of the space.
        values: of the objectives, in order; only a complete trial has them.
        attributes: what the sampler noted about it.
    """

    number: int
    state: str
    parameters: dict[str, Scalar]
    values: list[float] | None
    attributes: dict[str, Any]


class Search:
    """Proposes a configuration for each trial and is told what became of it.

    Args:
        spec: a resolved spec.
        past: the trials so far.
    """

    def __init__(self, spec: Spec, past: Iterable[PastTrial] = ()) -> None:
        self._spec = spec
        self._distributions = {name: distribution_of(parameter) for name, parameter in spec.space.items()}
        self._fixed = list(spec.include) + (grid(spec.space) if spec.search.sampler == "grid" else [])
        self._storage = _PartlyShown()
        self._study = optuna.create_study(
            storage=self._storage,
            directions=["minimize" if mode == "min" else "maximize" for mode in spec.objectives.values()],
        )
        self._trials: dict[int, FrozenTrial] = {}
        for trial in sorted(past, key=lambda trial: trial.number):
            self._remember(trial)

    def ask(self, number: int) -> dict[str, Scalar]:
        """The configuration of a trial: values of the parameters whose conditions hold."""
        self._study.sampler = self._sampler(number)
        if number < len(self._fixed):
            self._study.enqueue_trial(dict(self._fixed[number]))
        trial = self._study.ask()
        values: dict[str, Scalar] = {}
        with self._storage.showing(self._to_learn_from()):
            for name in parameter_order(self._spec.space):
                conditions = self._spec.space[name].when.items()
                if all(values.get(other) in allowed for other, allowed in conditions):
                    values[name] = _suggest(trial, name, self._distributions[name])
        self._trials[number] = self._frozen(trial.number)
        return values

    def attributes(self, number: int) -> dict[str, Any]:
        """What the sampler noted about a trial and will need to go on; plain JSON."""
        return dict(self._frozen(self._trials[number].number).system_attrs)

    def complete(self, number: int, values: Sequence[float]) -> None:
        """The trial reached its full budget with these values of the objectives."""
        self._study.tell(self._trials[number].number, list(values))

    def pruned(self, number: int) -> None:
        """The trial was stopped early: its values are intermediate and are not compared."""
        self._study.tell(self._trials[number].number, state=TrialState.PRUNED)

    def failed(self, number: int) -> None:
        """The trial came to no value."""
        self._study.tell(self._trials[number].number, state=TrialState.FAIL)

    def trials(self) -> list[FrozenTrial]:
        """All trials as Optuna knows them."""
        return self._study.get_trials()

    def _to_learn_from(self) -> set[int] | None:
        """Optuna's numbers of the trials that TPE shall see when there are too many; none where it may see all."""
        if self._spec.search.sampler != "tpe" or len(self._trials) <= _TPE_LEARNS_FROM:
            return None
        over = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]
        complete = [trial for trial in over if trial.values]
        values = pd.DataFrame([trial.values for trial in complete], columns=list(self._spec.objectives))
        is_on_front = pareto_front(values, self._spec.objectives)
        front = {trial.number for trial, is_best in zip(complete, is_on_front, strict=True) if is_best}
        others = [trial.number for trial in over if trial.number not in front]
        return front.union(others[-max(1, _TPE_LEARNS_FROM - len(front)) :])

    def _sampler(self, number: int) -> BaseSampler:
        digest = hashlib.sha256(f"{self._spec.search.seed}/{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # TPE's groups, which conditions need, and QMC are
            match self._spec.search.sampler:
                case "tpe":
                    return TPESampler(seed=seed, multivariate=True, group=True)
                case "nsga2":
                    return NSGAIISampler(seed=seed)
                case "gp":
                    return GPSampler(seed=seed)
                case "qmc":
                    return _NumberedQMCSampler(self._distributions, number, self._spec.search.seed)
                case "random" | "grid":
                    return RandomSampler(seed=seed)

    def _remember(self, trial: PastTrial) -> None:
        self._study.add_trial(frozen_trial(trial, self._distributions))
        self._trials[trial.number] = self._study.get_trials(deepcopy=False)[-1]

    def _frozen(self, optuna_number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[optuna_number]


class _PartlyShown(InMemoryStorage):
    """Optuna's storage in memory, of which for a while only some trials are seen."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[int] | None = None

    @contextmanager
    def showing(self, numbers: set[int] | None) -> Iterator[None]:
        """Within it, only the trials of these numbers are there, or all of them."""
        self._shown = numbers
        try:
            yield
        finally:
            self._shown = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's."""
        if self._shown is None:
            return super().get_all_trials(study_id, deepcopy, states)
        everything = super().get_all_trials(study_id, deepcopy=False)
        shown = [everything[number] for number in sorted(self._shown)]
        shown = [trial for trial in shown if states is None or trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown


class _NumberedQMCSampler(QMCSampler):
    """Optuna's scrambled Sobol sequence, asked for the point of a trial's number.

    Optuna's own counts in the study and learns the space from the first trial, which it draws at random; both would be
    lost on resuming. Every parameter has a dimension of its own, used only where its condition holds.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], number: int, seed: int) -> None:
        super().__init__(qmc_type="sobol", scramble=True, seed=seed)
        self._distributions = dict(sorted(distributions.items()))
        self._number = number

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
    ) -> dict[str, BaseDistribution]:
        """The whole space."""
        return {name: value for name, value in self._distributions.items() if not value.single()}

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


def frozen_trial(trial: PastTrial, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial as Optuna keeps it; one that was interrupted runs still.

    Args:
        trial: the trial.
        distributions: of all parameters of the space.
    """
    state = {
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }.get(trial.state, TrialState.RUNNING)
    return optuna.trial.create_trial(
        state=state,
        values=trial.values if state is TrialState.COMPLETE else None,
        params=trial.parameters,
        distributions={name: distributions[name] for name in trial.parameters},
        system_attrs=trial.attributes,
    )


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """The range of a parameter in Optuna's words."""
    if parameter.choice is not None:
        return CategoricalDistribution(parameter.choice)
    if parameter.int is not None:
        return IntDistribution(*parameter.int)
    return FloatDistribution(*parameter.bounds, log=parameter.log_uniform is not None)


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Scalar:
    if isinstance(distribution, CategoricalDistribution):
        choice: Scalar = trial.suggest_categorical(name, distribution.choices)  # type: ignore[assignment]  # never None
        return choice
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"{name}: {distribution} is no distribution of ours")
