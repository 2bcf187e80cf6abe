"""The metrics of all models of a stack, computed in one batch on the device.

All lanes are computed whichever are asked for, so that a model's numbers do not depend on its neighbours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from marl.metrics.mig import mutual_information_gap
from marl.metrics.mutual_information import factor_entropy, mutual_information
from marl.metrics.probes import probe_accuracy
from marl.metrics.separation import separation
from marl.objective import term_names
from marl.stack import Stack

__all__ = ["HELD_OUT_CLIPS", "Evaluation", "evaluate", "held_out_clips", "information_metrics", "metric_names"]

HELD_OUT_CLIPS = 2048
"""Validation clips that metrics are computed on; probes are fitted on as many training clips."""

_SUBSPACES = ("private", "shared", "both")


def held_out_clips(stack: Stack) -> Tensor:
    """The validation clips that metrics are computed on."""
    return stack.dataset.splits["validation"][:HELD_OUT_CLIPS]


class Evaluation(NamedTuple):
    """Metrics of each lane by the names of the columns that they are stored under, and what they are computed on."""

    metrics: list[dict[str, float]]
    means_KND: Tensor


def metric_names(factors: Sequence[str]) -> list[str]:
    """Names of all metrics of a mature model; losses are stored beside them."""
    return [
        "fidelity/log_mel_rmse_db",
        "disentanglement/separation",
        "disentanglement/mig",
        *(f"probe/{factor}/{subspace}" for factor in factors for subspace in _SUBSPACES),
        *(f"nmi/{factor}/{subspace}" for factor in factors for subspace in ("private", "shared")),
    ]


@torch.no_grad()
def evaluate(stack: Stack, shared: Sequence[str], mature: bool) -> Evaluation:
    """Metrics of all lanes on the validation clips of `held_out_clips`.

    Args:
        stack: the models.
        shared: names of the factors that the views share.
        mature: whether to fit probes as well, which costs more than the rest together.
    """
    held_out = held_out_clips(stack)
    means_KND = stack.encode(held_out).mean
    rows = _losses(stack)
    rmse_K = stack.reconstruction_errors(held_out, means_KND).mean(dim=1).sqrt() * stack.dataset.audio.std_db
    for row, rmse in zip(rows, rmse_K.tolist(), strict=True):
        row["fidelity/log_mel_rmse_db"] = rmse
    # A diverged model has no representation; its lane is skipped by whoever reads the rows.
    finite_KND = means_KND.nan_to_num(0.0, 0.0, 0.0)
    private, names, classes_NC = (
        stack.network.architecture.private,
        stack.dataset.factor_names,
        stack.dataset.classes(held_out),
    )
    for row, scores in zip(
        rows, information_metrics(finite_KND, stack.mask_KD, private, classes_NC, names), strict=True
    ):
        row |= scores
    if mature:
        fit = stack.dataset.splits["training"][:HELD_OUT_CLIPS]
        with torch.enable_grad():
            _add_probes(rows, stack, shared, stack.encode(fit).mean.detach(), fit, means_KND, held_out)
    return Evaluation(rows, means_KND)


def information_metrics(
    latents_KND: Tensor, mask_KD: Tensor, private: int, classes_NC: Tensor, factors: Sequence[str]
) -> list[dict[str, float]]:
    """What single latents tell of the factors: the mutual information gap, and `nmi/*` of each subspace.

    Args:
        latents_KND: latents of the same clips by each model, finite.
        mask_KD: one for each latent that a model has, zero for padding.
        private: how many latents, from the first, are private.
        classes_NC: class of each clip by factor.
        factors: names of the factors.
    """
    information_KDC = mutual_information(latents_KND, classes_NC) * mask_KD[..., None]
    entropy_C = factor_entropy(classes_NC)
    rows = [{"disentanglement/mig": gap} for gap in mutual_information_gap(information_KDC, entropy_C).tolist()]
    for column, factor in enumerate(factors):
        entropy = float(entropy_C[column])
        for subspace, latents in (("private", slice(0, private)), ("shared", slice(private, None))):
            for row, largest in zip(rows, information_KDC[:, latents, column].amax(dim=1).tolist(), strict=True):
                row[f"nmi/{factor}/{subspace}"] = largest / entropy if entropy > 0 else 0.0
    return rows


def _losses(stack: Stack) -> list[dict[str, float]]:
    names = [f"loss/{name}" for name in term_names(stack.program)]
    return [dict(zip(names, terms, strict=True)) for terms in stack.held_out_terms().tolist()]


def _subspaces(stack: Stack) -> dict[str, slice]:
    private = stack.network.architecture.private
    return {"private": slice(0, private), "shared": slice(private, None), "both": slice(None)}


def _add_probes(
    rows: list[dict[str, float]],
    stack: Stack,
    shared: Sequence[str],
    fit_KND: Tensor,
    fit: Tensor,
    held_out_KND: Tensor,
    held_out: Tensor,
) -> None:
    subspaces = _subspaces(stack)
    masks_SD = torch.zeros(len(_SUBSPACES), stack.network.latents, device=fit_KND.device)
    for index, name in enumerate(_SUBSPACES):
        masks_SD[index, subspaces[name]] = 1

    def representations(latents_KND: Tensor) -> Tensor:
        finite = latents_KND.nan_to_num(0.0, 0.0, 0.0)
        return (finite[:, None] * masks_SD[:, None]).flatten(0, 1)

    classes = {factor.name: factor.classes for factor in stack.dataset.factors}
    accuracy_RC = probe_accuracy(
        representations(fit_KND),
        stack.dataset.classes(fit),
        representations(held_out_KND),
        stack.dataset.classes(held_out),
        list(classes.values()),
    )
    for row, accuracy_SC in zip(rows, accuracy_RC.unflatten(0, (len(rows), -1)).tolist(), strict=True):
        accuracy = {
            (factor, subspace): value
            for subspace, values in zip(_SUBSPACES, accuracy_SC, strict=True)
            for factor, value in zip(classes, values, strict=True)
        }
        row |= {f"probe/{factor}/{subspace}": value for (factor, subspace), value in accuracy.items()}
        row["disentanglement/separation"] = separation(accuracy, classes, frozenset(shared))
