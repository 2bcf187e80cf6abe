import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from study.cli.common import common_options_first
from study.errors import Interrupted
from study.store.writer import StudyWriter
from tests.messages import assert_mentions
from tests.study.commands import ROOT, Outcome, command
from tests.study.s3_server import s3_server

COMMANDS = ["run", "resume", "ls", "status", "results", "plot", "export", "verify", "delete", "clean", "dashboard"]
COMMANDS += ["init", "validate", "metrics", "schema", "logs", "leakage", "rescore", "doctor", "compile", "embed"]
COMMANDS += ["swap"]


def assert_says(outcome, status, *parts):
    """One line that says what is wrong, the right exit status, and no traceback."""
    assert outcome.status == status, outcome.err
    assert outcome.out == ""
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("error: ")
    assert_mentions(line, *parts)


@pytest.fixture
def no_training(monkeypatch):
    """Fail the test if training starts."""

    def train(*arguments):
        pytest.fail("training began")

    monkeypatch.setattr("study.runs.run.run_trials", train)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["train.stepz=5"], ["train.stepz", "steps", "batch_pairs", "reports"]),
        (["colour=blue"], ["colour", "field", "name", "data"]),
        (["space={latent.private: {choise: [2]}}"], ["space.latent.private.choise", "choice"]),
        (["model.depth=5"], ["model.depth", "kind", "patch_bands"]),
        (["train.steps=many"], ["train.steps", "integer", "'many'"]),
        (["latent.private=wide"], ["latent.private", "integer", "'wide'"]),
        (["space={latent.private: {choice: []}}"], ["space.latent.private", "choice"]),
        (["loss.private.gamma=-1"], ["loss.private.gamma", 0, -1]),
        (
            ["space={loss.private.gamma: {uniform: [-1, 1]}}"],
            ["space.loss.private.gamma", 0, -1],
        ),
        (
            ["space={latent.private: {choice: [2], when: {contrast.strategie: infonce}}}"],
            ["space.latent.private.when", "contrast.strategie"],
        ),
        (["objectives={disentanglement/sep: max}"], ["objectives", "'disentanglement/sep'", "metric"]),
        (["views.shared=[colour]"], ["views.shared", "colour"]),
        (["train.steps"], ["--set", "path=value"]),
        (["name=../elsewhere"], ["name", "../elsewhere"]),
    ],
)
def test_an_invalid_spec_is_reported_in_one_line(cli, spec_file, tiny, tmp_path, no_training, overrides, parts):
    options = [word for override in overrides for word in ("--set", override)]
    outcome = cli("run", spec_file(tiny), "--store", tmp_path / "runs", *options)
    assert_says(outcome, 2, *parts)
    assert not (tmp_path / "runs").exists()


def test_a_spec_file_that_is_missing_or_not_yaml_is_named(cli, tmp_path):
    assert_says(cli("run", tmp_path / "nothing.yaml"), 2, "nothing.yaml", "No such file")
    (tmp_path / "bad.yaml").write_text("name: [")
    assert_says(cli("run", tmp_path / "bad.yaml"), 2, "bad.yaml", "line")


@pytest.mark.slow
def test_another_spec_with_the_name_of_a_study_is_refused_with_a_hint_to_resume(
    cli, spec_file, tiny, finished_store, no_training
):
    before = (finished_store / "tiny" / "study.json").read_bytes()
    outcome = cli("run", spec_file(tiny), "--store", finished_store, "--set", "train.steps=60")
    assert_says(outcome, 2, "'tiny'", "train", "differ", f"`marl-study resume tiny --store {finished_store}`")
    assert (finished_store / "tiny" / "study.json").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_study_prints_the_command_that_resumes_it(cli, finished_store):
    for run in (finished_store / "tiny" / "runs").iterdir():
        run.write_text(json.dumps({**json.loads(run.read_text()), "trials": 9}))
    shown = cli("status", "tiny", "--store", finished_store).out
    assert_mentions(shown.splitlines()[-1], f"marl-study resume tiny --store {finished_store}")


@pytest.mark.slow
def test_without_an_evaluated_untrained_network_there_is_no_hypervolume(cli, finished_store):
    (finished_store / "tiny" / "baselines.json").unlink()
    assert json.loads(cli("status", "tiny", "--store", finished_store, "--json").out)["hypervolume"] is None
    assert cli("results", "tiny", "--store", finished_store).err.strip() == "240 trial-steps"
    progress = json.loads(cli("results", "tiny", "--store", finished_store, "--progress", "--format", "json").out)
    assert [row["hypervolume"] for row in progress] == [None] * 4
    assert cli("results", "tiny", "--store", finished_store, "--progress").out.count("–") == 4


@pytest.mark.slow
def test_a_study_that_is_running_is_not_run_twice(cli, spec_file, tiny, finished):
    writer = StudyWriter(finished.store, trials=9)
    store = finished.store.objects.uri
    outcome = cli("resume", "tiny", "--store", store, "--trials", 9)
    assert_says(outcome, 2, 2, os.getpid())
    assert_says(cli("delete", "tiny", "--store", store, "--yes"), 2, "running")
    writer.finish()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("resume", "other"),
        ("status", "other"),
        ("results", "other"),
        ("plot", "other", "-o", "plot.html"),
        ("export", "other", "--front", "--to", "out"),
        ("delete", "other", "--yes"),
        ("clean", "other"),
    ],
)
def test_a_missing_study_is_reported_with_the_existing_ones(cli, finished_store, words):
    assert_says(cli(*words, "--store", finished_store), 2, "'other'", "tiny")


def test_a_read_only_store_is_reported_before_training(cli, spec_file, tiny, tmp_path, no_training):
    (tmp_path / "file").write_text("")
    outcome = cli("run", spec_file(tiny), "--store", tmp_path / "file" / "runs")
    assert_says(outcome, 2, f"store {tmp_path}/file/runs", "Not a directory")


@pytest.mark.parametrize("uri", ["ftp-of-old://host/x", "s3://no-such-bucket/x"])
def test_an_invalid_store_is_reported_before_training(cli, spec_file, tiny, tmp_path, no_training, uri):
    with s3_server(tmp_path / "s3") as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        assert_says(cli("run", spec_file(tiny), "--store", uri), 2, "store", uri)


def test_wrong_keys_are_reported_before_training_and_not_shown(cli, spec_file, tiny, tmp_path, no_training):
    with s3_server(tmp_path / "s3") as server, pytest.MonkeyPatch.context() as environment:
        for name, value in {**server.environment, "AWS_SECRET_ACCESS_KEY": "wrong-secret"}.items():
            environment.setenv(name, value)
        outcome = cli("run", spec_file(tiny), "--store", "s3://studies/x")
        assert_says(outcome, 2, "store s3://studies/x", "denied", "keys")
        assert "wrong-secret" not in outcome.err
        assert server.environment["AWS_ACCESS_KEY_ID"] not in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (("export", "tiny", "--to", "out"), ["--front", "--trial", "--best"]),
        (("export", "tiny", "--to", "out", "--front", "--trial", "1"), ["--front", "--trial", "--best"]),
        (("export", "tiny", "--to", "out", "--best", "beauty"), ["'beauty'", "metric"]),
        (("export", "tiny", "--to", "out", "--trial", "17"), ["trial 17"]),
        (("plot", "tiny", "-o", "plot.gif"), [".html", ".png", ".svg", "plot.gif"]),
        (("resume", "tiny", "--trials", "2"), ["trials", 4, 2]),
        (("delete", "tiny"), ["4 trials", "--yes"]),
        (("results", "tiny", "--front", "--progress"), ["--front", "--progress"]),
        (("results", "tiny", "--format", "csv", "--json"), ["--format", "--json", "csv"]),
    ],
)
def test_invalid_arguments_fail_before_any_work(cli, finished_store, words, facts):
    before = {path: path.read_bytes() for path in finished_store.rglob("*") if path.is_file()}
    assert_says(cli(*words, "--store", finished_store), 2, *facts)
    assert {path: path.read_bytes() for path in finished_store.rglob("*") if path.is_file()} == before


def test_a_traceback_is_printed_only_on_request(cli, tmp_path, monkeypatch):
    plain, debug = (cli(*words, "status", "other", "--store", tmp_path) for words in ((), ("--debug",)))
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert plain.status == debug.status == 2
    assert plain.err.strip().removeprefix("error: ") in debug.err


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_shows_an_example(cli, name, option):
    outcome = cli(name, option)
    assert outcome.status == 0
    assert f"Example: marl-study {name}" in outcome.out


def test_options_of_all_commands_may_follow_the_command(cli, tmp_path):
    assert cli("ls", "--store", tmp_path, "-q", "-vv").status == 0
    assert "Traceback" in cli("status", "other", "--store", tmp_path, "--debug").err
    assert common_options_first(["data", "build", "a", "-vv", "-q"]) == ["-vv", "-q", "data", "build", "a"]
    assert common_options_first(["swap", "--", "-v"]) == ["swap", "--", "-v"]


@pytest.mark.parametrize(("words", "expected"), [(["va"], "validate"), (["status", "--st"], "--store")])
def test_a_shell_completes_commands_and_options(words, expected):
    environment = {"_MARL_STUDY_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["marl-study", *words])}
    environment["COMP_CWORD"] = str(len(words))
    done = subprocess.run(command(), capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.stdout.split() == [expected]


def test_help_lists_every_command(cli):
    listed = cli("--help").out
    assert all(f"\n  {name} " in listed for name in COMMANDS)


def test_a_dry_run_prints_the_plan_and_writes_nothing(cli, spec_file, tiny, tmp_path):
    tiny["space"]["loss.private.gamma"] = {"log_uniform": ["1e-3", 10]}
    outcome = cli("run", spec_file(tiny), "--store", tmp_path / "runs", "--dry-run", "--trials", 6)
    assert outcome.status == 0
    resolved = yaml.safe_load(outcome.out)
    assert resolved["space"]["loss.private.gamma"] == {"log_uniform": [0.001, 10.0], "when": {}}
    assert resolved["search"] == {"sampler": "qmc", "trials": 6, "seed": 0}
    assert resolved["optimiser"]["learning_rate"] > 0
    assert_mentions(outcome.err, "planning stacks")
    assert_mentions(outcome.err, "measuring the speed of 4 lanes")
    assert_mentions(outcome.out, 6, 2, 30, "360 trial-steps")
    assert_mentions(outcome.out, "4 lanes")
    assert_mentions(outcome.out, "minutes")
    assert re.search(rf"\n# .*\S+ MB .*{tmp_path}/runs/tiny\b.*\S+ MB", outcome.out)
    assert not (tmp_path / "runs").exists()


def test_a_resolved_spec_is_a_spec(cli, spec_file, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("study.runs.dry_run.steps_per_second", lambda *_: 100.0)
    first = cli("run", spec_file(tiny), "--dry-run").out
    again = tmp_path / "again.yaml"
    again.write_text(first)
    assert yaml.safe_load(cli("run", again, "--dry-run").out) == yaml.safe_load(first)


# Carries out commands, one a line, in a process that cannot import Ray.
_WITHOUT_RAY = """
import json, sys
sys.modules["ray"] = None
from tests.study.commands import run_here
for line in sys.stdin:
    outcome = run_here(*json.loads(line))
    print(json.dumps([outcome.status, outcome.out, outcome.err]), flush=True)
"""


@pytest.fixture
def invoke_without_ray(finished_store):
    process = subprocess.Popen(
        [sys.executable, "-c", _WITHOUT_RAY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MARL_STORE": str(finished_store)},
    )

    def invoke(*words):
        process.stdin.write(f"{json.dumps([*map(str, words)])}\n")
        process.stdin.flush()
        outcome = Outcome(*json.loads(process.stdout.readline()))
        assert outcome.status == 0, outcome.err
        return outcome

    yield invoke
    process.communicate()


@pytest.mark.slow
def test_from_a_copy_of_its_folder_alone_a_study_is_used_without_ray(invoke_without_ray, finished_store, tmp_path):
    invoke = invoke_without_ray

    (listed,) = json.loads(invoke("ls", "--json").out)
    assert (listed["study"], listed["state"], listed["trials"]["complete"]) == ("tiny", "complete", 4)
    assert "tiny" in invoke("ls").out
    status = json.loads(invoke("status", "tiny", "--json").out)
    assert status["front"]
    assert status["trial_steps"] == 4 * 2 * 30
    assert status["hypervolume"] >= 0
    assert_mentions(invoke("status", "tiny").out, "tiny", "complete")
    progress = json.loads(invoke("results", "tiny", "--progress", "--format", "json").out)
    assert [row["complete"] for row in progress] == [1, 2, 3, 4]
    assert progress[-1]["trial_steps"] == status["trial_steps"]
    assert progress[-1]["hypervolume"] == pytest.approx(status["hypervolume"])
    assert invoke("results", "tiny", "--progress", "--format", "csv").out.startswith("time,trial,complete,trial_steps,")
    assert "device-hours" in invoke("results", "tiny", "--progress").out
    (tmp_path / "results.csv").write_text(invoke("results", "tiny", "--format", "csv").out)
    table = pd.read_csv(tmp_path / "results.csv")
    assert list(table["kind"]) == [*["trial"] * 4, *["baseline"] * 2]
    assert list(table["trial"].dropna()) == [0, 1, 2, 3]
    assert list(table["baseline"].dropna()) == ["untrained", "plain_vae"]
    assert table["disentanglement/separation"].notna().all()
    assert {"disentanglement/separation/ci", "front_probability"} <= set(table)
    assert "disentanglement/separation/sd" in table
    front = json.loads(invoke("results", "tiny", "--front", "--format", "json").out)
    assert {row["trial"] for row in front} <= set(table["trial"])
    shown = invoke("results", "tiny")
    assert "±" in shown.out
    assert_mentions(shown.err, f"hypervolume {status['hypervolume']:.3g}", "240 trial-steps")
    invoke("plot", "tiny", "-o", tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    assert_mentions(invoke("resume", "tiny").err, "tiny", "complete", "4 trials")
    bundles = invoke("export", "tiny", "--front", "--to", tmp_path / "out").out.split()
    assert len(bundles) == len(front)
    assert "verified" in invoke("verify", bundles[0]).err
    scores = json.loads(invoke("verify", bundles[0], "--json").out)
    assert scores["fidelity/log_mel_rmse_db"]["stated"] == pytest.approx(
        scores["fidelity/log_mel_rmse_db"]["computed"], abs=0.002
    )
    for words in (["results", "tiny"], ["results", "tiny", "--progress"], ["leakage", "tiny"]):
        assert invoke(*words, "--json").out == invoke(*words, "--format", "json").out
    # What is damaged is named and left out, and nothing else is lost.
    part = next((finished_store / "tiny" / "reports").glob("*.parquet"))
    (part.parent / "0001-999999.parquet").write_bytes(part.read_bytes()[:100])
    damaged = invoke("results", "tiny", "--format", "csv")
    assert_mentions(damaged.err, "warning: ", "0001-999999.parquet")
    assert damaged.out == (tmp_path / "results.csv").read_text()
    invoke("delete", "tiny", "--yes")
    assert json.loads(invoke("ls", "--json").out) == []


@pytest.mark.slow
def test_verify_fails_with_one_line_that_names_the_file(cli, finished_store, tmp_path):
    (bundle,) = cli("export", "tiny", "--trial", 0, "--to", tmp_path / "out", "--store", finished_store).out.split()
    with Path(bundle, "model.safetensors").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    assert_says(cli("verify", bundle), 1, "model.safetensors")


def test_a_closed_output_pipe_is_no_error(tmp_path):
    done = subprocess.run(
        f"{' '.join(command('--help'))} | head -n 1", shell=True, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("asked", [Interrupted, KeyboardInterrupt])
def test_an_interrupted_run_exits_130_also_after_a_second_interrupt(cli, spec_file, tiny, tmp_path, monkeypatch, asked):
    def stopped(*arguments):
        raise asked

    monkeypatch.setattr("study.runs.driver.run_study", stopped)
    outcome = cli("run", spec_file(tiny), "--store", tmp_path / "runs")
    assert outcome.status == 130
    assert_mentions(outcome.err, "marl-study resume tiny")
