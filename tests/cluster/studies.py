"""A grid study on a cluster, which this machine follows through the store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore
from tests.cluster.onprem import Cluster, wait_until
from tests.study.commands import TINY, Outcome, run_command
from tests.study.processes import UNCHANGED
from tests.study.stores import results_of

__all__ = ["StudyOnCluster", "grid", "run_alone"]


def grid(name: str = "grid", steps: int = 600, gammas: Sequence[float] = (0.1, 1.0, 10.0)) -> dict[str, Any]:
    """Return a spec with two cells for each gamma. Without halving, results do not depend on the order of events."""
    return {
        **TINY,
        "name": name,
        "train": {"steps": steps, "batch_pairs": 16, "reports": 4},
        "space": {"loss.private.gamma": {"choice": list(gammas)}, "latent.private": {"choice": [2, 4]}},
        "search": {"sampler": "grid"},
    }


def run_alone(folder: Path, spec: dict[str, Any]) -> StudyResults:
    """Run the same study undisturbed on this machine."""
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**spec, "name": "grid"}))
    outcome = run_command("run", path, "--store", folder / "alone", env=UNCHANGED)
    assert outcome.status == 0, outcome.err
    return results_of(folder / "alone", "grid")


class StudyOnCluster:
    """A study that is launched from this machine and runs on a cluster.

    Args:
        cluster: Cluster of the study.
        spec: Spec of the study.
        folder: Folder for the spec's file.
    """

    def __init__(self, cluster: Cluster, spec: dict[str, Any], folder: Path) -> None:
        self._cluster = cluster
        self.name = spec["name"]
        self._file = folder / f"{self.name}.yaml"
        self._file.write_text(yaml.safe_dump(spec))
        self.store = StudyStore(ObjectStore(cluster.environment["MARL_STORE"]), self.name)

    def command(self, *words: object) -> Outcome:
        """Run a command on this machine, with the keys of the store."""
        return run_command(*words, env=self._cluster.environment)

    def launch(self) -> None:
        """Run `marl-study run … --cluster`, which returns when the study has started."""
        outcome = self.command("run", self._file, "--cluster", self._cluster.file)
        assert outcome.status == 0, outcome.out + outcome.err

    def resume(self) -> None:
        """Run `marl-study resume … --cluster`."""
        outcome = self.command("resume", self.name, "--cluster", self._cluster.file)
        assert outcome.status == 0, outcome.out + outcome.err

    @property
    def results(self) -> StudyResults:
        """The current results in the store."""
        return StudyResults(self.store)

    def complete(self) -> pd.DataFrame:
        """Return the rows of complete trials."""
        return self.results.trials().query("state == 'complete'")

    def lines(self) -> list[str]:
        """Return the lines of the log."""
        log = self.store.read("log")
        return list(log["line"]) if len(log) else []

    def wait_until_trained_on(self, hosts: set[int]) -> None:
        """Return when exactly these hosts have trainers that train."""

        def trained_on() -> set[int]:
            made = self._cluster.hosts
            return {
                host for host in range(1, made.count) if any("ray::Trainer" in line for line in made.processes(host))
            }

        wait_until(lambda: trained_on() == hosts, 180, f"trainers on hosts {hosts}")
        wait_until(
            lambda: any("trial-steps/s" in line or "complete:" in line for line in self.lines()), 180, "training"
        )

    def wait_until_complete(self, count: int, timeout_s: float = 600) -> None:
        """Return when `count` trials are complete."""
        wait_until(lambda: len(self.complete()) >= count, timeout_s, f"{count} complete trials")

    def wait_until_over(self, timeout_s: float = 600) -> None:
        """Return when all trials are complete and the driver has ended."""
        self.wait_until_complete(self.results.target, timeout_s)
        wait_until(lambda: not self.results.is_live, 120, "the driver's end")

    def seconds_to_go_on(self, since: float) -> float:
        """Seconds from a time of this machine's clock until every trial that lost its actor has started again.

        If the driver or the head node dies, all trials are lost without a record. The first restarted trial then ends
        the measurement.
        """
        began: float | None = None
        waiting: set[str] = set()
        was_lost = False
        for time, line in self.store.read("log")[["time", "line"]].itertuples(index=False):
            after = time.timestamp() - since
            who = " ".join(line.split()[:2])
            if after > 0 and "was interrupted and will be resumed" in line:
                waiting.add(who)
                was_lost = True
            elif who in waiting and ("started" in line or "complete" in line):
                waiting.remove(who)
                began = after
            elif not was_lost and began is None and after > 0 and " started: " in line:
                began = after
        assert began is not None, "no trial has begun since"
        return began
