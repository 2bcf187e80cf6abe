import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from marl.metrics.mutual_information import discretise, information
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


@pytest.mark.parametrize("part", ["all", "train"])
@pytest.mark.parametrize("case", CASES)
def test_bins_information_and_entropy_agree_with_disentanglement_lib(reference, case, part):
    arrays = reference("disentanglement.npz", case)
    latents, classes = split(arrays, part)
    np.testing.assert_array_equal(discretise(latents)[0].numpy() + 1, arrays[f"discretized_{part}"])
    np.testing.assert_allclose(mutual_information(latents, classes)[0], arrays[f"mi_{part}"], atol=1e-9)
    np.testing.assert_allclose(factor_entropy(classes), arrays[f"factor_entropy_{part}"], atol=1e-9)


@pytest.mark.parametrize("kind", ["cont10", "disc10", "disc20"])
@pytest.mark.parametrize("case", LIBRARY_CASES)
def test_the_table_agrees_with_the_second_library(reference, case, kind):
    found, expected = library_table(reference, case, kind)
    information_CD, joint_CD = expected["mi_bits"] * math.log(2), expected["joint_entropy_bits"] * math.log(2)
    factor_C = expected["factor_entropy_bits"] * math.log(2)
    np.testing.assert_allclose(found.mutual_KDC[0].T, information_CD, atol=1e-9)
    np.testing.assert_allclose(found.joint_entropy_KDC[0].T, joint_CD, atol=1e-9)
    np.testing.assert_allclose(found.factor_entropy_C, factor_C, atol=1e-9)
    np.testing.assert_allclose(
        found.latent_entropy_KD[0], (information_CD + joint_CD - factor_C[:, None])[0], atol=1e-9
    )


@pytest.mark.parametrize("kind", ["cont10", "disc10", "disc20"])
@pytest.mark.parametrize("case", LIBRARY_CASES)
def test_bins_agree_with_the_second_library_except_for_constants(reference, case, kind):
    arrays, scores = reference("disentanglement.npz", case), reference("mutual_information_scores.npz", case)
    pairs = [(arrays["mus"], scores[f"{kind}_binned_codes"])]
    if kind == "cont10":
        pairs.append((arrays["ys"], scores["cont10_binned_factors"]))
    for values, expected in pairs:
        varied = np.ptp(values, axis=0) > 0
        found = discretise(torch.from_numpy(values)[None], int(kind[-2:]))[0].numpy() + 1
        np.testing.assert_array_equal(found[:, varied], expected[:, varied])
        assert (np.ptp(found[:, ~varied], axis=0) == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32) | st.integers(-20, 20).map(float), min_size=1, max_size=50),
    bins=st.integers(1, 25),
)
def test_bins_agree_with_numpy_at_the_edges(values, bins):
    values = np.array(values)
    expected = np.digitize(values, np.histogram_bin_edges(values, bins)[:-1]) - 1
    found = discretise(torch.tensor(values)[None, :, None], bins)
    np.testing.assert_array_equal(found[0, :, 0], expected)


def test_batched_models_equal_each_alone():
    latents, classes = unequal_clips(seed=1, models=3, clips=500)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1]])
    together = information(latents, mask, classes)
    for model in range(3):
        alone = information(latents[model : model + 1], mask[model : model + 1], classes)
        for many, one in zip(together[:4], alone[:4], strict=True):
            assert torch.equal(many[model], one[0])


@settings(max_examples=30, deadline=None)
@given(clips=st.integers(2, 200), values=st.integers(1, 6), seed=st.integers(0, 1000))
def test_information_agrees_with_scikit_learn_and_lies_between_zero_and_the_entropy(clips, values, seed):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, clips, 3, generator=generator)
    classes = torch.randint(values, (clips, 1), generator=generator) * 7 - 3
    found = mutual_information(latents, classes)[0, :, 0]
    binned = discretise(latents)[0]
    for latent in range(3):
        assert found[latent].item() == pytest.approx(
            max(0.0, mutual_info_score(binned[:, latent], classes[:, 0])), abs=1e-9
        )
    assert (found >= 0).all()
    assert (found <= factor_entropy(classes) + 1e-9).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([-3.0, -0.5, 0.1, 40.0]), offset=st.floats(-5, 5))
def test_the_table_ignores_scale_sign_offset_order_and_names_of_classes(seed, scale, offset):
    latents, classes = unequal_clips(seed)
    table = information(latents, torch.ones(2, 4), classes)
    order, renamed = torch.tensor([2, 0, 3, 1]), torch.tensor([7, -3, 100, 5, 0])[classes]
    other = information(latents[..., order] * scale + offset, torch.ones(2, 4), renamed)
    for found, expected in zip(other[:4], table[:4], strict=True):
        torch.testing.assert_close(found, expected[:, order], rtol=0, atol=1e-12)
    torch.testing.assert_close(other.factor_entropy_C, table.factor_entropy_C, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), clips=st.integers(1, 60))
def test_information_equals_the_difference_of_entropies_even_with_fewer_clips_than_bins(seed, clips):
    latents, classes = unequal_clips(seed, clips=clips)
    table = information(latents, torch.ones(2, 4), classes)
    common = table.latent_entropy_KD[..., None] + table.factor_entropy_C - table.joint_entropy_KDC
    torch.testing.assert_close(table.mutual_KDC, common, rtol=0, atol=1e-12)


def test_information_of_independent_variables_is_exactly_zero():
    independent = torch.cartesian_prod(torch.arange(19), torch.arange(7), torch.arange(3))
    latents = torch.cat([independent, torch.full_like(independent[:, :1], 3)], dim=1).double()
    table = table_of(latents, torch.cat([independent, torch.zeros_like(independent[:, :1])], dim=1))
    nothing = ~torch.eye(4, dtype=torch.bool)
    nothing[3, 3] = True
    for information_DC in (table.mutual_KDC[0], table.corrected_KDC[0]):
        assert (information_DC[nothing] == 0).all()
        assert (information_DC[~nothing] > 1).all()


def test_padded_latents_are_zero_in_every_table():
    latents, classes = unequal_clips(seed=2)
    mask = torch.tensor([[True, True, True, True], [True, False, True, True]])
    full, masked = information(latents, torch.ones(2, 4), classes), information(latents, mask, classes)
    for found, expected in zip(masked[:4], full[:4], strict=True):
        assert (found[~mask] == 0).all()
        assert torch.equal(found[mask], expected[mask])
        assert (expected[~mask] > 0).all()


def test_tables_of_a_block_are_slices():
    latents, classes = unequal_clips(seed=3)
    table, block = (information(x, torch.ones(2, x.shape[-1]), classes) for x in (latents, latents[..., :3]))
    for whole, part in zip(table[:4], block[:4], strict=True):
        assert torch.equal(whole[:, :3], part)
    assert torch.equal(table.mutual_KDC[..., [2, 0]], mutual_information(latents, classes[:, [2, 0]]))


def test_the_correction_counts_occupied_cells():
    latent = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0])[:, None]
    few, many = torch.tensor([5, 5, 9, 9, 9, 5, 5, 5])[:, None], torch.tensor([5, 5, 9, 9, 5, 5, 9, 5])[:, None]
    table = table_of(latent, few)  # four cells, three bins, two values: nothing to correct
    assert table.corrected_KDC.item() == table.mutual_KDC.item()
    table = table_of(latent, many)  # six cells
    plain = (4 * math.log(16 / 15) + 2 * math.log(8 / 9) + math.log(8 / 6) + math.log(8 / 10)) / 8
    assert table.mutual_KDC.item() == pytest.approx(plain, abs=1e-12)
    assert table.corrected_KDC.item() == 0.0  # the correction 2 / 16 exceeds the estimate
    table = table_of(latent.repeat(20, 1), many.repeat(20, 1))
    assert table.corrected_KDC.item() == pytest.approx(plain - 2 / 320, abs=1e-12)


def test_the_correction_removes_the_bias_of_independent_latents():
    generator = torch.Generator().manual_seed(4)
    latents = torch.rand(1, 1000, 200, generator=generator)
    table = table_of(latents[0], torch.randint(5, (1000, 1), generator=generator))
    biased = table.mutual_KDC.mean().item()
    assert biased == pytest.approx(19 * 4 / 2000, rel=0.05)  # the expansion of Miller
    assert table.corrected_KDC.mean().item() < 0.15 * biased  # above zero, as values are clamped at zero


def test_the_correction_reduces_the_error_of_a_known_dependence():
    """Latents equal the factor, one of four values, in 60 % of the clips and are random in the others."""
    generator = torch.Generator().manual_seed(5)
    tables = []
    for _ in range(40):
        factor = torch.randint(4, (200, 1), generator=generator)
        anew = torch.rand(200, 50, generator=generator) < 0.4
        latents = torch.where(anew, torch.randint(4, (200, 50), generator=generator), factor)
        tables.append(table_of(latents.double(), factor))
    true = math.log(4) + 0.7 * math.log(0.7) + 3 * 0.1 * math.log(0.1)
    biased, corrected = (
        torch.stack([table[number] for table in tables]).mean().item() - true for number in (0, 1)
    )  # the plug-in estimate and the corrected one
    assert biased == pytest.approx(9 / 400, rel=0.2)
    assert abs(corrected) < 0.2 * biased
