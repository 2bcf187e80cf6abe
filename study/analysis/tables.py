"""Tables of results for users: trials with the probability that they are on the front, and baselines."""

import pandas as pd

from study.analysis.results import StudyResults


def results_table(results: StudyResults) -> pd.DataFrame:
    """Return a row for each trial and each baseline: `kind`, state, configuration, means with their spread.

    `front_probability` is the probability that a complete trial is on the front, given the spread over its seeds.
    """
    return pd.concat([_with_probability(results, results.results()), results.baselines()], ignore_index=True)


def front_table(results: StudyResults) -> pd.DataFrame:
    """Return the rows of `results_table` on the Pareto front, best first in the first objective."""
    return _with_probability(results, results.front())


def _with_probability(results: StudyResults, trials: pd.DataFrame) -> pd.DataFrame:
    table = trials.merge(results.front_probability(), on="trial", how="left").astype({"trial": "Int64"})
    return pd.concat([pd.Series("trial", index=table.index, name="kind", dtype=object), table], axis=1)
