"""A study that an earlier version began: read, gone on with, and refused where it cannot be understood.

`older_study/README.md` says where it comes from.
"""

import json
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from study.analysis import StudyResults
from study.runs.create import spec_of
from study.spec import parse_spec
from study.spec.model_config import StackPlan, config_of
from study.spec.resolve import resolve
from study.storage import Objects
from study.store import StudyStore
from tests.messages import assert_mentions
from tests.study.commands import completed_files, run_command

OLDER = Path(__file__).with_name("older_study")
STEPS = 90


@pytest.fixture
def store(tmp_path):
    return Path(shutil.copytree(OLDER / "store", tmp_path / "store"))


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    store = Path(shutil.copytree(OLDER / "store", tmp_path_factory.mktemp("resumed") / "store"))
    outcome = run_command("resume", "older", "--store", store)
    assert outcome.status == 0, outcome.err
    assert_mentions(outcome.err, "older", "6 complete")
    return store


def results_of(store):
    return StudyResults(StudyStore(Objects(str(store)), "older"))


def change_document(store, *path, value):
    file = store / "older" / "study.json"
    content = json.loads(file.read_text())
    *parents, last = path
    section = content
    for parent in parents:
        section = section[parent]
    section[last] = value
    file.write_text(json.dumps(content))


def test_an_older_study_is_listed_read_and_plotted(cli, store, tmp_path):
    (line,) = cli("ls", "--store", store).out.splitlines()
    assert_mentions(line, "older", "2 complete", "2 interrupted", 6)
    assert_mentions(cli("status", "older", "--store", store).out, "2 complete", "2 interrupted", 6)
    rows = json.loads(cli("results", "older", "--format", "json", "--store", store).out)
    then = pd.read_csv(OLDER / "undisturbed.csv")
    for row in rows[:2]:
        mature = then[(then["trial"] == row["trial"]) & (then["step"] == STEPS)]
        assert row["fidelity/log_mel_rmse_db"] == pytest.approx(mature["fidelity/log_mel_rmse_db"].mean())
        assert row["replicates"] == 2
    front = json.loads(cli("results", "older", "--front", "--format", "json", "--store", store).out)
    assert [row["trial"] for row in front] == [1]
    assert cli("plot", "older", "-o", tmp_path / "plot.html", "--store", store).status == 0
    assert (tmp_path / "plot.html").stat().st_size > 1000


def test_fields_that_came_since_are_as_the_code_without_them_did(store):
    """A field that came since and does something by default would train the rest of the study otherwise."""
    written = json.loads((store / "older" / "study.json").read_text())["spec"]
    spec = spec_of(results_of(store).document)
    then = {path: value for path, value in leaves(written) if not path.startswith("space.")}
    now = dict(leaves(spec.model_dump(mode="json")))
    assert {path: now[path] for path in then} == then
    assert config_of(spec, {}) == config_of(results_of(store).spec, {})

    since = {path: value for path, value in now.items() if path not in then and not path.startswith("space.")}
    of_augmented_views = [path for path in since if path.startswith("views.augment.")]
    assert since["views.scheme"] == "factor"
    unused = {*of_augmented_views, "model.channels", "model.head", "contrast.target_decay"}
    # How trials are computed was decided when the study began, and is recorded in `stack`.
    decided = {path for path in since if path.startswith("resources.")} | {"train.precision"}
    after_training = {"final"}
    trained = {path: value for path, value in since.items() if path not in unused | decided | after_training}
    assert trained == {
        "views.scheme": "factor",
        "model.kind": "patch",
        "loss.multiscale.scale_2": 0.0,
        "loss.multiscale.scale_4": 0.0,
        "loss.multiscale.scale_8": 0.0,
        "loss.multiscale.spectrum": 0.0,
        "loss.multiscale.envelope": 0.0,
        "contrast.repulsion": 0.0,
        "contrast.projection": False,
        "independence.hsic": 0.0,
        "independence.cross_covariance": 0.0,
        "independence.adversarial": 0.0,
        "independence.swap_cycle": 0.0,
        "first_seed": 0,
        "halving": None,
    }
    plan = StackPlan.model_validate(results_of(store).document.stack)
    assert (plan.lanes, plan.precision, plan.compiled) == (4, "float32", False)


def leaves(content, path=""):
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@pytest.mark.slow
def test_an_older_study_goes_on_to_its_end_and_what_was_complete_stays(resumed):
    before, after = (completed_files(one, "older") for one in (OLDER / "store", resumed))
    assert len(before) == 4 * 3 + 4 + 6  # checkpoints, latents and parts of tables
    assert {name: after.get(name) for name in before} == before
    for name in ("study.json", "launches/0001.json"):
        assert (resumed / "older" / name).read_bytes() == (OLDER / "store" / "older" / name).read_bytes()
    trials = results_of(resumed).trials()
    assert list(trials["trial"]) == list(range(6))
    assert list(trials["launch"]) == [1, 1, 2, 2, 2, 2]
    configurations = trials[[column for column in trials if column.startswith("config/")]]
    assert not configurations.duplicated().any()


@pytest.mark.slow
def test_an_older_study_goes_on_as_the_older_code_would_have(resumed):
    """From its checkpoints, its sampler's place and its fields: the values are those of the older code's own run."""
    then = pd.read_csv(OLDER / "undisturbed.csv").sort_values(["trial", "seed", "step"], ignore_index=True)
    now = results_of(resumed).reports()
    trained = now[now["loss/total"].notna()].sort_values(["trial", "seed", "step"], ignore_index=True)
    assert list(trained["launch"]) == [1] * 12 + [2] * 24
    for column in ("trial", "seed", "step"):
        assert list(trained[column]) == list(then[column])
    for column in then.columns.drop(["trial", "seed", "step", "disentanglement/separation"]):
        np.testing.assert_allclose(trained[column], then[column], rtol=1e-3, atol=1e-3, err_msg=column)


@pytest.mark.slow
def test_new_columns_are_in_new_rows_and_means_are_over_what_is_there(resumed):
    found = results_of(resumed)
    rows = StudyStore(Objects(str(resumed)), "older").read("reports")
    came_since = ["disentanglement/sap", "disentanglement/linear_separation", "fidelity/log_mel_rmse_db/clips_se"]
    assert rows[rows["launch"] == 1][came_since].isna().all(axis=None)
    results = found.results().set_index("trial")
    # Trials 2 and 3 were reported by one version at first, and by another later.
    assert results["disentanglement/sap"].notna().tolist() == [False, False, True, True, True, True]
    assert results[["fidelity/log_mel_rmse_db", "fidelity/log_mel_rmse_db/sd"]].notna().all(axis=None)
    assert (results["replicates"] == 2).all()
    assert set(found.front()["trial"]) <= set(range(6))
    # An older trial on the front was measured once more as others are; what it had then stays.
    old = pd.read_csv(OLDER / "undisturbed.csv").query(f"trial == 1 and step == {STEPS}")
    assert results.loc[1, "fidelity/log_mel_rmse_db"] == pytest.approx(old["fidelity/log_mel_rmse_db"].mean())
    assert np.isfinite(results.loc[1, ["test/disentanglement/separation", "disentanglement/dci"]].astype(float)).all()


@pytest.mark.slow
def test_a_run_of_the_same_spec_knows_an_older_study_and_another_spec_is_refused(resumed):
    assert_mentions(run_command("run", OLDER / "older.yaml", "--store", resumed).err, "older", "complete", "6 trials")
    other = run_command("run", OLDER / "older.yaml", "--set", "independence.hsic=1", "--store", resumed)
    assert other.status == 2
    assert_mentions(other.err, "spec", "independence", "differ")


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        (("spec", "curriculum"), ["spec.curriculum", "name", "data"]),
        (("spec", "search", "patience"), ["spec.search.patience", "sampler", "trials", "seed"]),
        (("format",), ["format", 1, 2]),
    ],
)
def test_what_a_later_version_wrote_is_refused_with_field_and_version_and_the_rest_is_listed(cli, store, path, facts):
    shutil.copytree(store / "older", store / "later")
    spec = json.loads((store / "older" / "study.json").read_text())["spec"]
    change_document(store, "spec", value={**spec, "name": "later"})
    (store / "later" / "study.json").write_bytes((store / "older" / "study.json").read_bytes())
    shutil.copy(OLDER / "store" / "older" / "study.json", store / "older" / "study.json")
    later = store / "later" / "study.json"
    content = json.loads(later.read_text()) | {"writer": "9.1.0 of commit 0123456789ab"}
    section = content
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = 2
    later.write_text(json.dumps(content))
    for words in (("status", "later"), ("results", "later"), ("resume", "later")):
        refused = cli(*words, "--store", store)
        assert refused.status == 2
        assert_mentions(refused.err, "'later'", "marl-study 9.1.0", "0123456789ab", "marl-study 0.1.0", *facts)
    listed = cli("ls", "--store", store)
    assert listed.status == 0
    assert listed.out.startswith("older ")
    assert_mentions(listed.err, "later", *facts)


def test_a_field_of_models_that_is_not_known_is_read_and_not_gone_on_with(cli, store):
    """What readers need no configuration of is theirs; training without the field would be something else."""
    change_document(store, "spec", "contrast", "margin", value=0.5)
    assert_mentions(cli("status", "older", "--store", store).out, "2 complete")
    before = sorted(store.rglob("*"))
    refused = cli("resume", "older", "--store", store)
    assert refused.status == 2
    assert_mentions(refused.err, "unknown version", "contrast.margin", "strategy", "shared")
    assert sorted(store.rglob("*")) == before


def test_a_study_says_which_version_began_it(tmp_path, cli):
    spec = yaml.safe_load((OLDER / "older.yaml").read_text())
    from study.runs.create import begin

    store = StudyStore(Objects(str(tmp_path)), "older")
    begin(store, resolve(parse_spec(spec, "older.yaml")))
    content = json.loads((tmp_path / "older" / "study.json").read_text())
    assert content["writer"].startswith("0.1.0")
    assert datetime.fromisoformat(content["created"]).tzinfo
