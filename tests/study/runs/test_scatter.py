import pytest

from study.runs.scatter import MARGIN, scatter_plot

COST_AND_GAIN = {"a/cost": "min", "b/gain": "max"}


def area(plot):
    """Return the lines inside of the frame."""
    return [line.split("│")[1] for line in plot.splitlines() if "│" in line]


def test_trials_are_at_their_values_with_dots_and_those_on_the_front_with_stars_and_numbers():
    trials = {0: [0.0, 0.0], 12: [0.0, 1.0], 7: [10.0, 0.5]}
    plot = scatter_plot(trials, [12], COST_AND_GAIN, width=11, height=3)
    assert area(plot) == ["*12        ", "          ·", "·          "]


def test_the_axes_have_labels_with_units_and_the_range_of_the_values():
    objectives = {"fidelity/log_mel_rmse_db": "min", "disentanglement/mig": "max"}
    first, *rest = scatter_plot({0: [5.25, 0.125], 1: [8.5, 0.75]}, [0, 1], objectives).splitlines()
    assert first == "MIG"
    assert rest[0].startswith(" 0.75┌")
    assert rest[-2].startswith("0.125└")
    assert rest[-1].split("log-mel RMSE (dB)")[0].strip() == "5.25"
    assert rest[-1].split("log-mel RMSE (dB)")[1].strip() == "8.5"


@pytest.mark.parametrize(
    ("directions", "line", "mark"),
    [
        (("min", "max"), 0, "┌↖ better "),
        (("max", "max"), 0, " better ↗┐"),
        (("min", "min"), -1, "└↙ better "),
        (("max", "min"), -1, " better ↘┘"),
    ],
)
def test_the_better_corner_is_marked(directions, line, mark):
    plot = scatter_plot({0: [1.0, 2.0]}, [0], dict(zip(("a", "b"), directions, strict=True)))
    edges = [text for text in plot.splitlines() if "┐" in text or "┘" in text]
    assert mark in edges[line]
    assert "better" not in edges[-1 - line if line == 0 else 0]


def test_a_number_that_would_cover_a_trial_is_at_the_other_side_or_left_out():
    trials = {1: [0.0, 0.0], 2: [4.0, 0.0], 3: [5.0, 0.0], 4: [10.0, 0.0]}
    (row,) = area(scatter_plot(trials, [2, 4], COST_AND_GAIN, width=11, height=1))
    assert row == "·  2*·   4*"
    trials = {1: [3.0, 0.0], 2: [4.0, 0.0], 3: [5.0, 0.0], 4: [0.0, 0.0], 5: [10.0, 0.0]}
    (row,) = area(scatter_plot(trials, [2], COST_AND_GAIN, width=11, height=1))
    assert row == "·  ·*·    ·"


def test_with_one_objective_the_trials_are_in_order():
    plot = scatter_plot({0: [3.0], 1: [1.0], 2: [2.0]}, [1], {"cost": "min"}, width=9, height=3)
    assert area(plot) == ["·        ", "        ·", "    *1   "]
    assert plot.splitlines()[0] == "cost"
    assert plot.splitlines()[-1].split() == ["0", "trial", "2"]
    assert "↓ better" in plot


def test_with_three_objectives_the_first_two_are_drawn():
    two = scatter_plot({0: [1.0, 2.0], 1: [3.0, 4.0]}, [0], COST_AND_GAIN)
    assert scatter_plot({0: [1.0, 2.0, 9.0], 1: [3.0, 4.0, 8.0]}, [0], {**COST_AND_GAIN, "c": "min"}) == two


def test_a_single_trial_is_in_the_middle_and_without_a_finite_one_nothing_is_drawn():
    assert area(scatter_plot({4: [8.0, 0.0]}, [4], COST_AND_GAIN, width=11, height=3))[1] == "     *4    "
    assert scatter_plot({}, [], COST_AND_GAIN) == ""
    assert scatter_plot({0: [float("nan"), 1.0], 1: [1.0, float("inf")]}, [0], COST_AND_GAIN) == ""


def test_values_of_any_size_fit_between_the_margins():
    trials = {0: [-1.7e308, 5e-324], 1: [1.7e308, 0.0], 2: [-123456.0, 0.0]}
    lines = scatter_plot(trials, [0], {"a" * 80: "min", "b" * 80: "max"}, width=20).splitlines()
    assert max(map(len, lines)) <= 20 + MARGIN
    assert len(area("\n".join(lines))) == 10
