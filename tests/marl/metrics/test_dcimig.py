import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.metrics.dcimig import dcimig
from marl.metrics.mutual_information import information
from tests.marl.metrics.cases import LIBRARY_CASES, library_table, table_of, unequal_clips


def dcimig_of(latents_ND, classes_NC):
    table = table_of(latents_ND.double(), classes_NC)
    return dcimig(table.mutual_KDC, table.factor_entropy_C).item()


@pytest.mark.parametrize("kind", ["cont10", "disc10", "disc20"])
@pytest.mark.parametrize("case", LIBRARY_CASES)
def test_dcimig_agrees_with_the_library(reference, case, kind):
    table, library = library_table(reference, case, kind)
    found = dcimig(table.mutual_KDC, table.factor_entropy_C).item()
    assert found == pytest.approx(float(library["dcimig"]), abs=1e-9)


def test_dcimig_is_one_for_a_latent_per_factor_beside_any_others():
    factors = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    assert dcimig_of(factors, factors) == pytest.approx(1.0)
    mixed, constant = factors @ torch.tensor([[1], [4]]), torch.ones(20, 1)
    assert dcimig_of(torch.cat([factors, factors, mixed, constant], dim=1), factors) == pytest.approx(1.0)


def test_dcimig_is_zero_for_mixed_or_empty_latents():
    first, second, noise = torch.cartesian_prod(torch.arange(4), torch.arange(4), torch.arange(3)).unbind(dim=1)
    factors = torch.stack([first, second], dim=1)
    assert dcimig_of((first + 4 * second)[:, None], factors) == pytest.approx(0.0, abs=1e-12)
    assert dcimig_of(torch.ones(48, 2), factors) == 0.0
    assert dcimig_of(noise[:, None], factors) == 0.0


def test_dcimig_weighs_factors_by_their_entropy():
    factors = torch.cartesian_prod(torch.arange(2), torch.arange(8))
    assert dcimig_of(factors[:, 1:], factors) == pytest.approx(0.75)  # three bits of four


def test_dcimig_is_defined_without_a_second_latent_any_latent_or_a_varied_factor():
    classes = torch.tensor([0, 1] * 10)[:, None]
    assert dcimig_of(classes, classes) == pytest.approx(1.0)  # the library raises for a single factor
    assert dcimig_of(classes, torch.zeros_like(classes)) == 0.0  # the library divides by zero
    assert dcimig(torch.zeros(2, 0, 3), torch.ones(3)).tolist() == [0.0, 0.0]
    assert dcimig(torch.zeros(2, 3, 0), torch.ones(0)).tolist() == [0.0, 0.0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_dcimig_lies_between_zero_and_one_and_ignores_order(seed):
    latents, classes = unequal_clips(seed)
    table = information(latents, torch.ones(2, 4), classes)
    found = dcimig(table.mutual_KDC, table.factor_entropy_C)
    assert ((found >= 0) & (found <= 1)).all()
    order = table.mutual_KDC[:, [3, 1, 0, 2]][..., [2, 0, 1]]
    torch.testing.assert_close(dcimig(order, table.factor_entropy_C[[2, 0, 1]]), found)


def test_dcimig_does_not_depend_on_other_models_or_padding():
    latents, classes = unequal_clips(seed=1)
    latents[1, :, 2:] = classes[:, :2]
    table = information(latents, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), classes)
    found = dcimig(table.mutual_KDC, table.factor_entropy_C)
    assert [dcimig_of(latents[0], classes), dcimig_of(latents[1, :, :2], classes)] == found.tolist()


def test_dcimig_of_a_subspace_uses_its_latents_and_factors():
    latents, classes = unequal_clips(seed=2, models=1)
    table = table_of(latents[0], classes)
    found = dcimig(table.mutual_KDC[:, 2:, [0, 2]], table.factor_entropy_C[[0, 2]])
    assert found.item() == dcimig_of(latents[0, :, 2:], classes[:, [0, 2]])
