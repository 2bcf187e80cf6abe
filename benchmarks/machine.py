"""Shared by all benchmarks: description of the machine and versions, and output of the numbers."""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from study.environment import commit, processor

__all__ = [
    "ROOT",
    "add_json_option",
    "command_started",
    "device_kind",
    "machine",
    "part",
    "print_table",
    "processor",
    "say",
    "versions",
    "write_record",
]

ROOT = Path(__file__).parents[1]
_RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("marl-study", "torch", "torchaudio", "ray", "optuna")


def device_kind() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu() -> str | None:
    """Name of the GPU that a benchmark uses."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine() -> dict[str, Any]:
    """The machine, and how busy it was with other things when it was asked."""
    return {
        "processor": processor(),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": gpu(),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


def versions() -> dict[str, str | None]:
    """Of Python, of the packages that matter, and of the project."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "commit": commit(),
    }


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Where the numbers go."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where to write the numbers (benchmarks/results/NAME-DEVICE.json)"
    )


def write_record(name: str, path: Path | None, config: Mapping[str, Any], results: Mapping[str, Any]) -> Path:
    """Write what was measured, how and on what; returns where."""
    if path is None:
        device = re.sub(r"[^a-z0-9]+", "-", (gpu() or "cpu").lower()).strip("-")
        path = _RESULTS / f"{name}-{device}.json"
    record = {
        "benchmark": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "config": config,
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    say(f"written: {path}")
    return path


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as plain text, its first column to the left and the others to the right."""
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}")
    for first, *others in cells:
        padded = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *padded]).rstrip())


def say(line: str) -> None:
    """How far a benchmark is; numbers go to stdout, this does not."""
    print(line, file=sys.stderr, flush=True)


def command_started() -> float:
    """When this process began, on the clock of `time.monotonic`: a user waits for imports, too."""
    return time.monotonic() - (time.time() - psutil.Process().create_time())


def part(module: str, *words: object, environment: Mapping[str, str] | None = None) -> Any:
    """Run a benchmark, or a part of one, in a separate process and return its JSON output.

    Raises:
        SystemExit: when it fails; it has said why.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", module, *map(str, words), "--json", str(answer)]
        # Its stdout goes to stderr: the stdout of this process holds the result.
        done = subprocess.run(
            command, cwd=ROOT, stdout=sys.stderr, env={**os.environ, **(environment or {})}, check=False
        )
        if done.returncode:
            raise SystemExit(f"failed with status {done.returncode}: {' '.join(command)}")
        return json.loads(answer.read_text())


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.3g}" if abs(cell) < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
