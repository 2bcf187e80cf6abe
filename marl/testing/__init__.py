"""Contract suite of plug-ins: `pytest --pyargs marl.testing --plugin my_losses:ring_loss`.

A module is found where Python finds it, or in the current folder. `--options` takes the fields below `data` or `model`
that a data set or a network needs, as JSON. Each kind of plug-in has one file of tests.
"""

from marl.testing.cases import PLUGINS, Case, Plugin, kind_of, load

__all__ = ["PLUGINS", "Case", "Plugin", "kind_of", "load"]
