import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marl.data.dataset import UNKNOWN, Factor, split_clips
from tests.messages import mentions

FACTORS = (
    Factor("instrument", tuple(f"instrument {number}" for number in range(30)), tuple(range(30))),
    Factor("pitch", tuple(float(number) for number in range(8)), tuple(range(8))),
)
VALUES = torch.cartesian_prod(torch.arange(30), torch.arange(8)).repeat(2, 1)
NAMES = [f"clip {number}" for number in range(len(VALUES))]
GROUPS = [f"session {number % 24}" for number in range(len(VALUES))]


def parts(by, values=VALUES, groups=GROUPS, names=NAMES):
    return split_clips(by, values, FACTORS, groups, names)


UNIT_OF = {
    "clip": lambda clip: clip,
    "group": lambda clip: GROUPS[clip],
    "combination": lambda clip: tuple(VALUES[clip].tolist()),
    "instrument": lambda clip: int(VALUES[clip, 0]),
}


@pytest.mark.parametrize("by", ["clip", "group", "combination", "instrument"])
def test_splits_are_disjoint_by_unit_and_cover_all_clips(by):
    splits = parts(by)
    unit_of = UNIT_OF[by]
    seen = {name.split("_")[0]: set() for name in splits}
    for name, clips in splits.items():
        seen[name.split("_")[0]] |= {unit_of(clip) for clip in clips.tolist()}
    assert not seen["training"] & seen["validation"]
    assert not seen["training"] & seen["test"]
    assert not seen["validation"] & seen["test"]
    assert sorted(clip for clips in splits.values() for clip in clips.tolist()) == list(range(len(VALUES)))


@pytest.mark.parametrize("by", ["clip", "group", "combination", "instrument"])
def test_validation_and_test_hold_a_tenth_of_the_units_each(by):
    splits = parts(by)
    unit_of = UNIT_OF[by]
    everything = len({unit_of(clip) for clip in range(len(VALUES))})
    for name in ("validation", "test"):
        own = torch.cat([splits[name], splits.get(f"{name}_probe_train", torch.empty(0, dtype=torch.int64))])
        assert len({unit_of(clip) for clip in own.tolist()}) == round(everything / 10)


def test_probes_of_held_out_instruments_are_fitted_on_other_held_out_clips():
    splits = parts("instrument")
    for name in ("validation", "test"):
        scored, fitted = splits[name], splits[f"{name}_probe_train"]
        assert set(VALUES[scored, 0].tolist()) == set(VALUES[fitted, 0].tolist())
        assert not set(scored.tolist()) & set(fitted.tolist())
    assert "validation_probe_train" not in parts("clip")


def test_no_group_is_on_both_sides_of_a_probe():
    splits = parts("instrument")
    for name in ("validation", "test"):
        scored, fitted = (splits[half].tolist() for half in (name, f"{name}_probe_train"))
        assert not {GROUPS[clip] for clip in scored} & {GROUPS[clip] for clip in fitted}
        for instrument in {int(VALUES[clip, 0]) for clip in scored}:
            counts = [sum(int(VALUES[clip, 0]) == instrument for clip in half) for half in (scored, fitted)]
            assert min(counts) >= sum(counts) // 4


def test_values_with_a_single_group_are_not_scored():
    held_out = VALUES[torch.cat([clips for name, clips in parts("instrument").items() if "validation" in name]), 0]
    single, *several = sorted(set(held_out.tolist()))
    groups = [f"take {clip // 30}" if value != single else "take" for clip, value in enumerate(VALUES[:, 0].tolist())]
    splits = parts("instrument", groups=groups)
    scored, fitted = (VALUES[splits[name], 0].tolist() for name in ("validation", "validation_probe_train"))
    assert set(scored) == set(several)
    assert fitted.count(single) == VALUES[:, 0].tolist().count(single)


def test_values_that_are_groups_are_halved_by_clip():
    splits = parts("instrument", groups=[f"instrument {value}" for value in VALUES[:, 0].tolist()])
    scored, fitted = splits["validation"], splits["validation_probe_train"]
    assert len(scored) == len(fitted)
    assert set(VALUES[scored, 0].tolist()) == set(VALUES[fitted, 0].tolist())


def test_splits_depend_on_names_and_not_on_order():
    order = torch.randperm(len(VALUES), generator=torch.Generator().manual_seed(0)).tolist()
    before, after = (
        parts("group"),
        parts("group", VALUES[order], [GROUPS[clip] for clip in order], [NAMES[clip] for clip in order]),
    )
    for name, clips in before.items():
        assert [NAMES[clip] for clip in clips.tolist()] == [NAMES[order[clip]] for clip in after[name].tolist()]


def test_the_first_clips_of_a_split_are_a_random_sample():
    training = parts("clip")["training"]
    assert 100 < training[:190].double().mean() < 380  # of 480 in all


@given(st.lists(st.sampled_from(range(len(VALUES))), min_size=1, max_size=60, unique=True), st.sampled_from([*UNIT_OF]))
def test_held_out_clips_have_known_factors_and_unknown_values_do_not_leak(unknown, by):
    values = VALUES.clone()
    values[unknown, 0] = UNKNOWN
    splits = parts(by, values)
    held_out = torch.cat([clips for name, clips in splits.items() if name != "training"])
    assert (values[held_out] != UNKNOWN).all()
    if by in ("combination", "instrument"):  # an unknown value could be any combination or instrument
        assert not set(unknown) & set(splits["training"].tolist())
    if by == "group":
        assert not {GROUPS[clip] for clip in held_out.tolist()} & {GROUPS[clip] for clip in splits["training"].tolist()}


@pytest.mark.parametrize(
    ("by", "facts"),
    [
        ("timbre", ["split", "clip", "combination", "group", "instrument", "pitch", "'timbre'"]),
        ("pitch", ["split", "pitch", "8 different values", "at least 20"]),
    ],
)
def test_invalid_splits_are_rejected(by, facts):
    with pytest.raises(ValueError, match=mentions(*facts)):
        parts(by)


def test_too_few_groups_are_rejected():
    with pytest.raises(ValueError, match=mentions("split", "group", "3 groups", "at least 10")):
        parts("group", groups=[f"session {number % 3}" for number in range(len(VALUES))])
