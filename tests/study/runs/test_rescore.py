"""Models are measured again from what is stored of them, and the front once more after training."""

import numpy as np
import pytest

from marl.evaluation import RESCORABLE
from study.analysis.post_training import missing_post_training
from study.spec.columns import COLUMNS
from tests.messages import assert_mentions
from tests.study.commands import TINY
from tests.study.stores import results_of


def metrics_of(reports, step):
    """Everything but losses, which need what only training knows, by trial and seed."""
    last = reports[reports["step"] == step].set_index(["trial", "seed"])
    return last[[name for name in last if "/" in name and not name.startswith("loss/")]]


@pytest.mark.slow
def test_measured_again_in_another_order_every_metric_is_the_same_to_the_last_digit(
    cli_on_ray, finished_store, finished
):
    plain_vae = finished.baselines().set_index("baseline").loc["plain_vae"]
    before = metrics_of(finished.reports(), 30)
    written = sorted((finished_store / "tiny" / "reports").iterdir())
    for words in (["--trial", 3, "--trial", 1], []):
        outcome = cli_on_ray("rescore", "tiny", "--store", finished_store, *words)
        assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "10 models")
    rows = finished.store.read("reports")
    again = rows[rows["run"] > 1]
    assert again["metric_version"].notna().all()
    assert len(again) == 2 * 2 + 4 * 2
    for part in (again[again["run"] == 2], again[again["run"] == 3]):
        after = metrics_of(part, 30)
        assert "sampled_probe/timbre/shared" in after  # which is for the front alone, where it is not asked for
        np.testing.assert_array_equal(after[before.columns].to_numpy(), before.loc[after.index].to_numpy())
    # Earlier rows stay, and nothing is counted twice.
    assert set(written) <= set((finished_store / "tiny" / "reports").iterdir())
    later = results_of(finished_store)
    assert len(later.reports()) == len(finished.reports())
    plain_vae_again = later.baselines().set_index("baseline").loc["plain_vae"]
    assert plain_vae_again["disentanglement/separation"] == plain_vae["disentanglement/separation"]
    assert plain_vae_again["sampled_probe/amplitude/both"] >= 0


@pytest.mark.slow
def test_a_slow_metric_is_computed_for_the_requested_trials(cli_on_ray, finished_store, monkeypatch):
    monkeypatch.setattr("study.progress._LINE_EVERY_S", 0.0)
    outcome = cli_on_ray("rescore", "tiny", "--store", finished_store, "--trial", 2, "--metrics", "dci,sound")
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "4 of 4 evaluations")
    results = results_of(finished_store)
    table = results.results().set_index("trial")
    assert 0 <= table.loc[2, "disentanglement/dci"] <= 1
    assert table.loc[2, "fidelity/stft_error"] > table.loc[2, "fidelity/stft_error/floor"] > 0
    assert table.loc[[0, 1, 3], "disentanglement/dci"].isna().all()
    assert table["disentanglement/separation"].notna().all()
    outcome = cli_on_ray("rescore", "tiny", "--store", finished_store, "--trial", 2, "--test", "--metrics", "fidelity")
    assert outcome.status == 0, outcome.err
    table = results_of(finished_store).results().set_index("trial")
    assert table.loc[2, "test/fidelity/log_mel_rmse_db"] != table.loc[2, "fidelity/log_mel_rmse_db"]
    assert [name for name in table if not any(column.matches(name) for column in COLUMNS)] == []


@pytest.mark.slow
def test_models_without_weights_are_named_after_the_others_were_evaluated(cli_on_ray, finished_store, finished):
    finished.store.objects.delete("tiny/checkpoints/1/0")
    finished.store.objects.write("tiny/checkpoints/2/1/30/model.safetensors", b"damaged")
    finished.store.delete_checkpoints(3)
    finished.store.write_discarded(3)
    words = ("rescore", "tiny", "--store", finished_store, "--metrics", "fidelity")
    outcome = cli_on_ray(*words)
    assert outcome.status == 1
    assert_mentions(outcome.err, "left out", "clean", "trials 3")
    last = outcome.err.splitlines()[-1]
    assert_mentions(last, "error:", "trial 1 seed 0", "trial 2 seed 1", finished_store)
    assert "trial 3" not in last
    rows = finished.store.read("reports")
    again = rows[rows["run"] > 1]
    assert sorted(zip(again["trial"], again["seed"], strict=True)) == [(0, 0), (0, 1), (1, 1), (2, 0)]
    outcome = cli_on_ray(*words, "--trial", 3)
    assert outcome.status == 1
    assert_mentions(outcome.err, "trial 3 seed 0", "trial 3 seed 1")
    assert cli_on_ray(*words, "--trial", 0).status == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--metrics", "mig,frobnicate"], ["'mig'", "metrics", "fidelity"]),
        (["--metrics", "dci", "--test"], ["dci", "validation"]),
        (["--trial", 9], ["trial", 9, "complete", "0, 1, 2, 3"]),
    ],
)
def test_metrics_that_cannot_be_computed_are_reported_before_anything_starts(cli, finished_store, words, facts):
    outcome = cli("rescore", "tiny", "--store", finished_store, *words)
    assert outcome.status == 2
    assert_mentions(outcome.err, *facts)
    assert len(results_of(finished_store).runs) == 1


def test_all_metrics_but_losses_can_be_computed_from_weights():
    assert "losses" not in RESCORABLE
    assert "probes" in RESCORABLE


@pytest.mark.slow
def test_after_training_the_front_is_evaluated_with_missing_metrics_added_later(cli_on_ray, spec_file, tmp_path):
    spec = {**TINY, "post_training": ["test", "dci"], "search": {"sampler": "qmc", "trials": 2}}
    outcome = cli_on_ray("run", spec_file(spec), "--store", tmp_path / "runs", with_plain_vae=True)
    assert outcome.status == 0, outcome.err
    results = results_of(tmp_path / "runs")
    assert missing_post_training(results) == {}
    front = results.front()
    for name in ("test/disentanglement/separation", "test/probe/timbre/shared", "disentanglement/dci"):
        assert front[name].notna().all()
        assert front[f"{name}/sd"].notna().all()
    assert "fidelity/stft_error" not in front
    # The baselines stand beside them, measured alike, and are no trials.
    baselines = results.baselines().set_index("baseline")
    assert list(baselines.index) == ["untrained", "plain_vae"]
    assert baselines.loc["plain_vae", "disentanglement/dci"] >= 0
    assert results.results()["trial"].tolist() == [0, 1]
    # A study that was stopped before the evaluation continues with it.
    rows = results.store.read("reports")
    keep = rows.drop(columns=[name for name in rows if name.startswith(("test/", "disentanglement/dci"))])
    keep = keep.groupby(["trial", "seed", "step"], as_index=False).first().drop(columns="run")
    results.store.objects.delete("tiny/reports")
    results.store.append("reports", 1, 1, keep.to_dict("records"))
    assert set(missing_post_training(results_of(tmp_path / "runs"))) == {"test", "dci"}
    outcome = cli_on_ray("resume", "tiny", "--store", tmp_path / "runs")
    assert outcome.status == 0, outcome.err
    assert "evaluating the front" in outcome.err
    assert missing_post_training(results_of(tmp_path / "runs")) == {}
