"""What is measured of models side by side: each group is a function of a context and returns columns."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from marl.evaluation.context import SUBSPACES, EvaluationContext
from marl.metrics.beta_vae import beta_vae_score
from marl.metrics.dcimig import dcimig
from marl.metrics.explicitness import explicitness
from marl.metrics.factor_vae import factor_vae_score
from marl.metrics.jemmig import jemmig
from marl.metrics.linear_probes import linear_probe_accuracy
from marl.metrics.mig import mutual_information_gap
from marl.metrics.modularity import modularity
from marl.metrics.mutual_information import information
from marl.metrics.probes import probe_accuracy
from marl.metrics.sap import sap_accuracies, sap_gap
from marl.metrics.separation import separation
from marl.metrics.spectral_distance import by_class, root_mean_square
from marl.objective import term_names

__all__ = [
    "FINAL",
    "METRIC_GROUPS",
    "RESCORABLE",
    "INTERMEDIATE",
    "Columns",
    "information_metrics",
    "is_intermediate",
    "metric_names",
]

Columns = dict[str, Tensor]
"""A number of each model, [K], by the name of the column that it is stored under."""

_Probe = Callable[[Tensor, Tensor, Tensor, Tensor, Sequence[int]], Tensor]


def losses(context: EvaluationContext) -> Columns:
    """Terms of the objective on fixed held-out pairs."""
    names = [f"loss/{name}" for name in term_names(context.models.objective_spec)]
    return dict(zip(names, context.models.held_out_terms().unbind(dim=1), strict=True))


def fidelity(context: EvaluationContext) -> Columns:
    """Distances of reconstructions in dB, and how sure the first is of these clips."""
    distance = context.distances
    error_KN = distance.squared_error_KN.to(torch.float64)
    rmse_K = root_mean_square(error_KN)
    # By the delta method: the error of a mean of squares, over twice its root.
    clips_se_K = error_KN.std(dim=1) / error_KN.shape[1] ** 0.5 / (2 * rmse_K).clamp_min(1e-12)
    return {
        "fidelity/log_mel_rmse_db": rmse_K,
        "fidelity/log_mel_rmse_db/clips_se": clips_se_K,
        "fidelity/log_spectral_distance_db": distance.log_spectral_distance_KN.to(torch.float64).mean(dim=1),
    }


def fidelity_by_class(context: EvaluationContext) -> Columns:
    """The log-mel error of the clips of each class of each factor; none where no clip is of that class."""
    columns = {}
    for column, factor in enumerate(context.models.dataset.factors):
        class_N = context.held_out.classes_NC[:, column]
        found = by_class(context.distances.squared_error_KN, class_N, factor.classes)
        for number, (mean_K, clips) in enumerate(zip(found.mean_KC.unbind(dim=1), found.clips_C.tolist(), strict=True)):
            if clips:
                columns[f"fidelity/log_mel_rmse_db/{factor.name}/{factor.class_name(number)}"] = mean_K.sqrt()
    return columns


def single_latents(context: EvaluationContext) -> Columns:
    """What single latents tell of the factors."""
    held_out, mask_KD = context.held_out, context.models.mask_KD
    factors = list(context.factors)
    return _information(held_out.means_KND, mask_KD, context.private, held_out.classes_NC, factors, context.shared)


def linear_probes(context: EvaluationContext) -> Columns:
    """What linear classifiers read from each subspace."""
    return _probes(context, linear_probe_accuracy, "linear_probe", "disentanglement/linear_separation")


def probes(context: EvaluationContext) -> Columns:
    """What small networks read from each subspace."""
    return _probes(context, probe_accuracy, "probe", "disentanglement/separation")


def sampled_probes(context: EvaluationContext) -> Columns:
    """What both kinds of probes read from samples of the posteriors, which hold less than their means."""
    return _probes(context, linear_probe_accuracy, "sampled_linear_probe", None, sampled=True) | _probes(
        context, probe_accuracy, "sampled_probe", None, sampled=True
    )


def sap(context: EvaluationContext) -> Columns:
    """The gap between the two latents that a linear classifier reads a factor from best."""
    fit, held_out = context.fit, context.held_out
    classes = list(context.factors.values())
    accuracy_KDC = sap_accuracies(fit.means_KND, fit.classes_NC, held_out.means_KND, held_out.classes_NC, classes)
    most_C = torch.stack([class_N.bincount().amax() for class_N in held_out.classes_NC.unbind(dim=1)])
    return {"disentanglement/sap": sap_gap(accuracy_KDC, context.models.mask_KD, most_C / len(held_out.classes_NC))}


def explicit(context: EvaluationContext) -> Columns:
    """How well logistic regression ranks the clips by each factor."""
    fit, held_out = context.fit, context.held_out
    _, mean_K = explicitness(
        fit.means_KND, fit.classes_NC, held_out.means_KND, held_out.classes_NC, list(context.factors.values())
    )
    return {"disentanglement/explicitness": mean_K}


def fixed_factors(context: EvaluationContext) -> Columns:
    """Whether it can be told which factor a batch of clips has in common."""
    held_out, mask_KD = context.held_out, context.models.mask_KD
    return {
        "disentanglement/factor_vae": factor_vae_score(held_out.means_KND, mask_KD, held_out.classes_NC),
        "disentanglement/beta_vae": beta_vae_score(held_out.means_KND, mask_KD, held_out.classes_NC),
    }


METRIC_GROUPS: dict[str, Callable[[EvaluationContext], Columns]] = {
    "losses": losses,
    "fidelity": fidelity,
    "fidelity_by_class": fidelity_by_class,
    "single_latents": single_latents,
    "linear_probes": linear_probes,
    "probes": probes,
    "sampled_probes": sampled_probes,
    "sap": sap,
    "explicitness": explicit,
    "fixed_factors": fixed_factors,
}

INTERMEDIATE = ("losses", "fidelity", "single_latents", "linear_probes")
"""Measures of every report: they cost little beside the training up to it."""
FINAL = tuple(name for name in METRIC_GROUPS if name != "sampled_probes")
"""Measures of the last report: all but what costs as much as the rest together, which is for the models that matter."""
RESCORABLE = tuple(name for name in METRIC_GROUPS if name != "losses")
"""Measures that need no more of a model than its encoder and decoder; losses need what only training knows."""


def metric_names(factors: Sequence[str]) -> list[str]:
    """Names of the metrics of a mature model that a study may ask for; losses and details are stored beside them."""
    kinds = ("probe", "linear_probe")
    return [
        "fidelity/log_mel_rmse_db",
        "fidelity/log_spectral_distance_db",
        *(f"disentanglement/{name}" for name in ("separation", "linear_separation", *_DISENTANGLEMENT)),
        *(f"disentanglement/{name}/{block}" for name in _BLOCKS for block in ("private", "shared")),
        *(f"{kind}/{factor}/{subspace}" for kind in kinds for factor in factors for subspace in SUBSPACES),
        *(f"{kind}/{factor}/{block}" for kind in _NMI for factor in factors for block in ("private", "shared")),
    ]


def is_intermediate(metric: str) -> bool:
    """Whether every report has a metric, not the last alone."""
    slow = ("probe/", *(f"disentanglement/{name}" for name in ("separation", *_SLOW)))
    return not metric.startswith(slow)


_SLOW = ("sap", "explicitness", "factor_vae", "beta_vae")
_BLOCKS = ("mig", "jemmig", "dcimig")
_DISENTANGLEMENT = (*_BLOCKS, "modularity", *_SLOW)
_NMI = ("nmi", "corrected_nmi")


def information_metrics(
    latents_KND: Tensor,
    mask_KD: Tensor,
    private: int,
    classes_NC: Tensor,
    factors: Sequence[str],
    shared: Sequence[str],
) -> list[dict[str, float]]:
    """What single latents tell of the factors, a row a model.

    Args:
        latents_KND: latents of the same clips by each model, finite.
        mask_KD: one for each latent that a model has, zero for padding.
        private: how many latents, from the first, are private.
        classes_NC: class of each clip by factor.
        factors: names of the factors.
        shared: names of those that the views share.
    """
    columns = _information(latents_KND, mask_KD, private, classes_NC, factors, frozenset(shared))
    return [{name: float(values[model]) for name, values in columns.items()} for model in range(len(latents_KND))]


def _information(
    latents_KND: Tensor,
    mask_KD: Tensor,
    private: int,
    classes_NC: Tensor,
    factors: Sequence[str],
    shared: frozenset[str],
) -> Columns:
    found = information(latents_KND, mask_KD, classes_NC)
    everything = list(range(len(factors)))
    # The latents of a subspace, and the factors that belong there.
    blocks = {
        "": (slice(None), everything),
        "/private": (slice(0, private), [column for column in everything if factors[column] not in shared]),
        "/shared": (slice(private, None), [column for column in everything if factors[column] in shared]),
    }
    columns: Columns = {}
    for block, (latents, own) in blocks.items():
        mutual_KDC, joint_KDC = found.mutual_KDC[:, latents][..., own], found.joint_entropy_KDC[:, latents][..., own]
        entropy_C, block_mask_KD = found.factor_entropy_C[own], mask_KD[:, latents]
        columns |= {
            f"disentanglement/mig{block}": mutual_information_gap(mutual_KDC, entropy_C),
            f"disentanglement/jemmig{block}": jemmig(mutual_KDC, joint_KDC, block_mask_KD, entropy_C),
            f"disentanglement/dcimig{block}": dcimig(mutual_KDC, entropy_C),
        }
    # Of a block with a single factor every latent that tells anything tells only that, so there it says nothing.
    columns["disentanglement/modularity"] = modularity(found.mutual_KDC, mask_KD)
    for column, factor in enumerate(factors):
        entropy = found.factor_entropy_C[column]
        for block in ("private", "shared"):
            latents, _ = blocks[f"/{block}"]
            for kind, table_KDC in (("nmi", found.mutual_KDC), ("corrected_nmi", found.corrected_KDC)):
                largest_K = table_KDC[:, latents, column].amax(dim=1)
                # The corrected estimate, over an entropy that is not, may come out a little above one.
                columns[f"{kind}/{factor}/{block}"] = torch.where(entropy > 0, largest_K / entropy, 0.0).clamp_max(1.0)
    return columns


def _probes(
    context: EvaluationContext, probe: _Probe, kind: str, separation_name: str | None, sampled: bool = False
) -> Columns:
    """Accuracies of one kind of probes, and the separation that follows from them."""
    fit_KND, held_out_KND = (
        part.sampled_KND if sampled else part.means_KND for part in (context.fit, context.held_out)
    )
    with torch.enable_grad():
        accuracy_RC = probe(
            context.by_subspace(fit_KND),
            context.fit.classes_NC,
            context.by_subspace(held_out_KND),
            context.held_out.classes_NC,
            list(context.factors.values()),
        )
    accuracy_KSC = accuracy_RC.unflatten(0, (len(context.models), -1))
    columns = {
        f"{kind}/{factor}/{subspace}": accuracy_KSC[:, row, column]
        for row, subspace in enumerate(SUBSPACES)
        for column, factor in enumerate(context.factors)
    }
    if separation_name:
        columns[separation_name] = _separation(columns, kind, context.at_stake, context.shared)
    return columns


def _separation(columns: Columns, kind: str, classes: Mapping[str, int], shared: frozenset[str]) -> Tensor:
    accuracy = {
        (factor, subspace): columns[f"{kind}/{factor}/{subspace}"].to(torch.float64)
        for factor in classes
        for subspace in SUBSPACES
    }
    return separation(accuracy, classes, shared)
