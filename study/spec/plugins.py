"""Plug-ins that a spec names: loaded for a new study, and for a stored one after a comparison of their sources.

Code is imported only where a user runs, resumes, evaluates or exports a study. Reading results imports none.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marl.data import KINDS
from marl.evaluation import PLUGIN_METRICS, metric_column
from marl.losses.ssl import STRATEGIES
from marl.models import NETWORKS
from marl.registry import (
    PluginError,
    PluginSource,
    Registry,
    add_folders,
    check_source,
    is_reference,
    loaded_source,
)
from study.errors import UserError, option
from study.spec.loader import Problem, SpecError
from study.spec.sampler_name import BUILTIN_SAMPLERS
from study.spec.samplers import SAMPLERS
from study.spec.schema import Spec

__all__ = ["load_plugins", "load_recorded", "plugin_sources"]


_BY_FIELD: Mapping[str, Registry[Any]] = {"contrast.strategy": STRATEGIES, "model.kind": NETWORKS}


def load_plugins(spec: Spec, folders: Iterable[Path] = ()) -> Spec:
    """Import the plug-ins of a spec, and return the spec with `module:name` in place of the names of entry points.

    Args:
        spec: Spec that the user gave.
        folders: Folders to import from, besides Python's path and the current folder.

    Raises:
        SpecError: If a plug-in is missing or does not fit. All such problems are in one error.
    """
    spec, problems = _with_canonical_names(spec)
    if references := list(_references(spec)):
        add_folders([*folders, Path()])
    for path, registry, name in references:
        try:
            registry.load(name)
        except PluginError as error:
            problems.append(Problem(path, str(error)))
    columns = [metric_column(name) for name in spec.metrics]
    if repeated := {column for column in columns if columns.count(column) > 1}:
        problems.append(
            Problem("metrics", f"must have different names, which are columns; got {', '.join(repeated)} twice")
        )
    if problems:
        raise SpecError(dict.fromkeys(problems))
    return spec


def load_recorded(spec: Spec, recorded: Iterable[Mapping[str, Any]], names: Iterable[str] | None = None) -> None:
    """Import the plug-ins of a stored study, after a comparison of their sources with the recorded ones.

    Args:
        spec: Spec of the study.
        recorded: Sources of the plug-ins when the study started, `StudyMetadata.plugins`.
        names: Plug-ins that the user permits; None for all of the study.

    Raises:
        UserError: If a plug-in is missing, cannot be imported, or has another source here. Then none is imported.
    """
    references = list(_references(spec))
    if names is not None:
        permitted, known = set(names), {name for _, _, name in references}
        if unknown := sorted(permitted - known):
            listed = ", ".join(sorted(known)) or "none"
            raise UserError(
                f"{option('plugins', flag='--plugin')}: must be a plug-in of study {spec.name!r} ({listed}); got "
                f"{', '.join(unknown)}"
            )
        references = [reference for reference in references if reference[2] in permitted]
    if not references:
        return
    add_folders([Path()])
    try:
        sources = [PluginSource.model_validate(source) for source in recorded]
        for _, _, name in references:
            check_source(name, sources, f"study {spec.name!r}")
        for _, registry, name in references:
            registry.load(name)
    except ValidationError:
        raise UserError(f"study {spec.name!r}: the record of its plug-ins is damaged") from None
    except PluginError as error:
        raise UserError(str(error)) from None


def plugin_sources(spec: Spec) -> tuple[PluginSource, ...]:
    """Return the sources of the plug-ins of a resolved spec, each module once."""
    sources = {source.module: source for source in (loaded_source(name) for _, _, name in _references(spec))}
    return tuple(sources[module] for module in sorted(sources))


def _references(spec: Spec) -> Iterator[tuple[str, Registry[Any], str]]:
    """Yield the plug-ins that a spec names, each with the path of its field and its registry."""
    named: list[tuple[str, Registry[Any], Any]] = [("data.kind", KINDS, spec.data.get("kind"))]
    for path, registry in _BY_FIELD.items():
        section, field = path.split(".")
        named.append((path, registry, getattr(spec, section).get(field)))
        parameter = spec.space.get(path)
        choices = parameter.choice or () if parameter is not None else ()
        named += [(f"space.{path}", registry, choice) for choice in choices]
    named += [("metrics", PLUGIN_METRICS, name) for name in spec.metrics]
    named.append(("search.sampler", SAMPLERS, spec.search.sampler))
    yield from (reference for reference in named if is_reference(reference[2]))


def _with_canonical_names(spec: Spec) -> tuple[Spec, list[Problem]]:
    """Return a spec without names of entry points, and the problems of names that do not exist.

    Other wrong names are left for the validation of their sections.
    """
    problems: list[Problem] = []

    def canonical(path: str, registry: Registry[Any], name: Any, others: Iterable[str] = ()) -> Any:
        try:
            return registry.canonical(name, others) if isinstance(name, str) else name
        except ValueError as error:
            if path in ("metrics", "search.sampler"):
                problems.append(Problem(path, str(error)))
            return name

    changes: dict[str, Any] = {
        "metrics": tuple(canonical("metrics", PLUGIN_METRICS, name) for name in spec.metrics),
        "search": spec.search.model_copy(
            update={"sampler": canonical("search.sampler", SAMPLERS, spec.search.sampler, BUILTIN_SAMPLERS)}
        ),
        "data": {**spec.data, "kind": canonical("data.kind", KINDS, spec.data["kind"])}
        if "kind" in spec.data
        else spec.data,
    }
    space = dict(spec.space)
    for path, registry in _BY_FIELD.items():
        section, field = path.split(".")
        if field in (fields := getattr(spec, section)):
            changes[section] = {**fields, field: canonical(path, registry, fields[field], ("none",))}
        if (parameter := space.get(path)) is not None and parameter.choice is not None:
            choice = tuple(canonical(path, registry, value, ("none",)) for value in parameter.choice)
            space[path] = parameter.model_copy(update={"choice": choice})
    return spec.model_copy(update={**changes, "space": space}), problems
