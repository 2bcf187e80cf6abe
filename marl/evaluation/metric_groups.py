"""Groups of metrics that are computed together, their columns, and in which reports they are."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from marl.evaluation.context import SUBSPACES, EvaluationContext
from marl.metrics.beta_vae import beta_vae_score
from marl.metrics.explicitness import explicitness
from marl.metrics.factor_vae import factor_vae_score
from marl.metrics.fidelity import class_means, root_mean_square
from marl.metrics.information_gaps import dcimig, jemmig, mutual_information_gap
from marl.metrics.modularity import modularity
from marl.metrics.mutual_information import information
from marl.metrics.readers import (
    READERS,
    balanced_accuracy,
    class_prior,
    explained_variance,
    information_share,
    information_standard_error,
)
from marl.metrics.sap import sap_accuracies, sap_gap
from marl.objective import term_names

__all__ = [
    "FINAL",
    "INTERMEDIATE",
    "METRIC_GROUPS",
    "RESCORABLE",
    "Columns",
    "MetricGroup",
    "information_columns",
]

Columns = dict[str, Tensor]
"""A value of each model, [K], by name of the column."""

_BLOCKS = ("private", "shared")
_GAPS = ("mig", "jemmig", "dcimig")


class MetricGroup(NamedTuple):
    """Metrics that are computed together.

    Attributes:
        compute: Returns the columns.
        names: Names of the columns that a study may choose as objectives. `{factor}` stands for each factor.
        is_intermediate: Whether intermediate reports have the metrics. Their cost is negligible beside training.
        is_final: Whether final reports have the metrics.
        is_rescorable: Whether encoder and decoder are enough to compute the metrics, without heads.
    """

    compute: Callable[[EvaluationContext], Columns]
    names: tuple[str, ...] = ()
    is_intermediate: bool = False
    is_final: bool = True
    is_rescorable: bool = True


def losses(context: EvaluationContext) -> Columns:
    """Compute terms of the objective on fixed held-out pairs, if there are any."""
    if not context.models.has_held_out_pairs:
        return {}
    names = [f"loss/{name}" for name in term_names(context.models.objective_spec)]
    return dict(zip(names, context.models.held_out_terms().unbind(dim=1), strict=True))


def fidelity(context: EvaluationContext) -> Columns:
    """Compute the log-mel error with its standard error over clips, and the log-spectral distance, in dB."""
    distance = context.distances
    error_KN = distance.squared_error_KN.to(torch.float64)
    rmse_K = root_mean_square(error_KN)
    # By the delta method: the standard error of a mean of squares, over twice its root.
    clips_se_K = error_KN.std(dim=1) / error_KN.shape[1] ** 0.5 / (2 * rmse_K).clamp_min(1e-12)
    return {
        "fidelity/log_mel_rmse_db": rmse_K,
        "fidelity/log_mel_rmse_db/clips_se": clips_se_K,
        "fidelity/log_spectral_distance_db": distance.log_spectral_distance_KN.to(torch.float64).mean(dim=1),
    }


def fidelity_by_class(context: EvaluationContext) -> Columns:
    """Compute the log-mel error of each class of each factor; a class without clips has no column."""
    columns = {}
    for index, factor in enumerate(context.models.dataset.factors):
        class_N = context.held_out.classes_NC[:, index]
        mean_KY, clips_Y = class_means(context.distances.squared_error_KN, class_N, factor.classes)
        for number, mean_K in enumerate(mean_KY.unbind(dim=1)):
            if clips_Y[number]:
                columns[f"fidelity/log_mel_rmse_db/{factor.name}/{factor.class_name(number)}"] = mean_K.sqrt()
    return columns


def single_latents(context: EvaluationContext) -> Columns:
    """Compute the information of single latents about the factors, and metrics that follow from it."""
    held_out, mask_KD = context.held_out, context.models.mask_KD
    return information_columns(
        held_out.means_KND, mask_KD, context.private, held_out.classes_NC, list(context.factors), context.shared
    )


def usable_information(
    context: EvaluationContext, prefix: str = "", reader: str = "strong", subspaces: Sequence[str] = _BLOCKS
) -> Columns:
    """Compute what a reader finds in samples of the posteriors, by factor and subspace, and separation and leakage.

    A sample is what the decoder receives. Means tell more, because they have no noise.
    """
    columns: Columns = {}
    for index, subspace, log_probability_KNY in _read(context, reader, subspaces, is_sampled=True):
        factor, class_N = context.models.dataset.factors[index], context.held_out.classes_NC[:, index]
        prior_Y = class_prior(context.fit_of(reader).classes_NC[:, index], factor.classes)
        end, arguments = f"{factor.name}/{subspace}", (log_probability_KNY, class_N, prior_Y)
        columns[f"{prefix}information/{end}"] = information_share(*arguments)
        columns[f"{prefix}information/{end}/clips_se"] = information_standard_error(*arguments)
        columns[f"{prefix}accuracy/{end}"] = balanced_accuracy(log_probability_KNY, class_N)
        if (values := context.values(index)) is not None:
            columns[f"{prefix}r2/{end}"] = explained_variance(log_probability_KNY, *values)
    differences = []
    for name in context.factors:
        right, wrong = ("shared", "private") if name in context.shared else ("private", "shared")
        leak_K = columns[f"{prefix}information/{name}/{wrong}"]
        columns[f"{prefix}leakage/{name}"] = leak_K
        differences.append(columns[f"{prefix}information/{name}/{right}"] - leak_K)
    return columns | {f"disentanglement/{prefix}separation": torch.stack(differences).mean(dim=0)}


def probes(context: EvaluationContext, kind: str = "probe", is_sampled: bool = False) -> Columns:
    """Compute balanced accuracies of the lightweight reader by factor and subspace, from posterior means or samples."""
    return {
        f"{kind}/{context.models.dataset.factor_names[index]}/{subspace}": balanced_accuracy(
            log_probability_KNY, context.held_out.classes_NC[:, index]
        )
        for index, subspace, log_probability_KNY in _read(context, "lightweight", SUBSPACES, is_sampled)
    }


def sap(context: EvaluationContext) -> Columns:
    """Compute separated attribute predictability."""
    fit, held_out = context.fit, context.held_out
    accuracy_KDC = sap_accuracies(fit.means_KND, fit.classes_NC, held_out.means_KND, held_out.classes_NC)
    most_C = torch.stack([class_N.bincount().amax() for class_N in held_out.classes_NC.unbind(dim=1)])
    return {"disentanglement/sap": sap_gap(accuracy_KDC, context.models.mask_KD, most_C / len(held_out.classes_NC))}


def mean_explicitness(context: EvaluationContext) -> Columns:
    """Compute explicitness, averaged over factors."""
    fit, held_out = context.fit, context.held_out
    _, mean_K = explicitness(
        fit.means_KND, fit.classes_NC, held_out.means_KND, held_out.classes_NC, fit.posterior_deviation_KD
    )
    return {"disentanglement/explicitness": mean_K}


def fixed_factors(context: EvaluationContext) -> Columns:
    """Compute the FactorVAE and beta-VAE scores, which predict the factor that a group of clips has in common."""
    held_out, mask_KD = context.held_out, context.models.mask_KD
    return {
        "disentanglement/factor_vae": factor_vae_score(held_out.means_KND, mask_KD, held_out.classes_NC),
        "disentanglement/beta_vae": beta_vae_score(held_out.means_KND, mask_KD, held_out.classes_NC),
    }


def _by_subspace(kinds: Sequence[str], subspaces: Sequence[str] = SUBSPACES) -> tuple[str, ...]:
    return tuple(f"{kind}/{{factor}}/{subspace}" for kind in kinds for subspace in subspaces)


def _information_names(prefix: str, subspaces: Sequence[str]) -> tuple[str, ...]:
    names = f"disentanglement/{prefix}separation", f"{prefix}leakage/{{factor}}"
    return names + _by_subspace((f"{prefix}information", f"{prefix}accuracy"), subspaces)


METRIC_GROUPS: dict[str, MetricGroup] = {
    "losses": MetricGroup(losses, is_intermediate=True, is_rescorable=False),
    "fidelity": MetricGroup(
        fidelity, ("fidelity/log_mel_rmse_db", "fidelity/log_spectral_distance_db"), is_intermediate=True
    ),
    "fidelity_by_class": MetricGroup(fidelity_by_class),
    "single_latents": MetricGroup(
        single_latents,
        (
            *(f"disentanglement/{gap}{block}" for gap in _GAPS for block in ("", "/private", "/shared")),
            "disentanglement/modularity",
            *_by_subspace(("nmi", "corrected_nmi"), _BLOCKS),
        ),
        is_intermediate=True,
    ),
    "linear_information": MetricGroup(
        partial(usable_information, prefix="linear_", reader="linear", subspaces=SUBSPACES),
        _information_names("linear_", SUBSPACES),
        is_intermediate=True,
    ),
    "information": MetricGroup(usable_information, _information_names("", _BLOCKS)),
    "probes": MetricGroup(probes, _by_subspace(("probe",))),
    # They cost as much as the probes of means, so they are computed for the front only, after training.
    "sampled_probes": MetricGroup(partial(probes, kind="sampled_probe", is_sampled=True), is_final=False),
    "sap": MetricGroup(sap, ("disentanglement/sap",)),
    "explicitness": MetricGroup(mean_explicitness, ("disentanglement/explicitness",)),
    "fixed_factors": MetricGroup(fixed_factors, ("disentanglement/factor_vae", "disentanglement/beta_vae")),
}

INTERMEDIATE = tuple(name for name, group in METRIC_GROUPS.items() if group.is_intermediate)
"""Groups of intermediate reports."""

FINAL = tuple(name for name, group in METRIC_GROUPS.items() if group.is_final)
"""Groups of final reports."""

RESCORABLE = tuple(name for name, group in METRIC_GROUPS.items() if group.is_rescorable)
"""Groups that can be computed for stored models, which have no heads."""


def information_columns(
    latents_KND: Tensor,
    mask_KD: Tensor,
    private: int,
    classes_NC: Tensor,
    factors: Sequence[str],
    shared: Collection[str],
) -> Columns:
    """Return the metrics that are computed from the mutual information between each latent and each factor.

    Args:
        latents_KND: Latents of the same clips by each model, finite.
        mask_KD: One for each latent of a model, zero for padding.
        private: Number of private latents, which precede the shared ones.
        classes_NC: Class of each clip by factor.
        factors: Names of the factors.
        shared: Names of the factors that the views share.
    """
    tables = information(latents_KND, mask_KD, classes_NC)
    # The latents of each block, and the factors that they should represent.
    blocks = {
        "": (slice(None), list(range(len(factors)))),
        "/private": (slice(0, private), [index for index, factor in enumerate(factors) if factor not in shared]),
        "/shared": (slice(private, None), [index for index, factor in enumerate(factors) if factor in shared]),
    }
    columns: Columns = {}
    for block, (latents, indices) in blocks.items():
        mutual_KDC, joint_KDC = (
            table_KDC[:, latents][..., indices] for table_KDC in (tables.mutual_KDC, tables.joint_entropy_KDC)
        )
        entropy_C, block_mask_KD = tables.factor_entropy_C[indices], mask_KD[:, latents]
        columns |= {
            f"disentanglement/mig{block}": mutual_information_gap(mutual_KDC, entropy_C),
            f"disentanglement/jemmig{block}": jemmig(mutual_KDC, joint_KDC, block_mask_KD, entropy_C),
            f"disentanglement/dcimig{block}": dcimig(mutual_KDC, entropy_C),
        }
    # Modularity of a block with a single factor is one for every informative latent, so there is none by block.
    columns["disentanglement/modularity"] = modularity(tables.mutual_KDC, mask_KD)
    for index, factor in enumerate(factors):
        entropy = tables.factor_entropy_C[index]
        for block in _BLOCKS:
            latents, _ = blocks[f"/{block}"]
            for kind, table_KDC in (("nmi", tables.mutual_KDC), ("corrected_nmi", tables.corrected_KDC)):
                largest_K = table_KDC[:, latents, index].amax(dim=1)
                # The corrected estimate over an uncorrected entropy can be slightly above one.
                columns[f"{kind}/{factor}/{block}"] = torch.where(entropy > 0, largest_K / entropy, 0.0).clamp_max(1.0)
    return columns


def _read(
    context: EvaluationContext, reader: str, subspaces: Sequence[str], is_sampled: bool
) -> Iterator[tuple[int, str, Tensor]]:
    """Yield factor, subspace, and log-probabilities of the factor's classes for the held-out clips, [K, N, Y]."""
    fit, counts = context.fit_of(reader), list(context.factors.values())
    for subspace in subspaces:
        latents = context.latents(subspace)
        deviation_KD = None if is_sampled else fit.posterior_deviation_KD[:, latents]
        fit_KND, held_out_KND = (
            (part.sampled_KND if is_sampled else part.means_KND)[..., latents] for part in (fit, context.held_out)
        )
        fitted = READERS[reader].fit(fit_KND, fit.classes_NC, counts, deviation_KD)
        for index, log_probability_KNY in enumerate(fitted.log_probabilities(held_out_KND)):
            yield index, subspace, log_probability_KNY
