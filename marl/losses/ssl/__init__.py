"""Self-supervised strategies, one a file: a loss, and the `Strategy` that describes what it needs of a model.

Every module here that defines a `Strategy` adds it to `STRATEGIES`.
"""

import inspect
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from marl.losses.ssl.strategy import Pairing, PairwiseLoss, Strategy, StrategyInputs, pairwise
from marl.registry import PluginError, Registry

__all__ = ["STRATEGIES", "Pairing", "PairwiseLoss", "Strategy", "StrategyInputs"]


def _adapt(name: str, found: Any) -> Strategy:
    if isinstance(found, Strategy):
        return replace(found, name=name)
    if isinstance(found, type) or not callable(found):
        raise PluginError(f"{name} must be a loss, a function of two views and their pairing, or a Strategy")
    try:
        inspect.signature(found).bind("first_BD", "second_BD", "pairing")
    except (TypeError, ValueError) as error:  # ValueError: a function of C without a signature
        raise PluginError(f"{name} must take three arguments, two views and their pairing: {error}") from None
    return pairwise(name, found)


_BUILTIN = {
    strategy.name: strategy
    for module in iter_modules(__path__)
    for strategy in vars(import_module(f"{__name__}.{module.name}")).values()
    if isinstance(strategy, Strategy)
}

STRATEGIES = Registry("a contrastive strategy", "marl_study.strategies", _BUILTIN, _adapt)
"""Strategies by `contrast.strategy`."""
