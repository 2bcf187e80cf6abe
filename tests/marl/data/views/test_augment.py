"""Augmentation of log-mels, compared with log-mels of augmented waveforms."""

import math
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from marl import randomness
from marl.audio import AudioConfig, LogMel, hz_to_mel, mel_to_hz
from marl.data.syntone import synthesise
from marl.data.views import AugmentConfig, make_views
from marl.data.views.augment import high_pass, low_pass
from marl.randomness import Purpose
from tests.messages import mentions

AUDIO = AudioConfig()
LOG_MEL = LogMel(AUDIO, mean_db=-40.0, std_db=15.0)
SAMPLES, HOP = AUDIO.clip_samples, AUDIO.hop_samples
FLOOR_DB = AUDIO.floor_db
INNER = slice(4, -4)  # frames whose windows lie within the clip
KINDS = ("low_pass", "high_pass", "band_pass", "band_stop")
EVERYTHING = AugmentConfig(noise_probability=0.5, gain_probability=0.5, filter_kinds=KINDS)


def only(**fields) -> AugmentConfig:
    """Return a configuration with only the named augmentations."""
    off = {f"{name}_probability": 0.0 for name in ("noise", "gain", "filter", "pitch", "shift")}
    return AugmentConfig(**(off | fields))


def views(clips: Tensor, config: AugmentConfig, seed: int = 0, step: int = 3, log_mel: LogMel = LOG_MEL) -> Tensor:
    return make_views("augment", clips, torch.tensor([seed]), torch.tensor([step]), log_mel, config)


def altered_db(waveform_S: Tensor, config: AugmentConfig) -> Tensor:
    return LOG_MEL.decibels(views(LOG_MEL(waveform_S)[None], config)[0])


def true_db(waveform_S: Tensor) -> Tensor:
    return LOG_MEL.decibels(LOG_MEL(waveform_S))


def mean_db(spectrogram_db: Tensor) -> Tensor:
    """Return the mean power of each band over the inner frames, dB."""
    return 10 * (10 ** (spectrogram_db[:, INNER] / 10)).mean(dim=1).log10()


def noise(seed: int = 0, rms: float = 0.1) -> Tensor:
    return rms * torch.randn(SAMPLES, generator=torch.Generator().manual_seed(seed))


def sine(hz: float, amplitude: float = 0.3) -> Tensor:
    time_s = torch.arange(SAMPLES, dtype=torch.float64) / AUDIO.sample_rate
    return (amplitude * torch.sin(2 * math.pi * hz * time_s)).float()


def harmonics(ratio: float = 1.0) -> Tensor:
    """Return all multiples of 30 Hz, too dense for a window to resolve, with -3 dB per octave, resampled."""
    number = torch.arange(1, 266, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(len(number), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    hz = 30.0 * ratio * number
    time_s = torch.arange(SAMPLES, dtype=torch.float64) / AUDIO.sample_rate
    parts = torch.sin(2 * math.pi * hz[:, None] * time_s + phase[:, None]) * (hz < 8000)[:, None]
    return (0.05 * number**-0.5 @ parts).float()


def mixed_clips(*shape: int, seed: int = 0) -> Tensor:
    """Return standardised log-mels of noise with some silence."""
    return torch.randn(*shape, 64, 64, generator=torch.Generator().manual_seed(seed)).clamp_min(-4 / 3)


@pytest.mark.parametrize("gain_db", [-20.0, -6.0, 6.0])
@pytest.mark.parametrize("waveform", [noise(), sine(1000.0), harmonics()], ids=["noise", "sine", "harmonics"])
def test_gain_is_exact_above_the_floor_and_silence_stays_silent(waveform, gain_db):
    found = altered_db(waveform, only(gain_probability=1.0, gain_db=(gain_db, gain_db)))
    expected, before = true_db(waveform * 10 ** (gain_db / 20)), true_db(waveform)
    heard = before > FLOOR_DB + 0.1
    torch.testing.assert_close(found[heard], expected[heard], atol=1e-3, rtol=0)
    assert (found[before == FLOOR_DB] == FLOOR_DB).all()


def test_time_shift_equals_shifting_the_waveform_by_whole_hops():
    waveform = noise() * torch.linspace(0.05, 1.0, SAMPLES)
    clip = LOG_MEL(waveform)
    shifted = views(clip.expand(64, -1, -1), only(shift_probability=1.0))
    offsets = set()
    for row in shifted:
        offset = next(frames for frames in range(-32, 33) if torch.equal(row, clip.roll(frames, dims=1)))
        expected = true_db(waveform.roll(offset * HOP))
        inner = torch.tensor([4 <= frame < 60 and 4 <= (frame - offset) % 64 < 60 for frame in range(64)])
        torch.testing.assert_close(LOG_MEL.decibels(row)[:, inner], expected[:, inner], atol=1e-3, rtol=0)
        offsets.add(offset)
    assert len(offsets) > 30
    assert min(offsets) < -24
    assert max(offsets) > 24


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("waveform", "within_db"),
    [(noise(), 0.15), (synthesise("sawtooth", torch.tensor(700.0), SAMPLES, 16_000).float() / 4, 1.0)],
    ids=["noise", "sawtooth"],
)
def test_filters_equal_filtering_the_waveform(waveform, within_db, order, kind):
    low_hz, high_hz = 3000.0, 600.0
    config = only(
        filter_probability=1.0,
        filter_kinds=(kind,),
        filter_order=order,
        low_pass_hz=(low_hz, low_hz),
        high_pass_hz=(high_hz, high_hz),
    )
    hz = torch.fft.rfftfreq(SAMPLES, 1 / AUDIO.sample_rate, dtype=torch.float64)
    low, high = low_pass(hz, low_hz, order), high_pass(hz, high_hz, order)
    power = {"low_pass": low, "high_pass": high, "band_pass": low * high, "band_stop": 1 - low * high}[kind]
    filtered = torch.fft.irfft(torch.fft.rfft(waveform.double()) * power.sqrt(), n=SAMPLES).float()
    error_db = (mean_db(altered_db(waveform, config)) - mean_db(true_db(filtered)))[mean_db(true_db(filtered)) > -50]
    assert error_db.abs().max() < within_db
    assert error_db.square().mean().sqrt() < within_db / 4


def test_filters_halve_the_power_at_the_cutoff():
    hz = torch.tensor([500.0, 1000.0, 2000.0, 16_000.0])
    torch.testing.assert_close(low_pass(hz, 1000.0, 1), torch.tensor([0.8, 0.5, 0.2, 1 / 257]))
    torch.testing.assert_close(high_pass(hz, 1000.0, 1), torch.tensor([0.2, 0.5, 0.8, 256 / 257]))
    assert 10 * math.log10(low_pass(hz, 1000.0, 3)[3]) == pytest.approx(-4 * 18.06, abs=0.01)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
@pytest.mark.parametrize("waveform", [sine(1000.0), harmonics()], ids=["sine", "harmonics"])
def test_noise_equals_the_mean_effect_of_white_noise(waveform, snr_db):
    rms = waveform.square().mean().sqrt() * 10 ** (-snr_db / 20)
    draws = torch.stack([noise(seed) for seed in range(300)])
    draws *= rms / draws.square().mean().sqrt()
    expected = LOG_MEL.power(waveform + draws).mean(dim=0)[:, INNER].mean(dim=1)
    found = 10 ** (mean_db(altered_db(waveform, only(noise_probability=1.0, noise_snr_db=(snr_db, snr_db)))) / 10)
    # 1.7 % of the power of the harmonics lies below the centre of the first band and is lost.
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("semitones", [-7.0, -3.0, 1.0, 7.0])
@pytest.mark.parametrize("hz", [440.0, 1000.0, 2500.0])
def test_pitch_shift_moves_a_tone_with_its_power(hz, semitones):
    found = altered_db(sine(hz), only(pitch_probability=1.0, pitch_semitones=(semitones, semitones)))[:, 32]
    expected = true_db(sine(hz * 2 ** (semitones / 12)))[:, 32]
    assert found.argmax() == expected.argmax()
    # Interpolation does not know how the height of a peak depends on its position within a band.
    assert found.max().item() == pytest.approx(expected.max().item(), abs=3.5)
    total_db = [10 * math.log10((10 ** (part / 10)).sum()) for part in (found, expected)]
    assert total_db[0] == pytest.approx(total_db[1], abs=0.5)


@pytest.mark.parametrize("semitones", [-7.0, -3.0, -1.0, 1.0, 3.0, 7.0])
def test_pitch_shift_moves_a_dense_spectrum(semitones):
    ratio = 2 ** (semitones / 12)
    found = mean_db(altered_db(harmonics(), only(pitch_probability=1.0, pitch_semitones=(semitones, semitones))))
    expected = mean_db(true_db(harmonics(ratio)))
    error_db = found - expected
    # Upper end of each band, in bands. The edge at 8 kHz shapes bands that reach beyond it.
    limit = 65 * hz_to_mel(torch.tensor(8000.0 * min(ratio, 1.0))) / hz_to_mel(torch.tensor(8000.0))
    end = torch.arange(64) + 2
    whole = (end < limit) | (ratio > 1)
    assert error_db[2:][whole[2:]].abs().max() < 0.6
    assert error_db[2:][whole[2:]].square().mean().sqrt() < 0.15
    assert error_db[:2].abs().max() < 1.0  # there, the window resolves harmonics that moved apart
    assert (found[end - 2 > limit] == FLOOR_DB).all()


def test_probability_zero_changes_no_bit():
    clips = mixed_clips(8)
    assert torch.equal(views(clips, only()), clips)
    assert torch.equal(views(clips.half(), only()), clips.half())


def test_the_dtype_of_clips_is_kept():
    clips = LOG_MEL(torch.stack([noise(), harmonics()]))
    narrow = views(clips.half(), EVERYTHING)
    assert narrow.dtype == torch.float16
    torch.testing.assert_close(narrow.float(), views(clips, EVERYTHING), atol=5e-3, rtol=0)


def test_amounts_are_drawn_from_seed_step_and_row():
    clips = mixed_clips(6) + 3
    state = randomness.stream(torch.tensor([11]), torch.tensor([5]), Purpose.AUGMENTATION)
    chance, amount = randomness.uniform(state, torch.arange(6), torch.tensor([2, 3]))[0].T
    found = views(clips, only(gain_probability=0.5), seed=11, step=5)
    gain_db = torch.where(chance < 0.5, -20 + 19 * (amount * 1024).floor() / 1023, 0.0)
    torch.testing.assert_close((found - clips).mean(dim=(1, 2)) * 15, gain_db, atol=1e-3, rtol=0)
    assert 0 < (gain_db != 0).sum() < 6


@pytest.mark.parametrize("audio", [AUDIO, AudioConfig(mel_bands=33, frames=125)], ids=["default", "odd"])
def test_rows_do_not_depend_on_lane_or_neighbours(audio):
    log_mel = LogMel(audio, -40.0, 15.0)
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(5, 7, audio.mel_bands, audio.frames, generator=generator)
    seed, step = torch.arange(5) + 20, torch.arange(5) * 3

    def of(clips: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        return make_views("augment", clips.flatten(0, 1), seed, step, log_mel, EVERYTHING).view_as(clips)

    together = of(clips, seed, step)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(of(clips[order], seed[order], step[order]), together[order])
    for lane in range(5):
        one = slice(lane, lane + 1)
        assert torch.equal(of(clips[one], seed[one], step[one]), together[one])
        assert torch.equal(of(clips[one, :1], seed[one], step[one]), together[one, :1])
    others = clips.clone()
    others[:, 1:] = 7.0
    assert torch.equal(of(others, seed, step)[:, 0], together[:, 0])


def test_views_steps_and_seeds_differ():
    clips = mixed_clips(1).expand(32, -1, -1).contiguous()
    first = views(clips, AugmentConfig(), seed=1, step=1)
    assert len(first.unique(dim=0)) > 28
    assert not torch.equal(first, views(clips, AugmentConfig(), seed=1, step=2))
    assert not torch.equal(first, views(clips, AugmentConfig(), seed=2, step=1))


@pytest.mark.parametrize("name", ["noise", "gain", "filter", "pitch", "shift"])
def test_each_augmentation_has_its_probability(name):
    clips = mixed_clips(1).expand(2000, -1, -1)
    untouched = (views(clips, only(**{f"{name}_probability": 0.3})) == clips).all(dim=(1, 2)).float().mean().item()
    assert untouched == pytest.approx(0.7, abs=0.05)


@settings(max_examples=30, deadline=None)
@given(limits=st.tuples(st.floats(-12, 12), st.floats(-12, 12)).map(sorted).map(tuple), seed=st.integers(0, 10**6))
def test_gain_and_noise_stay_in_range(limits, seed):
    low, high = limits
    # Relative gains for bands that share the power of white noise.
    clips = LOG_MEL.from_power(0.1 * LOG_MEL.white_noise_F()[:, None].expand(16, -1, 64))
    gain_db = (views(clips, only(gain_probability=1.0, gain_db=limits), seed=seed) - clips) * 15
    assert low - 1e-3 <= gain_db.min()
    assert gain_db.max() <= high + 1e-3
    louder_db = (views(clips, only(noise_probability=1.0, noise_snr_db=limits), seed=seed) - clips)[:, 8:] * 15
    snr_db = -10 * torch.log10(10 ** (louder_db / 10) - 1)
    # A tenth of a dB of the power lies beyond the centres of the outer bands and is lost.
    assert low - 0.01 <= snr_db.min() - 0.1
    assert snr_db.max() - 0.1 <= high + 0.01


@settings(max_examples=30, deadline=None)
@given(limits=st.tuples(st.floats(-12, 12), st.floats(-12, 12)).map(sorted).map(tuple), seed=st.integers(0, 10**6))
def test_pitch_shift_stays_in_range(limits, seed):
    band = 20
    clips = torch.full((16, 64, 64), -4 / 3)
    clips[:, band] = 1.0
    power = LOG_MEL.to_power(views(clips, only(pitch_probability=1.0, pitch_semitones=limits), seed=seed))[:, :, 0]
    hz = mel_to_hz(hz_to_mel(torch.tensor(8000.0)) / 65 * torch.arange(1, 65))
    spread = 12 * math.log2(hz[band + 1] / hz[band - 1])  # slopes move by the same amount
    semitones = 12 * torch.log2((power * hz).sum(dim=1) / power.sum(dim=1) / hz[band])
    assert limits[0] - spread / 2 <= semitones.min()
    assert semitones.max() <= limits[1] + spread / 2


@settings(deadline=None)
@given(share=st.floats(0, 0.5), seed=st.integers(0, 10**6))
def test_time_shift_stays_in_range(share, seed):
    clips = torch.zeros(16, 1, 64).index_fill_(2, torch.tensor(0), 1.0)
    log_mel = LogMel(AudioConfig(mel_bands=1))
    shifted = views(clips, only(shift_probability=1.0, shift=share), seed=seed, log_mel=log_mel)
    assert torch.equal(shifted.sum(dim=2), torch.ones(16, 1))
    place = shifted[:, 0].argmax(dim=1)
    assert torch.minimum(place, 64 - place).max() <= share * 64


def test_a_traced_graph_can_be_replayed_at_another_step():
    clips = mixed_clips(8)
    seed, step = torch.tensor([1, 2]), torch.tensor([3, 4])

    def run(clips: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        return make_views("augment", clips, seed, step, LOG_MEL, EVERYTHING)

    recorded = make_fx(run)(clips, seed, step)
    other = mixed_clips(8, seed=1)
    assert torch.equal(recorded(other, seed + 5, step + 6), run(other, seed + 5, step + 6))


@pytest.mark.slow
@pytest.mark.skipif(not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler")
@pytest.mark.parametrize("vector_bits", [None, 256], ids=["native", "avx2"])
def test_compiled_views_agree_within_rounding_and_rows_keep_their_bits(vector_bits):
    clips, seed, step = mixed_clips(4, 16), torch.arange(4), torch.arange(4) * 2

    def run(clips: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        return make_views("augment", clips.flatten(0, 1), seed, step, LOG_MEL, EVERYTHING).view_as(clips)

    expected = run(clips, seed, step)
    options = {"cpp.simdlen": vector_bits}
    compiled = torch.compile(make_fx(run)(clips, seed, step), dynamic=False, fullgraph=True, options=options)
    found = compiled(clips, seed, step)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(compiled(clips[order], seed[order], step[order]), found[order])


@pytest.mark.gpu
def test_gpu_and_cpu_views_agree_within_a_thousandth_of_a_db():
    clips, seed, step = LOG_MEL(torch.stack([noise(i) for i in range(64)])), torch.arange(4), torch.arange(4)
    on_cpu = make_views("augment", clips, seed, step, LOG_MEL, EVERYTHING)
    on_gpu = make_views(
        "augment", clips.cuda(), seed.cuda(), step.cuda(), LogMel(AUDIO, -40.0, 15.0, "cuda"), EVERYTHING
    )
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3 / 15, rtol=0)


def test_an_unknown_scheme_is_rejected_with_the_known_ones():
    clips = mixed_clips(2)
    assert make_views("factor", clips, torch.tensor([0]), torch.tensor([0]), LOG_MEL, EVERYTHING) is clips
    with pytest.raises(ValueError, match=mentions("factor", "augment", "segment", "'crop'")):
        make_views("crop", clips, torch.tensor([0]), torch.tensor([0]), LOG_MEL, EVERYTHING)


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"gain_db": (3.0, -3.0)}, ["gain_db", 3, -3]),
        ({"low_pass_hz": (0.0, 100.0)}, ["low_pass_hz", "greater than 0"]),
        ({"pitch_probability": 1.5}, ["pitch_probability", "less than or equal to 1", 1.5]),
        ({"shift": 0.6}, ["shift", "less than or equal to 0.5", 0.6]),
        ({"filter_kinds": ()}, ["filter_kinds", "at least 1"]),
        (
            {"filter_kinds": ("notch",)},
            ["filter_kinds", "'low_pass'", "'high_pass'", "'band_stop'", "'notch'"],
        ),
    ],
)
def test_invalid_settings_are_rejected(fields, facts):
    with pytest.raises(ValidationError, match=mentions(*facts)):
        AugmentConfig(**fields)
