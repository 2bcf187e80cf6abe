"""A study that an earlier version created is read and resumed; one that a later version created is refused.

`older_study/README.md` describes the stored study.
"""

import json
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.runs.lifecycle import create_study, spec_of
from study.spec import parse_spec
from study.spec.resolve import read_spec, resolve
from study.storage import ObjectStore
from study.store import StudyStore
from tests.messages import assert_mentions
from tests.study.in_process_study import run_study, simulated_processes
from tests.study.stores import completed_files, results_of

LATER = "9.1.0 of commit 0123456789ab"
OLDER = Path(__file__).with_name("older_study")
STEPS = 30
# Leaves of the spec that were added after the stored study, with the value that code without them implies.
ADDED_FIELDS: dict[str, object] = {"final_metrics": "all", "metrics": [], "resources.trainers": "auto"}
# Metrics that were defined anew since; the models are the same.
CHANGED_METRICS = (
    "metric_version",
    "linear_probe/",
    "disentanglement/linear_separation",
    "loss/private/",
    "loss/shared/",
    "loss/total",
)
RENAMED_FIELDS = {"contrast.exclude_same_factors": "contrast.exclude_same_group"}


@pytest.fixture
def older(tmp_path) -> Path:
    return Path(shutil.copytree(OLDER / "store", tmp_path / "older"))


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> Path:
    store = Path(shutil.copytree(OLDER / "store", tmp_path_factory.mktemp("resumed") / "store"))
    with simulated_processes(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.training.lanes.update_baselines", lambda *_: None)
        run_study(ObjectStore(str(store)), read_spec(OLDER / "older.yaml"))
    return store


@pytest.fixture(scope="module")
def undisturbed() -> pd.DataFrame:
    return pd.read_csv(OLDER / "undisturbed.csv").sort_values(["trial", "seed", "step"], ignore_index=True)


@pytest.fixture
def store(tmp_path, tiny) -> Path:
    create_study(StudyStore(ObjectStore(str(tmp_path)), "tiny"), resolve(parse_spec(tiny, "test")))
    return tmp_path


def leaves(content, path=""):
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def test_an_older_study_is_listed_and_read(cli, older, undisturbed):
    (line,) = cli("ls", "--store", older).out.splitlines()
    assert_mentions(line, "older", "2 complete", "2 interrupted", 4)
    assert_mentions(cli("status", "older", "--store", older).out, "2 complete", "2 interrupted", 4)
    rows = json.loads(cli("results", "older", "--format", "json", "--store", older).out)
    assert [row["state"] for row in rows] == ["complete", "complete", "interrupted", "interrupted"]
    final = undisturbed[undisturbed["step"] == STEPS].groupby("trial")["fidelity/log_mel_rmse_db"].mean()
    for row in rows[:2]:
        assert row["fidelity/log_mel_rmse_db"] == pytest.approx(final[row["trial"]])
        assert row["replicates"] == 2


def test_fields_of_the_spec_have_the_values_that_the_older_code_gave_them():
    content = json.loads((OLDER / "store" / "older" / "study.json").read_text())
    stored = {RENAMED_FIELDS.get(path, path): value for path, value in leaves(content["spec"])}
    resolved = spec_of(results_of(OLDER / "store", "older").metadata)
    now = dict(leaves(resolved.spec.model_dump(mode="json", exclude_none=True)))
    assert {path: now[path] for path in stored} == stored
    assert {path: value for path, value in now.items() if path not in stored} == ADDED_FIELDS


@pytest.mark.slow
def test_an_older_study_is_resumed_and_complete_trials_stay_as_they_are(resumed):
    before, after = (completed_files(store, "older") for store in (OLDER / "store", resumed))
    assert len(before) == 2 * 2 * (3 + 1) + 4  # checkpoints and latents of two trials, segments of tables
    assert {name: after.get(name) for name in before} == before
    metadata = "older/study.json"
    assert (resumed / metadata).read_bytes() == (OLDER / "store" / metadata).read_bytes()
    trials = results_of(resumed, "older").trials()
    assert trials[["trial", "state", "run"]].to_numpy().tolist() == [
        [trial, "complete", run] for trial, run in enumerate([1, 1, 2, 2])
    ]


@pytest.mark.slow
def test_a_resumed_older_study_has_the_values_of_the_older_code(resumed, undisturbed):
    reports = results_of(resumed, "older").reports().sort_values(["trial", "seed", "step"], ignore_index=True)
    columns = [column for column in undisturbed if not column.startswith(CHANGED_METRICS)]
    assert {"loss/reconstruction", "fidelity/log_mel_rmse_db", "nmi/timbre/shared"} <= set(columns)
    # Pairs are drawn otherwise since, so models that are trained after the resumption have other values.
    is_trained_since = (reports["trial"] == 3) & (reports["step"] == STEPS)
    for column in columns:
        rtol = 0 if column in ("trial", "seed", "step") else 1e-3
        before, expected = reports.loc[~is_trained_since, column], undisturbed.loc[~is_trained_since, column]
        np.testing.assert_allclose(before, expected, rtol=rtol, atol=rtol, err_msg=column)
    assert np.isfinite(reports.loc[is_trained_since, columns].astype(float)).all(axis=None)
    # Between both steps the error changes by four times this tolerance, so training that began anew would fail.
    error = "fidelity/log_mel_rmse_db"
    since, expected = reports.loc[is_trained_since, error], undisturbed.loc[is_trained_since, error]
    np.testing.assert_allclose(since, expected, rtol=1e-3)


def change_metadata(store, study, *path, value):
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
        (("spec", "curriculum"), "spec.curriculum: no such field; there are: name, data,"),
        (("spec", "search", "patience"), "spec.search.patience: no such field; there are: sampler, trials, seed"),
        (("format",), "format: must be 2; got 9"),
    ],
)
def test_metadata_of_a_later_version_is_refused_and_other_studies_are_listed(cli, store, path, reason):
    shutil.copytree(store / "tiny", store / "later")
    change_metadata(store, "later", "spec", "name", value="later")
    change_metadata(store, "later", *path, value=9)
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
    change_metadata(store, "tiny", "spec", "contrast", "margin", value=0.5)
    assert cli("status", "tiny", "--store", store).status == 0
    before = sorted(store.rglob("*"))
    refused = cli("resume", "tiny", "--store", store)
    assert refused.status == 2
    assert f"created by marl-study {LATER}" in refused.err
    assert "contrast.margin: no such field; there are: strategy, shared," in refused.err
    assert sorted(store.rglob("*")) == before


def test_a_study_records_the_version_that_created_it(store):
    content = json.loads((store / "tiny" / "study.json").read_text())
    assert content["writer"].startswith("0.1.0")
    assert content["format"] == 2
    assert datetime.fromisoformat(content["created"]).tzinfo
