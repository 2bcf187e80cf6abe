"""Cost of polling a large study, as a dashboard that refreshes itself does.

    python -m benchmarks.dashboard [--trials 10000] [--rows 50] [--no-s3]

A separate process reads results, the front and how it grew from a study that `benchmarks.large_study` wrote to a
folder, and to a real S3 server (rclone) on this machine: when nothing was read before, when nothing is new, when new
reports have come, and when their parts were compacted. In another process nothing is kept from one reading to the next,
as on the command line.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.large_study import NAME, REPLICATES, REPORTS, STEPS, columns, running_of, write_study
from benchmarks.machine import add_json_option, part, print_table, say, write_record
from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyCache, StudyStore
from study.store.tables import MIN_SEGMENTS_TO_COMPACT, Table

REFRESHES = 3


class Reader:
    """Reads a study as the first page of a dashboard needs it, and notes what that cost.

    Args:
        store: the study.
    """

    def __init__(self, store: StudyStore) -> None:
        self.store = store
        self.readings: list[dict[str, Any]] = []
        self._requests = 0
        if store.objects.uri.startswith("s3://"):
            store.objects._storage.client.meta.events.register("before-send.s3", self._count)

    def read(self, what: str) -> StudyResults:
        self._requests, cpu, began = 0, time.process_time(), time.perf_counter()
        results = StudyResults(self.store)
        table = results.results()
        tables = time.perf_counter()
        front = results.front(table)
        fronts = time.perf_counter()
        results.progress()
        self.readings.append(
            {
                "what": what,
                "seconds": time.perf_counter() - began,
                "results_seconds": tables - began,
                "front_seconds": fronts - tables,
                "progress_seconds": time.perf_counter() - fronts,
                "cpu_seconds": time.process_time() - cpu,
                "requests": self._requests,
                "peak_rss_mb": peak_rss_mb(),
                "rows": results.size,
                "front": len(front),
            }
        )
        return results

    def _count(self, **_: Any) -> None:
        self._requests += 1


def peak_rss_mb() -> float:
    """Return the peak memory of this program. `getrusage` would include the peak of the parent process."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def work(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """One store, read in this process."""
    store = StudyStore(ObjectStore(chosen.work), NAME, None if chosen.keep_nothing else StudyCache())
    reader = Reader(store)
    results = reader.read("everything")
    reader.read("nothing new")
    if chosen.keep_nothing:
        return reader.readings
    sequence = itertools.count(1_000_000 - 10 * MIN_SEGMENTS_TO_COMPACT)
    running = range(chosen.trials - running_of(chosen.trials), chosen.trials)
    due = itertools.product(running, range(REPLICATES))
    (like, *_) = results.reports([0]).query(f"step == {STEPS}").drop(columns="run").to_dict("records")
    for _ in range(REFRESHES):
        pairs = list(itertools.islice(due, chosen.rows))
        write(store, "reports", next(sequence), [{**like, "trial": trial, "seed": seed} for trial, seed in pairs])
        states = results.trials().drop(columns="run").set_index("trial", drop=False)
        over = [trial for trial, seed in pairs if seed == REPLICATES - 1]
        write(store, "trials", next(sequence), [{**states.loc[one].to_dict(), "state": "complete"} for one in over])
        results = reader.read(f"{chosen.rows} new reports")
    for _ in range(MIN_SEGMENTS_TO_COMPACT):  # enough segments of one run for a compaction
        write(store, "reports", next(sequence), [{**like, "trial": running[-1], "step": STEPS // REPORTS}])
        store.compact("reports", 2)
    reader.read("parts compacted")
    return reader.readings


def write(store: StudyStore, table: Table, sequence: int, rows: list[dict[str, Any]]) -> None:
    if rows:
        store.append(table, 2, sequence, rows)


def show(where: str, readings: list[dict[str, Any]]) -> None:
    head = ("", "seconds", "results", "front", "progress", "CPU s", "requests", "peak RSS MB")
    names = ("seconds", "results_seconds", "front_seconds", "progress_seconds", "cpu_seconds")
    rows = [
        (one["what"], *(f"{one[name]:.2f}" for name in names), one["requests"] or None, f"{one['peak_rss_mb']:.0f}")
        for one in readings
    ]
    print_table(where, head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trials", type=int, default=10_000, help=f"of {REPLICATES} replicates, {REPORTS} reports each"
    )
    parser.add_argument("--rows", type=int, default=50, help="new reports at a refresh (50)")
    parser.add_argument("--no-s3", action="store_true", help="from a folder alone")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--keep-nothing", action="store_true", help=argparse.SUPPRESS)
    add_json_option(parser)
    chosen = parser.parse_args()
    if chosen.work:
        chosen.json.write_text(json.dumps(work(chosen)))
        return
    results = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-store-")))
        say(f"writing a study of {chosen.trials:,} trials")
        write_study(folder / "written", chosen.trials)
        places: dict[str, tuple[Path, str, dict[str, str]]] = {"folder": (folder, str(folder), {})}
        if not chosen.no_s3:
            from tests.study.s3_server import s3_server

            server = stack.enter_context(s3_server(folder / "buckets"))
            places["S3"] = (server.folder / "studies", "s3://studies", server.environment)
        # Readers write, too, so each has a copy; a server may not see what comes to its folder later.
        for path, _, _ in places.values():
            for copy in ("kept", "nothing-kept"):
                shutil.copytree(folder / "written", path / copy)
        for place, (_, uri, environment) in places.items():
            for copy, words in {"kept": [], "nothing-kept": ["--keep-nothing"]}.items():
                title = f"from {place}, {copy.replace('-', ' ')}"
                say(f"reading {title}")
                words = [*words, "--work", f"{uri}/{copy}", "--trials", chosen.trials, "--rows", chosen.rows]
                results[title] = part("benchmarks.dashboard", *words, environment=environment)
                show(f"{chosen.trials:,} trials {title}", results[title])
    config = {name: value for name, value in vars(chosen).items() if name not in ("json", "work", "keep_nothing")}
    config |= {"replicates": REPLICATES, "reports": REPORTS, "columns": [len(names) for names in columns()]}
    write_record("dashboard", chosen.json, config, {"readings": results})


if __name__ == "__main__":
    main()
