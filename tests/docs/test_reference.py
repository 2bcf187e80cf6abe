"""docs/reference/ names every field of a spec, every command with its options, and every column of the results."""

import re

import pytest
import typer.main
from pydantic import BaseModel

from docs.generate import FOLDER, pages
from marl.audio import AudioConfig
from marl.config import Config
from marl.data import KINDS
from marl.evaluation import FINAL, evaluate, metric_names
from marl.models import Architecture
from marl.objective import ActiveTerms
from marl.stack import Stack
from study.cli import _app
from study.spec import Spec
from study.spec.space import Parameter


@pytest.fixture(scope="module")
def committed():
    return {name: (FOLDER / name).read_text(encoding="utf-8") for name in pages()}


def test_the_committed_pages_are_those_of_the_code(committed):
    outdated = [name for name, text in pages().items() if committed[name] != text]
    assert outdated == [], "run `make docs` and commit docs/reference"


def paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the paths of all fields of a model and of its sections."""
    found = []
    for name, field in model.model_fields.items():
        found.append(f"{prefix}{name}")
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for section in (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)):
            found += paths(section, f"{prefix}{name}.")
    return found


def test_the_page_of_the_spec_has_every_field_of_the_models(committed):
    fields = [*paths(Spec), *paths(Config), *paths(AudioConfig, "audio."), *paths(Parameter, "space.<parameter>.")]
    fields = [field for field in fields if not field.startswith("space.") or "<parameter>" in field]
    assert {"train.steps", "halving.min_steps", "contrast.temperature", "views.augment.noise_snr_db"} <= set(fields)
    for kind, model in KINDS.items():
        section = committed["spec.md"].partition(f"## `data: {{kind: {kind}}}`")[2].partition("\n## ")[0]
        assert [field for field in paths(model, "data.") if f"| `{field}` |" not in section] == []
    assert [field for field in fields if f"| `{field}` |" not in committed["spec.md"]] == []


def leaves(group, prefix="marl-study"):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def test_the_page_of_the_commands_has_every_command_and_option(committed):
    commands = dict(leaves(typer.main.get_command(_app())))
    assert {"marl-study run", "marl-study data build", "marl-study export"} <= commands.keys()
    for name, command in commands.items():
        section = committed["commands.md"].partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert (command.help or "").split(".")[0].split("\n")[0] in section, name
        for parameter in command.params:
            assert all(f"`{option}`" in section for option in parameter.opts if option.startswith("-")), name


def test_the_page_of_the_columns_has_every_metric_of_a_report(committed, small_dataset):
    patterns = re.findall(r"^\| `([^`]+)` \|", committed["columns.md"], flags=re.MULTILINE)
    words = {"<factor>": r"[^/]+", "<class>": r"[^/]+", "<term>": ".+", "<metric>": ".+", "<path>": ".+"}

    def expression(pattern):
        parts = re.split(r"(<\w+>|\{[^}]*\})", pattern)
        return "".join(
            words.get(part) or (f"({part[1:-1].replace(',', '|')})" if part.startswith("{") else re.escape(part))
            for part in parts
        )

    # The general patterns match any name, so they are not asked about the metrics themselves.
    own = [re.compile(expression(pattern)) for pattern in patterns if not pattern.startswith(("<metric>", "test/"))]
    own.append(re.compile(r".+/clips_se"))
    config = Config.model_validate(
        {"model": {"width": 16, "embedding": 16, "hidden": 32}, "latent": {"private": 4, "shared": 2}}
    )
    stack = Stack(Architecture(64, 64, config.model, 4, 2), 1, small_dataset, config.views, 16, ActiveTerms.of(config))
    stack.attach(config, seed=0)
    (columns,) = evaluate(stack.models, ["timbre"], FINAL).metrics
    names = {*columns, *metric_names(small_dataset.factor_names)}
    assert len(names) > 50
    assert [name for name in sorted(names) if not any(pattern.fullmatch(name) for pattern in own)] == []
    assert {"<metric>/sd", "<metric>/ci", "test/<metric>", "config/<path>"} <= set(patterns)
