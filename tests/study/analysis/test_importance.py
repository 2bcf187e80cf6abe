import math
import time

import numpy as np
import optuna
import pandas as pd
import pytest

from study.analysis.importance import EVALUATORS, MOST_TRIALS, UndeterminedError, importances
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


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_one_parameter_gives_it_nearly_all_importance(evaluator, name):
    found = importances(results(METRICS[name]), SPEC, "m", evaluator)
    assert found["parameter"][0] == name
    assert found["importance"].dropna().is_monotonic_decreasing
    # The best tenth differs from the rest by chance in other parameters, too.
    assert found["importance"][0] > (0.5 if evaluator == "ped_anova" else 0.95)
    compared = found if evaluator == "ped_anova" else found[found["parameter"].isin(COMMON)]
    assert compared["importance"].sum() == pytest.approx(1)


def test_effects_share_the_variance_as_analysis_of_variance_has_it():
    # Of independent parameters, even over a range of one: the variance of a sum is 1/12 of each squared slope.
    table = results(lambda row: 3 * row["config/width"] / 10 + 2 * math.log10(row["config/rate"]) / 4, trials=1000)
    found = shares(table, "fanova")
    assert found["width"] == pytest.approx(9 / 13, abs=0.04)
    assert found["rate"] == pytest.approx(4 / 13, abs=0.04)


def test_decades_of_a_logarithmic_range_count_alike():
    # Above 0.1 the metric stays: an even scale would see nothing but that part, 99 % of the range.
    table = results(lambda row: min(math.log10(row["config/rate"]), -1) + 0.02 * row["config/width"], trials=300)
    assert shares(table, "fanova")["rate"] > 0.9
    assert shares(table, "ped_anova").drop("width").idxmax() == "rate"


@pytest.mark.parametrize("evaluator", ["fanova", "mean_decrease_impurity"])
def test_conditional_parameters_are_measured_among_the_trials_that_have_them(evaluator):
    def metric(row):
        return 5 * row["config/width"] if math.isnan(row["config/heat"]) else 100 * row["config/heat"]

    table = results(metric, trials=200)
    found = importances(table, SPEC, "m", evaluator).set_index("parameter")
    assert found["trials"].to_dict() == {name: int(table[f"config/{name}"].notna().sum()) for name in SPACE}
    assert found["complete"].equals(found["trials"])
    assert found["importance"]["heat"] > 0.9
    assert found["importance"]["slope"] < 0.05
    assert found["importance"][COMMON].sum() == pytest.approx(1)
    part = table[table["config/heat"].notna()]
    assert found["importance"]["heat"] == shares(part, evaluator)["heat"]


def test_conditional_parameters_share_with_all_others_what_sets_the_best_apart():
    table = results(lambda row: 0 if math.isnan(row["config/heat"]) else row["config/heat"], trials=200)
    found = shares(table, "ped_anova")
    assert found.sum() == pytest.approx(1)
    assert found.idxmax() == "heat"


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_which_direction_is_better_matters_to_what_sets_the_best_apart_alone(evaluator):
    def metric(row):  # low values of one parameter make it low, high values of the other make it high
        return min(row["config/width"] - 2, 0) + 2.5 * max(math.log10(row["config/rate"]) - 0.2, 0)

    table = results(metric, trials=300)
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


@pytest.mark.parametrize("evaluator", ["fanova", "mean_decrease_impurity"])
def test_real_numbers_have_the_importance_that_optuna_gives_them(evaluator):
    table = results(lambda row: row["config/width"] * row["config/heat"])
    table = table[table["config/heat"].notna()]
    study = optuna.create_study()
    heat, width = optuna.distributions.FloatDistribution(0, 1), optuna.distributions.FloatDistribution(0, 10)
    for row in table.to_dict("records"):
        parameters = {"heat": row["config/heat"], "width": row["config/width"]}
        distributions = {"heat": heat, "width": width}
        study.add_trial(optuna.trial.create_trial(value=row["m"], params=parameters, distributions=distributions))
    evaluators = {
        "fanova": optuna.importance.FanovaImportanceEvaluator(seed=7),
        "mean_decrease_impurity": optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=7),
    }
    expected = optuna.importance.get_param_importances(study, evaluator=evaluators[evaluator])
    space = {"width": {"uniform": [0, 10]}, "heat": {"uniform": [0, 1]}}
    spec = parse_spec({"name": "made-up", "data": {}, "space": space, "objectives": {"m": "max"}}, "spec")
    found = importances(table, spec, "m", evaluator, seed=7).set_index("parameter")["importance"]
    # Ranges are from 0 to 1 here, so that thresholds differ in their last bits.
    assert found.to_dict() == pytest.approx(expected, abs=1e-5)


def test_whole_numbers_and_choices_have_the_variance_that_each_of_their_values_brings_alike():
    kinds = {"none": 0, "infonce": 1, "byol": 1, "vicreg": 3}
    found = shares(results(lambda row: row["config/layers"] + kinds[row["config/kind"]], trials=1000), "fanova")
    layers, kind = np.var([1, 2, 3, 4]), np.var(list(kinds.values()))
    assert found["layers"] == pytest.approx(layers / (layers + kind), abs=0.01)
    assert found["kind"] == pytest.approx(kind / (layers + kind), abs=0.01)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_a_thousand_trials_take_less_than_two_seconds(evaluator):
    table = results(lambda row: row["config/width"] + row["config/layers"] + len(row["config/kind"]), trials=1000)
    importances(table[:10], SPEC, "m", evaluator)  # imports
    began = time.process_time()
    importances(table, SPEC, "m", evaluator)
    assert time.process_time() - began < 2


def test_of_very_many_trials_a_sample_is_drawn_and_told():
    table = results(METRICS["width"], trials=MOST_TRIALS + 500)
    found = importances(table, SPEC, "m", "ped_anova").set_index("parameter")
    assert (found["trials"]["width"], found["complete"]["width"]) == (MOST_TRIALS, MOST_TRIALS + 500)
    assert found["trials"]["heat"] < found["complete"]["heat"]
    other = importances(table, SPEC, "m", "ped_anova", seed=1).set_index("parameter")
    assert found["importance"]["width"] != other["importance"]["width"]


def test_only_complete_trials_that_have_the_metric_count():
    table = results(METRICS["width"], trials=60)
    more = results(METRICS["rate"], trials=60, seed=1).assign(state="pruned", trial=range(60, 120))
    lost = results(METRICS["rate"], trials=60, seed=2).assign(m=np.nan, trial=range(120, 180))
    expected = importances(table, SPEC, "m")
    pd.testing.assert_frame_equal(importances(pd.concat([table, more, lost]), SPEC, "m"), expected)


def test_a_conditional_parameter_of_too_few_trials_has_no_number():
    table = results(METRICS["width"])
    few = table["config/delay"].notna().cumsum() > 3
    table.loc[few & table["config/delay"].notna(), "config/kind"] = "none"
    table.loc[table["config/kind"] == "none", ["config/heat", "config/slope", "config/delay"]] = np.nan
    found = importances(table, SPEC, "m").set_index("parameter")
    assert found["trials"]["delay"] == 3
    assert math.isnan(found["importance"]["delay"])
    assert found["importance"].drop("delay").notna().all()


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        (results(METRICS["width"], trials=3), ["at least 4", "complete trials", "m", 3]),
        (results(METRICS["width"]).drop(columns="m"), ["complete trials", "m", 0]),
        (pd.DataFrame(columns=["trial", "state", "error", "step"]), ["complete trials", "m", 0]),
        (results(lambda row: 0.3), ["m", "same", "120 complete trials"]),
        (
            results(METRICS["width"])
            .assign(**{f"config/{name}": 1.0 for name in ("rate", "layers")})
            .assign(**{"config/kind": "none"} | {f"config/{name}": np.nan for name in ("heat", "slope", "delay")}),
            ["two parameters", "vary", "width"],
        ),
    ],
)
def test_what_cannot_be_said_is_refused_with_the_reason(table, facts):
    with pytest.raises(UndeterminedError, match=mentions(*facts)):
        importances(table, SPEC, "m")


def test_where_each_parameter_varies_alone_there_is_nothing_to_compare():
    space = {"kind": {"choice": ["none", "infonce"]}, "heat": {"uniform": [0, 1], "when": {"kind": "infonce"}}}
    spec = parse_spec({"name": "made-up", "data": {}, "space": space, "objectives": {"m": "max"}}, "spec")
    table = results(lambda row: row["config/width"])
    table = table[table["config/kind"].isin(list(space["kind"]["choice"]))]
    with pytest.raises(UndeterminedError, match=mentions("two")):
        importances(table, spec, "m")
    assert importances(table, spec, "m", "ped_anova")["importance"].sum() == pytest.approx(1)


def test_an_unknown_method_is_answered_with_those_that_there_are():
    with pytest.raises(UserError, match=mentions("fanova", "ped_anova", "mean_decrease_impurity", "'shap'")):
        importances(results(METRICS["width"]), SPEC, "m", "shap")
