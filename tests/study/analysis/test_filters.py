"""Filters of a table by a text of conditions."""

import numpy as np
import pandas as pd
import pytest

from study.analysis.tables import filter_rows
from study.errors import UserError
from tests.messages import mentions

TABLE = pd.DataFrame(
    {
        "trial": [0, 1, 2, 3],
        "state": ["complete", "failed", "complete", "running"],
        "disentanglement/separation": [0.3, np.nan, -0.1, 0.5],
        "config/latent.private": [2.0, 4.0, np.nan, 2.0],
        "config/contrast.strategy": ["none", "infonce", None, "infonce"],
    }
)
COLUMNS = {
    "trial": "trial",
    "State": "state",
    "separation": "disentanglement/separation",
    "latent.private": "config/latent.private",
    "contrast.strategy": "config/contrast.strategy",
}


def kept(text):
    return filter_rows(TABLE, text, COLUMNS)["trial"].tolist()


@pytest.mark.parametrize(
    ("text", "trials"),
    [
        ("", [0, 1, 2, 3]),
        (" , ,", [0, 1, 2, 3]),
        ("separation > 0.3", [3]),
        ("separation >= 0.3", [0, 3]),
        ("separation<-5e-2", [2]),
        ("separation <= 0.3", [0, 2]),
        ("trial = 1", [1]),
        ("trial != 1", [0, 2, 3]),
        ("latent.private = 2", [0, 3]),
        ("state = complete", [0, 2]),
        ("STATE = Complete", [0, 2]),
        ("state != complete", [1, 3]),
        ("contrast.strategy = 'infonce'", [1, 3]),
        ("separation > 0, state = complete, latent.private < 3", [0]),
        ("separation > 0, separation < 0", []),
    ],
)
def test_rows_that_meet_all_conditions_are_kept_in_their_order(text, trials):
    assert kept(text) == trials


def test_a_missing_number_or_word_only_meets_unequal():
    assert 1 not in kept("separation < 9")
    assert 1 in kept("separation != 9")
    assert 2 not in kept("contrast.strategy = none")
    assert 2 in kept("contrast.strategy != none")
    assert 2 in kept("latent.private != 2")


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("separation", ["separation", "form"]),
        ("> 0.3", ["> 0.3", "form"]),
        ("separation >", ["separation >", "form"]),
        ("seperation > 0.3", ["seperation", "separation"]),
        ("separation > high", ["separation", "numbers", "high"]),
        ("state > complete", ["state", "words", ">"]),
        ("config/latent.private = 2", ["config/latent.private", "no column"]),
    ],
)
def test_a_condition_that_cannot_be_applied_is_explained(text, facts):
    with pytest.raises(UserError, match=mentions(*facts)):
        kept(text)


@pytest.mark.parametrize("text", ["trial = __import__('os').getpid()", "trial = 0 or 1", "trial = @pd", "trial = 1;2"])
def test_values_are_not_evaluated(text):
    with pytest.raises(UserError, match=mentions("trial", "numbers")):
        kept(text)


def test_the_table_is_not_changed():
    before = TABLE.copy()
    kept("separation > 0.3, state != failed")
    pd.testing.assert_frame_equal(TABLE, before)


def test_a_missing_whole_number_differs_from_each_value():
    table = pd.DataFrame({"trial": [0, 1], "step": pd.array([100, None], dtype="Int64")})
    assert filter_rows(table, "step != 100", {"step": "step"})["trial"].tolist() == [1]
    assert filter_rows(table, "step > 0", {"step": "step"})["trial"].tolist() == [0]
