"""Lanes in this process, without Ray."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

import marl
import study.training.evaluation as evaluator
import study.training.lanes as module
from marl.evaluation import INTERMEDIATE
from marl.metrics import METRIC_VERSION
from marl.stack import Stack
from study.errors import UnreadableObject
from study.spec.resolved_spec import ResolvedSpec
from study.training.trials import Failure, Report
from tests.messages import assert_mentions, mentions
from tests.study.stores import new_store
from tests.study.training.in_process_lanes import (
    CONTRASTIVE,
    PLAIN,
    SEEDS,
    by_key,
    finish,
    kept_stacks,
    lanes_on,
    restored_reports,
    trained_alone,
)

pytestmark = pytest.mark.slow  # each test trains for some seconds


@pytest.fixture(scope="module", autouse=True)
def _stacks_are_kept():
    with kept_stacks():
        yield


@pytest.fixture
def store(tmp_path, tiny):
    store = new_store(tmp_path, tiny)
    # Because baselines take longer than training.
    store.write_baselines({"untrained": {"x": 0.0}, "replicates": 1, "metric_version": METRIC_VERSION})
    return store


@pytest.fixture(autouse=True)
def _long_chunks(monkeypatch):
    """On a slow machine, too, a chunk ends only by the interruption of a test or at a budget."""
    monkeypatch.setattr(module, "_CHUNK_S", 600.0)


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch):
    """Probes take longer than the training of these tests."""
    monkeypatch.setattr(evaluator, "FINAL", (*INTERMEDIATE, "sap"))


def test_every_replicate_reports_at_every_budget_and_writes_its_model_and_latents(store):
    lanes = lanes_on(store)
    lanes.add(0, PLAIN, SEEDS)
    lanes.add(1, CONTRASTIVE, SEEDS)
    reports = by_key(finish(lanes))
    assert sorted(reports) == [(trial, seed, step) for trial in (0, 1) for seed in (0, 1) for step in (15, 30)]
    assert "disentanglement/sap" in reports[0, 0, 30]
    assert "disentanglement/sap" not in reports[0, 0, 15]
    assert lanes.trained_steps == 4 * 30
    for trial, private in ((0, 2), (1, 4)):
        checkpoint = store.latest_checkpoint(trial, 1)
        assert checkpoint.step == 30
        assert "state.safetensors" not in checkpoint.files
        model = marl.load(f"{store.uri}/checkpoints/{trial}/1/30")
        assert model.private == private
        latents = pd.read_parquet(f"{store.uri}/latents/{trial}-1.parquet")
        assert len(latents) == 64
        assert [name for name in latents if name.startswith("private/")] == [f"private/{i}" for i in range(private)]
        assert set(latents["factor/timbre"]) <= {"sine", "triangle", "sawtooth", "square"}


def test_one_lane_gives_the_same_results_as_many_lanes(tmp_path, tiny):
    tiny["resources"] = {"lanes": 1}
    store = new_store(tmp_path, tiny)
    together = lanes_on(store)
    together.add(0, PLAIN, SEEDS)
    together.add(1, CONTRASTIVE, SEEDS)
    expected = trained_alone(tmp_path / "alone", tiny, 1, CONTRASTIVE)
    found = by_key(finish(together))
    assert len(found) == 8
    assert all(found[key] == row for key, row in expected.items())


def test_replicates_that_start_later_have_the_same_results(tmp_path, tiny):
    expected = trained_alone(tmp_path / "together", tiny, 1, CONTRASTIVE)
    lanes = lanes_on(new_store(tmp_path / "later", tiny))
    assert restored_reports(lanes, 1, CONTRASTIVE, [0]) == []
    steps_left = iter(range(20))
    found = lanes.advance(interrupted=lambda: next(steps_left) >= 7)
    assert lanes.progress() == [(1, 0, 7)]
    assert restored_reports(lanes, 1, CONTRASTIVE, [1]) == []
    assert by_key([*found, *finish(lanes)]) == expected


def test_replicates_at_the_front_of_the_queue_take_the_next_lanes_in_the_order_of_seeds(tmp_path, tiny):
    lanes = lanes_on(new_store(tmp_path, {**tiny, "resources": {"lanes": 1}, "replicates": 3}))
    for added in ((0, PLAIN, [0]), (1, PLAIN, [0]), (0, PLAIN, [1, 2], True), (2, PLAIN, [0])):
        assert restored_reports(lanes, *added) == []
    assert [(trial, seed) for trial, seed, _ in lanes.progress()] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
    finished = [(trial, seed) for trial, seed, step in by_key(finish(lanes)) if step == 30]
    assert finished == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]


def test_there_is_a_report_at_each_rung(tmp_path, tiny):
    tiny["halving"] = {"reduction_factor": 2, "min_steps": 5}
    lanes = lanes_on(new_store(tmp_path, tiny))
    lanes.add(0, PLAIN, [0])
    reports = by_key(finish(lanes))
    assert [step for _, _, step in reports] == [5, 10, 15, 20, 30]
    assert all("disentanglement/linear_separation" in row for row in reports.values())


def test_an_interrupted_replicate_resumes_from_its_checkpoint_with_the_same_results(store, tmp_path, tiny):
    expected = trained_alone(tmp_path / "alone", tiny, 1, CONTRASTIVE)
    first = lanes_on(store)
    restored_reports(first, 0, PLAIN, SEEDS)
    restored_reports(first, 1, CONTRASTIVE, SEEDS)
    steps_left = iter(range(20))
    first.advance(interrupted=lambda: False)
    first.advance(interrupted=lambda: next(steps_left) >= 7)
    first.checkpoint()
    first.finish()
    assert {step for _, _, step in first.progress()} == {22}

    second = lanes_on(store)
    before = by_key(restored_reports(second, 1, CONTRASTIVE, SEEDS))
    assert sorted(before) == [(1, 0, 15), (1, 1, 15)]
    assert before | by_key(finish(second)) == expected
    assert second.trained_steps == 2 * 8


def test_a_finished_replicate_is_reported_again_but_not_trained_again(store):
    first = lanes_on(store)
    first.add(0, PLAIN, SEEDS)
    expected = by_key(finish(first))
    names = {name: store.objects.read(name) for name in store.objects.names("tiny/checkpoints")}
    second = lanes_on(store)
    assert by_key(restored_reports(second, 0, PLAIN, SEEDS)) == expected
    assert not second.is_busy
    assert {name: store.objects.read(name) for name in store.objects.names("tiny/checkpoints")} == names


def test_a_checkpoint_of_another_configuration_is_ignored(store):
    first = lanes_on(store)
    first.add(0, PLAIN, SEEDS)
    finish(first)
    second = lanes_on(store)
    assert restored_reports(second, 0, CONTRASTIVE, SEEDS) == []
    finish(second)
    assert store.latest_checkpoint(0, 0).record["parameters"] == CONTRASTIVE


def test_a_damaged_checkpoint_restarts_only_its_replicate(store):
    first = lanes_on(store)
    first.add(0, PLAIN, SEEDS)
    expected = by_key(finish(first))
    name = "tiny/checkpoints/0/0/30/model.safetensors"
    content = bytearray(store.objects.read(name))
    content[-1] ^= 1
    store.objects.write(name, bytes(content))
    second = lanes_on(store)
    with pytest.warns(UnreadableObject, match=mentions("checkpoints/0/0/30")):
        before = by_key(restored_reports(second, 0, PLAIN, SEEDS))
    assert before | by_key(finish(second)) == expected


def test_divergence_fails_the_trial_with_seed_and_step_and_changes_no_neighbour(tmp_path, tiny):
    tiny["space"]["optimiser.learning_rate"] = {"choice": [0.003, 1e12]}
    store = new_store(tmp_path / "a", tiny)
    lanes = lanes_on(store)
    lanes.add(0, {**PLAIN, "optimiser.learning_rate": 1e12}, SEEDS)
    lanes.add(1, {**CONTRASTIVE, "optimiser.learning_rate": 0.003}, SEEDS)
    results = finish(lanes)
    failures = [result for result in results if isinstance(result, Failure)]
    assert [result.trial for result in failures] == [0]
    assert_mentions(failures[0].error, "diverged", "loss", "seed 0", "step")

    reports = by_key(result for result in results if isinstance(result, Report))
    assert reports == trained_alone(tmp_path / "alone", tiny, 1, {**CONTRASTIVE, "optimiser.learning_rate": 0.003})


def test_a_model_that_diverges_in_the_last_step_fails_its_trial(store, monkeypatch):
    monkeypatch.setitem(evaluator._MAX_GROUP_SIZES, "cpu", 4)
    real = evaluator.evaluate

    def broken(models, shared, metric_groups):
        evaluation = real(models, shared, metric_groups)
        if "sap" not in metric_groups:
            evaluation.metrics[0]["fidelity/log_mel_rmse_db"] = math.inf
        return evaluation

    monkeypatch.setattr(evaluator, "evaluate", broken)
    lanes = lanes_on(store)
    for trial in (0, 1):  # both start with the first step, so that they are evaluated together
        restored_reports(lanes, trial, PLAIN, SEEDS)
    failures = [result for result in finish(lanes) if isinstance(result, Failure)]
    (failure,) = failures
    assert failure.trial == 0
    assert_mentions(failure.error, "diverged", "metrics", "seed 0", "step 15")


def test_reports_of_a_replicate_are_in_the_order_of_steps(store, monkeypatch):
    monkeypatch.setitem(evaluator._MAX_GROUP_SIZES, "cpu", 4)
    monkeypatch.setattr(evaluator, "_INTERMEDIATE_WAIT_S", 600.0)
    monkeypatch.setattr(evaluator, "_FINAL_WAIT_S", 0.0)
    lanes = lanes_on(store)
    restored_reports(lanes, 0, PLAIN, SEEDS)
    assert lanes.advance(interrupted=lambda: False) == []  # at step 15, in a group that is not full
    # Another trial is still training when the first ends, so the pending evaluations are not flushed.
    restored_reports(lanes, 1, PLAIN, SEEDS[:1])
    reports = [result for result in finish(lanes) if isinstance(result, Report)]
    for trial, seeds in ((0, SEEDS), (1, SEEDS[:1])):
        for seed in seeds:
            steps = [result.row["step"] for result in reports if (result.trial, result.row["seed"]) == (trial, seed)]
            assert steps == [15, 30]
    checkpoint = store.latest_checkpoint(0, 0)
    assert [row["step"] for row in checkpoint.record["reports"]] == [15, 30]


def test_reports_at_rungs_have_the_objectives_and_other_intermediate_ones_do_not(tmp_path, tiny):
    halving = {"reduction_factor": 2, "min_steps": 5}
    lanes = lanes_on(new_store(tmp_path, {**tiny, "objectives": {"disentanglement/sap": "max"}, "halving": halving}))
    lanes.add(0, PLAIN, [0])
    rows = [result.row for result in finish(lanes)]
    assert {row["step"]: "disentanglement/sap" in row for row in rows} == {
        5: True, 10: True, 15: False, 20: True, 30: True
    }  # fmt: skip


def test_final_reports_may_be_limited_to_what_the_objectives_need(tmp_path, tiny):
    objectives = {"fidelity/log_mel_rmse_db": "min"}
    lanes = lanes_on(new_store(tmp_path, {**tiny, "objectives": objectives, "final_metrics": "objectives"}))
    lanes.add(0, PLAIN, [0])
    intermediate, final = (result.row for result in finish(lanes))
    assert set(final) == set(intermediate)
    assert {*objectives, "loss/total"} < set(final)


def test_a_removed_trial_leaves_its_lanes_and_the_queue(store):
    lanes = lanes_on(store)
    for trial in range(4):
        restored_reports(lanes, trial, PLAIN, SEEDS)
    lanes.remove(0)
    lanes.remove(3)
    assert {trial for trial, _, _ in lanes.progress()} == {1, 2}
    assert {trial for trial, _, _ in by_key(finish(lanes))} == {1, 2}


def test_architectures_that_cannot_share_a_stack_train_in_several(tmp_path, tiny):
    tiny["space"]["model.hidden"] = {"choice": [16, 32]}
    store = new_store(tmp_path, tiny)
    lanes = lanes_on(store)
    lanes.add(0, {**PLAIN, "model.hidden": 16}, SEEDS)
    lanes.add(1, {**PLAIN, "model.hidden": 32}, SEEDS)
    assert len(by_key(finish(lanes))) == 8
    assert len(lanes.stacks._stacks) == 2


def test_checkpoints_are_written_at_intervals_of_time(store, monkeypatch):
    monkeypatch.setattr(module, "_CHECKPOINT_EVERY_S", 0.0)
    lanes = lanes_on(store)
    restored_reports(lanes, 0, PLAIN, SEEDS)
    steps_left = iter(range(20))
    lanes.advance(interrupted=lambda: next(steps_left) >= 3)
    lanes.finish()
    found = store.latest_checkpoint(0, 1)
    assert found.step == 3
    assert "state.safetensors" in found.files


def test_a_checkpoint_has_the_configuration_that_was_trained(store):
    lanes = lanes_on(store)
    lanes.add(0, CONTRASTIVE, SEEDS)
    finish(lanes)
    metadata = marl.checkpoint.ModelMetadata.model_validate_json(store.latest_checkpoint(0, 0).files["config.json"])
    assert metadata.config == ResolvedSpec(store.metadata().spec).trial_config(CONTRASTIVE)
    assert dataclasses.asdict(store.latest_checkpoint(0, 0))["record"]["reports"][-1]["step"] == 30


def test_a_discarded_trial_has_no_checkpoint_even_if_one_was_being_written(store):
    lanes = lanes_on(store)
    restored_reports(lanes, 0, PLAIN, SEEDS)
    restored_reports(lanes, 1, PLAIN, SEEDS)
    lanes.advance(interrupted=lambda: False)
    lanes.checkpoint()
    lanes.discard(0)
    lanes.finish()
    assert store.latest_checkpoint(0, 0) is None
    assert store.latest_checkpoint(1, 0).step == 15
    assert {trial for trial, _, _ in by_key(finish(lanes))} == {1}


def test_a_checkpoint_has_all_reports_up_to_its_step_although_groups_are_not_full(store, monkeypatch):
    monkeypatch.setattr(evaluator, "_INTERMEDIATE_WAIT_S", 600.0)
    lanes = lanes_on(store)
    restored_reports(lanes, 0, PLAIN, [0])
    assert lanes.advance(interrupted=lambda: False) == []
    lanes.checkpoint()
    lanes.finish()
    assert [row["step"] for row in store.latest_checkpoint(0, 0).record["reports"]] == [15]
    assert [result.row["step"] for result in lanes.advance(interrupted=lambda: True)] == [15]


def test_replicates_train_on_while_their_models_wait_for_evaluation(store, monkeypatch):
    monkeypatch.setattr(evaluator, "_INTERMEDIATE_WAIT_S", 600.0)
    lanes = lanes_on(store)
    restored_reports(lanes, 0, PLAIN, [0])
    assert lanes.advance(interrupted=lambda: False) == []
    assert lanes.progress() == [(0, 0, 15)]
    found = lanes.advance(interrupted=lambda: False)
    assert lanes.progress() == []
    assert [result.row["step"] for result in [*found, *finish(lanes)]] == [15, 30]


def test_every_replicate_has_an_equal_share_of_the_time(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_S", 4.0)
    tiny["space"]["model.hidden"] = {"choice": [16, 32]}
    lanes = lanes_on(new_store(tmp_path, tiny))
    chunks = []
    clock = iter(range(10_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))

    def train(self):
        chunks[-1][1] += 1

    monkeypatch.setattr(Stack, "step", train)
    monkeypatch.setattr(module.Lanes, "_queue_evaluations", lambda self, key: None)
    real = module.Lanes._train

    def counted(self, architecture, interrupted):
        chunks.append([len(self._occupied(architecture)), 0])
        real(self, architecture, interrupted)

    monkeypatch.setattr(module.Lanes, "_train", counted)
    lanes._budgets = (10_000,)
    for trial, hidden, seeds in ((0, 16, [0, 1, 2]), (1, 32, [0])):
        lanes.add(trial, {**PLAIN, "model.hidden": hidden}, seeds)
        lanes.finish()
    lanes.advance(interrupted=lambda: False)
    (many, steps_of_many), (one, steps_of_one) = chunks
    assert (many, one) == (3, 1)
    assert steps_of_many == 3 * steps_of_one


def out_of_memory_above(lanes, monkeypatch):
    """Let steps of stacks with more lanes run out of memory."""
    real = Stack.step

    def step(self):
        if self.lanes > lanes:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(self)

    monkeypatch.setattr(Stack, "step", step)


def test_out_of_memory_halves_the_lanes_and_loses_no_step(store, tmp_path, tiny, monkeypatch):
    expected = trained_alone(tmp_path / "narrow", {**tiny, "resources": {"lanes": 1}}, 0, PLAIN)
    lanes = lanes_on(store)
    restored_reports(lanes, 0, PLAIN, SEEDS)
    lanes.advance(interrupted=lambda: False)  # to step 15 in four lanes
    out_of_memory_above(1, monkeypatch)
    found = by_key(finish(lanes))
    first, second = lanes.stacks.notices
    assert_mentions(first, "out of memory", "4 lanes", 2)
    assert_mentions(second, "out of memory", "2 lanes", 1)
    assert lanes.stacks.plan.lanes == 1
    assert lanes.trained_steps == 2 * 30  # none is trained twice
    assert {key for key in found if key[2] == 30} == {key for key in expected if key[2] == 30}
    for key in found:
        name = "fidelity/log_mel_rmse_db"
        assert found[key][name] == pytest.approx(expected[key][name], rel=1e-3)  # sums in another order


def test_out_of_memory_with_one_lane_is_an_error(store, monkeypatch):
    out_of_memory_above(0, monkeypatch)
    lanes = lanes_on(store)
    restored_reports(lanes, 0, PLAIN, SEEDS)
    with pytest.raises(torch.OutOfMemoryError):
        finish(lanes)


def test_a_rejected_compiled_step_is_a_notice_and_the_plain_step_trains(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda program, **_: lambda *arguments: 2 * program(*arguments))
    tiny["train"]["precision"] = "float32"  # where bfloat16 is fast, compiled steps would use it
    plain, compiled = ({**tiny, "resources": {"lanes": 2, "compile": flag}} for flag in (False, True))
    reports = []
    for content in (plain, compiled):
        store = new_store(tmp_path / str(content["resources"]["compile"]), content)
        store.write_baselines({"untrained": {"x": 0.0}, "replicates": 1, "metric_version": METRIC_VERSION})
        lanes = lanes_on(store)
        lanes.add(0, PLAIN, [0])
        reports.append(by_key(finish(lanes)))
    (notice,) = lanes.stacks.notices
    assert_mentions(notice, "compiled", "losses", "plain step")
    assert reports[0] == reports[1]
