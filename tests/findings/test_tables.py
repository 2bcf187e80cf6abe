import pandas as pd
import pytest

from findings import collect, tables
from tests.messages import assert_mentions, mentions


def test_the_page_agrees_with_the_data():
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page) == page


@pytest.mark.parametrize("study", sorted(path.stem for path in collect.DATA.glob("*.csv")))
def test_every_row_states_its_provenance(study):
    rows = collect.read(study)
    assert not rows[["trial", "seed", "commit", "device", "step", "batch_pairs"]].isna().any().any()
    assert not rows["commit"].str.endswith("-dirty").any()
    assert not rows.duplicated(["trial", "seed"]).any()


def test_a_table_without_a_placeholder_raises(monkeypatch):
    monkeypatch.setattr(tables, "TABLES", {"F1": lambda: "| a |"})
    assert tables.filled("x\n<!-- F1 -->\nold\n<!-- end -->\ny") == "x\n<!-- F1 -->\n| a |\n<!-- end -->\ny"
    with pytest.raises(ValueError, match=mentions("F1")):
        tables.filled("nothing")


def test_a_missing_study_is_named_in_the_page(monkeypatch, tmp_path):
    monkeypatch.setattr(collect, "DATA", tmp_path)
    monkeypatch.setattr(tables, "TABLES", {"F3": lambda: tables.finding_3(tables.SYNTONE)})
    assert_mentions(tables.filled("<!-- F3 -->\n<!-- end -->"), "`ablation`", "not")


def test_differences_are_taken_seed_by_seed():
    rows = pd.DataFrame({"seed": [1, 0], "x": [5.0, 1.0]})
    reference = pd.DataFrame({"seed": [0, 1], "x": [0.0, 3.0]})
    assert tables.change(rows, reference, "x").to_dict() == {0: 1.0, 1: 2.0}
    assert tables.spread(tables.change(rows, reference, "x"), 1) == "1.5 ± 0.7"
    assert tables.spread(pd.Series([2.0])) == "2.000"


def test_the_trial_closest_to_the_goals_must_reach_the_fidelity(monkeypatch):
    names = list(tables.PRIZE)

    def trial(number, fidelity, *values):
        return {"trial": number, "seed": 0, tables.FIDELITY: fidelity, **dict(zip(names, values, strict=True))} | {
            "config/x": number,
            "commit": "c",
            "device": "d",
            "step": 1,
            "batch_pairs": 16,
        }

    rows = [
        trial(0, 2.0, 1.0, 1.0, 1.0, 1.0),
        trial(1, 2.4, 0.99, 0.9, 0.15, 0.6),
        trial(2, 2.5, 0.99, 0.95, 0.15, 0.5),  # reaches every other goal, but not the fidelity
    ]
    monkeypatch.setattr(tables, "read", lambda study: pd.DataFrame(rows))
    table = tables.prize()
    assert "| trial 1 |" in table
    assert "| timbre from private | at most 0.5 | 0.600 |" in table
    assert "at most 2.40" in table
