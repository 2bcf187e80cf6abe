import dataclasses
import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from marl.config import Config
from marl.data import Factor
from marl.evaluation import (
    FINAL,
    INTERMEDIATE,
    METRIC_GROUPS,
    evaluate,
    held_out_clips,
    information_columns,
    metric_names,
)
from marl.evaluation.context import EvaluationContext
from marl.metrics import usable_information
from marl.models import Architecture
from marl.objective import ActiveTerms, term_names
from marl.stack import Stack


@pytest.fixture(scope="module")
def stack(small_dataset):
    config = Config.model_validate({"model": {"width": 16, "embedding": 16, "hidden": 32}})
    stack = Stack(Architecture(64, 64, config.model, 8, 8), 2, small_dataset, config.views, 16, ActiveTerms.of(config))
    stack.attach(config, seed=0)
    for _ in range(30):
        stack.step()
    return stack


@pytest.fixture(scope="module")
def final(stack):
    return evaluate(stack.models, ["timbre"], FINAL).metrics[0]


def test_a_final_report_has_all_metrics_and_losses_finite(stack, final, small_dataset):
    names = metric_names(small_dataset.factor_names) + [f"loss/{name}" for name in term_names(stack.objective_spec)]
    assert set(names) <= set(final)
    details = set(final) - set(names)
    assert {"fidelity/log_mel_rmse_db/clips_se", "fidelity/log_mel_rmse_db/timbre/square"} <= details
    assert {"information/timbre/shared/clips_se", "r2/frequency/private", "linear_r2/amplitude/both"} <= details
    assert "r2/timbre/shared" not in details  # its values are words
    others = ("fidelity/log_mel_rmse_db/", "r2/", "linear_r2/")
    assert all(name.startswith(others) or name.endswith("/clips_se") for name in details)
    assert all(math.isfinite(value) for value in final.values())


def test_without_held_out_pairs_there_are_no_losses(stack, small_dataset):
    timbre_N, hz_N, _ = small_dataset.value_NC[small_dataset.splits["validation"]].unbind(dim=1)
    same = small_dataset.splits["validation"][(timbre_N == 0) & (hz_N == hz_N[timbre_N == 0][0])]
    dataset = dataclasses.replace(small_dataset, splits=small_dataset.splits | {"validation": same})
    config = Config.model_validate({"model": {"width": 16, "embedding": 16, "hidden": 32}})
    lonely = Stack(Architecture(64, 64, config.model, 8, 8), 1, dataset, config.views, 16, ActiveTerms.of(config))
    assert evaluate(lonely.models, ["timbre"], ["losses"]).metrics == [{}]
    assert evaluate(stack.models, ["timbre"], ["losses"]).metrics[0]


def test_an_intermediate_report_lacks_only_slow_metrics(stack, final):
    early = evaluate(stack.models, ["timbre"], INTERMEDIATE).metrics[0]
    assert all(early[name] == final[name] for name in early)
    missing = final.keys() - early.keys()
    groups = ("probe/", "information/", "accuracy/", "r2/", "leakage/", "fidelity/log_mel_rmse_db/")
    slow = {f"disentanglement/{name}" for name in ("separation", "sap", "explicitness", "factor_vae", "beta_vae")}
    assert {name for name in missing if not name.startswith(groups)} == slow
    assert {"disentanglement/linear_separation", "linear_leakage/timbre"} <= early.keys()


def test_fidelity_is_the_rmse_in_db_of_clips_decoded_from_their_means(stack, small_dataset):
    clips = held_out_clips(stack)
    assert clips.tolist() == small_dataset.splits["validation"].tolist()
    evaluation = evaluate(stack.models, ["timbre"], INTERMEDIATE)
    parameters = {name: value[0] for name, value in stack.models.parameters.items()}
    decoded = stack.network.from_output(stack.network.decode(parameters, evaluation.means_KND[0]))
    original = small_dataset.log_mels[clips]
    difference_db = small_dataset.audio.decibels(decoded) - small_dataset.audio.decibels(original)
    expected = difference_db.square().mean().sqrt().item()
    assert evaluation.metrics[0]["fidelity/log_mel_rmse_db"] == pytest.approx(expected, rel=1e-4)


def test_exchanging_shared_and_private_factors_negates_the_separation(stack, final):
    others = evaluate(stack.models, ["frequency", "amplitude"], ("linear_information", "information")).metrics[0]
    for name in ("disentanglement/separation", "disentanglement/linear_separation"):
        assert final[name] == pytest.approx(-others[name])


def test_leakage_is_the_information_of_the_wrong_subspace(final):
    assert final["leakage/timbre"] == final["information/timbre/private"]
    assert final["linear_leakage/frequency"] == final["linear_information/frequency/shared"]


@pytest.mark.parametrize(("prefix", "reader"), [("", "strong"), ("linear_", "linear")])
def test_each_subspace_is_read_from_samples_of_its_own_latents(stack, small_dataset, final, prefix, reader):
    context = EvaluationContext(stack.models, ["timbre"], "validation")
    fit = context.fit_of(reader)
    subspaces = {"private": slice(0, 8), "shared": slice(8, 16)}
    if reader == "linear":
        subspaces["both"] = slice(0, 16)
    assert fit.clips.tolist() == small_dataset.splits["training"].tolist()
    counts = [factor.classes for factor in small_dataset.factors]
    for subspace, latents in subspaces.items():
        fit_RND, held_out_RND = (part.sampled_KND[:1, :, latents] for part in (fit, context.held_out))
        arguments = fit_RND, fit.classes_NC, held_out_RND, context.held_out.classes_NC, counts
        expected = usable_information(*arguments, reader=reader)[0].tolist()
        found = [final[f"{prefix}information/{name}/{subspace}"] for name in small_dataset.factor_names]
        assert found == pytest.approx(expected, abs=0.02)


def test_networks_are_fitted_on_more_clips(stack, small_dataset, monkeypatch):
    for name, clips in (("HELD_OUT_CLIPS", 100), ("FIT_CLIPS", 300)):
        monkeypatch.setattr(f"marl.evaluation.context.{name}", clips)
    context = EvaluationContext(stack.models, ["timbre"], "validation")
    training = small_dataset.splits["training"].tolist()
    for reader, clips in (("linear", 100), ("lightweight", 300), ("strong", 300)):
        assert context.fit_of(reader).clips.tolist() == training[:clips]
    assert context.held_out.clips.tolist() == small_dataset.splits["validation"][:100].tolist()


def known_separation(private_ND, shared_ND, class_NC, prefix=""):
    """Return the metrics of a code whose latents are given; the first half of the clips is fitted on."""
    factors = (
        Factor("timbre", tuple("abcd"), tuple(range(4))),
        Factor("hz", tuple(map(float, range(20))), tuple(range(20))),
    )
    clips = len(class_NC) // 2
    context = EvaluationContext.__new__(EvaluationContext)
    context.shared, context.factors = frozenset({"timbre"}), {factor.name: factor.classes for factor in factors}
    architecture = SimpleNamespace(private=private_ND.shape[1])
    context.models = MagicMock(
        dataset=SimpleNamespace(factors=factors, value_NC=class_NC),
        objective_spec=SimpleNamespace(network=SimpleNamespace(architecture=architecture)),
        __len__=lambda _: 1,
    )
    both_KND = torch.cat([private_ND, shared_ND], dim=1).to(torch.float32)[None]
    fit, held_out = torch.arange(clips), torch.arange(clips, len(class_NC))
    for name, rows in (("fit", fit), ("network_fit", fit), ("held_out", held_out)):
        setattr(context, name, SimpleNamespace(clips=rows, classes_NC=class_NC[rows], sampled_KND=both_KND[:, rows]))
    columns = METRIC_GROUPS[f"{prefix}information"].compute(context)
    return {name: value.item() for name, value in columns.items()}


@pytest.mark.parametrize("prefix", ["", "linear_"])
def test_separations_of_known_codes(prefix):
    draw = torch.Generator().manual_seed(0)
    class_NC = torch.stack([torch.randint(classes, (8_000,), generator=draw) for classes in (4, 20)], dim=1)
    timbre_ND, hz_ND = (
        torch.cat([class_NC[:, [factor]], torch.randn(8_000, 3, generator=draw)], dim=1) for factor in (0, 1)
    )
    name = f"disentanglement/{prefix}separation"
    perfect, exchanged = (
        known_separation(*code, class_NC, prefix) for code in ((hz_ND, timbre_ND), (timbre_ND, hz_ND))
    )
    assert perfect[name] == pytest.approx(1, abs=0.03)
    assert perfect[f"{prefix}leakage/timbre"] == pytest.approx(0, abs=0.01)
    assert perfect[f"{prefix}r2/hz/private"] == pytest.approx(1, abs=0.01)
    assert perfect[f"{prefix}r2/hz/shared"] == pytest.approx(0, abs=0.01)
    assert exchanged[name] == pytest.approx(-1, abs=0.03)
    assert exchanged[f"{prefix}leakage/hz"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("prefix", ["", "linear_"])
def test_exchangeable_subspaces_have_no_separation(prefix):
    draw = torch.Generator().manual_seed(1)
    class_NC = torch.stack([torch.randint(classes, (16_000,), generator=draw) for classes in (4, 20)], dim=1)
    scaled_NC = class_NC / class_NC.to(torch.float64).std(dim=0)
    private_ND, shared_ND = (scaled_NC + 0.5 * torch.randn(16_000, 2, generator=draw) for _ in range(2))
    found = known_separation(private_ND, shared_ND, class_NC, prefix)
    assert found[f"{prefix}information/hz/private"] > 0.2
    assert found[f"disentanglement/{prefix}separation"] == pytest.approx(0, abs=0.01)


@pytest.mark.slow
def test_the_lightweight_reader_does_not_scale_up_the_means_of_a_collapsed_subspace(stack):
    def shared_accuracies(scale):
        models = stack.models
        for name in ("encoder.mean.weight", "encoder.logvar.weight"):
            models.parameters[name] = models.parameters[name].clone()
            models.parameters[name][:, :, 8:] *= scale if name == "encoder.mean.weight" else 0
        models.parameters["encoder.logvar.bias"] = torch.zeros_like(models.parameters["encoder.logvar.bias"])
        scores = evaluate(models, ["timbre"], ("probes",)).metrics[0]
        return [scores[f"probe/timbre/{subspace}"] for subspace in ("shared", "private")]

    (plain, private), (collapsed, same) = shared_accuracies(1.0), shared_accuracies(1e-4)
    assert plain > 0.5
    assert collapsed < 0.4
    assert private == same


def information_scores(*arguments):
    """Return the metrics of single latents of one model."""
    return {name: value.item() for name, value in information_columns(*arguments).items()}


def test_a_constant_factor_has_no_information_and_changes_no_other_metric():
    timbre = torch.arange(64) % 4
    classes = torch.stack([timbre, torch.zeros_like(timbre)], dim=1)
    latents = torch.stack([torch.zeros(64), timbre.float()], dim=1)[None]
    scores = information_scores(latents, torch.ones(1, 2), 1, classes, ["timbre", "loudness"], ["timbre"])
    assert scores["nmi/timbre/shared"] == pytest.approx(1.0)
    assert scores["nmi/timbre/private"] == pytest.approx(0.0)
    assert scores["nmi/loudness/private"] == scores["nmi/loudness/shared"] == 0.0
    assert scores["disentanglement/mig"] == pytest.approx(1.0)
    assert scores["disentanglement/mig/shared"] == pytest.approx(1.0)
    assert scores["disentanglement/mig/private"] == 0.0


def test_a_subspace_is_scored_by_its_latents_on_its_factors():
    timbre, pitch = torch.arange(240) % 4, torch.arange(240) // 4 % 5
    classes = torch.stack([timbre, pitch], dim=1)
    latents = torch.stack([pitch.float(), timbre.float()], dim=1)[None]
    names = ["timbre", "pitch"]
    right = information_scores(latents, torch.ones(1, 2), 1, classes, names, ["timbre"])
    wrong = information_scores(latents, torch.ones(1, 2), 1, classes, names, ["pitch"])
    for metric in ("mig", "dcimig"):
        for block in ("private", "shared"):
            assert right[f"disentanglement/{metric}/{block}"] == pytest.approx(1.0)
            assert wrong[f"disentanglement/{metric}/{block}"] == pytest.approx(0.0)
        assert right[f"disentanglement/{metric}"] == wrong[f"disentanglement/{metric}"] == pytest.approx(1.0)


def test_test_and_validation_clips_are_disjoint(stack):
    metric_groups = ("fidelity", "linear_information")
    validation, test = (evaluate(stack.models, ["timbre"], metric_groups, split) for split in ("validation", "test"))
    assert validation.metrics[0].keys() == test.metrics[0].keys()
    assert validation.metrics[0] != test.metrics[0]
    assert set(held_out_clips(stack.models, "test").tolist()).isdisjoint(held_out_clips(stack.models).tolist())


def test_samples_scatter_around_posterior_means_by_their_deviation(stack):
    context = EvaluationContext(stack.models, ["timbre"], "validation")
    sampled, means = context.held_out.sampled_KND, context.held_out.means_KND
    assert torch.equal(EvaluationContext(stack.models, ["timbre"], "validation").held_out.sampled_KND, sampled)
    deviation = (sampled - means)[0].std(dim=0)
    expected = (0.5 * stack.models.encode(context.held_out.clips).logvar[0]).exp().mean(dim=0)
    assert torch.allclose(deviation, expected, rtol=0.4)
