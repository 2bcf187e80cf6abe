"""Evaluation: which metrics are computed, from what, and when.

During training a stack computes the metrics of many models in one batch on the device, for intermediate and for final
reports. `marl.evaluation.post_training` has the metrics that are computed after training, for single models.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from marl.evaluation.context import HELD_OUT_CLIPS, SUBSPACES, EvaluationContext, held_out_clips
from marl.evaluation.metric_groups import (
    FINAL,
    INTERMEDIATE,
    METRIC_GROUPS,
    RESCORABLE,
    information_metrics,
    metric_names,
)
from marl.stack.batched_models import Models

__all__ = [
    "FINAL",
    "HELD_OUT_CLIPS",
    "INTERMEDIATE",
    "METRIC_GROUPS",
    "RESCORABLE",
    "SUBSPACES",
    "Evaluation",
    "evaluate",
    "held_out_clips",
    "information_metrics",
    "metric_names",
]


class Evaluation(NamedTuple):
    """Result of `evaluate`.

    Attributes:
        metrics: Metrics of each model, by name of the column.
        means_KND: Posterior means of the held-out clips by each model.
    """

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
        metric_groups: Keys of `METRIC_GROUPS`.
        split: Split of the held-out clips, `validation` or `test`.
    """
    context = EvaluationContext(models, shared, split)
    rows: list[dict[str, float]] = [{} for _ in range(len(models))]
    for group in metric_groups:
        for name, values_K in METRIC_GROUPS[group].compute(context).items():
            for row, value in zip(rows, values_K.tolist(), strict=True):
                row[name] = value
    return Evaluation(rows, context.held_out.means_KND)
