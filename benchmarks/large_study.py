"""Write a synthetic study of any size with the layout that real runs leave: segments of rows, mostly compacted.

Random numbers fill the real columns: few in intermediate reports, all in final ones, and post-training metrics for
every hundredth trial.
"""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from study.storage import ObjectStore
from study.store import StudyStore
from study.store.tables import MIN_SEGMENTS_TO_COMPACT, Segment, Table, write_parquet

NAME = "large"
REPLICATES, REPORTS, STEPS = 3, 6, 6000
ROWS_OF_A_SEGMENT = 25  # 5 s at 5 reports per second
AT_ONCE = 128  # concurrent trials
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
FIDELITY, SEPARATION = "fidelity/log_mel_rmse_db", "disentanglement/separation"
SUBSPACES = [f"{block}/{term}" for block in ("private", "shared") for term in ("mi", "total_correlation", "kl")]
LOSSES = [f"loss/{term}" for term in ("total", "reconstruction", *SUBSPACES, "shared/infonce")]
_DETAILS = 10  # columns of each factor: standard errors of information, and R²
# The same number of columns as in a real study.
SPACE: dict[str, dict[str, Any]] = {
    "loss.private.gamma": {"log_uniform": [0.1, 10]},
    "loss.shared.gamma": {"log_uniform": [0.1, 10]},
    "latent.private": {"choice": [2, 4, 8]},
    "latent.shared": {"choice": [2, 4, 8]},
    "contrast.strategy": {"choice": ["none", "infonce"]},
    "contrast.temperature": {"log_uniform": [0.05, 1], "when": {"contrast.strategy": "infonce"}},
    "optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]},
}


def columns() -> tuple[list[str], list[str], list[str]]:
    """Return the metrics of intermediate reports, those that final reports add, and post-training metrics."""
    from marl.data.syntone import SynTone
    from marl.evaluation import INTERMEDIATE, metric_names

    found = SynTone().factors()
    factors = [factor.name for factor in found]
    names, intermediate_names = metric_names(factors), metric_names(factors, INTERMEDIATE)
    intermediate = [*LOSSES, f"{FIDELITY}/clips_se", *intermediate_names]
    final = [name for name in names if name not in intermediate_names]
    final += [f"information/{one.name}/detail-{number}" for one in found for number in range(_DETAILS)]
    final += [f"{FIDELITY}/{one.name}/{one.class_name(number)}" for one in found for number in range(one.classes)]
    late = [f"test/{name}" for name in (*intermediate, *final) if not name.startswith("loss/")]
    late += [f"sampled_{name}" for name in names if name.startswith("probe/")]
    late += [f"disentanglement/dci{end}" for end in ("", "_completeness", "_informativeness")]
    return intermediate, final, late


def write_study(folder: Path, trials: int) -> StudyStore:
    """Write a study of `trials` trials whose second run is alive. The last trials lack their final report."""
    from study.runs.lifecycle import create_study
    from study.spec import parse_spec
    from study.spec.resolve import resolve

    content = {"name": NAME, "data": {"kind": "syntone"}, "train": {"steps": STEPS, "reports": REPORTS}}
    content |= {"replicates": REPLICATES, "space": SPACE, "search": {"sampler": "random", "trials": trials}}
    store = StudyStore(ObjectStore(str(folder)), NAME)
    create_study(store, resolve(parse_spec(content, source="benchmark")))
    numbers = np.random.default_rng(0)
    intermediate, final, late = columns()
    untrained = dict.fromkeys((*intermediate, *final), 0.0) | {FIDELITY: 40.0}
    store.write_baselines({"untrained": untrained, "replicates": REPLICATES})
    first, complete = round(0.9 * trials), trials - running_of(trials)
    for run, (begin_at, end_at) in enumerate([(0, first), (first, trials)], start=1):
        started = BEGUN + timedelta(days=run)
        content = {"run": run, "trials": trials, "host": "elsewhere", "started": started.isoformat()}
        content |= {"heartbeat": datetime.now(UTC).isoformat(), "finished": None if run > 1 else started.isoformat()}
        store.write_run(run, content)
        keys = report_keys(range(begin_at, end_at))
        if run > 1:
            keys = keys[(keys[:, 2] < STEPS) | (keys[:, 0] < complete)]
        reports = [reports_of(rows, intermediate, final, started, numbers) for rows in segments_of(keys)]
        if run == 1:
            evaluated = keys[(keys[:, 2] == STEPS) & (keys[:, 0] % 100 == 0)]
            reports += [reports_of(rows, [], late, started, numbers) for rows in segments_of(evaluated)]
        write_segments(store, "reports", run, reports)
        states = trials_of(range(begin_at, end_at), complete, started)
        write_segments(store, "trials", run, [states.slice(at, 3) for at in range(0, len(states), 3)])
    return store


def running_of(trials: int) -> int:
    """Return the number of running trials, which are the last ones."""
    return min(AT_ONCE, trials // 10)


def segments_of(keys_N3: np.ndarray) -> list[np.ndarray]:
    return np.split(keys_N3, range(ROWS_OF_A_SEGMENT, len(keys_N3), ROWS_OF_A_SEGMENT)) if len(keys_N3) else []


def report_keys(trials: range) -> np.ndarray:
    """Return trial, seed and step of each report, [N, 3], in the order of reports of concurrent trials."""
    budgets = range(STEPS // REPORTS, STEPS + 1, STEPS // REPORTS)
    orders = (itertools.product(budgets, group, range(REPLICATES)) for group in groups_of(trials))
    return np.array([(trial, seed, step) for order in orders for step, trial, seed in order])


def groups_of(trials: range) -> Iterator[range]:
    return (trials[at : at + AT_ONCE] for at in range(0, len(trials), AT_ONCE))


def reports_of(
    keys_N3: np.ndarray, intermediate: list[str], final: list[str], started: datetime, numbers: np.random.Generator
) -> pa.Table:
    """Return rows in the form of `to_parquet`: final columns are empty in intermediate reports, or absent."""
    trial_N, seed_N, step_N = keys_N3.T
    is_intermediate_N = step_N < STEPS
    found = {"trial": trial_N, "seed": seed_N, "step": step_N, "metric_version": np.ones(len(keys_N3), dtype=int)}
    # Trials lie on a trade-off and behind it.
    place_N = (0.618034 * trial_N) % 1
    behind_N = 5.0 * (0.7548777 * trial_N % 1) + 20.0 * (1 - step_N / STEPS)
    known = {FIDELITY: 3 + 10 * place_N + behind_N, SEPARATION: place_N**0.5 - 0.04 * behind_N}
    for name in intermediate:
        found[name] = numbers.normal(known.get(name, 0.5), 0.05, len(keys_N3))
    for name in final if not is_intermediate_N.all() else []:
        found[name] = pa.array(numbers.normal(known.get(name, 0.5), 0.05, len(keys_N3)), mask=is_intermediate_N)
    found["time"] = stamps(started, trial_N, step_N)
    return pa.table(found)


def trials_of(trials: range, complete: int, started: datetime) -> pa.Table:
    """Return a row for the start and one for the end of each trial."""
    pairs = [(trial, step) for group in groups_of(trials) for step in (0, STEPS) for trial in group]
    trial_N, step_N = np.array([(trial, step) for trial, step in pairs if trial < complete or not step]).T
    is_contrastive_N = trial_N % 2 == 1
    config: dict[str, Any] = {}
    for at, (name, parameter) in enumerate(SPACE.items()):
        if "log_uniform" in parameter:
            low, high = np.log(parameter["log_uniform"])
            drawn = np.exp(np.random.default_rng(at).uniform(low, high, size=1 + trial_N.max()))
            config[f"config/{name}"] = drawn[trial_N].clip(*parameter["log_uniform"])
    config |= {f"config/latent.{block}": 2 ** (1 + trial_N % 3) for block in ("private", "shared")}
    config["config/contrast.strategy"] = np.where(is_contrastive_N, "infonce", "none")
    config["config/contrast.temperature"] = pa.array(config["config/contrast.temperature"], mask=~is_contrastive_N)
    return pa.table(
        {
            "trial": trial_N,
            "state": np.where(step_N > 0, "complete", "running"),
            "error": pa.nulls(len(trial_N)),
            "step": step_N,
            "sampler": ["{}"] * len(trial_N),
            **config,
            "time": stamps(started, trial_N, step_N),
        }
    )


def stamps(started: datetime, trial_N: np.ndarray, step_N: np.ndarray) -> pa.Array:
    seconds_N = 3.6 * trial_N + 60.0 * step_N / STEPS
    times_N = np.datetime64(started.replace(tzinfo=None), "us") + (1e6 * seconds_N).astype("timedelta64[us]")
    return pa.array(times_N).cast(pa.timestamp("us", "UTC"))


def write_segments(store: StudyStore, table: Table, run: int, segments: list[pa.Table]) -> None:
    """Write the objects that `StudyStore.compact` would leave: most segments compacted, the last ones single."""
    whole = len(segments) // MIN_SEGMENTS_TO_COMPACT * MIN_SEGMENTS_TO_COMPACT
    for at in [*range(0, whole, MIN_SEGMENTS_TO_COMPACT), *range(whole, len(segments))]:
        together = segments[at : at + MIN_SEGMENTS_TO_COMPACT] if at < whole else segments[at : at + 1]
        last = at + len(together) if at < whole else None
        content = write_parquet(pa.concat_tables(together, promote_options="permissive"))
        store.objects.write(f"{store.name}/{Segment(table, run, at + 1, last).name}", content)
