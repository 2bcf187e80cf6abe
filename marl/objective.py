"""What a model is trained for: reconstruction, KL terms of each subspace, and contrast, each with its weight.

The function is written for one model; the stack maps it over lanes, so every setting that may differ between models of
a stack is a number in a `Lane`, never a branch. B is pairs, V = 2B views, [P, Q] a view as the network takes it, D
latents.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from marl.losses import kl
from marl.losses.contrast import STRATEGIES
from marl.losses.reconstruction import squared_error
from marl.model import COMBINATIONS, LatentConfig, Network, Parameters, Posterior
from marl.settings import Settings

__all__ = [
    "Batch",
    "ContrastConfig",
    "Lane",
    "LossConfig",
    "Program",
    "SubspaceWeights",
    "contrasts_of",
    "lane_settings",
    "objective",
    "term_names",
]

_KL_WEIGHTS = ("alpha", "beta", "gamma")


class SubspaceWeights(Settings):
    """Weights of the KL terms of one subspace; all at one make a plain variational autoencoder.

    Attributes:
        alpha: of the index-code mutual information.
        beta: of the total correlation.
        gamma: of the dimension-wise KL.
    """

    alpha: float = Field(1.0, ge=0)
    beta: float = Field(1.0, ge=0)
    gamma: float = Field(1.0, ge=0)


class LossConfig(Settings):
    """Weights of the reconstruction (squared error summed over a spectrogram) and of the KL terms (nats per view)."""

    reconstruction: float = Field(1.0, ge=0)
    private: SubspaceWeights = SubspaceWeights()
    shared: SubspaceWeights = SubspaceWeights()


class ContrastConfig(Settings):
    """Contrast between the two views' means.

    Attributes:
        strategy: `none`, or one of `marl.losses.contrast.STRATEGIES`.
        shared: weight on the shared latents.
        private: weight on the private latents.
        temperature: of the similarity.
        exclude_same_factors: leave clips that are known to share the pair's shared factors out of its negatives. With
            few factor values a batch is full of such false negatives, and a short run then merges two values.
    """

    strategy: Literal["none", "infonce"] = "none"
    shared: float = Field(50.0, ge=0)
    private: float = Field(0.0, ge=0)
    temperature: float = Field(0.2, gt=0)
    exclude_same_factors: bool = True


class Program(NamedTuple):
    """What is computed for every lane of a stack. What no lane uses is left out and costs nothing.

    Attributes:
        network: encoder and decoder.
        combinations: the ways of combining shared latents, of `marl.model.COMBINATIONS`.
        contrasts: pairs of a strategy and the subspace that it acts on.
        dataset_size: training clips.
        dtype: in which the large layers compute; latents, losses and what the optimiser holds are float32 always.
    """

    network: Network
    combinations: tuple[str, ...]
    contrasts: tuple[tuple[str, str], ...]
    dataset_size: int
    dtype: torch.dtype = torch.float32


class Lane(NamedTuple):
    """The settings of one model as numbers; stacked, each has a leading dimension of lanes."""

    mask_D: Tensor
    group_D2: Tensor
    combination_N: Tensor
    reconstruction: Tensor
    kl_32: Tensor
    contrast_N: Tensor
    temperature: Tensor
    exclude_same_factors: Tensor


class Batch(NamedTuple):
    """Pairs as the objective takes them: all first views, then all second views.

    Attributes:
        input_VPQ: as `Network.to_input` makes it: patches and their values, or bands and frames.
        group_B: pairs that are known to share the shared factors have the same number.
        noise_VD: standard normal.
    """

    input_VPQ: Tensor
    group_B: Tensor
    noise_VD: Tensor


def contrasts_of(contrast: ContrastConfig) -> set[tuple[str, str]]:
    """Which strategies a configuration uses, on which subspaces."""
    if contrast.strategy == "none":
        return set()
    weights = {"private": contrast.private, "shared": contrast.shared}
    return {(contrast.strategy, subspace) for subspace, weight in weights.items() if weight > 0}


def lane_settings(program: Program, latent: LatentConfig, loss: LossConfig, contrast: ContrastConfig) -> Lane:
    """The settings of one model.

    Raises:
        ValueError: when the program does not compute what the configuration asks for.
    """
    missing = contrasts_of(contrast) - set(program.contrasts)
    if missing or latent.combine not in program.combinations:
        raise ValueError(
            f"this stack computes the contrasts {list(program.contrasts)} and combines by "
            f"{list(program.combinations)}; got {sorted(contrasts_of(contrast))} and {latent.combine!r}"
        )
    mask = program.network.mask(latent)
    is_private = torch.arange(program.network.latents) < program.network.architecture.private
    return Lane(
        mask_D=mask,
        group_D2=torch.stack([mask * is_private, mask * ~is_private], dim=1),
        combination_N=torch.tensor([float(name == latent.combine) for name in program.combinations]),
        reconstruction=torch.tensor(loss.reconstruction),
        kl_32=torch.tensor([[getattr(part, term) for part in (loss.private, loss.shared)] for term in _KL_WEIGHTS]),
        contrast_N=torch.tensor(
            [
                getattr(contrast, subspace) if strategy == contrast.strategy else 0.0
                for strategy, subspace in program.contrasts
            ]
        ),
        temperature=torch.tensor(contrast.temperature),
        exclude_same_factors=torch.tensor(contrast.exclude_same_factors),
    )


def objective(program: Program, parameters: Parameters, lane: Lane, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss of one model on one batch, and its terms: detached, in the order of `term_names(program)`."""
    network = program.network
    posterior = network.encode(parameters, lane.mask_D, batch.input_VPQ, program.dtype)
    noise_VD = batch.noise_VD * lane.mask_D
    z_VD = posterior.mean + noise_VD * torch.exp(0.5 * posterior.logvar)

    private, shared = slice(0, network.architecture.private), slice(network.architecture.private, None)
    shared_posterior = Posterior(posterior.mean[:, shared], posterior.logvar[:, shared])
    combined = _weighted_sum(
        lane.combination_N,
        [COMBINATIONS[name](shared_posterior, z_VD[:, shared], noise_VD[:, shared]) for name in program.combinations],
    )
    z_decoded_VD = torch.cat([z_VD[:, private], combined * lane.mask_D[shared]], dim=1)
    decoded = network.decode(parameters, z_decoded_VD, program.dtype).to(torch.float32)
    reconstruction = squared_error(decoded, batch.input_VPQ.to(torch.float32))
    z_views, mean_views, logvar_views = (part.unflatten(0, (2, -1)) for part in (z_VD, *posterior))
    kl_32 = torch.stack(kl.decompose(z_views, mean_views, logvar_views, lane.group_D2, program.dataset_size))
    total = lane.reconstruction * reconstruction + (lane.kl_32 * kl_32).sum()
    terms = [reconstruction[None], kl_32.flatten()]

    if program.contrasts:
        different = ~torch.eye(len(batch.group_B), dtype=torch.bool, device=total.device)
        same_factors = batch.group_B[:, None] == batch.group_B
        left_out = same_factors & different & lane.exclude_same_factors
        subspaces = {"private": private, "shared": shared}
        values = []
        for strategy, subspace in program.contrasts:
            first, second = posterior.mean[:, subspaces[subspace]].chunk(2)
            values.append(STRATEGIES[strategy](first, second, left_out, lane.temperature))
        contrasts = torch.stack(values)
        total = total + (lane.contrast_N * contrasts).sum()
        terms.append(contrasts)
    return total, torch.cat([total[None], *terms]).detach()


def term_names(program: Program) -> list[str]:
    """Names of the terms that `objective` returns; all but the total are unweighted."""
    kl_names = [f"{subspace}/{term}" for term in kl.KLTerms._fields for subspace in ("private", "shared")]
    contrasts = [f"{subspace}/{strategy}" for strategy, subspace in program.contrasts]
    return ["total", "reconstruction", *kl_names, *contrasts]


def _weighted_sum(weight_N: Tensor, values: list[Tensor]) -> Tensor:
    if len(values) == 1:
        return values[0]
    return (weight_N[:, None, None] * torch.stack(values)).sum(dim=0)
