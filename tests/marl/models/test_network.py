"""Contract of every kind of network."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marl.models import NETWORKS, Architecture, LatentConfig, ModelConfig, Network, build_network
from tests.messages import mentions

SMALL = [ModelConfig(kind=kind, width=16, embedding=16, channels=16, hidden=32) for kind in NETWORKS]
of_every_kind = pytest.mark.parametrize("model", SMALL, ids=lambda model: model.kind)


def network(model: ModelConfig, private: int = 6, shared: int = 5) -> Network:
    return build_network(Architecture(32, 64, model, private, shared))


@of_every_kind
def test_inputs_and_outputs_invert_each_other(model):
    spectrogram = torch.arange(2 * 32 * 64.0).view(2, 32, 64)
    net = network(model)
    given = net.to_input(spectrogram)
    assert given.ndim == 3
    assert torch.equal(net.from_output(given), spectrogram)


@of_every_kind
def test_the_output_has_the_shape_of_the_input_and_the_requested_dtype(model):
    net, latent = network(model), LatentConfig(private=6, shared=5)
    parameters, mask = net.initial_parameters(latent, seed=0), net.mask(latent)
    given = net.to_input(torch.randn(4, 32, 64))
    posterior = net.encode(parameters, mask, given, torch.bfloat16)
    output = net.decode(parameters, posterior.mean, torch.bfloat16)
    assert posterior.mean.shape == posterior.logvar.shape == (4, 11)
    assert posterior.mean.dtype == posterior.logvar.dtype == torch.float32
    assert output.shape == given.shape
    assert output.dtype == torch.bfloat16
    exact = net.encode(parameters, mask, given)
    torch.testing.assert_close(posterior.mean, exact.mean, rtol=0, atol=0.1 * exact.mean.abs().max().item())


@of_every_kind
def test_every_parameter_has_a_gradient(model):
    net, latent = network(model), LatentConfig(private=6, shared=5)
    parameters = {name: value.requires_grad_() for name, value in net.initial_parameters(latent, seed=0).items()}
    given = net.to_input(torch.randn(4, 32, 64))
    posterior = net.encode(parameters, net.mask(latent), given)
    loss = (net.decode(parameters, posterior.mean) - given).square().sum() + posterior.logvar.sum()
    for name, gradient in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
        assert gradient.any(), name


@of_every_kind
def test_models_wider_than_the_stack_are_rejected(model):
    with pytest.raises(ValueError, match=mentions("6 private", "5 shared", 7, 2)):
        network(model).mask(LatentConfig(private=7, shared=2))


@pytest.mark.parametrize("field", ["width", "embedding", "hidden", "channels"])
def test_unaligned_widths_are_rejected(field):
    with pytest.raises(ValidationError, match=mentions(field, "multiple", 16, 50)):
        ModelConfig.model_validate({field: 50})


@pytest.mark.parametrize(
    ("model", "fan_ins"),
    [
        (ModelConfig(), {"encoder.patch": 256, "encoder.hidden": 256, "decoder.embedding": 192, "decoder.patch": 64}),
        (
            ModelConfig(kind="conv"),
            # A convolution sees all inputs in 4 x 4 pixels, a transposed one in 2 x 2.
            {
                "encoder.conv1": 16,
                "encoder.conv2": 16 * 32,
                "encoder.conv4": 16 * 64,
                "encoder.hidden": 2 * 4 * 64,
                "decoder.grid": 192,
                "decoder.conv1": 4 * 64,
                "decoder.conv3": 4 * 32,
                "decoder.conv4": 4 * 32,
            },
        ),
    ],
    ids=["patch", "conv"],
)
def test_initial_values_have_variance_one_over_fan_in(model, fan_ins):
    values = network(model).initial_parameters(LatentConfig(private=6, shared=5), seed=0)
    for name, fan_in in fan_ins.items():
        assert values[f"{name}.weight"].var().item() * fan_in == pytest.approx(1, rel=0.1), name
    assert values["decoder.hidden.weight"].abs().max() <= math.sqrt(3 / 11)
    assert not values["decoder.hidden.bias"].any()


@of_every_kind
def test_initial_values_differ_by_seed_and_tensor(model):
    latent = LatentConfig(private=6, shared=5)
    first, second = network(model).initial_parameters(latent, 0), network(model).initial_parameters(latent, 1)
    assert not torch.equal(first["encoder.hidden.weight"], second["encoder.hidden.weight"])
    assert not torch.equal(first["encoder.mean.weight"], first["encoder.logvar.weight"])


@of_every_kind
@settings(max_examples=20, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    wider=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 100),
)
def test_a_padded_model_equals_the_narrower_one_within_rounding(model, sizes, wider, seed):
    latent = LatentConfig(private=sizes[0], shared=sizes[1])
    narrow, wide = network(model, *sizes), network(model, sizes[0] + wider[0], sizes[1] + wider[1])
    mask = wide.mask(latent)
    small, large = narrow.initial_parameters(latent, seed), wide.initial_parameters(latent, seed)
    for name, value in wide.crop(large, mask).items():
        assert torch.equal(value, small[name]), name

    # Latents are float32 in every precision, and some processors change the order of sums with the width.
    assert_close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)
    to_double = lambda values: {name: value.double() for name, value in values.items()}  # noqa: E731
    clips = narrow.to_input(torch.randn(8, 32, 64, dtype=torch.float64))
    kept = mask.nonzero().squeeze(-1)
    from_narrow = narrow.encode(to_double(small), torch.ones(sum(sizes), dtype=torch.float64), clips, torch.float64)
    from_wide = wide.encode(to_double(large), mask.double(), clips, torch.float64)
    assert_close(from_wide.mean[:, kept], from_narrow.mean)
    assert_close(from_wide.logvar[:, kept], from_narrow.logvar)
    assert not from_wide.mean[:, mask == 0].any()
    assert_close(
        wide.decode(to_double(large), from_wide.mean, torch.float64),
        narrow.decode(to_double(small), from_narrow.mean, torch.float64),
    )


@of_every_kind
def test_padding_is_the_inverse_of_cropping(model):
    net, latent = network(model), LatentConfig(private=2, shared=3)
    mask = net.mask(latent)
    padded = net.initial_parameters(latent, 4)
    again = net.pad(net.crop(padded, mask), mask)
    assert all(torch.equal(again[name], value) for name, value in padded.items())
