import os
import time

import pandas as pd
import psutil
import pytest
import yaml

from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore
from tests.messages import assert_mentions
from tests.study.commands import TINY, Running, completed_files, run_command
from tests.study.s3_server import s3_server

pytestmark = pytest.mark.slow

# Long enough to be interrupted, and the same in all else as the tiny study.
# One trial at a time, so that some are left when the second one is complete.
LONG = {
    **TINY,
    "name": "long",
    "train": {"steps": 200, "batch_pairs": 16, "reports": 2},
    "search": {"sampler": "qmc", "trials": 4},
    "resources": {"lanes": 2},
}


def results_of(store, name="tiny"):
    return StudyResults(StudyStore(ObjectStore(str(store)), name))


@pytest.fixture
def long_file(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump(LONG))
    return path


def test_two_runs_give_the_same_values_to_the_last_bit_and_a_third_shows_the_first(finished_store, tmp_path):
    spec = tmp_path / "tiny.yaml"
    spec.write_text(yaml.safe_dump(TINY))
    outcome = run_command("run", spec, "--store", tmp_path / "other")
    assert outcome.status == 0, outcome.err
    assert outcome.out == ""
    assert_mentions(outcome.err, "tiny", "4 complete")
    pd.testing.assert_frame_equal(results_of(tmp_path / "other").results(), results_of(finished_store).results())
    pd.testing.assert_frame_equal(
        results_of(tmp_path / "other").reports().drop(columns="time"),
        results_of(finished_store).reports().drop(columns="time"),
    )
    for path in (finished_store / "tiny" / "checkpoints").rglob("*.safetensors"):
        assert (tmp_path / "other" / path.relative_to(finished_store)).read_bytes() == path.read_bytes()

    before = {path: path.read_bytes() for path in finished_store.rglob("*") if path.is_file()}
    for words in (("run", spec), ("resume", "tiny")):
        outcome = run_command(*words, "--store", finished_store)
        assert outcome.status == 0
        assert_mentions(outcome.err, "tiny", "complete", "4 trials")
    assert {path: path.read_bytes() for path in finished_store.rglob("*") if path.is_file()} == before


def test_more_trials_are_added_and_those_that_were_there_stay_as_they_are(finished_store):
    before = completed_files(finished_store, "tiny")
    outcome = run_command("resume", "tiny", "--trials", 6, "--store", finished_store)
    assert outcome.status == 0, outcome.err
    after = completed_files(finished_store, "tiny")
    assert {name: after[name] for name in before} == before
    table = results_of(finished_store).results()
    assert list(table["state"]) == ["complete"] * 6
    assert table["config/loss.private.gamma"].nunique() == 6
    assert results_of(finished_store).target == 6


def test_ctrl_c_keeps_what_was_trained_and_says_how_to_go_on(long_file, tmp_path):
    undisturbed = run_command("run", long_file, "--store", tmp_path / "undisturbed")
    assert undisturbed.status == 0, undisturbed.err

    store = tmp_path / "runs"
    with Running("run", long_file, "--store", store) as running:
        running.wait_for_line("trial 1 complete")
        running.press_ctrl_c()
        status = running.wait(timeout_s=10)
        assert status == 130
        assert_mentions(running.lines[-1], f"marl-study resume long --store {store}")
        assert "Traceback" not in "".join(running.lines)
    interrupted = results_of(store, "long")
    assert not interrupted.is_live
    assert set(interrupted.trials()["state"]) == {"complete", "interrupted"}
    assert list((store / "long" / "checkpoints").rglob("state.safetensors"))
    before = completed_files(store, "long")

    resumed = run_command("resume", "long", "--store", store)
    assert resumed.status == 0, resumed.err
    after = completed_files(store, "long")
    assert {name: after[name] for name in before} == before
    pd.testing.assert_frame_equal(
        results_of(store, "long").results(), results_of(tmp_path / "undisturbed", "long").results()
    )
    assert not list((store / "long" / "checkpoints").rglob("state.safetensors"))


def test_a_second_ctrl_c_stops_at_once_and_nothing_is_left_running(long_file, tmp_path):
    with Running("run", long_file, "--store", tmp_path / "runs") as running:
        running.wait_for_line("trial 0 started")
        ours = {process.pid for process in psutil.Process(os.getpid()).children(recursive=True)}
        running.press_ctrl_c()
        running.press_ctrl_c()
        assert running.wait(timeout_s=20) == 130
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(process) and _is_ray(process) for process in ours):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _is_ray(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_diverging_trial_fails_with_its_reason_and_the_others_complete(tmp_path):
    spec = tmp_path / "spec.yaml"
    space = {"loss.private.gamma": {"choice": [1e300, 0.5]}}
    spec.write_text(yaml.safe_dump({**TINY, "space": space, "search": {"sampler": "grid"}}))
    outcome = run_command("run", spec, "--store", tmp_path / "runs")
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "trial 0", "loss.private.gamma=1e+300")
    assert_mentions(outcome.err, "trial 0", "failed", "diverged", "loss", "seed 0", "step")
    trials = results_of(tmp_path / "runs").trials().set_index("trial")
    assert list(trials["state"]) == ["failed", "complete"]
    assert "diverged" in trials.loc[0, "error"]


def test_a_study_in_which_every_trial_fails_has_failed(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        yaml.safe_dump(
            {
                **TINY,
                "space": {"loss.private.gamma": {"choice": [1e200, 1e300]}},
                "search": {"sampler": "grid"},
            }
        )
    )
    outcome = run_command("run", spec, "--store", tmp_path / "runs")
    assert outcome.status == 1
    assert_mentions(outcome.err.splitlines()[-1], "error: ", "no trial", "'tiny'", "marl-study results")


def test_a_study_on_s3_is_run_read_exported_and_resumed_and_holds_no_key(finished_store, tmp_path):
    spec = tmp_path / "tiny.yaml"
    spec.write_text(yaml.safe_dump(TINY))
    in_a_folder = run_command("results", "tiny", "--store", finished_store, "--format", "csv").out
    with s3_server(tmp_path / "s3") as server:
        env = {**server.environment, "MARL_STORE": "s3://studies/some/prefix"}

        def invoke(*words):
            outcome = run_command(*words, env=env)
            assert outcome.status == 0, outcome.err
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                assert env[name] not in outcome.out + outcome.err
            return outcome

        invoke("run", spec)
        assert invoke("results", "tiny", "--format", "csv").out == in_a_folder
        invoke("resume", "tiny", "--trials", 5)
        assert_mentions(invoke("status", "tiny").out, "5 complete")
        bundle = invoke("export", "tiny", "--trial", 1, "--to", tmp_path / "out").out.strip()
        assert "verified" in invoke("verify", bundle).err
        invoke("plot", "tiny", "-o", tmp_path / "plot.png")
        contents = [path.read_bytes() for path in server.folder.rglob("*") if path.is_file()]
        assert len(contents) > 10
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert not any(env[name].encode() in content for content in contents)
        invoke("delete", "tiny", "--yes")
        assert invoke("ls").out == ""
