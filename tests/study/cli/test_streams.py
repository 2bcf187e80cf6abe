"""Terminals and pipes: narrow, closed, full, or in an encoding with few characters."""

import io
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

import study.cli
from study.cli.common import drop_columns
from study.store.writer import StudyWriter
from tests.messages import assert_mentions
from tests.study.stores import new_store


@pytest.fixture
def store(tmp_path, tiny):
    """Location of a store with a study that has a log."""
    store = new_store(tmp_path / "runs", tiny)
    writer = StudyWriter(store, trials=1)
    writer.log("first line")
    writer.log("second line ± … –")
    writer.finish()
    return store.objects.uri


def run_into(stream, monkeypatch, *words, name="stdout"):
    """Run a command whose stdout or stderr is a stream, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["marl-study", *words])
    monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as leave:
        study.cli.main()
    return leave.value.code


@pytest.fixture
def closed_pipe():
    """A pipe whose reader has ended, as `head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize("words", [["logs", "tiny"], ["status", "tiny"], ["results", "tiny"], ["ls", "--json"]])
def test_a_reader_that_ends_early_is_no_failure(store, closed_pipe, monkeypatch, words):
    assert run_into(closed_pipe, monkeypatch, *words, "--store", store) == 0


def test_without_a_reader_of_messages_a_command_continues(store, closed_pipe, monkeypatch, capsys):
    assert run_into(closed_pipe, monkeypatch, "results", "tiny", "--store", store, name="stderr") == 0
    assert "study tiny" in capsys.readouterr().out
    assert run_into(closed_pipe, monkeypatch, "status", "other", "--store", store, name="stderr") == 2


@pytest.mark.parametrize("words", [["logs", "tiny"], ["results", "tiny"]])
def test_a_full_disk_behind_stdout_is_answered_in_one_line(store, monkeypatch, capsys, words):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        assert run_into(full, monkeypatch, *words, "--store", store) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert_mentions(line, "error:", "No space left")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("words", [["logs", "tiny"], ["results", "tiny"], ["embed", "--help"]])
def test_characters_that_an_encoding_lacks_are_replaced(store, monkeypatch, encoding, words):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    options = [] if "--help" in words else ["--store", store]
    assert run_into(stream, monkeypatch, *words, *options) == 0
    assert len(stream.buffer.getvalue()) > 20


def test_a_narrow_terminal_shows_fewer_columns_without_breaking_a_cell():
    table = Table(box=None, pad_edge=False)
    for heading in (
        "trial",
        "log-mel RMSE (dB)\n(lower is better)",
        "separation\n(more is better)",
        "latent.\nprivate",
    ):
        table.add_column(heading)
    table.add_row("interrupted", "12.345 ± 0.678", "0.123 ± 0.045", "16")
    console = Console(width=40, file=io.StringIO())
    assert drop_columns(table, console) == ["separation (more is better)", "latent.private"]
    console.print(table)
    assert "12.345 ± 0.678" in console.file.getvalue()
    assert drop_columns(table, Console(width=5)) == ["log-mel RMSE (dB) (lower is better)"]
    assert drop_columns(table, Console(width=1)) == []
