"""Lanes in this process: what a trainer does, without Ray."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from study.spec.resolved_spec import StackPlan
from study.store import StudyStore
from study.training.lanes import Lanes
from study.training.trials import Failure, Report
from tests.study.stores import new_store

__all__ = [
    "CONTRASTIVE",
    "PLAIN",
    "SEEDS",
    "by_key",
    "finish",
    "kept_stacks",
    "lanes_on",
    "restored_reports",
    "trained_alone",
]

SEEDS = (0, 1)
PLAIN = {"loss.private.gamma": 1.0, "latent.private": 2, "contrast.strategy": "none"}
CONTRASTIVE = {
    "loss.private.gamma": 2.0,
    "latent.private": 4,
    "contrast.strategy": "infonce",
    "contrast.temperature": 0.2,
}


def lanes_on(store: StudyStore) -> Lanes:
    return Lanes(store, torch.device("cpu"))


def finish(lanes: Lanes) -> list[Report | Failure]:
    results = []
    while lanes.is_busy:
        results += lanes.advance(interrupted=lambda: False)
    return results


def restored_reports(lanes: Lanes, *added) -> list[Report | Failure]:
    """Queue a trial, and return the reports in its checkpoints, before any step is trained."""
    lanes.add(*added)
    lanes.finish()
    return lanes.advance(interrupted=lambda: True)


def by_key(results) -> dict[tuple[int, int, int], dict]:
    return {(report.trial, report.row["seed"], report.row["step"]): report.row for report in results}


def trained_alone(location, content, trial, parameters) -> dict[tuple[int, int, int], dict]:
    """Return the reports of a trial that trains alone. By law 1, neighbours and interruptions change none of them."""
    lanes = lanes_on(new_store(location, content))
    lanes.add(trial, parameters, SEEDS)
    return by_key(finish(lanes))


@contextmanager
def kept_stacks() -> Iterator[None]:
    """Create equal stacks once, and empty them for the next lanes, because recording a step takes long.

    The earlier replicates of a lane change no result.
    """
    made = {}
    make = StackPlan.stack

    def stack(plan, resolved, config, dataset):
        spec = resolved.spec.model_dump_json(exclude={"name", "train", "replicates", "halving", "search", "resources"})
        key = (str(plan), str(plan.stack_key(resolved.audio, config)), spec, resolved.spec.train.batch_pairs)
        if key not in made:
            made[key] = make(plan, resolved, config, dataset)
        for lane in set(range(plan.lanes)) - set(made[key].free_lanes):
            made[key].detach(lane)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StackPlan, "stack", stack)
        yield
