"""Evaluation: which metrics are computed, from what, and when.

During training the metrics of many models are computed together, for intermediate and for final reports: on the device,
except the classifiers of SAP, explicitness and the beta-VAE score, which scikit-learn fits on the processor.
`marl.evaluation.post_training` has the metrics that are computed after training, for single models.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from marl.evaluation.context import FIT_CLIPS, HELD_OUT_CLIPS, EvaluationContext, held_out_clips
from marl.evaluation.metric_groups import (
    FINAL,
    INTERMEDIATE,
    METRIC_GROUPS,
    RESCORABLE,
    information_columns,
)
from marl.evaluation.names import PLUGIN_METRICS, Metric, groups_with, metric_column, metric_group, metric_names
from marl.stack.batched_models import Models

__all__ = [
    "FINAL",
    "FIT_CLIPS",
    "HELD_OUT_CLIPS",
    "INTERMEDIATE",
    "METRIC_GROUPS",
    "PLUGIN_METRICS",
    "RESCORABLE",
    "Evaluation",
    "EvaluationContext",
    "Metric",
    "evaluate",
    "groups_with",
    "held_out_clips",
    "information_columns",
    "metric_column",
    "metric_group",
    "metric_names",
]


class Evaluation(NamedTuple):
    """Metrics of each model, by name of the column, and its posterior means of the held-out clips."""

    metrics: list[dict[str, float]]
    means_KND: Tensor


@torch.no_grad()
def evaluate(
    models: Models, shared: Sequence[str], metric_groups: Sequence[str], split: str = "validation"
) -> Evaluation:
    """Return metrics of all models on the clips of `held_out_clips`.

    Args:
        models: Models of one architecture.
        shared: Names of the factors that the views share.
        metric_groups: Names of groups, see `metric_group`.
        split: `validation` or `test`.
    """
    context = EvaluationContext(models, shared, split)
    columns = {
        name: values_K.tolist()
        for group in metric_groups
        for name, values_K in metric_group(group).compute(context).items()
    }
    rows = [{name: values[model] for name, values in columns.items()} for model in range(len(models))]
    return Evaluation(rows, context.held_out.means_KND)
