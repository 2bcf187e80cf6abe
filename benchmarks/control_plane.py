"""Cost of a study without its training: thousands of trials through Ray, Tune, the search and the store.

    python -m benchmarks.control_plane [--trials 2000 10000] [--nodes 4 --at-once 16] [--profile FILE]

Driver, trials and store are real; the trainer is an actor that sleeps and then reports synthetic metrics. With
`--nodes`, Ray runs a cluster of that many nodes on this machine, each with a separate trainer. Each size runs in a
separate process. The run is split into parts with equal numbers of trials: if a cost grows with the number of trials,
the driver's processor time for a trial rises from part to part.
"""

import argparse
import cProfile
import json
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.large_study import SPACE
from benchmarks.machine import add_json_option, part, print_table, say, write_record
from benchmarks.sleeping import without_training
from study.analysis import StudyResults
from study.runs import driver as launch
from study.runs.create import begin
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore
from study.training.resources import trials_per_device

NAME = "control-plane"
STEPS = 1000
PARTS = 5
PROFILED = 30


def spec_of(chosen: argparse.Namespace, devices: int) -> ResolvedSpec:
    return resolve(
        parse_spec(
            {
                "name": NAME,
                "data": {"kind": "syntone"},
                "train": {"steps": STEPS, "reports": chosen.reports},
                "replicates": 1,
                "post_training": [],
                "space": SPACE,
                "search": {"sampler": chosen.sampler, "trials": chosen.work},
                "halving": {"reduction_factor": 3, "min_steps": STEPS // 9} if chosen.halving else "none",
                "resources": {"lanes": chosen.lanes, "devices": devices or "auto"},
            },
            source="benchmark",
        )
    )


class Meter:
    """Resources that the driver had used after every `every` trials, and the final size of Ray's session.

    Args:
        every: Number of trials between two measurements.
    """

    def __init__(self, every: int) -> None:
        self._process = psutil.Process()
        self._every = every
        self._over = 0
        self.points: list[dict[str, float]] = []
        self.session: dict[str, int] = {}

    def ended(self) -> None:
        """Record a finished trial. The first one starts the measurement."""
        self._over += 1
        if self._over == 1 or self._over % self._every == 0:
            self._note()

    def stopping(self, folder: str) -> None:
        """Ray is about to stop; this is its folder, with what Tune keeps there."""
        paths = [path for path in Path(folder).rglob("*") if not path.is_symlink()]
        logs = [path for path in paths if path.is_file() and "logs" in path.parts]
        state = [path for path in paths if path.is_file() and "logs" not in path.parts]
        self.session = {
            "state_bytes": sum(path.stat().st_size for path in state),
            "log_bytes": sum(path.stat().st_size for path in logs),
            "files": len(state) + len(logs),
            "folders": sum(path.is_dir() for path in paths),
            "processes": sum(path.name.startswith("python-core-worker") for path in logs),
        }

    def _note(self) -> None:
        times = self._process.cpu_times()
        by_kind: Counter[str] = Counter()
        gcs_cpu_seconds = 0.0
        for child in self._process.children(recursive=True):
            try:
                by_kind[child.name()] += child.memory_info().rss / 1e6
                if child.name() == "gcs_server":
                    used = child.cpu_times()
                    gcs_cpu_seconds += used.user + used.system
            except psutil.Error:  # it ended since it was listed
                continue
        self.points.append(
            {
                "trials": self._over,
                "seconds": time.monotonic(),
                "cpu_seconds": times.user + times.system,
                "gcs_cpu_seconds": gcs_cpu_seconds,
                "rss_mb": self._process.memory_info().rss / 1e6,
                "gcs_mb": by_kind["gcs_server"],
                "raylet_mb": by_kind["raylet"],
                "all_of_ray_mb": sum(by_kind.values()),
            }
        )


def work(chosen: argparse.Namespace) -> dict[str, Any]:
    """One size."""
    resolved, trials = spec_of(chosen, 0), chosen.work
    at_once = on_a_device = trials_per_device(resolved.spec, chosen.lanes)
    if chosen.nodes:
        devices = max(1, min(chosen.nodes, chosen.at_once // on_a_device))
        resolved, at_once = spec_of(chosen, devices), devices * on_a_device
    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder, Path(os.devnull).open("w") as nowhere:
        store = StudyStore(ObjectStore(folder), resolved.spec.name)
        begin(store, resolved)
        meter = Meter(max(1, trials // PARTS))
        # Draws the live view of a terminal, which costs more than lines for a log.
        console = Console(file=nowhere, force_terminal=not chosen.lines, width=120)
        profile = cProfile.Profile()
        began, cpu_before = time.monotonic(), time.process_time()
        with without_training(store, chosen.sleep, chosen.nodes, at_once, meter.ended, meter.stopping):
            if chosen.profile:
                profile.enable()
            launch.launch(store, trials, console, "many nodes" if chosen.nodes else None)
            profile.disable()
        ended, cpu_seconds = time.monotonic(), time.process_time() - cpu_before
        if chosen.profile:
            show_profile(profile, chosen.profile)
        reading = time.monotonic()
        results = StudyResults(store)
        table = results.results()
        read = time.monotonic()
        front = results.front(table)
        done = int(table["state"].isin(["complete", "pruned"]).sum())
        if done != trials:
            raise SystemExit(f"only {done} of {trials} trials are over in the store")
        return {
            "trials": trials,
            "nodes": chosen.nodes or 1,
            "at_once": at_once,
            "pruned": int((table["state"] == "pruned").sum()),
            "reports": len(results.reports()),
            "seconds": ended - began,
            "trials_per_second": trials / (ended - began),
            "driver_cpu_seconds": cpu_seconds,
            "driver_cpu_share": cpu_seconds / (ended - began),
            "parts": parts_of(meter.points),
            "last_trial_to_end_seconds": ended - meter.points[-1]["seconds"],
            "ray_session": meter.session,
            "store": {name: size_of(Path(folder) / NAME / name) for name in ("trials", "reports")},
            "reading_results_seconds": read - reading,
            "reading_front_seconds": time.monotonic() - read,
            "front": len(front),
        }


def parts_of(points: list[dict[str, float]]) -> list[dict[str, float]]:
    parts = []
    for before, after in pairwise(points):
        trials, seconds = after["trials"] - before["trials"], after["seconds"] - before["seconds"]
        cpu = after["cpu_seconds"] - before["cpu_seconds"]
        gcs_cpu = after["gcs_cpu_seconds"] - before["gcs_cpu_seconds"]
        parts.append(
            {
                "to_trial": after["trials"],
                "trials_per_second": trials / seconds,
                "driver_cpu_ms_per_trial": 1000 * cpu / trials,
                "driver_cpu_share": cpu / seconds,
                "gcs_cpu_ms_per_trial": 1000 * gcs_cpu / trials,
                **{name: after[name] for name in ("rss_mb", "gcs_mb", "raylet_mb", "all_of_ray_mb")},
            }
        )
    return parts


def size_of(table: Path) -> dict[str, int]:
    files = list(table.glob("*.parquet"))
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def show_profile(profile: cProfile.Profile, path: str) -> None:
    profile.dump_stats(path)
    for order in ("cumulative", "tottime"):
        pstats.Stats(profile, stream=sys.stderr).sort_stats(order).print_stats(PROFILED)


def show(result: Mapping[str, Any], reports: int) -> None:
    print_table(
        f"{result['trials']:,} trials of {reports} reports, {result['at_once']} at once on {result['nodes']} nodes",
        (
            "trials over",
            "trials/s",
            "driver CPU ms/trial",
            "driver CPU share",
            "GCS CPU ms/trial",
            "driver RSS MB",
            "GCS MB",
            "raylet MB",
            "all of Ray MB",
        ),
        [
            (
                f"{part['to_trial']:,}",
                f"{part['trials_per_second']:.1f}",
                f"{part['driver_cpu_ms_per_trial']:.1f}",
                f"{100 * part['driver_cpu_share']:.0f} %",
                f"{part['gcs_cpu_ms_per_trial']:.1f}",
                *(f"{part[name]:.0f}" for name in ("rss_mb", "gcs_mb", "raylet_mb", "all_of_ray_mb")),
            )
            for part in result["parts"]
        ],
    )
    session = result["ray_session"]
    tables = (f"{name} {one['bytes'] / 1e6:.2f} MB in {one['files']} files" for name, one in result["store"].items())
    print(
        f"whole: {result['seconds']:.1f} s, {result['trials_per_second']:.1f} trials/s, {result['pruned']} pruned, "
        f"{result['reports']:,} reports, driver "
        f"{100 * result['driver_cpu_share']:.0f} % of a core; {result['last_trial_to_end_seconds']:.1f} s from the end "
        "of the last trial to the end\n"
        f"Ray's folder: {session['state_bytes'] / 1e6:.1f} MB of state, {session['log_bytes'] / 1e6:.1f} MB of logs, "
        f"{session['files']:,} files, {session['folders']:,} folders; {session['processes']} processes were started\n"
        f"store: {', '.join(tables)}\n"
        f"reading: results {result['reading_results_seconds']:.1f} s, front {result['reading_front_seconds']:.1f} s "
        f"({result['front']} trials)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[2000, 10000], help="sizes, one after the other")
    parser.add_argument("--lanes", type=int, default=16, help="of a stack on each node (16)")
    parser.add_argument("--nodes", type=int, default=0, help="of a cluster (0: a Ray of one node, as on a laptop)")
    parser.add_argument("--at-once", type=int, default=48, help="trials side by side on all nodes of a cluster (48)")
    parser.add_argument("--halving", action="store_true", help="stop most trials early")
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
    shared = ("lanes", "nodes", "at-once", "reports", "sleep", "sampler")
    words = [word for name in shared for word in (f"--{name}", getattr(chosen, name.replace("-", "_")))]
    words += ["--halving"] if chosen.halving else []
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
