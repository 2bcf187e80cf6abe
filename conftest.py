"""Parallel tests: each process of pytest-xdist, with all that it starts, runs on separate processors.

Threads of a training step wait for each other. Two studies that both take every processor train at a fraction of their
speed, and what a test says of time would depend on its neighbour.
"""

import os

import pytest

_MOST_PROCESSES = 8
# Minutes each; begun first, so that none is left running alone at the end.
_LONGEST = (
    "tests/study/test_kills.py",
    "tests/cluster/test_cluster.py",
    "tests/dashboard/test_research_in_browser.py",
    "tests/study/runs/test_driver.py",
    "tests/benchmarks/test_benchmarks.py",
    "tests/study/test_older_study.py",
    "tests/study/test_halving_study.py",
)


def _take_processors() -> None:
    """This process's part; before libraries are loaded, which make as many threads as there are processors."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if worker is None or workers is None or not hasattr(os, "sched_setaffinity"):
        return
    number = int(worker.removeprefix("gw"))
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[number :: int(workers)] or {processors[number % len(processors)]})


_take_processors()


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processors, but at least two, because tests often wait."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(2, processors), _MOST_PROCESSES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with slow tests, each in its own order."""
    files = {item.location[0] for item in items}
    slow = {item.location[0] for item in items if item.get_closest_marker("slow")}
    place = {file: number for number, file in enumerate(_LONGEST)}
    rank = {file: place.get(file, len(place) + (file not in slow)) for file in files}
    items.sort(key=lambda item: rank[item.location[0]])
