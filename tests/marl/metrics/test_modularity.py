import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.metrics.modularity import modularity
from marl.metrics.mutual_information import information
from tests.marl.metrics.cases import CASES, MATRICES, mutual_information, split, table_of, unequal_clips


def modularity_of(latents_ND, classes_NC):
    return modularity(table_of(latents_ND.double(), classes_NC).mutual_KDC, torch.ones(1, latents_ND.shape[1])).item()


@pytest.mark.parametrize("part", ["all", "train"])
@pytest.mark.parametrize("case", CASES)
def test_modularity_agrees_with_disentanglement_lib(reference, case, part):
    arrays = reference("disentanglement.npz", case)
    latents, classes = split(arrays, part)
    found = modularity(mutual_information(latents, classes), torch.ones(1, latents.shape[-1]))
    assert found.item() == pytest.approx(float(arrays[f"modularity_{part}"]), abs=1e-9)


@pytest.mark.parametrize("case", MATRICES)
def test_modularity_of_a_matrix_agrees_with_disentanglement_lib(reference, case):
    arrays = reference("matrix_scores.npz", case)
    matrix = torch.from_numpy(arrays["matrix"])[None]
    found = modularity(matrix, torch.ones(matrix.shape[:2]))
    assert found.item() == pytest.approx(float(arrays["modularity"]), abs=1e-9)


def test_modularity_is_one_for_a_latent_per_factor_and_zero_for_mixed_or_empty_latents():
    factors = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    assert modularity_of(factors, factors) == 1.0
    assert modularity_of(factors @ torch.tensor([[1], [4]]), factors) == pytest.approx(0.0, abs=1e-12)
    assert modularity_of(torch.ones(16, 2), factors) == 0.0
    # A constant latent lowers the mean.
    assert modularity_of(factors * torch.tensor([1, 0]), factors) == 0.5


def test_modularity_of_independent_latents_is_zero_only_without_chance():
    first, second = torch.cartesian_prod(torch.arange(5), torch.arange(4)).unbind(dim=1)
    assert modularity_of(first[:, None], torch.stack([second, second % 2], dim=1)) == 0.0
    generator = torch.Generator().manual_seed(0)
    noise, classes = torch.randn(500, 3, generator=generator), torch.randint(20, (500, 2), generator=generator)
    classes[:, 1] %= 2
    assert modularity_of(noise, classes) > 0.9  # due to the bias of the estimate for twenty classes


def test_modularity_with_a_single_factor_without_factors_or_without_latents_is_defined():
    classes = torch.tensor([0, 1] * 10)[:, None]
    assert modularity_of(torch.cat([classes, torch.zeros_like(classes)], dim=1), classes) == 0.5
    assert modularity_of(classes, torch.zeros_like(classes)) == 0.0
    assert modularity(torch.zeros(2, 3, 0), torch.ones(2, 3)).tolist() == [0.0, 0.0]
    assert modularity(torch.zeros(2, 0, 3), torch.ones(2, 0)).tolist() == [0.0, 0.0]
    assert modularity(torch.zeros(1, 2, 3), torch.zeros(1, 2)).tolist() == [0.0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_modularity_lies_between_zero_and_one_and_ignores_order(seed):
    latents, classes = unequal_clips(seed)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]])
    information_KDC = information(latents, mask, classes).mutual_KDC
    found = modularity(information_KDC, mask)
    assert ((found >= 0) & (found <= 1)).all()
    latent, factor = torch.tensor([3, 1, 0, 2]), torch.tensor([2, 0, 1])
    torch.testing.assert_close(modularity(information_KDC[:, latent][..., factor], mask[:, latent]), found)


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_modularity_does_not_depend_on_other_models_or_padding(kind):
    latents, classes = unequal_clips(seed=1)
    latents[1, :, 2:] = classes[:, :2]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).to(kind)
    found = modularity(information(latents, mask, classes).mutual_KDC, mask).tolist()
    assert [modularity_of(latents[0], classes), modularity_of(latents[1, :, :2], classes)] == found


def test_modularity_of_a_subspace_uses_its_latents_and_factors():
    latents, classes = unequal_clips(seed=2, models=1)
    found = modularity(table_of(latents[0], classes).mutual_KDC[:, 2:, [0, 2]], torch.ones(1, 2))
    assert found.item() == modularity_of(latents[0, :, 2:], classes[:, [0, 2]])
