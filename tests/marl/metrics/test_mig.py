import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.metrics.mig import mutual_information_gap
from marl.metrics.mutual_information import factor_entropy, information, mutual_information
from tests.marl.metrics.cases import CASES, split, table_of, unequal_clips


def gap_of(latents_ND, classes_NC):
    table = table_of(latents_ND.double(), classes_NC)
    return mutual_information_gap(table.mutual_KDC, table.factor_entropy_C).item()


@pytest.mark.parametrize("part", ["all", "train"])
@pytest.mark.parametrize("case", CASES)
def test_mig_agrees_with_disentanglement_lib(reference, case, part):
    arrays = reference("disentanglement.npz", case)
    latents, classes = split(arrays, part)
    found = mutual_information_gap(mutual_information(latents, classes), factor_entropy(classes)).item()
    expected = arrays[f"mig_{part}"]
    if np.isnan(expected):  # we exclude factors with a single value from the mean
        gaps = arrays[f"mig_per_factor_{part}"]
        expected = gaps[np.isfinite(gaps)].mean()
    assert found == pytest.approx(expected, abs=1e-9)


def test_mig_is_one_for_a_latent_per_factor_and_zero_for_redundant_or_constant_latents():
    factors = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    assert gap_of(factors, factors) == pytest.approx(1.0)
    assert gap_of(torch.cat([factors, factors], dim=1), factors) == 0.0
    assert gap_of(torch.zeros(20, 3), factors) == 0.0
    assert gap_of(factors[:, :1], factors[:, 1:]) == 0.0


def test_mig_is_defined_without_a_second_latent_any_latent_or_a_varied_factor():
    classes = torch.tensor([0, 1] * 10)[:, None]
    assert gap_of(classes, classes) == pytest.approx(1.0)
    assert gap_of(classes, torch.zeros_like(classes)) == 0.0
    assert gap_of(classes, torch.cat([classes, torch.zeros_like(classes)], dim=1)) == pytest.approx(1.0)
    no_latents, no_factors = torch.zeros(2, 0, 1), torch.zeros(2, 3, 0)
    assert mutual_information_gap(no_latents, torch.ones(1)).tolist() == [0.0, 0.0]
    assert mutual_information_gap(no_factors, torch.ones(0)).tolist() == [0.0, 0.0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_mig_lies_between_zero_and_one_and_ignores_order(seed):
    latents, classes = unequal_clips(seed)
    table = information(latents, torch.ones(2, 4), classes)
    found = mutual_information_gap(table.mutual_KDC, table.factor_entropy_C)
    assert ((found >= 0) & (found <= 1)).all()
    order = table.mutual_KDC[:, [3, 1, 0, 2]][..., [2, 0, 1]]
    torch.testing.assert_close(mutual_information_gap(order, table.factor_entropy_C[[2, 0, 1]]), found)


def test_mig_does_not_depend_on_other_models_or_padding():
    latents, classes = unequal_clips(seed=1)
    latents[1, :, 2:] = classes[:, :2]  # padding that would be the best latent
    table = information(latents, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), classes)
    found = mutual_information_gap(table.mutual_KDC, table.factor_entropy_C)
    assert [gap_of(latents[0], classes), gap_of(latents[1, :, :2], classes)] == found.tolist()


def test_mig_of_a_subspace_uses_its_latents_and_factors():
    latents, classes = unequal_clips(seed=2, models=1)
    table = table_of(latents[0], classes)
    found = mutual_information_gap(table.mutual_KDC[:, 2:, [0, 2]], table.factor_entropy_C[[0, 2]])
    assert found.item() == gap_of(latents[0, :, 2:], classes[:, [0, 2]])
