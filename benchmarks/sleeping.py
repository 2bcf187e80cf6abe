"""A launch of a study whose trainer sleeps and makes its metrics up: all that a study is but training.

As with the real trainer, every trial imports this module, so nothing here imports torch before it is needed.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import ray

from study import trainers
from study.objects import Objects
from study.store import StudyStore

__all__ = ["SleepingTrainer", "without_training"]


class SleepingTrainer:
    """Answers as `study.trainer.Trainer` does, and trains nothing.

    Attributes:
        sleep_s: seconds before each report.
    """

    sleep_s = 0.0

    def __init__(self, store_uri: str, study: str, device: str, versions: Mapping[str, str]) -> None:
        from marl.evaluation import metric_names
        from marl.metrics import METRIC_VERSION

        document = StudyStore(Objects(store_uri), study).document()
        self._budgets = document.spec.budgets()
        self._replicates = document.spec.replicates
        self._metrics = metric_names(document.factors)
        self._version = METRIC_VERSION
        self._lanes = document.stack["lanes"]
        self._at_once = min(-(-self._lanes // self._replicates), document.spec.search.trials or 1)
        self._all_are_there = asyncio.Event()
        self._steps: dict[int, int] = {}
        self._trained = 0

    async def next_report(
        self, trial: int, parameters: Mapping[str, Any], after: int, is_suspected: bool, knows_it_is_alone: bool
    ) -> dict[str, Any]:
        # Real trials last longer than processes take to start. If these ended earlier, Tune would give their processes
        # to trials whose own are still starting, stop those, and so start a process for every few trials.
        self._steps.setdefault(trial, 0)
        if len(self._steps) >= self._at_once:
            self._all_are_there.set()
        await self._all_are_there.wait()
        await asyncio.sleep(self.sleep_s)
        step = next(budget for budget in self._budgets if budget > after)
        self._steps[trial] = step
        self._trained += (step - after) * self._replicates
        return {"step": step, "rows": [self._row(trial, seed, step) for seed in range(self._replicates)]}

    async def detach(self, trial: int) -> None:
        self._steps.pop(trial, None)

    async def discard(self, trial: int) -> None:
        """There are no checkpoints."""

    async def scores(self, replicates: list[tuple[int, int]], measures: list[str], split: str) -> list[dict[str, Any]]:
        """There is nothing to measure."""
        return []

    async def material(self, trial: int, seed: int) -> None:
        """There is nothing to measure."""

    async def progress(self) -> dict[str, Any]:
        replicates = [(trial, seed, step) for trial, step in self._steps.items() for seed in range(self._replicates)]
        return {
            "phase": "training",
            "ready": True,
            "device": "none",
            "replicates": replicates,
            "trained_steps": self._trained,
            "lane_steps": self._trained,
            "lanes": self._lanes,
            "seconds": {"training": 0.0, "evaluation": 0.0, "idle": 0.0},
            "notices": [],
        }

    async def drain(self) -> None:
        """There is nothing to keep."""

    async def end(self) -> None:
        """The process ends with Ray."""

    def _row(self, trial: int, seed: int, step: int) -> dict[str, Any]:
        numbers = random.Random(f"{trial}/{seed}/{step}")
        # Late trials are not better than early ones, so that fronts stay of one size.
        metrics = {name: numbers.random() for name in self._metrics}
        return {"trial": trial, "seed": seed, "step": step, "metric_version": self._version, **metrics}


@contextmanager
def without_training(
    store: StudyStore, sleep_s: float, ended: Callable[[], None], stopping: Callable[[str], None]
) -> Iterator[None]:
    """Within it, the first launch of a study finds a trainer that sleeps.

    Args:
        store: the study.
        sleep_s: seconds before each report.
        ended: called when a trial is over.
        stopping: called with the folder of Ray's session before Ray is stopped.
    """
    from study import launch, ray_session
    from study.provenance import versions

    class Sleeping(SleepingTrainer):  # of this function, so Ray sends it to the actor as it is here
        pass

    Sleeping.sleep_s = sleep_s

    class LocalRay(ray_session.LocalRay):
        def __enter__(self) -> None:
            super().__enter__()
            # The driver starts it as a trial would, so it has the name that all trials look for.
            with mock.patch.object(trainers, "Trainer", Sleeping):
                self._trainer = trainers.find_or_start(store.objects.uri, store.name, 1, versions())
            ray.get(self._trainer.progress.remote())

        def __exit__(self, *error: object) -> None:
            stopping(self._folder.name)
            super().__exit__(*error)

    class Driver(launch._Driver):
        def _changed(self, number: int, state: str, *more: Any) -> None:
            super()._changed(number, state, *more)
            if state != "running" and number >= 0:
                ended()

    with (
        mock.patch.object(launch, "ray_session", side_effect=lambda address: LocalRay()),
        mock.patch.object(launch, "_Driver", Driver),
        mock.patch.object(ray_session, "device_type", return_value="cpu"),
    ):
        yield
