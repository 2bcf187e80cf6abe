import numpy as np
import pytest
import torch

from marl.losses.contrast import STRATEGIES, infonce

CASES = (
    "small",
    "typical",
    "pair_batch",
    "wide_batch",
    "independent",
    "identical_views",
    "large_norms",
    "small_norms",
    "dim_exceeds_batch",
    "collapsed",
)


def nothing_left_out(clips: int) -> torch.Tensor:
    return torch.zeros(clips, clips, dtype=torch.bool)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("case", CASES)
def test_infonce_and_its_gradients_agree_with_open_clip(reference, case, temperature):
    arrays = reference("contrastive_losses.npz", case)
    first, second = (torch.from_numpy(arrays[name]).requires_grad_() for name in ("a", "b"))
    loss = infonce(first, second, nothing_left_out(len(first)), torch.tensor(temperature, dtype=torch.float64))
    name = f"infonce_symmetric_tau{temperature}"
    np.testing.assert_allclose(loss.item(), arrays[name], rtol=1e-9, atol=1e-12)
    for gradient, view in zip(torch.autograd.grad(loss, [first, second]), "ab", strict=True):
        expected = arrays[f"{name}_grad_{view}"]
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


def test_what_is_left_out_is_no_negative():
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 4, dtype=torch.float64)
    group = torch.tensor([0, 0, 1, 1, 2, 3])
    left_out = (group[:, None] == group) & ~torch.eye(6, dtype=torch.bool)
    cosine = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1) / 0.3
    expected = 0.0
    for i in range(6):
        kept = [j for j in range(6) if j == i or group[j] != group[i]]
        expected -= (cosine[i, i] - torch.logsumexp(cosine[i, kept], 0)) / 12
        expected -= (cosine[i, i] - torch.logsumexp(cosine[kept, i], 0)) / 12
    found = infonce(first, second, left_out, torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_finite_for_collapsed_and_empty_latents(name):
    for latents in (torch.zeros(16, 4), torch.ones(16, 4)):
        leaves = [latents.clone().requires_grad_() for _ in range(2)]
        loss = STRATEGIES[name](*leaves, nothing_left_out(16), torch.tensor(0.2))
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, leaves))
