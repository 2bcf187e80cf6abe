import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.losses import kl

CASES = (
    "small",
    "typical",
    "batch_equals_dataset",
    "sharp_posteriors",
    "wide_posteriors",
    "prior_match",
    "large_batch",
    "tiny_batch",
)


def decompose(z, mean, logvar, groups=None):
    groups = torch.ones(z.shape[1], 1, dtype=z.dtype) if groups is None else groups
    return kl.decompose(z[None], mean[None], logvar[None], groups)


def expected_terms(arrays):
    """Return the terms of Pythae without the constants that the size of the data set adds to them."""
    constant, latents = np.log(arrays["dataset_size"]), arrays["z"].shape[1]
    constants = {"mi": constant, "tc": (latents - 1) * constant, "dwkl": -latents * constant}
    return [arrays[f"mws_{name}"] - value for name, value in constants.items()]


def gaussian_channel(seed, deviation_D, noise_D, mixing_DD=None, pairs=128):
    """Return sample, mean and log variance of a code: normal means, mixed, and independent normal noise."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(pairs, len(deviation_D), generator=generator, dtype=torch.float64) * deviation_D
    mean = mean if mixing_DD is None else mean @ mixing_DD
    z = mean + noise_D * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    return z, mean, (2 * noise_D.log()).expand_as(mean)


def average(batches, *channel, **options):
    """Return the terms of a code as floats, averaged over batches."""
    terms = [torch.cat(decompose(*gaussian_channel(seed, *channel, **options))) for seed in range(batches)]
    return torch.stack(terms).mean(dim=0).tolist()


@pytest.mark.parametrize("case", CASES)
def test_terms_and_gradients_agree_with_pythae(reference, case):
    arrays = reference("tcvae_terms.npz", case)
    leaves = [torch.from_numpy(arrays[name]).requires_grad_() for name in ("z", "mu", "logvar")]
    terms = decompose(*leaves)
    for term, expected in zip(terms, expected_terms(arrays), strict=True):
        np.testing.assert_allclose(term.item(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sum(terms).item(), arrays["kl_single_sample_mean"], rtol=1e-9)
    gradients = torch.autograd.grad((terms[0] + 6 * terms[1] + terms[2]).sum(), leaves)
    for gradient, name in zip(gradients, ("z", "mu", "logvar"), strict=True):
        expected = arrays[f"mws_grad_{name}_of_mi_plus_6tc_plus_dwkl"]
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_within_the_references_tolerance(reference, case):
    arrays = reference("tcvae_terms.npz", case)
    inputs = [torch.from_numpy(arrays[name]).float() for name in ("z", "mu", "logvar")]
    for term, expected in zip(decompose(*inputs), expected_terms(arrays), strict=True):
        np.testing.assert_allclose(term.item(), expected, atol=1e-4)


@pytest.mark.parametrize("latents", [1, 4, 16])
def test_posteriors_equal_to_the_prior_have_terms_of_zero(latents):
    z = torch.randn(64, latents, dtype=torch.float64)
    for term in decompose(z, torch.zeros_like(z), torch.zeros_like(z)):
        assert term.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("latents", "nats"), [(1, 0.5), (1, 2.0), (8, 1.0), (8, 2.0)])
def test_mutual_information_of_a_gaussian_channel_is_its_capacity(latents, nats):
    noise = torch.full((latents,), np.exp(-nats / latents), dtype=torch.float64)
    mutual, correlation, dimension_wise = average(16, (1 - noise.square()).sqrt(), noise)
    assert mutual == pytest.approx(nats, rel=0.1)
    assert 0 <= correlation < 0.1  # the latents are independent, and each has the density of the prior
    assert 0 <= dimension_wise < 0.1


@pytest.mark.parametrize("pairs", [32, 128])
def test_mutual_information_saturates_at_the_logarithm_of_the_batch_and_total_correlation_has_the_rest(pairs):
    noise = torch.full((8,), np.exp(-2.0), dtype=torch.float64)  # a capacity of 16 nats
    mutual, correlation, dimension_wise = average(8, (1 - noise.square()).sqrt(), noise, pairs=pairs)
    assert mutual == pytest.approx(np.log(pairs), abs=0.02)
    assert mutual + correlation + dimension_wise == pytest.approx(16, rel=0.03)


def test_total_correlation_of_correlated_latents_is_that_of_their_density():
    noise = torch.full((2,), 0.3, dtype=torch.float64).sqrt()
    covariance = torch.tensor([[1.0, 0.56], [0.56, 1.0]], dtype=torch.float64)
    mixing = torch.linalg.cholesky(covariance - noise.square().diag()).mT
    mutual, correlation, dimension_wise = average(32, torch.ones(2, dtype=torch.float64), noise, mixing)
    expected = -0.5 * torch.logdet(covariance).item()
    assert correlation == pytest.approx(expected, abs=0.03)
    assert mutual == pytest.approx(-expected - np.log(0.3), rel=0.05)
    assert dimension_wise == pytest.approx(0, abs=0.03)


def test_dimension_wise_kl_of_a_wide_latent_is_that_of_its_density():
    noise = torch.full((1,), 0.5, dtype=torch.float64).sqrt()
    _, _, dimension_wise = average(32, torch.full((1,), 3.5, dtype=torch.float64).sqrt(), noise)
    assert dimension_wise == pytest.approx(0.5 * (4 - 1 - np.log(4)), abs=0.1)


@settings(deadline=None)
@given(clips=st.integers(2, 20), sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)), padding=st.integers(0, 4))
def test_groups_equal_each_group_alone_without_padding(clips, sizes, padding):
    generator = torch.Generator().manual_seed(clips)
    width = sum(sizes) + padding
    z, mean, logvar = (torch.randn(clips, width, generator=generator, dtype=torch.float64) for _ in range(3))
    for values in (z, mean, logvar):
        values[:, sum(sizes) :] = 0
    groups = torch.zeros(width, 2, dtype=torch.float64)
    groups[: sizes[0], 0] = 1
    groups[sizes[0] : sum(sizes), 1] = 1
    together = decompose(z, mean, logvar, groups)
    for index, part in enumerate((slice(0, sizes[0]), slice(sizes[0], sum(sizes)))):
        alone = decompose(z[:, part], mean[:, part], logvar[:, part])
        for term, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(term[index], expected[0], rtol=1e-12, atol=1e-12)


def test_views_are_separate_batches_and_averaged():
    z, mean, logvar = (torch.randn(2, 10, 3, dtype=torch.float64) for _ in range(3))
    groups = torch.ones(3, 1, dtype=torch.float64)
    both = kl.decompose(z, mean, logvar, groups)
    views = [decompose(z[view], mean[view], logvar[view]) for view in (0, 1)]
    for term, first, second in zip(both, *views, strict=True):
        torch.testing.assert_close(term, 0.5 * (first + second))


def test_distant_posteriors_have_finite_terms_and_gradients_in_float32():
    mean = (torch.arange(8.0)[:, None] * 1000).expand(8, 4).clone().requires_grad_()
    logvar = torch.full((8, 4), -12.0, requires_grad=True)
    terms = decompose(mean.detach(), mean, logvar)
    gradients = torch.autograd.grad(sum(terms).sum(), [mean, logvar])
    assert all(value.isfinite().all() for value in (*terms, *gradients))
    # Each sample identifies its clip, so the index-code mutual information is the entropy of the index in the batch.
    assert terms.index_code_mi.item() == pytest.approx(np.log(8), rel=1e-5)
