"""Commands about specs: init, validate, metrics, schema; ready studies by name, and specs from stdin."""

import json
import subprocess

import pytest
import yaml

from study.spec.json_schema import spec_schema
from study.spec.ready import ready_studies
from study.spec.resolve import read_spec
from tests.messages import assert_mentions
from tests.study.commands import TINY, command


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ready_studies())
def test_init_writes_a_ready_study_that_is_valid_and_has_the_name_of_its_file(cli, folder, name):
    assert cli("init", name, "-o", "mine.yaml").status == 0
    written, original = read_spec(folder / "mine.yaml").spec, read_spec(name).spec
    assert written == original.model_copy(update={"name": "mine"})


def test_init_starts_from_the_quickstart_and_keeps_its_comments(cli, folder):
    assert cli("init").status == 0
    text = (folder / "quickstart.yaml").read_text()
    assert ready_studies()["quickstart"].read_text() in text


def test_editors_find_the_schema_beside_the_spec(cli, folder):
    (folder / "specs").mkdir()
    cli("init", "-o", "specs/mine.yaml")
    first, *_ = (folder / "specs" / "mine.yaml").read_text().splitlines()
    prefix, _, schema = first.partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert json.loads((folder / "specs" / schema).read_text()) == spec_schema()


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["quikstart"], ["'quikstart'", "quickstart"]),
        (["-o", "mine.json"], ["--output", ".yaml", "mine.json"]),
        (["-o", "a study.yaml"], ["letters", "'a study'"]),
        (["-o", "no/mine.yaml"], ["--output", "no folder"]),
    ],
)
def test_a_mistake_of_init_writes_nothing(cli, folder, words, facts):
    outcome = cli("init", *words)
    assert outcome.status == 2
    assert_mentions(outcome.err, *facts)
    assert not list(folder.iterdir())


def test_init_replaces_a_file_only_when_asked(cli, folder):
    (folder / "quickstart.yaml").write_text("mine")
    outcome = cli("init")
    assert outcome.status == 2
    assert_mentions(outcome.err, "quickstart.yaml", "--overwrite")
    assert (folder / "quickstart.yaml").read_text() == "mine"
    assert cli("init", "--overwrite").status == 0
    assert read_spec(folder / "quickstart.yaml")


def test_validate_reports_all_mistakes_at_once(cli, folder):
    (folder / "my.yaml").write_text(yaml.safe_dump(TINY | {"replicates": 0, "views": {"shared": ["colour"]}}))
    outcome = cli("validate", "my.yaml", "--set", "train.stepz=5")
    assert (outcome.status, outcome.out) == (2, "")
    for fact in ("3 mistakes", "my.yaml: replicates", "my.yaml: views.shared", "--set train.stepz"):
        assert_mentions(outcome.err, fact)


def test_validate_accepts_a_spec_in_one_line(cli, folder):
    (folder / "my.yaml").write_text(yaml.safe_dump(TINY))
    outcome = cli("validate", "my.yaml")
    assert outcome.status == 0
    assert_mentions(outcome.err, "my.yaml", "tiny", "4 trials x 2 replicates x 30 steps")
    assert list(folder.iterdir()) == [folder / "my.yaml"]


def test_validate_prints_mistakes_as_json(cli, folder):
    (folder / "my.yaml").write_text(yaml.safe_dump(TINY | {"replicates": 0}))
    outcome = cli("validate", "my.yaml", "--json")
    assert outcome.status == 2
    (problem,) = json.loads(outcome.out)["problems"]
    assert (problem["path"], problem["source"]) == ("replicates", "my.yaml")
    (folder / "broken.yaml").write_text("name: [")
    outcome = cli("validate", "broken.yaml", "--json")
    assert outcome.status == 2
    assert not json.loads(outcome.out)["valid"]
    assert json.loads(cli("validate", "quickstart", "--json").out) == {"valid": True, "problems": []}


def test_a_file_goes_before_the_ready_study_of_its_name(cli, folder):
    (folder / "quickstart").write_text(yaml.safe_dump(TINY))
    assert_mentions(cli("validate", "quickstart").err, "study tiny")


@pytest.mark.parametrize("words", [["run"], ["validate"], ["metrics"], ["doctor"], ["compile"], ["data", "build"]])
def test_a_spec_that_does_not_exist_is_answered_with_the_ready_studies(cli, words):
    outcome = cli(*words, "quikstart")
    assert (outcome.status, outcome.out) == (2, "")
    assert_mentions(outcome.err, "quikstart", "no such file", "did you mean quickstart?", *ready_studies())


def test_a_ready_study_runs_by_its_name(cli, monkeypatch, folder):
    monkeypatch.setattr("study.runs.dry_run.steps_per_second", lambda *_: 100.0)
    changes = ["data.frequencies=40", "data.amplitudes=4", "resources.lanes=2", "resources.compile=false"]
    outcome = cli("run", "quickstart", "--dry-run", *(word for change in changes for word in ("--set", change)))
    assert outcome.status == 0, outcome.err
    assert yaml.safe_load(outcome.out)["name"] == "quickstart"


@pytest.mark.parametrize(
    ("words", "content", "status", "facts"),
    [
        (["validate", "-"], yaml.safe_dump(TINY), 0, ["/dev/stdin: no mistakes; study tiny"]),
        (["run", "-", "--dry-run"], "name: x", 2, ["/dev/stdin: data: is required", "/dev/stdin: space: is required"]),
    ],
)
def test_a_spec_comes_from_stdin(words, content, status, facts):
    done = subprocess.run(command(*words), input=content, capture_output=True, text=True, check=False)
    assert done.returncode == status
    for fact in facts:
        assert_mentions(done.stderr, fact)


def test_metrics_have_names_for_any_data(cli):
    listed = {row["name"]: row for row in json.loads(cli("metrics", "--json").out)}
    assert listed["fidelity/log_mel_rmse_db"]["better"] == "lower"
    assert listed["probe/<factor>/{private,shared,both}"]["better"] == "by subspace"
    assert all(row["meaning"] and row["range"] and row["when"] for row in listed.values())
    shown = cli("metrics").out
    assert all(f"\n{name} " in f"\n{shown}" for name in listed)


def test_metrics_of_a_spec_have_the_names_and_directions_of_its_factors(cli):
    listed = {row["name"]: row["better"] for row in json.loads(cli("metrics", "quickstart", "--json").out)}
    assert sorted(listed) == sorted(read_spec("quickstart").metrics)
    assert listed["information/timbre/shared"] == "higher"  # views share the timbre
    assert listed["information/timbre/private"] == "lower"


def test_the_schema_is_printed(cli):
    assert json.loads(cli("schema").out) == spec_schema()
