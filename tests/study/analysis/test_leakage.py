import math

import pytest

from study.analysis import StudyResults
from study.analysis.statistics import leakage
from study.errors import UserError
from tests.messages import mentions
from tests.study.report.studies import trial_of, write_study

CLASSES = {"timbre": 4, "frequency": 8, "amplitude": 1}


@pytest.fixture
def results(tmp_path, tiny):
    trial = trial_of([1.0, 1.1], [0.5, 0.5])
    trial["metrics"] |= {
        "probe/timbre/private": [0.25, 0.25],
        "probe/timbre/shared": [0.9, 1.0],
        "information/timbre/private": [0.1, 0.2],
        "information/timbre/private/clips_se": [0.01, 0.03],
        "linear_information/timbre/private": [0.0, 0.1],
    }
    return StudyResults(write_study(tmp_path, tiny, [trial, trial_of([2.0, 2.0], [0.1, 0.1], "pruned")]))


@pytest.fixture
def table(results):
    table = leakage(results.results(), results.spec, 0, CLASSES, clips=101)
    return table.set_index(["factor", "subspace", "reader", "of"])


def test_accuracies_of_probes_are_rescaled_so_that_chance_is_zero(table):
    assert set(table.index.get_level_values("factor")) == {"timbre", "frequency"}  # one class says nothing
    at_chance = table.loc["timbre", "private", "lightweight", "means"]
    assert (at_chance["share"], bool(at_chance["belongs"])) == (0.0, False)
    assert at_chance["clips_se"] == pytest.approx(math.sqrt(0.25 * 0.75 / 100) / 0.75)
    home = table.loc["timbre", "shared", "lightweight", "means"]
    assert (home["metric"], bool(home["belongs"])) == ("probe/timbre/shared", True)
    assert home["share"] == pytest.approx((0.95 - 0.25) / 0.75)
    assert home["sd"] == pytest.approx(math.sqrt(0.005) / 0.75)
    assert home["ci"] == pytest.approx(6.313752 * 0.05 / 0.75)


def test_information_is_a_share_as_it_is_stored(table):
    assert set(table[["share", "sd", "ci", "clips_se"]].dtypes.map(str)) == {"float64"}
    leak = table.loc["timbre", "private", "strong", "samples"]
    assert (leak["metric"], leak["share"], bool(leak["belongs"])) == (
        "information/timbre/private",
        pytest.approx(0.15),
        False,
    )
    assert leak["sd"] == pytest.approx(math.sqrt(0.005))
    assert leak["ci"] == pytest.approx(6.313752 * 0.05)
    assert leak["clips_se"] == pytest.approx(0.02)
    linear = table.loc["timbre", "private", "linear", "samples"]
    assert (linear["share"], math.isnan(linear["clips_se"])) == (pytest.approx(0.05), True)
    assert ("timbre", "private", "lightweight", "samples") not in table.index  # the trial was not evaluated so


def test_only_a_complete_trial_has_leakage(results):
    with pytest.raises(UserError, match=r"complete trial \(0\); got 1"):
        leakage(results.results(), results.spec, 1, CLASSES, clips=100)


def test_before_a_trial_is_complete_nothing_is_blamed_on_an_option(tmp_path, tiny):
    results = StudyResults(write_study(tmp_path / "new", tiny, [trial_of([2.0, 2.0], [0.1, 0.1], "pruned")]))
    for call in (
        lambda: leakage(results.results(), results.spec, 1, CLASSES, clips=100),
        lambda: results.best_trial("disentanglement/sap"),
    ):
        with pytest.raises(UserError, match=mentions("'tiny'", "no complete trial")) as caught:
            call()
        assert "--" not in str(caught.value)
