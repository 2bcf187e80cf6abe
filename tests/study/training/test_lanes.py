"""What a trainer does, without Ray: the same code in this process."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

import marl
import study.training.evaluation as evaluator
import study.training.lanes as module
from marl.evaluation import INTERMEDIATE
from marl.stack import Stack
from study.errors import UnreadableObject
from study.spec.resolved_spec import ResolvedSpec
from study.training.lanes import Failure, Report
from tests.messages import assert_mentions, mentions
from tests.study.stores import new_store
from tests.study.training.in_process_lanes import (
    CONTRASTIVE,
    PLAIN,
    SEEDS,
    by_key,
    finish,
    kept_stacks,
    known,
    lanes_on,
    trained_alone,
)

pytestmark = pytest.mark.slow  # each trains for some seconds, and they are many


@pytest.fixture(scope="module", autouse=True)
def _stacks_are_kept():
    with kept_stacks():
        yield


@pytest.fixture
def store(tmp_path, tiny):
    store = new_store(tmp_path, tiny)
    store.write_baselines({"untrained": {"x": 0.0}, "replicates": 1})  # which take longer than all that trains here
    return store


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch):
    """However slow the machine, a chunk ends when a test says so or a report is due."""
    monkeypatch.setattr(module, "_CHUNK_S", 600.0)


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch):
    """What takes longer than all that trains here is measured elsewhere."""
    monkeypatch.setattr(evaluator, "FINAL", (*INTERMEDIATE, "sap"))


def test_every_replicate_reports_at_every_budget_and_leaves_its_model_and_latents(store):
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


def test_one_lane_suffices_and_gives_what_many_lanes_of_that_stack_give(tmp_path, tiny):
    tiny["resources"] = {"lanes": 1}
    store = new_store(tmp_path, tiny)
    together = lanes_on(store)
    together.add(0, PLAIN, SEEDS)
    together.add(1, CONTRASTIVE, SEEDS)
    expected = trained_alone(tmp_path / "alone", tiny, 1, CONTRASTIVE)
    found = by_key(finish(together))
    assert len(found) == 8
    assert all(found[key] == row for key, row in expected.items())


def test_replicates_that_come_later_give_what_they_give_together(tmp_path, tiny):
    expected = trained_alone(tmp_path / "together", tiny, 1, CONTRASTIVE)
    lanes = lanes_on(new_store(tmp_path / "later", tiny))
    assert known(lanes, 1, CONTRASTIVE, [0]) == []
    steps_left = iter(range(20))
    found = lanes.advance(interrupted=lambda: next(steps_left) >= 7)
    assert lanes.progress() == [(1, 0, 7)]
    assert known(lanes, 1, CONTRASTIVE, [1]) == []
    assert by_key([*found, *finish(lanes)]) == expected


def test_who_is_put_in_front_takes_the_next_lane_in_the_order_of_seeds(tmp_path, tiny):
    lanes = lanes_on(new_store(tmp_path, {**tiny, "resources": {"lanes": 1}, "replicates": 3}))
    for added in ((0, PLAIN, [0]), (1, PLAIN, [0]), (0, PLAIN, [1, 2], True), (2, PLAIN, [0])):
        assert known(lanes, *added) == []
    assert [(trial, seed) for trial, seed, _ in lanes.progress()] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
    finished = [(trial, seed) for trial, seed, step in by_key(finish(lanes)) if step == 30]
    assert finished == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]


def test_rungs_of_halving_are_reported_too(tmp_path, tiny):
    tiny["halving"] = {"reduction_factor": 2, "min_steps": 5}
    lanes = lanes_on(new_store(tmp_path, tiny))
    lanes.add(0, PLAIN, [0])
    reports = by_key(finish(lanes))
    assert [step for _, _, step in reports] == [5, 10, 15, 20, 30]
    assert all("disentanglement/linear_separation" in row for row in reports.values())


def test_an_interrupted_replicate_goes_on_from_its_checkpoint_and_ends_as_if_it_had_not_been(store, tmp_path, tiny):
    expected = trained_alone(tmp_path / "alone", tiny, 1, CONTRASTIVE)
    first = lanes_on(store)
    known(first, 0, PLAIN, SEEDS)
    known(first, 1, CONTRASTIVE, SEEDS)
    steps_left = iter(range(20))
    first.advance(interrupted=lambda: False)
    first.advance(interrupted=lambda: next(steps_left) >= 7)
    first.checkpoint()
    first.finish()
    assert {step for _, _, step in first.progress()} == {22}

    second = lanes_on(store)
    before = by_key(known(second, 1, CONTRASTIVE, SEEDS))
    assert sorted(before) == [(1, 0, 15), (1, 1, 15)]
    assert before | by_key(finish(second)) == expected
    assert second.trained_steps == 2 * 8


def test_a_finished_replicate_is_reported_again_and_not_trained_again(store):
    first = lanes_on(store)
    first.add(0, PLAIN, SEEDS)
    expected = by_key(finish(first))
    names = {name: store.objects.read(name) for name in store.objects.names("tiny/checkpoints")}
    second = lanes_on(store)
    assert by_key(known(second, 0, PLAIN, SEEDS)) == expected
    assert not second.is_busy
    assert {name: store.objects.read(name) for name in store.objects.names("tiny/checkpoints")} == names


def test_a_checkpoint_of_another_configuration_is_not_taken_up(store):
    first = lanes_on(store)
    first.add(0, PLAIN, SEEDS)
    finish(first)
    second = lanes_on(store)
    assert known(second, 0, CONTRASTIVE, SEEDS) == []
    finish(second)
    assert store.latest_checkpoint(0, 0).record["parameters"] == CONTRASTIVE


def test_a_damaged_checkpoint_costs_its_own_replicate_the_way_and_nothing_else(store):
    first = lanes_on(store)
    first.add(0, PLAIN, SEEDS)
    expected = by_key(finish(first))
    name = "tiny/checkpoints/0/0/30/model.safetensors"
    content = bytearray(store.objects.read(name))
    content[-1] ^= 1
    store.objects.write(name, bytes(content))
    second = lanes_on(store)
    with pytest.warns(UnreadableObject, match=mentions("checkpoints/0/0/30")):
        before = by_key(known(second, 0, PLAIN, SEEDS))
    assert before | by_key(finish(second)) == expected


def test_divergence_fails_the_trial_with_seed_and_step_and_touches_no_neighbour(tmp_path, tiny):
    tiny["space"]["optimiser.learning_rate"] = {"choice": [0.003, 1e12]}
    store = new_store(tmp_path / "a", tiny)
    lanes = lanes_on(store)
    lanes.add(0, {**PLAIN, "optimiser.learning_rate": 1e12}, SEEDS)
    lanes.add(1, {**CONTRASTIVE, "optimiser.learning_rate": 0.003}, SEEDS)
    results = finish(lanes)
    failures = [one for one in results if isinstance(one, Failure)]
    assert [one.trial for one in failures] == [0]
    assert_mentions(failures[0].error, "diverged", "loss", "seed 0", "step")

    reports = by_key(one for one in results if isinstance(one, Report))
    assert reports == trained_alone(tmp_path / "alone", tiny, 1, {**CONTRASTIVE, "optimiser.learning_rate": 0.003})


def test_a_model_that_breaks_in_the_last_step_fails_instead_of_reporting_nothing_sensible(store, monkeypatch):
    real = evaluator.evaluate

    def broken(models, shared, metric_groups):
        evaluation = real(models, shared, metric_groups)
        if "sap" not in metric_groups:
            evaluation.metrics[0]["fidelity/log_mel_rmse_db"] = math.inf
        return evaluation

    monkeypatch.setattr(evaluator, "evaluate", broken)
    lanes = lanes_on(store)
    for trial in (0, 1):  # both are there when the first step is trained, so that they are evaluated together
        known(lanes, trial, PLAIN, SEEDS)
    failures = [one for one in finish(lanes) if isinstance(one, Failure)]
    (failure,) = failures
    assert failure.trial == 0
    assert_mentions(failure.error, "diverged", "metrics", "seed 0", "step 15")


def test_a_report_that_waits_for_others_still_comes_before_those_of_later_steps(store, monkeypatch):
    monkeypatch.setattr(evaluator, "_INTERMEDIATE_WAIT_S", 600.0)
    monkeypatch.setattr(evaluator, "_FINAL_WAIT_S", 0.0)
    lanes = lanes_on(store)
    known(lanes, 0, PLAIN, SEEDS)
    assert lanes.advance(interrupted=lambda: False) == []  # at step 15, waiting for others
    # Another trial is still training when the first ends, so the pending evaluations are not flushed.
    known(lanes, 1, PLAIN, SEEDS[:1])
    reports = [one for one in finish(lanes) if isinstance(one, Report)]
    for trial, seeds in ((0, SEEDS), (1, SEEDS[:1])):
        for seed in seeds:
            steps = [one.row["step"] for one in reports if (one.trial, one.row["seed"]) == (trial, seed)]
            assert steps == [15, 30]
    checkpoint = store.latest_checkpoint(0, 0)
    assert [row["step"] for row in checkpoint.record["reports"]] == [15, 30]


def test_a_trial_that_is_removed_frees_its_lanes_and_its_place_in_line(store):
    lanes = lanes_on(store)
    for trial in range(4):
        known(lanes, trial, PLAIN, SEEDS)
    lanes.remove(0)
    lanes.remove(3)
    assert {trial for trial, _, _ in lanes.progress()} == {1, 2}
    assert {trial for trial, _, _ in by_key(finish(lanes))} == {1, 2}


def test_architectures_that_cannot_share_a_stack_train_side_by_side(tmp_path, tiny):
    tiny["space"]["model.hidden"] = {"choice": [16, 32]}
    store = new_store(tmp_path, tiny)
    lanes = lanes_on(store)
    lanes.add(0, {**PLAIN, "model.hidden": 16}, SEEDS)
    lanes.add(1, {**PLAIN, "model.hidden": 32}, SEEDS)
    assert len(by_key(finish(lanes))) == 8
    assert len(lanes.stacks._stacks) == 2


def test_checkpoints_are_written_by_the_clock(store, monkeypatch):
    monkeypatch.setattr(module, "_CHECKPOINT_EVERY_S", 0.0)
    lanes = lanes_on(store)
    known(lanes, 0, PLAIN, SEEDS)
    steps_left = iter(range(20))
    lanes.advance(interrupted=lambda: next(steps_left) >= 3)
    lanes.finish()
    found = store.latest_checkpoint(0, 1)
    assert found.step == 3
    assert "state.safetensors" in found.files


def test_the_configuration_in_a_checkpoint_is_what_was_trained(store):
    lanes = lanes_on(store)
    lanes.add(0, CONTRASTIVE, SEEDS)
    finish(lanes)
    metadata = marl.checkpoint.ModelMetadata.model_validate_json(store.latest_checkpoint(0, 0).files["config.json"])
    assert metadata.config == ResolvedSpec(store.metadata().spec).trial_config(CONTRASTIVE)
    assert dataclasses.asdict(store.latest_checkpoint(0, 0))["record"]["reports"][-1]["step"] == 30


def test_a_discarded_trial_leaves_no_checkpoint_whatever_was_being_written(store):
    lanes = lanes_on(store)
    known(lanes, 0, PLAIN, SEEDS)
    known(lanes, 1, PLAIN, SEEDS)
    lanes.advance(interrupted=lambda: False)
    lanes.checkpoint()
    lanes.discard(0)
    lanes.finish()
    assert store.latest_checkpoint(0, 0) is None
    assert store.latest_checkpoint(1, 0).step == 15
    assert {trial for trial, _, _ in by_key(finish(lanes))} == {1}


def test_a_checkpoint_has_all_reports_up_to_its_step_although_they_wait_for_company(store, monkeypatch):
    monkeypatch.setattr(evaluator, "_INTERMEDIATE_WAIT_S", 600.0)
    lanes = lanes_on(store)
    known(lanes, 0, PLAIN, [0])
    assert lanes.advance(interrupted=lambda: False) == []
    lanes.checkpoint()
    lanes.finish()
    assert [row["step"] for row in store.latest_checkpoint(0, 0).record["reports"]] == [15]
    assert [one.row["step"] for one in lanes.advance(interrupted=lambda: True)] == [15]


def test_while_models_wait_to_be_evaluated_their_replicates_train_on(store, monkeypatch):
    monkeypatch.setattr(evaluator, "_INTERMEDIATE_WAIT_S", 600.0)
    lanes = lanes_on(store)
    known(lanes, 0, PLAIN, [0])
    assert lanes.advance(interrupted=lambda: False) == []
    assert lanes.progress() == [(0, 0, 15)]
    found = lanes.advance(interrupted=lambda: False)
    assert lanes.progress() == []
    assert [one.row["step"] for one in [*found, *finish(lanes)]] == [15, 30]


def test_every_replicate_has_an_equal_share_of_the_device(tmp_path, tiny, monkeypatch):
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
    """Steps of stacks wider than that find no memory."""
    real = Stack.step

    def step(self):
        if self.lanes > lanes:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(self)

    monkeypatch.setattr(Stack, "step", step)


def test_out_of_memory_means_fewer_lanes_and_nothing_lost(store, tmp_path, tiny, monkeypatch):
    expected = trained_alone(tmp_path / "narrow", {**tiny, "resources": {"lanes": 1}}, 0, PLAIN)
    lanes = lanes_on(store)
    known(lanes, 0, PLAIN, SEEDS)
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


def test_no_memory_for_a_single_lane_is_an_error(store, monkeypatch):
    out_of_memory_above(0, monkeypatch)
    lanes = lanes_on(store)
    known(lanes, 0, PLAIN, SEEDS)
    with pytest.raises(torch.OutOfMemoryError):
        finish(lanes)


def test_a_rejected_compiled_step_is_a_notice_and_the_plain_step_trains(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda program, **_: lambda *arguments: 2 * program(*arguments))
    plain, compiled = ({**tiny, "resources": {"lanes": 2, "compile": flag}} for flag in (False, True))
    reports = []
    for content in (plain, compiled):
        store = new_store(tmp_path / str(content["resources"]["compile"]), content)
        store.write_baselines({"untrained": {"x": 0.0}, "replicates": 1})
        lanes = lanes_on(store)
        lanes.add(0, PLAIN, [0])
        reports.append(by_key(finish(lanes)))
    (notice,) = lanes.stacks.notices
    assert_mentions(notice, "compiled", "losses", "plain step")
    assert reports[0] == reports[1]
