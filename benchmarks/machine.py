"""What the benchmarks share: the command line, child processes, timing, tables, and records of the results."""

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from study.environment import commit, package_versions, processor

ROOT = Path(__file__).parents[1]
_RESULTS = Path(__file__).parent / "results"


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Parser with the option `--json`, which every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=_Formatter)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="file for the numbers, benchmarks/results/NAME-DEVICE.json if not set"
    )
    return parser


def device_kind() -> str:
    """`cuda` if there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def command_started() -> float:
    """Start of this process on the clock of `time.monotonic`. Users wait for imports, too."""
    return time.monotonic() - (time.time() - psutil.Process().create_time())


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return the result of a call and its duration in seconds."""
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


def calls_per_second(
    call: Callable[[], object], wait: Callable[[], object], seconds: float, every: int = 5, warm_up: int = 3
) -> float:
    """Measure the rate of calls that a device executes asynchronously.

    Args:
        call: Enqueues work.
        wait: Waits until the device has executed it.
        seconds: Minimum duration of the measurement.
        every: Calls between two waits, which empty the queue of a GPU.
        warm_up: Calls before the measurement.
    """
    for _ in range(warm_up):
        call()
    wait()
    started, calls = time.monotonic(), 0
    while (took := time.monotonic() - started) < seconds:
        for _ in range(every):
            call()
        wait()
        calls += every
    return calls / took


def in_child(function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None) -> Any:
    """Return the result of a call in a new process, whose stdout goes to stderr: our stdout only has results."""
    with (
        mock.patch.dict(os.environ, environment or {}),
        ProcessPoolExecutor(1, get_context("spawn"), os.dup2, (2, 1)) as pool,
    ):
        return pool.submit(function, *arguments).result()


def log(line: str) -> None:
    """Write progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print plain text with the first column aligned left and the others right."""
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for first, *others in cells:
        padded = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *padded]).rstrip())


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.3g}" if abs(cell) < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def write_record(name: str, options: argparse.Namespace, results: Mapping[str, Any], **config: Any) -> None:
    """Write the results as JSON, with the options, further configuration, the machine and the versions."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    device = re.sub(r"[^a-z0-9]+", "-", (gpu or "cpu").lower()).strip("-")
    path = options.json or _RESULTS / f"{name}-{device}.json"
    record = {
        "benchmark": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor(),
            "cpus": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "gpu": gpu,
            "system": platform.platform(),
            "load_average": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version(), **package_versions(), "commit": commit()},
        "config": {option: value for option, value in vars(options).items() if option != "json"} | config,
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, default=str) + "\n")
    log(f"written: {path}")
