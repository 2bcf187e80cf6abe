"""A study as a storage of Optuna: one SQLite file for `optuna.load_study` and for optuna-dashboard.

A trial's number, state, parameters with their distributions, values and times are Optuna's own. Optuna knows no
interrupted trials: they run there, and the attribute `state` says what they are.

User attributes are what trials can be compared by, since optuna-dashboard makes an axis and a column of each: how far a
trial is, the spread of its objectives, and the metrics that all complete trials have, unless they are part of another,
as the error of one timbre is. The system attribute `results`, which it does not show, is the whole row of results, with
all spreads and intervals. What is not known, or not finite, is in neither. What the search noted for itself comes along
as system attributes, too.

The learning curve becomes intermediate values where there is one objective; Optuna has none of them for several.
"""

import json
import math
import warnings
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.pool import StaticPool

from study.analysis import StudyResults, metric_columns
from study.errors import UserError
from study.search.history import past_trials
from study.search.sampler import PastTrial, distribution_of, frozen_trial
from study.spec import Baseline
from study.storage import atomic_path

__all__ = ["optuna_database", "write_optuna_storage"]

_IN_MEMORY: dict[str, Any] = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}


def write_optuna_storage(results: StudyResults, path: Path) -> None:
    """Write a study as a new file, whole or not at all.

    Args:
        results: the study.
        path: of the file; folders above it are made.

    Raises:
        UserError: when there is something of that name already, or it cannot be written.
    """
    if path.exists():
        raise UserError(f"{path} is there already; a storage of Optuna is written as a new file, so name another one")
    content = optuna_database(results)
    try:
        with atomic_path(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def optuna_database(results: StudyResults) -> bytes:
    """The content of such a file."""
    spec = results.spec
    # In memory, where each of some thousand commits costs no access to a disk.
    storage = RDBStorage("sqlite:///:memory:", engine_kwargs=_IN_MEMORY)
    study = optuna.create_study(
        storage=storage,
        study_name=spec.name,
        directions=["minimize" if mode == "min" else "maximize" for mode in spec.objectives.values()],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(spec.objectives))
    study.set_user_attr("spec", spec.model_dump(mode="json", exclude_none=True))
    study.set_user_attr("seeds", list(spec.seeds))
    for row in results.baselines().to_dict("records"):
        scores = {name: row[name] for name in spec.objectives if name in row}
        study.set_user_attr(Baseline(row["baseline"]).label, _known(scores))
    past = past_trials(results)  # read first: of a study that is running, what is read later has all of these
    rows, shown = _rows(results)
    for number, trial in _trials(results, past).items():
        trial.system_attrs = {**trial.system_attrs, "results": rows[number]}
        study.add_trial(trial)
    connection = storage.engine.raw_connection().driver_connection
    if connection is None:
        raise TypeError("a database in memory has a connection")
    # Optuna looks each attribute up before it adds it, which takes a minute for those of a thousand trials.
    identifiers = connection.execute("SELECT trial_id FROM trials ORDER BY number").fetchall()
    connection.executemany(
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
        (
            (identifier, name, json.dumps(rows[trial.number][name]))
            for (identifier,), trial in zip(identifiers, past, strict=True)
            for name in shown
            if name in rows[trial.number]
        ),
    )
    connection.commit()
    content: bytes = connection.serialize()
    storage.engine.dispose()
    return content


def _trials(results: StudyResults, past: Iterable[PastTrial]) -> dict[int, FrozenTrial]:
    """Trials as Optuna has them, by number, without what their results say."""
    distributions = {name: distribution_of(parameter) for name, parameter in results.spec.space.items()}
    times = results.store.read("trials")
    times = times.groupby("trial")["time"].agg(["first", "last"]) if len(times) else times
    curves = _curves(results)
    trials = {}
    for one in past:
        trial = frozen_trial(one, distributions)
        trial.datetime_start = _local(times.at[one.number, "first"])
        if trial.state.is_finished():
            trial.datetime_complete = _local(times.at[one.number, "last"])
        trial.intermediate_values = curves.get(one.number, {})
        trials[one.number] = trial
    return trials


def _curves(results: StudyResults) -> dict[int, dict[int, float]]:
    """For each trial, where there is a single objective, its mean over the replicates that reported it, by step."""
    reports, (objective, *others) = results.reports(), list(results.spec.objectives)
    if others or objective not in reports:
        return {}
    reports = reports.sort_values("metric_version", kind="stable").dropna(subset=[objective])
    latest = reports.groupby(["trial", "seed", "step"])[objective].last()
    means = latest.groupby(["trial", "step"]).mean()
    curves: dict[int, dict[int, float]] = {}
    for (trial, step), mean in means.items():
        curves.setdefault(int(trial), {})[int(step)] = float(mean)
    return curves


def _rows(results: StudyResults) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """What results say of each trial, by number, beside its configuration, and the columns that are user attributes."""
    table = results.results().merge(results.front_probability(), on="trial", how="left")
    table["front"] = table["trial"].isin(results.front(table)["trial"])
    columns = [str(column) for column in table if not str(column).startswith("config/")]
    metrics, complete = metric_columns(table), table[table["state"] == "complete"]
    compared = [
        name
        for name in metrics
        if complete[name].notna().all() and not any(name.startswith(f"{other}/") for other in metrics)
    ]
    spreads = [f"{name}/{spread}" for name in results.spec.objectives for spread in ("sd", "ci")]
    shown = [column for column in columns if column not in metrics and "/" not in column]
    shown += [*compared, *(name for name in spreads if name in columns)]
    return {int(row["trial"]): _known(row) for row in table[columns].to_dict("records")}, shown


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Values that JSON has: numbers, words and truths."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    return {
        name: value
        for name, value in plain.items()
        if pd.notna(value) and not (isinstance(value, float) and math.isinf(value))
    }


def _local(time: pd.Timestamp) -> datetime:
    """As Optuna has times: of this machine's zone, which it does not name."""
    local: datetime = time.to_pydatetime().astimezone().replace(tzinfo=None)
    return local
