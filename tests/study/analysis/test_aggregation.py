"""Means of trials over replicates, and their incremental update."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.analysis.aggregation import aggregate_trials, merge_duplicates, update_aggregates
from study.store.tables import TableRows

METRICS = ["a/x", "a/x/clips_se", "b/late"]


def report(trial, seed, step, version=1, **metrics):
    return {"trial": trial, "seed": seed, "step": step, "metric_version": version, **metrics}


def table_of(rows):
    return TableRows({("part", str(number)): pa.Table.from_pylist(one) for number, one in enumerate(rows) if one})


numbers = st.floats(-10, 10, allow_nan=False)
reports = st.builds(
    lambda trial, seed, step, version, metrics: report(
        trial, seed, step, version, **dict(zip(METRICS, metrics, strict=True))
    ),
    st.integers(-1, 4),
    st.integers(0, 2),
    st.sampled_from([10, 20]),
    st.integers(1, 2),
    st.tuples(numbers, st.none() | numbers, st.none() | numbers),
)
parts = st.lists(st.lists(reports, min_size=1, max_size=6), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None)
@given(parts, st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=4))
def test_means_that_follow_from_earlier_ones_are_those_that_are_computed_at_once(parts, moments):
    """At each moment other parts are there: some came, some went, as when parts become one."""
    means, everything = None, table_of(parts)
    for moment in moments:
        there = TableRows({part: rows for part, rows in everything.segments.items() if int(part[1]) in moment})
        means = update_aggregates(there, 3, means)
        pd.testing.assert_frame_equal(
            means.table, update_aggregates(there, 3, None).table, check_exact=True, check_dtype=bool(there.segments)
        )


@settings(max_examples=15, deadline=None)
@given(parts)
def test_a_mean_does_not_depend_on_other_trials(parts):
    rows = pd.DataFrame([row for part in parts for row in part])
    rows[METRICS] = rows[METRICS].astype(float)
    together = aggregate_trials(rows, 3).set_index("trial")
    for trial, own in rows.groupby("trial"):
        alone = aggregate_trials(own, 3).set_index("trial").loc[trial]
        pd.testing.assert_series_equal(alone, together.loc[trial, alone.index], check_exact=True)


def test_sums_are_compensated_with_and_without_missing_values():
    rows = pd.DataFrame([report(0, seed, 10, m=value) for seed, value in enumerate([1e16, 1.0, 1.0])])
    mean = (1e16 + 2) / 3  # a plain sum loses the ones
    assert aggregate_trials(rows, 3)["m"].tolist() == [mean]
    other = pd.DataFrame([report(1, 0, 10, m=np.nan)])
    assert aggregate_trials(pd.concat([rows, other]), 3)["m"].tolist()[0] == mean


@pytest.mark.parametrize("comes", [[], [[report(2, 0, 10, **{"a/x": 3.0})]]])
def test_a_metric_that_no_trial_has_any_more_is_no_column_any_more(comes):
    goes, stays = [report(0, 0, 10, **{"a/x": 1.0, "b/late": 2.0})], [report(1, 0, 10, **{"a/x": 2.0})]
    before = update_aggregates(table_of([stays, goes]), 1, None)
    assert "b/late" in before.table
    after = update_aggregates(
        TableRows({**table_of([stays]).segments, **table_of([[], [], *comes]).segments}), 1, before
    )
    assert list(after.table) == ["trial", "step", "replicates", "a/x", "a/x/sd", "a/x/ci"]
    assert after.table["trial"].tolist() == ([1, 2] if comes else [1])


def test_no_rows_have_no_means_and_means_without_new_rows_are_the_same_object():
    nothing = update_aggregates(TableRows({}), 3, None)
    assert nothing.table.empty
    assert list(nothing.table) == ["trial", "step", "replicates"]
    assert update_aggregates(TableRows({}), 3, nothing) is nothing
    some = update_aggregates(table_of([[report(0, 0, 10, m=1.0)]]), 3, nothing)
    assert some.table.to_dict("records")[0]["m"] == 1.0
    assert update_aggregates(table_of([[report(0, 0, 10, m=1.0)]]), 3, some) is some


@settings(max_examples=15, deadline=None)
@given(parts)
def test_rows_are_coalesced_as_if_all_were_grouped(parts):
    rows = pd.DataFrame([row for part in parts for row in part]).assign(run=range(sum(map(len, parts))))
    rows[METRICS] = rows[METRICS].astype(float)
    key = ["trial", "seed", "step", "metric_version"]
    groups = rows.groupby(key)
    expected = groups.last().assign(run=groups["run"].first()).reset_index()
    pd.testing.assert_frame_equal(merge_duplicates(rows, key), expected)
    later = rows.sort_values("metric_version", kind="stable").groupby(key[:3])
    expected = later.last().assign(run=later["run"].first()).reset_index()
    pd.testing.assert_frame_equal(merge_duplicates(rows, key[:3]), expected[list(merge_duplicates(rows, key[:3]))])


def test_rows_of_few_parts_have_the_types_that_all_rows_have():
    table = table_of([[{"trial": 1, "x": 1, "y": None}], [{"trial": 2, "x": 0.5, "z": "s"}], [{"trial": 3, "y": 2.5}]])
    everything = table.frame()
    for wanted in ([True, False, False], [False, True, False], [False, False, True], [False] * 3):
        some = table.frame(is_wanted=np.array(wanted))
        pd.testing.assert_frame_equal(some, everything[wanted].reset_index(drop=True))
    assert list(table.frame(["x", "nowhere"])) == ["x"]
    assert table.frame(["y"])["y"].tolist() == pytest.approx([np.nan, np.nan, 2.5], nan_ok=True)


@pytest.mark.filterwarnings("error")
def test_a_mean_with_an_infinite_value_is_infinite_without_a_warning():
    rows = pd.DataFrame([report(0, seed, 10, **{"a/x": value}) for seed, value in enumerate([1.0, np.inf, 2.0])])
    assert aggregate_trials(rows, 3)["a/x"].tolist() == [np.inf]
