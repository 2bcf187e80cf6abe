"""The JSON Schema of the spec accepts what the loader accepts, and rejects what an editor can find."""

import copy

import pytest
import yaml
from jsonschema import Draft7Validator

from study.spec.json_schema import spec_schema
from tests.study.commands import ROOT, TINY


def problems(content):
    return [error.message for error in Draft7Validator(spec_schema()).iter_errors(content)]


def changed(path, value):
    content = copy.deepcopy(TINY)
    *sections, field = path
    section = content
    for name in sections:
        section = section.setdefault(name, {})
    section[field] = value
    return content


def test_the_schema_is_one_of_draft_7():
    Draft7Validator.check_schema(spec_schema())


@pytest.mark.parametrize("path", sorted((ROOT / "study" / "ready").glob("*.yaml")), ids=lambda path: path.stem)
def test_it_accepts_the_ready_studies(path):
    assert problems(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["halving"], "none"),
        (["halving"], None),
        (["data"], {"kind": "folder", "path": "sounds", "factors": ["singer"]}),
        (["data"], {"frequencies": 40}),
        (["space", "contrast.strategy"], {"choice": ["none"]}),
        (["space", "latent.private"], {"int": [2, 8], "when": {"contrast.strategy": ["infonce"]}}),
        (["resources", "compile"], True),
    ],
)
def test_it_accepts_a_field(path, value):
    assert problems(changed(path, value)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["trails"], 3),
        (["name"], "../other"),
        (["replicates"], 0),
        (["train", "batch_pairs"], 40),
        (["train", "step"], 100),
        (["search", "sampler"], "bayes"),
        (["halving"], "on"),
        (["halving"], {"reduction_factor": 1}),
        (["resources", "lanes"], "many"),
        (["contrast", "strategy"], "info_nce"),
        (["model", "kind"], "transformer"),
        (["loss", "private"], {"delta": 1}),
        (["audio"], {"floor_db": 3}),
        (["data"], {"kind": "piano"}),
        (["data"], {"path": "sounds", "factors": ["singer"]}),
        (["data"], {"kind": "folder", "path": "sounds"}),
        (["data"], {"kind": "phrases", "melodies": ["scale up", "scale left"]}),
        (["space", "loss.private.delta"], {"choice": [1]}),
        (["space", "views.shared"], {"choice": ["timbre"]}),
        (["space", "contrast.strategy"], {"choice": ["info_nce"]}),
        (["space", "contrast.strategy"], {"uniform": [0, 1]}),
        (["space", "latent.private"], {"log_uniform": [2, 8]}),
        (["space", "loss.private.gamma"], {"uniform": [0, 1], "log_uniform": [1, 2]}),
        (["space", "loss.private.gamma"], {}),
        (["objectives"], {"disentanglement/separation": "maximize"}),
    ],
)
def test_it_rejects_a_mistake(path, value):
    assert problems(changed(path, value))


def test_a_spec_needs_name_data_and_space():
    assert len(problems({})) == 3


def test_every_field_and_parameter_has_a_description():
    properties = spec_schema()["properties"]
    for fields in (properties, properties["space"]["properties"]):
        assert [name for name, field in fields.items() if not field["description"].endswith(".")] == []
