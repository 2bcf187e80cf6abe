"""Plug-ins in a spec: where their code is found, what is stored of them, and what is refused."""

import hashlib
import pickle
import shutil
import sys

import pytest
import yaml

import marl.registry
from marl.evaluation import FINAL
from study.errors import UserError
from study.runs.lifecycle import create_study, spec_of
from study.search.sampler import Search
from study.spec.plugins import load_recorded
from study.spec.resolve import read_spec
from study.spec.resolved_spec import ResolvedSpec
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


def install(site, monkeypatch, **entry_points):
    """Install a distribution `rings` 1.2 with the module `ring_loss` and entry points, by group."""
    information = site / "rings-1.2.dist-info"
    information.mkdir(parents=True)
    shutil.copy(EXAMPLES / "ring_loss.py", site)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: rings\nVersion: 1.2\n")
    (information / "top_level.txt").write_text("ring_loss\n")
    groups = [f"[marl_study.{group}]\n{entry}\n" for group, entry in entry_points.items()]
    (information / "entry_points.txt").write_text("".join(groups))
    monkeypatch.syspath_prepend(site)


def test_names_of_entry_points_are_stored_as_modules(folder, tiny, tmp_path, monkeypatch):
    install(
        tmp_path / "site", monkeypatch, strategies=f"ring = {RING}", samplers="lucky = optuna.samplers:RandomSampler"
    )
    (folder / "ring_loss.py").unlink()
    space = {
        "contrast.strategy": {"choice": ["none", "ring"]},
        "contrast.shared": {"uniform": [1, 2], "when": {"contrast.strategy": "ring"}},
    }
    resolved = read_spec(spec_at(folder, tiny, space=space, search={"sampler": "lucky"}))
    spec = resolved.spec
    assert spec.search.sampler == "optuna.samplers:RandomSampler"
    assert {source.module: source.version for source in resolved.plugins}["ring_loss"] == "1.2"
    assert EXAMPLES not in {path.parent for path in marl.registry.uninstalled_plugins()}
    assert spec.space["contrast.strategy"].choice == ("none", RING)
    assert spec.space["contrast.shared"].when == {"contrast.strategy": (RING,)}


def test_a_sampler_of_optuna_is_a_plugin(folder, tiny):
    spec = read_spec(spec_at(folder, tiny, search={"sampler": "optuna.samplers:RandomSampler", "trials": 3})).spec
    first, second = ([Search(spec).ask(number) for number in range(3)] for _ in range(2))
    assert first == second
    assert len({trial["loss.private.gamma"] for trial in first}) == 3


def test_reading_a_study_loads_no_plugin_of_its_data(folder):
    with forgetting_plugins():
        spec = read_spec(folder / "study.yaml").spec
    with pytest.raises(UserError, match=mentions("data.kind", "chirps:Chirps", "not loaded")):
        _ = ResolvedSpec(spec).data
    with pytest.raises(UserError, match=mentions("plugins", "chirps:Other", "chirps:gini")):
        load_recorded(spec, [], ["chirps:Other"])
    assert "chirps" not in sys.modules


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
