"""A study whose command is killed at each kind of write loses nothing and does nothing twice.

One study lives through all deaths: each resume is also the next run to be killed. A death takes a quarter of a minute.
So every run of the tests has one at each kind of write, before or after it; `make cluster-test` has the other half.
"""

from itertools import cycle

import pytest

from tests.study.commands import Running
from tests.study.crashes.mortal import assert_is_as_if_nothing_had_happened, complete_trials, environment, go_on

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHECKPOINT = r"^mortal/checkpoints/\d+/\d+/\d+/"
# Each kind of write: the method, a pattern of names, and which such call it shall be.
WRITES = {
    "the study's document": ("write", "^mortal/study.json", 1),
    "a launch's claim": ("write", "^mortal/claims/", 1),
    "a launch's beginning": ("create", "^mortal/launches/", 1),
    "the deletion of a claim": ("delete", "^mortal/claims/", 1),
    "a launch's heartbeat": ("write", "^mortal/launches/", 2),
    "trials that begin": ("write", "^mortal/trials/", 1),
    "trials that end": ("write", "^mortal/trials/", 5),
    "reports": ("write", "^mortal/reports/", 2),
    "weights": ("write", CHECKPOINT + "model.safetensors", 3),
    "a checkpoint's description": ("write", CHECKPOINT + "config.json", 2),
    "an optimiser's state": ("write", CHECKPOINT + "state.safetensors", 3),
    "a checkpoint's record": ("write", CHECKPOINT + "replicate.json", 4),
    "the deletion of an earlier checkpoint": ("delete", CHECKPOINT, 2),
    "latents": ("write", "^mortal/latents/", 2),
}


@pytest.mark.parametrize("first", ["before", pytest.param("after", marks=pytest.mark.fault)])
def test_killed_before_or_after_each_kind_of_write_in_turn(first, tmp_path, spec_path, undisturbed):
    store = tmp_path / "runs"
    turns = {"before": ("before", "after"), "after": ("after", "before")}[first]
    for (kind, (method, pattern, count)), when in zip(WRITES.items(), cycle(turns), strict=False):
        before = complete_trials(store)
        crash = environment(when=when, method=method, pattern=pattern, count=count)
        with Running(*go_on(store, spec_path), env=crash) as running:
            status = running.wait(timeout_s=120)
        assert status == -9, f"{when} {kind}: {''.join(running.lines)}"
        after = complete_trials(store)
        assert {name: after.get(name) for name in before} == before, f"{when} {kind}"
    assert_is_as_if_nothing_had_happened(store, spec_path, undisturbed)
