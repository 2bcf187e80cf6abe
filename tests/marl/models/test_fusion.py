import math

import pytest
import torch

from marl.config import Config
from marl.models import FUSIONS, Architecture, Posterior, build_network
from marl.objective import ActiveTerms, Batch, ObjectiveSpec, build_hyperparameters, objective, term_names

PAIRS = 16
KL_TERMS = ("index_code_mi", "total_correlation", "dimension_wise_kl")


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


def config_of(fusion):
    model = {"width": 16, "embedding": 16, "hidden": 16, "patch_frames": 16}
    return Config.model_validate({"model": model, "latent": {"private": 2, "shared": 3, "fusion": fusion}})


def kl_terms(fusion, logvar=None, stack_fusions=None):
    """Return the sums of the KL terms of both subspaces, and the posterior and the noise of the shared latents.

    Args:
        logvar: Log variance of every latent, whose means are then zero; None for an untrained network.
        stack_fusions: Fusions of the models of the stack, by default that of the model.
    """
    torch.manual_seed(0)
    config = config_of(fusion)
    network = build_network(Architecture(16, 16, config.model, 2, 3))
    spec = ObjectiveSpec(network, ActiveTerms.of_all(map(config_of, stack_fusions or [fusion])))
    hyperparameters = build_hyperparameters(spec, config)
    parameters = network.initial_parameters(config.latent, seed=0)
    if logvar is not None:
        for name in ("mean.weight", "mean.bias", "logvar.weight"):
            parameters[f"encoder.{name}"].zero_()
        parameters["encoder.logvar.bias"].fill_(logvar)
    batch = Batch(network.to_input(torch.randn(2 * PAIRS, 16, 16)), torch.zeros(PAIRS), torch.randn(2 * PAIRS, 5))
    terms = dict(zip(term_names(spec), objective(spec, parameters, hyperparameters, batch)[1], strict=True))
    sums = [sum(terms[f"{subspace}/{term}"] for term in KL_TERMS) for subspace in ("private", "shared")]
    posterior = network.encode(parameters, hyperparameters.mask_D, batch.input_NPQ)
    return *sums, Posterior(*(part[:, 2:] for part in posterior)), batch.noise_ND[:, 2:]


def test_product_of_experts_pays_for_the_joint_posterior_once_a_pair():
    _, shared, posterior, noise = kl_terms("poe")
    precision = (-posterior.logvar).exp()
    joint_precision = precision[:PAIRS] + precision[PAIRS:]
    mean = (precision * posterior.mean)[:PAIRS] + (precision * posterior.mean)[PAIRS:]
    joint = torch.distributions.Normal(mean / joint_precision, joint_precision.rsqrt())
    z = FUSIONS["poe"](posterior, posterior.mean, noise)[:PAIRS]
    of_pair = (joint.log_prob(z) - torch.distributions.Normal(0, 1).log_prob(z)).sum(dim=1).mean()
    torch.testing.assert_close(2 * shared, of_pair, rtol=1e-4, atol=1e-4)


def test_product_of_experts_is_free_where_the_joint_posterior_is_the_prior():
    """Two experts of variance 2 make a joint posterior of variance 1."""
    private, shared, _, _ = kl_terms("poe", logvar=math.log(2))
    assert shared.item() == pytest.approx(0, abs=1e-4)
    assert private.item() > 0.1
    _, separate, _, _ = kl_terms("none", logvar=math.log(2))
    assert separate.item() > 0.1


@pytest.mark.parametrize("fusion", ["none", "mean", "swap"])
def test_other_fusions_pay_for_the_posterior_of_each_view(fusion):
    private, shared, posterior, noise = kl_terms(fusion)
    each = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())
    z = posterior.mean + noise * each.stddev
    of_view = (each.log_prob(z) - torch.distributions.Normal(0, 1).log_prob(z)).sum(dim=1).mean()
    torch.testing.assert_close(shared, of_view, rtol=1e-4, atol=1e-4)
    beside_poe = kl_terms(fusion, stack_fusions=[fusion, "poe"])
    assert (private, shared) == beside_poe[:2]
