"""A process of a study dies at each kind of write, before or after it; the next run ends as if it had not.

The study runs in this process, without Ray: the writer, the lanes and the searcher do what they do in a driver and a
trainer, over an object store that raises and from then on does nothing, as a dead process does. `test_kills.py` has
deaths of real processes.
"""

import re
from types import SimpleNamespace

import pytest

import study.store.lease as lease
import study.store.writer as writer_module
import study.training.evaluation as evaluation
from marl.evaluation import INTERMEDIATE
from study.analysis import StudyResults
from study.runs.create import create_study
from study.search.sampler import past_trials
from study.search.tune import StudyCallback, StudySearcher
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from study.store import StudyStore
from study.store.writer import StudyWriter
from study.training.lanes import Report
from tests.study.stores import assert_same_models, assert_same_values, completed_files, results_of
from tests.study.training.in_process_lanes import SEEDS, kept_stacks, lanes_on
from tests.study.writes import WRITES

pytestmark = pytest.mark.slow

STEPS, TRIALS = 6, 5
# The third reports complete two trials, which the second rows of trials say.
AT_CALL = {"reports": 3, "trials that end": 2}
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
        if match := _RECORD.search(name):
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


@pytest.fixture(autouse=True)
def _each_run_is_a_process_of_its_own(monkeypatch):
    """Processes have the numbers 1, 2, …; the last one lives. Every write and evaluation is due at once."""
    processes = []

    def new_process():
        processes.append(len(processes) + 1)
        return {"host": lease._host(), "process": processes[-1], "process_started": 1.0}

    monkeypatch.setattr(lease, "process_identity", new_process)
    monkeypatch.setattr(lease, "_process_started", lambda process: 1.0 if process == processes[-1] else None)
    monkeypatch.setattr(writer_module, "_HEARTBEAT_EVERY_S", 0.0)
    monkeypatch.setattr(evaluation, "_INTERMEDIATE_WAIT_S", 0.0)
    monkeypatch.setattr(evaluation, "_FINAL_WAIT_S", 0.0)
    monkeypatch.setattr(evaluation, "FINAL", INTERMEDIATE)  # without probes, which take longer than all else here


@pytest.fixture(scope="module", autouse=True)
def _stacks_are_kept():
    with kept_stacks():
        yield


@pytest.fixture(scope="module")
def resolved():
    content = {
        "name": "tiny",
        "data": {"kind": "syntone", "frequencies": 40, "amplitudes": 4},
        "model": {"width": 16, "embedding": 16, "hidden": 32},
        "train": {"steps": STEPS, "batch_pairs": 16, "reports": 3},
        "replicates": 2,
        "space": {"loss.private.gamma": {"log_uniform": [0.1, 10]}, "latent.private": {"choice": [2, 4]}},
        "objectives": {"fidelity/log_mel_rmse_db": "min", "disentanglement/linear_separation": "max"},
        "search": {"sampler": "qmc", "trials": TRIALS},
        "post_training": [],
        "resources": {"lanes": 4},
    }
    return resolve(parse_spec(content, "spec"))


def run_study(objects, resolved):
    """Bring the study to its end as a driver and its trainer do; Tune's part is that of the loop."""
    spec = resolved.spec
    store = StudyStore(objects, spec.name)
    create_study(store, resolved)
    results = StudyResults(store)
    writer = StudyWriter(store, TRIALS)
    searcher = StudySearcher(spec, past_trials(results), TRIALS, with_plain_vae=False, writer=writer)
    searcher.allowed = lambda: 3
    callback = StudyCallback(searcher, writer, STEPS, lambda *_: None, writer.check)
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
            if report.row["step"] == STEPS:
                searcher.on_trial_complete(trial.trial_id, result)
                callback.on_trial_complete(0, [], trial)
                lanes.remove(report.trial)
                del rows[report.trial]
        callback.on_step_end(0, [])
        lanes.checkpoint()
    lanes.finish()
    writer.finish()


@pytest.fixture(scope="module")
def undisturbed(resolved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "FINAL", INTERMEDIATE)
        run_study(ObjectStore(str(folder)), resolved)
    return results_of(folder)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", WRITES)
def test_a_study_that_dies_at_a_write_ends_with_the_values_of_an_undisturbed_one(
    kind, when, resolved, undisturbed, tmp_path
):
    method, pattern, call = WRITES[kind]
    mortal = MortalStore(str(tmp_path), (method, pattern, AT_CALL.get(kind, call)), when)
    with pytest.raises(Died):
        run_study(mortal, resolved)
    assert mortal.is_dead
    for (trial, seed), step in mortal.checkpoints.items():
        assert results_of(tmp_path).store.latest_checkpoint(trial, seed).step >= step
    before = completed_files(tmp_path)
    run_study(ObjectStore(str(tmp_path)), resolved)
    after = completed_files(tmp_path)
    assert {name: after.get(name) for name in before} == before
    results = results_of(tmp_path)
    assert list(results.trials()["state"]) == ["complete"] * TRIALS
    assert_same_values(results, undisturbed)
    assert_same_models(results, undisturbed)
