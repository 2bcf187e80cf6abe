import torch

from marl.config import MultiscaleWeights
from marl.losses.reconstruction import multiscale_errors, squared_error


def test_reconstruction_sums_squared_errors_and_averages_over_clips():
    decoded = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    target = torch.tensor([[[0.0, 0.0]], [[0.0, 3.0]]])
    assert squared_error(decoded, target).item() == (1 + 4 + 9) / 2


def test_the_gradient_equals_the_gradient_of_the_plain_square():
    decoded, target = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    leaf = decoded.clone().requires_grad_()
    plain = (leaf - target).square().sum() / 3
    (expected,) = torch.autograd.grad(plain, leaf)
    (found,) = torch.autograd.grad(squared_error(leaf, target), leaf)
    torch.testing.assert_close(found, expected)


def test_a_constant_difference_is_equal_at_every_resolution():
    difference = torch.full((3, 16, 24), 0.5, dtype=torch.float64)
    expected = squared_error(difference, torch.zeros_like(difference))
    torch.testing.assert_close(multiscale_errors(difference), expected.expand(len(MultiscaleWeights.model_fields)))


def test_each_resolution_ignores_finer_detail():
    def errors(difference):
        return dict(zip(MultiscaleWeights.model_fields, (multiscale_errors(difference) > 1e-12).tolist(), strict=True))

    band, frame = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    chequered = ((-1.0) ** (band + frame))[None]
    assert not any(errors(chequered).values())
    alternating_bands = ((-1.0) ** band)[None]
    assert errors(alternating_bands) == dict.fromkeys(MultiscaleWeights.model_fields, False) | {"spectrum": True}
    by_fours = ((-1.0) ** (frame // 4))[None]
    assert errors(by_fours) == {"scale_2": True, "scale_4": True, "scale_8": False, "spectrum": False, "envelope": True}
