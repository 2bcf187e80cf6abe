"""Encoder and decoder of matrix products over patches of the spectrogram. P is patches, Q values of a patch."""

import math

from torch import Tensor
from torch.nn.functional import hardswish

from marl.models.config import Architecture, Parameters, ParameterSpec
from marl.models.network import Network, linear, linear_specs

__all__ = ["PatchNetwork"]

_OUTPUT = "decoder.patch.weight"


class PatchNetwork(Network):
    """Fully connected layers on patches of the spectrogram: matrix products, which a stack computes as batched ones."""

    kind = "patch"

    def __init__(self, architecture: Architecture) -> None:
        bands, frames, model, _, _ = architecture
        if bands % model.patch_bands:
            raise ValueError(f"model.patch_bands must divide the {bands} mel_bands; got {model.patch_bands}")
        if frames % model.patch_frames:
            raise ValueError(f"model.patch_frames must divide the {frames} frames; got {model.patch_frames}")
        self._patch = model.patch_bands, model.patch_frames
        self._grid = bands // model.patch_bands, frames // model.patch_frames
        self.patches, values = math.prod(self._grid), math.prod(self._patch)
        super().__init__(
            architecture,
            encoder=linear_specs("encoder.patch", values, model.width)
            | linear_specs("encoder.embedding", model.width, model.embedding)
            | linear_specs("encoder.hidden", self.patches * model.embedding, model.hidden),
            decoder=linear_specs("decoder.embedding", model.hidden, self.patches * model.embedding)
            | linear_specs("decoder.width", model.embedding, model.width)
            | {_OUTPUT: ParameterSpec((model.width, values), fan_in=model.width)},
            local_shape=(self._grid[1], self._grid[0] * model.embedding),
        )

    def to_input(self, log_mel_NFT: Tensor) -> Tensor:
        """Return spectrograms as patches [N, P, Q]; a view if possible."""
        (rows, columns), (bands, frames) = self._grid, self._patch
        return _regrouped(log_mel_NFT, (rows, bands), (columns, frames))

    def from_output(self, output_NPQ: Tensor) -> Tensor:
        """Return spectrograms [N, F, T]: the inverse of `to_input`."""
        return _regrouped(output_NPQ, self._grid, self._patch)

    def _encode(self, parameters: Parameters, input_NPQ: Tensor) -> tuple[Tensor, Tensor]:
        hidden = hardswish(linear(parameters, "encoder.patch", input_NPQ.flatten(0, 1)))
        hidden = hardswish(linear(parameters, "encoder.embedding", hidden)).unflatten(0, (-1, self.patches))
        return hardswish(linear(parameters, "encoder.hidden", hidden.flatten(1))), hidden

    def _local_features(self, layer: Tensor) -> Tensor:
        steps, _ = self.local_shape
        features: Tensor = layer.unflatten(1, (-1, steps)).transpose(1, 2).flatten(2)
        return features

    def _decode(self, parameters: Parameters, hidden: Tensor) -> Tensor:
        hidden = hardswish(linear(parameters, "decoder.embedding", hidden))
        hidden = hidden.unflatten(1, (self.patches, -1)).flatten(0, 1)
        hidden = hardswish(linear(parameters, "decoder.width", hidden))
        patches: Tensor = (hidden @ parameters[_OUTPUT].to(hidden.dtype)).unflatten(0, (-1, self.patches))
        return patches


def _regrouped(image: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Split rows and columns into outer and inner parts, and exchange inner rows with outer columns."""
    parts = image.unflatten(-1, columns).unflatten(-3, rows).transpose(-3, -2)
    regrouped: Tensor = parts.flatten(-2, -1).flatten(-3, -2)
    return regrouped
