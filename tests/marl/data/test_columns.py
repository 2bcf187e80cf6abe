import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl.data.columns import MOST_CLASSES, factor_of
from marl.data.dataset import UNKNOWN
from tests.messages import mentions


def test_words_are_classes_each_its_own_however_many():
    words = [f"singer {number:03d}" for number in range(50)]
    factor, index_N = factor_of("singer", [*words, *reversed(words)])
    assert factor.values == tuple(words)
    assert factor.classes == 50
    assert not factor.is_continuous
    assert index_N.tolist() == [*range(50), *reversed(range(50))]


def test_few_numbers_are_classes_each_its_own():
    factor, index_N = factor_of("velocity", [100.0, 25.0, 100.0, 50.0])
    assert factor.values == (25.0, 50.0, 100.0)
    assert factor.class_of_value == (0, 1, 2)
    assert index_N.tolist() == [2, 0, 2, 1]


def test_many_numbers_of_a_grid_fall_into_classes_of_neighbours_and_are_not_measured():
    factor, _ = factor_of("pitch", [float(key) for key in range(36, 84) for _ in range(20)])
    assert len(factor.values) == 48
    assert factor.classes == MOST_CLASSES
    assert list(factor.class_of_value) == sorted(factor.class_of_value)
    assert not factor.is_continuous


def test_numbers_that_hardly_come_twice_were_measured():
    factor, _ = factor_of("f0", [100.0 + number / 7 for number in range(300)])
    assert factor.is_continuous
    assert factor.classes == MOST_CLASSES


def test_what_is_not_known_has_no_value():
    factor, index_N = factor_of("vowel", ["a", None, "e", None])
    assert factor.values == ("a", "e")
    assert index_N.tolist() == [0, UNKNOWN, 1, UNKNOWN]


@pytest.mark.parametrize(
    ("column", "facts"),
    [
        (["a", "a"], ["'vowel'", "'a'"]),
        ([None, None], ["'vowel'", "none"]),
        (["a", 1.0], ["'vowel'", "words", "numbers"]),
    ],
)
def test_a_factor_that_says_nothing_is_refused(column, facts):
    with pytest.raises(ValueError, match=mentions(*facts)):
        factor_of("vowel", column)


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=2).filter(lambda column: len({*column} - {None}) > 1)
)
def test_classes_are_numbered_without_gaps_and_follow_the_order_of_the_numbers(column):
    factor, index_N = factor_of("number", column)
    assert sorted(set(factor.class_of_value)) == list(range(factor.classes))
    assert list(factor.class_of_value) == sorted(factor.class_of_value)
    assert factor.classes <= MOST_CLASSES
    known = [(value, index) for value, index in zip(column, index_N.tolist(), strict=True) if value is not None]
    assert all(factor.values[index] == value for value, index in known)
