"""Reference of the spec: every field with type, default, allowed values and meaning, from the models alone."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from marl.data import KINDS
from study.spec.json_schema import definition, spec_schema
from study.spec.names import PLUGIN_SCHEMA

__all__ = ["FieldReference", "spec_fields"]

_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
}
_SCALARS = ["boolean", "integer", "number", "string"]
_RULES = {
    "minimum": "at least {}",
    "exclusiveMinimum": "greater than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
}


class FieldReference(NamedTuple):
    """Description of one field of the spec.

    Attributes:
        section: Heading of the fields that belong together, such as `train` or `data: {kind: folder}`; empty for the
            fields of the spec itself.
        path: Path of the field, such as `train.steps`. `<parameter>` stands for a parameter of the space.
        type: Type in words, `section` for a field that has fields.
        default: Default as YAML; `None` if the field is required.
        allowed: Choices or range; empty if the type allows any value.
        meaning: One or more sentences. A field that is newer than version 0.1 ends with the version that added it.
    """

    section: str
    path: str
    type: str
    default: str | None
    allowed: str
    meaning: str


def spec_fields() -> list[FieldReference]:
    """Return all fields: first the fields of the spec itself, then the fields of each section."""
    schema = spec_schema()
    definitions = schema["$defs"]
    own = list(_fields(schema, definitions, section="", prefix=""))
    sections: list[tuple[str, str, dict[str, Any]]] = []
    for name, field in schema["properties"].items():
        if name == "data":
            *references, _ = field["anyOf"]  # the last one is a plug-in
            kinds = zip(KINDS, references, strict=True)
            sections += [(f"data: {{kind: {kind}}}", "data", reference) for kind, reference in kinds]
        elif name == "space":
            sections.append(("space", "space.<parameter>", definitions["Parameter"]))
        elif (section := _section(field, definitions)) is not None:
            sections.append((name, name, section))
    for heading, prefix, section in sections:
        own += _all_fields(definition(section, definitions), definitions, heading, prefix)
    return own


def _all_fields(
    section: dict[str, Any], definitions: dict[str, Any], heading: str, prefix: str
) -> Iterator[FieldReference]:
    """Yield the fields of a section, each followed by its own fields."""
    for field in _fields(section, definitions, heading, f"{prefix}."):
        yield field
        inner = _section(section["properties"][field.path.rpartition(".")[2]], definitions)
        if inner is not None:
            yield from _all_fields(inner, definitions, heading, field.path)


def _fields(schema: dict[str, Any], definitions: dict[str, Any], section: str, prefix: str) -> Iterator[FieldReference]:
    """Yield the fields of one section, without the fields of sections in it."""
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        is_section = name in ("data", "space") or _section(field, definitions) is not None
        default = None
        if name not in required:
            default = "" if is_section and "default" not in field else _yaml(field["default"])
        yield FieldReference(
            section,
            f"{prefix}{name}",
            "section" if is_section else _type(field),
            default,
            _allowed(field),
            field.get("description", ""),
        )


def _section(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a section; None for another field. A section that may be left out is an alternative."""
    for alternative in (field, *field.get("anyOf", ())):
        found = definition(alternative, definitions)
        if "$ref" in alternative and "properties" in found:
            return found
    return None


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        names = [alternative.get("type") for alternative in field["anyOf"]]
        if names == _SCALARS:
            return "scalar"
        return " or ".join(dict.fromkeys(_type(alternative) for alternative in field["anyOf"]))
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}s"
    return _TYPES[field["type"]]


def _allowed(field: dict[str, Any]) -> str:
    """Return the choices or the range of a field in words."""
    if field == PLUGIN_SCHEMA:
        return "a plug-in, `module:name`"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if "anyOf" in field:
        return "; ".join(filter(None, (_allowed(alternative) for alternative in field["anyOf"])))
    words = [rule.format(f"{field[key]:,}") for key, rule in _RULES.items() if key in field]
    if field.get("type") == "array":
        least, most = field.get("minItems", 0), field.get("maxItems")
        if most is not None:
            words.append(f"{most} values")
        elif least:
            words.append(f"at least {least} value{'s' if least > 1 else ''}")
        if values := _allowed(field["items"]):
            words.append(f"each {values}" if "enum" not in field["items"] else values)
    return ", ".join(words)


def _yaml(value: Any) -> str:
    """Return a default as a spec has it."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
