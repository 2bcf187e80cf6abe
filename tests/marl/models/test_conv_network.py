import pytest
import torch
from torch.nn.functional import conv2d, conv_transpose2d, hardswish

from marl.models import Architecture, ConvNetwork, LatentConfig, ModelConfig
from tests.marl.models.kernels import convolution_weight, last_weight, transposed_weight
from tests.messages import mentions

SMALL = ModelConfig(kind="conv", channels=16, hidden=32)


def network(bands: int = 64, frames: int = 64) -> ConvNetwork:
    return ConvNetwork(Architecture(bands, frames, SMALL, private=6, shared=5))


@pytest.mark.parametrize(("bands", "frames"), [(64, 40), (24, 64), (8, 8)])
def test_spectrograms_that_are_not_multiples_of_16_are_rejected(bands, frames):
    with pytest.raises(ValueError, match=mentions("mel_bands", "frames", "multiple", 16, bands, frames)):
        network(bands, frames)


@pytest.mark.parametrize(("bands", "frames"), [(64, 64), (16, 48)])
def test_the_network_agrees_with_convolutions_of_torch(bands, frames):
    torch.manual_seed(0)
    net = network(bands, frames)
    latent = LatentConfig(private=6, shared=5)
    values = {name: torch.randn_like(value) * 0.1 for name, value in net.initial(latent, seed=0).items()}
    kernels = {
        "encoder.conv1": torch.randn(16, 1, 4, 4),
        "encoder.conv2": torch.randn(16, 16, 4, 4),
        "encoder.conv3": torch.randn(32, 16, 4, 4),
        "encoder.conv4": torch.randn(32, 32, 4, 4),
        "decoder.conv1": torch.randn(32, 32, 4, 4),
        "decoder.conv2": torch.randn(32, 16, 4, 4),
        "decoder.conv3": torch.randn(16, 16, 4, 4),
        "decoder.conv4": torch.randn(16, 1, 4, 4),
    }
    kernels = {name: 0.1 * kernel for name, kernel in kernels.items()}
    for name, kernel in kernels.items():
        to_weight = convolution_weight if name.startswith("encoder") else transposed_weight
        values[f"{name}.weight"] = to_weight(kernel)
    values["encoder.conv1.weight"] = kernels["encoder.conv1"].flatten(1).T
    values["decoder.conv4.weight"] = last_weight(kernels["decoder.conv4"])
    assert {name: tuple(value.shape) for name, value in values.items()} == net.shapes

    def linear(name, given):
        return given @ values[f"{name}.weight"] + values[f"{name}.bias"]

    log_mel, z = torch.randn(3, bands, frames), torch.randn(3, 11)
    hidden = log_mel[:, None]
    for name in ("encoder.conv1", "encoder.conv2", "encoder.conv3", "encoder.conv4"):
        hidden = hardswish(conv2d(hidden, kernels[name], values[f"{name}.bias"], stride=2, padding=1))
    hidden = hardswish(linear("encoder.hidden", hidden.movedim(1, -1).flatten(1)))
    posterior = net.encode(values, torch.ones(11), net.to_input(log_mel))
    torch.testing.assert_close(posterior.mean, linear("encoder.mean", hidden), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(posterior.logvar, linear("encoder.logvar", hidden), rtol=1e-4, atol=1e-5)

    hidden = hardswish(linear("decoder.grid", hardswish(linear("decoder.hidden", z))))
    hidden = hidden.unflatten(1, (bands // 16, frames // 16, 32)).movedim(-1, 1)
    for name in ("decoder.conv1", "decoder.conv2", "decoder.conv3"):
        hidden = hardswish(conv_transpose2d(hidden, kernels[name], values[f"{name}.bias"], stride=2, padding=1))
    expected = conv_transpose2d(hidden, kernels["decoder.conv4"], stride=2, padding=1)[:, 0]
    torch.testing.assert_close(net.from_output(net.decode(values, z)), expected, rtol=1e-4, atol=1e-5)
