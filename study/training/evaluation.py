"""Evaluation of models: at budgets during training, of stored models after it, and of the untrained network."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from marl.checkpoint import METADATA_FILE, MODEL_FILE, ModelMetadata, load_parameters
from marl.config import Config
from marl.data import Dataset
from marl.evaluation import FINAL, INTERMEDIATE, METRIC_GROUPS, evaluate, groups_with, held_out_clips, metric_group
from marl.evaluation.post_training import PostTrainingInputs, post_training_inputs
from marl.metrics import METRIC_VERSION
from marl.objective import ActiveTerms, build_hyperparameters
from marl.stack import Snapshot, Stack
from marl.stack.batched_models import Model
from study.spec import TrialId
from study.spec.resolved_spec import ResolvedSpec, StackKey, StackPlan
from study.store import StudyStore
from study.training.planning import StackPool, is_out_of_memory
from study.training.replicate_io import Replicate

logger = logging.getLogger(__name__)

# On a GPU smaller groups take about the same time. On a CPU every model takes time, also a copy that pads a group.
_MAX_GROUP_SIZES = {"cuda": 16, "cpu": 2}
# How long a model waits for its group to fill. Intermediate reports are more urgent, because halving waits for them.
_INTERMEDIATE_WAIT_S, _FINAL_WAIT_S = 0.5, 2.0


def report_row(trial: TrialId, seed: int, step: int) -> dict[str, Any]:
    """Return a row of `reports/` without metrics."""
    return {"trial": trial, "seed": seed, "step": step, "metric_version": METRIC_VERSION}


@dataclass(frozen=True)
class PendingEvaluation:
    """Copy of a model at a budget, queued for evaluation while its replicate trains on.

    Attributes:
        snapshot: State to be written to the store; only at the full budget.
        since: When the replicate reached the budget, by `time.monotonic`.
    """

    replicate: Replicate
    step: int
    model: Model
    snapshot: Snapshot | None
    since: float = field(default_factory=time.monotonic)


def _has_waited(pending: PendingEvaluation) -> bool:
    wait_s = _INTERMEDIATE_WAIT_S if pending.snapshot is None else _FINAL_WAIT_S
    return time.monotonic() - pending.since >= wait_s


# A model, its metrics, and the posterior means and indices of the held-out clips.
_Evaluated = tuple[PendingEvaluation, dict[str, float], Tensor, Tensor]


class _StoredModel(NamedTuple):
    row: dict[str, Any]
    config: Config
    model: Model


def final_groups(resolved: ResolvedSpec) -> tuple[str, ...]:
    """Return the metric groups of final reports."""
    spec = resolved.spec
    return (*FINAL, *spec.metrics) if spec.final_metrics == "all" else _groups_of_objectives(resolved)


def is_rescorable(group: str) -> bool:
    """Return whether a group of metrics can be computed for stored models, which have no heads."""
    return metric_group(group).is_rescorable


def _groups_of_objectives(resolved: ResolvedSpec) -> tuple[str, ...]:
    groups = (*METRIC_GROUPS, *resolved.spec.metrics)
    needed = {*INTERMEDIATE, *groups_with(resolved.spec.objectives, resolved.factors, groups)}
    return tuple(name for name in groups if name in needed)


class Evaluator:
    """Evaluates models of a study in groups of a fixed size: at budgets during training, and stored ones after it.

    A group that is not full is padded with copies, so a model's metrics do not depend on the other models in its group.

    Attributes:
        group_size: Current number of models in a group. It is halved when memory runs out. It affects the last bits of
            some metrics.
    """

    def __init__(self, store: StudyStore, resolved: ResolvedSpec, stacks: StackPool) -> None:
        self.group_size = min(_MAX_GROUP_SIZES[stacks.device.type], stacks.plan.lanes)
        self._store, self._stacks = store, stacks
        self._full_budget, self._shared = resolved.spec.train.steps, resolved.spec.shared_factors
        # At rungs, trials are compared by their objectives.
        at_rungs = _groups_of_objectives(resolved)
        self._metric_groups_at = dict.fromkeys(resolved.spec.rungs(), at_rungs)
        self._metric_groups_at[self._full_budget] = final_groups(resolved)
        # Models in the order in which they reached their budgets.
        self._queues: dict[StackKey, list[PendingEvaluation]] = {}

    @property
    def is_busy(self) -> bool:
        """True while a model waits."""
        return any(self._queues.values())

    def add(self, key: StackKey, pending: PendingEvaluation) -> None:
        """Queue a model, unless it is queued already."""
        queue = self._queues.setdefault(key, [])
        if not any(other.replicate is pending.replicate and other.step == pending.step for other in queue):
            queue.append(pending)

    def remove(self, trial: TrialId) -> None:
        """Remove the models of a trial from the queues."""
        for key, queue in self._queues.items():
            self._queues[key] = [pending for pending in queue if pending.replicate.trial != trial]

    def evaluate_pending(self, flush: bool) -> Iterator[_Evaluated]:
        """Evaluate full groups, all groups of a queue in which a model has waited long enough, and with `flush` all.

        The posterior means, [N, D], have the latent widths of the stack.
        """
        for key in list(self._queues):
            while queue := self._queues[key]:
                group = self._next_group(queue)
                if not flush and len(group) < self.group_size and not any(map(_has_waited, queue)):
                    break
                yield from self._evaluate_group(key, group)

    def _metric_groups(self, pending: PendingEvaluation) -> Sequence[str]:
        return self._metric_groups_at.get(pending.step, INTERMEDIATE)

    def _next_group(self, queue: Sequence[PendingEvaluation]) -> list[PendingEvaluation]:
        """Return models with the metric groups of the first model, at most one model of each replicate.

        A replicate's models are evaluated in the order of their steps.
        """
        group: list[PendingEvaluation] = []
        passed: set[int] = set()
        for pending in queue:
            if id(pending.replicate) not in passed and self._metric_groups(pending) == self._metric_groups(queue[0]):
                group.append(pending)
            passed.add(id(pending.replicate))
        return group[: self.group_size]

    def _evaluate_group(self, key: StackKey, group: Sequence[PendingEvaluation]) -> Iterator[_Evaluated]:
        try:
            models = self._stacks.get(group[0].replicate.config).models
            batch = models.group([pending.model for pending in group], self.group_size)
            evaluation = evaluate(batch, self._shared, self._metric_groups(group[0]))
            clips, means_KND = held_out_clips(batch).cpu(), evaluation.means_KND.cpu()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self.group_size == 1:
                raise
            self.group_size //= 2
            logger.warning("out of memory: evaluation continues in groups of %d models", self.group_size)
            return
        self._queues[key] = [pending for pending in self._queues[key] if not any(pending is one for one in group)]
        for pending, metrics, mean_ND in zip(group, evaluation.metrics, means_KND, strict=False):
            yield pending, metrics, mean_ND, clips

    def evaluate_stored(
        self, replicates: Sequence[tuple[TrialId, int]], metric_groups: Sequence[str], split: str
    ) -> list[dict[str, Any]]:
        """Return a row of `reports/` for each replicate (trial, seed) with a final checkpoint in the store.

        A row has the finite metrics of groups, see `marl.evaluation.metric_group`. Metrics of the test split are named
        `test/<name>`.
        """
        prefix = "" if split == "validation" else f"{split}/"
        by_key: dict[StackKey, list[_StoredModel]] = {}
        for trial, seed in replicates:
            if stored := self._load(trial, seed):
                by_key.setdefault(self._stacks.key(stored.config), []).append(stored)
        rows = []
        for members in by_key.values():
            models, size = self._stacks.get(members[0].config).models, self.group_size
            for first in range(0, len(members), size):
                group = members[first : first + size]
                batch = models.group([stored.model for stored in group], size)
                metrics = evaluate(batch, self._shared, metric_groups, split).metrics
                for stored, values in zip(group, metrics, strict=False):
                    finite = {f"{prefix}{name}": value for name, value in values.items() if math.isfinite(value)}
                    rows.append(stored.row | finite)
        return rows

    def post_training_inputs(self, trial: TrialId, seed: int) -> tuple[dict[str, Any], PostTrainingInputs] | None:
        """Return a row to be completed, and the inputs of post-training metrics; None without a final checkpoint."""
        stored = self._load(trial, seed)
        if stored is None:
            return None
        models = self._stacks.get(stored.config).models
        return stored.row, post_training_inputs(models.group([stored.model], 1))

    def _load(self, trial: TrialId, seed: int) -> _StoredModel | None:
        saved = self._store.latest_checkpoint(trial, seed)
        if saved is None or saved.step != self._full_budget:
            return None
        metadata = ModelMetadata.model_validate_json(saved.files[METADATA_FILE])
        models = self._stacks.get(metadata.config).models
        network, device = models.objective_spec.network, models.dataset.device
        padded = network.pad(load_parameters(metadata, saved.files[MODEL_FILE]), network.mask(metadata.config.latent))
        hyperparameters = build_hyperparameters(models.objective_spec, metadata.config)
        model = Model(
            {name: value.to(device) for name, value in padded.items()},
            type(hyperparameters)(*(value.to(device) for value in hyperparameters)),
        )
        return _StoredModel(report_row(trial, seed, self._full_budget), metadata.config, model)


def update_baselines(store: StudyStore, resolved: ResolvedSpec, plan: StackPlan, dataset: Dataset) -> None:
    """Evaluate the untrained network, the reference point of hypervolumes, unless this version has done so.

    The network is that of the base configuration at the latent sizes of the widest trial, under the first seeds. It has
    no objective, so there are no losses. `baselines.json` is `{"untrained": {metric: mean, "<metric>/sd": standard
    deviation over seeds}, "replicates": seeds, "metric_version": version}`; with one seed there is no deviation. There
    is no baseline if that network does not fit the spectrograms, because patch sizes are searched over.
    """
    if (store.baselines() or {}).get("metric_version") == METRIC_VERSION:
        return
    spec, base = resolved.spec, resolved.base_config
    latent = base.latent.model_copy(update={"private": plan.private, "shared": plan.shared})
    config = Config(views=base.views.model_copy(update={"scheme": "factor"}), model=base.model, latent=latent)
    # Idle lanes would be evaluated, too, so there is one lane a seed.
    seeds = range(min(spec.replicates, plan.lanes))
    terms, pairs = ActiveTerms.of(config), spec.train.batch_pairs
    try:
        stack = Stack(plan.architecture(resolved.audio, config), len(seeds), dataset, config.views, pairs, terms)
    except ValueError:
        return
    for seed in seeds:
        stack.attach(config, seed)
    metric_groups = [name for name in final_groups(resolved) if is_rescorable(name)]
    rows = evaluate(stack.models, spec.shared_factors, metric_groups).metrics
    untrained: dict[str, float] = {}
    for name in rows[0]:
        values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        if values.isfinite().all():
            untrained[name] = float(values.mean())
            if len(rows) > 1:
                untrained[f"{name}/sd"] = float(values.std())
    store.write_baselines({"untrained": untrained, "replicates": len(rows), "metric_version": METRIC_VERSION})
