import math

import pytest
import torch

from marl.models import FUSIONS, Posterior


@pytest.fixture
def shared_latents():
    torch.manual_seed(0)
    mean, logvar, noise = torch.randn(3, 8, 4, dtype=torch.float64)
    return Posterior(mean, logvar), mean + noise * torch.exp(0.5 * logvar), noise


def test_mean_gives_both_views_the_same_average(shared_latents):
    _, z, _ = shared_latents
    combined = FUSIONS["mean"](*shared_latents)
    torch.testing.assert_close(combined[:4], (z[:4] + z[4:]) / 2)
    assert torch.equal(combined[:4], combined[4:])


def test_swap_gives_each_view_the_others_sample(shared_latents):
    _, z, _ = shared_latents
    combined = FUSIONS["swap"](*shared_latents)
    assert torch.equal(combined, torch.cat([z[4:], z[:4]]))


def test_product_of_experts_multiplies_the_densities(shared_latents):
    posterior, z, noise = shared_latents
    without_noise = FUSIONS["poe"](posterior, z, torch.zeros_like(noise))
    unit_noise = FUSIONS["poe"](posterior, z, torch.full_like(noise, math.sqrt(0.5)))
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    for row, dimension in ((0, 0), (3, 2)):
        densities = [
            torch.distributions.Normal(
                posterior.mean[view, dimension], torch.exp(0.5 * posterior.logvar[view, dimension])
            )
            for view in (row, row + 4)
        ]
        product = (densities[0].log_prob(grid) + densities[1].log_prob(grid)).exp()
        mean = (product * grid).sum() / product.sum()
        deviation = ((product * (grid - mean) ** 2).sum() / product.sum()).sqrt()
        torch.testing.assert_close(without_noise[row, dimension], mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(unit_noise[row, dimension] - mean, deviation, rtol=1e-6, atol=1e-6)
    assert torch.equal(unit_noise[:4], unit_noise[4:])
