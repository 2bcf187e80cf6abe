import torch

from marl.losses.reconstruction import squared_error


def test_it_is_the_squared_error_summed_over_a_spectrogram_and_averaged_over_clips():
    decoded = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    target = torch.tensor([[[0.0, 0.0]], [[0.0, 3.0]]])
    assert squared_error(decoded, target).item() == (1 + 4 + 9) / 2


def test_its_gradient_is_that_of_the_plain_square():
    decoded, target = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    leaf = decoded.clone().requires_grad_()
    plain = (leaf - target).square().sum() / 3
    (expected,) = torch.autograd.grad(plain, leaf)
    (found,) = torch.autograd.grad(squared_error(leaf, target), leaf)
    torch.testing.assert_close(found, expected)
