import io
import itertools
import os
import struct
import sys
import time
import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.audio import Resampler
from marl.data.audio_dataset import UnusableClipError
from marl.data.audio_file import SUFFIXES, duration_s, read_mono, windows
from tests.messages import assert_mentions, mentions

# One format for each way in which libsndfile decodes and seeks, and its error for a sine at half of full scale.
FORMATS = {
    ("WAV", "PCM_16"): 1e-4,
    ("WAV", "FLOAT"): 1e-6,
    ("FLAC", "PCM_16"): 1e-4,
    ("OGG", "VORBIS"): 3e-2,
    ("OGG", "OPUS"): 3e-2,
    ("MP3", "MPEG_LAYER_III"): 3e-2,
}
MAGICS = (b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb\x90", b"FORM", b"caff")
HZ, LEVEL = 440.0, 0.5
FUZZED = (*FORMATS, ("AIFF", "PCM_16"), ("CAF", "ALAC_16"))


def sine(rate, seconds=1.0):
    return LEVEL * np.sin(2 * np.pi * HZ * np.arange(round(rate * seconds)) / rate)


def noise(samples, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (samples, channels))


def written(path, samples, rate, kind=("WAV", "FLOAT")):
    soundfile.write(path, samples, rate, format=kind[0], subtype=kind[1])
    return path


def content(samples, rate, kind):
    buffer = io.BytesIO()
    written(buffer, samples, rate, kind)
    return buffer.getvalue()


def whole(path, sample_rate):
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Resampler(rate, sample_rate)(torch.from_numpy(samples.mean(axis=1))).numpy()


def assert_is_the_sine(found, rate, tolerance):
    """Assert frequency, level and phase of the best fit, and that the inner part holds nothing else."""
    time_s = np.arange(len(found)) / rate
    middle = (time_s > 0.1) & (time_s < time_s[-1] - 0.1)
    basis = np.stack([np.sin(2 * np.pi * HZ * time_s), np.cos(2 * np.pi * HZ * time_s)], axis=1)[middle]
    amplitudes, *_ = np.linalg.lstsq(basis, found[middle], rcond=None)
    # The resampler has a ripple of a thousandth at 440 Hz.
    np.testing.assert_allclose(amplitudes, [LEVEL, 0.0], atol=tolerance + 1e-3)
    residual = found[middle] - basis @ amplitudes
    assert np.sqrt(np.mean(residual**2)) < tolerance + 1e-3


@pytest.mark.parametrize(("kind", "tolerance"), FORMATS.items(), ids=["-".join(kind) for kind in FORMATS])
def test_a_sine_survives_every_format(tmp_path, kind, tolerance):
    rate = 48_000 if kind[1] == "OPUS" else 44_100
    path = written(tmp_path / "sine", np.stack([sine(rate), sine(rate)], axis=1), rate, kind)
    assert duration_s(path) == pytest.approx(1.0)
    found = read_mono(path, 16_000)
    assert found.dtype == np.float32
    assert len(found) == 16_000
    assert_is_the_sine(found, 16_000, tolerance)
    blocks = np.concatenate(list(windows(path, 16_000, 1000, 3)))
    assert_is_the_sine(blocks.reshape(-1), 16_000, tolerance)


@pytest.mark.parametrize(
    ("rate", "sample_rate"), [(8_000, 16_000), (37_800, 16_000), (44_100, 16_000), (192_000, 16_000), (32_000, 22_050)]
)
def test_a_sine_survives_resampling(tmp_path, rate, sample_rate):
    found = read_mono(written(tmp_path / "a.wav", sine(rate), rate), sample_rate)
    assert abs(len(found) - sample_rate) <= 1
    assert_is_the_sine(found, sample_rate, 1e-3)


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_channels_are_averaged(tmp_path, channels):
    samples = noise(5000, channels)
    path = written(tmp_path / "a.wav", samples, 16_000)
    np.testing.assert_allclose(read_mono(path, 16_000), samples.mean(axis=1), atol=1e-6)


def test_paths_strings_and_open_files_are_accepted(tmp_path):
    path = written(tmp_path / "a.wav", noise(5000), 16_000)
    expected = read_mono(path, 16_000)
    with path.open("rb") as file:
        file.seek(100)
        for same in (str(path), file, io.BytesIO(path.read_bytes())):
            assert np.array_equal(read_mono(same, 16_000), expected)
            assert np.array_equal(np.concatenate(list(windows(same, 16_000, 1000, 2))).reshape(-1), expected)
            assert duration_s(same) == 5000 / 16_000


@pytest.mark.parametrize(
    ("rate", "samples", "at_once"), [(8_000, 777, 7), (16_000, 16_000, 1), (44_100, 777, 1), (48_000, 16_000, 7)]
)
def test_windows_equal_the_whole_file_resampled_at_once(tmp_path, rate, samples, at_once):
    path = written(tmp_path / "a.wav", noise(200_123, 2), rate)
    expected = whole(path, 16_000)
    expected = np.pad(expected, (0, -len(expected) % samples)).reshape(-1, samples)
    parts = list(windows(path, 16_000, samples, at_once))
    assert all(len(part) == at_once for part in parts[:-1])
    assert 1 <= len(parts[-1]) <= at_once
    assert len({part.ctypes.data for part in parts}) == len(parts)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS, ids=["-".join(kind) for kind in FORMATS])
@pytest.mark.parametrize(("start_s", "seconds"), [(0.0, 0.5), (1.2345, 1.0), (2.3, 1.0)])
def test_an_excerpt_equals_the_whole_file_resampled_at_once(tmp_path, kind, start_s, seconds):
    rate = 48_000 if kind[1] == "OPUS" else 44_100
    path = written(tmp_path / "a", np.tile(sine(rate, 2.5)[:, None], 2) + 0.1 * noise(round(rate * 2.5), 2), rate, kind)
    first = round(start_s * 16_000)
    expected = whole(path, 16_000)[first : first + round(seconds * 16_000)]
    np.testing.assert_allclose(read_mono(path, 16_000, start_s, seconds), expected, atol=2e-6)


def test_an_excerpt_of_a_long_file_is_decoded_alone(tmp_path):
    rate, path = 44_100, tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        file.write(sine(rate, 2.0))
    with path.open("r+b") as file:  # three hours, most of them a hole in the file that reads as silence
        file.truncate(44 + 2 * rate * 10_800)
        file.seek(40)
        file.write(struct.pack("<I", 2 * rate * 10_800))
    assert duration_s(path) == pytest.approx(10_800)
    begun = time.process_time()
    assert_is_the_sine(read_mono(path, 16_000, 0.0, 1.0), 16_000, 1e-3)
    assert not read_mono(path, 16_000, 10_000.0, 1.0).any()
    assert len(next(windows(path, 16_000, 16_000, 1))) == 1
    assert time.process_time() - begun < 1.0  # decoding the whole file takes ten times as long


def test_formats_are_detected_by_content_and_not_by_name(tmp_path):
    samples = noise(5000)
    for name in ("a", "a.mp3", "a.gsm", "a.vox", "a.sd2", "a.raw", "ä ö.wav", os.fsdecode(b"\xff.wav")):
        path = written(tmp_path / "a.wav", samples, 16_000).rename(tmp_path / name)
        np.testing.assert_allclose(read_mono(path, 16_000), samples[:, 0], atol=1e-6)
    for name in ("a.gsm", "a.vox", "a.raw", "a.sd2", "a.wav", "a.mp3"):
        path = tmp_path / name
        path.write_bytes(b"this is a shopping list\n" * 1000)
        assert_mentions(reason_of(path), "decoded", "Format not recognised")


def reason_of(file):
    reasons = set()
    for use in (duration_s, lambda file: read_mono(file, 16_000), lambda file: list(windows(file, 16_000, 1000, 2))):
        with pytest.raises(UnusableClipError) as error:
            use(file)
        reasons.add(str(error.value))
    assert len(reasons) == 1
    return reasons.pop()


def test_files_without_audio_are_rejected_with_a_reason(tmp_path):
    (tmp_path / "empty.wav").touch()
    for file, fact in {
        tmp_path / "empty.wav": "empty",
        io.BytesIO(): "empty",
        tmp_path / "missing.wav": "not",
        tmp_path: "file",
    }.items():
        assert_mentions(reason_of(file), fact)
    os.mkfifo(tmp_path / "pipe.wav")
    assert_mentions(reason_of(tmp_path / "pipe.wav"), "file")
    assert_mentions(reason_of("nul\0.wav"), "decoded")
    (tmp_path / "beginning.wav").write_bytes(b"RIFF")
    assert_mentions(reason_of(tmp_path / "beginning.wav"), "decoded")
    strange = bytearray(content(noise(500), 16_000, ("WAV", "PCM_16")))
    strange[24:28] = struct.pack("<I", 2_000_000_000)
    assert_mentions(reason_of(io.BytesIO(strange)), "sample rate", 1000, 768_000, 2_000_000_000)


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("AU", "PCM_16"), ("AIFF", "PCM_16")])
def test_files_without_samples_are_rejected(tmp_path, kind):
    path = written(tmp_path / "a", np.empty(0), 16_000, kind)
    for use in (lambda: read_mono(path, 16_000), lambda: list(windows(path, 16_000, 1000, 2))):
        with pytest.raises(UnusableClipError, match=mentions("no samples")):
            use()


def test_an_excerpt_after_the_end_is_rejected(tmp_path):
    for kind in FUZZED:
        path = written(tmp_path / "a", noise(48_000), 48_000, kind)
        for start_s in (1.5, 1000.0, 1e15, 1e30):
            with pytest.raises(UnusableClipError, match=mentions("ends") + r".*\b1"):
                read_mono(path, 16_000, start_s, 1.0)


@pytest.mark.parametrize(("value", "place"), [(np.nan, 0), (-np.inf, 0), (np.inf, 100_000), (1e200, 100_000)])
def test_non_finite_samples_are_rejected(tmp_path, value, place):
    samples = noise(100_001)
    samples[place] = value
    path = written(tmp_path / "a.wav", samples, 16_000, ("WAV", "DOUBLE"))
    for use in (lambda: read_mono(path, 16_000), lambda: list(windows(path, 16_000, 1000, 2))):
        with pytest.raises(UnusableClipError, match=mentions("not finite")):
            use()
    if place:
        assert np.isfinite(read_mono(path, 16_000, 0.0, 1.0)).all()


def test_samples_whose_power_overflows_are_rejected(tmp_path):
    path = written(tmp_path / "a.wav", np.full((1000, 2), 1e20), 44_100)
    with pytest.raises(UnusableClipError, match=mentions("1e+12", "full scale")):
        read_mono(path, 16_000)


@pytest.mark.parametrize(
    ("kind", "seconds"),  # 4 s are several blocks
    [*((kind, 4.0) for kind in FUZZED), (("FLAC", "PCM_16"), 1.0), (("MP3", "MPEG_LAYER_III"), 1.0)],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_truncated_files_are_read_to_their_last_sample(tmp_path, kind, seconds):
    samples = 0.3 * noise(round(48_000 * seconds))
    data = content(samples, 48_000, kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) * 2 // 3])
    if kind[0] == "CAF":  # the table of packets is at the end
        assert_mentions(reason_of(path), "decoded")
        return
    found = np.concatenate(list(windows(path, 16_000, 100, 10))).reshape(-1)
    # Ogg is decoded in whole pages of up to a second.
    missing = 16_000 * seconds * 2 / 3 - len(found)
    assert -1000 < missing < (16_000 if kind[0] == "OGG" else 2000)
    assert len(found) > 2000
    at_once = read_mono(path, 16_000)
    np.testing.assert_allclose(found[: len(at_once)], at_once, atol=1e-6)
    assert not found[len(at_once) :].any()
    (tmp_path / "whole").write_bytes(data)
    sound = len(at_once) - 2000
    np.testing.assert_allclose(found[:sound], read_mono(tmp_path / "whole", 16_000)[:sound], atol=2e-6)


def test_headers_that_overstate_the_length_are_ignored(tmp_path):
    path = tmp_path / "a.wav"
    data = bytearray(content(noise(5000), 16_000, ("WAV", "PCM_16")))
    for claimed in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000):
        data[4:8] = data[40:44] = struct.pack("<I", claimed)
        path.write_bytes(data)
        assert len(read_mono(path, 16_000)) == 5000
    data = bytearray(content(noise(5000), 16_000, ("FLAC", "PCM_16")))
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(read_mono(path, 16_000)) == 5000
    assert len(np.concatenate(list(windows(path, 16_000, 1000, 2)))) == 5


@pytest.mark.parametrize("samples", [3_000, 200_000])
def test_streams_of_unknown_length_are_decoded_to_their_end(tmp_path, samples):
    data = bytearray(content(noise(samples), 16_000, ("FLAC", "PCM_16")))
    expected = read_mono(io.BytesIO(data), 16_000)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path = tmp_path / "stream.flac"
    path.write_bytes(data)
    assert duration_s(path) == samples / 16_000
    assert np.array_equal(read_mono(path, 16_000), expected)
    assert np.array_equal(read_mono(path, 16_000, 0.1, 0.05), expected[1600:2400])


def test_hundreds_of_channels_are_averaged(tmp_path):
    samples = noise(3000, 300)
    path = written(tmp_path / "a.wav", samples, 16_000)
    np.testing.assert_allclose(read_mono(path, 16_000), samples.mean(axis=1), atol=1e-6)


def test_files_by_other_writers_are_read(tmp_path):
    path = tmp_path / "a.wav"
    values = (noise(5000)[:, 0] * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(values.tobytes())
    np.testing.assert_allclose(read_mono(path, 16_000), values / 32768, atol=1e-7)


def test_every_listed_suffix_is_readable(tmp_path):
    formats = {".oga": "OGG", ".opus": "OGG", ".aif": "AIFF"}
    for suffix in SUFFIXES:
        kind = formats.get(suffix, suffix[1:].upper())
        path = written(tmp_path / f"a{suffix}", noise(5000), 16_000, (kind, None))
        assert len(read_mono(path, 16_000)) == 5000


@lru_cache
def valid(kind):
    return content(np.stack([sine(48_000, 0.1), sine(48_000, 0.1)], axis=1), 48_000, kind)


def assert_survives(data, folder=Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")):  # noqa: B008
    path = folder / f"marl-test-{os.getpid()}.wav"
    path.write_bytes(data)
    try:
        for use in (
            lambda: [np.float32(duration_s(path))],
            lambda: [read_mono(path, 16_000, 0.0, 1.0)],
            lambda: [read_mono(path, 16_000, 0.05, 0.1)],
            lambda: itertools.islice(windows(path, 16_000, 1000, 4), 1000),
            lambda: itertools.islice(windows(io.BytesIO(data), 16_000, 1000, 4), 1000),
        ):
            try:
                for found in use():
                    assert found.dtype == np.float32
                    assert np.isfinite(found).all()
            except UnusableClipError as error:
                reason = str(error)
                assert reason.isprintable()
                assert 0 < len(reason) < 200
                assert path.name not in reason
    finally:
        path.unlink()


def test_a_damaged_open_file_prints_no_exception(monkeypatch):
    data = bytearray(valid(("AIFF", "PCM_16")))
    data[40:44] = b"\0\0\0\x80"  # points to before the start
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    assert_survives(data)
    assert not printed


@settings(max_examples=30)
@given(st.sampled_from(MAGICS), st.binary(max_size=600))
def test_any_bytes_are_rejected_or_give_finite_samples(magic, data):
    assert_survives(magic + data)


@settings(max_examples=30)
@given(st.sampled_from(FUZZED), st.floats(0, 1))
def test_truncated_files_are_rejected_or_give_finite_samples(kind, share):
    data = valid(kind)
    assert_survives(data[: round(share * len(data))])


@settings(max_examples=60)
@given(
    st.sampled_from(FUZZED),
    st.lists(st.tuples(st.sampled_from([40, 200, 10**9]), st.integers(0), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_corrupted_files_are_rejected_or_give_finite_samples(kind, changes, is_cut):
    data = bytearray(valid(kind))
    for near, place, byte in changes:
        data[place % min(near, len(data))] = byte
    assert_survives(data[: len(data) // 2] if is_cut else data)


@settings(max_examples=30)
@given(
    st.sampled_from(FUZZED),
    st.integers(0, 200),
    st.sampled_from([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80"]),
)
def test_absurd_headers_are_rejected_or_give_finite_samples(kind, place, number):
    data = bytearray(valid(kind))
    data[place : place + 4] = number
    assert_survives(data)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_reading_in_blocks_equals_reading_at_once(kind, subtype, tmp_path):
    path, rate = tmp_path / "long", 48_000
    waveform = sine(rate, 4.2) * np.linspace(0.1, 1.0, round(4.2 * rate))
    soundfile.write(path, waveform, rate, format=kind, subtype=subtype)
    at_once, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(read_mono(path, rate), at_once)
    np.testing.assert_array_equal(
        np.concatenate(list(windows(path, rate, rate, 2))).reshape(-1)[: len(at_once)], at_once
    )
