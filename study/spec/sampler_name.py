"""Names of samplers, `search.sampler` of a spec. This module imports no torch, so that a study is read quickly."""

from importlib.metadata import entry_points
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from study.spec.names import PLUGIN_SCHEMA

__all__ = ["BUILTIN_SAMPLERS", "SAMPLER_ENTRY_POINTS", "SamplerName"]

BUILTIN_SAMPLERS = ("tpe", "nsga2", "gp", "qmc", "random", "grid")
SAMPLER_ENTRY_POINTS = "marl_study.samplers"
"""Group of entry points that name samplers of plug-ins."""


def _check_sampler(name: str) -> str:
    if name in BUILTIN_SAMPLERS or ":" in name or name in entry_points(group=SAMPLER_ENTRY_POINTS).names:
        return name
    known = ", ".join(map(repr, BUILTIN_SAMPLERS))
    raise ValueError(f"must be one of {known}, or a plug-in such as my_module:name; got {name!r}")


_SCHEMA = {"type": "string", "anyOf": [{"type": "string", "enum": list(BUILTIN_SAMPLERS)}, PLUGIN_SCHEMA]}

SamplerName = Annotated[str, AfterValidator(_check_sampler), WithJsonSchema(_SCHEMA)]
"""Name of a built-in sampler, a plug-in, or an entry point."""
