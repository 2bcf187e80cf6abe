"""Registries of components by name, and plug-ins: components in modules outside of this package.

A plug-in has the name `module:attribute`, such as `my_losses:ring_loss`. An installed package can also give it a plain
name by an entry point. Looking a name up imports nothing, so that no configuration that is read from a file runs code.
`Registry.load` imports the module of a plug-in; a caller that has a record of its source compares the two first, by
`check_source`.
"""

import hashlib
import importlib
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points, packages_distributions, version
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import Field

from marl.base_config import BaseConfig

__all__ = ["PluginError", "PluginSource", "Registry", "add_folders", "check_source", "find_source", "is_reference"]
__all__ += ["loaded_source", "locate", "uninstalled_plugins"]

_Component = TypeVar("_Component")

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_SHOWN_DIGITS = 12


class PluginError(ValueError):
    """A plug-in cannot be used. The message says why, and what to do."""


class PluginSource(BaseConfig):
    """Source of plug-ins, which studies and exported models record.

    Attributes:
        module: Name of the module; of the outermost package if the module is in a package.
        version: Version of the installed distribution; None for a file that is not part of one.
        sha256: SHA-256 of the file, or of the names and contents of all Python files of the package.
    """

    module: str
    version: str | None = None
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    def __str__(self) -> str:
        """Return version and first digits of the hash, for messages."""
        prefix = f"version {self.version}, " if self.version else ""
        return f"{prefix}sha256 {self.sha256[:_SHOWN_DIGITS]}…"


# Sources of the modules that this process imported as plug-ins.
_loaded: dict[str, PluginSource] = {}


class Registry(Mapping[str, _Component], Generic[_Component]):
    """Built-in components, and the plug-ins that this process has loaded, by name.

    Args:
        what: What a component is, for messages: `a contrastive strategy`.
        group: Group of the entry points that name plug-ins, such as `marl_study.strategies`.
        builtin: Components of this package.
        adapt: Returns the component of a plug-in, given its name and the object in its module. It raises PluginError if
            the object is no such component.
    """

    def __init__(
        self,
        what: str,
        group: str,
        builtin: Mapping[str, _Component],
        adapt: Callable[[str, Any], _Component],
    ) -> None:
        self.what, self.group = what, group
        self._builtin, self._adapt = dict(builtin), adapt
        self._plugins: dict[str, _Component] = {}

    def __getitem__(self, name: str) -> _Component:
        """Return a component; raise PluginError for a plug-in that is not loaded, and KeyError for another name."""
        if name in self:
            return self._builtin[name] if name in self._builtin else self._plugins[name]
        if is_reference(name):
            raise PluginError(
                f"the plug-in {name} is not loaded; reading imports no code, unless you name it: --plugin {name}"
            )
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._plugins

    def __iter__(self) -> Iterator[str]:
        return iter((*self._builtin, *self._plugins))

    def __len__(self) -> int:
        return len(self._builtin) + len(self._plugins)

    def canonical(self, name: str, others: Iterable[str] = ()) -> str:
        """Return the name of a built-in component, or `module:attribute` for a plug-in. Nothing is imported.

        Args:
            name: Name of a component, or of an entry point.
            others: Further valid names.

        Raises:
            ValueError: If there is no such name.
        """
        if name in self._builtin or name in others or is_reference(name):
            return name
        for entry in entry_points(group=self.group, name=name):
            return f"{entry.module}:{entry.attr}"
        known = ", ".join(map(repr, (*others, *self._builtin)))
        names = f"one of {known}, or a plug-in" if known else "a plug-in"
        raise ValueError(f"must be {names} such as my_module:name; got {name!r}")

    def load(self, name: str) -> _Component:
        """Import the module of a plug-in and return its component. Built-in components are returned as they are.

        Raises:
            PluginError: If there is no such plug-in, its module cannot be imported, or the module was imported from
                another source before.
        """
        if name in self._builtin:
            return self._builtin[name]
        module, _, attribute = name.partition(":")
        source = find_source(name)
        if (before := _loaded.get(source.module)) is not None and before.sha256 != source.sha256:
            raise PluginError(f"{source.module} has changed since this process imported it; start a new process")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except AttributeError:
            raise PluginError(f"the module {module} has no {attribute}") from None
        except Exception as error:  # of any kind: the module is the user's
            raise PluginError(f"importing {module} failed: {type(error).__name__}: {error}") from error
        self._plugins[name] = self._adapt(name, found)
        _loaded[source.module] = source
        return self._plugins[name]


def is_reference(name: object) -> bool:
    """Return whether a name has the form of a plug-in, `module:attribute`."""
    return isinstance(name, str) and _REFERENCE.fullmatch(name) is not None


def add_folders(folders: Iterable[Path]) -> None:
    """Let this process import from folders. They come last, so that no file there hides an installed module."""
    for folder in map(str, (folder.resolve() for folder in folders)):
        if folder not in sys.path:
            sys.path.append(folder)


def find_source(reference: str) -> PluginSource:
    """Return the source of a plug-in as it is installed here. Nothing is imported.

    Raises:
        PluginError: If there is no such module, or it has no source.
    """
    module = reference.partition(":")[0].partition(".")[0]
    path = locate(module)
    content = hashlib.sha256()
    if path.is_file():
        content.update(path.read_bytes())
    else:
        for file in sorted(path.rglob("*.py")):
            content.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n".encode() + file.read_bytes())
    return PluginSource(module=module, version=_version(module), sha256=content.hexdigest())


def check_source(reference: str, recorded: Iterable[PluginSource], where: str) -> None:
    """Raise PluginError unless a plug-in has the source that was recorded. Nothing is imported.

    Args:
        reference: Name of the plug-in.
        recorded: Sources that `where` records.
        where: What recorded the source, for messages: `study 'rings'`.
    """
    here = find_source(reference)
    there = next((source for source in recorded if source.module == here.module), None)
    if there is None:
        raise PluginError(f"{where} names the plug-in {reference} without a record of its source, so it is not loaded")
    if there.sha256 != here.sha256:
        raise PluginError(
            f"{where} was made with another source of the plug-in {reference}: {here.module} had {there}, and has "
            f"{here} on {platform.node()}; restore the earlier source"
        )


def loaded_source(reference: str) -> PluginSource:
    """Return the source of a plug-in that this process has loaded."""
    return _loaded[reference.partition(":")[0].partition(".")[0]]


def uninstalled_plugins() -> list[Path]:
    """Return the files and packages of loaded plug-ins that are outside of installed distributions."""
    return [locate(source.module) for source in _loaded.values() if source.version is None]


def locate(module: str) -> Path:
    """Return the file of a module, or the folder of a package. Nothing is imported.

    Raises:
        PluginError: If there is no such module, or it has no source.
    """
    if module in sys.stdlib_module_names:
        raise PluginError(f"a plug-in cannot be in Python's own module {module}")
    importlib.invalidate_caches()
    fresh = PathFinder.find_spec(module)
    imported = getattr(sys.modules.get(module), "__spec__", None)
    if fresh is not None and imported is not None and _path(fresh) != _path(imported):
        raise PluginError(
            f"this process imported {module} from {_path(imported)}, not from {_path(fresh)}; start a new process, or "
            "rename one of them"
        )
    spec = fresh or importlib.util.find_spec(module)
    if spec is None:
        raise PluginError(
            f"there is no module {module} on {platform.node()}; install its package, or put {module}.py beside the "
            "spec or into the current folder"
        )
    if (path := _path(spec)) is None:
        raise PluginError(f"the module {module} has no Python source that could be recorded")
    return path


def _path(spec: ModuleSpec) -> Path | None:
    """Return the file of a module or the folder of a package; None for a module without source."""
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin and spec.origin.endswith(".py") else None


def _version(module: str) -> str | None:
    distributions = packages_distributions().get(module)
    return version(distributions[0]) if distributions else None
