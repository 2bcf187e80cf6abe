import math
from functools import partial

import numpy as np
import optuna
import pandas as pd
import pytest

from study.analysis.importance import EVALUATORS, UndeterminedError, importance_intervals, importances
from study.errors import UserError
from study.spec import parse_spec
from tests.messages import mentions

SPACE = {
    "width": {"uniform": [0, 10]},
    "rate": {"log_uniform": [0.001, 10]},
    "layers": {"int": [1, 4]},
    "kind": {"choice": ["none", "infonce", "byol", "vicreg"]},
    "heat": {"uniform": [0, 1], "when": {"kind": ["infonce", "byol"]}},
    "slope": {"uniform": [0, 1], "when": {"kind": ["infonce", "byol"]}},
    "delay": {"uniform": [0, 1], "when": {"kind": "byol"}},
}
SPEC = parse_spec({"name": "made-up", "data": {}, "space": SPACE, "objectives": {"m": "max", "cost": "min"}}, "spec")
COMMON = ["width", "rate", "layers", "kind"]


def results(metric, trials=120, seed=0):
    """Trials all over the space; the metric is a function of a row."""
    random = np.random.default_rng(seed)
    kind = random.choice(SPACE["kind"]["choice"], trials)
    contrasts = np.isin(kind, ["infonce", "byol"])
    table = pd.DataFrame(
        {
            "trial": range(trials),
            "state": "complete",
            "config/width": random.uniform(0, 10, trials),
            "config/rate": 10 ** random.uniform(-3, 1, trials),
            "config/layers": random.integers(1, 5, trials).astype(float),
            "config/kind": kind,
            "config/heat": np.where(contrasts, random.random(trials), np.nan),
            "config/slope": np.where(contrasts, random.random(trials), np.nan),
            "config/delay": np.where(kind == "byol", random.random(trials), np.nan),
        }
    )
    return table.assign(m=[float(metric(row)) for row in table.to_dict("records")])


def shares(table, evaluator, metric="m"):
    return importances(table, SPEC, metric, evaluator).set_index("parameter")["importance"]


METRICS = {
    "width": lambda row: row["config/width"] ** 2,
    "rate": lambda row: math.log10(row["config/rate"]),
    "layers": lambda row: row["config/layers"],
    "kind": lambda row: {"none": 0, "infonce": 1, "byol": 3, "vicreg": 2}[row["config/kind"]],
}


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    """Forests of 16 trees instead of 64, which takes a quarter of the time."""
    fewer = partial(optuna.importance.FanovaImportanceEvaluator, n_trees=16)
    monkeypatch.setattr(optuna.importance, "FanovaImportanceEvaluator", fewer)


FORESTS = ("fanova", "mean_decrease_impurity")
CONDITIONAL = ["heat", "slope", "delay"]


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_one_parameter_gives_it_nearly_all_importance(evaluator, name):
    table = importances(results(METRICS[name]), SPEC, "m", evaluator)
    assert table["parameter"][0] == name
    assert table["importance"].dropna().is_monotonic_decreasing
    # The best tenth differs from the rest by chance in other parameters, too.
    assert table["importance"][0] > (0.5 if evaluator == "ped_anova" else 0.95)
    assert table["importance"].sum() == pytest.approx(1)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_a_metric_of_no_parameter_gives_importance_by_chance_which_no_parameter_keeps(evaluator):
    draws = [np.random.default_rng(seed) for seed in range(6)]
    found = [shares(results(lambda row, noise=noise: noise.normal(), trials=60), evaluator) for noise in draws]
    assert all(one.sum() == pytest.approx(1) for one in found)
    assert pd.concat(found, axis=1).mean(axis=1).max() < 0.6


def test_importances_are_shares_of_the_variance():
    # Parameters are independent and uniform over a unit range, so each adds its squared slope / 12 to the variance.
    table = results(lambda row: 3 * row["config/width"] / 10 + 2 * math.log10(row["config/rate"]) / 4, trials=300)
    found = shares(table, "fanova")
    assert found["width"] == pytest.approx(9 / 13, abs=0.04)
    assert found["rate"] == pytest.approx(4 / 13, abs=0.04)


def test_decades_of_a_logarithmic_range_count_alike():
    # Above 0.1 the metric stays: an even scale would see nothing but that part, 99 % of the range.
    table = results(lambda row: min(math.log10(row["config/rate"]), -1) + 0.02 * row["config/width"])
    assert shares(table, "fanova")["rate"] > 0.9
    assert shares(table, "ped_anova").drop("width").idxmax() == "rate"


@pytest.mark.parametrize("evaluator", FORESTS)
def test_forests_do_not_measure_conditional_parameters(evaluator):
    table = results(lambda row: 5 * row["config/width"] if math.isnan(row["config/heat"]) else 100 * row["config/heat"])
    found = importances(table, SPEC, "m", evaluator).set_index("parameter")
    assert found["trials"].to_dict() == {name: int(table[f"config/{name}"].notna().sum()) for name in SPACE}
    assert found["importance"][CONDITIONAL].isna().all()
    assert found["importance"][COMMON].sum() == pytest.approx(1)
    assert found["importance"]["kind"] > 0.2  # the condition stands for what depends on it


def test_ped_anova_measures_conditional_parameters_among_the_trials_that_have_them():
    table = results(lambda row: 0 if math.isnan(row["config/heat"]) else row["config/heat"], trials=200)
    found = shares(table, "ped_anova")
    assert found.sum() == pytest.approx(1)
    assert found.idxmax() == "heat"
    assert found["slope"] < 0.1


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_the_direction_of_a_metric_matters_to_ped_anova_alone(evaluator):
    def metric(row):  # low values of one parameter make it low, high values of the other make it high
        return min(row["config/width"] - 2, 0) + 2.5 * max(math.log10(row["config/rate"]) - 0.2, 0)

    table = results(metric, trials=300 if evaluator == "ped_anova" else 60)
    table["cost"] = table["m"]
    high, low = shares(table, evaluator, "m"), shares(table, evaluator, "cost")
    if evaluator == "ped_anova":
        assert (high.idxmax(), low.idxmax()) == ("rate", "width")
    else:
        assert high.equals(low)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_the_same_trials_in_another_order_have_the_same_importances(evaluator):
    table = results(lambda row: row["config/width"] + row["config/layers"])
    once = importances(table, SPEC, "m", evaluator)
    pd.testing.assert_frame_equal(importances(table.sample(frac=1, random_state=1), SPEC, "m", evaluator), once)


def test_fanova_evaluates_a_sample_of_many_trials(monkeypatch):
    monkeypatch.setattr("study.analysis.importance.MAX_FANOVA_TRIALS", 50)
    table = results(METRICS["width"])
    found = importances(table, SPEC, "m", "fanova").set_index("parameter")
    assert (found["trials"]["width"], found["complete"]["width"]) == (50, 120)
    assert found["trials"]["heat"] < found["complete"]["heat"]
    other = importances(table, SPEC, "m", "fanova", seed=1).set_index("parameter")
    assert found["importance"]["rate"] != other["importance"]["rate"]
    everything = importances(table, SPEC, "m").set_index("parameter")
    assert everything["trials"].equals(everything["complete"])


def test_only_complete_trials_that_have_the_metric_count():
    table = results(METRICS["width"], trials=60)
    more = results(METRICS["rate"], trials=60, seed=1).assign(state="pruned", trial=range(60, 120))
    lost = results(METRICS["rate"], trials=60, seed=2).assign(m=np.nan, trial=range(120, 180))
    expected = importances(table, SPEC, "m")
    pd.testing.assert_frame_equal(importances(pd.concat([table, more, lost]), SPEC, "m"), expected)


def test_a_parameter_that_no_trial_has_has_no_importance():
    table = results(METRICS["width"]).query("`config/kind` != 'byol'")
    found = importances(table, SPEC, "m").set_index("parameter")
    assert found["trials"]["delay"] == 0
    assert math.isnan(found["importance"]["delay"])
    assert found["importance"].drop("delay").notna().all()


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        (results(METRICS["width"], trials=3), ["at least 4", "complete trials", "m", 3]),
        (results(METRICS["width"]).drop(columns="m"), ["complete trials", "m", 0]),
        (pd.DataFrame(columns=["trial", "state", "error", "step"]), ["complete trials", "m", 0]),
        (results(lambda row: 0.3), ["m", "same", "complete trials"]),
        (
            results(METRICS["width"])
            .assign(**{f"config/{name}": 1.0 for name in ("rate", "layers")})
            .assign(**{"config/kind": "none"} | {f"config/{name}": np.nan for name in ("heat", "slope", "delay")}),
            ["two parameters", "vary", "width"],
        ),
    ],
)
def test_undetermined_importances_raise_with_the_reason(table, facts):
    with pytest.raises(UndeterminedError, match=mentions(*facts)):
        importances(table, SPEC, "m")


def test_forests_need_two_parameters_that_all_trials_have():
    space = {"kind": {"choice": ["none", "infonce"]}, "heat": {"uniform": [0, 1], "when": {"kind": "infonce"}}}
    spec = parse_spec({"name": "made-up", "data": {}, "space": space, "objectives": {"m": "max"}}, "spec")
    table = results(lambda row: row["config/width"])
    table = table[table["config/kind"].isin(list(space["kind"]["choice"]))]
    with pytest.raises(UndeterminedError) as error:
        importances(table, spec, "m", "fanova")
    assert str(error.value).endswith("can compare: kind")
    assert importances(table, spec, "m")["importance"].sum() == pytest.approx(1)


def test_an_unknown_method_raises_and_names_the_known_ones():
    with pytest.raises(UserError, match="one of ped_anova, fanova, mean_decrease_impurity; got 'shap'"):
        importances(results(METRICS["width"]), SPEC, "m", "shap")


def test_the_interval_of_a_strong_parameter_lies_above_those_of_noise_and_contains_its_importance():
    table = results(METRICS["width"])
    limits = importance_intervals(table, SPEC, "m")
    noise = [name for name in COMMON if name != "width"]
    assert (limits.loc[noise, "high"] < limits.loc["width", "low"]).all()
    scores = shares(table, "ped_anova")[COMMON]
    assert scores.between(limits.loc[COMMON, "low"], limits.loc[COMMON, "high"]).all()


def test_intervals_become_narrower_with_more_trials():
    few, many = (importance_intervals(results(METRICS["width"], count), SPEC, "m").loc["width"] for count in (30, 240))
    assert many["high"] - many["low"] < few["high"] - few["low"]


def test_intervals_need_as_many_trials_as_importances():
    with pytest.raises(UndeterminedError, match=mentions("at least", 4, 3)):
        importance_intervals(results(METRICS["width"], 3), SPEC, "m")
