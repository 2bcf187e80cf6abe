"""Modules of plug-ins that tests write, and their removal from the process."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from marl import registry
from marl.data import KINDS
from marl.evaluation import PLUGIN_METRICS
from marl.losses.ssl import STRATEGIES
from marl.models import NETWORKS
from study.spec.samplers import SAMPLERS

EXAMPLES = Path(__file__).parents[1] / "examples" / "plugins"

LOSS = """
import torch

def loss(first_BD, second_BD, pairing):
    return (first_BD - second_BD).square().sum(dim=1).mean()

class NotALoss: ...
"""


@contextmanager
def forgetting_plugins() -> Iterator[None]:
    """Unload the modules and plug-ins that the block loads."""
    registries = (KINDS, NETWORKS, STRATEGIES, PLUGIN_METRICS, SAMPLERS)
    modules, path, sources = set(sys.modules), list(sys.path), dict(registry._loaded)
    before = [dict(one._plugins) for one in registries]
    try:
        yield
    finally:
        for module in set(sys.modules) - modules:
            if str(getattr(sys.modules[module], "__file__", "") or "").find("pytest-of-") >= 0:
                del sys.modules[module]
        sys.path[:] = path
        registry._loaded.clear()
        registry._loaded.update(sources)
        for one, plugins in zip(registries, before, strict=True):
            one._plugins.clear()
            one._plugins.update(plugins)


def writer_of(folder: Path) -> Callable[[str, str], Path]:
    """Return a function that writes a module to a folder on Python's path."""
    sys.path.append(str(folder))

    def write(name: str, source: str = LOSS) -> Path:
        path = folder / f"{name}.py"
        path.write_text(source)
        return path

    return write
