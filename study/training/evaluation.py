"""Models that reached a budget wait for others and are evaluated together, while their replicates train on."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from marl.checkpoint import DESCRIPTION_FILE, MODEL_FILE, Description, parameters_of
from marl.config import Config
from marl.data import Dataset
from marl.evaluation import FINAL, INTERMEDIATE, RESCORABLE, evaluate, held_out_clips
from marl.evaluation.post_training import PostTrainingInputs, post_training_inputs
from marl.metrics import METRIC_VERSION
from marl.objective import ActiveTerms, build_hyperparameters
from marl.stack import Snapshot, Stack
from marl.stack.batched_models import Model, Models
from study.spec import Spec
from study.spec.model_config import Family, StackPlan, audio_of, config_of
from study.store import StudyStore
from study.training.planning import is_out_of_memory
from study.training.replicate_io import Replicate

__all__ = ["Due", "Evaluated", "Evaluator", "Scorer", "write_baselines_once"]

# One model costs nearly as much as so many.
_TOGETHER = 16
# How long a model waits for others, in seconds: an intermediate report delays a halving decision, a final one does not.
_INTERMEDIATE_WAIT_S, _FINAL_WAIT_S = 0.5, 2.0


@dataclass(frozen=True)
class Due:
    """A replicate that reached a budget, as it was then.

    Attributes:
        replicate: which.
        step: the budget.
        model: to be evaluated.
        snapshot: of a final model, to be stored.
        since: when it got here, by `time.monotonic`.
    """

    replicate: Replicate
    step: int
    model: Model
    snapshot: Snapshot | None
    since: float


class Evaluated(NamedTuple):
    """What came of it, with the means of the held-out clips at the widths of the stack."""

    due: Due
    metrics: dict[str, float]
    mean_ND: Tensor
    clips: Tensor


class Evaluator:
    """Groups of one size, made up where too few are there: a model's numbers do not depend on who else is due.

    Args:
        models_of: makes models of a family of which a configuration is one.
        shared: names of the factors that views share.
        together: models of a group at most.
    """

    def __init__(self, models_of: Callable[[Family, Config], Models], shared: tuple[str, ...], together: int) -> None:
        self._models_of = models_of
        self._shared = shared
        self._together = min(_TOGETHER, together)
        self._queues: dict[tuple[Family, bool], list[Due]] = {}

    @property
    def together(self) -> int:
        """Models of a group."""
        return self._together

    @property
    def is_busy(self) -> bool:
        """Whether a model waits."""
        return any(self._queues.values())

    def add(self, family: Family, due: Due) -> None:
        """Let a model wait, unless it does already."""
        queue = self._queues.setdefault((family, due.snapshot is not None), [])
        if not any(other.replicate is due.replicate and other.step == due.step for other in queue):
            queue.append(due)

    def remove(self, trial: int) -> None:
        """Forget the models of a trial."""
        for key, queue in self._queues.items():
            self._queues[key] = [due for due in queue if due.replicate.trial != trial]

    def evaluate(self, nobody_comes: bool) -> Iterator[Evaluated]:
        """Evaluate full groups, and those whose oldest model waited long enough.

        Args:
            nobody_comes: whether no other model is to be waited for.
        """
        for key in list(self._queues):
            family, is_final = key
            wait_s = _FINAL_WAIT_S if is_final else _INTERMEDIATE_WAIT_S
            while queue := self._queues[key]:
                is_full = len(queue) >= self._together
                if not is_full and not nobody_comes and time.monotonic() - queue[0].since < wait_s:
                    break
                # A replicate's reports come in the order of its steps, however long the earlier ones may wait.
                while is_final and self._queues.get((family, False)):
                    yield from self._next_group((family, False))
                yield from self._next_group(key)

    def _next_group(self, key: tuple[Family, bool]) -> Iterator[Evaluated]:
        family, is_final = key
        queue = self._queues[key]
        group, self._queues[key] = queue[: self._together], queue[self._together :]
        try:
            yield from self._evaluated(family, group, is_final)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._together == 1:
                raise
            self._together //= 2
            self._queues[key] = group + self._queues[key]

    def _evaluated(self, family: Family, group: list[Due], is_final: bool) -> list[Evaluated]:
        models = self._models_of(family, group[0].replicate.config)
        together = models.group([due.model for due in group], self._together)
        evaluation = evaluate(together, self._shared, FINAL if is_final else INTERMEDIATE)
        clips, means_KND = held_out_clips(together).cpu(), evaluation.means_KND.cpu()
        return [
            Evaluated(due, metrics, mean_ND, clips)
            for due, metrics, mean_ND in zip(group, evaluation.metrics, means_KND, strict=False)
        ]


class Scorer:
    """Reads models that reached the full budget and metric_groups them.

    Args:
        store: the study.
        family_of: of a configuration.
        models_of: makes models of a family of which a configuration is one.
        together: models of a group now, which decides the last bits of some metrics.
    """

    def __init__(
        self,
        store: StudyStore,
        family_of: Callable[[Config], Family],
        models_of: Callable[[Family, Config], Models],
        together: Callable[[], int],
    ) -> None:
        self._store = store
        self._family_of = family_of
        self._models_of = models_of
        self._together = together
        spec = store.metadata().spec
        self._steps, self._shared = spec.train.steps, spec.shared_factors

    def scores(
        self, replicates: Sequence[tuple[int, int]], metric_groups: Sequence[str], split: str
    ) -> list[dict[str, Any]]:
        """Rows for `reports/`, one a replicate that has weights; those of the test split under `test/<name>`.

        Args:
            replicates: trial and seed of each.
            metric_groups: names of `marl.evaluation.METRIC_GROUPS`.
            split: on whose clips.
        """
        prefix = "" if split == "validation" else f"{split}/"
        by_family: dict[Family, list[tuple[int, int, Config, Model]]] = {}
        for trial, seed in replicates:
            if (found := self._load(trial, seed)) is not None:
                config, model = found
                by_family.setdefault(self._family_of(config), []).append((trial, seed, config, model))
        rows = []
        for family, members in by_family.items():
            models, size = self._models_of(family, members[0][2]), self._together()
            for first in range(0, len(members), size):
                group = members[first : first + size]
                together = models.group([model for *_, model in group], size)
                metrics = evaluate(together, self._shared, metric_groups, split).metrics
                for (trial, seed, *_), scores in zip(group, metrics, strict=False):
                    # What is not finite on clips that nobody has looked at yet is absent.
                    finite = {f"{prefix}{name}": value for name, value in scores.items() if math.isfinite(value)}
                    rows.append(self._row(trial, seed) | finite)
        return rows

    def post_training_inputs(self, trial: int, seed: int) -> tuple[dict[str, Any], PostTrainingInputs] | None:
        """A row to be completed, and what post-training evaluation needs of a model; none without weights."""
        found = self._load(trial, seed)
        if found is None:
            return None
        config, model = found
        models = self._models_of(self._family_of(config), config)
        return self._row(trial, seed), post_training_inputs(models.group([model], 1))

    def _load(self, trial: int, seed: int) -> tuple[Config, Model] | None:
        found = self._store.latest_checkpoint(trial, seed)
        if found is None or found.step != self._steps:
            return None
        description = Description.model_validate_json(found.files[DESCRIPTION_FILE])
        config = description.config
        models = self._models_of(self._family_of(config), config)
        network, device = models.objective_spec.network, models.dataset.device
        padded = network.pad(parameters_of(description, found.files[MODEL_FILE]), network.mask(config.latent))
        hyperparameters = build_hyperparameters(models.objective_spec, config)
        return config, Model(
            {name: value.to(device) for name, value in padded.items()},
            type(hyperparameters)(*(field.to(device) for field in hyperparameters)),
        )

    def _row(self, trial: int, seed: int) -> dict[str, Any]:
        return {"trial": trial, "seed": seed, "step": self._steps, "metric_version": METRIC_VERSION}


def write_baselines_once(store: StudyStore, spec: Spec, plan: StackPlan, dataset: Dataset) -> None:
    """Score the untrained network, unless the store has its scores: the reference point of hypervolumes.

    It is the spec's own network under the first seeds, at the latent sizes of the widest trial. What a model is trained
    for is no part of it, so neither are losses of the scores. `baselines.json` is then `{"untrained": {metric: mean,
    "<metric>/sd": standard deviation over seeds}, "replicates": seeds}`; one seed has no deviation. A spec whose own
    network does not fit its spectrograms, because patches are searched over, has no baseline.
    """
    if store.baselines() is not None:
        return
    own = config_of(spec, {})
    latent = own.latent.model_copy(update={"private": plan.private, "shared": plan.shared})
    config = Config(views=own.views.model_copy(update={"scheme": "factor"}), model=own.model, latent=latent)
    # As many lanes as there are seeds: idle ones would be scored too.
    seeds = range(min(spec.replicates, plan.lanes))
    try:
        stack = Stack(
            plan.architecture(audio_of(spec), config),
            len(seeds),
            dataset,
            config.views,
            spec.train.batch_pairs,
            ActiveTerms.of(config),
        )
    except ValueError:
        return
    for seed in seeds:
        stack.attach(config, seed)
    metric_groups = [name for name in FINAL if name in RESCORABLE]
    rows = evaluate(stack.models, spec.shared_factors, metric_groups).metrics
    untrained: dict[str, float] = {}
    for name in rows[0]:
        values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        if not values.isfinite().all():
            continue
        untrained[name] = float(values.mean())
        if len(rows) > 1:
            untrained[f"{name}/sd"] = float(values.std())
    store.write_baselines({"untrained": untrained, "replicates": len(rows)})
