"""What a model is trained for: reconstruction, KL terms of each subspace, contrast and independence, each weighted.

The function is written for one model; the stack maps it over lanes. B is pairs, V = 2B views, [P, Q] a view as the
network takes it, D latents, W the width of heads.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from marl.config import MultiscaleWeights
from marl.losses import kl
from marl.losses.independence import INDEPENDENCE, probe_loss, reverse_gradient
from marl.losses.reconstruction import multiscale_errors, squared_error
from marl.losses.repulsion import repulsion
from marl.losses.ssl import STRATEGIES, Pairing, byol, local_global
from marl.losses.ssl.pairing import LEFT_OUT, identity, tiled
from marl.models import FUSIONS, Parameters, Posterior
from marl.models.heads import TARGET, apply_head
from marl.objective.spec import Batch, LaneHyperparameters, ObjectiveSpec

__all__ = ["objective", "term_names"]


def objective(
    objective_spec: ObjectiveSpec, parameters: Parameters, lane: LaneHyperparameters, batch: Batch
) -> tuple[Tensor, Tensor]:
    """The loss of one model on one batch, and its terms: detached, in the order of `term_names(objective_spec)`."""
    return _Objective(objective_spec, parameters, lane, batch).total_and_terms()


def term_names(objective_spec: ObjectiveSpec) -> list[str]:
    """Names of the terms that `objective` returns; all but the total are unweighted."""
    active_terms = objective_spec.active_terms
    return [
        "total",
        "reconstruction",
        *(f"{subspace}/{term}" for term in kl.KLTerms._fields for subspace in ("private", "shared")),
        *(f"multiscale/{name}" for name in MultiscaleWeights.model_fields if active_terms.multiscale),
        *(f"{subspace}/{strategy}" for strategy, subspace in active_terms.contrasts),
        *(f"independence/{name}" for name in active_terms.independence),
    ]


class _Objective:
    """One batch as one model sees it, and the terms that are made of that."""

    def __init__(
        self, objective_spec: ObjectiveSpec, parameters: Parameters, lane: LaneHyperparameters, batch: Batch
    ) -> None:
        self._objective_spec, self._parameters, self._lane, self._batch = objective_spec, parameters, lane, batch
        self._network, self._subspaces = objective_spec.network, objective_spec.subspaces
        strategies = {strategy for strategy, _ in objective_spec.active_terms.contrasts}
        if strategies & {"local_global", "predictive"}:
            self._posterior, self._local_VLE = self._network.encode_by_time(
                parameters, lane.mask_D, batch.input_VPQ, objective_spec.dtype
            )
        else:
            self._posterior = self._network.encode(parameters, lane.mask_D, batch.input_VPQ, objective_spec.dtype)
        if "byol" in strategies:
            followed = {name.removeprefix(TARGET): p for name, p in parameters.items() if name.startswith(TARGET)}
            with torch.no_grad():
                self._target = self._network.encode(followed, lane.mask_D, batch.input_VPQ, objective_spec.dtype).mean
        same_BB = batch.group_B[:, None] == batch.group_B
        self._same_BB = same_BB
        self._left_out_BB = same_BB & ~identity(same_BB) & lane.exclude_same_factors

    def total_and_terms(self) -> tuple[Tensor, Tensor]:
        lane, active_terms = self._lane, self._objective_spec.active_terms
        noise_VD = self._batch.noise_VD * lane.mask_D
        z_VD = self._posterior.mean + noise_VD * torch.exp(0.5 * self._posterior.logvar)
        decoded, target = self._decoded(z_VD, noise_VD), self._batch.input_VPQ.to(torch.float32)
        reconstruction = squared_error(decoded, target)
        z_views, mean_views, logvar_views = (part.unflatten(0, (2, -1)) for part in (z_VD, *self._posterior))
        kl_32 = torch.stack(
            kl.decompose(z_views, mean_views, logvar_views, lane.group_D2, self._objective_spec.dataset_size)
        )
        total = lane.reconstruction * reconstruction + (lane.kl_32 * kl_32).sum()
        terms = [reconstruction[None], kl_32.flatten()]
        if active_terms.multiscale:
            errors_N = multiscale_errors(self._network.from_output(decoded - target))
            total, terms = total + (lane.multiscale_N * errors_N).sum(), [*terms, errors_N]
        if active_terms.contrasts:
            contrasts_N = torch.stack([self._contrast(*contrast) for contrast in active_terms.contrasts])
            total, terms = total + (lane.contrast_N * contrasts_N).sum(), [*terms, contrasts_N]
        if active_terms.independence:
            values_N = torch.stack([self._independence(name) for name in active_terms.independence])
            # The probe learns at full speed; how strongly the encoder works against it is the reversal's strength.
            is_probe_N = torch.tensor(
                [name == "adversarial" for name in active_terms.independence], device=total.device
            )
            weight_N = torch.where(is_probe_N, (lane.independence_N > 0).to(torch.float32), lane.independence_N)
            total, terms = total + (weight_N * values_N).sum(), [*terms, values_N]
        return total, torch.cat([total[None], *terms]).detach()

    def _decoded(self, z_VD: Tensor, noise_VD: Tensor) -> Tensor:
        private, shared = self._subspaces["private"], self._subspaces["shared"]
        posterior = Posterior(self._posterior.mean[:, shared], self._posterior.logvar[:, shared])
        combined = _weighted_sum(
            self._lane.fusion_N,
            [
                FUSIONS[name](posterior, z_VD[:, shared], noise_VD[:, shared])
                for name in self._objective_spec.active_terms.fusions
            ],
        )
        z_decoded_VD = torch.cat([z_VD[:, private], combined * self._lane.mask_D[shared]], dim=1)
        return self._network.decode(self._parameters, z_decoded_VD, self._objective_spec.dtype).to(torch.float32)

    def _contrast(self, strategy: str, subspace: str) -> Tensor:
        mean_VD = self._posterior.mean
        match strategy:
            case "repulsion":
                first, second = mean_VD[:, self._subspaces[subspace]].chunk(2)
                return repulsion(first, second)
            case "byol":
                predicted = self._apply(f"predictor.{subspace}", self._project(mean_VD, subspace))
                with torch.no_grad():
                    target = self._project(self._target, subspace, TARGET)
                return byol(predicted, target)
            case "local_global":
                return self._among_clips(self._head(strategy, subspace, mean_VD), self._local_VLE)
            case "predictive":
                return self._predictive(subspace)
        latents_VX, mask_X = self._compared(subspace)
        first, second = latents_VX.chunk(2)
        return STRATEGIES[strategy](
            first, second, Pairing(mask_X, self._same_BB, self._left_out_BB, self._lane.temperature)
        )

    def _compared(self, subspace: str) -> tuple[Tensor, Tensor]:
        """What strategies compare, latents or projections of them, at one width for all lanes; and its mask."""
        part = self._subspaces[subspace]
        latents_VX, mask_X = self._posterior.mean[:, part], self._lane.mask_D[part]
        if subspace not in self._objective_spec.active_terms.projections:
            return latents_VX, mask_X
        projected_VW = self._project(self._posterior.mean, subspace)
        size, width = latents_VX.shape[1], projected_VW.shape[1]
        wide_VX, wide_mask_X = pad(latents_VX, (0, max(0, width - size))), pad(mask_X, (0, max(0, width - size)))
        projected_VX = pad(projected_VW, (0, max(0, size - width)))
        every_X = pad(torch.ones_like(projected_VW[0]), (0, max(0, size - width)))
        is_projected = self._lane.projected
        return torch.where(is_projected, projected_VX, wide_VX), torch.where(is_projected, every_X, wide_mask_X)

    def _predictive(self, subspace: str) -> Tensor:
        """The later half of a clip is predicted from latents of the earlier half."""
        steps, features = self._network.local
        half_VFT = self._network.from_output(self._batch.input_VPQ)
        frames = half_VFT.shape[-1]
        is_early_T = torch.arange(frames, device=half_VFT.device) < frames - steps // 2 * (frames // steps)
        early = self._network.to_input(half_VFT * is_early_T)
        mean_VD = self._network.encode(self._parameters, self._lane.mask_D, early, self._objective_spec.dtype).mean
        predicted = self._head("predictive", subspace, mean_VD).unflatten(1, (steps // 2, features))
        return self._among_clips(predicted, self._local_VLE[:, -(steps // 2) :])

    def _among_clips(self, global_VE: Tensor, local_VLE: Tensor) -> Tensor:
        left_out_VV = tiled(self._same_BB & self._lane.exclude_same_factors)
        return local_global(global_VE, local_VLE, left_out_VV, self._lane.temperature)

    def _independence(self, name: str) -> Tensor:
        private, shared = self._subspaces["private"], self._subspaces["shared"]
        mean_VD, mask_D = self._posterior.mean, self._lane.mask_D
        match name:
            case "adversarial":
                index = self._objective_spec.active_terms.independence.index(name)
                latents_VD = reverse_gradient(mean_VD, self._lane.independence_N[index])
                logits_VG = self._head("probe", "private", latents_VD)
                is_group_G = torch.arange(logits_VG.shape[1], device=logits_VG.device) < self._objective_spec.groups
                return probe_loss(torch.where(is_group_G, logits_VG, LEFT_OUT), self._batch.group_B.tile(2))
            case "swap_cycle":
                return self._swap_cycle()
        return INDEPENDENCE[name](mean_VD[:, private], mean_VD[:, shared], mask_D[private], mask_D[shared])

    def _swap_cycle(self) -> Tensor:
        """Squared error of latents that were decoded with the next pair's shared part and encoded again, per clip."""
        mean_VD = self._posterior.mean
        other_VD = mean_VD.unflatten(0, (2, -1)).roll(1, dims=1).flatten(0, 1)
        mixed_VD = mean_VD * self._mask("private") + other_VD * self._mask("shared")
        swapped = self._network.decode(self._parameters, mixed_VD, self._objective_spec.dtype)
        again_VD = self._network.encode(self._parameters, self._lane.mask_D, swapped, self._objective_spec.dtype).mean
        error: Tensor = (again_VD - mixed_VD.detach()).square().sum(dim=1).mean()
        return error

    def _project(self, latents_VD: Tensor, subspace: str, prefix: str = "") -> Tensor:
        return self._head(f"{prefix}projection", subspace, latents_VD)

    def _head(self, kind: str, subspace: str, latents_VD: Tensor) -> Tensor:
        return self._apply(f"{kind}.{subspace}", latents_VD * self._mask(subspace))

    def _apply(self, head: str, inputs: Tensor) -> Tensor:
        return apply_head(self._parameters, head, inputs)

    def _mask(self, subspace: str) -> Tensor:
        return self._lane.group_D2[:, list(self._subspaces).index(subspace)]


def _weighted_sum(weight_N: Tensor, values: list[Tensor]) -> Tensor:
    if len(values) == 1:
        return values[0]
    return (weight_N[:, None, None] * torch.stack(values)).sum(dim=0)
