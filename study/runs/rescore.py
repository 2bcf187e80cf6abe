"""Metrics of models that are over, computed again from the store, without training."""

import signal
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import ray
from rich.console import Console

from marl.evaluation import OF_WEIGHTS
from marl.evaluation.post_training import EXAMINATIONS
from study.analysis import StudyResults
from study.errors import Interrupted, UserError
from study.provenance import versions
from study.runs.post_training import examine, score
from study.runs.ray_cluster import ray_session
from study.storage import PATIENT_S, Objects
from study.store import StudyStore
from study.store.writer import Recorder
from study.training.client import start_trainer
from study.training.planning import device_type

__all__ = ["rescore"]


def rescore(
    results: StudyResults,
    metrics: Sequence[str] | None,
    trials: Sequence[int] | None,
    split: str,
    console: Console,
) -> int:
    """Measure complete trials again; new rows are written beside the old ones.

    On the same kind of device and with the same version of the metrics the values are those that were there, to the
    last bit, in whatever order trials come.

    Args:
        results: of the study.
        metrics: names of `marl.evaluation.MEASURES` and of `EXAMINATIONS`; none for all of the first.
        trials: which; none for all that are complete.
        split: whose clips; `validation` or `test`.
        console: is told what is done.

    Returns:
        How many models were measured.

    Raises:
        UserError: when a name or a trial is none of the study's, or another launch of it is live.
    """
    names = list(OF_WEIGHTS if metrics is None else metrics)
    known = (*OF_WEIGHTS, *EXAMINATIONS)
    for name in names:
        if name not in known:
            raise UserError(f"--metrics: {name!r} is no group of metrics; there are {', '.join(known)}")
        if name in EXAMINATIONS and split != "validation":
            raise UserError(f"--test: {name} is measured on validation clips alone; leave it out")
    table = results.trials()
    complete = [int(trial) for trial in table[table["state"] == "complete"]["trial"]]
    for trial in trials or ():
        if trial not in complete:
            there_are = ", ".join(map(str, complete)) or "none"
            raise UserError(f"--trial: {trial} is no complete trial; there are {there_are}")
    chosen = complete if trials is None else sorted(set(trials))
    replicates = [(trial, seed) for trial in chosen for seed in results.spec.seeds]
    patient = StudyStore(Objects(results.store.objects.uri, PATIENT_S), results.store.name)
    recorder = Recorder(patient, results.target)
    stop_asked = False

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True

    def tick() -> None:
        recorder.tick()
        if stop_asked:
            raise Interrupted

    measured: set[tuple[int, int]] = set()

    def record(row: Mapping[str, Any]) -> None:
        measured.add((row["trial"], row["seed"]))
        recorder.add("reports", row)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        with ray_session(None):
            console.print(f"measuring {len(replicates)} models on {device_type()}: {', '.join(names)}", soft_wrap=True)
            study = results.store.name
            trainers = [start_trainer(results.store.objects.uri, study, recorder.launch, versions(), device_type())]
            if measures := [name for name in names if name in OF_WEIGHTS]:
                score(trainers, replicates, measures, split, record, tick)
            for name in names:
                if name in EXAMINATIONS:
                    examine(trainers, replicates, name, record, tick)
            recorder.note_trainers(ray.get([trainer.progress.remote() for trainer in trainers]))
    finally:
        signal.signal(signal.SIGINT, previous)
        recorder.finish()
    return len(measured)
