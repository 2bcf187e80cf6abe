"""Estimates before a study trains: the size of what it writes, and the duration of training."""

import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from marl.config import MultiscaleWeights
from marl.data import HELD_OUT_SHARE, ComputedDatasetConfig, Factor
from marl.evaluation import HELD_OUT_CLIPS
from marl.models import build_network
from study.datasets import check_pairs, dataset_of, factors_of
from study.errors import UserError, option
from study.formatting import format_bytes
from study.search.sampler import Search
from study.spec import Scalar
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.storage import RUN_RETRY_TIMEOUT_S, ObjectStore
from study.store.tables import MIN_SEGMENTS_TO_COMPACT, to_parquet
from study.training.planning import device_type, plan_stacks, steps_per_second

_BYTES_PER_PARAMETER = 4  # float32
_HEADER_PER_TENSOR = 128
_RECORD_BYTES = 1_000
_COMMON_LOSS_TERMS = 8
_AUXILIARY_COLUMNS = 4  # of a group of metrics: standard errors over clips and floors
_AUXILIARY_COLUMNS_OF_FACTOR = 10  # standard errors of information, and R², of each reader and subspace
# The spec, baselines, and records of runs.
_FIXED_BYTES = 20_000
_SAMPLER_BYTES, _ERROR_BYTES = 1_000, 200  # of a row of trials
_MEASURED_S = 2.0


class StorageEstimate(NamedTuple):
    """Upper bounds of what a study writes, in bytes.

    Checkpoints for `training`, of the replicates in the lanes of one trainer, are deleted when these have finished.
    """

    models: int
    latents: int
    tables: int
    training: int

    @property
    def kept(self) -> int:
        """Size of the finished study."""
        return self.models + self.latents + self.tables


def estimate_storage(
    resolved: ResolvedSpec, plan: StackPlan, trials: int, factors: Sequence[Factor]
) -> StorageEstimate:
    """Return the storage for a number of trials that all reach the full budget with the largest model of the space."""
    spec = resolved.spec
    replicates = trials * spec.replicates
    parameters, tensors, head_parameters = _largest_model(resolved, plan)
    report, post_training_report = _reports(resolved, factors)
    record = len(spec.budgets()) * len(json.dumps(report)) + len(spec.model_dump_json()) + _RECORD_BYTES
    model = parameters * _BYTES_PER_PARAMETER + tensors * _HEADER_PER_TENSOR + record
    # Adam keeps two moments of each parameter; heads are not part of the model, so their weights are here, too.
    state = (2 * parameters + 3 * head_parameters) * _BYTES_PER_PARAMETER + 3 * tensors * _HEADER_PER_TENSOR
    trial = {f"config/{name}": f"{math.pi}" for name in spec.space}
    trial |= {"sampler": "x" * _SAMPLER_BYTES, "error": "x" * _ERROR_BYTES}
    tables = _table_bytes(trials * len(spec.budgets()), [report] * spec.replicates) + _table_bytes(2 * trials, [trial])
    if spec.post_training:
        tables += _table_bytes(trials, [post_training_report] * spec.replicates)
    return StorageEstimate(
        models=replicates * model,
        latents=replicates * _latents_bytes(resolved, plan),
        tables=tables + _FIXED_BYTES,
        training=min(plan.lanes, replicates) * (model + state),
    )


def storage_line(estimate: StorageEstimate, uri: str) -> str:
    """Return the estimate as a line of text."""
    total = format_bytes(estimate.kept + estimate.training)
    return f"will write at most {total} to {uri}, {format_bytes(estimate.training)} of it only during training"


def check_free_space(estimate: StorageEstimate, uri: str, halving: bool) -> str | None:
    """Compare the free space of a store's disk with the estimate of what a run writes.

    Args:
        estimate: Upper bounds of what the run writes. A study without halving writes at least half of it.
        uri: Address of the store. Only folders of this machine have a known size.
        halving: Whether trials may stop early.

    Returns:
        A warning if the disk may become full, else None.

    Raises:
        UserError: If the run cannot fit.
    """
    if "://" in uri:
        return None
    folder = Path(uri)
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    needed = estimate.kept + estimate.training
    if free >= needed:
        return None
    message = f"store {uri} has {format_bytes(free)} free, and the run may write {format_bytes(needed)}"
    if free < needed / 2 and not halving:
        raise UserError(f"{message}; free some space, or use another {option('store')}")
    return f"{message}; when the disk is full, the run retries for {RUN_RETRY_TIMEOUT_S / 60:.0f} min and then stops"


def describe_dry_run(
    resolved: ResolvedSpec, objects: ObjectStore, on_step: Callable[[str], None] = lambda _: None
) -> str:
    """Return the resolved spec as YAML, and comments with its number of steps, duration and storage.

    The duration is computed from the speed of a stack that trains for two seconds on this machine. It does not include
    evaluation and the start of Ray: two fifths of the total in the quickstart on two cores, less in longer studies. If
    the study is compiled, this fills the compiler's cache. `on_step` is called with the name of each step.
    """
    check_pairs(resolved, objects)
    spec, device = resolved.spec, device_type()
    on_step(f"planning stacks for {device}")
    plan = plan_stacks(resolved, device, objects)
    trials = spec.search.trials or 0
    config = resolved.trial_config(Search(spec).ask(0))
    on_step("computing spectrograms" if isinstance(resolved.data, ComputedDatasetConfig) else "reading spectrograms")
    stack = plan.stack(resolved, config, dataset_of(resolved, objects, torch.device(device)))
    for seed in range(plan.lanes):
        stack.attach(config, seed)
    on_step(f"measuring the speed of {plan.lanes} lanes{' after a minute of compilation' if plan.compiled else ''}")
    rate = steps_per_second(stack, _MEASURED_S) * plan.lanes
    expected = trials * spec.expected_steps()
    minutes = (expected + spec.replicates * spec.train.steps) / rate / 60  # with the plain VAE
    halving = f", about {expected:,} with halving" if spec.halving else ""
    storage, uri = estimate_storage(resolved, plan, trials + 1, factors_of(resolved, objects)), objects.uri
    return (
        f"{yaml.safe_dump(spec.model_dump(mode='json', exclude_none=True), sort_keys=False)}\n"
        f"# {trials} trials x {spec.replicates} replicates x {spec.train.steps} steps = "
        f"{trials * spec.replicates * spec.train.steps:,} trial-steps{halving}, and a plain VAE for comparison, "
        f"into {uri}/{spec.name}\n"
        f"# {plan.lanes} lanes on {device}, {plan.precision}, {plan.why}: "
        f"{rate:.0f} trial-steps/s measured, so about {minutes:.1f} minutes of training\n"
        f"# {storage_line(storage, f'{uri}/{spec.name}')}"
    )


def _largest_model(resolved: ResolvedSpec, plan: StackPlan) -> tuple[int, int, int]:
    """Return the number of parameters of the space's largest model, of its tensors, and of parameters of its heads.

    Each size is at one of its ends in the largest model, but not always at the upper one.
    """
    heads, space = resolved.terms.heads, resolved.spec.space
    ends = {name: _ends(parameter.extremes()) for name, parameter in space.items() if name.startswith("model.")}
    counts = []
    for values in itertools.product(*ends.values()):
        config = resolved.trial_config(dict(zip(ends, values, strict=True)))
        try:
            specs = build_network(plan.architecture(resolved.audio, config), heads).parameter_specs.values()
        except ValueError:  # no trial has sizes that do not fit together
            continue
        model, of_heads = (
            sum(math.prod(parameter.shape) for parameter in specs if (parameter.head is not None) == is_head)
            for is_head in (False, True)
        )
        counts.append((model, len(specs), of_heads))
    return max(counts, default=(0, 0, 0))


def _ends(values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """Return the smallest and the largest value if all are numbers, else all values."""
    numbers = [value for value in values if not isinstance(value, str)]
    return (min(numbers), max(numbers)) if len(numbers) == len(values) else values


def _latents_bytes(resolved: ResolvedSpec, plan: StackPlan) -> int:
    """Return the size of the latents of one replicate: rows of latents, factors and the clip."""
    data, clips = resolved.data, HELD_OUT_CLIPS
    if isinstance(data, ComputedDatasetConfig):
        clips = min(clips, int(data.size * HELD_OUT_SHARE))
    latents = [f"latent/{index}" for index in range(plan.private + plan.shared)]
    noise = _noise()
    rows = [
        {name: np.float32(next(noise)) for name in latents}  # as latents are written
        | {name: next(noise) for name in (*data.factor_names, "clip")}
        for _ in range(clips)
    ]
    return len(to_parquet(rows))


def _reports(resolved: ResolvedSpec, factors: Sequence[Factor]) -> tuple[dict[str, float], dict[str, float]]:
    """Return rows like a final and a post-training report, with placeholders for classes and auxiliary columns.

    Their random values compress as badly as real ones.
    """
    terms, groups = resolved.terms, resolved.spec.post_training
    extra = sum(factor.classes + _AUXILIARY_COLUMNS_OF_FACTOR for factor in factors) + _AUXILIARY_COLUMNS
    metrics = [*resolved.metrics, *(f"a_detail_{index}" for index in range(extra))]
    losses = len(terms.contrasts) + len(terms.independence) + len(MultiscaleWeights.model_fields) * terms.multiscale
    final = [*metrics, *(f"loss/a_term_{index}" for index in range(_COMMON_LOSS_TERMS + losses))]
    late = [f"test/{name}" for name in metrics] if "test" in groups else []
    late += [f"{name}_{index}" for name in groups for index in range(_AUXILIARY_COLUMNS)]
    key = ["trial", "seed", "step", "metric_version", "time"]
    return dict(zip([*key, *final], _noise(), strict=False)), dict(zip([*key, *late], _noise(), strict=False))


def _table_bytes(events: int, rows: list[dict[str, Any]]) -> int:
    """Return the size of a table to which each event appends the same rows as a segment, after compaction."""
    segments = min(events, MIN_SEGMENTS_TO_COMPACT) + events // MIN_SEGMENTS_TO_COMPACT
    compacted_rows = max(0, events - MIN_SEGMENTS_TO_COMPACT) * len(rows)
    return segments * len(to_parquet(rows)) + compacted_rows * len(json.dumps(list(rows[0].values())))


def _noise() -> Iterator[float]:
    random = np.random.default_rng(0)
    while True:
        yield float(random.normal())
