"""Plug-ins are imported only on request, and only from the source that was recorded."""

import hashlib
import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from pydantic import ValidationError

import marl
from marl import checkpoint, registry
from marl.config import Config
from marl.losses.ssl import STRATEGIES
from marl.models import NETWORKS, Architecture, build_network
from marl.objective import ActiveTerms
from marl.registry import PluginError, check_source, find_source
from marl.stack import Stack
from tests.marl.cases import metadata_of
from tests.messages import mentions
from tests.plugins import EXAMPLES, LOSS, forgetting_plugins, writer_of

NETWORK = (EXAMPLES / "chirps.py").read_text()


@pytest.fixture
def write(tmp_path):
    """Function that writes a module to a folder on Python's path. What a test loads is unloaded."""
    with forgetting_plugins():
        yield writer_of(tmp_path)


def test_reading_names_and_sources_imports_nothing(write):
    write("loud", f"raise SystemExit('imported')\n{LOSS}")
    assert Config.model_validate({"contrast": {"strategy": "loud:loss"}}).contrast.strategy == "loud:loss"
    with pytest.raises(ValidationError, match=mentions("loud:Net", "not loaded")):
        Config.model_validate({"model": {"kind": "loud:Net"}})
    with pytest.raises(PluginError, match=mentions("loud:loss", "not loaded")):
        ActiveTerms.of(Config.model_validate({"contrast": {"strategy": "loud:loss"}}))
    check_source("loud:loss", [find_source("loud:loss")], "a study")
    assert "loud" not in sys.modules


def test_the_source_of_a_file_is_its_sha256_and_that_of_a_package_covers_all_its_files(write, tmp_path):
    path = write("one_file")
    assert find_source("one_file:loss").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    package = tmp_path / "many_files"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "losses.py").write_text(LOSS)
    first = find_source("many_files.losses:loss")
    (package / "helpers.py").write_text("X = 1")
    second = find_source("many_files.losses:loss")
    assert first.module == second.module == "many_files"
    assert first.sha256 != second.sha256
    assert "many_files" not in sys.modules


def test_another_source_is_refused_before_it_is_imported(write):
    write("changing")
    recorded = [find_source("changing:loss")]
    write("changing", "raise SystemExit('imported')")
    with pytest.raises(PluginError, match=mentions("study 'rings'", "changing", "another source")):
        check_source("changing:loss", recorded, "study 'rings'")
    with pytest.raises(PluginError, match=mentions("changing:loss", "without a record")):
        check_source("changing:loss", [], "study 'rings'")


def test_a_module_that_changed_after_its_import_is_refused(write):
    write("edited")
    STRATEGIES.load("edited:loss")
    write("edited", f"{LOSS}\n# edited")
    with pytest.raises(PluginError, match=mentions("edited", "changed", "new process")):
        STRATEGIES.load("edited:loss")


def test_a_module_of_the_same_name_in_another_folder_is_refused(write, tmp_path, monkeypatch):
    write("twice")
    STRATEGIES.load("twice:loss")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "twice.py").write_text(LOSS)
    monkeypatch.syspath_prepend(tmp_path / "other")
    with pytest.raises(PluginError, match=mentions("twice", "imported", "other")):
        STRATEGIES.load("twice:loss")


@pytest.mark.parametrize(
    ("source", "name", "facts"),
    [
        (None, "gone_module:loss", ("gone_module", "no module", "beside the spec")),
        (LOSS, "bad_module:nothing", ("bad_module", "nothing")),
        (LOSS, "bad_module:NotALoss", ("bad_module:NotALoss", "function")),
        ("def loss(first_BD, second_BD): ...", "bad_module:loss", ("bad_module:loss", "three arguments", "too many")),
        ("import missing_dependency", "bad_module:loss", ("bad_module", "ModuleNotFoundError", "missing_dependency")),
        (None, "os:getcwd", ("os", "Python's own")),
        (None, "_socket:socket", ("_socket",)),
    ],
)
def test_plugins_that_cannot_be_used_say_why(write, source, name, facts):
    if source is not None:
        write("bad_module", source)
    with pytest.raises(PluginError, match=mentions(*facts)):
        STRATEGIES.load(name)


def test_entry_points_are_names_of_plugins(write, monkeypatch):
    entry = EntryPoint("ring", "rings:loss", "marl_study.strategies")
    monkeypatch.setattr(
        registry, "entry_points", lambda group, name: [entry] if (group, name) == (entry.group, "ring") else []
    )
    assert Config.model_validate({"contrast": {"strategy": "ring"}}).contrast.strategy == "rings:loss"
    with pytest.raises(ValidationError, match=mentions("'infonce'", "'rang'")):
        Config.model_validate({"contrast": {"strategy": "rang"}})


def test_a_network_has_its_own_fields(write):
    write("nets", NETWORK)
    NETWORKS.load("nets:DenseNetwork")
    content = {"kind": "nets:DenseNetwork", "width": 16, "hidden": 16, "depth": 3}
    config = Config.model_validate({"model": content})
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert Config.model_validate(config.model_dump()) == config
    network = build_network(Architecture(16, 16, config.model, 2, 2))
    assert "encoder.dense2.weight" in network.shapes
    with pytest.raises(ValidationError, match=mentions("depth", 8)):
        Config.model_validate({"model": {**content, "depth": 9}})
    with pytest.raises(ValidationError, match=mentions("depth")):
        Config.model_validate({"model": {"depth": 2}})


@pytest.fixture
def exported(write, small_dataset, tmp_path):
    """Folder of an exported model with a plug-in network, whose module is not loaded."""
    folder = tmp_path / "model"
    folder.mkdir()
    with forgetting_plugins():
        write("nets", NETWORK)
        NETWORKS.load("nets:DenseNetwork")
        model = {"kind": "nets:DenseNetwork", "width": 16, "hidden": 16, "head": 16}
        config = Config.model_validate({"model": model, "latent": {"private": 2, "shared": 2}})
        stack = Stack(
            Architecture(64, 64, config.model, 2, 2), 1, small_dataset, config.views, 16, ActiveTerms.of(config)
        )
        stack.attach(config, seed=0)
        metadata = metadata_of(config, small_dataset, 0).model_copy(update={"plugins": (find_source("nets:x"),)})
        (folder / "model.safetensors").write_bytes(checkpoint.model_bytes(stack.snapshot(0)))
        (folder / "config.json").write_text(metadata.model_dump_json())
    assert "nets" not in sys.modules
    return folder


def test_an_exported_model_imports_its_network_only_if_it_is_named(exported):
    with pytest.raises(ValueError, match=mentions("nets:DenseNetwork", "sha256", "plugins=['nets:DenseNetwork']")):
        marl.load(exported)
    assert "nets" not in sys.modules
    model = marl.load(exported, plugins=["nets:DenseNetwork"])
    private, shared = model.encode(torch.zeros(16_000), 16_000)
    assert private.shape == shared.shape == (1, 2)


def test_an_exported_model_refuses_another_source_of_its_network(exported, write):
    write("nets", f"{NETWORK}\n# another version")
    with pytest.raises(ValueError, match=mentions("nets", "another source")):
        marl.load(exported, plugins=["nets:DenseNetwork"])
    assert "nets" not in sys.modules
