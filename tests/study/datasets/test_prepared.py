import dataclasses
import json

import numpy as np
import pytest
import torch

from marl.audio import AudioConfig
from marl.data.dataset import UNKNOWN
from marl.data.folder import Folder
from marl.data.preparation import make
from marl.data.source import Entry
from marl.data.stored import Stored
from study.datasets.prepared import PreparedSet, key_of
from study.errors import UserError
from study.objects import Objects

AUDIO = AudioConfig()
CONFIG = Folder(path="somewhere", factors=("pitch", "voice"), split="clip")
TIME_S = np.arange(AUDIO.clip_samples) / AUDIO.sample_rate
CPU = torch.device("cpu")


class Tones:
    """Tones of some pitches; of every tenth it is not known whose voice it is."""

    factor_names = CONFIG.factors

    def __init__(self, count: int) -> None:
        self.count = count

    def entries(self):
        return [
            Entry(f"tone {n}", (100.0 + n % 30, None if n % 10 == 9 else f"voice {n % 3}"), f"take {n % 20}", (n,))
            for n in range(self.count)
        ]

    def waveforms(self, entries, sample_rate, samples):
        for entry in entries:
            (number,) = entry.place
            # The last two sound alike.
            hz = 100.0 + 10 * min(number, self.count - 2)
            yield (0.5 * np.sin(2 * np.pi * hz * TIME_S)).astype(np.float32)


def prepared(folder, count=60, chunk=16) -> PreparedSet:
    source = Tones(count)
    entries = source.entries()
    found = PreparedSet(Objects(str(folder)), "0" * 32)
    chunks = [entries[first : first + chunk] for first in range(0, count, chunk)]
    for number, some in enumerate(chunks):
        found.write_chunk(number, make(source, some, AUDIO), source.factor_names, AUDIO)
    found.complete(len(chunks), CONFIG, AUDIO, source.factor_names)
    return found


@pytest.fixture
def tones(tmp_path, monkeypatch) -> PreparedSet:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return prepared(tmp_path / "store")


def test_a_set_becomes_the_clips_it_was_made_of(tones):
    dataset = tones.dataset("clip", CPU)
    assert dataset.factor_names == ("pitch", "voice")
    assert len(dataset.value_NC) == 59
    assert dataset.factors[1].values == ("voice 0", "voice 1", "voice 2")
    assert dataset.value_NC[9].tolist() == [9, UNKNOWN]
    expected = 0.5 * np.sin(2 * np.pi * (100.0 + 10 * 41) * TIME_S)
    np.testing.assert_allclose(dataset.waveforms([41, 3])[0], expected, atol=1e-4)
    log_mel = dataset.audio(dataset.waveforms([41, 3, 20]))
    deviation = (dataset.log_mel_NFT[torch.tensor([41, 3, 20])] - log_mel) * dataset.audio.std_db
    assert deviation.abs().max() < 0.02


def test_training_clips_are_standardised_by_their_own_mean_and_deviation(tones):
    dataset = tones.dataset("clip", CPU)
    training = dataset.log_mel_NFT[dataset.splits["training"]].double()
    assert float(training.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(training.std()) == pytest.approx(1.0, abs=1e-4)


def test_what_sounds_as_another_is_left_out_and_the_other_named(tones):
    left_out = tones.table.dropna(subset=["left_out"])
    assert left_out[["name", "left_out"]].to_numpy().tolist() == [["tone 59", "sounds like tone 58"]]


def test_beyond_the_memory_allowed_the_same_numbers_come_from_a_file(tones):
    resident, streamed = tones.dataset("clip", CPU), tones.dataset("clip", CPU, memory_gib=0.0)
    assert isinstance(resident.log_mel_NFT, Stored)
    assert resident.log_mel_NFT.is_resident
    assert not streamed.log_mel_NFT.is_resident
    every = torch.arange(59)
    assert torch.equal(resident.log_mel_NFT[every], streamed.log_mel_NFT[every])
    assert torch.equal(resident.value_NC, streamed.value_NC)


def test_what_is_not_known_is_in_no_held_out_clip_and_in_no_fit_of_a_probe(tones):
    dataset = tones.dataset("clip", CPU)
    for clips in (dataset.splits["validation"], dataset.splits["test"], dataset.fitting("validation")):
        assert (dataset.value_NC[clips] != UNKNOWN).all()
    assert (dataset.value_NC[dataset.splits["training"]] == UNKNOWN).any()


def test_clips_are_numbered_alike_with_and_without_their_spectrograms(tones):
    known, dataset = tones.clips("group"), tones.dataset("group", CPU)
    assert torch.equal(known.value_NC, dataset.value_NC)
    assert all(torch.equal(known.splits[name], clips) for name, clips in dataset.splits.items())


def test_where_files_lie_and_how_they_are_split_make_no_other_set_and_all_else_does():
    key = key_of(CONFIG, AUDIO, "content")
    same = CONFIG.model_copy(update={"path": "elsewhere", "split": "group", "content": "0" * 32})
    assert key_of(same, AUDIO, "content") == key
    others = [
        key_of(CONFIG, AUDIO, "other content"),
        key_of(CONFIG, AUDIO.model_copy(update={"floor_db": -80.0}), "content"),
        key_of(CONFIG.model_copy(update={"clips_per_file": 2}), AUDIO, "content"),
    ]
    assert len({key, *others}) == 4


def test_a_set_that_is_not_there_says_how_to_prepare_it(tmp_path):
    with pytest.raises(UserError, match="is not there, or not whole: prepare the data by `marl-study data build SPEC`"):
        PreparedSet(Objects(str(tmp_path)), "1" * 32).clips("clip")


def _document(content):
    return json.dumps({**json.loads(content), "clips": "many"}).encode()


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("set.json", _document),
        ("set.json", lambda content: content[:100]),
        ("clips.parquet", lambda content: content[:-20]),
        ("clips.parquet", lambda content: b""),
        ("log_mels/00001.npy", lambda content: content[:-20]),
        ("log_mels/00001.npy", lambda content: content.replace(b"<f2", b"|O8")),
        ("log_mels/00001.npy", lambda content: content.replace(b"64, 64)", b"64, 32)")),
        ("log_mels/00001.npy", lambda content: content[:128] + b"\x00\x7c" * 65536),
        ("log_mels/00001.npy", None),
        ("sounds/00001.flac", lambda content: content[:40]),
        ("sounds/00001.flac", lambda content: content[: len(content) // 2]),
        ("sounds/00001.flac", None),
    ],
)
def test_what_is_damaged_is_named_and_nothing_of_it_is_executed(tones, tmp_path, name, spoil):
    path = tmp_path / "store" / "_data" / tones.key / name
    content = path.read_bytes()
    path.unlink() if spoil is None else path.write_bytes(spoil(content))
    fresh = dataclasses.replace(tones)
    with pytest.raises(UserError, match=f"{name} is damaged: .*prepare the data again"):
        fresh.dataset("clip", CPU).waveforms(list(range(59)))
