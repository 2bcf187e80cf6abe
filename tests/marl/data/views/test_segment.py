import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from marl.data.views import segment


def ramps(rows: int, bands: int = 3, frames: int = 64) -> torch.Tensor:
    """Return clips of distinct values."""
    return torch.arange(rows * bands * frames, dtype=torch.float32).reshape(rows, bands, frames)


def starts(segments: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    return (segments[:, 0, 0] - clips[:, 0, 0]).long()


@settings(deadline=None)
@given(frames=st.integers(1, 70), lanes=st.integers(1, 3), rows=st.integers(1, 5), seed=st.integers(0, 1000))
def test_a_view_repeats_a_window_of_half_the_frames(frames, lanes, rows, seed):
    clips = ramps(lanes * rows, frames=frames)
    views = segment(clips, torch.arange(lanes) + seed, torch.arange(lanes))
    window = max(frames // 2, 1)
    for view, clip, start in zip(views, clips, starts(views, clips).tolist(), strict=True):
        assert 0 <= start <= frames - window
        part = clip[:, start : start + window]
        assert torch.equal(view, part.repeat(1, frames // window + 1)[:, :frames])


def test_windows_are_uniform_and_overlap_by_two_thirds_on_average():
    clips = ramps(8192)
    first, second = starts(segment(clips, torch.tensor([5]), torch.tensor([7])), clips).unflatten(0, (2, -1))
    counts = torch.cat([first, second]).bincount(minlength=33)
    assert len(counts) == 33
    assert (counts - 8192 / 33).abs().max() < 5 * (8192 / 33) ** 0.5
    overlap = (32 - (first - second).abs()) / 32
    assert overlap.mean().item() == pytest.approx(2 / 3, abs=0.02)
    assert overlap.min() == 0


def test_rows_do_not_depend_on_lane_or_neighbours():
    clips = torch.randn(3, 6, 64, 64, generator=torch.Generator().manual_seed(0))
    seed, step = torch.tensor([4, 5, 6]), torch.tensor([9, 8, 7])
    together = segment(clips.flatten(0, 1), seed, step).unflatten(0, (3, 6))
    order = torch.tensor([2, 0, 1])
    elsewhere = segment(clips[order].flatten(0, 1), seed[order], step[order]).unflatten(0, (3, 6))
    assert torch.equal(elsewhere, together[order])
    for lane in range(3):
        assert torch.equal(segment(clips[lane, :1], seed[lane, None], step[lane, None])[0], together[lane, 0])


def test_views_steps_and_seeds_differ():
    clips = ramps(1).expand(64, -1, -1).contiguous()

    def drawn(seed: int, step: int) -> torch.Tensor:
        return segment(clips, torch.tensor([seed]), torch.tensor([step]))[:, 0, 0]

    assert len(drawn(0, 0).unique()) > 16
    assert not torch.equal(drawn(0, 0), drawn(0, 1))
    assert not torch.equal(drawn(0, 0), drawn(1, 0))


def test_a_traced_graph_can_be_replayed_at_another_step():
    clips = ramps(8)
    recorded = make_fx(segment)(clips, torch.tensor([1, 2]), torch.tensor([3, 4]))
    seed, step = torch.tensor([6, 7]), torch.tensor([8, 9])
    assert torch.equal(recorded(clips, seed, step), segment(clips, seed, step))
