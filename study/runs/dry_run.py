"""How many bytes a study will write at most, from the shapes of its networks, before anything trains."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from marl.config import MultiscaleWeights
from marl.data import HELD_OUT_SHARE, ComputedDatasetConfig, Factor
from marl.evaluation import HELD_OUT_CLIPS, metric_names
from marl.models import build_network
from study.datasets.load import dataset_of, factors_of
from study.formatting import format_bytes
from study.search.sampler import Search
from study.spec import Scalar, Spec
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.storage import ObjectStore
from study.store.tables import MIN_SEGMENTS_TO_COMPACT, to_parquet
from study.training.planning import device_type, plan_stacks, steps_per_second

__all__ = ["Footprint", "describe", "footprint", "footprint_line"]

_BYTES_PER_PARAMETER = 4  # float32; the optimiser keeps two moments of each
_HEADER_PER_TENSOR = 128
_LOSS_TERMS = 8  # that every objective has
_DETAILS = 4  # columns that say how sure others are, and columns of an examination
# What is written once, or once for each run: the spec, baselines, a run's lease.
_ONCE = 20_000
# What a sampler remembers of a trial.
_ATTRIBUTES = 1_000


class Footprint(NamedTuple):
    """Bytes, at most, by what they are for.

    Attributes:
        models: weights of all replicates, and what is written beside them.
        latents: samples of all replicates' latents.
        tables: trials and reports.
        training: checkpoints of what is in the lanes of one trainer, which are gone in the end.
    """

    models: int
    latents: int
    tables: int
    training: int

    @property
    def kept(self) -> int:
        """What is there in the end."""
        return self.models + self.latents + self.tables


def footprint(resolved: ResolvedSpec, plan: StackPlan, trials: int, factors: Sequence[Factor]) -> Footprint:
    """What so many trials of a study write, if each of them comes to its end with the largest model of the space."""
    spec = resolved.spec
    replicates = trials * spec.replicates
    parameters, tensors, heads = _largest(resolved, plan)
    row = _report(resolved, factors)
    record = len(spec.budgets()) * len(json.dumps(row)) + len(spec.model_dump_json()) + 1_000
    model = parameters * _BYTES_PER_PARAMETER + tensors * _HEADER_PER_TENSOR + record
    state = (2 * parameters + 3 * heads) * _BYTES_PER_PARAMETER + 3 * tensors * _HEADER_PER_TENSOR
    trial = {f"config/{name}": f"{math.pi}" for name in spec.space} | {"sampler": "x" * _ATTRIBUTES, "error": "x" * 200}
    return Footprint(
        models=replicates * model,
        latents=replicates * _latents(resolved, plan),
        tables=_table(trials * len(spec.budgets()), [row] * spec.replicates)
        + (_table(trials, [_final(spec, factors)] * spec.replicates) if spec.post_training else 0)
        + _table(2 * trials, [trial])
        + _ONCE,
        training=min(plan.lanes, replicates) * (model + state),
    )


def footprint_line(found: Footprint, uri: str) -> str:
    """The same for a person."""
    total = format_bytes(found.kept + found.training)
    return f"will write at most {total} to {uri}, {format_bytes(found.training)} of it only while it trains"


def _largest(resolved: ResolvedSpec, plan: StackPlan) -> tuple[int, int, int]:
    """Parameters of the largest model, tensors, and parameters of heads, which only training knows.

    It has each size at one of its ends, but which one is not obvious.
    """
    heads, space = resolved.terms.heads, resolved.spec.space
    sizes = {name: _ends(parameter.extremes()) for name, parameter in space.items() if name.startswith("model.")}
    found = []
    for values in itertools.product(*sizes.values()):
        config = resolved.trial_config(dict(zip(sizes, values, strict=True)))
        try:
            specs = build_network(plan.architecture(resolved.audio, config), heads).parameter_specs.values()
        except ValueError:  # sizes that do not fit together are no trial's
            continue
        model, of_heads = (
            sum(math.prod(parameter.shape) for parameter in specs if (parameter.head is not None) == is_head)
            for is_head in (False, True)
        )
        found.append((model, len(specs), of_heads))
    return max(found, default=(0, 0, 0))


def _ends(values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """The least and the greatest number; all of what is no number."""
    numbers = [value for value in values if not isinstance(value, str)]
    return (min(numbers), max(numbers)) if len(numbers) == len(values) else values


def _latents(resolved: ResolvedSpec, plan: StackPlan) -> int:
    """Of one replicate: a column for each latent, the factors, and the clip."""
    data = resolved.data
    clips = HELD_OUT_CLIPS
    if isinstance(data, ComputedDatasetConfig):
        clips = min(clips, int(data.size * HELD_OUT_SHARE))
    # Numbers as they will be written: single precision for latents, double for factors.
    latents = [f"latent/{index}" for index in range(plan.private + plan.shared)]
    noise = _noise()
    rows = [
        {name: np.float32(next(noise)) for name in latents}
        | {name: next(noise) for name in (*data.factor_names, "clip")}
        for _ in range(clips)
    ]
    return len(to_parquet(rows))


def _metrics(factors: Sequence[Factor]) -> list[str]:
    """Columns of a final report, without losses."""
    classes = sum(factor.classes for factor in factors)
    details = (f"a_detail_{index}" for index in range(classes + _DETAILS))
    return [*metric_names([factor.name for factor in factors]), *details]


def _final(spec: Spec, factors: Sequence[Factor]) -> dict[str, float]:
    """A row of what is measured after training."""
    names = ["trial", "seed", "step", "metric_version", "time"]
    names += [f"test/{name}" for name in _metrics(factors)] if "test" in spec.post_training else []
    names += [f"{name}_{index}" for name in spec.post_training for index in range(_DETAILS)]
    return dict(zip(names, _noise(), strict=False))


def _report(resolved: ResolvedSpec, factors: Sequence[Factor]) -> dict[str, float]:
    """A row of reports, of random numbers: they do not compress, as those of real ones do not."""
    names = ["trial", "seed", "step", "metric_version", "time", *_metrics(factors)]
    terms = resolved.terms
    more = len(terms.contrasts) + len(terms.independence) + len(MultiscaleWeights.model_fields) * terms.multiscale
    names += [f"loss/a_term_{index}" for index in range(_LOSS_TERMS + more)]
    return dict(zip(names, _noise(), strict=False))


def _table(events: int, rows: list[dict[str, Any]]) -> int:
    """Of rows that are written with each event: a part of their own, until many parts are put into one."""
    parts = min(events, MIN_SEGMENTS_TO_COMPACT) + events // MIN_SEGMENTS_TO_COMPACT
    in_wholes = max(0, events - MIN_SEGMENTS_TO_COMPACT) * len(rows)
    return parts * len(to_parquet(rows)) + in_wholes * len(json.dumps(list(rows[0].values())))


def _noise() -> Iterator[float]:
    random = np.random.default_rng(0)
    while True:
        yield float(random.normal())


_TIMED_S = 2.0


def describe(resolved: ResolvedSpec, objects: ObjectStore) -> str:
    """The resolved spec, the number of trials and steps, and a time that is measured, not guessed.

    A stack of the study is made on this machine and trained for two seconds; where the study will be compiled, that
    warms the compiler's cache. Reports, probes and the start of Ray come on top: two fifths of the whole in the
    quickstart on two cores, less in a longer study.
    """
    spec, device = resolved.spec, device_type()
    plan = plan_stacks(resolved, device, objects)
    trials = spec.search.trials or 0
    config = resolved.trial_config(Search(spec).ask(0))
    stack = plan.stack(resolved, config, dataset_of(resolved, objects, torch.device(device)))
    for seed in range(plan.lanes):
        stack.attach(config, seed)
    rate = steps_per_second(stack, _TIMED_S)
    replicates = trials * spec.replicates
    expected = trials * spec.expected_steps()
    seconds = (expected + spec.replicates * spec.train.steps) / plan.lanes / rate  # with the plain VAE
    halved = f", about {expected:,} with halving" if spec.halving else ""
    size = footprint(resolved, plan, trials + 1, factors_of(resolved, objects))
    text = yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False)
    return (
        f"{text}\n"
        f"# {trials} trials x {spec.replicates} replicates x {spec.train.steps} steps = "
        f"{replicates * spec.train.steps:,} trial-steps{halved}, and a plain VAE to compare with, "
        f"into {objects.uri}/{spec.name}\n"
        f"# {plan.lanes} lanes on {device}, {plan.precision}, {plan.why}: "
        f"{rate * plan.lanes:.0f} trial-steps/s measured, so about {seconds / 60:.1f} minutes of training\n"
        f"# {footprint_line(size, f'{objects.uri}/{spec.name}')}"
    )
