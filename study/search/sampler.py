"""The configurations of trials, proposed by Optuna's samplers.

Grid, random and quasi-random points are functions of the trial's number. The other samplers learn from finished trials.
They are created anew for each trial, with a seed that depends on its number, and all that they learn from is in the
store, so another process can resume a search without repeating a proposal.
"""

import copy
import hashlib
import json
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

from study.analysis import StudyResults
from study.analysis.pareto import pareto_front
from study.errors import UserError
from study.spec import Parameter, Scalar, Spec, grid, parameter_order

# Maximum number of trials that TPE learns from: the front, and the latest others. A proposal takes time in proportion:
# more than a second for ten thousand trials, during which the driver serves no other trial.
_MAX_TPE_TRIALS = 1000

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}

# Optuna logs each trial, and each parameter that its model does not cover.
optuna.logging.set_verbosity(optuna.logging.ERROR)


class PastTrial(NamedTuple):
    """A trial in the store. It has values of the objectives, in order, if it is complete.

    The attributes are those that the sampler stored with the trial. Trials that are `running` or `interrupted` will
    report again.
    """

    number: int
    state: str
    parameters: dict[str, Scalar]
    values: list[float] | None
    attributes: dict[str, Any]


def past_trials(results: StudyResults) -> list[PastTrial]:
    """Return the trials of a study so far. A complete trial whose last reports are lost counts as interrupted."""
    spec, table = results.spec, results.results()
    attributes = results.trials().set_index("trial")["sampler"] if len(table) else {}
    past = []
    for row in table.to_dict("records"):
        number, state = int(row["trial"]), str(row["state"])
        values = [row.get(name) for name in spec.objectives]
        is_whole = (row["step"], row["replicates"]) == (spec.train.steps, spec.replicates)
        is_complete = state == "complete" and is_whole and all(map(pd.notna, values))
        if state == "complete" and not is_complete:
            state = "interrupted"
        cells = {name: row.get(f"config/{name}") for name in spec.space}
        parameters = {name: spec.space[name].typed(value) for name, value in cells.items() if pd.notna(value)}
        final = [float(value) for value in values] if is_complete else None
        past.append(PastTrial(number, state, parameters, final, json.loads(attributes[number])))
    return past


class Search:
    """Proposes a configuration for each trial, given the past trials, and receives the results of finished ones."""

    def __init__(self, spec: Spec, past: Iterable[PastTrial] = ()) -> None:
        self._spec = spec
        self._distributions = {name: distribution_of(parameter) for name, parameter in spec.space.items()}
        self._fixed = list(spec.include) + (grid(spec.space) if spec.search.sampler == "grid" else [])
        self._storage = _FilteredStorage()
        self._study = optuna.create_study(
            storage=self._storage,
            directions=["minimize" if mode == "min" else "maximize" for mode in spec.objectives.values()],
        )
        self._trials: dict[int, FrozenTrial] = {}
        for trial in sorted(past, key=lambda trial: trial.number):
            self._study.add_trial(frozen_trial(trial, self._distributions))
            self._trials[trial.number] = self._frozen(-1)

    def ask(self, number: int) -> dict[str, Scalar]:
        """Return the configuration of a trial: values of the parameters whose conditions hold."""
        self._study.sampler = self._sampler(number)
        if number < len(self._fixed):
            self._study.enqueue_trial(dict(self._fixed[number]))
        trial = self._study.ask()
        values: dict[str, Scalar] = {}
        with self._storage.limited_to(self._trials_to_learn_from()):
            for name in parameter_order(self._spec.space):
                conditions = self._spec.space[name].when.items()
                if all(values.get(other) in allowed for other, allowed in conditions):
                    values[name] = _suggest(trial, name, self._distributions[name])
        self._trials[number] = self._frozen(trial.number)
        return values

    def attributes(self, number: int) -> dict[str, Any]:
        """Return the attributes that the sampler stored with a trial and needs to resume, as plain JSON."""
        return dict(self._frozen(self._trials[number].number).system_attrs)

    def tell(self, number: int, state: str, values: Sequence[float] | None = None) -> None:
        """Report that a trial is `complete` with values of the objectives, `pruned` or `failed`.

        Intermediate values of a pruned trial are not comparable with final ones, so Optuna does not receive them.
        """
        self._study.tell(self._trials[number].number, values, _STATES[state])

    def trials(self) -> list[FrozenTrial]:
        """Return all trials as trials of Optuna."""
        return self._study.get_trials()

    def _trials_to_learn_from(self) -> set[int] | None:
        """Return Optuna's numbers of the trials that TPE learns from: the front and the latest; None for all trials."""
        if self._spec.search.sampler != "tpe" or len(self._trials) <= _MAX_TPE_TRIALS:
            return None
        finished = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]
        complete = [trial for trial in finished if trial.values]
        values = pd.DataFrame([trial.values for trial in complete], columns=list(self._spec.objectives))
        is_on_front = pareto_front(values, self._spec.objectives)
        front = {trial.number for trial, is_best in zip(complete, is_on_front, strict=True) if is_best}
        others = [trial.number for trial in finished if trial.number not in front]
        return front.union(others[-max(1, _MAX_TPE_TRIALS - len(front)) :])

    def _sampler(self, number: int) -> BaseSampler:
        digest = hashlib.sha256(f"{self._spec.search.seed}/{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # for QMC, and groups of TPE, which conditions need
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
                case plugin:
                    return _plugin_sampler(plugin, seed)

    def _frozen(self, optuna_number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[optuna_number]


def _plugin_sampler(name: str, seed: int) -> BaseSampler:
    from study.spec.samplers import SAMPLERS  # imports torch, which takes seconds

    sampler = SAMPLERS[name](seed=seed)
    if not isinstance(sampler, BaseSampler):
        raise UserError(f"search.sampler: {name} must return a sampler of Optuna; got {type(sampler).__name__}")
    return sampler


class _FilteredStorage(InMemoryStorage):
    """Optuna's storage in memory, which can hide trials from a sampler."""

    def __init__(self) -> None:
        super().__init__()
        self._visible: set[int] | None = None

    @contextmanager
    def limited_to(self, numbers: set[int] | None) -> Iterator[None]:
        """Hide other trials from the sampler within the context; None hides no trial."""
        self._visible = numbers
        try:
            yield
        finally:
            self._visible = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the visible trials, as Optuna's method returns all trials."""
        if self._visible is None:
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy=False)
        visible = [trials[number] for number in sorted(self._visible)]
        visible = [trial for trial in visible if states is None or trial.state in states]
        return copy.deepcopy(visible) if deepcopy else visible


class _NumberedQMCSampler(QMCSampler):
    """Optuna's scrambled Sobol sequence, indexed by the trial's number.

    Optuna's own sampler counts its points in the study and takes the space from the first trial, which is random;
    neither survives a resume. Each parameter has one dimension, used only if the condition of the parameter holds.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], number: int, seed: int) -> None:
        super().__init__(qmc_type="sobol", scramble=True, seed=seed)
        self._distributions = dict(sorted(distributions.items()))
        self._number = number

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters that have several values; Optuna would return the parameters of the first trial."""
        return {name: value for name, value in self._distributions.items() if not value.single()}

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


def frozen_trial(trial: PastTrial, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Return a trial as a trial of Optuna, given the distributions of all parameters. An interrupted one is running."""
    state = _STATES.get(trial.state, TrialState.RUNNING)
    return optuna.trial.create_trial(
        state=state,
        values=trial.values if state is TrialState.COMPLETE else None,
        params=trial.parameters,
        distributions={name: distributions[name] for name in trial.parameters},
        system_attrs=trial.attributes,
    )


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Return the range of a parameter as a distribution of Optuna."""
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
    raise TypeError(f"{name}: unexpected distribution {distribution}")
