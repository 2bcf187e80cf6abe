"""Sounds of a stored model: original clips, reconstructions, and decoded swapped latents."""

import io
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import soundfile
import torch

import study.training.evaluation as evaluator
from marl.audio import LogMel
from marl.evaluation import INTERMEDIATE
from study.analysis import StudyResults
from study.errors import RunError, UnreadableObject, UserError
from study.export.audition import COMPARISON, Audition, Sound, latent_ranges, log_mel_rmse_db, wav_files
from study.spec import Baseline
from study.storage import ObjectStore
from study.store import StudyStore
from tests.messages import mentions
from tests.study.commands import TINY
from tests.study.stores import new_store
from tests.study.training.in_process_lanes import CONTRASTIVE, SEEDS, finish, lanes_on

STEPS = 30
STATES = {0: "complete", 1: "running", 2: "pruned", 3: "failed"}
MODEL = f"tiny/checkpoints/0/0/{STEPS}/model.safetensors"


@pytest.fixture(scope="module")
def _trained(tmp_path_factory) -> Path:
    """A store with a trained trial, as a run would have written it, and others that did not come so far."""
    folder = tmp_path_factory.mktemp("listening")
    store = new_store(folder, TINY)
    store.write_baselines({"untrained": {"x": 0.0}, "replicates": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "FINAL", (*INTERMEDIATE, "fidelity_by_class"))
        lanes = lanes_on(store)
        lanes.add(0, CONTRASTIVE, SEEDS)
        reports = [one.row for one in finish(lanes)]
    store.append("reports", 1, 1, reports)
    store.append("trials", 1, 2, [{"trial": n, "state": state, "error": None} for n, state in STATES.items()])
    return folder


@pytest.fixture
def results(_trained, tmp_path) -> StudyResults:
    """A copy that a test may spoil."""
    shutil.copytree(_trained, tmp_path / "runs")
    return StudyResults(StudyStore(ObjectStore(str(tmp_path / "runs")), "tiny"))


@pytest.fixture(scope="module")
def audition(_trained) -> Audition:
    return Audition.of(StudyResults(StudyStore(ObjectStore(str(_trained)), "tiny")), 0, 0)


def clips_of(audition, timbre) -> list[int]:
    return audition.clips[audition.clips["factor/timbre"] == timbre]["clip"].tolist()


def assert_same(sound: Sound, other: Sound) -> None:
    """To the last bit."""
    assert sound.sample_rate == other.sample_rate
    np.testing.assert_array_equal(sound.waveform_S, other.waveform_S)
    np.testing.assert_array_equal(sound.decibels_FT, other.decibels_FT)


def sine(amplitude: float, samples: int = 1000) -> Sound:
    wave = amplitude * np.sin(2 * np.pi * np.arange(samples) / 40)
    return Sound(wave.astype(np.float32), 16_000, np.zeros((4, 4), dtype=np.float32))


def heard(file: bytes) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(file))
    assert rate == 16_000
    return samples


def test_the_clips_are_the_validation_clips_with_their_factors_in_units(audition, small_dataset):
    clips = torch.tensor(audition.clips["clip"].tolist())
    assert torch.equal(clips, small_dataset.splits["validation"])
    for column, factor in enumerate(small_dataset.factors):
        expected = [factor.values[index] for index in small_dataset.value_NC[clips, column].tolist()]
        assert audition.clips[f"factor/{factor.name}"].tolist() == expected


def test_no_spectrogram_is_computed_before_a_clip_is_chosen(results, monkeypatch):
    def refuse(*_):
        raise AssertionError("a spectrogram was made")

    monkeypatch.setattr(LogMel, "power", refuse)
    assert len(Audition.of(results, 0, 0).clips) == 64


def test_an_original_is_the_clip_and_its_spectrogram(audition, small_dataset):
    clip = int(audition.clips["clip"][3])
    sound = audition.original(clip)
    np.testing.assert_array_equal(sound.waveform_S, small_dataset.waveforms([clip])[0].numpy())
    assert sound.waveform_S.dtype == np.float32
    assert sound.sample_rate == 16_000
    expected = small_dataset.audio.decibels(small_dataset.log_mels.values_NFT[clip]).numpy()
    np.testing.assert_allclose(sound.decibels_FT, expected, atol=1e-3)


def test_latents_equal_those_in_the_store(audition, results):
    kept = results.store.read_latents(0, 0).set_index("clip")
    for clip in audition.clips["clip"][:10]:
        private, shared = audition.latents(clip)
        assert (private.shape, shared.shape) == ((4,), (8,))
        np.testing.assert_allclose(
            np.concatenate([private, shared]), kept.filter(regex="private|shared").loc[clip], atol=1e-4
        )


def test_reconstruction_errors_equal_the_reported_ones(audition, results):
    clips = clips_of(audition, "square")
    errors = [log_mel_rmse_db(audition.original(clip), audition.reconstruction(clip)) for clip in clips]
    reports = results.reports().set_index(["seed", "step"])
    reported = reports.loc[(0, STEPS), "fidelity/log_mel_rmse_db/timbre/square"]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(reported, abs=1e-3)


def test_an_inverted_clip_keeps_its_spectrogram_and_sounds_nearly_like_it(audition, small_dataset):
    clip = clips_of(audition, "sine")[0]
    original, inverted = audition.original(clip), audition.inverted(clip)
    assert log_mel_rmse_db(original, inverted) == 0
    assert not np.array_equal(original.waveform_S, inverted.waveform_S)
    spectra = [np.abs(np.fft.rfft(sound.waveform_S)) for sound in (original, inverted)]
    assert abs(spectra[0].argmax() - spectra[1].argmax()) < 16_000 / 1024
    again = small_dataset.audio.decibels(small_dataset.audio(torch.from_numpy(inverted.waveform_S))).numpy()
    loud = original.decibels_FT > original.decibels_FT.max() - 6
    assert np.abs(again - original.decibels_FT)[loud].mean() < 2


def test_a_clip_swapped_with_itself_is_its_reconstruction(audition):
    clip = int(audition.clips["clip"][0])
    reconstruction = audition.reconstruction(clip)
    assert_same(audition.swapped(clip, private_from=clip, shared_from=clip), reconstruction)
    row = audition.compare(clip, clip)
    assert_same(row["private swapped"], reconstruction)
    assert_same(row["shared swapped"], reconstruction)


def test_a_swap_takes_one_part_of_the_latents_from_the_other_clip(audition):
    clip, other = map(int, audition.clips["clip"][:2])
    (private, shared), (other_private, other_shared) = audition.latents(clip), audition.latents(other)
    row = audition.compare(clip, other)
    assert tuple(row) == COMPARISON
    assert_same(row["original"], audition.original(clip))
    assert_same(row["reconstruction"], audition.decoded(private, shared))
    assert_same(row["private swapped"], audition.decoded(other_private, shared))
    assert_same(row["shared swapped"], audition.decoded(private, other_shared))
    # What one clip takes, the other gives.
    assert_same(row["private swapped"], audition.swapped(other, shared_from=clip))
    assert log_mel_rmse_db(row["reconstruction"], row["private swapped"]) > 0


def test_sounds_have_the_same_bits_in_any_session_and_with_any_number_of_threads(audition, results):
    clip = int(audition.clips["clip"][5])
    expected, before = audition.reconstruction(clip), torch.get_num_threads()
    sounds, threads = [], []

    def listen():
        torch.set_num_threads(2)
        sounds.append(Audition.of(results, 0, 0).reconstruction(clip))
        threads.append(torch.get_num_threads())

    one = threading.Thread(target=listen)
    one.start()
    one.join()
    torch.set_num_threads(before)
    assert_same(sounds[0], expected)
    assert threads == [2]


def test_clips_outside_the_validation_split_are_rejected(audition, small_dataset):
    test_clip = int(small_dataset.splits["test"][0])
    with pytest.raises(UserError, match=mentions("64 validation clips", test_clip)):
        audition.compare(test_clip, int(audition.clips["clip"][0]))


@pytest.mark.parametrize("private", [[0.0] * 3, [0.0] * 5, [0.0, 0.0, 0.0, np.nan], [[0.0] * 4]])
def test_latents_of_the_wrong_number_or_not_finite_are_rejected(audition, private):
    with pytest.raises(ValueError, match=mentions("4 private latents", "finite")):
        audition.decoded(np.array(private), np.zeros(8))


def test_the_difference_of_spectrograms_is_in_decibels():
    grid = np.full((4, 4), -60, dtype=np.float32)
    quiet, loud = (Sound(np.zeros(8, dtype=np.float32), 8, decibels) for decibels in (grid, grid + 3))
    assert log_mel_rmse_db(quiet, quiet) == 0
    assert log_mel_rmse_db(quiet, loud) == pytest.approx(3)


def test_sounds_below_full_scale_keep_their_level():
    quiet, loud = map(heard, wav_files([sine(0.05), sine(0.5)]))
    assert np.abs(quiet).max() == pytest.approx(0.05, abs=1e-4)
    assert np.abs(loud).max() == pytest.approx(0.5, abs=1e-4)


def test_all_sounds_are_attenuated_by_one_factor_if_any_would_clip():
    quiet, loud = map(heard, wav_files([sine(0.5), sine(2.0)]))
    assert np.abs(loud).max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(loud, 4 * quiet, atol=2e-4)  # a step of 16 bits, four times


def test_no_sounds_give_no_files():
    assert wav_files([]) == []


def test_silence_is_written_as_silence():
    assert not heard(wav_files([sine(0.0)])[0]).any()


def test_files_are_the_same_bytes_every_time(audition):
    clip = int(audition.clips["clip"][0])
    sounds = [audition.original(clip), audition.reconstruction(clip)]
    assert wav_files(sounds) == wav_files(sounds)
    assert soundfile.info(io.BytesIO(wav_files(sounds)[0])).subtype == "PCM_16"


def test_ranges_are_percentiles_of_each_latent_in_the_order_of_the_model():
    values = np.linspace(0, 100, 101)
    latents = pd.DataFrame(
        {"clip": range(101), "factor/timbre": "sine", "private/0": values, "private/10": -values, "shared/0": 7.0}
    )
    ranges = latent_ranges(latents)
    assert ranges.index.tolist() == ["private/0", "private/10", "shared/0"]
    assert ranges.loc["private/0"].to_dict() == {"p5": 5, "p50": 50, "p95": 95}
    assert ranges.loc["private/10"].to_dict() == {"p5": -95, "p50": -50, "p95": -5}
    assert ranges.loc["shared/0"].tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    ("trial", "facts"),
    [
        (1, ("trial 1", "interrupted", 'study.resume("tiny", store=')),
        (2, ("trial 2", "pruned", "halving", 0)),
        (3, ("trial 3", "failed", 0)),
        (17, ("trial 17", 0)),
        (Baseline.PLAIN_VAE, ("plain VAE", 0)),
    ],
)
def test_only_complete_trials_can_be_played(results, trial, facts):
    with pytest.raises(UserError, match=mentions("complete", *facts)):
        Audition.of(results, trial, 0)


def test_the_plain_vae_can_be_played(results):
    store, shared = results.store, results.store.latest_checkpoint(0, 0)
    store.write_checkpoint(Baseline.PLAIN_VAE, 0, STEPS, shared.files, shared.record)
    store.append(
        "reports", 1, 3, [{"trial": Baseline.PLAIN_VAE, "seed": 0, "step": STEPS, "metric_version": 1, "loss/x": 0.0}]
    )
    clip = int(Audition.of(results, Baseline.PLAIN_VAE, 0).clips["clip"][0])
    assert Audition.of(results, Baseline.PLAIN_VAE, 0).original(clip).sample_rate == 16_000


def test_unknown_seeds_are_rejected_with_the_known_ones(results):
    with pytest.raises(UserError, match=mentions(0, 1, 7)):
        Audition.of(results, 0, 7)


def test_errors_distinguish_deleted_from_missing_weights(results):
    results.store.delete_checkpoints(0)
    with pytest.raises(RunError, match=mentions("trial 0", "seed 0", "missing", "tiny")):
        Audition.of(results, 0, 0)
    results.store.write_discarded(0)
    with pytest.raises(UserError, match=rf"{mentions('trial 0', 'marl-study clean', 'front')}.*\d{{4}}-\d\d-\d\d"):
        Audition.of(results, 0, 0)


def test_a_flipped_byte_of_a_checkpoint_is_detected_and_the_other_seed_still_plays(results):
    content = bytearray(results.store.objects.read(MODEL))
    content[len(content) // 2] ^= 1
    results.store.objects.write(MODEL, bytes(content))
    with (
        pytest.warns(UnreadableObject, match=mentions(MODEL.rpartition("/")[0], "model.safetensors")),
        pytest.raises(RunError, match=mentions("trial 0", "seed 0", "damaged")),
    ):
        Audition.of(results, 0, 0)
    Audition.of(results, 0, 1)


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        ({"model.safetensors": b"\x80\x04}"}, ("model.safetensors", "safetensors file")),
        ({"model.safetensors": safetensors.torch.save({"other": torch.zeros(3)})}, ("weights", "model")),
        ({"config.json": b"{}"}, ("validation error",)),
        ({"config.json": None}, ("config.json",)),
    ],
)
def test_intact_checkpoints_that_are_not_models_are_rejected(results, damage, facts):
    found = results.store.latest_checkpoint(0, 0)
    files = {name: content for name, content in (found.files | damage).items() if content is not None}
    results.store.write_checkpoint(0, 0, STEPS, files, found.record)
    with pytest.raises(RunError, match=mentions("trial 0", "seed 0", "damaged", *facts)):
        Audition.of(results, 0, 0)
