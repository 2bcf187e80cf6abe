from types import SimpleNamespace

import pytest

from study.errors import Interrupted
from study.formatting import format_bytes
from study.runs.dry_run import estimate_storage, storage_line
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from tests.messages import assert_mentions


def of(content, trials=4, lanes=4):
    resolved = resolve(parse_spec(content, "spec"))
    return estimate_storage(resolved, resolved.stack_plan(lanes), trials, resolved.data.factors())


def test_twice_the_trials_write_twice_the_models_and_latents_and_no_more_in_training(tiny):
    once, twice = of(tiny, trials=4), of(tiny, trials=8)
    assert (twice.models, twice.latents) == (2 * once.models, 2 * once.latents)
    assert once.tables < twice.tables <= 2 * once.tables
    assert twice.training == once.training


def test_concurrent_replicates_are_bounded_by_lanes_and_by_all_replicates(tiny):
    assert of(tiny, trials=1, lanes=64).training == of(tiny, trials=1, lanes=2).training
    assert of(tiny, lanes=2).training == of(tiny, lanes=1).training * 2


def test_weights_are_counted_at_four_bytes_of_the_widest_network_of_the_space(tiny):
    plain = of(tiny)
    tiny["space"]["model.hidden"] = {"choice": [16, 32]}
    assert of(tiny).models == pytest.approx(plain.models, rel=0.01)
    tiny["space"]["model.hidden"] = {"choice": [16, 320]}
    assert of(tiny).models > 3 * plain.models
    # The smaller patches make the larger network here: the hidden layer sees more of them.
    tiny["space"] = {"latent.private": {"choice": [2, 4]}, "model.patch_frames": {"choice": [8, 64]}}
    assert of(tiny).models > 1.5 * plain.models


def test_a_line_states_the_size_and_place_of_the_study(tiny):
    found = of(tiny)
    total = (found.kept + found.training) / 1e6
    assert_mentions(storage_line(found, "runs/tiny"), f"{total:.3g} MB", "runs/tiny")


def test_a_run_starts_with_that_line_for_its_trials_and_the_plain_vae(cli, spec_file, tiny, tmp_path, monkeypatch):
    def stopped_at_once(*arguments):
        raise Interrupted

    monkeypatch.setattr("study.runs.driver.run_study", stopped_at_once)
    outcome = cli("run", spec_file(tiny), "--store", tmp_path / "runs")
    assert outcome.status == 130
    assert outcome.err.startswith(storage_line(of(tiny, trials=5), str(tmp_path / "runs" / "tiny")))


@pytest.mark.parametrize(("share", "halving"), [(2.0, False), (0.9, False), (0.4, True)])
def test_a_disk_that_may_become_full_is_warned_about(cli, spec_file, tiny, tmp_path, monkeypatch, share, halving):
    if halving:
        tiny["halving"] = {"min_steps": 10}
    outcome = cli_with_free_space(cli, spec_file(tiny), tmp_path, monkeypatch, share * size(of(tiny, trials=5)))
    assert outcome.status == 130, outcome.err
    assert ("warning: " in outcome.err) == (share < 1)
    if share < 1:
        assert_mentions(outcome.err, "warning", tmp_path, "free", "10 min")


def test_a_study_that_cannot_fit_the_disk_is_refused_before_it_trains(cli, spec_file, tiny, tmp_path, monkeypatch):
    needed = size(of(tiny, trials=5))
    outcome = cli_with_free_space(cli, spec_file(tiny), tmp_path, monkeypatch, 0.4 * needed)
    assert outcome.status == 2
    assert_mentions(outcome.err, "error: ", tmp_path, format_bytes(0.4 * needed), format_bytes(needed), "--store")


def size(estimate):
    return estimate.kept + estimate.training


def cli_with_free_space(cli, spec_path, folder, monkeypatch, free):
    def stopped_at_once(*arguments):
        raise Interrupted

    monkeypatch.setattr("study.runs.driver.run_study", stopped_at_once)
    monkeypatch.setattr("study.runs.dry_run.shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    return cli("run", spec_path, "--store", folder / "runs")


@pytest.mark.slow
def test_a_finished_study_has_written_no_more_and_not_much_less(finished):
    sizes = {name: entry.size for name, entry in finished.store.objects.entries("tiny").items()}

    def real(*folders):
        return sum(size for name, size in sizes.items() if name.removeprefix("tiny/").startswith(folders))

    resolved, plan = ResolvedSpec(finished.spec), StackPlan.model_validate(finished.metadata.stack)
    found = estimate_storage(resolved, plan, 5, resolved.data.factors())  # and the plain VAE
    assert real("checkpoints/") <= found.models <= 1.5 * real("checkpoints/")
    assert real("latents/") <= found.latents <= 3 * real("latents/")
    assert real("trials/", "reports/") <= found.tables
    assert sum(sizes.values()) <= found.kept <= 2 * sum(sizes.values())
    assert found.kept + found.training <= 4 * sum(sizes.values())


@pytest.mark.slow
def test_an_optimiser_state_is_two_moments_of_each_weight(finished):
    resolved, plan = ResolvedSpec(finished.spec), StackPlan.model_validate(finished.metadata.stack)
    found = estimate_storage(resolved, plan, 5, resolved.data.factors())  # and the plain VAE
    weights = len(finished.store.latest_checkpoint(0, 0).files["model.safetensors"])
    assert found.training >= plan.lanes * 3 * weights
