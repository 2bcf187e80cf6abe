import math

import numpy as np
import pandas as pd
import pytest

from study.analysis.parameter_effects import slice_data, surface_data
from study.errors import UserError
from study.spec import parse_spec
from tests.messages import mentions

SPACE = {
    "width": {"uniform": [0, 10]},
    "rate": {"log_uniform": [0.01, 100]},
    "layers": {"int": [1, 4]},
    "kind": {"choice": ["none", "infonce", "byol"]},
    "size": {"choice": [2, 8]},
    "heat": {"uniform": [0, 1], "when": {"kind": "infonce"}},
}
SPEC = parse_spec({"name": "made-up", "data": {}, "space": SPACE, "objectives": {"m": "max"}}, "spec")


def results(metric, trials=60, seed=0, **fixed):
    """Trials all over the space; the metric is a function of a row."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "trial": range(trials),
            "state": "complete",
            "config/width": random.uniform(0, 10, trials),
            "config/rate": 10 ** random.uniform(-2, 2, trials),
            "config/layers": random.integers(1, 5, trials),
            "config/kind": random.choice(["none", "infonce", "byol"], trials),
            "config/size": random.choice([2.0, 8.0], trials),
        }
        | fixed
    )
    table["config/heat"] = np.where(table["config/kind"] == "infonce", random.random(trials), np.nan)
    return table.assign(m=[metric(row) for row in table.to_dict("records")])


def plane(row):
    return 3 * row["config/width"] - 2 * math.log10(row["config/rate"]) + 1


def test_a_plane_over_two_ranges_is_interpolated_exactly_on_the_scales_of_the_space():
    grid = surface_data(results(plane), SPEC, "width", "rate", "m", cells=20)
    filled = grid.dropna(subset="mean")
    assert len(grid) == 400
    assert len(filled) > 200
    assert filled["mean"].to_numpy() == pytest.approx(3 * filled["x"] - 2 * np.log10(filled["y"]) + 1)
    assert grid["x"].unique()[:2] == pytest.approx([0.25, 0.75])
    assert grid[["y_low", "y", "y_high"]].iloc[0].tolist() == pytest.approx([0.01, 10**-1.9, 10**-1.8], rel=0.3)
    assert np.log10(grid["y_high"] / grid["y_low"]).to_numpy() == pytest.approx(0.2)


def test_values_are_not_extrapolated_beyond_the_outermost_trials():
    table = results(plane)
    table = table[table["config/width"].between(2, 6) & table["config/rate"].between(0.1, 10)]
    filled = surface_data(table, SPEC, "width", "rate", "m").dropna(subset="mean")
    assert len(filled) > 0
    assert filled["x"].between(table["config/width"].min(), table["config/width"].max()).all()
    assert filled["y"].between(table["config/rate"].min(), table["config/rate"].max()).all()
    assert filled["mean"].between(table["m"].min(), table["m"].max()).all()


def test_a_hole_between_trials_stays_empty():
    table = results(plane, trials=400)
    place = np.hypot(table["config/width"] / 10 - 0.5, np.log10(table["config/rate"]) / 4)
    grid = surface_data(table[place > 0.3], SPEC, "width", "rate", "m")
    distance = np.hypot(grid["x"] / 10 - 0.5, np.log10(grid["y"]) / 4)
    assert grid["mean"][distance < 0.19].isna().all()
    assert grid["mean"][(distance > 0.31) & (distance < 0.4)].notna().all()


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_without_a_triangle_of_trials_all_cells_are_empty(trials):
    assert surface_data(results(plane)[:trials], SPEC, "width", "rate", "m")["mean"].isna().all()
    on_a_line = results(plane).assign(**{"config/rate": 1.0})
    assert surface_data(on_a_line, SPEC, "width", "rate", "m")["mean"].isna().all()


def test_trials_at_one_place_are_averaged_and_only_complete_ones_count():
    table = results(lambda row: row["trial"], trials=5).assign(**{"config/kind": "none", "config/size": 2.0})
    table.loc[4, "state"] = "pruned"
    grid = surface_data(table, SPEC, "kind", "size", "m").set_index(["x", "y"])["mean"]
    assert grid["none", 2] == 1.5
    assert grid.drop(("none", 2)).isna().all()
    assert len(grid) == 6


@pytest.mark.parametrize("turned", [False, True])
def test_a_choice_is_a_band_that_knows_its_own_trials_alone(turned):
    table = results(lambda row: row["config/width"] + 100 * (row["config/kind"] == "byol"))
    table = table[(table["config/kind"] != "byol") | (table["config/width"] > 5)]
    names = ("kind", "width") if turned else ("width", "kind")
    band, along = ("x", "y") if turned else ("y", "x")
    grid = surface_data(table, SPEC, *names, "m")
    assert grid[band].unique().tolist() == ["none", "infonce", "byol"]
    assert grid[f"{band}_low"].isna().all()
    filled = grid.dropna(subset="mean")
    assert filled["mean"].to_numpy() == pytest.approx(filled[along] + 100 * (filled[band] == "byol"))
    assert filled[filled[band] == "byol"][along].min() > 5
    assert set(filled[band]) == {"none", "infonce", "byol"}


def test_whole_numbers_have_a_cell_each_with_half_a_step_to_either_side():
    grid = surface_data(results(lambda row: row["config/layers"] ** 2), SPEC, "layers", "kind", "m")
    assert grid["x"].unique() == pytest.approx([1, 2, 3, 4])
    assert grid[["x_low", "x_high"]].drop_duplicates().to_numpy().ravel() == pytest.approx(
        [0.5, 1.5, 1.5, 2.5, 2.5, 3.5, 3.5, 4.5]
    )
    assert grid["mean"].to_numpy() == pytest.approx(grid["x"] ** 2)


def test_a_conditional_parameter_is_drawn_over_the_trials_that_have_it():
    table = results(lambda row: 1.0)
    shown = slice_data(table, SPEC, "heat", "m")
    assert shown["trial"].tolist() == table["trial"][table["config/kind"] == "infonce"].tolist()
    bands = surface_data(table, SPEC, "heat", "kind", "m").dropna(subset="mean")["y"]
    assert set(bands) == {"infonce"}


def test_a_slice_has_values_of_the_space_and_intervals_where_there_are_any():
    table = results(lambda row: 2.0, trials=3).assign(**{"m/ci": [0.5, np.nan, 0.25]})
    table.loc[2, "state"] = "pruned"
    shown = slice_data(table, SPEC, "size", "m")
    assert shown.columns.tolist() == ["trial", "value", "mean", "low", "high", "state"]
    assert [type(value) for value in shown["value"].tolist()] == [int] * 3
    assert shown["low"].tolist() == pytest.approx([1.5, np.nan, 1.75], nan_ok=True)
    assert shown["high"].tolist() == pytest.approx([2.5, np.nan, 2.25], nan_ok=True)
    assert shown["state"].tolist() == ["complete", "complete", "pruned"]


def test_a_study_without_the_metric_has_an_empty_slice_and_an_empty_surface():
    table = results(plane).drop(columns="m")
    assert slice_data(table, SPEC, "width", "m").empty
    assert surface_data(table, SPEC, "width", "kind", "m")["mean"].isna().all()
    nothing = pd.DataFrame(columns=["trial", "state", "error", "step"])
    assert slice_data(nothing, SPEC, "width", "m").empty
    assert surface_data(nothing, SPEC, "kind", "size", "m")["mean"].isna().all()


@pytest.mark.parametrize(
    ("names", "facts"),
    [(("width", "size of it"), ["parameter", "'size of it'"]), (("kind", "kind"), ["'kind'", "twice"])],
)
def test_a_missing_or_repeated_parameter_is_refused(names, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        surface_data(results(plane), SPEC, *names, "m")
    with pytest.raises(UserError, match=mentions("'nothing'", "width", "rate")):
        slice_data(results(plane), SPEC, "nothing", "m")
