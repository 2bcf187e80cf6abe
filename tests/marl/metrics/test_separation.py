import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl.metrics.separation import chance_corrected, separation

CLASSES = {"timbre": 4, "frequency": 20}


def accuracies(right: float, wrong: float) -> dict[tuple[str, str], float]:
    """Return accuracies with one value in the home subspace of each factor and another elsewhere."""
    table = {}
    for factor, home, other in (("timbre", "shared", "private"), ("frequency", "private", "shared")):
        chance = 1 / CLASSES[factor]
        table[factor, home] = chance + right * (1 - chance)
        table[factor, other] = chance + wrong * (1 - chance)
    return table


@pytest.mark.parametrize(("accuracy", "corrected"), [(0.25, 0.0), (1.0, 1.0), (0.0, -1 / 3), (0.625, 0.5)])
def test_chance_is_zero_and_perfect_is_one(accuracy, corrected):
    assert chance_corrected(accuracy, 4) == pytest.approx(corrected)


@pytest.mark.parametrize(("right", "wrong", "expected"), [(1, 0, 1), (0, 1, -1), (0.7, 0.7, 0), (1, 0.5, 0.5)])
def test_known_separations(right, wrong, expected):
    assert separation(accuracies(right, wrong), CLASSES, frozenset(["timbre"])) == pytest.approx(expected)


@given(right=st.floats(0, 1), wrong=st.floats(0, 1))
def test_exchanging_the_subspaces_changes_the_sign(right, wrong):
    table = accuracies(right, wrong)
    exchanged = {(factor, {"private": "shared", "shared": "private"}[part]): v for (factor, part), v in table.items()}
    shared = frozenset(["timbre"])
    assert separation(table, CLASSES, shared) == pytest.approx(-separation(exchanged, CLASSES, shared))
