import numpy as np
import pandas as pd
import pytest

from study.analysis import StudyResults
from study.analysis.aggregation import aggregate_trial
from study.errors import UnreadableObject
from tests.messages import mentions
from tests.study.report.studies import trial_of, write_study


def report(seed, step, value, version=1, **more):
    return {"trial": 0, "seed": seed, "step": step, "metric_version": version, "m": value, **more}


def test_a_result_is_mean_standard_deviation_and_interval_over_replicates():
    summary = aggregate_trial(pd.DataFrame([report(0, 10, 1.0), report(1, 10, 2.0), report(2, 10, 6.0)]), 3)
    sd = np.std([1, 2, 6], ddof=1)
    ci = 2.919986 * sd / 3**0.5  # Student's t of two degrees of freedom, 5 % above
    assert summary == {"step": 10, "replicates": 3, "m": 3.0, "m/sd": pytest.approx(sd), "m/ci": pytest.approx(ci)}


def test_a_step_that_all_replicates_reached_comes_before_any_other():
    reports = [report(0, 10, 1.0), report(1, 10, 3.0), report(0, 20, 9.0)]
    assert aggregate_trial(pd.DataFrame(reports), 2)["m"] == 2.0
    assert aggregate_trial(pd.DataFrame(reports)[:0], 2) == {}


def test_without_a_step_of_all_replicates_the_last_step_of_most_replicates_counts():
    climbing = [report(0, 10, 1.0), report(0, 20, 9.0)]
    summary = aggregate_trial(pd.DataFrame(climbing), 3)
    assert (summary["step"], summary["replicates"], summary["m"]) == (20, 1, 9.0)
    followed = pd.DataFrame([*climbing, report(0, 30, 5.0), report(1, 10, 3.0), report(1, 20, 7.0)])
    summary = aggregate_trial(followed, 3)
    assert (summary["step"], summary["replicates"], summary["m"]) == (20, 2, 8.0)


def test_a_single_replicate_has_no_spread():
    summary = aggregate_trial(pd.DataFrame([report(0, 10, 1.0)]), 1)
    assert np.isnan(summary["m/sd"])


def test_a_later_metric_version_replaces_an_earlier_one():
    reports = pd.DataFrame([report(0, 10, 5.0, version=2), report(0, 10, 1.0, version=1)])
    assert aggregate_trial(reports, 1)["m"] == 5.0


def test_metrics_that_were_not_measured_are_absent_not_nan():
    reports = pd.DataFrame([report(0, 10, 1.0, late=np.nan), report(0, 20, 2.0, late=7.0)])
    assert "late" not in aggregate_trial(reports[reports["step"] == 10], 1)
    assert aggregate_trial(reports, 1)["late"] == 7.0


@pytest.mark.parametrize("state", ["pruned", "running"])
def test_before_any_trial_is_complete_the_front_is_empty_and_has_its_columns(tmp_path, tiny, state):
    results = StudyResults(write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4], state)]))
    front = results.front()
    assert front.empty
    assert list(front) == list(results.results())


def test_results_are_a_snapshot_and_callers_may_change_returned_frames(tmp_path, tiny):
    store = write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4]), trial_of([3.0, 3.2], [0.3, 0.4])])
    results = StudyResults(store)
    before = {name: getattr(results, name)() for name in ("trials", "reports", "results", "front", "progress")}
    (row,) = results.trials().query("trial == 1").drop(columns="run").to_dict("records")
    store.append("trials", 1, 99, [row | {"state": "failed"}])
    for name, table in before.items():
        kept = table.copy()
        table["trial"] = -9
        table.loc[:, "new"] = 1.0
        pd.testing.assert_frame_equal(getattr(results, name)(), kept)
    assert StudyResults(store).results()["state"].tolist() == ["complete", "failed"]


def test_reports_of_some_trials_are_rows_of_all_reports(tmp_path, tiny):
    results = StudyResults(write_study(tmp_path, tiny, [trial_of([4.0, 4.2], [0.2, 0.4])] * 3))
    reports = results.reports()
    assert reports["trial"].tolist() == [0, 0, 1, 1, 2, 2]
    some = reports[reports["trial"].isin([0, 2])].reset_index(drop=True)
    pd.testing.assert_frame_equal(results.reports([2, 0]), some)
    assert results.reports([7]).empty


@pytest.mark.slow
def test_a_finished_study_has_one_row_a_trial_with_all_columns_of_the_contract(finished):
    table = finished.results()
    assert table["trial"].tolist() == [0, 1, 2, 3]
    assert set(table["state"]) == {"complete"}
    assert set(table["step"]) == {30}
    assert set(table["replicates"]) == {2}
    names = ["fidelity/log_mel_rmse_db", "disentanglement/separation", "disentanglement/mig"]
    names += [f"probe/timbre/{part}" for part in ("private", "shared", "both")]
    names += [f"nmi/frequency/{part}" for part in ("private", "shared")]
    for name in names:
        assert table[name].notna().all(), name
        assert (table[f"{name}/sd"] >= 0).all(), name
    is_contrastive = table["config/contrast.strategy"] == "infonce"
    assert table["config/contrast.temperature"].notna().equals(is_contrastive)


@pytest.mark.slow
def test_reports_have_a_row_for_each_replicate_and_budget(finished):
    reports = finished.reports()
    keys = [tuple(key) for key in reports[["trial", "seed", "step"]].to_numpy()]
    assert keys == [(trial, seed, step) for trial in range(4) for seed in range(2) for step in (15, 30)]


@pytest.mark.slow
def test_a_report_that_was_written_twice_counts_once(finished):
    before = finished.results()
    row = finished.reports().drop(columns=["run"]).iloc[0].to_dict()
    finished.store.append("reports", 1, 99, [row])
    pd.testing.assert_frame_equal(StudyResults(finished.store).results(), before)


@pytest.mark.slow
def test_the_last_row_of_a_trial_holds_and_a_running_one_without_a_live_run_is_interrupted(finished):
    row = finished.trials().drop(columns=["run"]).iloc[2].to_dict() | {"state": "running"}
    finished.store.append("trials", 1, 99, [row])
    states = StudyResults(finished.store).results()["state"].tolist()
    assert states == ["complete", "complete", "interrupted", "complete"]


@pytest.mark.slow
def test_immature_trials_are_never_on_the_front(finished):
    table = finished.results()
    best = table["disentanglement/separation"].idxmax()
    assert table.loc[best, "trial"] in finished.front()["trial"].tolist()
    row = finished.trials().drop(columns=["run"]).iloc[best].to_dict() | {"state": "pruned"}
    finished.store.append("trials", 1, 99, [row])
    assert table.loc[best, "trial"] not in StudyResults(finished.store).front()["trial"].tolist()


@pytest.mark.slow
def test_a_corrupt_part_costs_its_own_rows_only(finished):
    parts = finished.store.objects.names("tiny/reports")
    finished.store.objects.write(parts[-1], b"PAR1 not really")
    with pytest.warns(UnreadableObject, match=mentions(parts[-1])):
        table = StudyResults(finished.store).results()
    assert table["trial"].tolist() == [0, 1, 2, 3]
