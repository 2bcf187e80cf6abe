"""Fast studies for tests: one Ray for all studies of a pytest process, and changes to a study's processes."""

import contextlib
import gc
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.analysis import StudyResults

__all__ = [
    "UNCHANGED",
    "Switches",
    "assert_no_actor_is_left",
    "environment",
    "interrupt_when",
    "meanwhile",
    "shared_ray",
    "trainer_processes",
    "trial_processes",
    "use_ray_of_this_process",
    "wait_until",
]

_IN_EVERY_PROCESS = Path(__file__).with_name("in_every_process")
# Readers take most of the evaluation of tiny models. Values after 10 steps are as reproducible as those after 400.
_CONSTANTS: Mapping[str, Mapping[str, Any]] = {
    "marl.metrics.readers.reader": {name: {"max_steps": 10} for name in ("_STRONG_NETWORK", "_LIGHTWEIGHT_NETWORK")}
}
UNCHANGED = {"MARL_TEST_CHANGES": "{}"}
"""Environment of a command whose processes run without changes by tests."""

_ENDED_WITHIN_S = 30.0


def environment(
    constants: Mapping[str, Mapping[str, Any]] | None = None,
    crash: Mapping[str, Any] | None = None,
    switches: Path | None = None,
    without_plain_vae: bool = False,
) -> dict[str, str]:
    """Return the environment of a command whose processes `in_every_process/sitecustomize.py` changes.

    Args:
        constants: Values of modules' constants by module and name, or the fields to replace of a named tuple, besides
            those that all tests change.
        crash: Which write of an object kills the command: `when` (before or after), `method` (write, create or
            delete), `pattern` of the object's name, and `count`, the number of the matching call.
        switches: Folder of `Switches`.
        without_plain_vae: Whether the study trains no plain VAE.
    """
    changes = {
        "constants": {**_CONSTANTS, **(constants or {})},
        "crash": crash,
        "switches": None if switches is None else str(switches),
        "without_plain_vae": without_plain_vae,
    }
    path = os.pathsep.join(filter(None, [str(_IN_EVERY_PROCESS), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "MARL_TEST_CHANGES": json.dumps(changes)}


class Switches:
    """Files that pause the trainers of a study in a known state, independent of the speed of the machine.

    Args:
        folder: Folder of the files, known to the processes of the study by `environment`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def hold_training(self, after_steps: int) -> None:
        """Pause each trainer after this number of steps of its stacks."""
        self._set("training", after_steps)

    def hold_training_once_discarded(self, trials: int) -> None:
        """Pause each trainer that has discarded this number of trials, which were pruned or failed."""
        self._set("discarded", trials)

    def hold_evaluation(self) -> None:
        """Pause each trainer at a request to evaluate stored models."""
        self._set("evaluation", 1)

    def poison(self, trial: int) -> None:
        """Kill each trainer that has the trial in a lane."""
        self._set("poison", trial)

    def wait_until_held(self, timeout_s: float = 120.0) -> None:
        """Return when a trainer is held that was not held at the last call."""
        held = lambda: [*self.folder.glob("*.held")]  # noqa: E731
        wait_until(lambda: bool(held()), timeout_s)
        for file in held():
            file.unlink()

    def release(self) -> None:
        """Resume all trainers."""
        for file in self.folder.iterdir():
            file.unlink(missing_ok=True)

    def _set(self, name: str, value: int) -> None:
        path = self.folder / f"{name}.new"
        path.write_text(str(value))
        path.rename(self.folder / name)


@contextlib.contextmanager
def shared_ray(changes: Mapping[str, str]) -> Iterator[None]:
    """Start a Ray for all studies of this process. Its workers get these environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        from study.runs.ray_cluster import local_ray  # with Ray, which takes a second to import

        for name, value in changes.items():
            patch.setenv(name, value)
        session = local_ray()
        session.__enter__()
    try:
        yield
    finally:
        session.__exit__(None, None, None)


@contextlib.contextmanager
def use_ray_of_this_process(with_plain_vae: bool = False) -> Iterator[None]:
    """Make the product use the Ray of this process instead of starting one.

    Afterwards it asserts that no actor and no placement group of the study is left.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.runs.ray_cluster.local_ray", contextlib.nullcontext)
        if not with_plain_vae:
            patch.setattr(StudyResults, "has_plain_vae", True)
        yield
    assert_no_actor_is_left()


def assert_no_actor_is_left() -> None:
    """Assert that all actors and placement groups of this process's Ray have ended or end soon."""
    wait_until(lambda: not _alive(), _ENDED_WITHIN_S, _alive)


def trainer_processes() -> list[psutil.Process]:
    """Return the trainer processes among the descendants of this process."""
    return _processes("ray::Trainer")


def trial_processes() -> list[psutil.Process]:
    """Return the processes of trials. They have the name of Tune's wrapper while they wait for a report."""
    return _processes("ray::StudyTrial", "ray::ResourceTrainable")


def _processes(*titles: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith(titles):
                found.append(process)
    return found


@contextlib.contextmanager
def meanwhile(disturb: Callable[[], None]) -> Iterator[None]:
    """Call a function in a thread while the block runs. Its exception is raised after the block."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            disturb()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


def interrupt_when(is_so: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
    """Send SIGINT to this process once the condition holds, while the block runs, or when it does not hold in time."""

    def interrupt() -> None:
        try:
            wait_until(is_so, 120)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    return meanwhile(interrupt)


def wait_until(is_so: Callable[[], object], timeout_s: float = 60.0, what: Callable[[], object] = lambda: "") -> None:
    """Return when the condition holds.

    Raises:
        AssertionError: If it does not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def _alive() -> list[str]:
    """Return actors and placement groups of this process's Ray that have not ended."""
    import ray

    gc.collect()  # Tune's actors exit when their last reference is deleted
    actors = ray._private.state.actors().values()
    groups = ray.util.placement_group_table().values()
    return [f"{actor['ActorClassName']} {actor['Name']}" for actor in actors if actor["State"] != "DEAD"] + [
        f"placement group {group['placement_group_id']}" for group in groups if group["state"] != "REMOVED"
    ]
