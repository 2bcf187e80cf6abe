import dataclasses
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marl.data import Factor, PairSampler, Partners
from marl.data import pairs as pairs_module
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


FACTORS = tuple(Factor(name, tuple(range(4)), tuple(range(4))) for name in "abc")


def partners_by_rule(values, clip):
    """Clips with the same first factor and different others, one by one; unknown factors count as different."""
    return {
        other
        for other in range(len(values))
        if other != clip
        and values[other][0] == values[clip][0] != UNKNOWN
        and all(own == UNKNOWN or own != its for own, its in zip(values[clip][1:], values[other][1:], strict=True))
    }


@settings(max_examples=40)
@given(
    values=st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=90),
    positions_at_once=st.sampled_from([7, 1 << 20]),
    most_blocks=st.sampled_from([3, 1 << 22]),
)
def test_each_partner_that_the_rule_allows_has_one_rank(small_dataset, values, positions_at_once, most_blocks):
    values = [(0, 0, 0), *values]
    dataset = with_values(small_dataset, torch.tensor(values), FACTORS)
    with patch.multiple(pairs_module, _POSITIONS_AT_ONCE=positions_at_once, _MAX_BLOCKS=most_blocks):
        partners = Partners(dataset, ["a"], "training")
    assert set(partners.clips_N.tolist()) == {clip for clip, row in enumerate(values) if row[0] != UNKNOWN}
    for position, (clip, count) in enumerate(zip(partners.clips_N.tolist(), partners.count_N.tolist(), strict=True)):
        ranks = torch.arange(count)
        found = partners.clips_N[partners.select(torch.full_like(ranks, position), ranks)].tolist()
        assert len(set(found)) == count
        assert set(found) == partners_by_rule(values, clip)
    assert partners.unpaired == int((partners.count_N == 0).sum())


def hard_values(unpaired=0):
    """400 clips: one in a hundred has another value of b than all others, and some share a value of a with no clip."""
    values = torch.tensor([[0, int(clip % 100 == 0), clip] for clip in range(400)])
    values[1 : 1 + unpaired, 0] = torch.arange(1, 1 + unpaired)
    return values


def hard_dataset(dataset, unpaired=0):
    numbers = tuple(range(400))
    factors = tuple(Factor(name, numbers, numbers) for name in "abc")
    return with_values(dataset, hard_values(unpaired), factors)


def test_rare_partners_are_found_and_equally_frequent(small_dataset):
    dataset = hard_dataset(small_dataset)
    first, second = draw(PairSampler(dataset, ["a"]), [0], [0], 8000).clips_KVB[0]
    assert (dataset.value_NC[first, 1:] != dataset.value_NC[second, 1:]).all()
    frequent = dataset.value_NC[first, 1] == 0
    counts = second[frequent].bincount(minlength=400)[::100]
    assert counts.sum() == frequent.sum()
    assert (counts - counts.sum() / 4).abs().max() < 4 * (counts.sum() * 3 / 16) ** 0.5


def test_clips_without_a_partner_are_never_drawn(small_dataset):
    dataset = hard_dataset(small_dataset, unpaired=4)
    assert Partners(dataset, ["a"], "training").unpaired == 4
    drawn = draw(PairSampler(dataset, ["a"]), [0, 1], [0, 0], 2000).clips_KVB
    assert set(drawn.unique().tolist()) == {*range(400)} - {1, 2, 3, 4}


def test_more_than_a_percent_of_training_clips_without_a_partner_are_rejected(small_dataset):
    facts = ["views.shared", "1%", "training", "same a", "another b, c", "5 of 400", "1.2%", "add clips"]
    with pytest.raises(ValueError, match=mentions(*facts)):
        PairSampler(hard_dataset(small_dataset, unpaired=5), ["a"])


def test_factors_that_follow_from_the_shared_ones_are_named(small_dataset):
    values = torch.tensor([[clip % 4, clip % 2, clip // 4] for clip in range(16)])
    dataset = with_values(small_dataset, values, FACTORS)
    with pytest.raises(ValueError, match=mentions("views.shared", "16 of 16", "add b to views.shared")):
        PairSampler(dataset, ["a"])
    assert Partners(dataset, ["a", "b"], "training").unpaired == 0


def test_a_held_out_split_without_partners_has_no_pairs(small_dataset):
    splits = {"training": torch.arange(16), "validation": torch.tensor([16, 17])}
    values = torch.tensor([[clip % 2, clip // 8, clip // 4 % 4] for clip in range(18)])
    dataset = dataclasses.replace(small_dataset, value_NC=values, factors=FACTORS, splits=splits)
    assert PairSampler(dataset, ["a"], "validation").is_empty
    assert not PairSampler(dataset, ["a"]).is_empty


def test_clips_with_unknown_private_factors_are_not_paired_with_themselves(small_dataset):
    values = torch.tensor([[clip % 4, UNKNOWN, UNKNOWN] for clip in range(12)])
    first, second = draw(PairSampler(with_values(small_dataset, values, FACTORS), ["a"]), [0], [0], 512).clips_KVB[0]
    assert (first != second).all()
    assert len(torch.unique(torch.stack([first, second]), dim=1)[0]) == 12 * 2


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
