"""JSON Schema of the spec, by which editors complete and check the fields of a YAML file.

It has the sections that configure marl, and a property of the space for each parameter. It is of draft 7, which all
editors read. Rules between several fields are not in it; `study.spec.resolve.resolve` checks them.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from marl.audio import AudioConfig
from marl.config import Config
from marl.data import KINDS
from marl.losses.ssl import STRATEGIES
from marl.models import NETWORKS
from study.spec.docstrings import field_docstrings
from study.spec.names import PLUGIN_SCHEMA
from study.spec.schema import DEFAULT_DATA_KIND, Spec
from study.spec.space import Parameter

__all__ = ["definition", "leaves", "spec_schema"]

_Schema = dict[str, Any]

_DRAFT = "http://json-schema.org/draft-07/schema#"
# Choices of fields whose type is any text, beside plug-ins.
_CHOICES = {"contrast.strategy": ["none", *STRATEGIES], "model.kind": [*NETWORKS]}
# Ranges that a parameter can have beside a choice, by the type of the field.
_RANGES_OF_TYPE = {"integer": ["int"], "number": ["uniform", "log_uniform", "int"]}


@cache
def spec_schema() -> _Schema:
    """Return the JSON Schema of the spec, which must not be changed."""
    models = list(dict.fromkeys(_with_sections(Spec, AudioConfig, Config, Parameter, *KINDS.values())))
    keys, content = models_json_schema([(model, "validation") for model in models])
    references = {model: keys[model, "validation"] for model in models}
    for model in models:
        for name, text in field_docstrings(model).items():
            definition(references[model], content["$defs"])["properties"][name]["description"] = text
    definitions = _simplified(content["$defs"])
    spec, config = (definitions.pop(_name(references[model])) for model in (Spec, Config))
    sections = {"audio": references[AudioConfig], **config["properties"]}
    for name, section in sections.items():
        spec["properties"][name] = {"$ref": section["$ref"], "description": spec["properties"][name]["description"]}
    for path, choices in _CHOICES.items():
        name, field = path.split(".")
        alternatives = [{"type": "string", "enum": choices}, PLUGIN_SCHEMA]
        definition(sections[name], definitions)["properties"][field]["anyOf"] = alternatives
    for kind, model in KINDS.items():
        if kind != DEFAULT_DATA_KIND:
            definition(references[model], definitions).setdefault("required", []).append("kind")
    data = spec["properties"]["data"]
    spec["properties"]["data"] = {
        "description": data["description"],
        "anyOf": [
            *(references[model] for model in KINDS.values()),
            {"type": "object", "properties": {"kind": PLUGIN_SCHEMA}, "required": ["kind"]},
        ],
    }
    # A network of a plug-in has its own fields.
    definition(sections["model"], definitions)["additionalProperties"] = True
    when = definition(references[Parameter], definitions)["properties"]["when"]
    values = when["additionalProperties"]
    when["additionalProperties"] = {"anyOf": [values, values["items"]]}  # a single value needs no list
    space = {
        path: _parameter(field, references[Parameter])
        for path, field in leaves(config["properties"], definitions)
        if field.get("type") != "array"
    }
    spec["properties"]["space"] |= {
        "additionalProperties": False,
        "properties": space,
        "patternProperties": {r"^model\.": references[Parameter]},
    }
    return {"$schema": _DRAFT, "title": "Spec of marl-study", **spec, "$defs": definitions}


def _with_sections(*models: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the models, and the models of the sections in them."""
    for model in models:
        yield model
        for field in model.model_fields.values():
            for type_ in (field.annotation, *get_args(field.annotation)):
                if isinstance(type_, type) and issubclass(type_, BaseModel):
                    yield from _with_sections(type_)


def definition(schema: _Schema, definitions: _Schema) -> _Schema:
    """Return the definition that a schema refers to, or the schema itself."""
    found: _Schema = definitions[_name(schema)] if "$ref" in schema else schema
    return found


def leaves(properties: _Schema, definitions: _Schema, prefix: Sequence[str] = ()) -> Iterator[tuple[str, _Schema]]:
    """Yield the path and the schema of each field that is not a section."""
    for name, schema in properties.items():
        section = definition(schema, definitions)
        if "properties" in section:
            yield from leaves(section["properties"], definitions, (*prefix, name))
        else:
            yield ".".join((*prefix, name)), schema


def _name(reference: _Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _parameter(field: _Schema, parameter: _Schema) -> _Schema:
    """Return the schema of a parameter of the space: a choice of values of its field, or a range of its type."""
    value = {key: rule for key, rule in field.items() if key not in ("description", "default")}
    ranges = _RANGES_OF_TYPE.get(field["type"], [])
    return {
        "description": field["description"],
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "choice": {"type": "array", "minItems": 1, "items": value},
            **{name: {"$ref": f"{parameter['$ref']}/properties/{name}"} for name in (*ranges, "when")},
        },
        "oneOf": [{"required": [name]} for name in ("choice", *ranges)],
    }


def _simplified(schema: Any) -> Any:
    """Return a schema without titles, with descriptions of one line, and with lists as draft 7 describes them.

    Sections have no default: their fields have.
    """
    if isinstance(schema, list):
        return [_simplified(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    simplified = {key: _simplified(value) for key, value in schema.items()}
    if isinstance(simplified.get("title"), str):
        del simplified["title"]
    if isinstance(text := simplified.get("description"), str):
        simplified["description"] = " ".join(text.partition("\n\n")[0].split())
    if "$ref" in simplified:
        simplified.pop("default", None)
    if "prefixItems" in simplified:  # all lists of a fixed length have values of one type
        simplified["items"] = simplified.pop("prefixItems")[0]
    return simplified
