import dataclasses
import json

import pytest
import torch

from study.datasets import load_dataset
from study.datasets.prepared_set import PreparedSet, key_of
from study.errors import UserError
from study.storage import ObjectStore
from tests.messages import mentions
from tests.study.datasets.tones import AUDIO, CONFIG


def test_duplicates_are_rejected_with_the_name_of_the_original(tones):
    rejected = tones.table.dropna(subset=["rejected"])
    assert rejected[["name", "rejected"]].to_numpy().tolist() == [["tone 59", "same samples as tone 58"]]


def test_keys_depend_on_everything_but_path_and_split():
    key = key_of(CONFIG, AUDIO, "content")
    same = CONFIG.model_copy(update={"path": "elsewhere", "split": "group", "content": "0" * 32})
    assert key_of(same, AUDIO, "content") == key
    others = [
        key_of(CONFIG, AUDIO, "other content"),
        key_of(CONFIG, AUDIO.model_copy(update={"floor_db": -80.0}), "content"),
        key_of(CONFIG.model_copy(update={"clips_per_file": 2}), AUDIO, "content"),
    ]
    assert len({key, *others}) == 4


def test_the_error_for_a_missing_set_says_how_to_prepare_it(tmp_path):
    with pytest.raises(UserError, match=mentions("1" * 32, "marl-study data build")):
        PreparedSet(ObjectStore(str(tmp_path)), "1" * 32).clips("clip")


def _document(content):
    return json.dumps({**json.loads(content), "clips": "many"}).encode()


def _a_billion_clips(content):
    """Change the shape in the header of an npy file; NumPy allocates it before it reads."""
    header = b"{'descr': '<f2', 'fortran_order': False, 'shape': (1000000000, 64, 64), }"
    return content[:10] + header.ljust(117) + b"\n" + content[128:]


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
        ("log_mels/00001.npy", _a_billion_clips),
        ("log_mels/00001.npy", lambda content: content[:128] + b"\x00\x7c" * 65536),
        ("log_mels/00001.npy", None),
        ("sounds/00001.flac", lambda content: content[:40]),
        ("sounds/00001.flac", lambda content: content[: len(content) // 2]),
        ("sounds/00001.flac", None),
    ],
)
def test_damaged_objects_are_named_and_not_executed(tones, tmp_path, name, spoil):
    path = tmp_path / "store" / "_data" / tones.key / name
    content = path.read_bytes()
    path.unlink() if spoil is None else path.write_bytes(spoil(content))
    fresh = dataclasses.replace(tones)
    with pytest.raises(UserError, match=mentions(name, "damaged", "prepare")):
        load_dataset(fresh, "clip", torch.device("cpu")).waveforms(list(range(59)))


def test_tables_with_too_many_rows_are_not_read(tones, monkeypatch):
    monkeypatch.setattr("study.store.tables._MAX_CELLS", 100)
    with pytest.raises(UserError, match=mentions("clips.parquet", "damaged", "rows")):
        dataclasses.replace(tones).table  # noqa: B018  # read from the store
