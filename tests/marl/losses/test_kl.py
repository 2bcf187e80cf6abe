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


def decompose(z, mean, logvar, dataset_size, groups=None):
    groups = torch.ones(z.shape[1], 1, dtype=z.dtype) if groups is None else groups
    return kl.decompose(z[None], mean[None], logvar[None], groups, dataset_size)


@pytest.mark.parametrize("case", CASES)
def test_terms_and_gradients_agree_with_pythae(reference, case):
    arrays = reference("tcvae_terms.npz", case)
    leaves = [torch.from_numpy(arrays[name]).requires_grad_() for name in ("z", "mu", "logvar")]
    terms = decompose(*leaves, int(arrays["dataset_size"]))
    for term, name in zip(terms, ("mi", "tc", "dwkl"), strict=True):
        np.testing.assert_allclose(term.item(), arrays[f"mws_{name}"], rtol=1e-9)
    np.testing.assert_allclose(sum(terms).item(), arrays["kl_single_sample_mean"], rtol=1e-9)
    gradients = torch.autograd.grad((terms[0] + 6 * terms[1] + terms[2]).sum(), leaves)
    for gradient, name in zip(gradients, ("z", "mu", "logvar"), strict=True):
        expected = arrays[f"mws_grad_{name}_of_mi_plus_6tc_plus_dwkl"]
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_within_the_references_tolerance(reference, case):
    arrays = reference("tcvae_terms.npz", case)
    inputs = [torch.from_numpy(arrays[name]).float() for name in ("z", "mu", "logvar")]
    for term, name in zip(decompose(*inputs, int(arrays["dataset_size"])), ("mi", "tc", "dwkl"), strict=True):
        np.testing.assert_allclose(term.item(), arrays[f"mws_{name}"], atol=1e-4)


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
    together = decompose(z, mean, logvar, 1000, groups)
    for index, part in enumerate((slice(0, sizes[0]), slice(sizes[0], sum(sizes)))):
        alone = decompose(z[:, part], mean[:, part], logvar[:, part], 1000)
        for term, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(term[index], expected[0], rtol=1e-12, atol=1e-12)


def test_views_are_separate_batches_and_averaged():
    z, mean, logvar = (torch.randn(2, 10, 3, dtype=torch.float64) for _ in range(3))
    groups = torch.ones(3, 1, dtype=torch.float64)
    both = kl.decompose(z, mean, logvar, groups, 100)
    views = [decompose(z[view], mean[view], logvar[view], 100) for view in (0, 1)]
    for term, first, second in zip(both, *views, strict=True):
        torch.testing.assert_close(term, 0.5 * (first + second))


def test_distant_posteriors_have_finite_terms_and_gradients_in_float32():
    mean = (torch.arange(8.0)[:, None] * 1000).expand(8, 4).clone().requires_grad_()
    logvar = torch.full((8, 4), -12.0, requires_grad=True)
    terms = decompose(mean.detach(), mean, logvar, 1000)
    gradients = torch.autograd.grad(sum(terms).sum(), [mean, logvar])
    assert all(value.isfinite().all() for value in (*terms, *gradients))
    # Each sample identifies its clip, so the index-code mutual information is the entropy of the index.
    assert terms.index_code_mi.item() == pytest.approx(np.log(8 * 1000), rel=1e-5)
