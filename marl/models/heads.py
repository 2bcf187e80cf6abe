"""Heads: two-layer networks between latents and terms of the objective. A trained model does not keep them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import hardswish

from marl.models.config import Parameters, ParameterSpec, Subspace

__all__ = ["PROJECTION", "Head", "HeadKind", "HeadSizes", "Target", "apply_head"]


class HeadSizes(NamedTuple):
    """Sizes that the outputs of a head can depend on."""

    width: int  # `ModelConfig.head`
    local_steps: int  # time steps of the local features of the encoder
    local_features: int  # local features of each step
    groups: int  # combinations of values of the shared factors


class HeadKind(NamedTuple):
    """Kind of a head, which each subspace can have: the size of its outputs, and what it reads."""

    name: str  # first part of the names of the parameters
    outputs: Callable[[HeadSizes], int]
    reads_projection: bool = False  # whether the inputs are the outputs of `PROJECTION` instead of latents


PROJECTION = HeadKind("projection", lambda sizes: sizes.width)
"""The projection head of Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020."""


class Head(NamedTuple):
    """A head of one subspace."""

    kind: HeadKind
    subspace: Subspace

    @property
    def name(self) -> str:
        """Prefix of the names of the parameters, such as `projection.shared`."""
        return f"{self.kind.name}.{self.subspace}"

    def specs(self, latents: int, sizes: HeadSizes) -> dict[str, ParameterSpec]:
        """Return the parameters of the two layers, for a network with this number of latents."""
        width, outputs, name = sizes.width, self.kind.outputs(sizes), self.name
        if self.kind.reads_projection:
            first = ParameterSpec((width, width), fan_in=width, head=name)
        else:
            first = ParameterSpec((latents, width), latent_inputs=(self.subspace,), latent_dim=0, head=name)
        return {
            f"{name}.{_first_layer(self)}.weight": first,
            f"{name}.{_first_layer(self)}.bias": ParameterSpec((width,), head=name),
            f"{name}.out.weight": ParameterSpec((width, outputs), fan_in=width, head=name),
            f"{name}.out.bias": ParameterSpec((outputs,), head=name),
        }


class Target(NamedTuple):
    """An exponential moving average of the encoder or of a head, which is not trained."""

    follows: str  # `encoder`, or the name of a head

    @property
    def name(self) -> str:
        """Prefix of the names of the parameters, such as `target.encoder`."""
        return f"target.{self.follows}"

    def specs(self, followed: Mapping[str, ParameterSpec]) -> dict[str, ParameterSpec]:
        """Return the parameters of the target. `followed` has the parameters that they are averages of."""
        return {f"target.{name}": spec._replace(head=self.name, follows=name) for name, spec in followed.items()}


def apply_head(parameters: Parameters, head: Head, inputs: Tensor) -> Tensor:
    """Return the outputs of a head. Inputs are latents [N, D], zero outside of the subspace, or projections [N, W]."""
    first = f"{head.name}.{_first_layer(head)}"
    hidden = hardswish(inputs @ parameters[f"{first}.weight"] + parameters[f"{first}.bias"])
    return hidden @ parameters[f"{head.name}.out.weight"] + parameters[f"{head.name}.out.bias"]


def _first_layer(head: Head) -> str:
    return "hidden" if head.kind.reads_projection else "latents"
