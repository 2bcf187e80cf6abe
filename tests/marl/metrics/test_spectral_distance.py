import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marl.metrics.spectral_distance import by_class, root_mean_square, spectral_distance

MODELS, CLIPS, BANDS, FRAMES = 3, 7, 6, 5
seeds = st.integers(0, 1000)


def spectrograms(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return reconstructions of each model, and originals, dB."""
    generator = torch.Generator().manual_seed(seed)
    original = 20 * torch.randn(CLIPS, BANDS, FRAMES, generator=generator) - 40
    return original + 5 * torch.randn(MODELS, CLIPS, BANDS, FRAMES, generator=generator), original


def test_exact_reconstructions_have_distance_zero():
    _, original = spectrograms()
    squared_error, distance = spectral_distance(original[None], original)
    assert not squared_error.any()
    assert not distance.any()


@given(decibels=st.floats(-60, 60))
def test_a_constant_offset_in_decibels_is_the_distance(decibels):
    original = torch.zeros(CLIPS, BANDS, FRAMES)
    squared_error, distance = spectral_distance(original[None] + decibels, original)
    torch.testing.assert_close(distance, torch.full((1, CLIPS), abs(decibels)), atol=1e-4, rtol=0)
    assert root_mean_square(squared_error).item() == pytest.approx(abs(decibels), abs=1e-4)


def test_one_bad_frame_changes_the_distance_less_than_the_rmse():
    reconstruction = torch.zeros(1, 1, 2, 4)
    reconstruction[0, 0, :, 1] = torch.tensor([6.0, 8.0])
    squared_error, distance = spectral_distance(reconstruction, torch.zeros(1, 2, 4))
    assert distance.item() == pytest.approx(50**0.5 / 4)
    assert root_mean_square(squared_error).item() == pytest.approx((50 / 4) ** 0.5)


@given(seed=seeds)
def test_both_agree_with_their_definitions_and_the_distance_is_never_larger(seed):
    reconstruction, original = spectrograms(seed)
    squared_error, distance = spectral_distance(reconstruction, original)
    difference = reconstruction.double().numpy() - original.double().numpy()
    np.testing.assert_allclose(distance, np.sqrt((difference**2).mean(axis=2)).mean(axis=2), rtol=1e-5)
    np.testing.assert_allclose(
        root_mean_square(squared_error), np.sqrt((difference**2).mean(axis=(1, 2, 3))), rtol=1e-5
    )
    assert (distance <= squared_error.sqrt() * (1 + 1e-6)).all()


@given(seed=seeds)
def test_the_order_of_bands_and_frames_does_not_matter(seed):
    reconstruction, original = spectrograms(seed)
    turned = spectral_distance(reconstruction.flip(-1, -2), original.flip(-1, -2))
    for found, expected in zip(turned, spectral_distance(reconstruction, original), strict=True):
        torch.testing.assert_close(found, expected)


def test_batched_models_equal_each_alone():
    reconstruction, original = spectrograms()
    together = spectral_distance(reconstruction, original)
    classes = torch.arange(CLIPS) % 3
    for model in range(MODELS):
        alone = spectral_distance(reconstruction[model : model + 1], original)
        for many, one in zip(together, alone, strict=True):
            assert torch.equal(many[model], one[0])
            assert torch.equal(root_mean_square(many)[model], root_mean_square(one)[0])
            assert torch.equal(by_class(many, classes, 3).mean_KC[model], by_class(one, classes, 3).mean_KC[0])


def test_half_precision_does_not_overflow():
    original = torch.zeros(1, BANDS, FRAMES, dtype=torch.float16)
    squared_error, distance = spectral_distance(original[None] + 300, original)
    assert root_mean_square(squared_error).item() == distance.item() == pytest.approx(300)


@given(seed=seeds, classes=st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_means_by_class_average_to_the_mean_over_all(seed, classes):
    values = torch.rand(MODELS, len(classes), generator=torch.Generator().manual_seed(seed))
    mean, clips = by_class(values, torch.tensor(classes), 5)
    for label in range(5):
        own = values[:, [index for index, other in enumerate(classes) if other == label]].double()
        assert clips[label] == own.shape[1]
        torch.testing.assert_close(mean[:, label], own.mean(dim=1) if own.shape[1] else torch.zeros(MODELS).double())
    torch.testing.assert_close((mean * clips).sum(dim=1) / clips.sum(), values.double().mean(dim=1))
    torch.testing.assert_close(((mean * clips).sum(dim=1) / clips.sum()).sqrt(), root_mean_square(values))


@given(seed=seeds, order=st.permutations(range(4)))
def test_relabelling_a_factor_reorders_its_means(seed, order):
    generator = torch.Generator().manual_seed(seed)
    values, classes = torch.rand(MODELS, 30, generator=generator), torch.randint(4, (30,), generator=generator)
    mean, clips = by_class(values, classes, 4)
    renamed_mean, renamed_clips = by_class(values, torch.tensor(order)[classes], 4)
    assert torch.equal(renamed_mean[:, order], mean)
    assert torch.equal(renamed_clips[list(order)], clips)


def test_a_class_without_clips_has_a_finite_mean():
    mean, clips = by_class(torch.full((2, 3), 4.0), torch.tensor([0, 2, 2]), 4)
    assert clips.tolist() == [1, 0, 2, 0]
    assert mean.tolist() == [[4.0, 0.0, 4.0, 0.0]] * 2


def test_a_non_finite_clip_affects_only_its_class():
    values = torch.tensor([[1.0, torch.inf, 3.0], [1.0, 2.0, torch.nan]])
    mean, _ = by_class(values, torch.tensor([0, 1, 2]), 3)
    assert mean[0].tolist() == [1.0, float("inf"), 3.0]
    assert mean[1, :2].tolist() == [1.0, 2.0]
