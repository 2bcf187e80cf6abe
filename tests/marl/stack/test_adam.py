import pytest
import torch

from marl.stack.adam import FIRST_DECAY, SECOND_DECAY, adam_rates, adam_step


@pytest.mark.parametrize("columns", [None, 1000])
def test_each_model_moves_like_under_adam_of_torch(columns):
    torch.manual_seed(0)
    # Not a multiple of the block, so that the last block is narrower.
    start_Kn, rates = torch.randn(3, 3700), [1e-3, 1e-2, 0.0]
    parameters_Kn, first_Kn, second_Kn = start_Kn.clone(), torch.zeros_like(start_Kn), torch.zeros_like(start_Kn)
    theirs = [row.clone().requires_grad_() for row in start_Kn]
    optimisers = [torch.optim.Adam([row], lr=rate) for row, rate in zip(theirs, rates, strict=True)]
    for step in range(1, 21):
        gradients_Kn = torch.randn_like(start_Kn)
        for row, gradient, optimiser in zip(theirs, gradients_Kn, optimisers, strict=True):
            row.grad = gradient.clone()
            optimiser.step()
        power_K2 = torch.tensor([[FIRST_DECAY**step, SECOND_DECAY**step]] * 3, dtype=torch.float64)
        now = adam_rates(torch.tensor(rates)[:, None], power_K2)
        adam_step(parameters_Kn, gradients_Kn, first_Kn, second_Kn, now, columns)
    torch.testing.assert_close(parameters_Kn, torch.stack(theirs).detach(), atol=1e-6, rtol=0)
    assert torch.equal(parameters_Kn[2], start_Kn[2])
