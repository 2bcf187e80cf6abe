"""Encoder and decoder of matmuls over patches of the spectrogram.

B is clips, P patches, Q values of a patch, F mel bands, T frames.
"""

from torch import Tensor
from torch.nn.functional import hardswish

from marl.models.config import Architecture, Parameters
from marl.models.network import Network, linear, linear_shapes

__all__ = ["PatchNetwork"]

_OUTPUT = "decoder.patch.weight"


class PatchNetwork(Network):
    """Every layer is a matmul: stacked over many models, matmuls become batched matmuls, which are fast.

    Raises:
        ValueError: when the patches do not tile the spectrogram.
    """

    def __init__(self, architecture: Architecture) -> None:
        bands, frames, model, _, _ = architecture
        if bands % model.patch_bands or frames % model.patch_frames:
            raise ValueError(
                f"patches of {model.patch_bands} bands x {model.patch_frames} frames must tile a spectrogram of "
                f"{bands} x {frames}: model.patch_bands and model.patch_frames must divide mel_bands and frames"
            )
        values = model.patch_bands * model.patch_frames
        self.patches = bands * frames // values
        super().__init__(
            architecture,
            encoder=linear_shapes("encoder.patch", values, model.width)
            | linear_shapes("encoder.embedding", model.width, model.embedding)
            | linear_shapes("encoder.hidden", self.patches * model.embedding, model.hidden),
            decoder=linear_shapes("decoder.embedding", model.hidden, self.patches * model.embedding)
            | linear_shapes("decoder.width", model.embedding, model.width)
            | {_OUTPUT: (model.width, values)},
            local=(frames // model.patch_frames, bands // model.patch_bands * model.embedding),
        )

    def to_input(self, log_mel_BFT: Tensor) -> Tensor:
        """Spectrograms as patches [B, P, Q]; a view where the layout allows it."""
        bands, frames, model, _, _ = self.architecture
        tiles = log_mel_BFT.unflatten(-1, (frames // model.patch_frames, model.patch_frames)).unflatten(
            -3, (bands // model.patch_bands, model.patch_bands)
        )
        patches: Tensor = tiles.transpose(-3, -2).flatten(-2, -1).flatten(-3, -2)
        return patches

    def from_output(self, output_BPQ: Tensor) -> Tensor:
        """The inverse of `to_input`: spectrograms [B, F, T]."""
        bands, frames, model, _, _ = self.architecture
        tiles = output_BPQ.unflatten(-1, (model.patch_bands, model.patch_frames)).unflatten(
            -3, (bands // model.patch_bands, frames // model.patch_frames)
        )
        spectrograms: Tensor = tiles.transpose(-3, -2).flatten(-2, -1).flatten(-3, -2)
        return spectrograms

    def _encode(self, parameters: Parameters, input_BPQ: Tensor) -> tuple[Tensor, Tensor]:
        hidden = hardswish(linear(parameters, "encoder.patch", input_BPQ.flatten(0, 1)))
        hidden = hardswish(linear(parameters, "encoder.embedding", hidden)).unflatten(0, (-1, self.patches))
        return hardswish(linear(parameters, "encoder.hidden", hidden.flatten(1))), hidden

    def _by_time(self, layer: Tensor) -> Tensor:
        steps, _ = self.local
        by_time: Tensor = layer.unflatten(1, (-1, steps)).transpose(1, 2).flatten(2)
        return by_time

    def _decode(self, parameters: Parameters, hidden: Tensor) -> Tensor:
        hidden = hardswish(linear(parameters, "decoder.embedding", hidden))
        hidden = hidden.unflatten(1, (self.patches, -1)).flatten(0, 1)
        hidden = hardswish(linear(parameters, "decoder.width", hidden))
        patches: Tensor = (hidden @ parameters[_OUTPUT].to(hidden.dtype)).unflatten(0, (-1, self.patches))
        return patches
