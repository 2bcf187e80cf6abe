import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.audio import AudioConfig, LogMel
from marl.metrics.fidelity import (
    RESOLUTIONS,
    class_means,
    inversion_floor,
    root_mean_square,
    spectral_distance,
    stft_errors,
    waveform_fidelity,
)

MODELS, CLIPS, BANDS, FRAMES = 3, 7, 6, 5
seeds = st.integers(0, 1000)
SILENCE = torch.zeros(1, 16_000)
SMALL = AudioConfig(clip_s=0.125, fft_size=256, frames=16, mel_bands=16)


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
            assert torch.equal(class_means(many, classes, 3)[0][model], class_means(one, classes, 3)[0][0])


def test_half_precision_does_not_overflow():
    original = torch.zeros(1, BANDS, FRAMES, dtype=torch.float16)
    squared_error, distance = spectral_distance(original[None] + 300, original)
    assert root_mean_square(squared_error).item() == distance.item() == pytest.approx(300)


@given(seed=seeds, classes=st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_means_by_class_average_to_the_mean_over_all(seed, classes):
    values = torch.rand(MODELS, len(classes), generator=torch.Generator().manual_seed(seed))
    mean, clips = class_means(values, torch.tensor(classes), 5)
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
    mean, clips = class_means(values, classes, 4)
    renamed_mean, renamed_clips = class_means(values, torch.tensor(order)[classes], 4)
    assert torch.equal(renamed_mean[:, order], mean)
    assert torch.equal(renamed_clips[list(order)], clips)


def test_a_class_without_clips_has_a_finite_mean():
    mean, clips = class_means(torch.full((2, 3), 4.0), torch.tensor([0, 2, 2]), 4)
    assert clips.tolist() == [1, 0, 2, 0]
    assert mean.tolist() == [[4.0, 0.0, 4.0, 0.0]] * 2


def test_a_non_finite_clip_affects_only_its_class():
    values = torch.tensor([[1.0, torch.inf, 3.0], [1.0, 2.0, torch.nan]])
    mean, _ = class_means(values, torch.tensor([0, 1, 2]), 3)
    assert mean[0].tolist() == [1.0, float("inf"), 3.0]
    assert mean[1, :2].tolist() == [1.0, 2.0]


def tone_and_chirp(hz: float, level: float, samples: int = 16_000) -> torch.Tensor:
    """Return a tone plus a weaker rising tone, [1, samples]."""
    time = torch.arange(samples, dtype=torch.float64)[None] / 16_000
    chirp = torch.sin(2 * math.pi * (300 * time + 1500 * time**2))
    return level * torch.sin(2 * math.pi * hz * time) + 0.2 * chirp


def noise(clips: int, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numpy_magnitudes(wave: np.ndarray, fft_size: int, hop: int, window: int) -> np.ndarray:
    """Return spectra of windowed frames of a reflected waveform, [frames, bins]."""
    padded = np.pad(wave, fft_size // 2, mode="reflect" if len(wave) > fft_size // 2 else "constant")
    hann = np.zeros(fft_size)
    first = (fft_size - window) // 2
    hann[first : first + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(padded) - fft_size + 1, hop)
    power = np.abs([np.fft.rfft(padded[start : start + fft_size] * hann) for start in starts]) ** 2
    return np.sqrt(np.maximum(power, 1e-7))


# Computed by auraloss 0.4.0 in float64: MultiResolutionSTFTLoss(eps=1e-7, output="full") with the reconstruction as
# its input and the original as its target; the mean over resolutions of both parts, and the loss.
@pytest.mark.parametrize(
    ("original", "reconstruction", "expected"),
    [
        (
            tone_and_chirp(440.0, 0.5),
            tone_and_chirp(452.0, 0.4),
            (0.4137204126262342, 0.1319263858900193, 0.5456467985162535),
        ),
        (tone_and_chirp(440.0, 0.5), SILENCE, (0.999990033721544, 1.4727719982418093, 2.4727620319633536)),
        (
            tone_and_chirp(3000.0, 0.01),
            tone_and_chirp(440.0, 0.5),
            (2.4743326613565797, 0.7541613323522297, 3.2284939937088093),
        ),
    ],
)
def test_errors_agree_with_auraloss(original, reconstruction, expected):
    found = [value.item() for value in stft_errors(original, reconstruction)]
    assert found == pytest.approx(expected, rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(samples=st.integers(200, 3000), seed=st.integers(0, 1000))
def test_errors_agree_with_numpy_frame_by_frame(samples, seed):
    original, reconstruction = noise(2, samples, seed), noise(2, samples, seed + 1)
    found = stft_errors(original, reconstruction)
    for clip in range(2):
        convergence, log_error = [], []
        for resolution in RESOLUTIONS:
            target, other = (numpy_magnitudes(w[clip].numpy(), *resolution) for w in (original, reconstruction))
            convergence.append(np.linalg.norm(target - other) / np.linalg.norm(target))
            log_error.append(np.abs(np.log(target) - np.log(other)).mean())
        assert found.spectral_convergence_N[clip].item() == pytest.approx(np.mean(convergence))
        assert found.log_magnitude_error_N[clip].item() == pytest.approx(np.mean(log_error))
        assert found.stft_error_N[clip].item() == pytest.approx(np.mean(convergence) + np.mean(log_error))


def test_identical_and_inverted_sounds_have_no_error():
    original = tone_and_chirp(440.0, 0.5)
    for same in (original, -original):
        assert [value.item() for value in stft_errors(original, same)] == [0.0, 0.0, 0.0]


@settings(max_examples=15, deadline=None)
@given(decibels=st.floats(-40, 20))
def test_a_gain_costs_the_documented_error(decibels):
    original = 1e3 * noise(1, 2000)  # loud enough for every bin to exceed the least magnitude
    convergence, log_error, _ = stft_errors(original, original * 10 ** (decibels / 20))
    assert convergence.item() == pytest.approx(abs(1 - 10 ** (decibels / 20)), abs=1e-6)
    assert log_error.item() == pytest.approx(abs(decibels) * math.log(10) / 20, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), decibels=st.floats(-20, 20))
def test_a_gain_of_both_sounds_changes_nothing(seed, decibels):
    original, reconstruction = 1e3 * noise(1, 2000, seed), 1e3 * noise(1, 2000, seed + 1)
    gain = 10 ** (decibels / 20)
    for found, expected in zip(
        stft_errors(gain * original, gain * reconstruction), stft_errors(original, reconstruction), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_swapping_the_sounds_changes_the_convergence_only():
    quiet, loud = tone_and_chirp(440.0, 0.1), tone_and_chirp(440.0, 0.9)
    there, back = stft_errors(quiet, loud), stft_errors(loud, quiet)
    assert torch.equal(there.log_magnitude_error_N, back.log_magnitude_error_N)
    assert there.spectral_convergence_N > 1 > back.spectral_convergence_N


def test_silence_and_sound_have_the_same_convergence_in_both_orders():
    # auraloss divides by the norm of the least magnitudes, 18399 here, which no mean over clips would survive.
    sound = tone_and_chirp(440.0, 0.5)
    invented, lost = stft_errors(SILENCE, sound), stft_errors(sound, SILENCE)
    assert invented.spectral_convergence_N.item() == 1.0
    assert lost.spectral_convergence_N.item() == pytest.approx(1.0, abs=1e-4)
    assert invented.log_magnitude_error_N.item() == pytest.approx(1.4727719982418093)  # auraloss
    assert [value.item() for value in stft_errors(SILENCE, SILENCE)] == [0.0, 0.0, 0.0]


def test_clips_too_short_for_reflection_have_errors():
    errors = stft_errors(tone_and_chirp(440.0, 0.5, 100), tone_and_chirp(880.0, 0.5, 100))
    assert all(value.isfinite().all() and (value > 0).all() for value in errors)


@pytest.fixture(scope="module")
def audio() -> LogMel:
    return LogMel(SMALL, mean_db=-40.0, std_db=15.0)


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.cat([tone_and_chirp(hz, 0.3, SMALL.clip_samples) for hz in (300.0, 700.0, 1500.0)]).float()


def test_errors_use_the_inverted_log_mel(audio, clips):
    reconstructed = audio(clips) + 0.1
    errors = waveform_fidelity(audio, clips, reconstructed)
    heard = audio.invert(torch.cat([reconstructed, reconstructed[-1:].repeat(13, 1, 1)]))[:3]
    for found, expected in zip(errors, stft_errors(clips, heard), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_floor_is_the_error_of_a_perfect_model(audio, clips):
    floor, log_mel = inversion_floor(audio, clips), audio(clips)
    perfect = waveform_fidelity(audio, clips, log_mel)
    assert all(torch.equal(found, expected) for found, expected in zip(perfect, floor, strict=True))
    errors = waveform_fidelity(audio, clips, log_mel + noise(3, 16 * 16).view(3, 16, 16).float())
    for noisy, least in zip(errors, floor, strict=True):
        assert noisy.mean() > least.mean() > 0


def test_a_quieter_log_mel_can_be_below_the_floor_in_convergence(audio, clips):
    quieter = waveform_fidelity(audio, clips, audio(clips) - 6 / audio.std_db)
    assert quieter.spectral_convergence_N.mean() < inversion_floor(audio, clips).spectral_convergence_N.mean()


def test_errors_do_not_depend_on_other_clips(audio, clips):
    many = clips.repeat(6, 1)
    together = inversion_floor(audio, many)
    alone = inversion_floor(audio, clips[1:2])
    for all_clips, one in zip(together, alone, strict=True):
        assert all_clips.shape == (18,)
        assert torch.equal(all_clips[1::3], one.repeat(6))


def test_silence_and_overloud_reconstructions_have_finite_errors(audio, clips):
    silent = torch.zeros_like(clips)
    assert not inversion_floor(audio, silent).stft_error_N.any()
    for original, log_mel in ((silent, audio(clips)), (clips, audio(silent)), (clips, audio(clips) + 100)):
        errors = waveform_fidelity(audio, original, log_mel)
        assert all(value.isfinite().all() for value in errors)
        assert (errors.stft_error_N > 0).all()
