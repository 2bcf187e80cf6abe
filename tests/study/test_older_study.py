"""Studies that another version wrote are refused with the field and the version, and other studies are still listed."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from study.runs.create import create_study
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.storage import ObjectStore
from study.store import StudyStore

LATER = "9.1.0 of commit 0123456789ab"


@pytest.fixture
def store(tmp_path, tiny) -> Path:
    create_study(StudyStore(ObjectStore(str(tmp_path)), "tiny"), resolve(parse_spec(tiny, "test")))
    return tmp_path


def change_document(store, study, *path, value):
    file = store / study / "study.json"
    content = json.loads(file.read_text()) | {"writer": LATER}
    *parents, last = path
    section = content
    for parent in parents:
        section = section[parent]
    section[last] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (("spec", "curriculum"), "spec.curriculum: no such field; there are name, data,"),
        (("spec", "search", "patience"), "spec.search.patience: no such field; there are sampler, trials, seed"),
        (("format",), "format: must be 2; got 9"),
    ],
)
def test_metadata_of_a_later_version_is_refused_and_other_studies_are_listed(cli, store, path, reason):
    shutil.copytree(store / "tiny", store / "later")
    change_document(store, "later", "spec", "name", value="later")
    change_document(store, "later", *path, value=9)
    for words in (("status", "later"), ("results", "later"), ("resume", "later")):
        refused = cli(*words, "--store", store)
        assert refused.status == 2
        assert f"study 'later' was created by marl-study {LATER}, and this is marl-study 0.1.0: {reason}" in refused.err
    listed = cli("ls", "--store", store)
    assert listed.status == 0
    assert listed.out.startswith("tiny ")
    assert reason in listed.err


def test_a_study_with_an_unknown_field_of_models_is_read_but_not_resumed(cli, store):
    """Reading needs no model configuration; training without the field would give other results."""
    change_document(store, "tiny", "spec", "contrast", "margin", value=0.5)
    assert cli("status", "tiny", "--store", store).status == 0
    before = sorted(store.rglob("*"))
    refused = cli("resume", "tiny", "--store", store)
    assert refused.status == 2
    assert f"created by marl-study {LATER}" in refused.err
    assert "contrast.margin: no such field; there are strategy, shared," in refused.err
    assert sorted(store.rglob("*")) == before


def test_a_study_records_the_version_that_created_it(store):
    content = json.loads((store / "tiny" / "study.json").read_text())
    assert content["writer"].startswith("0.1.0")
    assert content["format"] == 2
    assert datetime.fromisoformat(content["created"]).tzinfo
