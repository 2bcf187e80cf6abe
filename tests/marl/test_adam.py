import torch

from marl.adam import FIRST_DECAY, SECOND_DECAY, adam_step


def test_each_model_moves_as_under_torchs_adam_with_its_own_rate():
    torch.manual_seed(0)
    # Wider than one block, so that the last one is narrower.
    start_KW, rates = torch.randn(3, 70_000), [1e-3, 1e-2, 0.0]
    parameters_KW, first_KW, second_KW = start_KW.clone(), torch.zeros_like(start_KW), torch.zeros_like(start_KW)
    theirs = [row.clone().requires_grad_() for row in start_KW]
    optimisers = [torch.optim.Adam([row], lr=rate) for row, rate in zip(theirs, rates, strict=True)]
    for step in range(1, 21):
        gradients_KW = torch.randn_like(start_KW)
        for row, gradient, optimiser in zip(theirs, gradients_KW, optimisers, strict=True):
            row.grad = gradient.clone()
            optimiser.step()
        power_K2 = torch.tensor([[FIRST_DECAY**step, SECOND_DECAY**step]] * 3, dtype=torch.float64)
        adam_step(parameters_KW, gradients_KW, first_KW, second_KW, torch.tensor(rates)[:, None], power_K2)
    torch.testing.assert_close(parameters_KW, torch.stack(theirs).detach(), atol=1e-6, rtol=0)
    assert torch.equal(parameters_KW[2], start_KW[2])
