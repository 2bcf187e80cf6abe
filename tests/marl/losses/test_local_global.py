"""Known answers of strategies that use more than the latents of two views."""

import pytest
import torch

from marl.losses.ssl.byol import byol
from marl.losses.ssl.local_global import local_global

TEMPERATURE = torch.tensor(0.3, dtype=torch.float64)


def test_byol_is_zero_for_perfect_predictions_and_four_for_opposite_ones():
    torch.manual_seed(0)
    target = torch.randn(8, 5, dtype=torch.float64)
    other = target.roll(4, dims=0)
    torch.testing.assert_close(byol(3 * other, target), torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(byol(-other, target), torch.full((), 4.0, dtype=torch.float64))


def test_byol_is_the_squared_distance_of_unit_vectors_without_target_gradients():
    torch.manual_seed(1)
    predicted, target = (torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss = byol(predicted, target)
    unit = [rows / rows.norm(dim=1, keepdim=True) for rows in (predicted, target)]
    expected = sum((unit[0][i] - unit[1][(i + 3) % 6]).square().sum() for i in range(6)) / 6
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert target.grad is None


@pytest.mark.parametrize("depends_on_part", [False, True])
def test_local_global_is_the_cross_entropy_of_matching_parts_to_clips(depends_on_part):
    torch.manual_seed(2)
    clips, parts, features = 6, 3, 4
    local = torch.randn(clips, parts, features, dtype=torch.float64)
    shape = (clips, parts, features) if depends_on_part else (clips, features)
    queries = torch.randn(shape, dtype=torch.float64)
    group = torch.tensor([0, 0, 1, 2, 2, 3])
    excluded = group[:, None] == group
    expected = 0.0
    for part in range(parts):
        of_part = queries[:, part] if depends_on_part else queries
        for clip in range(clips):
            scores = torch.nn.functional.cosine_similarity(of_part, local[clip, part][None]) / TEMPERATURE
            kept = [i for i in range(clips) if i == clip or group[i] != group[clip]]
            expected -= (scores[clip] - torch.logsumexp(scores[kept], 0)) / (parts * clips)
    torch.testing.assert_close(local_global(queries, local, excluded, TEMPERATURE), expected)


def test_clips_that_match_only_their_own_parts_have_the_smallest_loss():
    local = torch.eye(8, dtype=torch.float64)[:, None]
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    sharp = torch.tensor(0.01, dtype=torch.float64)
    assert local_global(torch.eye(8, dtype=torch.float64), local, nothing, sharp) < 1e-6
    assert local_global(torch.eye(8, dtype=torch.float64).roll(1, 0), local, nothing, sharp) > 50


@pytest.mark.parametrize("latents", [torch.zeros(8, 4), torch.ones(8, 4)])
def test_collapsed_latents_give_finite_values_and_gradients(latents):
    for loss in (
        lambda x: byol(x, latents),
        lambda x: local_global(x, latents[:, None].repeat(1, 2, 1), torch.zeros(8, 8, dtype=torch.bool), TEMPERATURE),
    ):
        leaf = latents.clone().requires_grad_()
        value = loss(leaf)
        assert value.isfinite()
        (gradient,) = torch.autograd.grad(value, leaf)
        assert gradient.isfinite().all()
