"""A tiny study, and the command line, in this process or in a separate one."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import study.cli
from tests.study.processes import environment, use_ray_of_this_process

ROOT = Path(__file__).parents[2]

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "syntone", "frequencies": 40, "amplitudes": 4},
    "model": {"width": 16, "embedding": 16, "hidden": 32},
    "train": {"steps": 30, "batch_pairs": 16, "reports": 2},
    "replicates": 2,
    "space": {
        "loss.private.gamma": {"log_uniform": [0.1, 10]},
        "latent.private": {"choice": [2, 4]},
        "contrast.strategy": {"choice": ["none", "infonce"]},
        "contrast.temperature": {"log_uniform": [0.05, 1], "when": {"contrast.strategy": "infonce"}},
    },
    "search": {"sampler": "qmc", "trials": 4},
    "post_training": [],
    "resources": {"lanes": 4, "trainers": 1},
}


@dataclass
class Outcome:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


def command(*arguments: object) -> list[str]:
    """Return the command line that a shell would run."""
    return [str(Path(sys.executable).with_name("marl-study")), *map(str, arguments)]


def run_command(*arguments: object, env: Mapping[str, str] | None = None) -> Outcome:
    """Run a command in a separate process."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=480,
        env={**os.environ, **environment(), **(env or {})},
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_here(*arguments: object) -> Outcome:
    """Run a command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["marl-study", *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as leave:
            study.cli.main()
    return Outcome(int(leave.value.code or 0), out.getvalue(), err.getvalue())


def run_on_ray(*arguments: object, with_plain_vae: bool = False) -> Outcome:
    """Run a command of a study in this process, on the Ray of the fixture `ray_of_process`."""
    with use_ray_of_this_process(with_plain_vae):
        return run_here(*arguments)


class Running:
    """The command line in a separate process group, as a terminal starts it. Its lines are read as they arrive."""

    def __init__(self, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment(), **(env or {})},
            start_new_session=True,
        )
        self.lines: list[str] = []

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def process(self) -> int:
        """Process number."""
        return self._process.pid

    def wait_for_line(self, part: str) -> str:
        """Read lines until one contains the text, which may begin and end with the line breaks around it; return it."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)
            if part in f"\n{line}":
                return line
        raise AssertionError(f"no line with {part!r} in:\n{''.join(self.lines)}")

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole group, as a terminal does."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill only the command, not its group."""
        self._process.kill()

    def wait(self, timeout_s: float) -> int:
        """Read all remaining lines and return the exit status."""
        _, rest = self._process.communicate(timeout=timeout_s)
        self.lines += rest.splitlines(keepends=True)
        return self._process.returncode
