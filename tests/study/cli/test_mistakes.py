"""Mistakes on the command line are answered in one line, and cost nothing."""

import subprocess
import sys

import pytest

from study.spec.schema import MAX_TRIALS
from tests.messages import assert_mentions
from tests.study.stores import new_store

PATHS = ["../b/quickstart", "..", ".", "/", "", "store/quickstart", "quickstart//", "./quickstart", "quick\nstart"]
WORDS = {
    "resume": (),
    "status": (),
    "results": (),
    "leakage": (),
    "plot": ("-o", "plot.html"),
    "report": ("-o", "report"),
    "export": ("--front", "--to", "out"),
    "rescore": (),
    "clean": (),
    "delete": ("--yes",),
    "logs": (),
    "stop": (),
}


@pytest.fixture
def folder(tmp_path, tiny):
    """A folder with the stores `a` and `b`, which have a study each."""
    for store in ("a", "b"):
        new_store(tmp_path / store, {**tiny, "name": "quickstart"}, "quickstart")
    return tmp_path


def assert_refused(outcome, *facts):
    assert outcome.status == 2, outcome.err
    assert outcome.out == ""
    (line,) = outcome.err.strip().splitlines()
    assert_mentions(line, "error: ", *facts)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", WORDS)
def test_a_path_is_no_name_of_a_study(cli, folder, command):
    before = files(folder)
    for path in PATHS:
        assert_refused(cli(command, path, *WORDS[command], "--store", folder / "a"), "name", "letter", repr(path))
    assert files(folder) == before


def test_the_slash_that_a_shell_completes_is_not_part_of_the_name(cli, folder):
    assert_mentions(cli("status", "quickstart/", "--store", folder / "a").out, "study quickstart")
    assert_refused(cli("delete", "quickstart/", "--store", folder / "a"), f"{folder}/a/quickstart", "--yes")
    assert cli("delete", "quickstart/", "--store", folder / "a", "--yes").status == 0
    assert [path.parent.name for path in files(folder)] == ["quickstart"]
    assert list(files(folder / "b"))


def test_a_misspelt_study_is_answered_with_the_one_that_is_meant(cli, folder):
    store = folder / "a"
    for number in range(30):
        new_name = f"another-study-{number}"
        (store / new_name).mkdir()
        (store / new_name / "study.json").write_bytes((store / "quickstart" / "study.json").read_bytes())
    outcome = cli("status", "quikstart", "--store", store)
    assert_refused(outcome, "'quikstart'", "did you mean quickstart")
    assert "another" not in outcome.err


def test_leakage_before_any_trial_is_complete(cli, folder):
    outcome = cli("leakage", "quickstart", "--store", folder / "a")
    assert_refused(outcome, "'quickstart'", "no complete trial yet")
    assert "--best" not in outcome.err


def test_run_with_more_trials_of_the_same_study_is_led_to_resume(cli, folder, spec_file, tiny):
    path = spec_file({**tiny, "name": "quickstart"})
    outcome = cli("run", path, "--store", folder / "a", "--trials", 3)
    assert_refused(outcome, f"`marl-study resume quickstart --store {folder}/a --trials 3`")
    assert "delete" not in outcome.err
    outcome = cli("run", path, "--store", folder / "a", "--trials", 3, "--set", "search.seed=1")
    assert_refused(outcome, "search", "differs", f"`marl-study resume quickstart --store {folder}/a`")


@pytest.mark.parametrize("words", [("run",), ("resume",)])
def test_no_study_has_100_billion_trials(cli, spec_file, tiny, words):
    outcome = cli(*words, spec_file(tiny) if words == ("run",) else "tiny", "--trials", 10**11)
    assert outcome.status == 2
    assert_mentions(outcome.err, "--trials", MAX_TRIALS)


def test_an_objective_that_asks_for_the_worse_direction_is_warned_about(cli, spec_file, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("study.runs.dry_run.steps_per_second", lambda *_: 100.0)
    objectives = {"fidelity/log_mel_rmse_db": "max", "disentanglement/separation": "max"}
    outcome = cli("run", spec_file({**tiny, "objectives": objectives}), "--store", tmp_path / "runs", "--dry-run")
    assert outcome.status == 0, outcome.err
    line, *steps = outcome.err.strip().splitlines()
    assert all(step.endswith(" …") for step in steps)  # progress of the dry run
    assert_mentions(line, "warning: ", "fidelity/log_mel_rmse_db", "lower", "max")


@pytest.mark.parametrize("where", ["study.cli.common", "study.analysis"])
def test_ctrl_c_while_modules_are_imported_is_answered_in_one_line(tmp_path, where):
    program = f"""
import builtins, sys
real = builtins.__import__
def interrupted(name, *arguments):
    if name == "{where}":
        raise KeyboardInterrupt
    return real(name, *arguments)
builtins.__import__ = interrupted
from study.cli import main
sys.argv = ["marl-study", "status", "quickstart", "--store", "{tmp_path}"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_an_endpoint_that_is_no_address_is_answered_in_one_line(cli, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    assert_refused(cli("status", "quickstart", "--store", "s3://bucket/studies"), "s3://bucket/studies", "nonsense")
