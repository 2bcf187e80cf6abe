"""Law 1: what a replicate becomes is a function of its configuration and seed alone."""

import numpy as np
import pytest
import torch

from marl.config import ViewsConfig
from marl.data import PairSampler
from marl.evaluation import FINAL, INTERMEDIATE, evaluate
from marl.metrics.readers import reader
from marl.models import Architecture, ModelConfig
from marl.objective import Batch, LaneHyperparameters, build_hyperparameters, objective
from marl.stack import Stack
from marl.stack.step import draw_batch
from tests.marl.cases import (
    ACTIVE_TERMS,
    CONV,
    DIVERGING,
    OTHERS,
    PATCH,
    PROBAND,
    assert_same_bits,
    empty,
    of,
    train,
    train_alone,
    train_disturbed,
)
from tests.messages import mentions

# `test_readers` checks that readers do not depend on the other representations of a batch.
WITHOUT_NETWORKS = tuple(group for group in FINAL if group not in ("information", "probes"))


@pytest.mark.parametrize(
    ("model", "lanes", "steps"),
    [
        (PATCH, 3, 60),
        (CONV, 3, 6),
        pytest.param(PATCH, 4, 60, marks=pytest.mark.slow),
        pytest.param(PATCH, 5, 40, marks=pytest.mark.slow),
        pytest.param(PATCH, 4, 200, marks=pytest.mark.slow),
        pytest.param(CONV, 4, 16, marks=pytest.mark.nightly),
        pytest.param(CONV, 5, 10, marks=pytest.mark.slow),
        pytest.param(CONV, 8, 4, marks=pytest.mark.nightly),
    ],
)
def test_a_replicate_ends_with_the_same_bits_alone_and_among_neighbours_with_an_interruption(
    shared_stack, model, lanes, steps
):
    stack, proband = shared_stack(lanes, model), of(model, PROBAND)
    alone = train_alone(stack, proband, steps)
    others = [of(model, other) for other in OTHERS]
    crowded = train_disturbed(stack, {"proband": proband}, steps, others, of(model, DIVERGING))
    assert_same_bits(crowded["proband"], alone)


def test_metrics_do_not_depend_on_lane_or_neighbours(shared_stack, monkeypatch):
    for name in ("_STRONG_NETWORK", "_LIGHTWEIGHT_NETWORK"):
        monkeypatch.setattr(reader, name, getattr(reader, name)._replace(max_steps=20))
    stack = shared_stack(3)
    stack.attach(PROBAND, seed=2)
    train(stack, 10)
    expected = evaluate(stack.models, ["timbre"], FINAL).metrics[0]
    empty(stack)
    for seed, config in enumerate((DIVERGING, OTHERS[0], PROBAND)):
        stack.attach(config, seed)
    train(stack, 10)
    assert stack.diverged().keys() == {0}
    assert evaluate(stack.models, ["timbre"], FINAL).metrics[2] == expected


@pytest.mark.parametrize(
    ("lanes", "model"),
    [
        pytest.param(8, ModelConfig(), marks=pytest.mark.slow),
        (3, PATCH),
        pytest.param(5, PATCH, marks=pytest.mark.slow),
        pytest.param(8, ModelConfig(kind="conv"), marks=pytest.mark.nightly),
        (3, CONV),
        pytest.param(5, CONV, marks=pytest.mark.slow),
    ],
)
def test_the_same_replicate_has_the_same_bits_and_metrics_in_every_lane(shared_stack, lanes, model):
    stack = shared_stack(lanes, model)
    for _ in range(lanes):
        stack.attach(of(model, PROBAND), seed=0)
    train(stack, 15)
    first, *others = evaluate(stack.models, ["timbre"], WITHOUT_NETWORKS).metrics
    for lane, metrics in enumerate(others, start=1):
        assert_same_bits(stack.snapshot(lane), stack.snapshot(0))
        assert metrics == first


@pytest.mark.parametrize("model", [PATCH, pytest.param(CONV, marks=pytest.mark.slow)])
def test_one_step_agrees_across_stack_widths_within_a_millionth(shared_stack, model):
    one, eight = shared_stack(1, model), shared_stack(8, model)
    one.attach(of(model, PROBAND), seed=0)
    train(one, 50)
    state = one.snapshot(0)
    for seed in range(7):
        eight.attach(of(model, OTHERS[seed % 2]), seed)
    lane = eight.attach(of(model, PROBAND), seed=0, snapshot=state)
    train(one, 1)
    train(eight, 1)
    for name, value in eight.snapshot(lane).parameters.items():
        # The order of sums changes a few units in the last place of the gradient; the learning rate is 0.003.
        torch.testing.assert_close(value, one.snapshot(0).parameters[name], rtol=0, atol=1e-6)


@pytest.mark.nightly
def test_differences_across_stack_widths_stay_below_the_spread_over_seeds(shared_stack):
    seeds, steps = 20, 120
    one, eight = shared_stack(1), shared_stack(8)

    def final(stack: Stack) -> np.ndarray:
        rows = []
        for first in range(0, seeds, stack.lanes):
            group = range(first, min(first + stack.lanes, seeds))
            lanes = [stack.attach(PROBAND, seed) for seed in group]
            train(stack, steps)
            metrics = evaluate(stack.models, ["timbre"], INTERMEDIATE).metrics
            names = ("fidelity/log_mel_rmse_db", "disentanglement/mig", "loss/total")
            rows += [[metrics[lane][name] for name in names] for lane in lanes]
            for lane in lanes:
                stack.detach(lane)
        return np.array(rows)

    narrow, wide = final(one), final(eight)
    differences = np.sqrt(((narrow - wide) ** 2).mean(axis=0))
    assert (differences < narrow.std(axis=0, ddof=1)).all(), (differences, narrow.std(axis=0, ddof=1))


@pytest.mark.parametrize("model", [PATCH, pytest.param(CONV, marks=pytest.mark.slow)])
def test_a_narrow_model_trains_like_in_a_narrow_stack(shared_stack, small_dataset, model):
    config = of(model, PROBAND.model_copy(update={"latent": PROBAND.latent.model_copy(update={"fusion": "swap"})}))
    wide = shared_stack(3, model)
    narrow = Stack(
        Architecture(64, 64, config.model, config.latent.private, config.latent.shared),
        3,
        small_dataset,
        ViewsConfig(),
        16,
        ACTIVE_TERMS,
    )
    for stack in (wide, narrow):
        stack.attach(config, seed=5)
        train(stack, 1)
    for name, value in wide.snapshot(0).parameters.items():
        torch.testing.assert_close(value, narrow.snapshot(0).parameters[name], rtol=0, atol=1e-6)
    torch.testing.assert_close(wide.models.held_out_terms()[0], narrow.models.held_out_terms()[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("model", [PATCH, CONV])
def test_steps_agree_with_adam_of_torch(shared_stack, small_dataset, model):
    stack = shared_stack(3, model)
    lane = stack.attach(of(model, PROBAND), seed=4)
    parameters = {name: value.clone().requires_grad_() for name, value in stack.snapshot(lane).parameters.items()}
    mask = stack.network.mask(PROBAND.latent)
    hyperparameters = build_hyperparameters(stack.objective_spec, PROBAND)
    rate = PROBAND.optimiser.learning_rate
    adam = torch.optim.Adam(parameters.values(), lr=rate)
    for step in range(3):
        batch = draw_batch(
            stack.objective_spec,
            PairSampler(small_dataset, ["timbre"]),
            small_dataset.log_mels.take,
            16,
            torch.tensor([4, 4]),
            torch.tensor([step, step]),
        )
        one = Batch(*(field[0] for field in batch))
        for group in adam.param_groups:
            group["lr"] = rate * (step + 1) / PROBAND.optimiser.warmup_steps
        adam.zero_grad()
        total, _ = objective(
            stack.objective_spec, stack.network.pad(parameters, mask), LaneHyperparameters(*hyperparameters), one
        )
        total.backward()
        adam.step()
        stack.step()
    for name, value in stack.snapshot(lane).parameters.items():
        torch.testing.assert_close(value, parameters[name].detach(), rtol=1e-5, atol=1e-6)


def test_divergence_is_reported_with_its_step_and_lane(shared_stack):
    stack = shared_stack(3)
    stack.attach(PROBAND, seed=0)
    stack.attach(DIVERGING, seed=0)
    train(stack, 10)
    assert list(stack.diverged()) == [1]
    assert 1 <= stack.diverged()[1] < 10
    stack.detach(1)
    assert stack.diverged() == {}
    assert all(value.isfinite().all() for value in stack.snapshot(0).parameters.values())


def test_idle_lanes_stay_at_step_zero_with_zero_parameters(shared_stack):
    stack = shared_stack(3)
    stack.attach(PROBAND, seed=0)
    train(stack, 3)
    assert stack.steps() == [3, 0, 0]
    assert not any(value[1:].any() for value in stack.models.parameters.values())


def test_training_lowers_the_loss_on_held_out_pairs(shared_stack):
    stack = shared_stack(3)
    stack.attach(PROBAND, seed=0)
    before = stack.models.held_out_terms()[0, 0]
    train(stack, 60)
    assert stack.models.held_out_terms()[0, 0] < 0.8 * before


def test_full_stacks_and_unsupported_configurations_are_rejected(shared_stack, small_dataset):
    stack = shared_stack(1)
    with pytest.raises(ValueError, match=mentions("model", 6, 2)):
        stack.attach(PROBAND.model_copy(update={"latent": PROBAND.latent.model_copy(update={"private": 6})}), seed=0)
    stack.attach(PROBAND, seed=0)
    with pytest.raises(ValueError, match=mentions("1 lanes")):
        stack.attach(PROBAND, seed=1)
    with pytest.raises(ValueError, match=mentions("multiple", 16, 20)):
        Stack(stack.network.architecture, 1, small_dataset, ViewsConfig(), 20, ACTIVE_TERMS)
