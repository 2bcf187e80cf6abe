"""A study of someone else's loss, data set, network and metric on two trainers: run, resumed, read, exported."""

import json
import shutil

import pytest

import study
from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore
from tests.messages import assert_mentions
from tests.plugins import EXAMPLES, forgetting_plugins
from tests.study.commands import run_command
from tests.study.processes import environment

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

CHANGES = ("train.steps=20", "search.trials=4", "search.sampler=optuna.samplers:QMCSampler", "final_metrics=objectives")
TRAINERS = ("resources.trainers=2", "resources.lanes=4", "data.pitches=10", "replicates=1", "post_training=[]")
NETWORK = "chirps:DenseNetwork"
FIRST = {
    "contrast.strategy": "ring_loss:ring_loss",
    "contrast.shared": 10.0,
    "model.kind": NETWORK,
    "model.depth": 1,
    "latent.private": 4,
}


def run(*arguments):
    """Run a command in a separate process, whose study trains no plain VAE."""
    done = run_command(*arguments, env=environment(without_plain_vae=True))
    assert done.status == 0, done.err
    return done


def test_plugins_are_searched_over_on_two_trainers_resumed_and_exported(tmp_path, monkeypatch, cli):
    folder, store = tmp_path / "plugins", tmp_path / "runs"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    with (folder / "study.yaml").open("a") as spec:  # so that the study tries the loss and the network of the plug-ins
        spec.write(f"include:\n- {FIRST}\n")
    options = [word for change in (*CHANGES, *TRAINERS) for word in ("--set", change)]
    assert_mentions(run("run", "study.yaml", "--store", store, *options).err, "2 trainers", "one thread")
    run("resume", "plugins", "--store", store, "--trials", 5)

    results = StudyResults(StudyStore(ObjectStore(str(store)), "plugins"))
    table = results.results()
    assert list(table["state"]) == ["complete"] * 5
    assert table["custom/gini"].between(0, 1).all()
    assert {source["module"] for source in results.metadata.plugins} == {"chirps", "optuna", "ring_loss"}
    assert "ring_loss:ring_loss" in set(table["config/contrast.strategy"])
    trial = int(table[table["config/model.kind"] == NETWORK]["trial"].iloc[0])
    bundles = tmp_path / "bundles"
    with forgetting_plugins():
        done = cli("export", "plugins", "--store", store, "--trial", trial, "--to", bundles)
        assert done.status == 0, done.err
    (bundle,) = bundles.iterdir()
    assert json.loads((bundle / "manifest.json").read_text())["plugins"] == list(results.metadata.plugins)
    assert f'plugins=["{NETWORK}"]' in (bundle / "README.md").read_text()
    refused = cli("verify", bundle)
    assert refused.status == 2
    assert_mentions(refused.err, NETWORK, f"--plugin {NETWORK}")
    with forgetting_plugins():
        done = cli("verify", bundle, "--plugin", NETWORK)
        assert done.status == 0, done.err
    with forgetting_plugins():
        permitted = study.open("plugins", store=store, plugins=["chirps:Chirps", NETWORK]).trial(trial)
        assert set(permitted.leakage()["factor"]) == set(results.metadata.factors)
        assert permitted.model().private == table.set_index("trial")["config/latent.private"][trial]

    monkeypatch.chdir(tmp_path)  # where there are no plug-ins
    done = cli("results", "plugins", "--store", store, "--format", "json")
    assert len(json.loads(done.out)) >= 5
    with forgetting_plugins():
        done = cli("leakage", "plugins", "--store", store)
        assert done.status == 2
        assert_mentions(done.err, "chirps:Chirps", "not loaded", "--plugin chirps:Chirps")
        for arguments in (("resume", "plugins", "--trials", 6), ("export", "plugins", "--front", "--to", "again")):
            done = cli(*arguments, "--store", store)
            assert done.status == 2
            assert_mentions(done.err, "no module", "chirps", "current folder")

    monkeypatch.chdir(folder)
    (folder / "ring_loss.py").write_text((folder / "ring_loss.py").read_text() + "\n# changed\n")
    with forgetting_plugins():
        done = cli("resume", "plugins", "--store", store, "--trials", 6)
        assert done.status == 2
        assert_mentions(done.err, "ring_loss", "another source")
