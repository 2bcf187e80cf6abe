"""Selects the tests of the plug-ins that `--plugin` names."""

from pathlib import Path

import pytest

from marl.testing.cases import PLUGINS, Plugin

_KINDS = {"strategies": "strategy", "datasets": "dataset", "networks": "network", "metrics": "metric"}
_KINDS["samplers"] = "sampler"


def _plugins(config: pytest.Config) -> tuple[Plugin, ...]:
    return config.stash.get(PLUGINS, ())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests of kinds that no plug-in has; without `--plugin` there are none."""
    kind = _KINDS.get(collection_path.stem.removeprefix("test_"))
    return True if kind and kind not in {plugin.kind for plugin in _plugins(config)} else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a kind for each of its plug-ins."""
    if "plugin" in metafunc.fixturenames:
        kind = _KINDS[Path(metafunc.module.__file__).stem.removeprefix("test_")]
        chosen = [plugin for plugin in _plugins(metafunc.config) if plugin.kind == kind]
        metafunc.parametrize("plugin", chosen, ids=[plugin.name for plugin in chosen])
