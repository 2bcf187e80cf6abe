import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import cross_entropy

from marl.losses.independence import INDEPENDENCE, cross_covariance, hsic, reverse_gradient
from tests.marl.losses.checks import assert_stacked_models_equal_each_alone, value_and_gradients


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def masks(private, shared):
    return tuple(torch.ones(part.shape[1], dtype=part.dtype) for part in (private, shared))


def measure(name, private, shared):
    return INDEPENDENCE[name](private, shared, *masks(private, shared))


def expected_hsic(private, shared):
    clips = len(private)
    centre = np.eye(clips) - 1 / clips
    kernels = []
    for part in (private, shared):
        squared = ((part[:, None] - part[None]) ** 2).sum(-1)
        bandwidth = squared[~np.eye(clips, dtype=bool)].mean()
        kernels.append(np.exp(-squared / (2 * bandwidth)))
    k, l = kernels  # noqa: E741

    def trace(x, y):
        return np.trace(x @ centre @ y @ centre) / (clips - 1) ** 2

    return trace(k, l) / np.sqrt(trace(k, k) * trace(l, l))


@pytest.mark.parametrize(("clips", "widths"), [(2, (1, 1)), (5, (3, 1)), (40, (2, 4)), (64, (16, 8))])
def test_hsic_agrees_with_its_definition(clips, widths):
    private, shared = (3 + 0.7 * draw(clips, width, seed=width) for width in widths)
    shared[:, 0] += private[:, 0] ** 2
    # The guard for degenerate latents changes values by up to 1e-4.
    assert measure("hsic", private, shared).item() == pytest.approx(
        expected_hsic(*map(np.asarray, (private, shared))), rel=1e-3
    )


def test_cross_covariance_is_the_mean_squared_correlation():
    private, shared = draw(50, 3), draw(50, 2, seed=1)
    shared[:, 1] += 2 * private[:, 0]
    expected = (np.corrcoef(private.T, shared.T)[:3, 3:] ** 2).mean()
    assert measure("cross_covariance", private, shared).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("dependence", "hsic_bounds", "cross_covariance_bounds"),
    [
        (lambda x, noise: noise, (0, 0.02), (0, 0.005)),
        (lambda x, noise: x, (0.999, 1), (0.999, 1)),
        (lambda x, noise: -3 * x + 0.1 * noise, (0.95, 1), (0.95, 1)),
        (lambda x, noise: x**2 + 0.1 * noise, (0.2, 1), (0, 0.05)),
    ],
    ids=["independent", "identical", "linear", "quadratic"],
)
def test_known_dependences_of_one_dimension_each(dependence, hsic_bounds, cross_covariance_bounds):
    private = draw(1000, 1)
    shared = dependence(private, draw(1000, 1, seed=1))
    for name, (low, high) in (("hsic", hsic_bounds), ("cross_covariance", cross_covariance_bounds)):
        assert low <= measure(name, private, shared).item() <= high + 1e-9, name


@pytest.mark.parametrize("name", INDEPENDENCE)
def test_constant_latents_are_independent_and_finite(name):
    latents = draw(16, 3, dtype=torch.float32)
    for constant in (0.0, 0.3, -1e4, draw(1, 3, dtype=torch.float32)):
        fixed = torch.zeros(16, 3) + constant
        for pair in ((latents, fixed), (fixed, latents), (fixed, fixed)):
            value, *gradients = value_and_gradients(lambda x, y: measure(name, x, y), *pair)
            assert abs(value.item()) < 1e-6
            assert all(gradient.isfinite().all() for gradient in gradients)


def test_constant_dimensions_are_uncorrelated():
    private, shared = draw(32, 2), draw(32, 1)
    private[:, 1] = 7.0
    assert cross_covariance(private, shared, *masks(private, shared)) == pytest.approx(
        0.5 * cross_covariance(private[:, :1], shared, *masks(private[:, :1], shared)).item()
    )


@pytest.mark.parametrize("name", INDEPENDENCE)
@settings(deadline=None, max_examples=25)
@given(
    clips=st.integers(2, 12),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing_and_values_lie_between_zero_and_one(name, clips, widths, padding, seed):
    parts = [draw(clips, width, seed=seed + index) for index, width in enumerate(widths)]
    pads = [torch.nn.ConstantPad1d((extra // 2, extra - extra // 2), 0.0) for extra in padding]
    narrow = value_and_gradients(lambda x, y: measure(name, x, y), *parts)
    padded_masks = [pad(mask) for pad, mask in zip(pads, masks(*parts), strict=True)]
    wide = value_and_gradients(
        lambda x, y: INDEPENDENCE[name](x, y, *padded_masks),
        *(pad(part) for pad, part in zip(pads, parts, strict=True)),
    )
    assert -1e-12 <= narrow[0] <= 1 + 1e-12
    torch.testing.assert_close(wide[0], narrow[0], rtol=1e-12, atol=1e-12)
    for found, expected, pad in zip(wide[1:], narrow[1:], pads, strict=True):
        torch.testing.assert_close(found, pad(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", INDEPENDENCE)
def test_without_private_latents_the_terms_are_zero(name):
    shared = draw(16, 3, dtype=torch.float32)
    value, *gradients = value_and_gradients(
        lambda x, y: INDEPENDENCE[name](x, y, torch.zeros(2), torch.ones(3)), torch.zeros(16, 2), shared
    )
    assert value == 0
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", INDEPENDENCE)
def test_stacked_models_equal_each_model_alone(name):
    private, shared = draw(3, 8, 4), draw(3, 8, 2, seed=1)
    mask_D, mask_E = torch.ones(3, 4).double().tril(1), torch.ones(3, 2).double()
    inputs = (private * mask_D[:, None], shared, mask_D, mask_E)
    models = [[part[index] for part in inputs] for index in range(3)]
    assert_stacked_models_equal_each_alone(INDEPENDENCE[name], inputs, models)


def test_descent_on_hsic_removes_a_nonlinear_dependence():
    private = draw(128, 1)
    shared = (private**2 + 0.1 * draw(128, 1, seed=1)).requires_grad_()
    before = hsic(private, shared, *masks(private, shared)).item()
    optimiser = torch.optim.Adam([shared], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        after = hsic(private, shared, *masks(private, shared))
        after.backward()
        optimiser.step()
    assert after < 0.2 * before


def test_gradient_reversal_keeps_the_values():
    x = torch.tensor([0.1, -0.0, 1e38, math.inf, -1e-45])
    found = reverse_gradient(x, torch.tensor(0.3))
    assert torch.equal(found.view(torch.int32), x.view(torch.int32))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_gradient_reversal_scales_by_minus_strength(strength):
    x = draw(5, 3)
    plain = grad(lambda x: (x**3).sum())(x)
    found = grad(lambda x: (reverse_gradient(x, torch.tensor(strength)) ** 3).sum())(x)
    torch.testing.assert_close(found, -strength * plain)


def test_probe_and_gradient_reversal_work_for_stacked_models():
    latents, weight, strength = draw(3, 6, 4), draw(3, 4, 5, seed=1), torch.tensor([0.1, 1.0, 2.0]).double()
    group = torch.tensor([[0, 1, 2, 3, 4, 0], [4, 4, 4, 4, 4, 4], [1, 0, 1, 0, 1, 0]])

    def loss(latents, weight, strength, group):
        return cross_entropy(reverse_gradient(latents, strength) @ weight, group)

    together = vmap(grad_and_value(loss, argnums=(0, 1)))
    for function in (together, make_fx(together)(latents, weight, strength, group)):
        gradients, values = function(latents, weight, strength, group)
        for index in range(3):
            log_chance = torch.log_softmax(latents[index] @ weight[index], dim=1)
            torch.testing.assert_close(values[index], -log_chance[torch.arange(6), group[index]].mean())
            one = grad(lambda x, w, g=group[index]: cross_entropy(x @ w, g), argnums=(0, 1))(
                latents[index], weight[index]
            )
            torch.testing.assert_close(gradients[0][index], -strength[index] * one[0])
            torch.testing.assert_close(gradients[1][index], one[1])
