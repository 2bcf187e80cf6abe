"""The metrics of models side by side, computed in one batch on the device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from marl.evaluation.context import HELD_OUT_CLIPS, SUBSPACES, Subject, held_out_clips
from marl.evaluation.measures import MATURE, MEASURES, OF_WEIGHTS, YOUNG, information_metrics, is_young, metric_names
from marl.stack.batched_models import Models

__all__ = [
    "HELD_OUT_CLIPS",
    "MATURE",
    "MEASURES",
    "OF_WEIGHTS",
    "SUBSPACES",
    "YOUNG",
    "Evaluation",
    "evaluate",
    "held_out_clips",
    "information_metrics",
    "is_young",
    "metric_names",
]


class Evaluation(NamedTuple):
    """Metrics of each model by the names of the columns that they are stored under, and what they are computed on."""

    metrics: list[dict[str, float]]
    means_KND: Tensor


@torch.no_grad()
def evaluate(models: Models, shared: Sequence[str], measures: Sequence[str], split: str = "validation") -> Evaluation:
    """Metrics of all models on the clips of `held_out_clips`.

    Args:
        models: of one architecture.
        shared: names of the factors that the views share.
        measures: names of what is measured, of `MEASURES`.
        split: whose clips are held out; `validation` or `test`.
    """
    subject = Subject(models, shared, split)
    rows: list[dict[str, float]] = [{} for _ in range(len(models))]
    for measure in measures:
        for name, values_K in MEASURES[measure](subject).items():
            for row, value in zip(rows, values_K.tolist(), strict=True):
                row[name] = value
    return Evaluation(rows, subject.held_out.means_KND)
