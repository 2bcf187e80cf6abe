import math

import pytest
import torch
from pydantic import ValidationError

from marl.audio import AudioConfig, LogMel
from tests.messages import mentions


def sine(hz: float, amplitude: float = 1.0, config: AudioConfig | None = None) -> torch.Tensor:
    config = config or AudioConfig()
    time_s = torch.arange(config.clip_samples, dtype=torch.float64) / config.sample_rate
    return (amplitude * torch.sin(2 * math.pi * hz * time_s)).float()


def test_one_second_at_16_khz_becomes_64_bands_by_64_frames():
    assert LogMel(AudioConfig())(sine(440.0)).shape == (64, 64)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_leading_dimensions_are_kept(shape):
    waveforms = torch.zeros(*shape, AudioConfig().clip_samples)
    assert LogMel(AudioConfig())(waveforms).shape == (*shape, 64, 64)


def test_a_full_scale_sine_peaks_near_zero_db_and_silence_is_at_the_floor():
    config = AudioConfig()
    log_mel = LogMel(config)
    assert log_mel.decibels(log_mel(sine(1000.0))).max().item() == pytest.approx(0.0, abs=3.0)
    assert torch.all(log_mel(torch.zeros(config.clip_samples)) == config.floor_db)


def test_a_tenth_of_the_amplitude_is_20_db_less():
    log_mel = LogMel(AudioConfig(floor_db=-120.0))
    difference = log_mel(sine(700.0)).max() - log_mel(sine(700.0, amplitude=0.1)).max()
    assert difference.item() == pytest.approx(20.0, abs=1e-3)


def test_decibels_inverts_standardisation():
    plain, standardised = LogMel(AudioConfig()), LogMel(AudioConfig(), mean_db=-40.0, std_db=15.0)
    clip = sine(500.0, 0.3)
    torch.testing.assert_close(standardised.decibels(standardised(clip)), plain(clip))


@pytest.mark.parametrize("hz", [440.0, 1234.0, 3000.0])
def test_inversion_keeps_pitch_and_level(hz):
    config = AudioConfig()
    log_mel = LogMel(config, mean_db=-45.0, std_db=15.0)
    original = log_mel(sine(hz, 0.5))
    sound = log_mel.invert(original)
    assert sound.shape == (config.clip_samples,)
    spectrum = torch.fft.rfft(sound * torch.hann_window(len(sound))).abs()
    assert spectrum.argmax().item() == pytest.approx(hz, rel=0.06)  # width of a band
    loudest = original > original.max() - 1.0
    error_db = (log_mel(sound) - original).abs()[loudest].mean() * log_mel.std_db
    assert error_db < 3.0


def test_inversion_is_deterministic():
    log_mel = LogMel(AudioConfig())
    spectrogram = log_mel(sine(600.0))
    assert torch.equal(log_mel.invert(spectrogram), log_mel.invert(spectrogram))


def test_sizes_are_configurable():
    config = AudioConfig(sample_rate=8000, clip_s=0.5, fft_size=512, frames=40, mel_bands=32, max_hz=4000.0)
    log_mel = LogMel(config)
    assert log_mel(sine(440.0, config=config)).shape == (32, 40)
    assert log_mel.invert(log_mel(sine(440.0, config=config))).shape == (4000,)


def test_clips_of_another_length_are_rejected():
    with pytest.raises(ValueError, match=mentions(16000, "samples", 15999)):
        LogMel(AudioConfig())(torch.zeros(15999))


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"frames": 63}, ["frames", "divide", 63]),
        ({"max_hz": 9000.0}, ["max_hz", "sample_rate / 2", 9000]),
        ({"min_hz": 5000.0, "max_hz": 4000.0}, ["min_hz", "max_hz", 5000, 4000]),
        ({"floor_db": 3.0}, ["floor_db", "less than 0", 3]),
        ({"clip_s": 0.03, "frames": 4}, ["clip", "fft_size"]),
        ({"mel_band": 3}, ["mel_band", "extra"]),
    ],
)
def test_inconsistent_settings_are_rejected(fields, facts):
    with pytest.raises(ValidationError, match=mentions(*facts)):
        AudioConfig(**fields)


def test_overloud_spectrograms_are_limited_before_inversion():
    log_mel = LogMel(AudioConfig())
    spectrogram = torch.full((64, 64), -60.0)
    spectrogram[20] = 25.0  # dB, far beyond full scale
    heard = log_mel.invert(spectrogram)
    spectrogram[20] = 3.0
    torch.testing.assert_close(heard, log_mel.invert(spectrogram))
