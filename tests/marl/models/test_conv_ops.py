"""Convolutions as matrix products, compared with torch in values and gradients."""

import pytest
import torch
from torch.func import vmap
from torch.nn.functional import conv2d, conv_transpose2d

from marl.models.conv_ops import convolution, first_convolution, last_convolution, transposed_convolution
from tests.marl.models.kernels import convolution_weight, last_weight, transposed_weight

SIZES = [(8, 12), (2, 2), (6, 4)]


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
