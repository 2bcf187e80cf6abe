"""The Python API: `import study` in a script or a notebook."""

import inspect
import json
import subprocess
import sys

import altair as alt
import pytest
import torch

import marl
import study
from marl.config import LossConfig, SubspaceWeights
from marl.data.syntone import SynTone
from study.spec.resolve import read_spec
from study.storage import ObjectStore
from study.store import StudyStore
from tests.messages import assert_mentions, mentions
from tests.study.commands import TINY
from tests.study.processes import interrupt_when, use_ray_of_this_process
from tests.study.report.studies import FIDELITY, PLAIN, SEPARATION, trial_of, write_study

SMALL = {**TINY, "name": "small", "replicates": 1, "train": {**TINY["train"], "steps": 4, "reports": 1}}
SMALL["search"] = {"sampler": "qmc", "trials": 1}


@pytest.fixture
def tiny_study(finished_store) -> study.Study:
    """The study that all tests share, as `study.open` returns it."""
    return study.open("tiny", store=finished_store)


@pytest.fixture
def two_trials(tmp_path, tiny) -> study.Study:
    """A complete and a pruned trial with known numbers."""
    infonce = {**PLAIN, "contrast.strategy": "infonce", "contrast.temperature": 0.2}
    trials = [trial_of([3.0, 5.0], [0.1, 0.3]), trial_of([7.0], [0.2], "pruned", config=infonce)]
    write_study(tmp_path / "runs", tiny, trials)
    return study.open("tiny", store=tmp_path / "runs")


def test_importing_study_imports_nothing_else():
    program = "import sys; before = set(sys.modules); import study; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "ray", "pandas", "pydantic", "marl", "optuna"}
    assert "study" in loaded


def test_every_public_name_is_documented_and_listed():
    assert set(study.__all__) <= set(dir(study))
    for name in study.__all__:
        public = getattr(study, name)
        assert inspect.getdoc(public), name
        if inspect.isclass(public) and public.__module__.startswith("study.api"):
            members = [member for key, member in vars(public).items() if not key.startswith("_")]
            assert all(inspect.getdoc(member) for member in members), name
    with pytest.raises(AttributeError, match="stduy"):
        study.stduy  # noqa: B018


def test_a_spec_is_built_of_sections_and_means_what_its_file_means(tiny):
    built = study.Spec(
        name="tiny",
        data=SynTone(frequencies=40, amplitudes=4),
        model={"width": 16, "embedding": 16, "hidden": 32},
        train=study.TrainConfig(steps=30, batch_pairs=16, reports=2),
        replicates=2,
        space={
            "loss.private.gamma": study.Parameter(log_uniform=(0.1, 10)),
            "latent.private": study.Parameter(choice=(2, 4)),
            "contrast.strategy": study.Parameter(choice=("none", "infonce")),
            "contrast.temperature": study.Parameter(log_uniform=(0.05, 1), when={"contrast.strategy": "infonce"}),
        },
        search=study.SearchConfig(sampler="qmc", trials=4),
        post_training=(),
        resources=study.ResourcesConfig(lanes=4, trainers=1),
    )
    assert read_spec(built) == read_spec(tiny)
    weights = LossConfig(private=SubspaceWeights(gamma=2))
    assert read_spec(built.model_copy(update={"loss": weights.model_dump()})) == read_spec(
        {**tiny, "loss": {"private": {"gamma": 2}}}
    )
    halved = study.Spec(name="x", data={"kind": "syntone"}, space=built.space, halving=study.HalvingConfig(min_steps=9))
    assert halved.rungs()[0] == 9


def test_overrides_change_a_spec_and_are_named_in_errors(tiny):
    assert read_spec(tiny, {"train.steps": 60}, trials=3).spec.train.steps == 60
    assert tiny["train"]["steps"] == 30
    for overrides, facts in (
        ({"train.steps": 0}, ("overrides: train.steps", 1, 0)),
        ({"name.x": 1}, ("overrides: name",)),
    ):
        with pytest.raises(study.UserError, match=mentions(*facts)):
            study.run(tiny, overrides=overrides)


def test_messages_name_arguments_of_functions(two_trials, tiny, tmp_path, monkeypatch):
    for call, facts in (
        (lambda: study.open("tiny", store="ftp://x"), ("store:", "ftp://x")),
        (lambda: two_trials.best("separation"), ("metric:", "separation", SEPARATION)),
        (lambda: study.resume("tiny", store=tmp_path / "runs", trials=1), ("trials:", 2, 1)),
        (
            lambda: study.run(tiny, store=tmp_path / "runs", trials=9),
            (f'study.resume("tiny", store="{tmp_path}/runs", ',),
        ),
        (lambda: study.run(tiny, store="runs", address="auto"), ("store:", "cluster")),
        (lambda: two_trials.rescore(["beauty"]), ("metrics:", "beauty")),
        (lambda: two_trials.plot(x="beauty"), ("x:", "beauty")),
        (lambda: two_trials.trial(17), ("17", "0", "1")),
        (lambda: two_trials.trial(1).model(), ("trial 1", "pruned")),
        (lambda: two_trials.trial(0).curve(["beauty"]), ("metrics:", "beauty")),
        (lambda: two_trials.trial(0).latents(), ("latents", "trial 0", "seed 0")),
    ):
        with pytest.raises(study.UserError, match=mentions(*facts)) as raised:
            call()
        assert "--" not in str(raised.value)


def test_a_study_is_listed_and_opened_where_the_variable_says(two_trials, tmp_path, monkeypatch):
    monkeypatch.setenv("MARL_STORE", str(tmp_path / "runs"))
    assert study.list_studies() == ["tiny"]
    assert study.open("tiny").uri == two_trials.uri
    with pytest.raises(study.UserError, match=mentions("'tinny'", "did you mean tiny")):
        study.open("tinny")


def test_a_trial_has_its_configuration_its_metrics_and_its_learning_curve(two_trials):
    complete, pruned = two_trials.trial(0), two_trials.trial(1)
    assert (complete.state, pruned.state) == ("complete", "pruned")
    assert complete.config == {"loss.private.gamma": 1.0, "latent.private": 2, "contrast.strategy": "none"}
    assert type(complete.config["latent.private"]) is int
    assert pruned.config["contrast.temperature"] == 0.2
    assert complete.metrics[FIDELITY] == 4.0
    assert not any(name.endswith(("/sd", "/ci")) for name in complete.metrics)
    curve = complete.curve([FIDELITY])
    assert curve["value"].tolist() == [3.0, 5.0]
    assert curve["mean"].tolist() == [4.0, 4.0]
    assert set(complete.curve()["metric"]) == {FIDELITY, SEPARATION}
    assert "Trial(0, study='tiny', state='complete')" in repr(complete)


def test_tables_are_those_of_the_command_line(two_trials, cli, tmp_path):
    for words, table in (((), two_trials.results()), (("--front",), two_trials.front())):
        printed = cli("results", "tiny", *words, "--format", "csv", "--store", tmp_path / "runs").out
        assert table.to_csv(index=False) == printed
    assert two_trials.best().number == two_trials.best(FIDELITY).number == 0
    assert two_trials.status()["trials"]["pruned"] == 1
    assert two_trials.reports([1])["trial"].unique().tolist() == [1]
    assert len(two_trials.progress()) == 1
    printed = cli("leakage", "tiny", "--format", "csv", "--store", tmp_path / "runs").out
    assert two_trials.trial(0).leakage().to_csv(index=False) == printed


def test_a_study_shows_new_results_of_a_run(two_trials, tmp_path):
    before = len(two_trials.results())
    row = {
        "trial": 2,
        "state": "failed",
        "error": "x",
        "step": 0,
        "sampler": "{}",
        **{f"config/{n}": v for n, v in PLAIN.items()},
    }
    StudyStore(ObjectStore(str(tmp_path / "runs")), "tiny").append("trials", 1, 99, [row])
    assert len(two_trials.results()) == before + 1


def test_a_plot_shows_itself_in_a_notebook(two_trials):
    chart = two_trials.plot(y="information/timbre/shared", colour="latent.private")
    assert isinstance(chart, alt.LayerChart)
    bundle = chart._repr_mimebundle_()
    drawn = json.dumps(bundle[0] if isinstance(bundle, tuple) else bundle)
    assert_mentions(drawn, "information timbre shared")


@pytest.mark.slow
def test_a_model_of_the_store_encodes_as_the_exported_one(tiny_study, tmp_path):
    best = tiny_study.best(SEPARATION)
    (path,) = tiny_study.export(tmp_path / "out", best=SEPARATION)
    seed = json.loads((path / "manifest.json").read_text())["seed"]
    stored, exported = best.model(seed), marl.load(path)
    sound = torch.sin(torch.arange(20_000) / 8)
    for one, other in zip(stored.encode(sound, 16_000), exported.encode(sound, 16_000), strict=True):
        assert torch.equal(one, other)
    other_seed = best.model(1 - seed)
    assert not torch.equal(other_seed.encode(sound, 16_000)[0], stored.encode(sound, 16_000)[0])
    latents = best.latents(seed)
    assert {"clip", "factor/timbre", "private/0", "shared/0"} <= set(latents)
    assert tiny_study.export(tmp_path / "out", best=SEPARATION) == [path]
    assert len(tiny_study.export(tmp_path / "front")) == len(tiny_study.front())
    with pytest.raises(study.UserError, match=mentions("overwrite=True")):
        tiny_study.export(tmp_path / "out", best=SEPARATION, licence="CC-BY-4.0")


@pytest.mark.slow
def test_sounds_play_in_a_notebook(tiny_study):
    audition = tiny_study.best().audition()
    one, other = audition.clips["clip"][:2]
    swapped = audition.swapped(one, shared_from=other)
    assert swapped._repr_html_().startswith('<audio controls src="data:audio/wav;base64,')


@pytest.mark.slow
def test_a_study_runs_is_refused_twice_and_gets_trials(ray_of_process, tmp_path, capfd):
    with use_ray_of_this_process():
        small = study.run(SMALL, store=tmp_path, overrides={"search.seed": 3})
        assert small.status()["trials"]["complete"] == 1
        assert_mentions(capfd.readouterr().err, "trial 0", "complete")
        with pytest.raises(study.UserError, match=mentions("search", "differs")):
            study.run(SMALL, store=tmp_path, progress=False)
        resumed = study.resume("small", store=tmp_path, trials=2, progress=False)
        assert "trial" not in capfd.readouterr().err
    assert resumed.status()["trials"]["complete"] == 2
    assert len(small.results().query("kind == 'trial'")) == 2
    assert len(small.front()) >= 1


@pytest.mark.slow
def test_an_interrupt_writes_checkpoints_and_the_process_goes_on(ray_of_process, switches, tmp_path):
    switches.hold_training(after_steps=2)
    with (
        use_ray_of_this_process(),
        interrupt_when(lambda: any(switches.folder.glob("*.held")) and not switches.release()),
        pytest.raises(study.Interrupted, match=mentions("stopped", 'study.resume("small", store=')),
    ):
        study.run({**SMALL, "train": {**SMALL["train"], "steps": 4000}}, store=tmp_path, progress=False)
    stopped = study.open("small", store=tmp_path)
    assert stopped.status()["state"] == "interrupted"
