from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from marl.data.folder import Folder
from study.datasets import check_pairs, clips_of, dataset_of, factors_of, find, local_copy, prepare
from study.datasets.summarise import summarise, summary_tables
from study.errors import UserError
from study.runs.lifecycle import create_study
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import Entry, ObjectStore
from study.store import StudyStore
from tests.messages import mentions
from tests.study.datasets.recordings import write_recordings
from tests.study.datasets.tones import AUDIO, prepared

CPU = torch.device("cpu")


def spec_of(tiny, **changes):
    data = {"kind": "folder", "path": "gone", "factors": ["pitch", "voice"], "split": "clip", "content": "0" * 32}
    tiny |= {"data": data | changes.pop("data", {}), "views": {"shared": ["voice"]}} | changes
    return resolve(parse_spec(tiny, "spec"))


@pytest.fixture
def objects(tmp_path, monkeypatch) -> ObjectStore:
    """A store with a prepared set; the files it was made of are gone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepared(tmp_path / "store")
    return ObjectStore(str(tmp_path / "store"))


def test_datasets_load_from_the_store_without_the_audio_files(tiny, objects):
    spec = spec_of(tiny)
    dataset = dataset_of(spec, objects, CPU)
    assert torch.equal(dataset.value_NC, clips_of(spec, objects).value_NC)
    assert factors_of(spec, objects) == dataset.factors
    assert dataset.log_mels.is_resident


def test_log_mels_beyond_the_memory_limit_stay_on_the_host(tiny, objects):
    dataset = dataset_of(spec_of(tiny, resources={"data_gib": 0.0001}), objects, CPU)
    assert not dataset.log_mels.is_resident


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"data": {"content": None}}, ["data", "prepared", "marl-study data build"]),
        ({"data": {"content": "1" * 32}}, ["1" * 32]),
        ({"data": {"factors": ["voice", "pitch"]}}, ["data.content", "0" * 32, "factors"]),
        ({"audio": {"floor_db": -80}}, ["data.content", "0" * 32, "factors"]),
        ({"data": {"split": "voice"}}, ["data.split", "voice", 3]),
    ],
)
def test_prepared_sets_of_other_settings_are_rejected(tiny, objects, changes, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        dataset_of(spec_of(tiny, **changes), objects, CPU)


def test_a_study_of_clips_without_partners_is_refused_before_it_exists(tiny, objects):
    store = StudyStore(objects, "tiny")
    with pytest.raises(UserError, match=mentions("views.shared", "same pitch", "another voice", "add clips")):
        create_study(store, spec_of(tiny, views={"shared": ["pitch"]}))
    assert not store.exists()
    check_pairs(spec_of(tiny), objects)
    check_pairs(spec_of(tiny, views={"shared": ["pitch"], "scheme": "segment"}), objects)


def test_the_summary_counts_clips_without_a_partner(tiny, objects, monkeypatch):
    monkeypatch.setattr("study.datasets.summarise._read_from_log_mels", lambda *_: [0.5, 0.5])
    good, bad = (summarise(spec_of(tiny, views={"shared": [name]}), objects) for name in ("voice", "pitch"))
    assert good.pairs_warning is None
    assert good.pairs["unpaired"].tolist() == [0, 0]
    known = int((clips_of(spec_of(tiny), objects).value_NC[:, 1] != -1).sum())
    assert good.pairs["clips"].tolist() == [known - 2 * good.splits["test"], good.splits["validation"]]
    assert bad.pairs.loc["training", "unpaired"] > 0.01 * bad.pairs.loc["training", "clips"]
    assert bad.pairs_warning is not None
    assert "pairs" in [table.title for table in summary_tables(bad)]
    one_clip = summarise(spec_of(tiny, views={"shared": ["pitch"], "scheme": "segment"}), objects)
    assert (len(one_clip.pairs), one_clip.pairs_warning) == (0, None)


def test_recordings_in_a_bucket_give_the_prepared_set_of_the_same_files_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_recordings(tmp_path / "sounds", singers=2, pitches=2)
    bucket, objects = ObjectStore(f"memory://recordings/{tmp_path.name}"), ObjectStore(str(tmp_path / "store"))
    here = Folder(path=str(folder), factors=("vowel", "voice"))
    there = here.model_copy(update={"path": bucket.uri})
    for path in folder.rglob("*.*"):
        bucket.write(path.relative_to(folder).as_posix(), path.read_bytes())

    assert find(there, AUDIO, objects).key == find(here, AUDIO, objects).key
    entries = local_copy(there).entries()
    assert entries == here.entries()
    (needed,) = (entry for entry in entries if entry.name.endswith("a-1.flac") and "00" in entry.name)
    assert np.array_equal(
        local_copy(there, [needed]).waveform(needed, 16_000, 16_000), here.waveform(needed, 16_000, 16_000)
    )

    (folder / needed.name).write_bytes((folder / "singer-01/e-0.flac").read_bytes())
    assert find(there, AUDIO, objects).key != find(here, AUDIO, objects).key
    bucket.write(needed.name, (folder / needed.name).read_bytes())
    assert find(there, AUDIO, objects).key == find(here, AUDIO, objects).key
    bucket.delete(needed.name)
    (folder / needed.name).unlink()
    assert find(there, AUDIO, objects).key == find(here, AUDIO, objects).key


def test_names_in_a_bucket_do_not_lead_out_of_the_copy(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bucket = ObjectStore(f"memory://recordings/{tmp_path.name}")
    names = ["factors.csv", "good.wav", "../../above.wav", f"{tmp_path}/absolute.wav"]
    monkeypatch.setattr(ObjectStore, "entries", lambda *_: {name: Entry(3, "tag") for name in names})
    monkeypatch.setattr(ObjectStore, "read_all", lambda _, wanted: dict.fromkeys(wanted, b"abc"))
    copy = local_copy(Folder(path=bucket.uri, factors=("vowel",)))
    files = {path.relative_to(tmp_path / "cache") for path in tmp_path.rglob("*.*") if path.is_file()}
    assert {path.name for path in files} == {"factors.csv", "factors.csv.etag", "good.wav", "good.wav.etag"}
    assert all(str(tmp_path / "cache" / path).startswith(copy.path) for path in files)


def test_a_bucket_without_the_table_is_the_users_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = Folder(path=f"memory://recordings/{tmp_path.name}", factors=("vowel",))
    with pytest.raises(UserError, match=mentions("table", f"{config.path}/factors.csv")):
        find(config, AUDIO, ObjectStore(str(tmp_path / "store")))


def test_files_that_change_while_they_are_prepared_complete_no_set(tmp_path, monkeypatch):
    folder = write_recordings(tmp_path / "sounds", singers=1, pitches=1)
    config, objects = Folder(path=str(folder), factors=("vowel",)), ObjectStore(str(tmp_path / "store"))

    def chunks(prepared, resolved, todo):
        (folder / "factors.csv").write_text((folder / "factors.csv").read_text().replace(",i,", ",e,"))
        yield from (number for number, _ in todo)

    monkeypatch.setattr(prepare, "_prepare_chunks", chunks)
    with pytest.raises(UserError, match=mentions("files", "changed", "marl-study data build")):
        prepare._prepare(
            find(config, AUDIO, objects),
            SimpleNamespace(audio=AUDIO),
            config,
            config.entries(),
            nullcontext(),
            lambda *_: None,
        )
    assert objects.names("") == []
