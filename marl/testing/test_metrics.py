"""Contract of a metric: a finite value of each model, which depends on that model alone."""

import pytest
import torch
from torch import Tensor

from marl.evaluation import PLUGIN_METRICS, EvaluationContext
from marl.testing.cases import Case, Plugin


def _values(plugin: Plugin, case: Case, models: list[int]) -> Tensor:
    for lane in range(case.stack.lanes):
        if lane in case.stack.free_lanes:
            case.stack.attach(case.config, seed=lane)
    chosen = case.stack.models.group([case.stack.models[index] for index in models], len(models))
    (values_K,) = PLUGIN_METRICS[plugin.name].compute(EvaluationContext(chosen, ["timbre"], "validation")).values()
    return values_K


@pytest.fixture(scope="module")
def case() -> Case:
    """Three untrained models."""
    return Case({}, lanes=3)


def test_values_are_finite(plugin: Plugin, case: Case) -> None:
    values_K = _values(plugin, case, [0, 1, 2])
    assert values_K.isfinite().all(), f"{plugin.name} must be finite; got {values_K.tolist()}"


def test_values_are_the_same_again(plugin: Plugin, case: Case) -> None:
    first, second = (_values(plugin, case, [0, 1, 2]) for _ in range(2))
    assert torch.equal(first, second), f"{plugin.name} depends on chance: {first.tolist()}, then {second.tolist()}"


def test_a_batch_has_the_values_of_each_model_alone(plugin: Plugin, case: Case) -> None:
    together = _values(plugin, case, [0, 1, 2])
    alone = torch.cat([_values(plugin, case, [index]) for index in range(3)])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-6), (
        f"{plugin.name} of a model depends on the other models: {together.tolist()} together, {alone.tolist()} alone"
    )


def test_padded_latents_do_not_count(plugin: Plugin) -> None:
    narrow, wide = (_values(plugin, Case({}, *sizes), [0, 1]) for sizes in ((3, 2), (7, 9)))
    assert torch.allclose(narrow, wide, rtol=1e-3, atol=1e-5), (
        f"{plugin.name} is {narrow.tolist()} for models with 5 latents, and {wide.tolist()} for the same models padded "
        "to 16: padded latents must not count; use context.models.mask_KD"
    )
