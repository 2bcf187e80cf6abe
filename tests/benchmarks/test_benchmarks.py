"""Smoke tests of the benchmarks at their smallest size, and known answers for the phases of a study."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.phases import phases
from benchmarks.sleeping import SleepingTrainer
from benchmarks.throughput import Way, cpu_ways
from study.environment import available_cpus
from study.training.trainer import Trainer
from tests.study.commands import ROOT


def run(folder, name, *words, **options):
    path = folder / f"{name}.json"
    words += tuple(word for option, value in options.items() for word in (f"--{option.replace('_', '-')}", str(value)))
    command = [sys.executable, "-m", f"benchmarks.{name}", *words, "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    assert record["benchmark"] == name
    assert record["machine"]["processor"]
    assert record["machine"]["cpus"] >= 1
    assert {"python", "marl-study", "torch", "ray", "optuna", "commit"} <= set(record["versions"])
    assert record["config"]
    return record["results"], done.stdout


@pytest.mark.nightly
def test_the_study_benchmark_reports_phases_and_baselines(tmp_path):
    options = {"steps": 8, "lanes": 2, "pairs": 16, "replicates": 1, "trials": 8, "pure_seconds": 0.5, "plain": 0.5}
    small = ["--set", "data.frequencies=40", "--set", "data.amplitudes=4", "--set", "train.reports=1"]
    results, out = run(tmp_path, "study", "--no-compile", *small, **options)
    phases = results["phases"]
    assert list(phases) == ["start", "filling", "steady", "tail", "end", "whole"]
    assert sum(phases[name]["seconds"] for name in phases if name != "whole") == pytest.approx(
        phases["whole"]["seconds"]
    )
    assert all(phase["seconds"] >= 0 for phase in phases.values())
    assert phases["start"]["seconds"] > 0
    assert phases["start"]["trial_steps"] == 0
    assert phases["whole"]["trial_steps"] == pytest.approx((4 + 1) * 8)  # with the plain VAE
    assert results["pure_trial_steps_per_second"] > 0
    assert results["steady_share_of_pure"] == pytest.approx(
        phases["steady"]["trial_steps_per_second"] / results["pure_trial_steps_per_second"]
    )
    plain = results["plain"]
    assert plain["trial_steps"] == 2 * 8
    assert plain["failed_trials"] == 0
    assert plain["share_of_the_work"] == pytest.approx(2 / 4)
    assert results["times_plain"] == pytest.approx(
        phases["whole"]["trial_steps_per_second"] / plain["trial_steps_per_second"]
    )
    assert "pure training of bare stacks" in out


@pytest.mark.parametrize("bfloat16", [True, False])
def test_the_throughput_benchmark_uses_each_core_once_and_bfloat16_only_where_it_is_fast(bfloat16):
    chosen = cpu_ways(4, bfloat16)
    assert len(chosen) == len(set(chosen)) == len({way.name for way in chosen})
    assert all(way.processes * way.threads == 4 for way in chosen if way != Way("resident"))
    assert {way.precision for way in chosen} == ({"float32", "bfloat16"} if bfloat16 else {"float32"})
    assert all(way.compiled for way in chosen if way.precision == "bfloat16")
    single = {way.lanes for way in chosen if way.kind == "stack" and way.processes == 4 and not way.compiled}
    assert single == {4, 8, 16}
    assert len(set(cpu_ways(1, bfloat16))) == len(cpu_ways(1, bfloat16))


@pytest.mark.nightly
def test_the_throughput_benchmark_compares_ways_with_the_floor(tmp_path):
    results, out = run(tmp_path, "throughput", "--no-compile", rounds=1, seconds=0.2)
    ways = cpu_ways(available_cpus(), bfloat16=False)
    assert [row["way"] for row in results["ways"]] == [way.name for way in ways if not way.compiled]
    assert results["ways"][0]["times_first"] == 1
    for row in results["ways"]:
        assert row["lowest"] == row["highest"] == row["trial_steps_per_second"] > 0
        assert row["share_of_floor"] > 0
        assert 0.1 < row["memory_gb"] < 100
        assert row["warm_first_step_s"] > 0
        assert row["cold_first_step_s"] is None
    assert "of floor" in out


@pytest.mark.nightly
def test_the_control_plane_benchmark_reports_its_parts(tmp_path):
    results, out = run(tmp_path, "control_plane", trials=20, lanes=2, sleep=0.01)
    (size,) = results["sizes"]
    assert size["trials"] == 20
    assert [part["to_trial"] for part in size["parts"]] == [4, 8, 12, 16, 20]
    for part in size["parts"]:
        assert part["trials_per_second"] > 0
        assert part["driver_cpu_ms_per_trial"] > 0
        assert part["rss_mb"] > 0
        assert part["gcs_mb"] > 0
    assert size["driver_cpu_share"] > 0
    assert size["ray_session"]["state_bytes"] > 0
    assert size["ray_session"]["processes"] < 10  # trials reuse actor processes
    assert all(table["files"] >= 1 and table["bytes"] > 0 for table in size["store"].values())
    assert "20 trials of 2 reports, 3 at once on 1 nodes" in out


@pytest.mark.nightly
def test_the_control_plane_benchmark_runs_on_several_nodes_with_halving(tmp_path):
    results, out = run(tmp_path, "control_plane", "--halving", nodes=2, at_once=4, trials=12, lanes=1, sleep=0.01)
    (size,) = results["sizes"]
    assert (size["nodes"], size["at_once"]) == (2, 4)
    assert 0 < size["pruned"] < 12
    assert all(part["gcs_cpu_ms_per_trial"] >= 0 for part in size["parts"])
    assert "12 trials of 2 reports, 4 at once on 2 nodes" in out


@pytest.mark.nightly
def test_the_terms_benchmark_reports_times_and_operations(tmp_path):
    results, _ = run(tmp_path, "terms", "--only", "byol", rounds=1)
    first, byol = results["terms"]
    assert first["times_first"] == first["products_times_first"] == 1
    assert byol["products_times_first"] > 1.1
    assert byol["step_ms"] > 0


@pytest.mark.nightly
def test_the_metrics_benchmark_agrees_with_the_library(tmp_path):
    results, _ = run(tmp_path, "metrics", models=3, clips=300, latents=4, plain_models=3)
    assert [row["metric"] for row in results["metrics"]] == ["MIG", "modularity"]
    for row in results["metrics"]:
        assert row["ms_a_model"] > 0
        assert row["largest_difference"] < 1e-9, row


@pytest.mark.nightly
def test_the_dci_benchmark_compares_with_scikit_learn(tmp_path):
    results, out = run(tmp_path, "dci", "--classes", "3", "5", clips=300, held_out=100, latents=6)
    assert results
    assert "scikit-learn" in out


@pytest.mark.nightly
def test_the_evaluation_benchmark_compares_with_the_training_of_a_model(tmp_path):
    results, out = run(tmp_path, "evaluation", models=2, rounds=1, frequencies=10)
    groups = {row["metrics"]: row for row in results["groups"]}
    assert {"information", "probes", "sap", "all together"} < groups.keys()
    for row in groups.values():
        assert row["share_of_training"] == pytest.approx(row["seconds"] / results["training_seconds"])
    assert "2 models on cpu" in out


@pytest.mark.nightly
def test_the_readers_benchmark_compares_readers_with_the_judge(tmp_path):
    sizes = ["--frequencies", "10", "--clips", "100", "200", "--steps", "3", "--lanes", "2", "--processes", "1"]
    sizes += ["--strategies", "none", "infonce"]
    results, out = run(tmp_path, "readers", str(tmp_path / "models"), *sizes)
    assert len(results["readers"]) == 3 * 2 * 2
    assert all(-1 <= row["tau"][0][0] <= 1 and row["seconds"] > 0 for row in results["readers"])
    assert [row["third"] for row in results["rungs"][:3]] == [0, 1, 2]
    assert [row["clips"] for row in results["spread"]] == [100, 200]
    assert results["judge_seconds"] > 0
    assert "4 models" in out


@pytest.mark.nightly
def test_the_dashboard_benchmark_reads_from_a_folder_and_from_s3(tmp_path):
    results, out = run(tmp_path, "dashboard", trials=100, rows=4)
    readings = results["readings"]
    assert list(readings) == [
        "from folder, kept",
        "from folder, nothing kept",
        "from S3, kept",
        "from S3, nothing kept",
    ]
    for title, (everything, nothing_new, *others) in readings.items():
        assert everything["rows"] == nothing_new["rows"]
        assert len(others) == (0 if "nothing" in title else 4)
        assert all(one["seconds"] > 0 and one["peak_rss_mb"] > 0 for one in readings[title])
    kept, forgotten = readings["from S3, kept"], readings["from S3, nothing kept"]
    assert kept[0]["requests"] == forgotten[0]["requests"] == forgotten[1]["requests"]
    assert kept[1]["requests"] == 5
    assert kept[2]["rows"][1] == kept[1]["rows"][1] + 4
    assert "new reports" in out


def test_phases_of_a_simulated_study_have_the_known_speeds():
    """10 s of start, 2 s at half the lanes, 8 s at all, 4 s at half again; 100 lane steps/s."""

    def at(time):
        lane_steps = 100 * min(max(time - 10, 0), 14)
        trained = lane_steps - 50 * (min(max(time - 10, 0), 2) + min(max(time - 20, 0), 4))
        training = 0.8 * lane_steps / 100
        return {
            "time": time,
            "trainers": 1,
            "replicates": 0 if time < 10 else 4 if 12 <= time <= 20 else 2,
            "trained_steps": trained,
            "lane_steps": lane_steps,
            "seconds/training": training,
            "seconds/evaluation": lane_steps / 100 - training,
            "seconds/writing": 0.0,
            "seconds/idle": min(time, 10) - 5 if time > 5 else 0.0,
        }

    samples = [at(time) for time in (8, 9, 11, 12, 13, 15, 20, 22, 24, 25)]
    found = phases(samples, lanes=4, last_start=20, ended=26)
    seconds = {name: phase["seconds"] for name, phase in found.items()}
    assert seconds == pytest.approx({"start": 10, "filling": 2, "steady": 8, "tail": 4, "end": 2, "whole": 26})
    speeds = {name: phase["trial_steps_per_second"] for name, phase in found.items()}
    assert speeds == pytest.approx({"start": 0, "filling": 50, "steady": 100, "tail": 50, "end": 0, "whole": 1100 / 26})
    assert found["steady"]["useful_share_of_lane_steps"] == pytest.approx(1)
    assert found["tail"]["useful_share_of_lane_steps"] == pytest.approx(0.5)
    assert found["steady"]["share_of_time"]["training"] == pytest.approx(0.8)
    assert found["steady"]["share_of_time"]["evaluation"] == pytest.approx(0.2)
    assert found["steady"]["trial_steps_per_training_second"] == pytest.approx(125)
    assert found["whole"]["share_of_time"]["idle"] == pytest.approx(2 / 16)  # the samples begin at the 8th second


def test_the_sleeping_trainer_has_all_methods_of_a_trainer():
    def methods(trainer):
        return {name for name in vars(trainer) if not name.startswith("_") and callable(getattr(trainer, name))}

    assert methods(SleepingTrainer) == methods(Trainer)


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("chromium") is None and not os.environ.get("CI"), reason="no Chromium")
def test_the_pages_benchmark_times_the_first_chart(tmp_path):
    results, out = run(tmp_path, "pages", trials=50)
    assert list(results["seconds"]) == ["the dashboard has just started", "another browser", "loaded again"]
    assert all(0 < seconds < 60 for seconds in results["seconds"].values())
    assert "first chart of 50 trials" in out


@pytest.mark.nightly
def test_the_feeding_benchmark_compares_with_resident_clips(tmp_path):
    results, _ = run(tmp_path, "feeding", "--no-compile", lanes=2, pairs=16, frequencies=20, seconds=0.2)
    assert results["same_to_the_bit"]
    assert results["bytes"] == 4 * results["bytes_allowed"] == 20 * 80 * 64 * 64 * 2
    rates = results["trial_steps_per_second"]
    assert results["share_of_the_resident_rate"] == pytest.approx(rates["fed"] / rates["resident"])


@pytest.mark.nightly
def test_the_embed_benchmark_compares_with_a_plain_loop(tmp_path):
    results, out = run(tmp_path, "embed", clips=200, plain=20)
    assert results["clips_per_second"].keys() == results["peak_bytes"].keys() == {"20", "200"}
    assert all(rate > 0 for rate in (*results["clips_per_second"].values(), results["plain_clips_per_second"]))
    assert results["largest_difference_to_plain"] < 1e-4
    assert "plain loop" in out
