"""Names of metrics, and metrics of plug-ins, each of which is a group with one column."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from torch import Tensor

from marl.evaluation.context import EvaluationContext
from marl.evaluation.metric_groups import FINAL, METRIC_GROUPS, Columns, MetricGroup
from marl.registry import PluginError, Registry

__all__ = ["PLUGIN_METRICS", "Metric", "groups_with", "metric_column", "metric_group", "metric_names"]


class Metric(Protocol):
    """A metric of models that are evaluated together: a function is enough.

    K is models, N held-out clips, D latents, C factors. `context.held_out.means_KND` are the latents, private ones
    first, zero where `context.models.mask_KD` is zero; `context.held_out.classes_NC` are the classes of the clips, and
    `context.factors` the number of classes of each factor by name. A metric may be the objective of a study. It is
    finite, and the value of a model depends neither on the other models nor on chance.
    """

    def __call__(self, context: EvaluationContext) -> Tensor:
        """Return the value of each model, [K]."""


def metric_column(name: str) -> str:
    """Return the column of a plug-in metric: `custom/gini` for `my_metrics:gini`."""
    return f"custom/{name.partition(':')[2]}"


def _adapt(name: str, found: Any) -> MetricGroup:
    if isinstance(found, type) or not callable(found):
        raise PluginError(f"{name} must be a metric, a function of an EvaluationContext")

    def compute(context: EvaluationContext) -> Columns:
        values_K, models = found(context), len(context.models)
        if not isinstance(values_K, Tensor) or values_K.shape != (models,):
            shape = list(values_K.shape) if isinstance(values_K, Tensor) else type(values_K).__name__
            raise PluginError(f"{name} must return a tensor [{models}], one value for each model; got {shape}")
        return {metric_column(name): values_K}

    return MetricGroup(compute, (metric_column(name),))


PLUGIN_METRICS = Registry[MetricGroup]("a metric", "marl_study.metrics", {}, _adapt)
"""Metrics of plug-ins that this process has loaded."""


def metric_group(name: str) -> MetricGroup:
    """Return a group of `METRIC_GROUPS`, or the group of a plug-in metric."""
    return METRIC_GROUPS[name] if name in METRIC_GROUPS else PLUGIN_METRICS[name]


def metric_names(factors: Sequence[str], groups: Sequence[str] = FINAL) -> list[str]:
    """Return the names of the metrics that a study may choose as objectives.

    Args:
        factors: Names of the factors of the data.
        groups: Names of groups, see `metric_group`.
    """
    names = [name for group in groups for name in metric_group(group).names]
    return [name.format(factor=factor) for name in names for factor in (factors if "{factor}" in name else [""])]


def groups_with(
    metrics: Collection[str], factors: Sequence[str], groups: Sequence[str] = tuple(METRIC_GROUPS)
) -> tuple[str, ...]:
    """Return the groups that have at least one of these metrics."""
    return tuple(group for group in groups if not set(metrics).isdisjoint(metric_names(factors, [group])))
