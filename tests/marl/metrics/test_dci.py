import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.metrics.dci import DCI, completeness, dci, disentanglement, disentanglement_of_latents
from tests.marl.metrics.cases import MATRICES, TRAINABLE, halves

SCORES = {
    "disentanglement_per_code": disentanglement_of_latents,
    "disentanglement": disentanglement,
    "completeness_per_factor": lambda importance_KDC: disentanglement_of_latents(importance_KDC.mT),
    "completeness": completeness,
}


def scores_of(importance_KDC):
    """Return all four scores by name."""
    return {name: score(importance_KDC).numpy() for name, score in SCORES.items()}


def random_importance(seed, models=2, latents=4, factors=3):
    """Return random importances, some of them zero."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(models, latents, factors, generator=generator, dtype=torch.float64)
    return drawn * (torch.rand(drawn.shape, generator=generator) > 0.3)


@pytest.mark.parametrize("case", MATRICES)
def test_scores_of_a_matrix_agree_with_disentanglement_lib(reference, case):
    arrays = reference("matrix_scores.npz", case)
    for name, found in scores_of(torch.from_numpy(arrays["matrix"])[None]).items():
        np.testing.assert_allclose(found[0], arrays[name], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", TRAINABLE)
def test_scores_of_importances_agree_with_disentanglement_lib(reference, case):
    arrays = reference("disentanglement.npz", case)
    for name, found in scores_of(torch.from_numpy(arrays["dci_importance"])).items():
        np.testing.assert_allclose(found, arrays[f"dci_{name}"], atol=1e-9, err_msg=name)


def test_scores_by_trees_agree_with_disentanglement_lib_without_constant_factors(reference):
    case = "single_value_factor_n500"
    arrays, without = (
        reference("disentanglement.npz", case),
        reference("disentanglement.npz", f"{case}__degenerate_columns_removed"),
    )
    found = []
    for latents, classes in ((arrays["mus"], arrays["ys"]), (without["mus"], without["ys"])):
        latents, classes = torch.from_numpy(latents), torch.from_numpy(classes)
        found.append(dci(latents[:300], classes[:300], latents[300:], classes[300:]))
    assert found[0] == found[1]
    names = ("dci_disentanglement", "dci_completeness", "dci_informativeness_test")
    for score, name, tolerance in zip(found[0], names, (0.015, 0.015, 0.025), strict=True):
        assert score == pytest.approx(without[name].mean(), abs=tolerance)


def test_a_latent_per_factor_is_perfect_and_mixed_latents_and_noise_are_not(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    classes = torch.stack([torch.randint(count, (600,), generator=generator) for count in (3, 5)], dim=1)
    perfect = dci(*halves(classes.float(), classes))
    assert perfect == pytest.approx((1, 1, 1), abs=1e-6)
    mixed = dci(*halves(classes.float() @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]), classes))
    assert mixed.disentanglement < 0.2
    assert mixed.completeness < 0.2
    assert mixed.informativeness > 0.95
    useless = dci(*halves(torch.randn(600, 6, generator=generator), classes))
    assert useless.disentanglement < 0.1
    assert useless.completeness < 0.1
    assert useless.informativeness == pytest.approx((1 / 3 + 1 / 5) / 2, abs=0.06)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert dci(*halves(classes.float(), classes)) == perfect


def test_constant_latents_and_constant_factors_score_zero():
    classes = torch.tensor([0, 1, 2, 1] * 10)[:, None].repeat(1, 2)
    assert dci(*halves(torch.ones(40, 3), classes)) == DCI(0.0, 0.0, 0.5)
    assert dci(*halves(torch.ones(40, 0), classes)) == DCI(0.0, 0.0, 0.5)
    assert dci(*halves(torch.randn(40, 3), torch.ones(40, 2))) == DCI(0.0, 0.0, 0.0)
    assert dci(*halves(torch.randn(40, 3), torch.ones(40, 0))) == DCI(0.0, 0.0, 0.0)
    for shape in ((2, 3, 2), (2, 0, 2), (2, 3, 0)):
        for score in scores_of(torch.zeros(shape)).values():
            assert not score.any()


def test_a_single_latent_or_factor_scores_one_where_disentanglement_lib_gives_nan():
    factor = scores_of(torch.tensor([[[0.3], [0.7], [0.0]]]))
    assert factor["disentanglement_per_code"].tolist() == [[1, 1, 0]]
    assert factor["disentanglement"].tolist() == [1]
    assert 0 < factor["completeness"][0] < 1
    latent = scores_of(torch.tensor([[[0.3, 0.7, 0.0]]]))
    assert latent["completeness_per_factor"].tolist() == [[1, 1, 0]]
    assert latent["completeness"].tolist() == [1]
    classes = torch.tensor([0, 1] * 20)[:, None]
    assert dci(*halves(classes.float(), classes)) == DCI(1.0, 1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_scores_lie_between_zero_and_one_and_do_not_depend_on_order_or_scale(seed):
    importance = random_importance(seed)
    found = scores_of(importance)
    for score in found.values():
        assert ((score >= -1e-9) & (score <= 1 + 1e-9)).all()
    latent, factor = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    moved = scores_of(7 * importance[:, latent][..., factor])
    np.testing.assert_allclose(
        moved["disentanglement_per_code"], found["disentanglement_per_code"][:, latent], atol=1e-6
    )
    np.testing.assert_allclose(moved["completeness_per_factor"], found["completeness_per_factor"][:, factor], atol=1e-6)
    for name in ("disentanglement", "completeness"):
        np.testing.assert_allclose(moved[name], found[name], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_exchanging_latents_and_factors_exchanges_the_scores(seed):
    importance = random_importance(seed)
    found, exchanged = scores_of(importance), scores_of(importance.mT)
    np.testing.assert_allclose(found["disentanglement"], exchanged["completeness"], atol=1e-12)
    np.testing.assert_allclose(found["completeness"], exchanged["disentanglement"], atol=1e-12)


def test_scores_do_not_depend_on_other_models():
    importance = random_importance(seed=3)
    together, first, second = (scores_of(part) for part in (importance, importance[:1], importance[1:]))
    for name in ("disentanglement", "completeness"):
        assert together[name].tolist() == [*first[name], *second[name]]
