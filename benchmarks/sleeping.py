"""A study without its training: the trainers sleep and report synthetic metrics.

Every trial imports this module, so torch is imported only where needed, as in the real trainer.
"""

import asyncio
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.store import StudyStore
from study.training import client as trainers
from study.training.nodes import NAMESPACE

_LOOK_EVERY_S = 0.2
_OF_A_NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_log_monitor": False}


class SleepingTrainer:
    """Implements the interface of `study.training.trainer.Trainer` without training.

    Attributes:
        sleep_s: Seconds before each report.
        budgets: Steps of a trial's reports.
        meeting: Folder in which each trial creates a file when it starts.
        at_once: Number of concurrent trials on all trainers.
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
        # Real trials last longer than the start of a process. If these ended earlier, Tune would reuse their processes
        # for trials whose processes are still starting, stop the latter, and start a process for every few trials.
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
        """Do nothing: there are no checkpoints."""

    async def evaluate(
        self, replicates: list[tuple[int, int]], metric_groups: list[str], split: str
    ) -> list[dict[str, Any]]:
        return []

    async def post_training_inputs(self, trial: int, seed: int) -> None:
        """Do nothing: there is no model."""

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

    async def update_baselines(self) -> None:
        """Do nothing: there is no network."""

    async def drain(self) -> None:
        """Do nothing: there is no state."""

    async def end(self) -> None:
        """Do nothing: the process ends with Ray."""

    def _row(self, trial: int, seed: int, step: int) -> dict[str, Any]:
        numbers = random.Random(f"{trial}/{seed}/{step}")
        # Late trials are not better than early ones, so that the front does not grow.
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
    """Patch the driver so that the first run of a study uses sleeping trainers.

    Args:
        sleep_s: Seconds before each report.
        nodes: Number of Ray nodes on this machine, each with one processor and one trainer; 0 for the run's local Ray.
        at_once: Number of concurrent trials. The first ones wait for each other.
        ended: Called when a trial has finished.
        stopping: Called with Ray's session folder before Ray is stopped.
    """
    from marl.evaluation import metric_names
    from marl.metrics import METRIC_VERSION
    from study.runs import driver, ray_cluster

    metadata = store.metadata()

    class Sleeping(SleepingTrainer):  # Ray sends a local class to the actor by value, with these attributes
        budgets, replicates = metadata.spec.budgets(), metadata.spec.replicates
        lanes = metadata.stack["lanes"]
        metrics, version = metric_names(metadata.factors), METRIC_VERSION

    Sleeping.sleep_s, Sleeping.at_once = sleep_s, at_once

    @contextmanager
    def one_node() -> Iterator[None]:
        with ray_cluster.local_ray() as folder:
            trainer = _start(Sleeping, store.objects.uri, store.name)  # lives as long as there is a handle
            try:
                yield
            finally:
                stopping(folder)
                del trainer

    class Driver(driver._Driver):
        def _on_state(self, number: int, state: str, *more: Any) -> None:
            super()._on_state(number, state, *more)
            if state not in ("running", "interrupted") and isinstance(number, int):
                ended()

    session = _many_nodes(nodes, Sleeping, store, stopping) if nodes else one_node()
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-meeting-") as meeting,
        mock.patch.object(driver, "ray_session", return_value=session),
        mock.patch.object(driver, "_Driver", Driver),
        mock.patch.object(ray_cluster, "device_type", return_value="cpu"),
    ):
        Sleeping.meeting = Path(meeting)
        yield


@contextmanager
def _many_nodes(
    count: int, trainer: type[SleepingTrainer], store: StudyStore, stopping: Callable[[str], None]
) -> Iterator[None]:
    """Start a Ray cluster on this machine: a head without a trainer and `count` nodes with one."""
    from ray.cluster_utils import Cluster

    from study.runs import ray_cluster

    ray_cluster.configure_ray()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(**_OF_A_NODE)
        ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level="CRITICAL")
        start = ray.remote(num_cpus=0)(_start)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")]
        there = [start.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)) for node in nodes]
        ray.get([one.remote(trainer, store.objects.uri, store.name) for one in there])
        yield
        stopping(ray._private.worker.global_worker.node.get_session_dir_path())
    finally:
        ray.shutdown()
        cluster.shutdown()


def _start(trainer: type[SleepingTrainer], store_uri: str, study: str) -> Any:
    """Start a trainer on this node under the name by which all trials find it."""
    from study.environment import versions

    with mock.patch.object(trainers, "Trainer", trainer):
        handle = trainers.find_or_start(store_uri, study, 1, versions())
    ray.get(handle.progress.remote())
    return handle
