import math

import pytest
import torch

from marl.config import Config
from marl.evaluation import HELD_OUT_CLIPS, evaluate, held_out_clips, information_metrics, metric_names
from marl.metrics.linear_probes import linear_probe_accuracy
from marl.model import Architecture
from marl.objective import Ingredients, term_names
from marl.stack import Stack


@pytest.fixture(scope="module")
def stack(small_dataset):
    config = Config.model_validate({"model": {"width": 16, "embedding": 16, "hidden": 32}})
    stack = Stack(Architecture(64, 64, config.model, 8, 8), 2, small_dataset, config.views, 16, Ingredients.of(config))
    stack.attach(config, seed=0)
    for _ in range(30):
        stack.step()
    return stack


def test_a_mature_report_has_every_metric_and_loss_and_all_are_finite(stack, small_dataset):
    metrics = evaluate(stack.models, ["timbre"], mature=True).metrics[0]
    names = metric_names(small_dataset.factor_names) + [f"loss/{name}" for name in term_names(stack.program)]
    assert set(metrics) == set(names)
    assert all(math.isfinite(value) for value in metrics.values())


def test_an_early_report_leaves_out_only_what_needs_probes(stack):
    early = evaluate(stack.models, ["timbre"], mature=False).metrics[0]
    mature = evaluate(stack.models, ["timbre"], mature=True).metrics[0]
    assert all(early[name] == mature[name] for name in early)
    missing = mature.keys() - early.keys()
    assert all(name.startswith("probe/") or name == "disentanglement/separation" for name in missing)
    assert {"disentanglement/linear_separation", "linear_probe/timbre/shared"} <= early.keys()


def test_fidelity_is_the_error_in_decibels_of_clips_decoded_from_their_own_means(stack, small_dataset):
    clips = held_out_clips(stack)
    assert clips.tolist() == small_dataset.splits["validation"].tolist()
    evaluation = evaluate(stack.models, ["timbre"], mature=False)
    parameters = {name: value[0] for name, value in stack.models.parameters.items()}
    decoded = stack.network.from_output(stack.network.decode(parameters, evaluation.means_KND[0]))
    original = small_dataset.log_mel_NFT[clips]
    difference_db = small_dataset.audio.decibels(decoded) - small_dataset.audio.decibels(original)
    expected = difference_db.square().mean().sqrt().item()
    assert evaluation.metrics[0]["fidelity/log_mel_rmse_db"] == pytest.approx(expected, rel=1e-4)


def test_exchanging_the_shared_factor_changes_the_sign_of_separation_only_where_it_counts(stack):
    timbre = evaluate(stack.models, ["timbre"], mature=True).metrics[0]
    others = evaluate(stack.models, ["frequency", "amplitude"], mature=True).metrics[0]
    for name in ("disentanglement/separation", "disentanglement/linear_separation"):
        assert timbre[name] == pytest.approx(-others[name])


def test_each_subspace_is_probed_by_its_own_latents(stack, small_dataset):
    early = evaluate(stack.models, ["timbre"], mature=False).metrics[0]
    fit, held_out = small_dataset.splits["training"][:HELD_OUT_CLIPS], held_out_clips(stack)
    counts = [factor.classes for factor in small_dataset.factors]
    for subspace, latents in (("private", slice(0, 8)), ("shared", slice(8, 16)), ("both", slice(0, 16))):
        expected = linear_probe_accuracy(
            stack.models.encode(fit).mean[:1, :, latents],
            small_dataset.classes(fit),
            stack.models.encode(held_out).mean[:1, :, latents],
            small_dataset.classes(held_out),
            counts,
        )
        found = [early[f"linear_probe/{name}/{subspace}"] for name in small_dataset.factor_names]
        assert found == pytest.approx(expected[0].tolist(), abs=0.02)


def test_a_factor_that_never_varies_is_told_by_nothing_and_spoils_no_number():
    timbre = torch.arange(64) % 4
    classes = torch.stack([timbre, torch.zeros_like(timbre)], dim=1)
    latents = torch.stack([torch.zeros(64), timbre.float()], dim=1)[None]
    (scores,) = information_metrics(latents, torch.ones(1, 2), 1, classes, ["timbre", "loudness"])
    assert scores["nmi/timbre/shared"] == pytest.approx(1.0)
    assert scores["nmi/timbre/private"] == pytest.approx(0.0)
    assert scores["nmi/loudness/private"] == scores["nmi/loudness/shared"] == 0.0
    assert scores["disentanglement/mig"] == pytest.approx(1.0)
