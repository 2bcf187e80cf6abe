"""Cost of polling a large study, as a dashboard that refreshes itself does.

    python -m benchmarks.dashboard [--trials 10000] [--rows 50] [--no-s3]

A separate process reads the results, the front and its growth from a study that `benchmarks.large_study` wrote to a
folder, and to a real S3 server (rclone) on this machine: first with an empty cache, then without new objects, with new
reports, and after a compaction. Another process reads without a cache, as the command line does.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.large_study import NAME, REPLICATES, REPORTS, STEPS, columns, running_of, write_study
from benchmarks.machine import in_child, log, new_parser, print_table, timed, write_record
from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyCache, StudyStore
from study.store.tables import MIN_SEGMENTS_TO_COMPACT, Table

REFRESHES = 3


class Reader:
    """Reads the data of the first page of a dashboard and records the cost."""

    def __init__(self, store: StudyStore) -> None:
        self.store = store
        self.readings: list[dict[str, Any]] = []
        self._requests = 0
        if store.objects.uri.startswith("s3://"):
            store.objects.filesystem.s3.meta.events.register("before-send.s3", self._count)

    def read(self, what: str) -> StudyResults:
        self._requests, cpu, began = 0, time.process_time(), time.perf_counter()
        results = StudyResults(self.store)
        table, results_s = timed(results.results)
        front, front_s = timed(results.front, table)
        _, progress_s = timed(results.progress)
        reading = {
            "what": what,
            "seconds": time.perf_counter() - began,
            "results_seconds": results_s,
            "front_seconds": front_s,
            "progress_seconds": progress_s,
            "cpu_seconds": time.process_time() - cpu,
            "requests": self._requests,
            "peak_rss_mb": peak_rss_mb(),
            "rows": results.size,
            "front": len(front),
        }
        self.readings.append(reading)
        return results

    def _count(self, **_: Any) -> None:
        self._requests += 1


def peak_rss_mb() -> float:
    """Return the peak memory of this program. `getrusage` would include the peak of the parent process."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def read_study(uri: str, options: argparse.Namespace, has_cache: bool) -> list[dict[str, Any]]:
    """Read a study in this process while it grows."""
    store = StudyStore(ObjectStore(uri), NAME, StudyCache() if has_cache else None)
    reader = Reader(store)
    results = reader.read("everything")
    reader.read("nothing new")
    if not has_cache:
        return reader.readings
    sequence = itertools.count(1_000_000 - 10 * MIN_SEGMENTS_TO_COMPACT)
    running = range(options.trials - running_of(options.trials), options.trials)
    due = itertools.product(running, range(REPLICATES))
    (like, *_) = results.reports([0]).query(f"step == {STEPS}").drop(columns="run").to_dict("records")
    for _ in range(REFRESHES):
        pairs = list(itertools.islice(due, options.rows))
        append(store, "reports", next(sequence), [{**like, "trial": trial, "seed": seed} for trial, seed in pairs])
        states = results.trials().drop(columns="run").set_index("trial", drop=False)
        over = [trial for trial, seed in pairs if seed == REPLICATES - 1]
        append(store, "trials", next(sequence), [{**states.loc[one].to_dict(), "state": "complete"} for one in over])
        results = reader.read(f"{options.rows} new reports")
    for _ in range(MIN_SEGMENTS_TO_COMPACT):  # enough segments of one run for a compaction
        append(store, "reports", next(sequence), [{**like, "trial": running[-1], "step": STEPS // REPORTS}])
        store.compact("reports", 2)
    reader.read("segments compacted")
    return reader.readings


def append(store: StudyStore, table: Table, sequence: int, rows: list[dict[str, Any]]) -> None:
    if rows:
        store.append(table, 2, sequence, rows)


def show(title: str, readings: list[dict[str, Any]]) -> None:
    head = ("", "seconds", "results", "front", "progress", "CPU s", "requests", "peak RSS MB")
    names = ("seconds", "results_seconds", "front_seconds", "progress_seconds", "cpu_seconds")
    rows = [
        (one["what"], *(f"{one[name]:.2f}" for name in names), one["requests"] or None, f"{one['peak_rss_mb']:.0f}")
        for one in readings
    ]
    print_table(title, head, rows)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help=f"of {REPLICATES} x {REPORTS} reports")
    parser.add_argument("--rows", type=int, default=50, help="new reports at a refresh")
    parser.add_argument("--no-s3", action="store_true", help="read from a folder only")
    options = parser.parse_args()
    results = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-store-")))
        log(f"writing a study of {options.trials:,} trials")
        write_study(folder / "written", options.trials)
        places: dict[str, tuple[Path, str, dict[str, str]]] = {"folder": (folder, str(folder), {})}
        if not options.no_s3:
            from tests.study.s3_server import s3_server

            server = stack.enter_context(s3_server(folder / "buckets"))
            places["S3"] = (server.folder / "studies", "s3://studies", server.environment)
        cases = list(itertools.product(places.items(), {"kept": True, "nothing kept": False}.items()))
        # Each reader also writes, so it has a copy. A server may not see files that are added to its folder later.
        for (_, (path, _, _)), (cache, _) in cases:
            shutil.copytree(folder / "written", path / cache.replace(" ", "-"))
        for (place, (_, uri, environment)), (cache, has_cache) in cases:
            title = f"from {place}, {cache}"
            log(f"reading {title}")
            study = f"{uri}/{cache.replace(' ', '-')}"
            results[title] = in_child(read_study, study, options, has_cache, environment=environment)
            show(f"{options.trials:,} trials {title}", results[title])
    shape = {"replicates": REPLICATES, "reports": REPORTS, "columns": [len(names) for names in columns()]}
    write_record("dashboard", options, {"readings": results}, **shape)


if __name__ == "__main__":
    main()
