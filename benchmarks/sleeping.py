"""A study with trainers that sleep and report synthetic metrics: everything but the training.

Every trial imports this module, so torch is imported only where needed, as in the real trainer.
"""

import asyncio
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.store import StudyStore
from study.training import client as trainers

__all__ = ["SleepingTrainer", "without_training"]

_LOOK_EVERY_S = 0.2
_OF_A_NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_log_monitor": False}


class SleepingTrainer:
    """Answers as `study.training.trainer.Trainer` does, and trains nothing.

    Attributes:
        sleep_s: seconds before each report.
        budgets: steps of the reports of a trial.
        replicates: of each trial.
        lanes: of a stack.
        metrics: names of what is reported; version: theirs.
        meeting: a folder in which each trial leaves a mark when it begins.
        at_once: as many trials as run side by side on all trainers.
    """

    sleep_s = 0.0
    budgets: Sequence[int] = ()
    replicates = lanes = at_once = version = 1
    metrics: Sequence[str] = ()
    meeting = Path()

    def __init__(self, store_uri: str, study: str, device: str, versions: Mapping[str, str]) -> None:
        self._all_are_there = False
        self._steps: dict[int, int] = {}
        self._trained = 0

    async def next_report(
        self, trial: int, parameters: Mapping[str, Any], after: int, is_suspected: bool, knows_it_is_alone: bool
    ) -> dict[str, Any]:
        # Real trials last longer than processes take to start. If these ended earlier, Tune would give their processes
        # to trials whose own are still starting, stop those, and so start a process for every few trials.
        self._steps.setdefault(trial, 0)
        if not self._all_are_there:
            (self.meeting / str(trial)).touch()
            while len(list(self.meeting.iterdir())) < self.at_once:
                await asyncio.sleep(_LOOK_EVERY_S)
            self._all_are_there = True
        await asyncio.sleep(self.sleep_s)
        step = next(budget for budget in self.budgets if budget > after)
        self._steps[trial] = step
        self._trained += (step - after) * self.replicates
        return {"step": step, "rows": [self._row(trial, seed, step) for seed in range(self.replicates)]}

    async def detach(self, trial: int) -> None:
        self._steps.pop(trial, None)

    async def discard(self, trial: int) -> None:
        """There are no checkpoints."""

    async def evaluate(
        self, replicates: list[tuple[int, int]], metric_groups: list[str], split: str
    ) -> list[dict[str, Any]]:
        """There is nothing to measure."""
        return []

    async def post_training_inputs(self, trial: int, seed: int) -> None:
        """There is nothing to measure."""

    async def progress(self) -> dict[str, Any]:
        replicates = [(trial, seed, step) for trial, step in self._steps.items() for seed in range(self.replicates)]
        return {
            "phase": "training",
            "ready": True,
            "device": "none",
            "replicates": replicates,
            "trained_steps": self._trained,
            "lane_steps": self._trained,
            "lanes": self.lanes,
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
        metrics = {name: numbers.random() for name in self.metrics}
        return {"trial": trial, "seed": seed, "step": step, "metric_version": self.version, **metrics}


@contextmanager
def without_training(
    store: StudyStore,
    sleep_s: float,
    nodes: int,
    at_once: int,
    ended: Callable[[], None],
    stopping: Callable[[str], None],
) -> Iterator[None]:
    """Within it, the first run of a study finds trainers that sleep.

    Args:
        store: the study.
        sleep_s: seconds before each report.
        nodes: of a cluster of Ray on this machine, a processor and a trainer on each; 0 for a Ray of the run's own.
        at_once: trials side by side, which wait for each other in the beginning.
        ended: Called when a trial has finished.
        stopping: called with the folder of Ray's session before Ray is stopped.
    """
    from marl.evaluation import metric_names
    from marl.metrics import METRIC_VERSION
    from study.runs import driver as launch
    from study.runs import ray_cluster as ray_session

    metadata = store.metadata()

    class Sleeping(SleepingTrainer):  # of this function, so Ray sends it to the actor as it is here
        pass

    Sleeping.sleep_s = sleep_s
    Sleeping.budgets = metadata.spec.budgets()
    Sleeping.replicates = metadata.spec.replicates
    Sleeping.lanes = metadata.stack["lanes"]
    Sleeping.metrics, Sleeping.version = metric_names(metadata.factors), METRIC_VERSION
    Sleeping.at_once = at_once

    class OneNode(ray_session.LocalRay):
        def __enter__(self) -> None:
            super().__enter__()
            self._trainer = _start(Sleeping, store.objects.uri, store.name)

        def __exit__(self, *error: object) -> None:
            stopping(self._folder.name)
            super().__exit__(*error)

    class Driver(launch._Driver):
        def _changed(self, number: int, state: str, *more: Any) -> None:
            super()._changed(number, state, *more)
            if state not in ("running", "interrupted") and isinstance(number, int):
                ended()

    def session(address: str | None) -> AbstractContextManager[None]:
        return OneNode() if not nodes else _many_nodes(nodes, Sleeping, store, stopping)

    with (
        tempfile.TemporaryDirectory(prefix="benchmark-meeting-") as meeting,
        mock.patch.object(launch, "ray_session", side_effect=session),
        mock.patch.object(launch, "_Driver", Driver),
        mock.patch.object(ray_session, "device_type", return_value="cpu"),
    ):
        Sleeping.meeting = Path(meeting)
        yield


@contextmanager
def _many_nodes(
    count: int, trainer: type[SleepingTrainer], store: StudyStore, stopping: Callable[[str], None]
) -> Iterator[None]:
    """A cluster of Ray whose nodes are all on this machine: a head that trains nothing, and others with a trainer."""
    from ray.cluster_utils import Cluster

    from study.runs import ray_cluster as ray_session

    ray_session._be_quiet()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(**_OF_A_NODE)
        ray.init(address=cluster.address, namespace=trainers.NAMESPACE, log_to_driver=False, logging_level="CRITICAL")
        start = ray.remote(num_cpus=0)(_start)
        others = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")]
        there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in others]
        handles = [
            start.options(scheduling_strategy=where).remote(trainer, store.objects.uri, store.name) for where in there
        ]
        ray.get(handles)
        yield
        stopping(ray._private.worker.global_worker.node.get_session_dir_path())
    finally:
        ray.shutdown()
        cluster.shutdown()


def _start(trainer: type[SleepingTrainer], store_uri: str, study: str) -> Any:
    """Start a trainer here, as the first trial would, so it has the name that all trials look for."""
    from study.environment import versions

    with mock.patch.object(trainers, "Trainer", trainer):
        handle = trainers.find_or_start(store_uri, study, 1, versions())
    ray.get(handle.progress.remote())
    return handle
