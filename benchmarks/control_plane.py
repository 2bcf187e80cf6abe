"""What a study costs beside training: thousands of trials through Ray, Tune, the search and the store, without any.

    python -m benchmarks.control_plane [--trials 2000 10000] [--profile FILE]

The driver, the trials and the store are the real ones; in place of the trainer there is an actor that sleeps and then
reports made-up metrics. Each size runs in a process of its own. The run is cut into parts of equally many trials: a
cost that grows with the number of trials so far shows as processor time of the driver for a trial that rises from part
to part.
"""

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import ray
from rich.console import Console

from benchmarks.machine import add_json_option, part, print_table, say, write_record
from study import launch, trainer
from study.configuration import resolve
from study.objects import Objects
from study.results import StudyResults
from study.spec import Spec, parse_spec
from study.store import StudyStore

NAME = "control-plane"
STEPS = 1000
PARTS = 5
PROFILED = 30
# A space as wide as that of a real study.
SPACE = {
    "loss.private.gamma": {"log_uniform": [0.1, 10]},
    "loss.shared.gamma": {"log_uniform": [0.1, 10]},
    "latent.private": {"choice": [2, 4, 8]},
    "latent.shared": {"choice": [2, 4, 8]},
    "contrast.strategy": {"choice": ["none", "infonce"]},
    "contrast.temperature": {"log_uniform": [0.05, 1], "when": {"contrast.strategy": "infonce"}},
    "optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]},
}


class SleepingTrainer:
    """Answers as `study.trainer.Trainer` does, and trains nothing."""

    sleep_s = 0.0

    def __init__(self, store_uri: str, study: str, device: str) -> None:
        from marl.evaluation import metric_names
        from marl.metrics import METRIC_VERSION

        document = StudyStore(Objects(store_uri), study).document()
        self._budgets = document.spec.budgets()
        self._replicates = document.spec.replicates
        self._metrics = metric_names(document.factors)
        self._version = METRIC_VERSION
        self._lanes = document.stack["lanes"]
        self._at_once = min(-(-self._lanes // self._replicates), document.spec.search.trials or 1)
        self._all_are_there = asyncio.Event()
        self._steps: dict[int, int] = {}
        self._trained = 0

    async def next_report(self, trial: int, parameters: Mapping[str, Any], after: int) -> dict[str, Any]:
        # Real trials last longer than processes take to start. If these ended earlier, Tune would give their processes
        # to trials whose own are still starting, stop those, and so start a process for every few trials.
        self._steps.setdefault(trial, 0)
        if len(self._steps) >= self._at_once:
            self._all_are_there.set()
        await self._all_are_there.wait()
        await asyncio.sleep(self.sleep_s)
        step = next(budget for budget in self._budgets if budget > after)
        self._steps[trial] = step
        self._trained += (step - after) * self._replicates
        return {"step": step, "rows": [self._row(trial, seed, step) for seed in range(self._replicates)]}

    async def detach(self, trial: int) -> None:
        self._steps.pop(trial, None)

    async def discard(self, trial: int) -> None:
        """There are no checkpoints."""

    async def progress(self) -> dict[str, Any]:
        return {
            "phase": "training",
            "ready": True,
            "replicates": [
                (trial, seed, step) for trial, step in self._steps.items() for seed in range(self._replicates)
            ],
            "trained_steps": self._trained,
            "lane_steps": self._trained,
            "lanes": self._lanes,
            "seconds": {"training": 0.0, "evaluation": 0.0, "idle": 0.0},
            "notices": [],
        }

    async def drain(self) -> None:
        """There is nothing to keep."""

    def _row(self, trial: int, seed: int, step: int) -> dict[str, Any]:
        numbers = random.Random(f"{trial}/{seed}/{step}")
        # Late trials are not better than early ones, so that fronts stay of one size.
        metrics = {name: numbers.random() for name in self._metrics}
        return {"trial": trial, "seed": seed, "step": step, "metric_version": self._version, **metrics}


def spec_of(chosen: argparse.Namespace) -> Spec:
    return resolve(
        parse_spec(
            {
                "name": NAME,
                "data": {"kind": "syntone"},
                "train": {"steps": STEPS, "reports": chosen.reports},
                "replicates": 1,
                "space": SPACE,
                "search": {"sampler": chosen.sampler, "trials": chosen.work},
                "resources": {"lanes": chosen.lanes},
            },
            source="benchmark",
        )
    )


class Meter:
    """What the driver used by the time that so many trials were over."""

    def __init__(self, every: int) -> None:
        self._process = psutil.Process()
        self._every = every
        self._over = 0
        self.points: list[dict[str, float]] = []
        self.session: dict[str, int] = {}

    def note(self) -> None:
        """Read the driver's clocks."""
        times = self._process.cpu_times()
        by_kind: dict[str, float] = {}
        for child in self._process.children(recursive=True):
            try:
                kind = child.name().partition("::")[2] or child.name()
                by_kind[kind] = by_kind.get(kind, 0.0) + child.memory_info().rss / 1e6
            except psutil.Error:  # it ended since it was listed
                continue
        self.points.append(
            {
                "trials": self._over,
                "seconds": time.monotonic(),
                "cpu_seconds": times.user + times.system,
                "rss_mb": self._process.memory_info().rss / 1e6,
                "gcs_mb": by_kind.get("gcs_server", 0.0),
                "raylet_mb": by_kind.get("raylet", 0.0),
                "all_of_ray_mb": sum(by_kind.values()),
            }
        )

    def ended(self) -> None:
        """A trial is over; the first begins what is cut into parts."""
        self._over += 1
        if self._over == 1 or self._over % self._every == 0:
            self.note()


@contextmanager
def without_training(store: StudyStore, meter: Meter) -> Iterator[None]:
    """Within it, a launch finds a trainer that sleeps, and is metered."""

    class Ray(launch._LocalRay):
        def __enter__(self) -> None:
            super().__enter__()
            # The driver starts it as a trial would, so it has the name that all trials look for.
            with mock.patch.object(trainer, "Trainer", SleepingTrainer):
                self._trainer = trainer.find_or_start(store.objects.uri, store.name, 1)
            ray.get(self._trainer.progress.remote())

        def __exit__(self, *error: object) -> None:
            meter.session = _sizes(self._folder.name)
            super().__exit__(*error)

    class Driver(launch._Driver):
        def _changed(self, number: int, state: str, *more: Any) -> None:
            super()._changed(number, state, *more)
            if state != "running":
                meter.ended()

    with (
        mock.patch.object(launch, "_LocalRay", Ray),
        mock.patch.object(launch, "_Driver", Driver),
        mock.patch.object(launch, "device_type", return_value="cpu"),
    ):
        yield


def _sizes(folder: str) -> dict[str, int]:
    """What Ray and Tune keep in a session's folder."""
    paths = [path for path in Path(folder).rglob("*") if not path.is_symlink()]
    logs = [path for path in paths if path.is_file() and "logs" in path.parts]
    state = [path for path in paths if path.is_file() and "logs" not in path.parts]
    return {
        "state_bytes": sum(path.stat().st_size for path in state),
        "log_bytes": sum(path.stat().st_size for path in logs),
        "files": len(state) + len(logs),
        "processes": sum(path.name.startswith("python-core-worker") for path in logs),
        "folders": sum(path.is_dir() for path in paths),
    }


def work(chosen: argparse.Namespace) -> dict[str, Any]:
    """One size."""
    SleepingTrainer.sleep_s = chosen.sleep
    spec, trials = spec_of(chosen), chosen.work
    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder, Path(os.devnull).open("w") as nowhere:
        store = StudyStore(Objects(folder), spec.name)
        launch.begin(store, spec)
        meter = Meter(max(1, trials // PARTS))
        # As on a terminal somebody watches; lines for a log cost less.
        console = Console(file=nowhere, force_terminal=not chosen.lines, width=120)
        profile = cProfile.Profile()
        began, cpu_before = time.monotonic(), time.process_time()
        with without_training(store, meter):
            if chosen.profile:
                profile.enable()
            launch.launch(store, trials, console)
            profile.disable()
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_before
        if chosen.profile:
            profile.dump_stats(chosen.profile)
            for order in ("cumulative", "tottime"):
                pstats.Stats(profile, stream=sys.stderr).sort_stats(order).print_stats(PROFILED)
        table_files = {name: list((Path(folder) / NAME / name).glob("*.parquet")) for name in ("trials", "reports")}
        reading = time.monotonic()
        results = StudyResults(store)
        table = results.results()
        read = time.monotonic()
        front = results.front(table)
        done = int((table["state"] == "complete").sum())
        if done != trials:
            raise SystemExit(f"only {done} of {trials} trials are complete in the store")
        return {
            "trials": trials,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "driver_cpu_share": cpu_seconds / seconds,
            "parts": _parts(meter.points),
            "points": meter.points,
            "last_trial_to_end_seconds": began + seconds - meter.points[-1]["seconds"],
            "ray_session": meter.session,
            "store": {
                name: {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}
                for name, files in table_files.items()
            },
            "reading_results_seconds": read - reading,
            "reading_front_seconds": time.monotonic() - read,
            "front": len(front),
        }


def _parts(points: list[dict[str, float]]) -> list[dict[str, float]]:
    parts = []
    for before, after in pairwise(points):
        trials, seconds = after["trials"] - before["trials"], after["seconds"] - before["seconds"]
        cpu = after["cpu_seconds"] - before["cpu_seconds"]
        parts.append(
            {
                "to_trial": after["trials"],
                "trials_per_second": trials / seconds,
                "driver_cpu_ms_per_trial": 1000 * cpu / trials,
                "driver_cpu_share": cpu / seconds,
                **{name: after[name] for name in ("rss_mb", "gcs_mb", "raylet_mb", "all_of_ray_mb")},
            }
        )
    return parts


def show(result: Mapping[str, Any], reports: int) -> None:
    print_table(
        f"{result['trials']:,} trials of {reports} reports",
        (
            "trials over",
            "trials/s",
            "reports/s",
            "driver CPU ms/trial",
            "driver CPU share",
            "driver RSS MB",
            "GCS MB",
            "raylet MB",
            "all of Ray MB",
        ),
        [
            (
                f"{part['to_trial']:,}",
                f"{part['trials_per_second']:.1f}",
                f"{part['trials_per_second'] * reports:.1f}",
                f"{part['driver_cpu_ms_per_trial']:.1f}",
                f"{100 * part['driver_cpu_share']:.0f} %",
                *(f"{part[name]:.0f}" for name in ("rss_mb", "gcs_mb", "raylet_mb", "all_of_ray_mb")),
            )
            for part in result["parts"]
        ],
    )
    print(
        f"whole: {result['seconds']:.1f} s, {result['trials'] / result['seconds']:.1f} trials/s, driver "
        f"{100 * result['driver_cpu_share']:.0f} % of a core; {result['last_trial_to_end_seconds']:.1f} s from the end "
        "of the last trial to the end"
    )
    session = result["ray_session"]
    print(
        f"Ray's folder: {session['state_bytes'] / 1e6:.1f} MB of state, {session['log_bytes'] / 1e6:.1f} MB of logs, "
        f"{session['files']:,} files, {session['folders']:,} folders; {session['processes']} processes were started"
    )
    tables = (f"{name} {one['bytes'] / 1e6:.2f} MB in {one['files']} files" for name, one in result["store"].items())
    print(f"store: {', '.join(tables)}")
    print(
        f"reading: results {result['reading_results_seconds']:.1f} s, front {result['reading_front_seconds']:.1f} s "
        f"({result['front']} trials)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[2000, 10000], help="sizes, one after the other")
    parser.add_argument("--lanes", type=int, default=16, help="trials side by side (16)")
    parser.add_argument("--reports", type=int, default=2, help="of each trial (2)")
    parser.add_argument("--sleep", type=float, default=0.1, help="seconds that the trainer takes for a report (0.1)")
    parser.add_argument("--sampler", default="random", help="of the search (random)")
    parser.add_argument("--lines", action="store_true", help="lines as into a log, not a terminal's live view")
    parser.add_argument("--profile", help="write the driver's cProfile here; it slows the driver down")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    add_json_option(parser)
    chosen = parser.parse_args()
    if chosen.work:
        chosen.json.write_text(json.dumps(work(chosen)))
        return
    words = [word for name in ("lanes", "reports", "sleep", "sampler") for word in (f"--{name}", getattr(chosen, name))]
    words += ["--lines"] if chosen.lines else []
    words += ["--profile", Path(chosen.profile).absolute()] if chosen.profile else []
    results = []
    for trials in chosen.trials:
        say(f"running {trials:,} trials")
        results.append(part("benchmarks.control_plane", "--work", trials, *words))
        show(results[-1], chosen.reports)
    config = {name: value for name, value in vars(chosen).items() if name not in ("json", "work")}
    write_record("control_plane", chosen.json, {**config, "space": SPACE, "steps": STEPS}, {"sizes": results})


if __name__ == "__main__":
    main()
