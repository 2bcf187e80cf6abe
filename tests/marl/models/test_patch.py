import pytest
import torch

from marl.models import Architecture, ModelConfig
from marl.models.patch import PatchNetwork
from tests.messages import mentions


def network(**model: int) -> PatchNetwork:
    return PatchNetwork(Architecture(64, 64, ModelConfig.model_validate(model), private=6, shared=5))


@pytest.mark.parametrize(("bands", "frames"), [(8, 32), (64, 64), (1, 64), (64, 1), (16, 16)])
def test_patches_tile_the_spectrogram_and_invert(bands, frames):
    net = network(patch_bands=bands, patch_frames=frames)
    spectrogram = torch.arange(2 * 64 * 64.0).view(2, 64, 64)
    patches = net.to_input(spectrogram)
    assert patches.shape == (2, 64 * 64 // (bands * frames), bands * frames)
    assert torch.equal(patches[0, 0].view(bands, frames), spectrogram[0, :bands, :frames])
    assert torch.equal(net.from_output(patches), spectrogram)


def test_patches_that_do_not_tile_are_rejected():
    with pytest.raises(ValueError, match=mentions("model.patch_bands", 7, 64)):
        network(patch_bands=7)


def test_parameters_have_the_names_and_shapes_that_checkpoints_have():
    assert network(width=16, embedding=32, hidden=48).shapes == {
        "encoder.patch.weight": (256, 16),
        "encoder.patch.bias": (16,),
        "encoder.embedding.weight": (16, 32),
        "encoder.embedding.bias": (32,),
        "encoder.hidden.weight": (16 * 32, 48),
        "encoder.hidden.bias": (48,),
        "encoder.mean.weight": (48, 11),
        "encoder.mean.bias": (11,),
        "encoder.logvar.weight": (48, 11),
        "encoder.logvar.bias": (11,),
        "decoder.hidden.weight": (11, 48),
        "decoder.hidden.bias": (48,),
        "decoder.embedding.weight": (48, 16 * 32),
        "decoder.embedding.bias": (16 * 32,),
        "decoder.width.weight": (32, 16),
        "decoder.width.bias": (16,),
        "decoder.patch.weight": (16, 256),
    }
