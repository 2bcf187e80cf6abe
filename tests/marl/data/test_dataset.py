import dataclasses

import torch

from marl.data.dataset import UNKNOWN
from marl.evaluation import evaluate
from marl.evaluation.context import EvaluationContext
from tests.marl.cases import PROBAND, new_stack


def by_timbre(dataset):
    """Split by timbre: two for training, one each for validation and test, a third of which fits probes."""
    of = {name: torch.nonzero(dataset.value_NC[:, 0] == number).flatten() for number, name in enumerate("abcd")}
    splits = {
        "training": torch.cat([of["a"], of["b"]]),
        "validation": of["c"][::3],
        "validation_probe_train": of["c"][1::3],
        "test": of["d"][::3],
        "test_probe_train": of["d"][1::3],
    }
    return dataclasses.replace(dataset, splits=splits)


def test_an_unknown_factor_has_no_class(small_dataset):
    values = small_dataset.value_NC.clone()
    values[0, 1] = UNKNOWN
    dataset = dataclasses.replace(small_dataset, value_NC=values)
    expected = small_dataset.classes(torch.tensor([0, 5]))
    expected[0, 1] = UNKNOWN
    assert torch.equal(dataset.classes(torch.tensor([0, 5])), expected)


def test_probes_are_fitted_on_training_clips_with_known_factors(small_dataset):
    values = small_dataset.value_NC.clone()
    unknown = small_dataset.splits["training"][:10]
    values[unknown, 1] = UNKNOWN
    fitting = dataclasses.replace(small_dataset, value_NC=values).probe_train_clips("validation")
    assert fitting.tolist() == small_dataset.splits["training"][10:].tolist()
    assert torch.equal(small_dataset.probe_train_clips("validation"), small_dataset.splits["training"])


def test_with_a_split_by_factor_probes_are_fitted_on_other_held_out_clips(small_dataset):
    dataset = by_timbre(small_dataset)
    stack = new_stack(dataset, 1)
    stack.attach(PROBAND, seed=0)
    for split, timbre in (("validation", 2), ("test", 3)):
        context = EvaluationContext(stack.models, ["timbre"], split)
        for encoded in (context.fit, context.held_out):
            assert set(dataset.value_NC[encoded.clips, 0].tolist()) == {timbre}
        assert not set(context.fit.clips.tolist()) & set(context.held_out.clips.tolist())


def test_chance_counts_the_classes_of_the_fitting_clips(small_dataset):
    assert small_dataset.num_eval_classes("validation") == (4, 20, 4)
    assert by_timbre(small_dataset).num_eval_classes("validation") == (2, 20, 4)


def test_metrics_are_finite_with_a_single_held_out_class(small_dataset):
    stack = new_stack(by_timbre(small_dataset), 1)
    stack.attach(PROBAND, seed=0)
    (metrics,) = evaluate(stack.models, ["timbre"], ["single_latents", "linear_information", "probes"]).metrics
    assert all(torch.isfinite(torch.tensor(list(metrics.values()))))
    assert metrics["probe/timbre/shared"] == metrics["linear_accuracy/timbre/shared"] == 1.0  # a single class
    assert metrics["linear_information/timbre/shared"] == 0.0
    assert metrics["nmi/timbre/shared"] == 0.0
