"""Contract of a strategy: a scalar that depends on the model's own latents alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import grad_and_value

from marl.losses.ssl import STRATEGIES
from marl.models import Parameters
from marl.objective import Batch, LaneHyperparameters
from marl.objective.objective import strategy_loss
from marl.testing.cases import Case, Plugin, assert_same_bits, records, snapshots_in_two_lanes


def _sections(plugin: Plugin, projection: bool = False) -> dict[str, dict[str, object]]:
    return {"contrast": {"strategy": plugin.name, "shared": 5.0, "private": 1.0, "projection": projection}}


def _loss(case: Case) -> Callable[[Parameters, LaneHyperparameters, Batch], Tensor]:
    return lambda parameters, hyperparameters, batch: strategy_loss(
        case.spec, parameters, hyperparameters, batch, case.config.contrast.strategy, "shared"
    )


def test_the_loss_is_one_finite_number(plugin: Plugin) -> None:
    case = Case(_sections(plugin))
    model = case.model()
    value = _loss(case)(model.parameters, model.hyperparameters, case.batch())
    assert value.shape == (), f"{plugin.name} must return a scalar; got shape {list(value.shape)}"
    assert value.dtype == torch.float32, f"{plugin.name} must return float32; got {value.dtype}"
    assert value.isfinite(), f"{plugin.name} must be finite for an untrained model; got {value.item()}"


@pytest.mark.parametrize("projection", [False, True], ids=["latents", "projections"])
def test_padded_dimensions_add_nothing(plugin: Plugin, projection: bool) -> None:
    if projection and STRATEGIES[plugin.name].projection == "never":
        pytest.skip("the strategy compares no projections")
    found = []
    for private, shared in ((3, 2), (7, 9)):
        case = Case(_sections(plugin, projection), private, shared)
        model = case.model()
        gradients, value = grad_and_value(_loss(case))(model.parameters, model.hyperparameters, case.batch())
        heads = case.stack.objective_spec.active_terms.heads
        found.append((value, case.network.crop(gradients, model.hyperparameters.mask_D, heads)))
    (narrow, narrow_gradients), (wide, wide_gradients) = found
    reason = (
        f"{plugin.name} is {narrow.item():.6g} for a model with 2 shared latents, and {wide.item():.6g} for the same "
        "model padded to 9: padded dimensions must add nothing; multiply by pairing.mask_D, and divide by its sum "
        "instead of taking a mean over dimensions"
    )
    assert torch.allclose(narrow, wide, rtol=1e-4, atol=1e-6), reason
    for name, gradient in narrow_gradients.items():
        scale = 1e-3 * max(gradient.abs().max().item(), 1e-3)
        assert torch.allclose(gradient, wide_gradients[name], rtol=0, atol=scale), f"gradient of {name}: {reason}"


def test_no_branch_depends_on_values(plugin: Plugin) -> None:
    case = Case(_sections(plugin))
    model, batch = case.model(), case.batch()
    parameters_K = {name: torch.stack([value, value]) for name, value in model.parameters.items()}
    hyperparameters_K = LaneHyperparameters(*(torch.stack([field, field]) for field in model.hyperparameters))
    batch_K = Batch(*(torch.stack([field, field]) for field in batch))
    reason = records(grad_and_value(_loss(case)), parameters_K, hyperparameters_K, batch_K)
    assert not reason, (
        f"{plugin.name} cannot be computed for many models at once: {reason}; use torch.where instead of `if`, and no "
        "value or shape that depends on data (item, tolist, nonzero, masks as indices)"
    )


@pytest.mark.parametrize("latents", ["usual", "equal views", "collapsed"])
def test_gradients_are_finite(plugin: Plugin, latents: str) -> None:
    case = Case(_sections(plugin))
    model, batch = case.model(), case.batch()
    parameters = dict(model.parameters)
    if latents == "equal views":
        batch = batch._replace(input_NPQ=batch.input_NPQ[: len(batch.group_B)].repeat(2, 1, 1))
    if latents == "collapsed":
        parameters["encoder.mean.weight"] = torch.zeros_like(parameters["encoder.mean.weight"])
    gradients, value = grad_and_value(_loss(case))(parameters, model.hyperparameters, batch)
    wrong = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    assert value.isfinite(), f"{plugin.name} is {value.item()} for {latents} latents"
    assert not wrong, f"the gradient of {plugin.name} is not finite for {latents} latents, in {', '.join(wrong)}"


def test_the_loss_trains_the_encoder(plugin: Plugin) -> None:
    case = Case(_sections(plugin))
    model = case.model()
    gradients, _ = grad_and_value(_loss(case))(model.parameters, model.hyperparameters, case.batch())
    assert any(gradient.any() for gradient in gradients.values()), (
        f"{plugin.name} has no gradient, so it would train nothing; detach one view at most"
    )


def test_models_have_the_same_bits_in_any_lane(plugin: Plugin) -> None:
    assert_same_bits(*snapshots_in_two_lanes(_sections(plugin)), plugin.name)
