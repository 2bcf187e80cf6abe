"""Networks that only training knows: between latents and terms of the objective. No trained model keeps them.

A head is called by its kind and the subspace that it takes: `projection.shared`. What follows another network slowly is
called by that: `target.encoder`, `target.projection.shared`. D is latents, W `ModelConfig.head`.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import hardswish

from marl.models.config import Parameters

__all__ = ["TARGET", "apply_head", "head_of", "head_shapes"]

TARGET = "target."
"""What the names of parameters begin with that are not trained but follow others."""

Shapes = dict[str, tuple[int, ...]]

# Rows of a matmul are computed alike only if they fill whole registers.
_MULTIPLE = 16


def head_of(name: str) -> str | None:
    """The head that a parameter belongs to; none if it is the model's own."""
    if name.startswith(TARGET):
        followed = name.removeprefix(TARGET)
        return TARGET + (head_of(followed) or followed.split(".")[0])
    kind, subspace, *_ = name.split(".")
    return None if kind in ("encoder", "decoder") else f"{kind}.{subspace}"


def head_shapes(
    head: str, network: Mapping[str, tuple[int, ...]], latents: int, width: int, local: tuple[int, int], groups: int
) -> Shapes:
    """Parameters of a head: two layers, or those of what it follows.

    Args:
        head: its name.
        network: parameters of the model itself.
        latents: D.
        width: W.
        local: steps in time and features of each that the network knows of a clip.
        groups: combinations of values of the shared factors, which a probe tells apart.
    """
    if head.startswith(TARGET):
        followed = head.removeprefix(TARGET)
        shapes = network if followed == "encoder" else head_shapes(followed, network, latents, width, local, groups)
        return {TARGET + name: shape for name, shape in shapes.items() if name.startswith(f"{followed}.")}
    steps, features = local
    kind, _ = head.split(".")
    outputs = {
        "projection": width,
        "predictor": width,
        "probe": -(-groups // _MULTIPLE) * _MULTIPLE,
        "local_global": features,
        "predictive": steps // 2 * features,
    }[kind]
    first = _first_layer(head)
    inputs = latents if first == "latents" else width
    return {
        f"{head}.{first}.weight": (inputs, width),
        f"{head}.{first}.bias": (width,),
        f"{head}.out.weight": (width, outputs),
        f"{head}.out.bias": (outputs,),
    }


def apply_head(parameters: Parameters, head: str, inputs: Tensor) -> Tensor:
    """What a head makes of latents [B, D], those of other subspaces zero; a predictor, of what a projection made."""
    first = f"{head}.{_first_layer(head)}"
    hidden = hardswish(inputs @ parameters[f"{first}.weight"] + parameters[f"{first}.bias"])
    return hidden @ parameters[f"{head}.out.weight"] + parameters[f"{head}.out.bias"]


def _first_layer(head: str) -> str:
    """Layers of the name `latents` have a row for each latent of the stack, and are cropped with them."""
    return "hidden" if head.removeprefix(TARGET).startswith("predictor.") else "latents"
