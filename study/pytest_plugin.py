"""Options of `pytest --pyargs marl.testing`, which pytest reads before it collects tests. It imports no torch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: "pytest.Parser") -> None:
    """Add the options of the contract suite of plug-ins."""
    group = parser.getgroup("marl-study", "contract suite of plug-ins: pytest --pyargs marl.testing")
    group.addoption("--plugin", action="append", default=[], metavar="MODULE:NAME", help="plug-in; may be repeated")
    group.addoption("--options", default="{}", metavar="JSON", help="fields below `data` or `model` that it needs")


def pytest_configure(config: "pytest.Config") -> None:
    """Load the plug-ins, so that a wrong name is an error of usage."""
    if not config.getoption("--plugin"):
        return
    import pytest

    from marl.registry import add_folders
    from marl.testing import PLUGINS, load

    add_folders([Path()])
    try:
        options = json.loads(config.getoption("--options"))
        config.stash[PLUGINS] = tuple(load(name, options) for name in config.getoption("--plugin"))
    except json.JSONDecodeError as error:
        raise pytest.UsageError(f"--options must be JSON: {error}") from None
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
