"""Convolutions as matrix products, and the network of them, compared with torch in values and gradients."""

import pytest
import torch
from torch.func import vmap
from torch.nn.functional import conv2d, conv_transpose2d, hardswish

from marl.models import Architecture, LatentConfig, ModelConfig
from marl.models.conv import ConvNetwork, convolution, first_convolution, last_convolution, transposed_convolution
from tests.messages import mentions

SMALL = ModelConfig(kind="conv", channels=16, hidden=32)
SIZES = [(8, 12), (2, 2), (6, 4)]


def blocked(kernel):
    """Return a kernel [..., 4, 4] as [..., a, p, b, q], element (2 (1 - a) + p, 2 (1 - b) + q)."""
    return kernel.unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).flip(-4, -2)


def convolution_weight(kernel):
    outputs, inputs = kernel.shape[:2]
    return blocked(kernel).permute(3, 5, 1, 2, 4, 0).reshape(4 * inputs, 4 * outputs)


def transposed_weight(kernel):
    inputs, outputs = kernel.shape[:2]
    return blocked(kernel).permute(2, 4, 0, 3, 5, 1).reshape(4 * inputs, 4 * outputs)


def last_weight(kernel):
    return kernel[:, 0].unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).transpose(-3, -2).flatten(1)


def channels_last(function, image, kernel):
    return function(image.movedim(-1, 1), kernel, stride=2, padding=1).movedim(1, -1)


def assert_same_values_and_gradients(ours, theirs, inputs):
    """Compare two functions of the same tensors, for a random gradient of the result."""
    expected = theirs(*inputs)
    found = ours(*inputs)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    wanted = [value for value in inputs if value.requires_grad]
    for one, other in zip(
        torch.autograd.grad(found, wanted, gradient), torch.autograd.grad(expected, wanted, gradient), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("size", SIZES)
def test_a_convolution_agrees_with_torch(size):
    assert_same_values_and_gradients(
        lambda image, kernel: convolution(image, convolution_weight(kernel)),
        lambda image, kernel: channels_last(conv2d, image, kernel),
        (random(3, *size, 5), random(7, 5, 4, 4)),
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_transposed_convolution_agrees_with_torch(size):
    assert_same_values_and_gradients(
        lambda image, kernel: transposed_convolution(image, transposed_weight(kernel)),
        lambda image, kernel: channels_last(conv_transpose2d, image, kernel),
        (random(3, *size, 5), random(5, 7, 4, 4)),
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_first_convolution_agrees_with_torch(size):
    image = random(3, *size).detach()
    assert_same_values_and_gradients(
        lambda kernel: first_convolution(image, kernel.flatten(1).T),
        lambda kernel: channels_last(conv2d, image[..., None], kernel),
        (random(7, 1, 4, 4),),
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_last_convolution_agrees_with_torch(size):
    assert_same_values_and_gradients(
        lambda image, kernel: last_convolution(image, last_weight(kernel)),
        lambda image, kernel: channels_last(conv_transpose2d, image, kernel).squeeze(-1),
        (random(3, *size, 5), random(5, 1, 4, 4)),
    )


def test_stacked_models_have_separate_results_and_gradients():
    def loss(image, first, second):
        return transposed_convolution(convolution(image, first), second).square().sum()

    stacked = random(4, 3, 8, 8, 5), random(4, 20, 28), random(4, 28, 20)
    gradients = torch.autograd.grad(vmap(loss)(*stacked).sum(), stacked)
    for model in range(4):
        alone = tuple(value[model].detach().requires_grad_() for value in stacked)
        for found, expected in zip(gradients, torch.autograd.grad(loss(*alone), alone), strict=True):
            torch.testing.assert_close(found[model], expected)


def network(bands: int = 64, frames: int = 64) -> ConvNetwork:
    return ConvNetwork(Architecture(bands, frames, SMALL, private=6, shared=5))


@pytest.mark.parametrize(("bands", "frames"), [(64, 40), (24, 64), (8, 8)])
def test_spectrograms_that_are_not_multiples_of_16_are_rejected(bands, frames):
    with pytest.raises(ValueError, match=mentions("mel_bands", "frames", "multiple", 16, bands, frames)):
        network(bands, frames)


@pytest.mark.parametrize(("bands", "frames"), [(64, 64), (16, 48)])
def test_the_network_agrees_with_convolutions_of_torch(bands, frames):
    torch.manual_seed(0)
    net = network(bands, frames)
    latent = LatentConfig(private=6, shared=5)
    values = {name: torch.randn_like(value) * 0.1 for name, value in net.initial_parameters(latent, seed=0).items()}
    kernels = {
        "encoder.conv1": torch.randn(16, 1, 4, 4),
        "encoder.conv2": torch.randn(16, 16, 4, 4),
        "encoder.conv3": torch.randn(32, 16, 4, 4),
        "encoder.conv4": torch.randn(32, 32, 4, 4),
        "decoder.conv1": torch.randn(32, 32, 4, 4),
        "decoder.conv2": torch.randn(32, 16, 4, 4),
        "decoder.conv3": torch.randn(16, 16, 4, 4),
        "decoder.conv4": torch.randn(16, 1, 4, 4),
    }
    kernels = {name: 0.1 * kernel for name, kernel in kernels.items()}
    for name, kernel in kernels.items():
        to_weight = convolution_weight if name.startswith("encoder") else transposed_weight
        values[f"{name}.weight"] = to_weight(kernel)
    values["encoder.conv1.weight"] = kernels["encoder.conv1"].flatten(1).T
    values["decoder.conv4.weight"] = last_weight(kernels["decoder.conv4"])
    assert {name: tuple(value.shape) for name, value in values.items()} == net.shapes

    def linear(name, given):
        return given @ values[f"{name}.weight"] + values[f"{name}.bias"]

    log_mel, z = torch.randn(3, bands, frames), torch.randn(3, 11)
    hidden = log_mel[:, None]
    for name in ("encoder.conv1", "encoder.conv2", "encoder.conv3", "encoder.conv4"):
        hidden = hardswish(conv2d(hidden, kernels[name], values[f"{name}.bias"], stride=2, padding=1))
    hidden = hardswish(linear("encoder.hidden", hidden.movedim(1, -1).flatten(1)))
    posterior = net.encode(values, torch.ones(11), net.to_input(log_mel))
    torch.testing.assert_close(posterior.mean, linear("encoder.mean", hidden), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(posterior.logvar, linear("encoder.logvar", hidden), rtol=1e-4, atol=1e-5)

    hidden = hardswish(linear("decoder.grid", hardswish(linear("decoder.hidden", z))))
    hidden = hidden.unflatten(1, (bands // 16, frames // 16, 32)).movedim(-1, 1)
    for name in ("decoder.conv1", "decoder.conv2", "decoder.conv3"):
        hidden = hardswish(conv_transpose2d(hidden, kernels[name], values[f"{name}.bias"], stride=2, padding=1))
    expected = conv_transpose2d(hidden, kernels["decoder.conv4"], stride=2, padding=1)[:, 0]
    torch.testing.assert_close(net.from_output(net.decode(values, z)), expected, rtol=1e-4, atol=1e-5)
