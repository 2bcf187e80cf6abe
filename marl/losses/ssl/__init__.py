"""Self-supervised strategies, one a file: a loss, and the `Strategy` that describes what it needs of a model.

Every module here that defines a `Strategy` adds it to `STRATEGIES`.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from marl.losses.ssl.strategy import Pairing, Strategy, StrategyInputs

__all__ = ["STRATEGIES", "Pairing", "Strategy", "StrategyInputs"]

STRATEGIES: Mapping[str, Strategy] = {
    strategy.name: strategy
    for module in iter_modules(__path__)
    for strategy in vars(import_module(f"{__name__}.{module.name}")).values()
    if isinstance(strategy, Strategy)
}
"""Strategies by `contrast.strategy`."""
