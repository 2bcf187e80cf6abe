import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.metrics.information_gaps import dcimig, jemmig, mutual_information_gap
from marl.metrics.mutual_information import information
from tests.marl.metrics.cases import (
    CASES,
    LIBRARY_CASES,
    factor_entropy,
    library_table,
    mutual_information,
    split,
    table_of,
    unequal_clips,
)


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


def score(table, mask_KD, bins=20):
    return jemmig(table.mutual_KDC, table.joint_entropy_KDC, mask_KD, table.factor_entropy_C, bins)


def jemmig_of(latents_ND, classes_NC):
    return score(table_of(latents_ND.double(), classes_NC), torch.ones(1, latents_ND.shape[1])).item()


@pytest.mark.parametrize("kind", ["cont10", "disc10", "disc20"])
@pytest.mark.parametrize("case", LIBRARY_CASES)
def test_jemmig_agrees_with_the_library_except_for_factors_with_a_single_value(reference, case, kind):
    table, library = library_table(reference, case, kind)
    bins, expected = int(kind[-2:]), float(library["jemmig"])
    if "single_value" in case:
        # The library includes such a factor with its last latent; we exclude it.
        varied = library["factor_entropy_bits"] > 0
        information_CD, joint_CD = library["mi_bits"][varied], library["joint_entropy_bits"][varied]
        second, best = np.sort(information_CD, axis=1)[:, -2:].T
        joint = np.take_along_axis(joint_CD, information_CD.argmax(axis=1)[:, None], axis=1)[:, 0]
        ratio = (joint - best + second) / (library["factor_entropy_bits"][varied] + np.log2(bins))
        assert abs(expected - (1 - ratio).mean()) > 0.1
        expected = (1 - ratio).mean()
    found = score(table, torch.ones(table.latent_entropy_KD.shape), bins).item()
    assert found == pytest.approx(expected, abs=1e-9)


def test_jemmig_is_one_for_a_latent_per_factor_and_zero_for_a_uniform_independent_latent():
    factors = torch.cartesian_prod(torch.arange(4), torch.arange(5), torch.arange(20))
    assert jemmig_of(factors[:, :2], factors[:, :2]) == pytest.approx(1.0)
    assert jemmig_of(factors[:, 2:], factors[:, :2]) == pytest.approx(0.0, abs=1e-12)


def test_jemmig_is_lower_for_mixed_and_for_redundant_latents():
    first, second = torch.cartesian_prod(torch.arange(4), torch.arange(5)).unbind(dim=1)
    divisor = math.log(4) + math.log(20)
    both = (first + 4 * second)[:, None]
    assert jemmig_of(both, first[:, None]) == pytest.approx(1 - math.log(5) / divisor)
    assert jemmig_of(torch.stack([first, first], dim=1), first[:, None]) == pytest.approx(1 - math.log(4) / divisor)


def test_jemmig_of_constant_latents_has_a_known_value():
    factor = torch.arange(4).repeat(5)[:, None]
    expected = math.log(20) / (math.log(4) + math.log(20))
    assert jemmig_of(torch.zeros(20, 3), factor) == pytest.approx(expected)


@pytest.mark.parametrize("clips", range(20, 30))  # for some counts rounding favours the other latent
def test_jemmig_prefers_the_latent_of_lower_entropy_in_any_order(clips):
    count = torch.arange(clips)
    latents, factor = torch.stack([count % 9, count % 3], dim=1), (count % 3)[:, None]
    entropy = factor_entropy(factor).item()
    expected = 1 - entropy / (entropy + math.log(20))
    assert jemmig_of(latents, factor) == pytest.approx(expected)
    assert jemmig_of(latents.flip(1), factor) == pytest.approx(expected)


def test_jemmig_is_defined_without_a_second_latent_any_latent_or_a_varied_factor():
    classes = torch.tensor([0, 1] * 10)[:, None]
    assert jemmig_of(classes, classes) == pytest.approx(1.0)
    assert jemmig_of(classes, torch.zeros_like(classes)) == 0.0
    for shape in ((2, 0, 3), (2, 3, 0)):
        found = jemmig(torch.zeros(shape), torch.zeros(shape), torch.ones(shape[:2]), torch.ones(shape[2]))
        assert found.tolist() == [0.0, 0.0]
    assert score(table_of(classes.double(), classes), torch.zeros(1, 1)).item() < 1
    padded = information(classes[None].double(), torch.zeros(1, 1), classes)
    assert score(padded, torch.zeros(1, 1)).item() == 0.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_jemmig_lies_between_zero_and_one_and_ignores_order(seed):
    latents, classes = unequal_clips(seed)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]])
    table = information(latents, mask, classes)
    found = score(table, mask)
    assert ((found >= 0) & (found <= 1)).all()
    latent, factor = torch.tensor([3, 1, 0, 2]), torch.tensor([2, 0, 1])
    other = jemmig(
        table.mutual_KDC[:, latent][..., factor],
        table.joint_entropy_KDC[:, latent][..., factor],
        mask[:, latent],
        table.factor_entropy_C[factor],
    )
    torch.testing.assert_close(other, found)


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_jemmig_does_not_depend_on_other_models_or_padding(kind):
    latents, classes = unequal_clips(seed=1)
    latents[1, :, 2:] = classes[:, :2]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).to(kind)
    found = score(information(latents, mask, classes), mask).tolist()
    assert [jemmig_of(latents[0], classes), jemmig_of(latents[1, :, :2], classes)] == found


def test_jemmig_never_chooses_a_padded_latent():
    noise, factor = torch.cartesian_prod(torch.arange(20), torch.arange(4)).unbind(dim=1)
    latents, mask = torch.stack([noise, torch.zeros_like(noise)], dim=1).double(), torch.tensor([[1, 0]])
    table = information(latents[None], mask, factor[:, None])
    assert score(table, mask).item() == pytest.approx(0.0, abs=1e-12)


def test_jemmig_of_a_subspace_uses_its_latents_and_factors():
    latents, classes = unequal_clips(seed=2, models=1)
    table = table_of(latents[0], classes)
    found = jemmig(
        table.mutual_KDC[:, 2:, [0, 2]],
        table.joint_entropy_KDC[:, 2:, [0, 2]],
        torch.ones(1, 2),
        table.factor_entropy_C[[0, 2]],
    )
    assert found.item() == jemmig_of(latents[0, :, 2:], classes[:, [0, 2]])


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
