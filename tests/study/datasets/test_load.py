import pytest
import torch

from study.datasets.load import clips_of, dataset_of, factors_of
from study.errors import UserError
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from tests.messages import mentions
from tests.study.datasets.tones import prepared

CPU = torch.device("cpu")


def spec_of(tiny, **changes):
    data = {"kind": "folder", "path": "gone", "factors": ["pitch", "voice"], "split": "clip", "content": "0" * 32}
    tiny |= {"data": data | changes.pop("data", {}), "views": {"shared": ["voice"]}, **changes}
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
