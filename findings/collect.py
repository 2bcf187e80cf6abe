"""The data of the findings: a row for each final replicate of a study, with its provenance.

    python -m findings.collect STUDY... [--store URI]

Each study becomes `findings/data/STUDY.csv`. Run the ready studies with `marl-study run` first.
"""

import argparse
import os
from pathlib import Path

import pandas as pd

from study.analysis import StudyResults
from study.cli.common import open_results

DATA = Path(__file__).parent / "data"
_METRICS = ("fidelity/", "disentanglement/", "information/", "leakage/", "probe/", "nmi/")
# Names with this many parts are metrics of a class of a factor, which no table uses.
_CLASS_PARTS = 4


def read(study: str) -> pd.DataFrame:
    """Return the collected replicates of a study."""
    return pd.read_csv(DATA / f"{study}.csv")


def write(study: str, rows: pd.DataFrame) -> None:
    """Write the replicates of a study."""
    rows.to_csv(DATA / f"{study}.csv", index=False, float_format="%.4g", lineterminator="\n")


def provenance(study: str) -> str:
    """Describe the trials, seeds, budget, code and devices of a study in Markdown."""
    rows = read(study)
    commits, devices = (", ".join(sorted(rows[name].astype(str).unique())) for name in ("commit", "device"))
    return (
        f"*`{study}`: {rows['trial'].nunique()} trials, seeds {rows['seed'].min()} to {rows['seed'].max()}, "
        f"{rows['step'].max():,} steps of {rows['batch_pairs'].max()} pairs, commit {commits}, {devices}*"
    )


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option `--store`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=os.environ.get("MARL_STORE", "runs"))
    return parser


def rows_of(results: StudyResults) -> pd.DataFrame:
    """Final reports of complete trials: trial, seed, configuration, metrics; commit, device and size of the study."""
    trials, reports = results.trials(), results.reports()
    complete = trials[trials["state"] == "complete"]
    final = reports[reports["trial"].isin(complete["trial"]) & (reports["step"] == results.spec.train.steps)]
    # Another run than the one that trained may have added metrics later.
    final = final.groupby(["trial", "seed"]).agg({**dict.fromkeys(final.columns, "last"), "run": "first"})
    final = final.reset_index(drop=True)
    parameters = [column for column in complete if str(column).startswith("config/")]
    names = map(str, final)
    metrics = [name for name in names if name.startswith(_METRICS) and len(name.split("/")) < _CLASS_PARTS]
    rows = complete[["trial", *parameters]].merge(final[["trial", "seed", "step", "run", *metrics]], on="trial")
    runs = [results.runs[int(number)] for number in rows["run"]]
    rows = rows.drop(columns="run").copy()
    rows.insert(2, "commit", [run.get("commit") for run in runs])
    rows.insert(3, "device", [" + ".join(sorted(set(run.get("devices", [])))) for run in runs])
    rows.insert(4, "batch_pairs", results.spec.train.batch_pairs)
    return rows.sort_values(["trial", "seed"], ignore_index=True)


def main() -> None:
    """Write the CSV of each study."""
    parser = new_parser(__doc__)
    parser.add_argument("studies", nargs="+", metavar="STUDY")
    arguments = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    for study in arguments.studies:
        rows = rows_of(open_results(arguments.store, study))
        write(study, rows)
        print(f"{study}: {len(rows)} replicates of {rows['trial'].nunique()} trials")


if __name__ == "__main__":
    main()
