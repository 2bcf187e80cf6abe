"""All terms of the objective train side by side in one stack, and law 1 holds for each."""

from typing import NamedTuple

import pytest
import torch

from marl import checkpoint
from marl.audio import AudioConfig
from marl.config import Config, ViewsConfig
from marl.data import Dataset, PairSampler
from marl.data.syntone import SynTone
from marl.evaluation import INTERMEDIATE, evaluate
from marl.losses.ssl import STRATEGIES
from marl.models import Architecture, ModelConfig, Parameters, build_network
from marl.objective import ActiveTerms, Batch, objective, term_names
from marl.stack import Snapshot, Stack
from marl.stack.step import draw_batch
from tests.marl.cases import assert_same_bits, empty, train, train_disturbed
from tests.messages import mentions

pytestmark = pytest.mark.slow

MODEL = ModelConfig(width=16, embedding=16, hidden=32, head=16, patch_bands=4, patch_frames=4)
AUDIO = AudioConfig(mel_bands=16, frames=16)
STEPS = 24


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Dataset of small spectrograms, for fast steps."""
    return SynTone(frequencies=40, amplitudes=4).build(AUDIO, torch.device("cpu"))


def config(latent=(3, 2), **sections) -> Config:
    private, shared = latent
    latents = {"private": private, "shared": shared, "fusion": "none"}
    return Config.model_validate({"model": MODEL, "latent": latents, "optimiser": {"warmup_steps": 2}, **sections})


def contrast(strategy, **fields) -> Config:
    return config(contrast={"strategy": strategy, "shared": 500.0, "private": 1.0, **fields})


TERMS = {
    **{name: contrast(name) for name in STRATEGIES},
    **{
        f"projected {name}": contrast(name, projection=True, exclude_same_group=True)
        for name, strategy in STRATEGIES.items()
        if strategy.projection == "optional"
    },
    "repulsion": config(contrast={"repulsion": 500.0}),
    "multiscale": config(
        loss={"multiscale": {"scale_2": 1, "scale_4": 0.5, "scale_8": 0.1, "spectrum": 1, "envelope": 0.2}}
    ),
    **{
        name: config(independence={name: weight})
        for name, weight in {"hsic": 500.0, "cross_covariance": 500.0, "adversarial": 2.0, "swap_cycle": 50.0}.items()
    },
}
DIVERGING = config(latent=(4, 4), optimiser={"learning_rate": 1e12})
EVERYTHING = ActiveTerms.of_all([*TERMS.values(), config()])
CONTROL = config()
LANES = len(TERMS) + 2


def stack_architecture() -> Architecture:
    return Architecture(AUDIO.mel_bands, AUDIO.frames, MODEL, 5, 4)


def stack_of(dataset, views=None, active_terms=EVERYTHING, lanes=LANES) -> Stack:
    return Stack(
        stack_architecture(),
        lanes,
        dataset,
        views or ViewsConfig(),
        16,
        active_terms,
    )


def terms_by_name(stack, lanes):
    names = term_names(stack.objective_spec)
    rows = stack.models.held_out_terms(batches=4).tolist()
    return {name: dict(zip(names, rows[lane], strict=True)) for name, lane in lanes.items()}


@pytest.fixture(scope="module")
def full_stack(dataset):
    """Stack of all terms, which traces its first step for seconds."""
    return stack_of(dataset)


def model_and_batch(one, dataset):
    """Return the objective's specification, an untrained model, and the first batch of seed 0."""
    stack = stack_of(dataset, active_terms=ActiveTerms.of(one), lanes=2)
    model, zero = stack.models[stack.attach(one, seed=7)], torch.zeros(1, dtype=int)
    batch = draw_batch(stack.objective_spec, PairSampler(dataset, ["timbre"]), dataset.log_mels.take, 16, zero, zero)
    return stack.objective_spec, model, Batch(*(field[0] for field in batch))


class Trained(NamedTuple):
    """A model for each term, and a control, trained side by side."""

    one_step: dict[str, Snapshot]
    snapshots: dict[str, Snapshot]
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def trained(full_stack):
    """Snapshots after the first and the last step, and held-out terms before and after training."""
    lanes = {name: full_stack.attach(one, seed=7) for name, one in {**TERMS, "control": CONTROL}.items()}
    before = terms_by_name(full_stack, lanes)
    train(full_stack, 1)
    one_step = {name: full_stack.snapshot(lane) for name, lane in lanes.items()}
    train(full_stack, STEPS - 1)
    assert full_stack.diverged() == {}
    snapshots = {name: full_stack.snapshot(lane) for name, lane in lanes.items()}
    after = terms_by_name(full_stack, lanes)
    empty(full_stack)
    return Trained(one_step, snapshots, before, after)


@pytest.fixture(scope="module")
def disturbed(full_stack, trained):
    """Snapshots of the same models after a disturbed training."""
    return train_disturbed(full_stack, TERMS, STEPS, [CONTROL, config(latent=(5, 4))], DIVERGING)


@pytest.mark.parametrize("name", TERMS)
def test_training_does_not_depend_on_lane_neighbours_or_interruption(name, trained, disturbed):
    assert_same_bits(disturbed[name], trained.snapshots[name])


@pytest.mark.parametrize("name", [name for name in TERMS if name != "adversarial"])
def test_training_on_a_term_lowers_it(name, trained):
    """Compare with a model trained for reconstruction alone, or with the value before training for terms with heads."""
    before, after = trained.before, trained.after
    keys = {"multiscale": "multiscale/envelope", "repulsion": "private/repulsion"}
    key = keys.get(name) or (f"independence/{name}" if f"independence/{name}" in after[name] else f"shared/{name}")
    key = key.replace("projected ", "")
    has_head = name in ("byol", "local_global", "predictive") or name.startswith("projected")
    assert after[name][key] < (before[name][key] if has_head else after["control"][key])


def test_the_encoder_maximises_the_loss_that_the_probe_minimises(dataset):
    """The encoder descends on the other terms minus the weighted loss of the probe."""
    weights = (0.0, 1.0, 3.0)
    one = TERMS["adversarial"]
    stack = stack_of(dataset, active_terms=ActiveTerms.of(one), lanes=2)
    lane = stack.attach(one, seed=7)
    train(stack, 5)
    parameters = {name: value.requires_grad_() for name, value in stack.models[lane].parameters.items()}
    sampler = PairSampler(dataset, ["timbre"])
    batch = draw_batch(
        stack.objective_spec, sampler, dataset.log_mels.take, 16, torch.zeros(1, dtype=int), torch.zeros(1, dtype=int)
    )
    batch = Batch(*(field[0] for field in batch))

    def losses(weight, values):
        hyperparameters = stack.models[lane].hyperparameters._replace(independence_M=torch.tensor([weight]))
        return objective(stack.objective_spec, values, hyperparameters, batch)

    names = ["encoder.mean.weight", "probe.private.out.weight"]
    gradients = {}
    for weight in weights:
        total, terms = losses(weight, parameters)
        gradients[weight] = dict(
            zip(names, torch.autograd.grad(total, [parameters[name] for name in names]), strict=True)
        )
    assert term_names(stack.objective_spec)[-1] == "independence/adversarial"
    encoder, probe = ({weight: gradients[weight][name] for weight in weights} for name in names)
    assert not probe[0.0].any()
    assert torch.equal(probe[1.0], probe[3.0])
    torch.testing.assert_close(encoder[3.0] - encoder[0.0], 3 * (encoder[1.0] - encoder[0.0]), rtol=1e-3, atol=1e-4)
    for name, direction, rises in (
        ("encoder.mean.weight", encoder[1.0] - encoder[0.0], True),
        ("probe.private.out.weight", probe[1.0], False),
    ):
        moved = parameters | {name: parameters[name] - 1e-2 * direction / direction.norm()}
        assert (losses(1.0, moved)[1][-1] > terms[-1]) == rises


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_read_no_labels_but_supcon_and_those_that_exclude_the_same_group(name, dataset):
    def reads_labels(**fields):
        objective_spec, model, batch = model_and_batch(contrast(name, **fields), dataset)
        unlabelled = batch._replace(group_B=torch.arange(16))
        assert len(batch.group_B.unique()) < 16
        first, second = (
            objective(objective_spec, model.parameters, model.hyperparameters, one)[1] for one in (batch, unlabelled)
        )
        return not torch.equal(first, second)

    has_negatives = name in ("infonce", "nt_xent", "dcl", "triplet", "local_global", "predictive")
    assert reads_labels() == (name == "supcon")
    assert reads_labels(exclude_same_group=True) == (has_negatives or name == "supcon")


def test_swap_cycle_is_the_distance_of_latents_to_their_re_encoding(dataset):
    objective_spec, model, batch = model_and_batch(TERMS["swap_cycle"], dataset)
    _, terms = objective(objective_spec, model.parameters, model.hyperparameters, batch)

    network = objective_spec.network
    mean = network.encode(model.parameters, model.hyperparameters.mask_D, batch.input_NPQ).mean
    expected = 0.0
    for view in range(2):
        for pair in range(16):
            own, other = mean[view * 16 + pair], mean[view * 16 + (pair - 1) % 16]
            mixed = torch.cat([own[:5], other[5:]])[None]
            decoded = network.decode(model.parameters, mixed)
            again = network.encode(model.parameters, model.hyperparameters.mask_D, decoded).mean
            expected += float((again - mixed).square().sum()) / 32
    assert terms[-1].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", [name for name in TERMS if not name.startswith("projected") or "vicreg" in name])
def test_terms_of_other_models_change_only_rounding(name, dataset, trained):
    stack = stack_of(dataset, active_terms=ActiveTerms.of(TERMS[name]), lanes=2)
    lane = stack.attach(TERMS[name], seed=7)
    train(stack, 1)
    for key, value in stack.snapshot(lane).first_moment.items():
        other = trained.one_step[name].first_moment[key]
        torch.testing.assert_close(value, other, rtol=0, atol=1e-4 * max(float(other.abs().max()), 1e-3))


def test_checkpoints_hold_the_heads_of_the_model_and_exports_none(trained):
    snapshots = trained.snapshots
    specs = build_network(stack_architecture(), EVERYTHING.heads, groups=4).parameter_specs

    def heads(name):
        return {specs[parameter].head for parameter in snapshots[name].heads}

    assert heads("infonce") == set()
    assert heads("projected infonce") == {"projection.private", "projection.shared"}
    assert heads("byol") == {
        *(f"{kind}.{subspace}" for kind in ("projection", "predictor") for subspace in ("private", "shared")),
        "target.encoder",
        "target.projection.private",
        "target.projection.shared",
    }
    names = checkpoint._tensors(checkpoint.model_bytes(snapshots["byol"]), "").keys()
    assert {specs[name].head for name in names} == {None}


def test_a_target_network_follows_its_model_by_its_decay(dataset):
    for decay in (0.0, 0.9):
        one = contrast("byol", target_decay=decay)
        stack = stack_of(dataset, active_terms=ActiveTerms.of(one), lanes=2)
        followed = {name: spec.follows for name, spec in stack.network.parameter_specs.items() if spec.follows}
        lane = stack.attach(one, seed=3)
        expected = all_parameters(stack.snapshot(lane))
        for name, source in followed.items():
            assert torch.equal(expected[name], expected[source])
        for _ in range(4):
            stack.step()
            snapshot = stack.snapshot(lane)
            now = all_parameters(snapshot)
            for name, source in followed.items():
                target = decay * expected[name] + (1 - decay) * now[source]
                torch.testing.assert_close(now[name], target, rtol=1e-5, atol=1e-7)
                assert not snapshot.first_moment[name].any()
            expected = now


def all_parameters(snapshot: Snapshot) -> Parameters:
    return snapshot.parameters | snapshot.heads


@pytest.mark.parametrize("scheme", ["augment", "segment"])
def test_views_of_one_clip_train_to_the_same_bits_in_any_lane(scheme, dataset):
    views = ViewsConfig(scheme=scheme)
    one = contrast("nt_xent").model_copy(update={"views": views})
    stack = stack_of(dataset, views, ActiveTerms.of_all([one, config()]), lanes=4)
    first = stack.attach(one, seed=1)
    train(stack, STEPS)
    expected = stack.snapshot(first)
    stack.detach(first)
    for seed in range(2):
        stack.attach(config(latent=(5, 4)), seed)
    lane = stack.attach(one, seed=1)
    train(stack, STEPS)
    assert_same_bits(stack.snapshot(lane), expected)
    assert all(
        torch.tensor(list(row.values())).isfinite().all() for row in evaluate(stack.models, ["timbre"], INTERMEDIATE)[0]
    )


def test_terms_that_the_stack_does_not_compute_are_rejected(dataset):
    stack = stack_of(dataset, active_terms=ActiveTerms.of(config()), lanes=2)
    for one in TERMS.values():
        with pytest.raises(ValueError, match=mentions("stack")):
            stack.attach(one, seed=0)
