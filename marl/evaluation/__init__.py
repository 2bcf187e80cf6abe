"""The metrics of models side by side, computed in one batch on the device."""

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
    is_intermediate,
    metric_names,
)
from marl.stack.batched_models import Models

__all__ = [
    "HELD_OUT_CLIPS",
    "FINAL",
    "METRIC_GROUPS",
    "RESCORABLE",
    "SUBSPACES",
    "INTERMEDIATE",
    "Evaluation",
    "evaluate",
    "held_out_clips",
    "information_metrics",
    "is_intermediate",
    "metric_names",
]


class Evaluation(NamedTuple):
    """Metrics of each model by the names of the columns that they are stored under, and what they are computed on."""

    metrics: list[dict[str, float]]
    means_KND: Tensor


@torch.no_grad()
def evaluate(
    models: Models, shared: Sequence[str], metric_groups: Sequence[str], split: str = "validation"
) -> Evaluation:
    """Metrics of all models on the clips of `held_out_clips`.

    Args:
        models: of one architecture.
        shared: names of the factors that the views share.
        metric_groups: names of what is measured, of `METRIC_GROUPS`.
        split: whose clips are held out; `validation` or `test`.
    """
    context = EvaluationContext(models, shared, split)
    rows: list[dict[str, float]] = [{} for _ in range(len(models))]
    for metric_group in metric_groups:
        for name, values_K in METRIC_GROUPS[metric_group](context).items():
            for row, value in zip(rows, values_K.tolist(), strict=True):
                row[name] = value
    return Evaluation(rows, context.held_out.means_KND)
