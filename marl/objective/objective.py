"""The objective of one model: the weighted sum of reconstruction, KL, contrast and independence terms.

A stack maps the function over its lanes. [P, Q] is the layout of a clip in a network, M the terms of one kind, S the
two subspaces, W the width of heads, L and E the steps and features of local features.
"""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from marl.config import MultiscaleWeights
from marl.losses import kl
from marl.losses.independence import INDEPENDENCE, reverse_gradient
from marl.losses.reconstruction import multiscale_errors, squared_error
from marl.losses.ssl.strategy import EXCLUDED, Pairing, identity, tile_views
from marl.models import FUSIONS, Head, Parameters, Posterior, Subspace, joint_posterior
from marl.models.heads import PROJECTION, HeadKind, apply_head
from marl.objective.spec import CONTRASTS, PROBE, Batch, LaneHyperparameters, ObjectiveSpec

__all__ = ["objective", "strategy_loss", "term_names"]


def objective(
    spec: ObjectiveSpec, parameters: Parameters, hyperparameters: LaneHyperparameters, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Return the loss of one model on one batch, and its terms: detached, in the order of `term_names(spec)`."""
    return _Objective(spec, parameters, hyperparameters, batch).total_and_terms()


def term_names(spec: ObjectiveSpec) -> list[str]:
    """Return the names of the terms that `objective` returns; all but the total are unweighted."""
    terms = spec.active_terms
    return [
        "total",
        "reconstruction",
        *(f"{subspace}/{term}" for term in kl.KLTerms._fields for subspace in spec.subspaces),
        *(f"multiscale/{name}" for name in MultiscaleWeights.model_fields if terms.multiscale),
        *(f"{subspace}/{name}" for name, subspace in terms.contrasts),
        *(f"independence/{name}" for name in terms.independence),
    ]


def strategy_loss(
    spec: ObjectiveSpec,
    parameters: Parameters,
    hyperparameters: LaneHyperparameters,
    batch: Batch,
    name: str,
    subspace: Subspace,
) -> Tensor:
    """Return the unweighted loss of one strategy of the objective on one subspace."""
    inputs = _StrategyInputs(_Objective(spec, parameters, hyperparameters, batch), name, subspace)
    return CONTRASTS[name].loss(inputs)


class _Objective:
    """Terms of one model on one batch, and the encodings that they share."""

    def __init__(
        self, spec: ObjectiveSpec, parameters: Parameters, hyperparameters: LaneHyperparameters, batch: Batch
    ) -> None:
        self.spec, self.parameters, self.hyperparameters, self.batch = spec, parameters, hyperparameters, batch
        self.network, self.mask_D = spec.network, hyperparameters.mask_D
        if any(CONTRASTS[name].min_local_steps for name, _ in spec.active_terms.contrasts):
            self.posterior, self.local_features_NLE = self.network.encode_with_local_features(
                parameters, self.mask_D, batch.input_NPQ, spec.dtype
            )
        else:
            self.posterior = self.network.encode(parameters, self.mask_D, batch.input_NPQ, spec.dtype)
        self.same_BB = batch.group_B[:, None] == batch.group_B
        self.excluded_BB = self.same_BB & ~identity(self.same_BB) & hyperparameters.exclude_same_group

    @cached_property
    def target(self) -> tuple[Parameters, Tensor]:
        """Parameters of the targets by the names of those that they follow, and the target encoder's means [N, D]."""
        specs = self.network.parameter_specs
        parameters = {specs[name].follows or "": value for name, value in self.parameters.items()}
        with torch.no_grad():
            return parameters, self.network.encode(parameters, self.mask_D, self.batch.input_NPQ, self.spec.dtype).mean

    def total_and_terms(self) -> tuple[Tensor, Tensor]:
        weights, active = self.hyperparameters, self.spec.active_terms
        noise_ND = self.batch.noise_ND * self.mask_D
        z_ND = self.posterior.mean + noise_ND * torch.exp(0.5 * self.posterior.logvar)
        decoded, original = self._decoded(z_ND, noise_ND), self.batch.input_NPQ.to(torch.float32)
        reconstruction = squared_error(decoded, original)
        kl_3S = self._kl_terms(z_ND, noise_ND)
        total = weights.reconstruction * reconstruction + (weights.kl_3S * kl_3S).sum()
        terms = [reconstruction[None], kl_3S.flatten()]
        if active.multiscale:
            errors_M = multiscale_errors(self.network.from_output(decoded - original))
            total, terms = total + (weights.multiscale_M * errors_M).sum(), [*terms, errors_M]
        if active.contrasts:
            contrast_M = torch.stack([self._contrast(*contrast) for contrast in active.contrasts])
            total, terms = total + (weights.contrast_M * contrast_M).sum(), [*terms, contrast_M]
        if active.independence:
            independence_M = torch.stack([self._independence(name) for name in active.independence])
            # The probe has weight one; the weight of the encoder's term is the strength of the gradient reversal.
            is_probe_M = torch.tensor([name == "adversarial" for name in active.independence], device=total.device)
            weight_M = torch.where(is_probe_M, (weights.independence_M > 0).to(torch.float32), weights.independence_M)
            total, terms = total + (weight_M * independence_M).sum(), [*terms, independence_M]
        return total, torch.cat([total[None], *terms]).detach()

    def _kl_terms(self, z_ND: Tensor, noise_ND: Tensor) -> Tensor:
        """Return the KL terms of both subspaces, [3, S], nats per view.

        Each view has the terms of its posterior. With the fusion `poe`, the shared latents of a pair have one joint
        posterior, and each view has half of its terms.
        """
        codes, fusions = (z_ND, *self.posterior), self.spec.active_terms.fusions
        if "poe" not in fusions:
            return self._decomposed(*codes)
        (private, shared), own = self.spec.subspaces.values(), self._shared_posterior()
        is_joint = self.hyperparameters.fusion_M[fusions.index("poe")] > 0
        joint = FUSIONS["poe"](own, z_ND[:, shared], noise_ND[:, shared]), *joint_posterior(own)
        of_pair = [torch.where(is_joint, pair, view[:, shared]) for pair, view in zip(joint, codes, strict=True)]
        codes_ND = [torch.cat([view[:, private], part], dim=1) for view, part in zip(codes, of_pair, strict=True)]
        half = torch.where(is_joint, 0.5, 1.0)
        return self._decomposed(*codes_ND) * torch.stack([torch.ones_like(half), half])

    def _decomposed(self, *codes_ND: Tensor) -> Tensor:
        z_VBD, mean_VBD, logvar_VBD = (part_ND.unflatten(0, (2, -1)) for part_ND in codes_ND)
        return torch.stack(kl.decompose(z_VBD, mean_VBD, logvar_VBD, self.hyperparameters.subspace_DS))

    def _shared_posterior(self) -> Posterior:
        _, shared = self.spec.subspaces.values()
        return Posterior(self.posterior.mean[:, shared], self.posterior.logvar[:, shared])

    def _decoded(self, z_ND: Tensor, noise_ND: Tensor) -> Tensor:
        (private, shared), posterior = self.spec.subspaces.values(), self._shared_posterior()
        fusions = [FUSIONS[name] for name in self.spec.active_terms.fusions]
        fused = [fuse(posterior, z_ND[:, shared], noise_ND[:, shared]) for fuse in fusions]
        shared_ND = fused[0]
        if len(fused) > 1:
            shared_ND = (self.hyperparameters.fusion_M[:, None, None] * torch.stack(fused)).sum(dim=0)
        decoder_input_ND = torch.cat([z_ND[:, private], shared_ND * self.mask_D[shared]], dim=1)
        return self.network.decode(self.parameters, decoder_input_ND, self.spec.dtype).to(torch.float32)

    def _contrast(self, name: str, subspace: Subspace) -> Tensor:
        return CONTRASTS[name].loss(_StrategyInputs(self, name, subspace))

    def _independence(self, name: str) -> Tensor:
        if name == "adversarial":
            return self._adversarial()
        if name == "swap_cycle":
            return self._swap_cycle()
        (private, shared), mean_ND, mask_D = self.spec.subspaces.values(), self.posterior.mean, self.mask_D
        return INDEPENDENCE[name](mean_ND[:, private], mean_ND[:, shared], mask_D[private], mask_D[shared])

    def _adversarial(self) -> Tensor:
        """Return the loss of a probe that predicts the group of a clip from its private latents."""
        strength = self.hyperparameters.independence_M[self.spec.active_terms.independence.index("adversarial")]
        latents_ND = reverse_gradient(self.posterior.mean, strength) * self.subspace_mask("private")
        logits_NG = apply_head(self.parameters, Head(PROBE, "private"), latents_ND)
        is_group_G = torch.arange(logits_NG.shape[1], device=logits_NG.device) < self.spec.groups
        return cross_entropy(torch.where(is_group_G, logits_NG, EXCLUDED), self.batch.group_B.tile(2))

    def _swap_cycle(self) -> Tensor:
        """Return the squared error of latents that are decoded and encoded again, with the shared part swapped.

        Each clip is decoded with the shared latents of another pair. The error is summed over private and shared
        latents and averaged over clips.
        """
        mean_ND = self.posterior.mean
        other_ND = mean_ND.unflatten(0, (2, -1)).roll(1, dims=1).flatten(0, 1)
        mixed_ND = mean_ND * self.subspace_mask("private") + other_ND * self.subspace_mask("shared")
        swapped = self.network.decode(self.parameters, mixed_ND, self.spec.dtype)
        again_ND = self.network.encode(self.parameters, self.mask_D, swapped, self.spec.dtype).mean
        error: Tensor = (again_ND - mixed_ND.detach()).square().sum(dim=1).mean()
        return error

    def subspace_mask(self, subspace: Subspace) -> Tensor:
        """Return one for each latent of the model in a subspace, [D]."""
        return self.hyperparameters.subspace_DS[:, list(self.spec.subspaces).index(subspace)]


class _StrategyInputs:
    """See `marl.losses.ssl.StrategyInputs`. X is the larger number of latents and outputs of the projection head."""

    def __init__(self, objective: _Objective, name: str, subspace: Subspace) -> None:
        self._objective, self._strategy, self._subspace = objective, CONTRASTS[name], subspace
        self.temperature = objective.hyperparameters.temperature

    @property
    def local_features_NLE(self) -> Tensor:
        return self._objective.local_features_NLE

    @property
    def excluded_negatives_NN(self) -> Tensor:
        return tile_views(self._objective.same_BB & self._objective.hyperparameters.exclude_same_group)

    def views(self) -> tuple[Tensor, Tensor, Pairing]:
        latents_NX, mask_X = self._compared()
        first_BX, second_BX = latents_NX.chunk(2)
        pairing = Pairing(mask_X, self._objective.same_BB, self._objective.excluded_BB, self.temperature)
        return first_BX, second_BX, pairing

    def _compared(self) -> tuple[Tensor, Tensor]:
        """Return latents or projections of them, at one width for all lanes, and their mask."""
        active, subspace = self._objective.spec.active_terms, self._objective.spec.subspaces[self._subspace]
        latents_NX, mask_X = self._objective.posterior.mean[:, subspace], self._objective.mask_D[subspace]
        if self._strategy.projection == "never" or self._subspace not in active.projections:
            return latents_NX, mask_X
        projected_NW = self.apply_head(PROJECTION)
        size, width = latents_NX.shape[1], projected_NW.shape[1]
        wide_NX, wide_mask_X = (pad(part, (0, max(0, width - size))) for part in (latents_NX, mask_X))
        projected_NX = pad(projected_NW, (0, max(0, size - width)))
        every_X = pad(torch.ones_like(projected_NW[0]), (0, max(0, size - width)))
        is_projected = self._objective.hyperparameters.projected
        return torch.where(is_projected, projected_NX, wide_NX), torch.where(is_projected, every_X, wide_mask_X)

    def apply_head(self, kind: HeadKind, inputs: Tensor | None = None) -> Tensor:
        inputs = self._latents(self._objective.posterior.mean) if inputs is None else inputs
        return apply_head(self._objective.parameters, Head(kind, self._subspace), inputs)

    def target_projection_NW(self) -> Tensor:
        parameters, mean_ND = self._objective.target
        with torch.no_grad():
            return apply_head(parameters, Head(PROJECTION, self._subspace), self._latents(mean_ND))

    def early_half_outputs(self, kind: HeadKind) -> Tensor:
        network, spec = self._objective.network, self._objective.spec
        log_mel_NFT = network.from_output(self._objective.batch.input_NPQ)
        frames, (steps, _) = log_mel_NFT.shape[-1], network.local_shape
        is_early_T = torch.arange(frames, device=log_mel_NFT.device) < frames - steps // 2 * (frames // steps)
        early = network.to_input(log_mel_NFT * is_early_T)
        mean_ND = network.encode(self._objective.parameters, self._objective.mask_D, early, spec.dtype).mean
        return self.apply_head(kind, self._latents(mean_ND))

    def _latents(self, mean_ND: Tensor) -> Tensor:
        return mean_ND * self._objective.subspace_mask(self._subspace)
