"""Cost of a study without its training: thousands of trials through Ray, Tune, the search and the store.

    python -m benchmarks.control_plane [--trials 2000 10000] [--nodes 4 --at-once 16]

Driver, trials and store are real; the trainer is an actor that sleeps and then reports synthetic metrics. With
`--nodes`, Ray runs a cluster of that many nodes on this machine, each with a separate trainer. Each size runs in a
separate process. The run is split into parts with equal numbers of trials: if a cost grows with the number of trials,
the driver's processor time per trial rises from part to part.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.large_study import SPACE
from benchmarks.machine import in_child, log, new_parser, print_table, timed, write_record
from benchmarks.sleeping import without_training
from study.analysis import StudyResults
from study.runs import driver
from study.runs.lifecycle import create_study
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore
from study.training.nodes import trials_per_device

NAME = "control-plane"
STEPS, REPORTS = 1000, 2
PARTS = 5
MEMORY = {"rss_mb": "driver RSS MB", "gcs_mb": "GCS MB", "raylet_mb": "raylet MB", "all_of_ray_mb": "all of Ray MB"}


def spec_of(options: argparse.Namespace, trials: int, devices: int) -> ResolvedSpec:
    content = {
        "name": NAME,
        "data": {"kind": "syntone"},
        "train": {"steps": STEPS, "reports": REPORTS},
        "replicates": 1,
        "post_training": [],
        "space": SPACE,
        "search": {"sampler": "random", "trials": trials},
        "halving": {"reduction_factor": 3, "min_steps": STEPS // 9} if options.halving else "none",
        "resources": {"lanes": options.lanes, "devices": devices or "auto", "trainers": 1},
    }
    return resolve(parse_spec(content, source="benchmark"))


class Meter:
    """Resources that the driver has used after every `every` trials, and the final size of Ray's session folder."""

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
            self.points.append(self._point())

    def stopping(self, folder: str) -> None:
        """Measure the session folder before Ray stops."""
        paths = [path for path in Path(folder).rglob("*") if not path.is_symlink()]
        sizes = {path: path.stat().st_size for path in paths if path.is_file()}
        logs = [path for path in sizes if "logs" in path.parts]
        log_bytes = sum(sizes[path] for path in logs)
        self.session = {
            "state_bytes": sum(sizes.values()) - log_bytes,
            "log_bytes": log_bytes,
            "files": len(sizes),
            "folders": sum(path.is_dir() for path in paths),
            "processes": sum(path.name.startswith("python-core-worker") for path in logs),
        }

    def _point(self) -> dict[str, float]:
        times = self._process.cpu_times()
        memory_mb: Counter[str] = Counter()
        gcs_cpu_seconds = 0.0
        for child in self._process.children(recursive=True):
            with suppress(psutil.Error):  # the process may have ended
                memory_mb[child.name()] += child.memory_info().rss / 1e6
                if child.name() == "gcs_server":
                    gcs_cpu_seconds += sum(child.cpu_times()[:2])
        return {
            "trials": self._over,
            "seconds": time.monotonic(),
            "cpu_seconds": times.user + times.system,
            "gcs_cpu_seconds": gcs_cpu_seconds,
            "rss_mb": self._process.memory_info().rss / 1e6,
            "gcs_mb": memory_mb["gcs_server"],
            "raylet_mb": memory_mb["raylet"],
            "all_of_ray_mb": sum(memory_mb.values()),
        }


def measure(options: argparse.Namespace, trials: int) -> dict[str, Any]:
    """Run a study of this many trials in this process."""
    resolved = spec_of(options, trials, 0)
    at_once = on_a_device = trials_per_device(resolved.spec, options.lanes)
    if options.nodes:
        devices = max(1, min(options.nodes, options.at_once // on_a_device))
        resolved, at_once = spec_of(options, trials, devices), devices * on_a_device
    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder, Path(os.devnull).open("w") as nowhere:
        store = StudyStore(ObjectStore(folder), resolved.spec.name)
        create_study(store, resolved)
        meter = Meter(max(1, trials // PARTS))
        console = Console(file=nowhere, force_terminal=True, width=120)  # the live view costs more than log lines
        began, cpu_before = time.monotonic(), time.process_time()
        with without_training(store, options.sleep, options.nodes, at_once, meter.ended, meter.stopping):
            driver.run_study(store, trials, console, "many nodes" if options.nodes else None)
        ended, cpu_seconds = time.monotonic(), time.process_time() - cpu_before
        results = StudyResults(store)
        table, reading_s = timed(results.results)
        front, front_s = timed(results.front, table)
        done = int(table["state"].isin(["complete", "pruned"]).sum())
        if done != trials:
            raise SystemExit(f"only {done} of {trials} trials are over in the store")
        return {
            "trials": trials,
            "nodes": options.nodes or 1,
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
            "reading_results_seconds": reading_s,
            "reading_front_seconds": front_s,
            "front": len(front),
        }


def parts_of(points: list[dict[str, float]]) -> list[dict[str, float]]:
    parts = []
    for before, after in pairwise(points):
        used = {name: after[name] - before[name] for name in after}
        parts.append(
            {
                "to_trial": after["trials"],
                "trials_per_second": used["trials"] / used["seconds"],
                "driver_cpu_ms_per_trial": 1000 * used["cpu_seconds"] / used["trials"],
                "driver_cpu_share": used["cpu_seconds"] / used["seconds"],
                "gcs_cpu_ms_per_trial": 1000 * used["gcs_cpu_seconds"] / used["trials"],
                **{name: after[name] for name in MEMORY},
            }
        )
    return parts


def size_of(table: Path) -> dict[str, int]:
    files = list(table.glob("*.parquet"))
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def show(result: Mapping[str, Any]) -> None:
    formats = {
        "to_trial": ("trials over", "{:,}"),
        "trials_per_second": ("trials/s", "{:.1f}"),
        "driver_cpu_ms_per_trial": ("driver CPU ms/trial", "{:.1f}"),
        "driver_cpu_percent": ("driver CPU share", "{:.0f} %"),
        "gcs_cpu_ms_per_trial": ("GCS CPU ms/trial", "{:.1f}"),
        **{name: (heading, "{:.0f}") for name, heading in MEMORY.items()},
    }
    title = f"{result['trials']:,} trials of {REPORTS} reports, {result['at_once']} at once on {result['nodes']} nodes"
    parts = [{**part, "driver_cpu_percent": 100 * part["driver_cpu_share"]} for part in result["parts"]]
    cells = [[cell.format(part[name]) for name, (_, cell) in formats.items()] for part in parts]
    print_table(title, [heading for heading, _ in formats.values()], cells)
    whole = {name: value for name, value in result.items() if isinstance(value, int | float)}
    whole |= {f"ray_session/{name}": value for name, value in result["ray_session"].items()}
    whole |= {f"{table}/{name}": value for table, size in result["store"].items() for name, value in size.items()}
    print_table("whole run", ("", "value"), whole.items())


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[2000, 10000], help="sizes, one after the other")
    parser.add_argument("--lanes", type=int, default=16, help="of a stack on each node")
    parser.add_argument("--nodes", type=int, default=0, help="of a cluster; 0 for Ray on one node, as on a laptop")
    parser.add_argument("--at-once", type=int, default=48, help="concurrent trials on all nodes of a cluster")
    parser.add_argument("--halving", action="store_true", help="stop most trials early")
    parser.add_argument("--sleep", type=float, default=0.1, help="seconds until a report of the trainer")
    options = parser.parse_args()
    results = []
    for trials in options.trials:
        log(f"running {trials:,} trials")
        results.append(in_child(measure, options, trials))
        show(results[-1])
    write_record("control_plane", options, {"sizes": results}, space=SPACE, steps=STEPS, reports=REPORTS)


if __name__ == "__main__":
    main()
