"""Keep what the findings rest on: one row for each final replicate of a study, with where it comes from.

    python -m findings.collect STUDY... [--store URI]

Each study becomes `findings/data/STUDY.csv`. Run the specs of `studies/` with `marl-study run` first.
"""

import argparse
import os
from pathlib import Path

import pandas as pd

from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore

DATA = Path(__file__).parent / "data"
# Which of the metrics tables are made of; a whole report has four times as many.
_METRICS = ("fidelity/", "disentanglement/", "probe/", "nmi/")
# Names with this many parts belong to classes of a factor.
_DETAIL = 4


def rows_of(store: str, study: str) -> pd.DataFrame:
    """Final reports of complete trials: trial, seed, configuration, metrics; commit, device and size of the study."""
    results = StudyResults(StudyStore(ObjectStore(store), study))
    trials, reports = results.trials(), results.reports()
    complete = trials[trials["state"] == "complete"]
    final = reports[reports["trial"].isin(complete["trial"]) & (reports["step"] == results.spec.train.steps)]
    # Some metrics may have been computed later, by another run than the one that trained.
    final = final.groupby(["trial", "seed"]).agg({**dict.fromkeys(final.columns, "last"), "run": "first"})
    final = final.reset_index(drop=True)
    parameters = [column for column in complete if str(column).startswith("config/")]
    metrics = [column for column in map(str, final) if column.startswith(_METRICS) and len(column.split("/")) < _DETAIL]
    rows = complete[["trial", *parameters]].merge(final[["trial", "seed", "step", "run", *metrics]], on="trial")
    commits = rows["run"].map(lambda number: results.runs[int(number)].get("commit"))
    devices = rows["run"].map(lambda number: " + ".join(sorted(set(results.runs[int(number)].get("devices", [])))))
    rows = rows.drop(columns="run").copy()
    rows.insert(2, "commit", commits)
    rows.insert(3, "device", devices)
    rows.insert(4, "batch_pairs", results.spec.train.batch_pairs)
    return rows.sort_values(["trial", "seed"], ignore_index=True)


def main() -> None:
    """Write the CSV of each study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", metavar="STUDY")
    parser.add_argument("--store", default=os.environ.get("MARL_STORE", "runs"))
    arguments = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    for study in arguments.studies:
        rows = rows_of(arguments.store, study)
        path = DATA / f"{study}.csv"
        rows.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
        print(f"{path}: {len(rows)} replicates of {rows['trial'].nunique()} trials")


if __name__ == "__main__":
    main()
