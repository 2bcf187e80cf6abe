"""Tables of results for users: trials with the probability that they are on the front, baselines, and filters."""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from study.analysis.results import StudyResults
from study.errors import UserError
from study.formatting import printable, suggestion

_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"(.+?)\s*(<=|>=|!=|=|<|>)\s*(.+)")


def results_table(results: StudyResults) -> pd.DataFrame:
    """Return a row for each trial and each baseline: `kind`, state, configuration, means with their spread.

    `front_probability` is the probability that a complete trial is on the front, given the spread over its seeds.
    """
    return pd.concat([_with_probability(results, results.results()), results.baselines()], ignore_index=True)


def front_table(results: StudyResults) -> pd.DataFrame:
    """Return the rows of `results_table` on the Pareto front, best first in the first objective."""
    return _with_probability(results, results.front())


def filter_rows(table: pd.DataFrame, text: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows that meet all conditions of a text such as `separation > 0.3, state = complete`.

    Conditions are separated by commas and compare a column with a value by `<`, `<=`, `>`, `>=`, `=` or `!=`. `columns`
    has the column of each name that may be used; names are compared without case. A missing value meets no condition
    but `!=`.

    Raises:
        UserError: If a condition has another form, an unknown name, or a value that its column cannot be compared with.
    """
    by_name = {name.casefold(): column for name, column in columns.items()}
    for condition in filter(None, map(str.strip, text.split(","))):
        match = _CONDITION.fullmatch(condition)
        if match is None:
            form = "a condition must have the form `name > value`, with one of <, <=, >, >=, = and !="
            raise UserError(f"{form}; got {printable(condition)!r}")
        name, symbol, value = match.groups()
        column = by_name.get(name.casefold())
        if column is None:
            raise UserError(f"no column is named {printable(name)!r}; {suggestion(name, columns)}")
        table = table[_is_met(table[column], symbol, value.strip("'\" "), name)]
    return table


def _is_met(values: pd.Series, symbol: str, text: str, name: str) -> pd.Series:
    compare = _COMPARISONS[symbol]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        try:
            number = float(text)
        except ValueError:
            raise UserError(f"{name} has numbers, so it must be compared with one; got {printable(text)!r}") from None
        return compare(values, number).fillna(symbol == "!=").astype(bool)
    if symbol not in ("=", "!="):
        raise UserError(f"{name} has words, so it must be compared by = or !=; got {symbol!r}")
    return compare(values.astype(str).str.casefold(), text.casefold())


def _with_probability(results: StudyResults, trials: pd.DataFrame) -> pd.DataFrame:
    table = trials.merge(results.front_probability(), on="trial", how="left").astype({"trial": "Int64"})
    return pd.concat([pd.Series("trial", index=table.index, name="kind", dtype=object), table], axis=1)
