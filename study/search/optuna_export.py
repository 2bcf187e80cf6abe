"""Export of a study as a storage of Optuna: one SQLite file for `optuna.load_study` and optuna-dashboard.

Trials keep their numbers, states, parameters with distributions, values and times. Optuna has no interrupted trials;
they are running there, and the attribute `state` holds their true state.

User attributes are those by which trials can be compared, because optuna-dashboard shows an axis and a column for each:
the progress of a trial, the spread of its objectives, and the metrics that all complete trials have, except metrics of
a single class. The system attribute `results`, which it does not show, is the whole row of results. Values that are
missing or not finite are left out. Attributes of the sampler are system attributes.

Reports become intermediate values if there is a single objective; Optuna has none for several objectives.
"""

import json
import math
import warnings
from collections.abc import Iterable, Iterator
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
from study.local_files import atomic_path
from study.search.sampler import PastTrial, distribution_of, frozen_trial, past_trials
from study.spec import Baseline

_IN_MEMORY: dict[str, Any] = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}


def write_optuna_storage(results: StudyResults, path: Path) -> None:
    """Write a study to a file, atomically. Missing folders are created.

    Raises:
        UserError: If the file cannot be written.
    """
    content = optuna_database(results)
    try:
        with atomic_path(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def optuna_database(results: StudyResults) -> bytes:
    """Return the SQLite file of `write_optuna_storage`, in memory."""
    spec = results.spec
    # In memory, because Optuna makes thousands of commits.
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
        study.set_user_attr(Baseline(row["baseline"]).label, _as_json(scores))
    past = past_trials(results)
    rows, user_attributes = _rows(results)
    for past_trial, trial in zip(past, _trials(results, past), strict=True):
        trial.system_attrs = {**trial.system_attrs, "results": rows[past_trial.number]}
        study.add_trial(trial)
    connection = storage.engine.raw_connection().driver_connection
    if connection is None:
        raise TypeError("a database in memory has a connection")
    # Optuna looks up each attribute before it adds it, which takes a minute for a thousand trials.
    identifiers = connection.execute("SELECT trial_id FROM trials ORDER BY number").fetchall()
    connection.executemany(
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
        (
            (identifier, name, json.dumps(rows[trial.number][name]))
            for (identifier,), trial in zip(identifiers, past, strict=True)
            for name in user_attributes
            if name in rows[trial.number]
        ),
    )
    connection.commit()
    content: bytes = connection.serialize()
    storage.engine.dispose()
    return content


def _trials(results: StudyResults, past: Iterable[PastTrial]) -> Iterator[FrozenTrial]:
    """Yield the trials as trials of Optuna, without attributes of their results."""
    distributions = {name: distribution_of(parameter) for name, parameter in results.spec.space.items()}
    times = results.store.read("trials")
    times = times.groupby("trial")["time"].agg(["first", "last"]) if len(times) else times
    curves = _curves(results)
    for past_trial in past:
        number, trial = past_trial.number, frozen_trial(past_trial, distributions)
        trial.datetime_start = _local(times.at[number, "first"])
        if trial.state.is_finished():
            trial.datetime_complete = _local(times.at[number, "last"])
        trial.intermediate_values = curves.get(number, {})
        yield trial


def _curves(results: StudyResults) -> dict[int, dict[int, float]]:
    """Return the mean of the single objective over replicates by trial and step; empty for several objectives."""
    reports, (objective, *others) = results.reports(), list(results.spec.objectives)
    if others or objective not in reports:
        return {}
    reports = reports.sort_values("metric_version", kind="stable").dropna(subset=[objective])
    means = reports.groupby(["trial", "seed", "step"])[objective].last().groupby(["trial", "step"]).mean()
    return {int(trial): curve.droplevel("trial").to_dict() for trial, curve in means.groupby("trial")}


def _rows(results: StudyResults) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Return the results of each trial without its configuration, and the columns that become user attributes."""
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
    user_attributes = [column for column in columns if column not in metrics and "/" not in column]
    user_attributes += [*compared, *(name for name in spreads if name in columns)]
    return {int(row["trial"]): _as_json(row) for row in table[columns].to_dict("records")}, user_attributes


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return the values that JSON can hold, as plain Python values."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    return {name: value for name, value in plain.items() if pd.notna(value) and value not in (math.inf, -math.inf)}


def _local(time: pd.Timestamp) -> datetime:
    """Return a time as Optuna stores it: in the local time zone, without naming it."""
    local: datetime = time.to_pydatetime().astimezone().replace(tzinfo=None)
    return local
