"""Contract of a network: functions of parameters that pad, stack and invert."""

import pytest
import torch
from torch import Tensor

from marl.config import Config
from marl.models import Parameters
from marl.testing.cases import Case, Plugin, assert_same_bits, records, small_dataset, snapshots_in_two_lanes


def _sections(plugin: Plugin) -> dict[str, dict[str, object]]:
    return {"model": {"kind": plugin.name, **plugin.options}}


def _clips(case: Case, count: int = 8) -> Tensor:
    return case.network.to_input(small_dataset().log_mels.take(torch.arange(count)))


def test_the_configuration_survives_json(plugin: Plugin) -> None:
    config = Case(_sections(plugin)).config
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_inputs_and_outputs_invert_each_other(plugin: Plugin) -> None:
    case = Case(_sections(plugin))
    log_mel_NFT = small_dataset().log_mels.take(torch.arange(4))
    given = case.network.to_input(log_mel_NFT)
    assert given.ndim == 3, f"to_input of {plugin.name} must return three dimensions; got {list(given.shape)}"
    assert torch.equal(case.network.from_output(given), log_mel_NFT), "from_output must be the inverse of to_input"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outputs_have_shape_and_dtype(plugin: Plugin, dtype: torch.dtype) -> None:
    case = Case(_sections(plugin))
    model, given = case.model(), _clips(case)
    mask_D = model.hyperparameters.mask_D
    posterior, local_NLE = case.network.encode_with_local_features(model.parameters, mask_D, given, dtype)
    output = case.network.decode(model.parameters, posterior.mean, dtype)
    assert posterior.mean.shape == (len(given), 5)
    assert output.shape == given.shape, f"decode must return {list(given.shape)}; got {list(output.shape)}"
    assert output.dtype == dtype, f"layers must compute in the type of their input, {dtype}; got {output.dtype}"
    assert local_NLE.shape[1:] == case.network.local_shape, (
        f"local features must have local_shape {case.network.local_shape}; got {tuple(local_NLE.shape[1:])}"
    )


def test_every_parameter_has_a_finite_gradient(plugin: Plugin) -> None:
    case = Case(_sections(plugin))
    model, given = case.model(), _clips(case)
    parameters = {name: value.requires_grad_() for name, value in model.parameters.items()}
    posterior = case.network.encode(parameters, model.hyperparameters.mask_D, given)
    loss = (case.network.decode(parameters, posterior.mean) - given).square().sum() + posterior.logvar.sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        assert gradient is not None, f"{name} is not used"
        assert gradient.any(), f"{name} has no effect on the result"
        assert gradient.isfinite().all(), f"the gradient of {name} is not finite"


def test_padded_latents_add_nothing(plugin: Plugin) -> None:
    narrow, wide = Case(_sections(plugin)), Case(_sections(plugin), 7, 9)
    found = []
    for case in (narrow, wide):
        model, given = case.model(), _clips(case)
        mask_D = model.hyperparameters.mask_D
        mean_ND = case.network.encode(model.parameters, mask_D, given).mean
        assert not mean_ND[:, mask_D == 0].any(), "padded latents must be zero"
        found.append((mean_ND[:, mask_D > 0], case.network.decode(model.parameters, mean_ND)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4), (
            f"{plugin.name} computes something else with padded latents; a parameter along latents needs latent_dim"
        )


def test_no_branch_depends_on_values(plugin: Plugin) -> None:
    case = Case(_sections(plugin))
    model, given = case.model(), _clips(case)

    def both(parameters: Parameters, mask_D: Tensor) -> Tensor:
        return case.network.decode(parameters, case.network.encode(parameters, mask_D, given).mean)

    parameters_K = {name: torch.stack([value, value]) for name, value in model.parameters.items()}
    reason = records(both, parameters_K, torch.stack([model.hyperparameters.mask_D] * 2))
    assert not reason, f"{plugin.name} cannot be computed for many models at once: {reason}"


def test_models_have_the_same_bits_in_any_lane(plugin: Plugin) -> None:
    assert_same_bits(*snapshots_in_two_lanes(_sections(plugin)), plugin.name)
