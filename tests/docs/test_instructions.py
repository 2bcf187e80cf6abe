"""Commands and specs on the pages of docs/ and in the README exist and are valid."""

import re
import shlex

import pytest
import typer.main
import yaml

from study.cli import _app
from study.spec import parse_spec
from study.spec.resolve import resolve
from tests.study.commands import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOT_COMMAND = typer.main.get_command(_app())


def calls(page) -> list[list[str]]:
    """Return the words of each call of `marl-study` in the blocks of code of a page."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [re.split(r"\|| && |; | & |' |'$", line)[0] for line in lines]
    found = [re.search(r"(?:^|[\s/'])marl-study (\w.*)", line) for line in lines if not line.strip().startswith("#")]
    return [shlex.split(call[1].replace("'", ""), comments=True) for call in found if call]


def problem(words: list[str]) -> str | None:
    """Return what is wrong with a call; None if the command and all options exist."""
    command, rest = ROOT_COMMAND, list(words)
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return f"no command {' '.join(words[:2])}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in [*command.params, *ROOT_COMMAND.params] for option in parameter.opts}
    unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"no option {unknown}" if unknown else None


def test_every_command_and_option_on_the_pages_exists():
    all_calls = [(page.name, words) for page in PAGES for words in calls(page)]
    assert len(all_calls) > 60
    assert [(name, words, wrong) for name, words in all_calls if (wrong := problem(words))] == []


@pytest.mark.parametrize("line", ["marl-study prune quickstart", "marl-study export quickstart --into exported"])
def test_a_command_that_does_not_exist_fails_the_check(tmp_path, line):
    page = tmp_path / "page.md"
    page.write_text(f"```sh\n{line}\n```\n")
    (words,) = calls(page)
    assert problem(words)


def test_specs_on_the_pages_are_valid():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    specs = [yaml.safe_load(block) for block in blocks]
    specs = [spec for spec in specs if isinstance(spec, dict) and {"name", "data", "space"} <= spec.keys()]
    specs.append(yaml.safe_load((ROOT / "findings" / "listening.yaml").read_text(encoding="utf-8")))
    assert len(specs) > 2
    for spec in specs:
        if ":" not in str(spec["data"]["kind"]):  # a plug-in, which another test runs
            assert resolve(parse_spec(spec, "page")).spec.name == spec["name"]
