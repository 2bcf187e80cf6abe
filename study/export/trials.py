"""Models out of a study: which ones, and what is said about them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from marl.checkpoint import METADATA_FILE, MODEL_FILE
from marl.data import Dataset
from study.analysis import StudyResults
from study.datasets.load import dataset_of
from study.errors import RunError, UserError
from study.export.bundle import is_whole, write_bundle
from study.export.model_card import Subject, model_card
from study.spec.resolved_spec import ResolvedSpec

__all__ = ["export_trials"]


def export_trials(
    results: StudyResults, trials: list[int], by: str, folder: Path, licence: str | None = None
) -> list[Path]:
    """Write a bundle for each trial: its best replicate by a metric.

    Args:
        results: the study.
        trials: complete trials.
        by: the metric that chooses among a trial's replicates.
        folder: gets one folder a bundle; one that is there already and whole is left alone.
        licence: under which the models may be used, for their cards.

    Raises:
        UserError: when a trial is not complete, its weights were pruned, or the folder cannot be written.
        RunError: when a checkpoint is missing or damaged.
    """
    table = results.results().set_index("trial")
    for trial in trials:
        if trial not in table.index or table.loc[trial, "state"] != "complete":
            state = table.loc[trial, "state"] if trial in table.index else "not there"
            raise UserError(f"only complete trials are exported; trial {trial} is {state}")
    dataset: Dataset | None = None
    bundles = []
    for trial in trials:
        seed = _best_replicate(results, trial, by)
        bundle = folder / f"{results.spec.name}-trial-{trial}-seed-{seed}"
        if not is_whole(bundle):
            dataset = dataset or dataset_of(ResolvedSpec(results.spec), results.store.objects, torch.device("cpu"))
            _write(results, dataset, trial, seed, by, bundle, licence)
        bundles.append(bundle)
    return bundles


def _write(
    results: StudyResults, dataset: Dataset, trial: int, seed: int, by: str, bundle: Path, licence: str | None
) -> None:
    found = results.store.latest_checkpoint(trial, seed)
    if found is None or found.step != results.spec.train.steps:
        if (when := results.store.discarded(trial)) is not None:
            raise UserError(
                f"the weights of trial {trial} were deleted by `marl-study clean` on {when[:10]}; its results and "
                "latents are kept. Export a trial that kept its weights (--front), or train this one again: run the "
                "study under another name with its configuration in `include`"
            )
        raise RunError(f"the checkpoint of trial {trial}, seed {seed} is missing or damaged in {results.store.uri}")
    table = results.results().set_index("trial")
    means = table.loc[trial].to_dict()
    scores = {
        "in the study, this replicate": _metrics(_final_reports(results, trial).loc[seed].to_dict()),
        "in the study, mean over replicates": _metrics(means),
    }
    write_bundle(
        bundle,
        {name: found.files[name] for name in (MODEL_FILE, METADATA_FILE)},
        dataset,
        {"study": results.spec.name, "trial": trial, "seed": seed},
        scores,
        model_card(
            results.spec,
            dataset,
            Subject(trial, seed, by, scores["in the study, this replicate"], means),
            licence,
        ),
    )


def _best_replicate(results: StudyResults, trial: int, by: str) -> int:
    last = _final_reports(results, trial)
    if by not in last or last[by].isna().any():
        raise UserError(f"trial {trial} has no value of {by!r} to choose a replicate by")
    return int(last[by].idxmin() if results.spec.direction(by) == "min" else last[by].idxmax())


def _final_reports(results: StudyResults, trial: int) -> pd.DataFrame:
    """The last reports of a trial's replicates, by seed; of each metric the latest version."""
    reports = results.reports()
    last = reports[(reports["trial"] == trial) & (reports["step"] == results.spec.train.steps)]
    return last.groupby("seed").last()


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, float)
        and name.startswith(("fidelity/", "disentanglement/", "probe/", "nmi/"))
        and pd.notna(value)
    }
