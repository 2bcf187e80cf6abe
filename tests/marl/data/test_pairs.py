import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.data import Factor, PairSampler
from marl.data.dataset import UNKNOWN
from tests.messages import mentions


def draw(sampler: PairSampler, seeds: list[int], steps: list[int], pairs: int = 64):
    return sampler.draw(torch.tensor(seeds), torch.tensor(steps), pairs)


@pytest.mark.parametrize("shared", [["timbre"], ["frequency"], ["timbre", "amplitude"]])
def test_views_agree_in_the_shared_factors_and_differ_in_all_others(small_dataset, shared):
    pairs = draw(PairSampler(small_dataset, shared), [0, 1, 2], [5, 6, 7])
    first, second = (small_dataset.value_NC[pairs.clips_KVB[:, view]] for view in (0, 1))
    for column, name in enumerate(small_dataset.factor_names):
        agrees = first[..., column] == second[..., column]
        assert agrees.all() if name in shared else not agrees.any()


@pytest.mark.parametrize("split", ["training", "validation"])
def test_only_clips_of_the_split_are_drawn(small_dataset, split):
    pairs = draw(PairSampler(small_dataset, ["timbre"], split), [0] * 20, list(range(20)))
    assert torch.isin(pairs.clips_KVB, small_dataset.splits[split]).all()


def test_the_group_identifies_pairs_with_equal_shared_factors(small_dataset):
    pairs = draw(PairSampler(small_dataset, ["timbre"]), [3], [4])
    timbre = small_dataset.value_NC[pairs.clips_KVB[0, 0], 0]
    assert torch.equal(pairs.group_KB[0][:, None] == pairs.group_KB[0], timbre[:, None] == timbre)


def test_a_batch_is_a_function_of_seed_and_step_alone(small_dataset):
    sampler = PairSampler(small_dataset, ["timbre"])
    together = draw(sampler, [0, 1, 0], [10, 10, 11])
    alone = draw(sampler, [1], [10])
    assert torch.equal(together.clips_KVB[1], alone.clips_KVB[0])
    assert not torch.equal(together.clips_KVB[0], together.clips_KVB[1])
    assert not torch.equal(together.clips_KVB[0], together.clips_KVB[2])


def test_the_first_pairs_of_a_larger_batch_are_those_of_a_smaller_one(small_dataset):
    sampler = PairSampler(small_dataset, ["timbre"])
    large, small = draw(sampler, [2], [3], 64), draw(sampler, [2], [3], 16)
    assert torch.equal(large.clips_KVB[:, :, :16], small.clips_KVB)


def test_training_clips_are_drawn_uniformly(small_dataset):
    sampler = PairSampler(small_dataset, ["timbre"])
    clips = draw(sampler, [0] * 400, list(range(400))).clips_KVB
    for view in (0, 1):
        counts = clips[:, view].flatten().bincount(minlength=640)[small_dataset.splits["training"]]
        expected = 400 * 64 / 512
        assert counts.min() > expected * 0.4
        assert counts.max() < expected * 1.8


@pytest.mark.parametrize("shared", [[], ["pitch"], ["timbre", "frequency", "amplitude"]])
def test_invalid_shared_factors_are_rejected(small_dataset, shared):
    with pytest.raises(ValueError, match=mentions("views.shared", "timbre", "frequency", "amplitude", repr(shared))):
        PairSampler(small_dataset, shared)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_partners_share_a_group_and_differ_where_possible(small_dataset, data, seed):
    values = torch.tensor(
        data.draw(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=8, max_size=60, unique=True))
    )
    factors = tuple(Factor(name, tuple(range(4)), tuple(range(4))) for name in "abc")
    dataset = dataclasses.replace(
        small_dataset, value_NC=values, factors=factors, splits={"training": torch.arange(len(values))}
    )
    clips = draw(PairSampler(dataset, ["a"]), [seed], [0], 16).clips_KVB[0]
    first, second = values[clips[0]], values[clips[1]]
    assert torch.equal(first[:, 0], second[:, 0])
    for one, other in zip(first, second, strict=True):
        partners = values[(values[:, 0] == one[0]) & (values[:, 1:] != one[1:]).all(dim=1)]
        # 16 draws may miss one allowed partner, but not half of the group.
        group = (values[:, 0] == one[0]).sum()
        if len(partners) * 2 >= group:
            assert (one[1:] != other[1:]).all()


def test_a_combination_of_shared_factors_has_one_number_in_every_split(small_dataset):
    timbre_N = small_dataset.value_NC[:, small_dataset.factor_names.index("timbre")]
    validation = small_dataset.splits["validation"]
    without_the_first = dataclasses.replace(
        small_dataset, splits=small_dataset.splits | {"validation": validation[timbre_N[validation] > 0]}
    )
    sampler = PairSampler(without_the_first, ["timbre"], split="validation")
    drawn = sampler.draw(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 64)
    assert sampler.groups == 4
    assert torch.equal(drawn.group_KB[0], timbre_N[drawn.clips_KVB[0, 0]])


def with_values(dataset, value_NC, factors=None):
    """Return the dataset with other factor values and all clips for training."""
    clips = torch.arange(len(value_NC))
    return dataclasses.replace(
        dataset, value_NC=value_NC, factors=factors or dataset.factors, splits={"training": clips, "validation": clips}
    )


def test_clips_with_unknown_shared_factors_are_never_paired(small_dataset):
    values = small_dataset.value_NC.clone()
    values[::3, 0] = UNKNOWN
    drawn = draw(PairSampler(with_values(small_dataset, values), ["timbre"]), [0], [0], 512).clips_KVB
    assert (values[drawn.flatten(), 0] != UNKNOWN).all()


def test_clips_with_unknown_shared_factors_still_have_two_views(small_dataset):
    values = small_dataset.value_NC.clone()
    values[:, 0] = UNKNOWN
    dataset = with_values(small_dataset, values)
    with pytest.raises(ValueError, match=mentions("views.shared", "timbre", "pairs")):
        PairSampler(dataset, ["timbre"])
    drawn = draw(PairSampler(dataset, ["timbre"], scheme="segment"), [0], [0]).clips_KVB
    assert torch.equal(drawn[:, 0], drawn[:, 1])


def test_unknown_private_factors_count_as_different(small_dataset):
    values = small_dataset.value_NC.clone()
    values[:, 1] = UNKNOWN
    drawn = draw(PairSampler(with_values(small_dataset, values), ["timbre"]), [0, 1], [0, 0]).clips_KVB
    first, second = values[drawn[:, 0]], values[drawn[:, 1]]
    assert (first[..., 0] == second[..., 0]).all()
    assert (first[..., 2] != second[..., 2]).all()


def test_measured_factors_are_compared_by_class(small_dataset):
    timbre, frequency, amplitude = small_dataset.factors
    measured = dataclasses.replace(frequency, is_continuous=True)
    dataset = dataclasses.replace(small_dataset, factors=(timbre, measured, amplitude))
    class_N = torch.tensor(frequency.class_of_value)[dataset.value_NC[:, 1]]
    drawn = draw(PairSampler(dataset, ["frequency"]), [0], [0]).clips_KVB
    assert torch.equal(class_N[drawn[0, 0]], class_N[drawn[0, 1]])
    assert (dataset.value_NC[drawn[0, 0], 1] != dataset.value_NC[drawn[0, 1], 1]).any()
    drawn = draw(PairSampler(dataset, ["timbre"]), [0], [0]).clips_KVB
    assert (class_N[drawn[0, 0]] != class_N[drawn[0, 1]]).all()
