"""A whole study in this process, without Ray: the writer, the lanes and the searcher work as in a driver and a trainer.

`MortalStore` raises from a chosen write on and then does nothing, as a dead process does.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import study.store.lease as lease
import study.store.writer as writer_module
import study.training.evaluation as evaluation
from marl.evaluation import INTERMEDIATE
from study.analysis import StudyResults
from study.runs.lifecycle import create_study
from study.search.sampler import past_trials
from study.search.tune import StudyCallback, StudySearcher
from study.spec.resolve import read_spec
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from study.training.trials import Report
from tests.study.training.in_process_lanes import SEEDS, lanes_on

__all__ = ["Died", "MortalStore", "run_study", "simulated_processes"]

_RECORD = re.compile(r"/checkpoints/(\d+)/(\d+)/(\d+)/replicate.json$")


class Died(BaseException):
    """The process that would do this is dead."""


class MortalStore(ObjectStore):
    """The object store of one process, which dies at a chosen write: from then on every call raises.

    Args:
        uri: Location of the store.
        write: Method, pattern of the object's name, and the number of the matching call that is fatal; None for a
            process that does not die.
        when: Whether the process dies `before` or `after` the write.

    Attributes:
        checkpoints: Last step of a whole checkpoint of each replicate, by trial and seed.
    """

    def __init__(self, uri, write=None, when="before"):
        super().__init__(uri)
        self._method, self._pattern, self._left = write or ("", "", 0)
        self._when = when
        self.is_dead = False
        self.checkpoints = {}

    def _retried(self, action):
        if self.is_dead:
            raise Died
        return super()._retried(action)

    def _do(self, method, name, action):
        is_fatal = False
        if method == self._method and re.search(self._pattern, name):
            self._left -= 1
            is_fatal = self._left == 0
        if is_fatal and self._when == "before":
            self.is_dead = True
        result = action()
        # A write that another thread had begun before the death may end after it.
        if not self.is_dead and (match := _RECORD.search(name)):
            trial, seed, step = map(int, match.groups())
            self.checkpoints[trial, seed] = step
        if is_fatal:
            self.is_dead = True
            raise Died
        return result

    def write(self, name, content):
        self._do("write", name, lambda: super(MortalStore, self).write(name, content))

    def create(self, name, content):
        return self._do("create", name, lambda: super(MortalStore, self).create(name, content))

    def delete(self, prefix):
        self._do("delete", prefix, lambda: super(MortalStore, self).delete(prefix))


@contextlib.contextmanager
def simulated_processes() -> Iterator[None]:
    """Let each run be a process with the number 1, 2, …, of which the last is live. All writes are due at once."""
    processes: list[int] = []

    def new_process():
        processes.append(len(processes) + 1)
        return {"host": lease._host(), "process": processes[-1], "process_started": 1.0}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "process_identity", new_process)
        patch.setattr(lease, "_process_started", lambda process: 1.0 if [process] == processes[-1:] else None)
        patch.setattr(writer_module, "_HEARTBEAT_EVERY_S", 0.0)
        patch.setattr(evaluation, "_INTERMEDIATE_WAIT_S", 0.0)
        patch.setattr(evaluation, "_FINAL_WAIT_S", 0.0)
        patch.setattr(evaluation, "FINAL", INTERMEDIATE)  # without probes, which take longer than all else
        yield


def run_study(objects, resolved):
    """Bring the study to its end as a driver and its trainer do; Tune's part is that of the loop."""
    spec = resolved.spec
    store = StudyStore(objects, spec.name)
    create_study(store, resolved)
    results = StudyResults(store)
    writer = StudyWriter(store, spec.search.trials)
    searcher = StudySearcher(spec, past_trials(results), spec.search.trials, with_plain_vae=False, writer=writer)
    searcher.max_running = lambda: 3
    callback = StudyCallback(searcher, writer, spec.train.steps, lambda *_: None, writer.check)
    lanes = lanes_on(store)
    identifiers, rows = {}, {}
    while True:
        while isinstance(trial := searcher.suggest(identifier := str(len(identifiers))), dict):
            identifiers[trial["trial"]] = identifier
            rows[trial["trial"]] = {}
            lanes.add(trial["trial"], trial["parameters"], SEEDS)
        lanes.finish()  # what is read and written beside the training is done, so that writes come in one order
        writer.flush()
        if not any(number in rows for number in identifiers):
            break
        for report in lanes.advance(interrupted=lambda: False):
            assert isinstance(report, Report)
            at_step = rows[report.trial].setdefault(report.row["step"], {})
            at_step[report.row["seed"]] = report.row
            if len(at_step) < len(SEEDS):
                continue
            result = {"trial": report.trial, "step": report.row["step"], "rows": [at_step[seed] for seed in SEEDS]}
            trial = SimpleNamespace(trial_id=identifiers[report.trial], last_result=result)
            callback.on_trial_result(0, [], trial, result)
            if report.row["step"] == spec.train.steps:
                searcher.on_trial_complete(trial.trial_id, result)
                callback.on_trial_complete(0, [], trial)
                lanes.remove(report.trial)
                del rows[report.trial]
        callback.on_step_end(0, [])
        lanes.checkpoint()
    lanes.finish()
    writer.finish()


def create_older_study() -> None:
    """Create the files of `older_study`: the study after a death, and the reports of an undisturbed run."""
    folder = Path(__file__).with_name("older_study")
    resolved = read_spec(folder / "older.yaml")
    death = ("write", r"^older/checkpoints/3/\d+/15/replicate.json", 2)
    with tempfile.TemporaryDirectory() as undisturbed, pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.training.lanes.update_baselines", lambda *_: None)
        patch.setattr(lease, "_host", lambda: "older/1")
        with simulated_processes():
            run_study(ObjectStore(undisturbed), resolved)
        reports = StudyResults(StudyStore(ObjectStore(undisturbed), "older")).reports()
        reports.drop(columns=["time", "run"]).to_csv(folder / "undisturbed.csv", index=False)
        with simulated_processes(), contextlib.suppress(Died):
            run_study(MortalStore(str(folder / "store"), death, "after"), resolved)


if __name__ == "__main__":
    create_older_study()
