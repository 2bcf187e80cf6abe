"""A front is trained again under new seeds; `clean` deletes weights far from the front only, in a folder and on S3."""

import json
import os
import re

import pandas as pd
import pytest

from study.analysis import StudyResults
from study.errors import UserError
from study.export.bundle import export_trials
from study.runs.lifecycle import clean_up, confirmation_spec, plan_cleanup
from study.spec import Spec, parse_spec
from study.spec.resolve import resolve
from study.store.writer import StudyWriter
from tests.messages import assert_mentions, mentions
from tests.study.report.studies import trial_of, write_study
from tests.study.s3_server import s3_server
from tests.study.stores import new_store, results_of


def test_a_confirmation_has_the_front_and_the_seeds_that_come_next(tmp_path, tiny):
    results = StudyResults(
        write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([9.0, 9.1], [0, 0])])
    )
    spec = confirmation_spec(results, 3).spec
    assert spec.name == "tiny-confirmed"
    assert list(spec.seeds) == [2, 3, 4]
    assert len(spec.include) == spec.search.trials == 1
    assert Spec.model_validate_json(spec.model_dump_json(exclude_none=True)) == spec
    assert resolve(spec).spec == spec


def test_without_a_front_a_confirmation_fails(tmp_path, tiny):
    results = StudyResults(write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4], "running")]))
    with pytest.raises(UserError, match=mentions("complete trial", "front")):
        confirmation_spec(results, 3)


def test_halving_follows_seed_0_and_refuses_others(tiny):
    tiny |= {"halving": {"reduction_factor": 2, "min_steps": 10}, "first_seed": 4}
    with pytest.raises(UserError, match=mentions("first_seed", 0, "halving", 4)):
        parse_spec(tiny, "spec")


@pytest.mark.slow
def test_fresh_seeds_give_other_values_of_the_same_configurations(cli_on_ray, finished_store, finished):
    outcome = cli_on_ray("resume", "tiny", "--confirm", 1, "--store", finished_store)
    assert outcome.status == 0, outcome.err
    again = results_of(finished_store, "tiny-confirmed")
    front, confirmed = finished.front(), again.results()
    assert confirmed["state"].tolist() == ["complete"] * len(front)
    assert set(again.reports()["seed"]) == {2}
    parameters = [name for name in front if name.startswith("config/")]
    # A parameter whose condition never holds is absent in one way or another.
    told = [table[parameters].dropna(axis=1, how="all") for table in (confirmed, front)]
    pd.testing.assert_frame_equal(*told, check_dtype=False)
    metric = "fidelity/log_mel_rmse_db"
    assert not (confirmed[metric] == front[metric]).any()
    assert (confirmed[metric] / front[metric]).between(0.8, 1.2).all()


def test_a_name_that_is_too_long_is_refused_before_anything_is_written(tmp_path, tiny):
    tiny["name"] = "x" * 60
    results = StudyResults(write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4])]))
    with pytest.raises(UserError, match=mentions("confirm:", "name", 64)):
        confirmation_spec(results, 3)


FIDELITY, SEPARATION = "fidelity/log_mel_rmse_db", "disentanglement/separation"
STEPS = 30
FILES = {"model.safetensors": b"w" * 1000, "config.json": b"{}"}
STATE = {"state.safetensors": b"s" * 2000}
# Error and separation of complete trials, and how far their two seeds are from the mean.
COMPLETE = {
    0: (5.0, 0.50, 0.0),  # on the front
    1: (5.1, 0.47, 0.1),  # behind the front by less than a standard deviation
    2: (5.1, 0.47, 0.01),  # behind the front by more
    3: (9.0, 0.60, 0.0),  # on the front
    4: (9.0, 0.10, 0.2),  # behind the front by more
}
PRUNED, FAILED, INTERRUPTED, UNREADABLE = 5, 6, 7, 8


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def location(request, tmp_path, monkeypatch):
    if request.param == "folder":
        yield str(tmp_path / "runs")
        return
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield "s3://studies/runs"


@pytest.fixture
def store(location, tiny):
    """A study with trials in every state; of one that is complete no report can be read."""
    store = new_store(location, tiny)
    reports = [
        {"trial": trial, "seed": seed, "step": STEPS, "metric_version": 1, FIDELITY: error + by, SEPARATION: score - by}
        for trial, (error, score, spread) in COMPLETE.items()
        for seed, by in ((0, spread), (1, -spread))
    ]
    store.append("reports", 1, 1, reports)
    states = dict.fromkeys([*COMPLETE, UNREADABLE], "complete")
    states |= {PRUNED: "pruned", FAILED: "failed", INTERRUPTED: "running"}
    store.append("trials", 1, 2, [{"trial": n, "state": s, "error": None} for n, s in sorted(states.items())])
    for trial in (*COMPLETE, UNREADABLE):
        for seed in (0, 1):
            store.write_checkpoint(trial, seed, STEPS, FILES, {"reports": []})
            store.write_latents(trial, seed, {"clip": [1, 2]})
    for trial in (PRUNED, FAILED, INTERRUPTED):
        store.write_checkpoint(trial, 0, 15, FILES | STATE, {"reports": []})
    return store


def contents(store):
    return {name: store.objects.read(name) for name in store.objects.names("tiny")}


def plan_of(store):
    return plan_cleanup(StudyResults(store))


def test_weights_on_the_front_and_near_it_stay_and_of_all_other_trials_that_are_over_go(store):
    before = contents(store)
    plan = plan_of(store)
    assert plan.kept == ([0, 3], [1], [UNREADABLE])
    clean_up(StudyResults(store), plan)
    assert {int(name.split("/")[1]) for name in store.checkpoint_sizes()} == {0, 1, 3, INTERRUPTED, UNREADABLE}
    after = contents(store)
    gone = before.keys() - after.keys()
    assert all(name.startswith("tiny/checkpoints/") for name in gone)
    assert all(after[name] == before[name] for name in before.keys() - gone)
    assert after.keys() - before.keys() == {"tiny/discarded/2.json", "tiny/discarded/4.json"}
    assert sum(one.objects for one in plan.deletions) == len(gone)
    assert sum(one.size for one in plan.deletions) == sum(len(before[name]) for name in gone)
    assert plan_of(store).deletions == []


def test_unfinished_files_of_a_kept_model_are_deleted_and_the_model_stays_intact(store):
    before = contents(store)
    for name in ("15/model.safetensors", "15/state.safetensors", "15/replicate.json", "30/state.safetensors"):
        store.objects.write(f"tiny/checkpoints/0/1/{name}", b"x" * 10)
    left = [one for one in plan_of(store).deletions if one.trial == 0]
    assert sum(one.size for one in left) == 40
    clean_up(StudyResults(store), plan_of(store))
    assert store.latest_checkpoint(0, 1).files == FILES
    assert {name for name in contents(store) if "/0/1/" in name} == {name for name in before if "/0/1/" in name}


def test_earlier_checkpoints_of_a_model_without_its_last_one_are_kept(store):
    store.write_checkpoint(0, 1, 15, FILES | STATE, {"reports": []})
    store.objects.delete("tiny/checkpoints/0/1/30/replicate.json")
    clean_up(StudyResults(store), plan_of(store))
    assert store.latest_checkpoint(0, 1).step == 15


def test_an_optimiser_state_that_belongs_to_the_last_checkpoint_stays(store):
    store.write_checkpoint(3, 0, STEPS, FILES | STATE, {"reports": []})
    clean_up(StudyResults(store), plan_of(store))
    assert store.latest_checkpoint(3, 0).files == FILES | STATE


def test_a_prune_that_was_killed_is_finished_by_the_next(store, monkeypatch):
    plan = plan_of(store)
    real, deleted = store.objects.delete, []

    def killed(prefix):
        if deleted:
            raise KeyboardInterrupt
        deleted.append(prefix)
        real(prefix)

    monkeypatch.setattr(store.objects, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        clean_up(StudyResults(store), plan)
    monkeypatch.undo()
    rest = plan_of(store)
    assert len(rest.deletions) == len(plan.deletions) - 1
    clean_up(StudyResults(store), rest)
    assert plan_of(store).deletions == []


def test_of_single_replicates_only_the_front_is_kept(tmp_path, tiny):
    tiny["replicates"] = 1
    store = new_store(tmp_path, tiny)
    rows = [{"trial": n, "seed": 0, "step": STEPS, "metric_version": 1, FIDELITY: n, SEPARATION: 0.0} for n in range(3)]
    store.append("reports", 1, 1, rows)
    store.append("trials", 1, 2, [{"trial": n, "state": "complete", "error": None} for n in range(3)])
    plan = plan_of(store)
    assert (plan.kept.front, plan.kept.near, plan.deletions) == ([0], [], [])


def test_a_report_before_the_full_budget_judges_no_complete_trial(tmp_path, tiny):
    tiny["replicates"] = 1
    store = new_store(tmp_path, tiny)
    rows = [
        {"trial": n, "seed": 0, "step": step, "metric_version": 1, FIDELITY: n, SEPARATION: 0.0}
        for n, step in ((0, 15), (1, STEPS))
    ]
    store.append("reports", 1, 1, rows)
    store.append("trials", 1, 2, [{"trial": n, "state": "complete", "error": None} for n in range(2)])
    plan = plan_of(store)
    assert (plan.kept.front, plan.kept.unranked) == ([1], [0])


def test_a_study_that_is_running_is_refused(store, cli):
    before = contents(store)
    StudyWriter(store, trials=9)
    with pytest.raises(UserError, match=mentions("'tiny'", "run 1", os.getpid())):
        plan_of(store)
    outcome = cli("clean", "tiny", "--store", store.objects.uri)
    assert outcome.status == 2
    assert_mentions(outcome.err, "'tiny'", "run 1", os.getpid())
    assert contents(store).keys() - before.keys() == {"tiny/runs/0001.json"}


def test_the_command_lists_deleted_and_kept_weights_with_reasons(store, cli):
    before = contents(store)
    words = ("clean", "tiny", "--store", store.objects.uri)
    dry = cli(*words, "--dry-run")
    assert contents(store) == before
    done = cli(*words)
    assert (dry.status, done.status) == (0, 0)
    sizes = [
        len(content)
        for name, content in before.items()
        if name.startswith(("tiny/checkpoints/2/", "tiny/checkpoints/4/"))
    ]
    far = next(line for line in done.out.splitlines() if line.startswith("weights") and "far" in line)
    assert far.split()[-4:] == ["2", "12", f"{sum(sizes) / 1000:.3g}", "kB"]
    assert any(line.split()[-4:-2] == ["2", "8"] for line in done.out.splitlines() if "failed" in line)
    assert_mentions(done.out, "freed")
    assert_mentions(done.out, "kept", "4 trials", "2 on the front", "1 near", "1 without")
    assert dry.out.replace("would be ", "").split() == done.out.split()
    assert dry.out != done.out
    again = cli(*words)
    assert again.status == 0
    assert_mentions(again.out, "nothing")


def test_a_missing_study_is_reported_with_the_existing_ones(store, cli):
    outcome = cli("clean", "other", "--store", store.objects.uri)
    assert outcome.status == 2
    assert_mentions(outcome.err, "'other'", "tiny")


@pytest.mark.slow
def test_exporting_a_trial_whose_weights_were_deleted_fails_with_the_reason(finished, cli, tmp_path):
    (front, *_) = finished.front()["trial"]
    beaten = next(trial for trial in finished.results()["trial"] if trial != front)
    better = finished.results().set_index("trial").loc[front].to_dict()
    rows = [
        {"trial": beaten, "seed": seed, "step": STEPS, "metric_version": 99, FIDELITY: 99.0, SEPARATION: -0.9}
        for seed in (0, 1)
    ]
    finished.store.append("reports", 1, 99, rows)
    assert better["state"] == "complete"
    store = finished.store.objects.uri
    assert cli("clean", "tiny", "--store", store).status == 0
    outcome = cli("export", "tiny", "--trial", beaten, "--to", tmp_path / "out", "--store", store)
    assert outcome.status == 2
    assert_mentions(outcome.err, f"trial {beaten}", "deleted", "marl-study clean", "--front")
    assert re.search(r"\b20\d\d-\d\d-\d\d", outcome.err)
    assert not (tmp_path / "out").exists()
    assert export_trials(StudyResults(finished.store), [front], SEPARATION, tmp_path / "out")
    assert json.loads(cli("status", "tiny", "--store", store, "--json").out)["trials"]["complete"] == 4
