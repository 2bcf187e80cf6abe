"""Studies from `run` to their end: the same values again, more trials, interruptions, failures, and S3."""

import psutil
import pytest
import yaml

from tests.messages import assert_mentions
from tests.study.commands import TINY, Running, run_command, run_here
from tests.study.processes import Switches, environment, wait_until
from tests.study.stores import assert_same_models, assert_same_values, completed_files, results_of

pytestmark = pytest.mark.slow


@pytest.fixture
def spec_path(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def files_of(store):
    return {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_a_run_from_a_shell_with_two_trainers_gives_the_same_values_to_the_last_bit(finished, spec_path, tmp_path):
    outcome = run_command("run", spec_path, "--store", tmp_path / "other", "--set", "resources.trainers=2")
    assert (outcome.status, outcome.out) == (0, ""), outcome.err
    assert_mentions(outcome.err.splitlines()[-1], "tiny", "4 complete")
    other = results_of(tmp_path / "other")
    assert_same_values(other, finished)
    assert_same_models(other, finished)
    assert other.has_plain_vae
    assert [results.runs[1]["trainers"] for results in (other, finished)] == [2, 1]


def test_a_complete_study_is_neither_trained_nor_written_again(cli, finished_store, spec_path):
    before = files_of(finished_store)
    for words in (("run", spec_path), ("resume", "tiny")):
        outcome = cli(*words, "--store", finished_store)
        assert outcome.status == 0
        assert_mentions(outcome.err, "tiny", "complete", "4 trials")
    assert files_of(finished_store) == before


def test_more_trials_are_added_and_earlier_ones_stay_as_they_are(cli_on_ray, finished_store):
    before = completed_files(finished_store)
    outcome = cli_on_ray("resume", "tiny", "--trials", 6, "--store", finished_store)
    assert outcome.status == 0, outcome.err
    after = completed_files(finished_store)
    assert {name: after[name] for name in before} == before
    results = results_of(finished_store)
    table = results.results()
    assert list(table["state"]) == ["complete"] * 6
    assert table["config/loss.private.gamma"].nunique() == 6
    assert results.target == 6


def test_ctrl_c_writes_checkpoints_from_which_resume_goes_on(cli_on_ray, finished, spec_path, tmp_path):
    store = tmp_path / "interrupted"
    switches = Switches(tmp_path / "switches")
    switches.hold_training(after_steps=20)
    with Running("run", spec_path, "--store", store, env=environment(switches=switches.folder)) as running:
        running.wait_for_line("trial-steps/s")  # the driver knows that there is something to keep
        running.press_ctrl_c()
        assert running.wait(timeout_s=60) == 130
    assert_mentions(running.lines[-1], f"marl-study resume tiny --store {store}")
    assert "Traceback" not in "".join(running.lines)
    interrupted = results_of(store)
    assert not interrupted.is_live
    assert set(interrupted.trials()["state"]) == {"interrupted"}
    assert list((store / "tiny" / "checkpoints").rglob("state.safetensors"))

    resumed = cli_on_ray("resume", "tiny", "--store", store, with_plain_vae=True)
    assert resumed.status == 0, resumed.err
    assert_same_values(results_of(store), finished)
    assert_same_models(results_of(store), finished)
    assert not list((store / "tiny" / "checkpoints").rglob("state.safetensors"))


def test_a_second_ctrl_c_stops_at_once_and_no_process_is_left(spec_path, tmp_path):
    switches = Switches(tmp_path / "switches")
    switches.hold_training(after_steps=1)
    others = {process.pid for process in psutil.Process().children(recursive=True)}
    with Running("run", spec_path, "--store", tmp_path / "runs", env=environment(switches=switches.folder)) as running:
        switches.wait_until_held()
        ours = {process.pid for process in psutil.Process().children(recursive=True)} - others
        assert len(ours) > 5
        running.press_ctrl_c()
        running.press_ctrl_c()
        assert running.wait(timeout_s=60) == 130
    wait_until(lambda: not any(map(is_running, ours)), 60, lambda: [*filter(is_running, ours)])


def is_running(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_diverging_trial_fails_with_its_reason_and_others_complete(cli_on_ray, spec_path, tmp_path):
    space = {"loss.private.gamma": {"choice": [1e300, 0.5]}}
    spec_path.write_text(yaml.safe_dump({**TINY, "space": space, "search": {"sampler": "grid"}}))
    outcome = cli_on_ray("run", spec_path, "--store", tmp_path / "runs")
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "trial 0", "loss.private.gamma=1e+300")
    assert_mentions(outcome.err, "trial 0", "failed", "diverged", "loss", "seed 0", "step")
    trials = results_of(tmp_path / "runs").trials().set_index("trial")
    assert list(trials["state"]) == ["failed", "complete"]
    assert "diverged" in trials.loc[0, "error"]


def test_a_study_on_s3_has_the_values_of_one_in_a_folder_and_its_objects_hold_no_key(
    cli_on_ray, finished, spec_path, s3_of_ray, tmp_path, monkeypatch
):
    keys = [s3_of_ray.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    for name, value in s3_of_ray.environment.items():
        monkeypatch.setenv(name, value)
    store = f"s3://studies/{tmp_path.name}/prefix"

    def succeed(command, *words, **options):
        outcome = command(*words, "--store", store, **options)
        assert outcome.status == 0, outcome.err
        assert not any(key in outcome.out + outcome.err for key in keys)
        return outcome

    succeed(cli_on_ray, "run", spec_path, with_plain_vae=True)
    assert_same_values(results_of(store), finished)
    assert_same_models(results_of(store), finished)
    succeed(cli_on_ray, "resume", "tiny", "--trials", 5)
    assert_mentions(succeed(run_here, "status", "tiny").out, "5 complete")
    bundle = succeed(run_here, "export", "tiny", "--trial", 1, "--to", tmp_path / "out").out.strip()
    assert run_here("verify", bundle).status == 0
    succeed(run_here, "plot", "tiny", "-o", tmp_path / "plot.png")
    objects = files_of(s3_of_ray.folder / "studies" / tmp_path.name)
    assert len(objects) > 10
    for key in keys:
        assert not any(key.encode() in content for content in objects.values())
    succeed(run_here, "delete", "tiny", "--yes")
    assert succeed(run_here, "ls").out == ""
