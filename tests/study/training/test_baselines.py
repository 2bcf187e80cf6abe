"""What an untrained network scores, and that it is asked once."""

import math

import pytest
import torch

import study.training.evaluation as module
from marl.evaluation import Evaluation, evaluate
from marl.metrics import METRIC_VERSION
from study.errors import UnreadableObject
from study.spec.resolved_spec import ResolvedSpec, StackPlan
from study.training.evaluation import update_baselines
from study.training.lanes import Lanes
from tests.messages import mentions
from tests.study.stores import new_store


@pytest.fixture(autouse=True)
def no_baselines():
    """Here they are wanted."""


@pytest.fixture
def counted(monkeypatch):
    """Scores of no meaning, and how many models were scored."""
    lanes = []

    def scored(models, shared, metric_groups):
        assert "probes" in metric_groups
        assert "losses" not in metric_groups
        lanes.append(len(models))
        return Evaluation([{"a": float(lane), "b": math.nan} for lane in range(len(models))], None)

    monkeypatch.setattr(module, "evaluate", scored)
    return lanes


def write(store):
    metadata = store.metadata()
    resolved, plan = ResolvedSpec(metadata.spec), StackPlan.model_validate(metadata.stack)
    update_baselines(store, resolved, plan, resolved.data.build(resolved.audio, torch.device("cpu")))
    return store.baselines()


@pytest.mark.slow
def test_lanes_write_the_metrics_of_the_untrained_network_once(tmp_path, tiny, monkeypatch):
    store = new_store(tmp_path, tiny)
    lanes = Lanes(store, torch.device("cpu"))
    assert store.baselines() is None  # training does not wait for them
    lanes.update_baselines()
    found = store.baselines()
    assert found["replicates"] == 2
    untrained = found["untrained"]
    assert not [name for name in untrained if name.startswith("loss/")]
    assert {name for name in untrained if not name.endswith("/sd")} == {
        name.removesuffix("/sd") for name in untrained if name.endswith("/sd")
    }
    # It has learnt neither what views share nor how a spectrogram looks: the error is the spread of the data, and more.
    assert abs(untrained["disentanglement/separation"]) < 0.3
    assert untrained["fidelity/log_mel_rmse_db"] > 10
    # The second time nothing is computed.
    monkeypatch.setattr(module, "evaluate", lambda *_: pytest.fail("was evaluated again"))
    lanes.update_baselines()
    assert store.baselines() == found


def test_metrics_of_the_untrained_network_of_another_version_are_computed_again(tmp_path, tiny, monkeypatch):
    groups = ("fidelity",)
    monkeypatch.setattr(module, "evaluate", lambda models, shared, _: evaluate(models, shared, groups))
    store = new_store(tmp_path, tiny)
    found = write(store)
    assert found["metric_version"] == METRIC_VERSION
    for older in ({"metric_version": METRIC_VERSION - 1}, {}):
        store.write_baselines({"untrained": {"fidelity/log_mel_rmse_db": 1.0}, "replicates": 2} | older)
        assert write(store) == found


def test_the_untrained_network_does_not_depend_on_the_objective(tmp_path, tiny, monkeypatch):
    # Without networks that read factors, which take long.
    groups = ("fidelity", "linear_information")
    monkeypatch.setattr(module, "evaluate", lambda models, shared, _: evaluate(models, shared, groups))
    found = write(new_store(tmp_path / "a", tiny))
    tiny["contrast"] = {"strategy": "infonce", "private": 3.0}
    tiny["loss"] = {"reconstruction": 7.0}
    tiny["latent"] = {"private": 16}  # no trial is as wide as that
    tiny["space"]["latent.fusion"] = {"choice": ["mean", "poe"]}
    assert write(new_store(tmp_path / "b", tiny)) == found


@pytest.mark.parametrize(("replicates", "lanes", "seeds"), [(3, 2, 2), (1, 4, 1)])
def test_the_number_of_seeds_is_limited_by_replicates_and_lanes(tmp_path, tiny, counted, replicates, lanes, seeds):
    tiny |= {"replicates": replicates, "resources": {"lanes": lanes}}
    found = write(new_store(tmp_path, tiny))
    assert counted == [seeds]
    spread = {"a/sd": pytest.approx(math.sqrt(0.5))} if seeds == 2 else {}
    untrained = {"a": (seeds - 1) / 2, **spread}
    assert found == {"untrained": untrained, "replicates": seeds, "metric_version": METRIC_VERSION}


def test_a_network_that_does_not_fit_has_no_baseline(tmp_path, tiny):
    store = new_store(tmp_path, tiny)
    metadata = store.metadata()
    model = {**metadata.spec.model, "patch_bands": 7}
    resolved = ResolvedSpec(metadata.spec.model_copy(update={"model": model}))
    data = resolved.data.build(resolved.audio, torch.device("cpu"))
    update_baselines(store, resolved, StackPlan.model_validate(metadata.stack), data)
    assert store.baselines() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"untrained": 3}', b'{"untrained": {"a": "b"}}'])
def test_damaged_baselines_are_reported_and_written_again(tmp_path, tiny, counted, content):
    store = new_store(tmp_path, tiny)
    store.objects.write("tiny/baselines.json", content)
    with pytest.warns(UnreadableObject, match=mentions("baselines.json")):
        assert store.baselines() is None
    with pytest.warns(UnreadableObject):
        assert write(store)["replicates"] == 2
    assert counted == [2]
