"""A trial as Ray Tune sees it: a thin client of a trainer. It holds no tensor and imports no torch."""

import contextlib
import time
from typing import Any

import ray
from ray import tune

from study.spec import Scalar
from study.training.client import find_or_start

__all__ = ["StudyTrial"]

# After so many deaths of its trainer a trial is suspected, with all others that were there; it then trains alone.
_DEATHS_IN_COMPANY = 2
# After so many deaths of trainers in which it was alone it has failed.
_DEATHS_ALONE = 3
_PAUSE_S = 1.0


class StudyTrial(tune.Trainable):
    """Attaches its replicates to the trainer of the GPU that Ray gave it and hands their reports to Tune.

    The configuration has `number` and `parameters` of the trial, and `store`, `study`, `launch`, `steps` and `versions`
    of the study. A result has `step` and `rows`, reports of its replicates, or `failed` with the reason, or `refused`
    with the reason why the whole study cannot go on.

    A trainer that dies is replaced, and the trial goes on from its last checkpoint. What kills trainers again and again
    is found by letting each that was there train alone; the one that was alone when three died has failed.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Become a trial; its trainer is found when it is first asked."""
        self._number: int = config["number"]
        self._parameters: dict[str, Scalar] = config["parameters"]
        self._full_budget: int = config["steps"]
        self._where = (config["store"], config["study"], config["launch"], config["versions"])
        self._reported = 0
        self._trainer: Any = None
        self._deaths_in_company = self._deaths_alone = 0
        self._is_alone = False
        self._dead: Any = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial: cheaper than a new process for each."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for the next report.

        Raises:
            RuntimeError: when this machine is about to be taken away; Tune lets the trial go on elsewhere.
        """
        while True:
            try:
                answer = self._ask()
            except ray.exceptions.RayError as error:  # the trainer died, or is about to
                answer = self._after_a_death(error)
            if answer is None:
                continue
            if "alone" in answer:
                self._is_alone = True
            elif "leaving" in answer:
                raise RuntimeError(answer["leaving"])
            else:
                break
        self._deaths_in_company = self._deaths_alone = 0
        self._is_alone = False
        self._reported = answer.get("step", self._reported)
        is_over = "failed" in answer or answer.get("step") == self._full_budget
        return {**answer, "number": self._number, tune.result.DONE: is_over}

    def cleanup(self) -> None:
        """Give the lanes back."""
        if self._trainer is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # a trainer that is gone holds no lane
                ray.get(self._trainer.detach.remote(self._number))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trainer writes checkpoints to the store."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: the trainer takes up what is in the store."""

    def _ask(self) -> dict[str, Any] | None:
        if self._trainer is None:
            self._trainer = find_or_start(*self._where)
        is_suspected = self._deaths_in_company >= _DEATHS_IN_COMPANY
        answer: dict[str, Any] | None = ray.get(
            self._trainer.next_report.remote(
                self._number, self._parameters, self._reported, is_suspected, self._is_alone
            )
        )
        return answer

    def _after_a_death(self, error: ray.exceptions.RayError) -> dict[str, Any] | None:
        """What the trial is told of the death of its trainer; none when it goes on with another."""
        who = self._trainer._actor_id if self._trainer is not None else None
        if who is None or who == self._dead:  # it could not be started, or its name still led to the dead one
            pass
        elif self._is_alone:
            self._deaths_alone += 1
        else:
            self._deaths_in_company += 1
        self._dead = who
        if self._deaths_alone == _DEATHS_ALONE:
            *_, reason = str(error).strip().splitlines()
            return {"failed": f"ended its trainer {_DEATHS_ALONE} times while it trained alone: {reason.strip()}"}
        self._is_alone = False
        self._trainer = None
        time.sleep(_PAUSE_S)  # Ray forgets a dead actor's name a moment later
        return None
