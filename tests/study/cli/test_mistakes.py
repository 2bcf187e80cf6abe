"""Mistakes on the command line are answered in one line, and cost nothing."""

import pytest

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
