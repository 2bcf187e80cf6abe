"""Parallel tests: each process of pytest-xdist, with its children, runs on separate processors.

Threads of a training step wait for each other. Two studies that both use every processor train at a fraction of their
speed, and the durations of a test would depend on the other tests.
"""

import os

import pytest

_MAX_PROCESSES = 8
# The longest files come first, so that none runs alone at the end: minutes in all tests, seconds in quick ones.
_LONGEST = (
    "tests/study/test_kills.py",
    "tests/cluster/test_cluster.py",
    "tests/dashboard/test_research_in_browser.py",
    "tests/study/runs/test_driver.py",
    "tests/benchmarks/test_benchmarks.py",
    "tests/study/test_older_study.py",
    "tests/study/test_halving_study.py",
    "tests/marl/stack/test_stack.py",
    "tests/marl/stack/test_compile_step.py",
    "tests/study/test_crafted_objects.py",
    "tests/study/report/test_report.py",
    "tests/study/analysis/test_importance.py",
    "tests/marl/metrics/test_boosted_trees.py",
    "tests/marl/test_extractor.py",
    "tests/study/store/test_writer.py",
)


def _take_processors() -> None:
    """Restrict this process to its share, before it loads libraries that start a thread for each processor."""
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
    return min(max(2, processors), _MAX_PROCESSES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files: the longest first, then those with slow tests, then the others."""
    files = {item.location[0] for item in items}
    slow = {item.location[0] for item in items if item.get_closest_marker("slow")}
    place = {file: number for number, file in enumerate(_LONGEST)}
    rank = {file: place.get(file, len(place) + (file not in slow)) for file in files}
    items.sort(key=lambda item: rank[item.location[0]])
