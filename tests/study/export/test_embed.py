"""`marl-study embed` and `marl-study swap`, as a user calls them, with a model that was trained a little."""

import hashlib
import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

import marl
from marl.config import Config
from study.export.embed import embed, load_model, model_metadata
from study.export.recordings import Recording, find_recordings
from study.storage import ObjectStore
from tests.marl.cases import save_trained
from tests.messages import assert_mentions
from tests.study.commands import run_here
from tests.study.s3_server import s3_server

CONFIG = Config.model_validate(
    {"model": {"width": 16, "embedding": 16, "hidden": 32}, "latent": {"private": 3, "shared": 2}}
)
LATENTS = ["private/0", "private/1", "private/2", "shared/0", "shared/1"]
# Each with what its name ends with, its format, sample rate, channels and seconds.
SOUNDS = (
    ("a.wav", "PCM_16", 16_000, 1, 1.0),
    ("b.WAV", "PCM_U8", 8_000, 1, 0.3),
    ("deep/c.flac", "PCM_24", 44_100, 2, 2.5),
    ("deep/d.ogg", "VORBIS", 22_050, 1, 1.7),
    ("deep/e.mp3", "MPEG_LAYER_III", 48_000, 2, 3.2),
    ("f.wav", "FLOAT", 192_000, 8, 1.1),
    ("long.wav", "PCM_16", 16_000, 1, 130.4),
)


@pytest.fixture(scope="module")
def model(small_dataset, tmp_path_factory) -> Path:
    """A folder with a model; its manifest says where it is from, as that of an exported one does."""
    folder = tmp_path_factory.mktemp("model")
    save_trained(CONFIG, 30, small_dataset, folder)
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps({"study": "tiny", "trial": 3, "seed": 1, "sha256": hashes}))
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """A folder of sounds of every sort, and of what is no sound."""
    folder = tmp_path_factory.mktemp("sounds")
    for number, (name, subtype, sample_rate, channels, seconds) in enumerate(SOUNDS):
        time_s = np.arange(round(seconds * sample_rate)) / sample_rate
        hz = 200.0 * (number + 1) * (1 + 0.1 * np.sin(time_s))
        waveform = 0.4 * np.sin(2 * np.pi * hz * time_s)
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, np.stack([waveform] * channels, axis=1), sample_rate, subtype=subtype)
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(200))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "notes.txt").write_text("no sound")
    (folder / ".hidden.wav").write_bytes((folder / "a.wav").read_bytes())
    return folder


def encoded(model: Path, path: Path) -> np.ndarray:
    """What `marl.load(...).encode` makes of a file, [windows, P + S]."""
    waveform, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    private, shared = marl.load(model).encode(torch.from_numpy(waveform.mean(axis=1)), sample_rate)
    return torch.cat([private, shared], dim=-1).numpy()


@pytest.fixture(scope="module")
def embedded_sounds(model, sounds, tmp_path_factory):
    """The table of all sounds, and the lines of the command that wrote it."""
    output = tmp_path_factory.mktemp("embedded") / "all.parquet"
    outcome = run_here("embed", model, sounds, "-o", output)
    assert outcome.status == 0, outcome.err
    return output, outcome.err.splitlines()


def test_each_window_of_each_file_has_the_latents_of_encode(model, sounds, embedded_sounds):
    output, _ = embedded_sounds
    table = pd.read_parquet(output)
    assert list(table.columns) == ["file", "start_s", *LATENTS]
    assert list(table["file"].unique()) == sorted(str(sounds / name) for name, *_ in SOUNDS)
    for name, *_, seconds in SOUNDS:
        rows = table[table["file"] == str(sounds / name)]
        expected = encoded(model, sounds / name)
        assert len(rows) == len(expected) == int(np.ceil(seconds))
        assert rows["start_s"].tolist() == list(range(len(expected)))
        np.testing.assert_allclose(rows[LATENTS], expected, atol=2e-4)


def test_files_without_audio_are_reported_as_rejected(sounds, embedded_sounds):
    output, lines = embedded_sounds
    assert_mentions(lines[0], sounds / "broken.flac", "decoded")
    assert_mentions(lines[1], sounds / "empty.wav", "empty")
    assert_mentions(lines[2], "144 windows", "7 files", 2, output)


def test_the_table_identifies_its_model(embedded_sounds):
    output, _ = embedded_sounds
    metadata = pq.read_schema(output).metadata
    assert {metadata[name.encode()].decode() for name in ("marl.study", "marl.trial", "marl.seed")} == {
        "tiny",
        "3",
        "1",
    }
    assert len(metadata[b"marl.weights_sha256"]) == 64


def test_latents_do_not_depend_on_other_files(model, sounds, tmp_path):
    extractor = load_model(model)
    every = find_recordings([str(sounds)])
    embed(extractor, every, tmp_path / "all.parquet", model_metadata(model), lambda files, windows: None)
    together = pd.read_parquet(tmp_path / "all.parquet").set_index("file")
    for recording in every:
        if Path(recording.name).name in ("broken.flac", "empty.wav"):
            continue
        embed(extractor, [recording], tmp_path / "one.parquet", {}, lambda files, windows: None)
        alone = pd.read_parquet(tmp_path / "one.parquet")
        np.testing.assert_allclose(together.loc[[recording.name], LATENTS], alone[LATENTS], atol=1e-5)


def test_files_in_a_bucket_give_the_same_table_as_in_a_folder(cli, model, sounds, tmp_path, monkeypatch):
    with s3_server(tmp_path / "buckets") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("a.wav", "deep/c.flac"):
            target = server.folder / "studies" / "own" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((sounds / name).read_bytes())
        output = tmp_path / "bucket.parquet"
        outcome = cli("embed", model, "s3://studies/own", "-o", output)
    assert outcome.status == 0, outcome.err
    table = pd.read_parquet(output)
    assert list(table["file"].unique()) == ["s3://studies/own/a.wav", "s3://studies/own/deep/c.flac"]
    expected = np.concatenate([encoded(model, sounds / name) for name in ("a.wav", "deep/c.flac")])
    np.testing.assert_allclose(table[LATENTS], expected, atol=2e-4)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["{model}", "{sounds}", "-o", "{tmp}/all.csv"], ["--output", ".parquet", "all.csv"]),
        (["{model}", "{sounds}", "-o", "{tmp}/none/all.parquet"], ["--output", "folder", "none"]),
        (["{model}", "{sounds}", "-o", "{folder}"], ["--output", "file", "folder.parquet"]),
        (["{tmp}", "{sounds}", "-o", "{tmp}/all.parquet"], ["exported model", "config.json"]),
        (["{model}", "{tmp}/none", "-o", "{tmp}/all.parquet"], ["none", "sound file", "folder", "s3://"]),
        (["{model}", "{tmp}", "-o", "{tmp}/all.parquet"], ["sound file", "folder", ".wav", ".flac"]),
    ],
)
def test_invalid_arguments_are_rejected_before_the_embedding(
    cli, model, sounds, tmp_path, tmp_path_factory, arguments, facts
):
    folder = tmp_path_factory.mktemp("folder.parquet", numbered=False) if "{folder}" in arguments else None
    words = [word.format(model=model, sounds=sounds, tmp=tmp_path, folder=folder) for word in arguments]
    outcome = cli("embed", *words)
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert_mentions(line, *facts)
    assert not list(tmp_path.iterdir())


def test_a_model_with_a_flipped_byte_is_not_used(cli, model, sounds, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    for words in (["embed", sounds / "a.wav", "-o", "all.parquet"], ["swap", *[sounds / "a.wav"] * 2, "-o", "out.wav"]):
        outcome = cli(words[0], tmp_path / "model", *words[1:-1], tmp_path / words[-1])
        assert outcome.status == 2
        (line,) = outcome.err.splitlines()
        assert_mentions(line, weights, "changed", "SHA-256")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_command_fails_if_no_file_could_be_embedded(cli, model, sounds, tmp_path):
    outcome = cli("embed", model, sounds / "broken.flac", "-o", tmp_path / "all.parquet")
    assert outcome.status == 1
    assert_mentions(outcome.err.splitlines()[-1], "error: ", "embedded")
    assert not list(tmp_path.iterdir())


def embedded(model: Path, places: list[Path], output: Path):
    """What is said, and the table."""
    found = embed(load_model(model), find_recordings(list(map(str, places))), output, {}, lambda files, windows: None)
    return found, pd.read_parquet(output)


def test_files_that_cannot_be_decoded_completely_have_no_row(model, sounds, tmp_path):
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000 * 200).astype(np.float32)
    waveform[-5] = np.nan
    soundfile.write(tmp_path / "late.wav", waveform, 16_000, subtype="FLOAT")
    places = [sounds / "a.wav", tmp_path / "late.wav", sounds / "deep"]
    found, table = embedded(model, places, tmp_path / "all.parquet")
    ((name, reason),) = found.rejected
    assert name == str(tmp_path / "late.wav")
    assert_mentions(reason, "not finite")
    assert found.files == 4
    assert found.windows == len(table) == 1 + 3 + 2 + 4
    assert not table["file"].str.contains("late").any()


def test_memory_does_not_grow_with_the_number_of_files(model, sounds, tmp_path):
    extractor = load_model(model)
    (one,) = find_recordings([str(sounds / "a.wav")])
    many = [Recording(f"{number}.wav", one.open) for number in range(1_000)]
    tracemalloc.start()
    found = embed(extractor, many, tmp_path / "all.parquet", {}, lambda files, windows: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.windows == 1_000
    # Of 64 kB each, a few batches of 64 and as much of 32 files as is decoded ahead.
    assert peak < 150e6


def test_files_are_embedded_once_in_the_order_of_the_arguments(model, sounds, tmp_path):
    places = [sounds / "f.wav", sounds / "deep", sounds / "f.wav", sounds / "a.wav"]
    _, table = embedded(model, places, tmp_path / "some.parquet")
    expected = ["f.wav", "deep/c.flac", "deep/d.ogg", "deep/e.mp3", "a.wav"]
    assert list(table["file"].unique()) == [str(sounds / name) for name in expected]


def test_invalid_utf_8_in_names_is_replaced(model, sounds, tmp_path):
    (tmp_path / "own").mkdir()
    try:
        os.link(sounds / "a.wav", os.fsencode(tmp_path / "own") + b"/na\xefve.wav")
    except OSError:
        pytest.skip("this file system takes no such name")
    _, table = embedded(model, [tmp_path / "own"], tmp_path / "all.parquet")
    assert table["file"].tolist() == [f"{tmp_path}/own/na\N{REPLACEMENT CHARACTER}ve.wav"]


def test_objects_deleted_meanwhile_are_rejected(model, sounds, tmp_path, monkeypatch):
    with s3_server(tmp_path / "buckets") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("a.wav", "gone.wav", ".hidden.wav"):
            (server.folder / "studies" / name).write_bytes((sounds / "a.wav").read_bytes())
        (single,) = find_recordings(["s3://studies/a.wav"])
        listed = find_recordings(["s3://studies"])
        ObjectStore("s3://studies").delete("gone.wav")
        found = embed(load_model(model), listed, tmp_path / "all.parquet", {}, lambda files, windows: None)
    assert single.name == "s3://studies/a.wav"
    assert [one.name for one in listed] == ["s3://studies/a.wav", "s3://studies/gone.wav"]
    assert found.files == 1
    assert [name for name, _ in found.rejected] == ["s3://studies/gone.wav"]


def test_an_existing_table_is_kept_if_no_file_could_be_embedded(model, sounds, tmp_path):
    output = tmp_path / "all.parquet"
    output.write_bytes(b"before")
    found = embed(
        load_model(model), find_recordings([str(sounds / "broken.flac")]), output, {}, lambda files, windows: None
    )
    assert (found.files, found.windows, len(found.rejected)) == (0, 0, 1)
    assert output.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [output]


def test_errors_leave_no_partial_table(model, sounds, tmp_path):
    def stop(files, windows):
        raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        embed(load_model(model), find_recordings([str(sounds)]), tmp_path / "all.parquet", {}, stop)
    assert not list(tmp_path.iterdir())
    assert torch.get_num_threads() == threads


def test_a_swap_has_the_private_features_of_one_sound_and_the_shared_ones_of_another(cli, model, sounds, tmp_path):
    content, other = sounds / "deep/c.flac", sounds / "long.wav"
    (tmp_path / "swapped.wav").write_text("earlier")
    outcome = cli("swap", model, content, other, "-o", tmp_path / "swapped.wav", "--overwrite")
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, tmp_path / "swapped.wav", f"timbre of {other}", f"of {content}")
    heard, sample_rate = soundfile.read(tmp_path / "swapped.wav", dtype="float32")
    assert (len(heard), sample_rate) == (40_000, 16_000)
    extractor = marl.load(model)
    waveforms = [soundfile.read(path, dtype="float32", always_2d=True) for path in (content, other)]
    monos = [(torch.from_numpy(waveform.mean(axis=1)), rate) for waveform, rate in waveforms]
    expected = extractor.swap(*monos[0], *monos[1]).numpy()
    expected /= max(1.0, np.abs(expected).max())
    # Two decoders of one sound differ in the last bit, of which Griffin-Lim makes a little more.
    assert np.corrcoef(heard, expected)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["{sounds}/a.wav", "{sounds}/broken.flac", "-o", "{tmp}/out.wav"], ["broken.flac", "decoded"]),
        (["{sounds}/none.wav", "{sounds}/a.wav", "-o", "{tmp}/out.wav"], ["none.wav"]),
        (["{sounds}/a.wav", "{sounds}/a.wav", "-o", "{tmp}/out.mp3"], ["--output", ".wav", ".flac", "out.mp3"]),
    ],
)
def test_swaps_reject_files_without_audio(cli, model, sounds, tmp_path, arguments, facts):
    outcome = cli("swap", model, *(word.format(sounds=sounds, tmp=tmp_path) for word in arguments))
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert_mentions(line, *facts)
    assert not list(tmp_path.iterdir())
