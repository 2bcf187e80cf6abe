import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from marl.metrics.mig import mutual_information_gap
from marl.metrics.mutual_information import discretise, factor_entropy, mutual_information

CASES = (
    "perfect_exact_n500",
    "perfect_noisy_n500",
    "entangled_n500",
    "partial_n500",
    "relabelled_n500",
    "constant_latent_n500",
    "single_value_factor_n500",
    "constant_latent_and_single_value_factor_n500",
    "all_latents_constant_n500",
    "entangled_n5000",
    "partial_n5000",
    "perfect_noisy_n5000",
    "constant_latent_n500__degenerate_columns_removed",
    "single_value_factor_n500__degenerate_columns_removed",
    "constant_latent_and_single_value_factor_n500__degenerate_columns_removed",
)


def split(arrays, part):
    """Latents of one model and factors, of all clips or of the training ones."""
    rows = int(arrays["n_train"]) if part == "train" else len(arrays["mus"])
    return torch.from_numpy(arrays["mus"][:rows])[None], torch.from_numpy(arrays["ys"][:rows])


@pytest.mark.parametrize("part", ["all", "train"])
@pytest.mark.parametrize("case", CASES)
def test_bins_information_entropy_and_mig_agree_with_disentanglement_lib(reference, case, part):
    arrays = reference("disentanglement.npz", case)
    latents, classes = split(arrays, part)
    np.testing.assert_array_equal(discretise(latents)[0].numpy() + 1, arrays[f"discretized_{part}"])
    information, entropy = mutual_information(latents, classes), factor_entropy(classes)
    np.testing.assert_allclose(information[0], arrays[f"mi_{part}"], atol=1e-9)
    np.testing.assert_allclose(entropy, arrays[f"factor_entropy_{part}"], atol=1e-9)
    expected = arrays[f"mig_{part}"]
    found = mutual_information_gap(information, entropy).item()
    if np.isnan(expected):  # a factor with a single value, which we leave out of the mean
        gaps = arrays[f"mig_per_factor_{part}"]
        expected = gaps[np.isfinite(gaps)].mean()
    assert found == pytest.approx(expected, abs=1e-9)


def test_many_models_give_what_each_gives_alone(reference):
    latents, classes = split(reference("disentanglement.npz", "partial_n500"), "all")
    others = torch.stack([latents[0], latents[0].flip(1), torch.randn_like(latents[0])])
    together = mutual_information(others, classes)
    for model in range(3):
        assert torch.equal(together[model], mutual_information(others[model : model + 1], classes)[0])


@settings(max_examples=30, deadline=None)
@given(clips=st.integers(2, 200), values=st.integers(1, 6), seed=st.integers(0, 1000))
def test_information_is_that_of_scikit_learn_and_lies_between_zero_and_the_entropy(clips, values, seed):
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


def test_mig_is_one_for_a_latent_of_its_own_per_factor_and_zero_for_latents_that_say_the_same():
    factors = torch.cartesian_prod(torch.arange(4), torch.arange(5)).repeat(20, 1)
    perfect = mutual_information(factors.float()[None], factors)
    assert mutual_information_gap(perfect, factor_entropy(factors)).item() == pytest.approx(1.0)
    twice = torch.cat([factors, factors], dim=1).float()[None]
    assert mutual_information_gap(mutual_information(twice, factors), factor_entropy(factors)).item() == 0.0


def test_mig_of_a_single_latent_and_of_factors_without_variety_is_defined():
    classes = torch.tensor([0, 1] * 10)[:, None]
    one_latent = mutual_information(classes.float()[None], classes)
    assert mutual_information_gap(one_latent, factor_entropy(classes)).item() == pytest.approx(1.0)
    constant = torch.zeros_like(classes)
    nothing = mutual_information(classes.float()[None], constant)
    assert mutual_information_gap(nothing, factor_entropy(constant)).item() == 0.0
