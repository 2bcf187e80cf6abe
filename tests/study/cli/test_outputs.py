"""Files of users: none is replaced unless `--overwrite` is given, and none that is an input."""

from pathlib import Path

import pytest

from tests.messages import assert_mentions

# Commands that write a file or a folder, without its path.
FILES = {
    "plot": (["plot", "tiny", "-o"], "--output", "mine.SVG"),
    "optuna": (["results", "tiny", "--optuna"], "--optuna", "mine.db"),
    "embed": (["embed", "model", "a.wav", "-o"], "--output", "mine.parquet"),
    "swap": (["swap", "model", "a.wav", "a.wav", "-o"], "--output", "mine.wav"),
}
FOLDERS = {
    "report": (["report", "tiny", "-o"], "--output"),
    "examples": (["data", "describe", "spec.yaml", "--examples"], "--examples"),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Run in a folder with a recording. Each command is refused before it reads a study or a model."""
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(b"sound")


def refused(cli, words, *facts):
    outcome = cli(*words)
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert_mentions(line, *facts)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_replaced_only_if_asked_for(cli, name):
    words, option, output = FILES[name]
    Path(output).write_text("mine")
    refused(cli, [*words, output], option, output, "exists", "--overwrite")
    assert Path(output).read_text() == "mine"


@pytest.mark.parametrize("name", FILES)
def test_neither_a_folder_nor_a_device_is_replaced_and_no_folder_is_made(cli, name):
    words, option, output = FILES[name]
    Path(output).mkdir()
    refused(cli, [*words, output, "--overwrite"], option, output, "folder")
    refused(cli, [*words, f"none/{output}", "--overwrite"], option, "folder", "none")
    refused(cli, [*words, f"a.wav/{output}", "--overwrite"], option, "folder", "a.wav")
    device = Path(f"device{Path(output).suffix}")
    device.symlink_to("/dev/full")
    refused(cli, [*words, device, "--overwrite"], option, device, "regular file")
    assert device.is_symlink()
    assert not Path("none").exists()


@pytest.mark.parametrize("name", FILES)
def test_names_that_no_file_can_have_are_answered_in_one_line(cli, name):
    words, option, output = FILES[name]
    refused(cli, [*words, f"{'x' * 300}{Path(output).suffix}"], option, "write", "too long")


@pytest.mark.parametrize("name", FOLDERS)
def test_files_are_written_into_a_folder_with_others_only_if_asked_for(cli, name):
    words, option = FOLDERS[name]
    Path("folder").mkdir()
    Path("folder/index.html").write_text("mine")
    refused(cli, [*words, "folder"], option, "folder", "--overwrite")
    refused(cli, [*words, "a.wav", "--overwrite"], option, "a.wav", "is a file")


@pytest.mark.parametrize("place", ["b.wav", "link.wav", "hard.wav"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_swap_does_not_replace_its_inputs(cli, place, number):
    Path("b.wav").write_bytes(b"sound")
    Path("link.wav").symlink_to("b.wav")
    Path("hard.wav").hardlink_to("b.wav")
    inputs = ["b.wav", "a.wav"] if number else ["a.wav", "b.wav"]
    refused(cli, ["swap", "model", *inputs, "-o", place, "--overwrite"], "--output", place, "input")
    assert Path("b.wav").read_bytes() == b"sound"


@pytest.mark.parametrize("audio", ["sound.parquet", "folder"])
def test_a_table_does_not_replace_a_recording(cli, audio):
    Path("sound.parquet").write_bytes(b"sound")
    Path("folder").mkdir()
    Path("folder/sound.wav").symlink_to("../sound.parquet")
    refused(cli, ["embed", "model", audio, "-o", "sound.parquet", "--overwrite"], "sound.parquet", "input")
