import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from marl.metrics.sap import sap_accuracies, sap_gap
from tests.marl.metrics.cases import MATRICES, SINGLE_VALUED, TRAINABLE, from_zero, random_clips


def accuracies_and_chance(arrays):
    """Return the accuracies of the latents of one model and of the most frequent class."""
    latents, fitted = torch.from_numpy(arrays["mus"])[None], int(arrays["n_train"])
    classes, _ = from_zero(arrays["ys"])
    accuracy = sap_accuracies(latents[:, :fitted], classes[:fitted], latents[:, fitted:], classes[fitted:])
    chance = torch.stack([column.bincount().max() / len(column) for column in classes[fitted:].unbind(dim=1)])
    return accuracy, chance


def accuracies(latents, classes, models=slice(None)):
    """Return accuracies of latents [model, clip, latent], fitted on the first two thirds of the clips."""
    fitted = 2 * len(classes) // 3
    latents = latents[models]
    return sap_accuracies(latents[:, :fitted], classes[:fitted], latents[:, fitted:], classes[fitted:])


@pytest.mark.parametrize("case", TRAINABLE)
def test_accuracies_and_gap_agree_with_disentanglement_lib(reference, case):
    arrays = reference("disentanglement.npz", case)
    accuracy, chance = accuracies_and_chance(arrays)
    np.testing.assert_allclose(accuracy[0], arrays["sap_matrix"], atol=0.01)
    np.testing.assert_allclose(accuracy[0], arrays["sap_matrix_tight_solver"], atol=1e-9)
    found = sap_gap(accuracy, torch.ones(accuracy.shape[:2]), chance)
    assert found.item() == pytest.approx(float(arrays["sap"]), abs=1e-9)


@pytest.mark.parametrize("case", SINGLE_VALUED)
def test_constant_factors_are_ignored_where_disentanglement_lib_raises(reference, case):
    # One such factor must not leave a study without a score.
    arrays, without = (reference("disentanglement.npz", name) for name in (case, f"{case}__degenerate_columns_removed"))
    assert np.isnan(arrays["sap"])
    accuracy, chance = accuracies_and_chance(arrays)
    varied = chance < 1
    latents = torch.from_numpy(arrays["mus"]).std(dim=0) > 0
    np.testing.assert_allclose(accuracy[0][latents][:, varied], without["sap_matrix"], atol=1e-9)
    assert (accuracy[0][:, ~varied] == 1).all()
    assert sap_gap(accuracy, latents[None], chance).item() == pytest.approx(float(without["sap"]), abs=1e-9)


@pytest.mark.parametrize("case", MATRICES)
def test_the_gap_of_a_matrix_agrees_with_disentanglement_lib(reference, case):
    arrays = reference("matrix_scores.npz", case)
    matrix = torch.from_numpy(arrays["matrix"])[None]
    found = sap_gap(matrix, torch.ones(matrix.shape[:2]), torch.zeros(matrix.shape[2]))
    assert found.item() == pytest.approx(float(arrays["sap_gap"]), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    values=st.integers(2, 6),
    scale=st.floats(-1, 2),
    offset=st.floats(-5, 5),
    skew=st.booleans(),
)
def test_accuracies_agree_with_the_svm_of_scikit_learn(seed, values, scale, offset, skew):
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(240, generator=generator)
    classes = ((share**3 if skew else share) * values).long()
    latent = (torch.randn(240, generator=generator).double() + classes * torch.rand(1, generator=generator)).exp()
    latent = (latent + offset) * 10**scale
    found = accuracies(latent[None, :, None], classes[:, None]).item()
    machine = LinearSVC(C=0.01, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000)
    machine.fit(latent[:160, None].numpy(), classes[:160].numpy())
    assert found == pytest.approx(machine.score(latent[160:, None].numpy(), classes[160:].numpy()), abs=1.01 / 80)


def test_a_latent_per_factor_has_the_largest_gap_and_redundant_or_constant_latents_have_none():
    factors = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(60, 1)
    own = accuracies(2.0 * factors[None] - 1, factors)
    np.testing.assert_allclose(own[0], [[1.0, 0.5], [0.5, 1.0]], atol=1e-9)
    half, everyone = torch.full((2,), 0.5), torch.ones(1, 2)
    assert sap_gap(own, everyone, half).item() == pytest.approx(0.5)
    assert sap_gap(accuracies(factors[None, :, :1].repeat(1, 1, 2) * 2.0 - 1, factors), everyone, half).item() == 0.0
    assert sap_gap(accuracies(torch.zeros(1, 240, 2), factors), everyone, half).item() == 0.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_accuracies_and_gap_ignore_order_and_sign(seed):
    latents, classes = random_clips(seed)
    found = accuracies(latents, classes)
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(accuracies(latents.flip(2), classes), found.flip(1), atol=0, rtol=0)
    torch.testing.assert_close(accuracies(latents, classes.flip(1)), found.flip(2), atol=0, rtol=0)
    torch.testing.assert_close(accuracies(-latents, classes), found, atol=1.01 / 60, rtol=0)
    mask, chance = torch.ones(1, 4), torch.tensor([0.5, 0.2])
    gap = sap_gap(found, mask, chance)
    assert 0 <= gap.item() <= 1
    assert sap_gap(found.flip(1), mask, chance).item() == gap.item()
    assert sap_gap(found.flip(2), mask, chance.flip(0)).item() == pytest.approx(gap.item())


def test_batched_models_equal_each_alone():
    latents, classes = random_clips(0, models=3)
    alone = torch.cat([accuracies(latents, classes, [model]) for model in range(3)])
    assert torch.equal(accuracies(latents, classes), alone)


def test_padded_latents_do_not_count():
    latents, classes = random_clips(0)
    accuracy, chance = accuracies(latents, classes), torch.tensor([0.5, 0.2])
    padded = torch.cat([accuracy, torch.full((1, 3, 2), 0.99)], dim=1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    expected = sap_gap(accuracy, torch.ones(1, 4), chance)
    for kind in (torch.bool, torch.float32):
        assert sap_gap(padded, mask.to(kind), chance).item() == expected.item()


def test_a_single_latent_is_compared_with_chance_and_no_latent_has_gap_zero():
    accuracy, chance = torch.tensor([[[0.9, 0.1], [0.8, 0.7]]]), torch.tensor([0.5, 0.2])
    assert sap_gap(accuracy, torch.tensor([[1, 0]]), chance).item() == pytest.approx((0.4 + 0.0) / 2)
    assert sap_gap(accuracy[:, :1], torch.ones(1, 1), chance).item() == pytest.approx((0.4 + 0.0) / 2)
    assert sap_gap(accuracy, torch.zeros(1, 2), chance).item() == 0.0
    assert sap_gap(accuracy[:, :0], torch.zeros(1, 0), chance).item() == 0.0
    assert sap_gap(accuracy, torch.ones(1, 2), torch.ones(2)).item() == 0.0


@pytest.mark.parametrize("constant", [0.0, 3.0, -1.1e20])
def test_a_constant_latent_predicts_the_most_frequent_class(constant):
    _, classes = random_clips(0)
    classes[:90, 1] = 3
    found = accuracies(torch.full((1, 180, 1), constant), classes[:, 1:])
    assert found.item() == pytest.approx((classes[120:, 1] == 3).double().mean().item())


def test_missing_classes_are_never_predicted_and_no_latents_have_no_accuracy():
    latents, classes = random_clips(0)
    few = classes[:, 1:] % 2 * 3 + 1
    found = accuracies(latents, few)
    torch.testing.assert_close(found, accuracies(latents, (few > 1).long()), atol=0, rtol=0)
    only = classes[:, 1:].clone()
    only[:120] = 4
    share = (only[120:] == 4).double().mean().item()
    assert accuracies(latents, only)[0, :, 0].tolist() == pytest.approx([share] * 4)
    assert accuracies(latents[..., :0], classes).shape == (1, 0, 2)


def test_two_clips_are_enough():
    found = sap_accuracies(
        torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[0], [1]]), torch.tensor([[[5.0]]]), torch.tensor([[1]])
    )
    assert found.item() == 1.0
