"""The metrics of models side by side, computed in one batch on the device."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from marl.metrics.linear_probes import linear_probe_accuracy
from marl.metrics.mig import mutual_information_gap
from marl.metrics.mutual_information import factor_entropy, mutual_information
from marl.metrics.probes import probe_accuracy
from marl.metrics.separation import separation
from marl.models import Models
from marl.objective import term_names

__all__ = ["HELD_OUT_CLIPS", "Evaluation", "evaluate", "held_out_clips", "information_metrics", "metric_names"]

HELD_OUT_CLIPS = 2048
"""Validation clips that metrics are computed on; probes of either kind are fitted on as many training clips."""

_SUBSPACES = ("private", "shared", "both")


def held_out_clips(models: Models) -> Tensor:
    """The validation clips that metrics are computed on."""
    return models.dataset.splits["validation"][:HELD_OUT_CLIPS]


class Evaluation(NamedTuple):
    """Metrics of each model by the names of the columns that they are stored under, and what they are computed on."""

    metrics: list[dict[str, float]]
    means_KND: Tensor


def metric_names(factors: Sequence[str]) -> list[str]:
    """Names of all metrics of a mature model; losses are stored beside them."""
    return [
        "fidelity/log_mel_rmse_db",
        "disentanglement/separation",
        "disentanglement/linear_separation",
        "disentanglement/mig",
        *(f"probe/{factor}/{subspace}" for factor in factors for subspace in _SUBSPACES),
        *(f"linear_probe/{factor}/{subspace}" for factor in factors for subspace in _SUBSPACES),
        *(f"nmi/{factor}/{subspace}" for factor in factors for subspace in ("private", "shared")),
    ]


@torch.no_grad()
def evaluate(models: Models, shared: Sequence[str], mature: bool) -> Evaluation:
    """Metrics of all models on the validation clips of `held_out_clips`.

    Args:
        models: of one architecture.
        shared: names of the factors that the views share.
        mature: whether to fit small networks as probes as well, which costs more than the rest together.
    """
    held_out = held_out_clips(models)
    means_KND = models.encode(held_out).mean
    rows = _losses(models)
    rmse_K = models.reconstruction_errors(held_out, means_KND).mean(dim=1).sqrt() * models.dataset.audio.std_db
    for row, rmse in zip(rows, rmse_K.tolist(), strict=True):
        row["fidelity/log_mel_rmse_db"] = rmse
    # A diverged model has no representation; its lane is skipped by whoever reads the rows.
    finite_KND = means_KND.nan_to_num(0.0, 0.0, 0.0)
    private, names, classes_NC = (
        models.program.network.architecture.private,
        models.dataset.factor_names,
        models.dataset.classes(held_out),
    )
    for row, scores in zip(
        rows, information_metrics(finite_KND, models.mask_KD, private, classes_NC, names), strict=True
    ):
        row |= scores
    fit = models.dataset.splits["training"][:HELD_OUT_CLIPS]
    fit_RND = _subspaces(models, models.encode(fit).mean)
    probed = (fit_RND, models.dataset.classes(fit), _subspaces(models, means_KND), classes_NC)
    classes = {factor.name: factor.classes for factor in models.dataset.factors}
    accuracy_RC = linear_probe_accuracy(*probed, list(classes.values()))
    _add_probes(rows, accuracy_RC, classes, shared, "linear_probe", "disentanglement/linear_separation")
    if mature:
        with torch.enable_grad():
            accuracy_RC = probe_accuracy(*probed, list(classes.values()))
        _add_probes(rows, accuracy_RC, classes, shared, "probe", "disentanglement/separation")
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


def _losses(models: Models) -> list[dict[str, float]]:
    names = [f"loss/{name}" for name in term_names(models.program)]
    return [dict(zip(names, terms, strict=True)) for terms in models.held_out_terms().tolist()]


def _subspaces(models: Models, latents_KND: Tensor) -> Tensor:
    """Each model's latents as often as there are subspaces, zero outside of each, [K x subspaces, N, D]."""
    private = models.program.network.architecture.private
    masks_SD = torch.ones(len(_SUBSPACES), models.program.network.latents, device=latents_KND.device)
    masks_SD[_SUBSPACES.index("private"), private:] = 0
    masks_SD[_SUBSPACES.index("shared"), :private] = 0
    finite = latents_KND.nan_to_num(0.0, 0.0, 0.0)
    return (finite[:, None] * masks_SD[:, None]).flatten(0, 1)


def _add_probes(
    rows: list[dict[str, float]],
    accuracy_RC: Tensor,
    classes: Mapping[str, int],
    shared: Sequence[str],
    kind: str,
    separation_name: str,
) -> None:
    """Put accuracies of one kind of probes into the rows, and the separation that follows from them."""
    for row, accuracy_SC in zip(rows, accuracy_RC.unflatten(0, (len(rows), -1)).tolist(), strict=True):
        accuracy = {
            (factor, subspace): value
            for subspace, values in zip(_SUBSPACES, accuracy_SC, strict=True)
            for factor, value in zip(classes, values, strict=True)
        }
        row |= {f"{kind}/{factor}/{subspace}": value for (factor, subspace), value in accuracy.items()}
        row[separation_name] = separation(accuracy, classes, frozenset(shared))
