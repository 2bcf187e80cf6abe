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
        folders = {Path(folder) for folder in sys.path if folder not in path}
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if name in registry._loaded or (file and Path(file).parent in folders):
                del sys.modules[name]
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
