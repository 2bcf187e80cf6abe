import pytest

from study.formatting import format_duration, format_rough_duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, said):
    assert format_duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "5 s"), (22, "20 s"), (99, "100 s"), (100, "2 min"), (5999, "100 min"), (6000, "2 h"), (90_000, "25 h")],
)
def test_a_rough_duration_has_one_unit(seconds, text):
    assert format_rough_duration(seconds) == text
