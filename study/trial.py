"""A trial as Ray Tune sees it: a thin client of a trainer. It holds no tensor and imports no torch."""

import contextlib
from typing import Any

import ray
from ray import tune

from study.spec import Scalar
from study.trainers import find_or_start

__all__ = ["StudyTrial"]


class StudyTrial(tune.Trainable):
    """Attaches its replicates to the trainer of the GPU that Ray gave it and hands their reports to Tune.

    The configuration has `number` and `parameters` of the trial, and `store`, `study`, `launch` and `steps` of the
    study. A result has `step` and `rows`, reports of its replicates, or `failed` with the reason.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Find the trainer."""
        self._number: int = config["number"]
        self._parameters: dict[str, Scalar] = config["parameters"]
        self._full_budget: int = config["steps"]
        self._reported = 0
        self._trainer = find_or_start(config["store"], config["study"], config["launch"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial: cheaper than a new process for each."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for the next report."""
        report: dict[str, Any] | None = None
        while report is None:
            report = ray.get(self._trainer.next_report.remote(self._number, self._parameters, self._reported))
        self._reported = report.get("step", self._reported)
        is_over = "failed" in report or report["step"] == self._full_budget
        return {**report, "number": self._number, tune.result.DONE: is_over}

    def cleanup(self) -> None:
        """Give the lanes back."""
        with contextlib.suppress(ray.exceptions.RayActorError):  # a trainer that is gone holds no lane
            ray.get(self._trainer.detach.remote(self._number))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trainer writes checkpoints to the store."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: the trainer takes up what is in the store."""
