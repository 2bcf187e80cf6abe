"""The reference of the spec names every field of the models, with a description."""

import pytest
from pydantic import BaseModel

from marl.audio import AudioConfig
from marl.config import Config
from marl.data import KINDS
from study.spec import Parameter, Spec
from study.spec.reference import spec_fields

SECTIONS = {"audio": AudioConfig, **{name: field.annotation for name, field in Config.model_fields.items()}}
SECTIONS |= {name: Spec.model_fields[name].annotation for name in ("train", "search", "resources")}
SECTIONS["halving"] = type(Spec(name="a", data={}, space={"a": {"choice": [1]}}, halving={}).halving)


def paths(model: type[BaseModel], prefix: str) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        found.append(f"{prefix}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += paths(field.annotation, f"{prefix}{name}.")
    return found


def by_path(section: str = ""):
    return {field.path: field for field in spec_fields() if section in ("", field.section)}


def test_the_reference_names_every_field_of_the_models():
    expected = [("", name) for name in Spec.model_fields]
    for name in Spec.model_fields:
        if name == "data":
            for kind, model in KINDS.items():
                expected += [(f"data: {{kind: {kind}}}", path) for path in paths(model, "data.")]
        elif name == "space":
            expected += [("space", path) for path in paths(Parameter, "space.<parameter>.")]
        elif name in SECTIONS:
            expected += [(name, path) for path in paths(SECTIONS[name], f"{name}.")]
    assert [(field.section, field.path) for field in spec_fields()] == expected


def test_every_field_has_a_meaning_in_sentences():
    for field in spec_fields():
        assert field.meaning.endswith("."), field.path
        assert field.meaning[0].isupper() or field.meaning.startswith("`"), field.path


@pytest.mark.parametrize(
    ("path", "type_", "default", "allowed"),
    [
        ("name", "text", None, ""),
        ("train.batch_pairs", "whole number", "128", "at least 16, at most 65,536, a multiple of 16"),
        ("train.precision", "text", "auto", "`auto`, `float32`, `bfloat16`"),
        ("search.trials", "whole number or null", "null", "at least 1, at most 1,000,000"),
        ("halving", "section", "null", ""),
        ("halving.min_steps", "whole number", "600", "at least 1"),
        ("resources.lanes", "whole number or `auto`", "auto", "at least 1, at most 4,096"),
        ("contrast.target_decay", "number", "0.99", "at least 0, less than 1"),
        ("contrast.projection", "true or false", "false", ""),
        ("views.shared", "list of texts", "[timbre]", ""),
        ("space.<parameter>.when", "mapping", "{}", ""),
        ("space.<parameter>.choice", "list of scalars or null", "null", ""),
    ],
)
def test_a_field_has_its_type_default_and_range(path, type_, default, allowed):
    field = by_path()[path]
    assert (field.type, field.default, field.allowed) == (type_, default, allowed)


def test_strategies_and_networks_are_choices():
    fields = by_path()
    assert "`infonce`" in fields["contrast.strategy"].allowed
    assert "`conv`" in fields["model.kind"].allowed


def test_the_default_kind_of_data_may_be_left_out_and_the_others_may_not():
    assert by_path("data: {kind: syntone}")["data.kind"].default == "syntone"
    assert by_path("data: {kind: folder}")["data.kind"].default is None
