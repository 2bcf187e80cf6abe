"""Soak test: hundreds of short trials on three hosts, with a random fault every few seconds. `make soak` runs it.

Every trial must end exactly once, every object of the store must be intact, and the driver must not grow.
"""

import argparse
import os
import random
import re
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from study.analysis import StudyResults
from study.spec import Baseline
from study.store.tables import Segment
from tests.cluster.hosts import available
from tests.cluster.onprem import Cluster, cluster_on_hosts
from tests.cluster.studies import StudyOnCluster
from tests.study.commands import TINY

SEED = 20261122


def spec(trials: int) -> dict[str, object]:
    """Return a spec whose trials take some seconds."""
    return {
        **TINY,
        "name": "soak",
        "train": {"steps": 60, "batch_pairs": 16, "reports": 2},
        "search": {"sampler": "random", "trials": trials},
    }


class Soak:
    """Random faults of a running study.

    Args:
        cluster: Cluster of the study.
        study: The running study.
        chance: Source of randomness.
    """

    def __init__(self, cluster: Cluster, study: StudyOnCluster, chance: random.Random) -> None:
        self.cluster, self.study, self.chance = cluster, study, chance
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.driver_mb: list[tuple[float, float]] = []
        self._faults: list[Callable[[], None]] = [
            self.trial_killed,
            self.trainer_killed,
            self.raylet_killed,
            self.worker_rebooted,
            self.cable_pulled,
            self.store_hung,
            self.driver_killed,
        ]

    def fault(self) -> None:
        """Cause a random fault."""
        fault = self.chance.choice(self._faults)
        try:
            fault()
        except AssertionError:  # the target did not exist at that moment
            self.failed[fault.__name__] += 1
        else:
            self.done[fault.__name__] += 1
            print(f"{time.strftime('%H:%M:%S')} {fault.__name__}", flush=True)  # noqa: T201

    def trial_killed(self) -> None:
        self.cluster.hosts.kill(self._worker(), "ray::ResourceTrainable")

    def trainer_killed(self) -> None:
        self.cluster.hosts.kill(self._worker(), "ray::Trainer")

    def raylet_killed(self) -> None:
        self.cluster.hosts.kill(self._worker(), "raylet/raylet")

    def worker_rebooted(self) -> None:
        self.cluster.hosts.reboot(self._worker())

    def cable_pulled(self) -> None:
        worker = self._worker()
        self.cluster.hosts.cut(worker)
        time.sleep(10)
        self.cluster.hosts.join(worker)

    def store_hung(self) -> None:
        (server,) = (one for one in psutil.process_iter(["name"]) if self._is_server(one))
        server.send_signal(signal.SIGSTOP)
        time.sleep(10)
        server.send_signal(signal.SIGCONT)

    def driver_killed(self) -> None:
        self.cluster.hosts.kill(0, "marl-study (run|resume)")

    def keep_going(self) -> None:
        """Resume the study if its driver is dead; else record the driver's memory."""
        if not self.study.results.is_live and not self.is_over():
            outcome = self.study.command("resume", "soak", "--cluster", self.cluster.file)
            print(f"{time.strftime('%H:%M:%S')} resumed: exit status {outcome.status}", flush=True)  # noqa: T201
        listed = self.cluster.hosts.run(0, "ps", "-e", "-o", "rss=,args=").stdout.splitlines()
        drivers = [int(line.split()[0]) for line in listed if "bin/marl-study r" in line]
        if drivers:
            self.driver_mb.append((time.monotonic(), max(drivers) / 1024))

    def is_over(self) -> bool:
        """Return whether every trial is complete or failed."""
        results = self.study.results
        return int(results.trials()["state"].isin(["complete", "failed"]).sum()) >= results.target

    def _worker(self) -> int:
        return self.chance.randrange(1, self.cluster.hosts.count)

    def _is_server(self, process: psutil.Process) -> bool:
        return "rclone" in process.info["name"] and str(self.cluster.s3.folder) in process.cmdline()


def verify(results: StudyResults) -> dict[str, object]:
    """Check that every trial is stored once, every object is intact, and no object is orphaned."""
    store = results.store
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # readers skip damaged objects with a warning
        trials, reports = results.trials(), results.reports()
        results.results()
    complete = list(trials.query("state == 'complete'")["trial"])
    assert sorted(trials["trial"]) == list(range(results.target)), "trials are missing or there twice"
    assert not reports.duplicated(["trial", "seed", "step", "metric_version"]).any()
    seeds, known = len(results.spec.seeds), {"study.json", "baselines.json"}
    mature = reports[reports["step"] == results.spec.train.steps].groupby("trial")["seed"].nunique()
    for trial in complete:
        assert mature[trial] == seeds, f"trial {trial} lacks a report"
    for trial in (Baseline.PLAIN_VAE, *complete):
        for seed in results.spec.seeds:
            checkpoint = store.latest_checkpoint(trial, seed)  # verifies its SHA-256
            assert checkpoint is not None, f"trial {trial} lacks its model of seed {seed}"
            assert checkpoint.step == results.spec.train.steps
            assert store.read_latents(trial, seed) is not None
            folder = f"checkpoints/{trial}/{seed}/{checkpoint.step}"
            known |= {f"{folder}/{name}" for name in (*checkpoint.files, "replicate.json")}
            known.add(f"latents/{trial}-{seed}.parquet")
    names = {name.removeprefix(f"{store.name}/") for name in store.objects.names(store.name)}
    others = names - known
    assert all(Segment.parse(name) or re.fullmatch(r"runs/\d{4}\.json", name) for name in others), sorted(others)
    return {
        "states": dict(Counter(trials["state"])),
        "runs": len(results.runs),
        "reports": len(reports),
        "objects": len(names),
    }


def main() -> None:
    """Run the soak test and print its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--every-s", type=float, default=20)
    options = parser.parse_args()
    if (reason := available()) is not None:
        raise SystemExit(f"hosts for a soak cannot be made: {reason}")
    with tempfile.TemporaryDirectory(prefix="marl-soak-") as folder, cluster_on_hosts(Path(folder)) as cluster:
        os.environ.update(cluster.s3.environment)
        cluster.up()
        study = StudyOnCluster(cluster, spec(options.trials), Path(folder))
        study.launch()
        soak = Soak(cluster, study, random.Random(SEED))
        started = time.monotonic()
        while not soak.is_over():
            due = time.monotonic() + options.every_s
            if time.monotonic() - started < options.minutes * 60:
                soak.fault()
            soak.keep_going()
            time.sleep(max(0.0, due - time.monotonic()))
        found = verify(study.results)
        seconds, megabytes = np.array(soak.driver_mb).T
        print(found)  # noqa: T201
        print(f"{time.monotonic() - started:.0f} s, faults {dict(soak.done)}, missed {dict(soak.failed)}")  # noqa: T201
        print(f"driver: {megabytes.min():.0f} to {megabytes.max():.0f} MB")  # noqa: T201
        if len(seconds) > 2:
            print(f"driver: {np.polyfit(seconds / 60, megabytes, 1)[0]:+.2f} MB a minute")  # noqa: T201


if __name__ == "__main__":
    main()
