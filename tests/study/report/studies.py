"""Small studies with known numbers, written as a run writes them."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from marl.data.syntone import SynTone
from study.analysis import StudyResults
from study.report.figures import ReportContext
from study.store import StudyStore
from study.store.writer import StudyWriter
from tests.study.stores import new_store

FIDELITY, SEPARATION = "fidelity/log_mel_rmse_db", "disentanglement/separation"
STEPS = 30
FACTORS = SynTone(frequencies=40, amplitudes=4).factors()
PLAIN = {"loss.private.gamma": 1.0, "latent.private": 2, "contrast.strategy": "none"}
INFORMATION = {
    f"information/{factor.name}/{part}": share
    for factor in FACTORS
    for part, share in (("private", 0.4), ("shared", 0.6))
}
PROBES = {
    f"probe/{factor.name}/{part}": accuracy
    for factor in FACTORS
    for part, accuracy in (("private", 0.5), ("shared", 0.75), ("both", 0.8))
}


def write_study(
    location: Any,
    content: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    log: Sequence[str] = (),
    trainers: Sequence[int] = (),
) -> StudyStore:
    """Write a study with trials made by `trial_of`, lines of its log, and the trainers of trials as they start."""
    store = new_store(location, content, content["name"])
    writer = StudyWriter(store, trials=len(trials))
    for line in log:
        writer.log(line)
    trainer_of = dict(enumerate(trainers))
    for number, trainer in trainer_of.items():
        if trials[number]["state"] != "running":
            writer.add("trials", _row(number, trials[number], "running", 0) | {"trainer": trainer})
    for number, trial in enumerate(trials):
        step = STEPS if trial["state"] == "complete" else STEPS // 2
        for seed in range(max(map(len, trial["metrics"].values()))):
            row = {"trial": number, "seed": seed, "step": step, "metric_version": 1}
            writer.add("reports", row | {name: values[seed] for name, values in trial["metrics"].items()})
        trainer = {"trainer": trainer_of[number]} if number in trainer_of else {}
        writer.add("trials", _row(number, trial, trial["state"], step) | trainer)
    writer.finish()
    return store


def _row(number: int, trial: Mapping[str, Any], state: str, step: int) -> dict[str, Any]:
    error = trial["error"] if state == trial["state"] else None
    row = {"trial": number, "state": state, "error": error, "step": step, "sampler": "{}"}
    return row | {f"config/{name}": value for name, value in trial["config"].items()}


def trial_of(
    fidelity: Sequence[float],
    separation: Sequence[float],
    state: str = "complete",
    error: str | None = None,
    config: Mapping[str, Any] = PLAIN,
) -> dict[str, Any]:
    """Return a trial with metrics of each replicate; a complete one also has what readers find."""
    metrics = {FIDELITY: fidelity, SEPARATION: separation}
    if state == "complete":
        metrics |= {name: [value] * len(fidelity) for name, value in (INFORMATION | PROBES).items()}
    return {"state": state, "error": error, "metrics": metrics, "config": dict(config)}


def all_clips() -> dict[str, Any]:
    """Return every combination of the factors once, so that factors are independent."""
    values = np.array(list(product(*(range(len(factor.values)) for factor in FACTORS))))
    columns: dict[str, Any] = {"clip": np.arange(len(values))}
    for factor, index_N in zip(FACTORS, values.T, strict=True):
        columns[f"factor/{factor.name}"] = [factor.values[index] for index in index_N]
    return columns


def class_of_clips(factor: int) -> np.ndarray:
    """Return the class of each clip of `all_clips`."""
    classes = FACTORS[factor].class_of_value
    column = all_clips()[f"factor/{FACTORS[factor].name}"]
    return np.array([classes[FACTORS[factor].values.index(value)] for value in column])


def separated() -> dict[str, Any]:
    """Return ideal latents: timbre in the shared one, frequency and amplitude in a private one each."""
    latents = {"private/0": class_of_clips(1), "private/1": class_of_clips(2), "shared/0": class_of_clips(0)}
    return all_clips() | {name: values.astype(np.float32) for name, values in latents.items()}


def context_of(store: StudyStore) -> ReportContext:
    """Return the context of the study's report."""
    return ReportContext(StudyResults(store))
