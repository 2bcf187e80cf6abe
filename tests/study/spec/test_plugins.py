"""Plug-ins in a spec: where their code is found, what is stored of them, and what is refused."""

import hashlib
import pickle
import shutil
import sys
from importlib.metadata import EntryPoint

import pytest
import yaml

import marl.registry
from marl.evaluation import FINAL
from study.errors import UserError
from study.runs.lifecycle import create_study, spec_of
from study.search.sampler import Search
from study.spec.resolve import read_spec
from study.storage import ObjectStore
from study.store import StudyStore
from study.training.evaluation import final_groups
from tests.messages import mentions
from tests.plugins import EXAMPLES, LOSS, forgetting_plugins

RING = "ring_loss:ring_loss"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder with the example plug-ins; the current folder is another one. What a test loads is unloaded."""
    beside, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
    shutil.copytree(EXAMPLES, beside, ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with forgetting_plugins():
        yield beside


def spec_at(folder, tiny, **changes):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**tiny, **changes}))
    return path


def test_the_worked_example_is_a_valid_spec(folder):
    resolved = read_spec(folder / "study.yaml")
    assert [source.module for source in resolved.plugins] == ["chirps", "ring_loss"]
    assert resolved.metrics[-1] == "custom/gini"
    assert final_groups(resolved) == (*FINAL, "chirps:gini")
    assert pickle.loads(pickle.dumps(resolved)) == resolved


def test_a_trial_drops_the_sizes_of_other_networks(folder):
    resolved = read_spec(folder / "study.yaml", ["model.kind=chirps:DenseNetwork", "model.depth=2"])
    assert resolved.trial_config({}).model.depth == 2
    assert not hasattr(resolved.trial_config({"model.kind": "patch"}).model, "depth")


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ("metrics=[nothing]", ("metrics", "plug-in", "'nothing'")),
        ("metrics=['chirps:gini', 'chirps:gini']", ("metrics", "custom/gini", "twice")),
        ("search.sampler=cma", ("search.sampler", "'tpe'", "'cma'")),
        ("search.sampler='chirps:Nothing'", ("search.sampler", "chirps", "Nothing")),
        ("data.kind='gone:Chirps'", ("data.kind", "gone", "beside the spec")),
        ("data.pitches=21", ("data.pitches", 20, 21)),
        ("model.kind='chirps:gini'", ("model.kind", "chirps:gini", "Network")),
        ("space.model.depth={choice: [1, 20]}", ("space.model.depth", 8, 20)),
        ("space.model.deepth={choice: [1, 2]}", ("space.model.deepth", "no such field")),
        ("objectives.custom/gina=max", ("objectives", "custom/gina", "custom/gini")),
    ],
)
def test_mistakes_are_named_with_field_and_reason(folder, change, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        read_spec(folder / "study.yaml", [change])


def test_names_of_entry_points_are_stored_as_modules(folder, tiny, monkeypatch):
    entry = EntryPoint("ring", RING, "marl_study.strategies")
    monkeypatch.setattr(marl.registry, "entry_points", lambda group, name: [entry] if name == "ring" else [])
    space = {
        "contrast.strategy": {"choice": ["none", "ring"]},
        "contrast.shared": {"uniform": [1, 2], "when": {"contrast.strategy": "ring"}},
    }
    spec = read_spec(spec_at(folder, tiny, space=space)).spec
    assert spec.space["contrast.strategy"].choice == ("none", RING)
    assert spec.space["contrast.shared"].when == {"contrast.strategy": (RING,)}


def test_a_sampler_of_optuna_is_a_plugin(folder, tiny):
    spec = read_spec(spec_at(folder, tiny, search={"sampler": "optuna.samplers:RandomSampler", "trials": 3})).spec
    first, second = ([Search(spec).ask(number) for number in range(3)] for _ in range(2))
    assert first == second
    assert len({trial["loss.private.gamma"] for trial in first}) == 3


@pytest.fixture
def stored(folder, tiny, tmp_path):
    """Metadata of a stored study whose loss is a plug-in that is not loaded."""
    space = {**tiny["space"], "contrast.strategy": {"choice": ["none", "infonce", RING]}}
    with forgetting_plugins():
        store = StudyStore(ObjectStore(str(tmp_path / "runs")), "tiny")
        create_study(store, read_spec(spec_at(folder, tiny, space=space)))
    assert "ring_loss" not in sys.modules
    return store.metadata()


def test_a_study_records_the_source_of_its_plugins(stored, folder):
    (source,) = stored.plugins
    assert source["module"] == "ring_loss"
    assert source["version"] is None
    assert source["sha256"] == hashlib.sha256((folder / "ring_loss.py").read_bytes()).hexdigest()


def test_resuming_finds_plugins_in_the_current_folder(stored, folder, monkeypatch):
    with pytest.raises(UserError, match=mentions("ring_loss", "no module", "current folder")):
        spec_of(stored)
    monkeypatch.chdir(folder)
    assert spec_of(stored).spec == stored.spec


def test_resuming_refuses_another_source_and_does_not_import_it(stored, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "ring_loss.py").write_text(f"raise SystemExit('imported')\n{LOSS}")
    with pytest.raises(UserError, match=mentions("study 'tiny'", RING, "another source")):
        spec_of(stored)


def test_a_stored_study_cannot_choose_code_without_a_record(stored, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "ring_loss.py").write_text(f"raise SystemExit('imported')\n{LOSS}")
    with pytest.raises(UserError, match=mentions(RING, "without a record")):
        spec_of(stored.model_copy(update={"plugins": ()}))
    with pytest.raises(UserError, match=mentions("record", "damaged")):
        spec_of(stored.model_copy(update={"plugins": ({"module": "ring_loss"},)}))
