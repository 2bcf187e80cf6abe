import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marl.model import COMBINATIONS, Architecture, LatentConfig, ModelConfig, PatchNetwork, Posterior

SMALL = ModelConfig(width=16, embedding=16, hidden=32)


def network(private: int = 6, shared: int = 5, model: ModelConfig = SMALL) -> PatchNetwork:
    return PatchNetwork(Architecture(64, 64, model, private, shared))


@pytest.mark.parametrize(("bands", "frames"), [(8, 32), (64, 64), (1, 64), (64, 1), (16, 16)])
def test_patches_tile_the_spectrogram_and_come_back(bands, frames):
    net = network(model=ModelConfig(patch_bands=bands, patch_frames=frames))
    spectrogram = torch.arange(2 * 64 * 64.0).view(2, 64, 64)
    patches = net.to_patches(spectrogram)
    assert patches.shape == (2, 64 * 64 // (bands * frames), bands * frames)
    assert torch.equal(patches[0, 0].view(bands, frames), spectrogram[0, :bands, :frames])
    assert torch.equal(net.from_patches(patches), spectrogram)


def test_patches_that_do_not_tile_are_refused_with_both_sizes():
    with pytest.raises(ValueError, match="patches of 7 bands x 64 frames must tile a spectrogram of 64 x 64"):
        network(model=ModelConfig(patch_bands=7))


def test_widths_that_would_not_align_are_refused():
    with pytest.raises(ValidationError, match="multiple of 16"):
        ModelConfig(width=50)


def test_a_model_wider_than_its_stack_is_refused():
    with pytest.raises(ValueError, match="6 private and 5 shared latents cannot hold a model of 7 and 2"):
        network().mask(LatentConfig(private=7, shared=2))


def test_initial_values_have_variance_one_over_fan_in():
    values = network(model=ModelConfig()).initial(LatentConfig(private=6, shared=5), seed=0)
    weight = values["encoder.patch.weight"]
    assert weight.var().item() * weight.shape[0] == pytest.approx(1, rel=0.05)
    assert values["decoder.hidden.weight"].abs().max() <= math.sqrt(3 / 11)
    assert not values["encoder.patch.bias"].any()


def test_seeds_and_tensors_have_initial_values_of_their_own():
    latent = LatentConfig(private=6, shared=5)
    first, second = network().initial(latent, 0), network().initial(latent, 1)
    assert not torch.equal(first["encoder.patch.weight"], second["encoder.patch.weight"])
    assert not torch.equal(first["encoder.mean.weight"], first["encoder.logvar.weight"])


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    wider=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 100),
)
def test_a_padded_model_is_exactly_the_narrower_one(sizes, wider, seed):
    latent = LatentConfig(private=sizes[0], shared=sizes[1])
    narrow, wide = network(*sizes), network(sizes[0] + wider[0], sizes[1] + wider[1])
    mask = wide.mask(latent)
    small, large = narrow.initial(latent, seed), wide.initial(latent, seed)
    for name, value in wide.crop(large, mask).items():
        assert torch.equal(value, small[name]), name

    to_double = lambda values: {name: value.double() for name, value in values.items()}  # noqa: E731
    patches = torch.randn(8, narrow.patches, 256, dtype=torch.float64)
    kept = mask.nonzero().squeeze(-1)
    from_narrow = narrow.encode(to_double(small), torch.ones(sum(sizes), dtype=torch.float64), patches)
    from_wide = wide.encode(to_double(large), mask.double(), patches)
    torch.testing.assert_close(from_wide.mean[:, kept], from_narrow.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(from_wide.logvar[:, kept], from_narrow.logvar, rtol=1e-12, atol=1e-12)
    assert not from_wide.mean[:, mask == 0].any()
    torch.testing.assert_close(
        wide.decode(to_double(large), from_wide.mean),
        narrow.decode(to_double(small), from_narrow.mean),
        rtol=1e-12,
        atol=1e-12,
    )


def test_padding_is_the_inverse_of_cropping():
    net, latent = network(), LatentConfig(private=2, shared=3)
    mask = net.mask(latent)
    padded = net.initial(latent, 4)
    again = net.pad(net.crop(padded, mask), mask)
    assert all(torch.equal(again[name], value) for name, value in padded.items())


@pytest.fixture
def shared_latents():
    torch.manual_seed(0)
    mean, logvar, noise = torch.randn(3, 8, 4, dtype=torch.float64)
    return Posterior(mean, logvar), mean + noise * torch.exp(0.5 * logvar), noise


def test_mean_gives_both_views_the_same_average(shared_latents):
    _, z, _ = shared_latents
    combined = COMBINATIONS["mean"](*shared_latents)
    torch.testing.assert_close(combined[:4], (z[:4] + z[4:]) / 2)
    assert torch.equal(combined[:4], combined[4:])


def test_swap_gives_each_view_the_others_sample(shared_latents):
    _, z, _ = shared_latents
    combined = COMBINATIONS["swap"](*shared_latents)
    assert torch.equal(combined, torch.cat([z[4:], z[:4]]))


def test_product_of_experts_has_the_mean_and_variance_of_the_multiplied_densities(shared_latents):
    posterior, z, noise = shared_latents
    without_noise = COMBINATIONS["poe"](posterior, z, torch.zeros_like(noise))
    unit_noise = COMBINATIONS["poe"](posterior, z, torch.full_like(noise, math.sqrt(0.5)))
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
