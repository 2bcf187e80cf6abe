"""Information that each subspace of a trial holds about each factor, by every kind of probe."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd

from study.analysis import StudyResults
from study.analysis.statistics import accuracy_standard_error
from study.errors import UserError

__all__ = ["PROBES", "leakage"]

PROBES = {
    "probe": ("network", "means"),
    "linear_probe": ("linear", "means"),
    "sampled_probe": ("network", "samples"),
    "sampled_linear_probe": ("linear", "samples"),
}
"""Group of metrics: the classifier, and the representation that it reads."""


def leakage(results: StudyResults, trial: int, classes: Mapping[str, int], clips: int) -> pd.DataFrame:
    """Return the probe accuracies of a complete trial, rescaled so that chance is 0.

    `classes` is the number of classes of each factor among the held-out clips; factors with one class are skipped.
    `clips` is the number of held-out clips that accuracies were measured on.

    Returns:
        A row for each factor, subspace and probe: `factor`, `subspace`, `belongs` (whether the subspace is meant to
        hold the factor), `probe` (`network` or `linear`), `of` (`means` or `samples` of the posteriors), `accuracy`,
        `leakage` (the accuracy on a scale where chance is 0 and perfect is 1), `ci` (half the width of the 90 %
        interval of the leakage over seeds) and `clips_se` (its standard error over the held-out clips).
    """
    table = results.results()
    complete = table[table["state"] == "complete"].set_index("trial")
    if complete.empty:
        raise UserError(f"study {results.spec.name!r} has no complete trial yet")
    if trial not in complete.index:
        numbers = ", ".join(map(str, complete.index))
        raise UserError(f"--trial: must be a complete trial ({numbers}); got {trial}")
    row = complete.loc[trial]
    rows = []
    for (factor, count), subspace, group in product(classes.items(), ("private", "shared", "both"), PROBES):
        name = f"{group}/{factor}/{subspace}"
        accuracy = row.get(name, np.nan)
        if count < 2 or pd.isna(accuracy):
            continue
        chance = 1 / count
        scale = 1 / (1 - chance)
        rows.append(
            {
                "factor": factor,
                "subspace": subspace,
                "belongs": subspace == "both" or (factor in results.spec.shared_factors) == (subspace == "shared"),
                "probe": PROBES[group][0],
                "of": PROBES[group][1],
                "accuracy": accuracy,
                "leakage": (accuracy - chance) / (1 - chance),
                "ci": scale * row[f"{name}/ci"],
                "clips_se": scale * accuracy_standard_error(accuracy, clips),
            }
        )
    return pd.DataFrame(rows)
