"""What each subspace of a trial's models holds of each factor, by every kind of probe: the matrix behind separation."""

import numpy as np
import pandas as pd
from rich.table import Table

from marl.evaluation import HELD_OUT_CLIPS, SUBSPACES
from marl.metrics.separation import chance_corrected
from study.analysis import StudyResults
from study.analysis.statistics import accuracy_standard_error
from study.datasets.load import clips_of
from study.errors import UserError
from study.spec.model_config import audio_of

__all__ = ["leakage", "leakage_table"]

_PROBES = {
    "probe": ("network", "means"),
    "linear_probe": ("linear", "means"),
    "sampled_probe": ("network", "samples"),
    "sampled_linear_probe": ("linear", "samples"),
}


def leakage(results: StudyResults, trial: int) -> pd.DataFrame:
    """A row for each factor, subspace and probe that a complete trial was asked with.

    Args:
        results: of the study.
        trial: which.

    Returns:
        `factor`, `subspace`, `belongs` (whether the factor is meant to be there), `probe` (`network` or `linear`), `of`
        (`means` or `samples` of the posteriors), `accuracy`; `leakage`, the accuracy rescaled so that chance is 0 and
        perfect is 1, with half of its 90 % interval over seeds in `ci`, and in `clips_se` its standard error from the
        finite number of held-out clips.

    Raises:
        UserError: when the trial is not complete.
    """
    table = results.results()
    found = table[(table["trial"] == trial) & (table["state"] == "complete")]
    if found.empty:
        complete = ", ".join(map(str, table[table["state"] == "complete"]["trial"])) or "none"
        raise UserError(f"--trial: {trial} is no complete trial; there are {complete}")
    row = found.iloc[0]
    known = clips_of(results.spec, results.store.objects, audio_of(results.spec))
    clips = min(HELD_OUT_CLIPS, len(known.splits["validation"]))
    lines = []
    for factor, classes in zip(known.factors, known.classes_at_stake("validation"), strict=True):
        scale = 1 / (1 - 1 / classes) if classes > 1 else 0.0
        for subspace in SUBSPACES:
            belongs = subspace == "both" or (factor.name in results.spec.shared_factors) == (subspace == "shared")
            for name, (probe, of) in _PROBES.items():
                accuracy = row.get(f"{name}/{factor.name}/{subspace}", np.nan)
                if pd.isna(accuracy) or classes < 2:
                    continue
                lines.append(
                    {
                        "factor": factor.name,
                        "subspace": subspace,
                        "belongs": belongs,
                        "probe": probe,
                        "of": of,
                        "accuracy": accuracy,
                        "leakage": chance_corrected(accuracy, classes),
                        "ci": scale * row[f"{name}/{factor.name}/{subspace}/ci"],
                        "clips_se": scale * accuracy_standard_error(accuracy, clips),
                    }
                )
    return pd.DataFrame(lines)


def leakage_table(leaks: pd.DataFrame, title: str) -> Table:
    """Factors by subspace and probe, with their intervals; what is not meant to be there is marked."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("factor")
    table.add_column("subspace")
    kinds = list(_PROBES.values())
    for probe, of in kinds:
        table.add_column(f"{probe} probe\non {of}", justify="right")
    for (factor, subspace), rows in leaks.groupby(["factor", "subspace"], sort=False):
        cells = {(row.probe, row.of): f"{row.leakage:.3f} ± {row.ci:.3f}" for row in rows.itertuples()}
        mark = "" if rows["belongs"].all() else " (leak)"
        table.add_row(str(factor), f"{subspace}{mark}", *(cells.get(kind, "–") for kind in kinds))
    return table
