"""Where the trainers of a run are: found by name, started where there is none."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.process_env import surroundings
from study.spec import Scalar, TrialId
from study.training.trainer import Trainer

__all__ = ["NAMESPACE", "StudyTrial", "Trainers", "end_trainers", "find_or_start", "start_trainer"]

NAMESPACE = "marl-study"


# Of a processor; so a trainer without a GPU is not placed where nothing shall train.
_A_LITTLE = 0.01


def _prefix(study: str, run: int | None = None) -> str:
    """What the names of a study's trainers begin with, or of those of one run."""
    return f"trainer/{study}/" if run is None else f"trainer/{study}/{run}/"


def find_or_start(store_uri: str, study: str, run: int, versions: Mapping[str, str]) -> Any:
    """A handle of the trainer of the caller's node and GPU; it is started if there is none yet.

    It is detached and bound to the node, not to the caller's placement group, with which it would die. It asks Ray for
    nothing: the trials that use it have asked for its share.
    """
    node = ray.get_runtime_context().get_node_id()
    gpus = ray.get_gpu_ids()
    environment = surroundings()
    if gpus:
        # Without a GPU of its own to ask for, the actor would see all of them, or none.
        environment |= {"CUDA_VISIBLE_DEVICES": str(gpus[0]), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    place = f"gpu{gpus[0]}" if gpus else "cpu"
    actor = ray.remote(Trainer).options(
        name=f"{_prefix(study, run)}{node}/{place}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=1000,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        runtime_env={"env_vars": environment},
    )
    return actor.remote(store_uri, study, "cuda" if gpus else "cpu", dict(versions))


def start_trainer(store_uri: str, study: str, run: int, versions: Mapping[str, str], device: str) -> Any:
    """A handle of a trainer on some node that has such a device; it is started if there is none yet."""
    needs = {"num_cpus": 0, "num_gpus": 1} if device == "cuda" else {"num_cpus": _A_LITTLE}
    place = ray.remote(**needs)(find_or_start)
    return ray.get(place.remote(store_uri, study, run, versions))


class Trainers:
    """The trainers of a run, as its driver follows them: it waits for none, however many there are.

    Args:
        study: its name.
        run: its number.

    Attributes:
        gone: what those said last that are there no more.
    """

    def __init__(self, study: str, run: int) -> None:
        self.gone: list[dict[str, Any]] = []
        self._study, self._prefix = study, _prefix(study, run)
        # By name: the trainer, what it was asked last and has not answered yet, and what it last said of its work.
        self._handles: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._said: dict[str, dict[str, Any]] = {}

    def there(self) -> list[Any]:
        """Handles of all that are there now."""
        names = {name for name in _names(self._study) if name.startswith(self._prefix)}
        for name in self._handles.keys() - names:
            self._forget(name)
        for name in sorted(names - self._handles.keys()):
            with contextlib.suppress(ValueError):  # died since it was listed
                self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
        return list(self._handles.values())

    def progress(self) -> list[dict[str, Any]]:
        """What each has last said, as `study.training.trainer.Trainer.progress`; and they are asked again."""
        self.there()
        answered = (
            set(ray.wait(calls, num_returns=len(calls), timeout=0)[0]) if (calls := [*self._asked.values()]) else ()
        )
        for name, call in [*self._asked.items()]:
            if call in answered:
                del self._asked[name]
                try:
                    self._said[name] = ray.get(call)
                except ray.exceptions.RayError:  # it died, and is replaced by its trials
                    self._forget(name)
        for name, trainer in self._handles.items():
            if name not in self._asked:
                self._asked[name] = trainer.progress.remote()
        return list(self._said.values())

    def ask(self, method: str, within_s: float) -> list[Any]:
        """Answers of all that answer in time."""
        calls = [getattr(trainer, method).remote() for trainer in self.there()]
        answers = []
        for call in ray.wait(calls, num_returns=len(calls), timeout=within_s)[0] if calls else ():
            with contextlib.suppress(ray.exceptions.RayError):
                answers.append(ray.get(call))
        return answers

    def _forget(self, name: str) -> None:
        for known in (self._handles, self._asked):
            known.pop(name, None)
        if name in self._said:
            self.gone.append(self._said.pop(name))


def end_trainers(study: str, but_those_of: int | None = None) -> None:
    """End the trainers of a study, those of one run excepted. They outlive a driver that dies, with their memory."""
    spared = None if but_those_of is None else _prefix(study, but_those_of)
    for name in _names(study):
        if spared is None or not name.startswith(spared):
            with contextlib.suppress(ValueError):  # died since it was listed
                ray.get_actor(name, namespace=NAMESPACE).end.remote()


def _names(study: str) -> list[str]:
    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
    return [name for name in names if name.startswith(_prefix(study))]


# After so many deaths of its trainer a trial is suspected, with all others that were there; it then trains alone.
_DEATHS_IN_COMPANY = 2
# After so many deaths of trainers in which it was alone it has failed.
_DEATHS_ALONE = 3
_PAUSE_S = 1.0


class StudyTrial(tune.Trainable):
    """Attaches its replicates to the trainer of the GPU that Ray gave it and hands their reports to Tune.

    The configuration has `number` and `parameters` of the trial, and `store`, `study`, `run`, `steps` and `versions`
    of the study. A result has `step` and `rows`, reports of its replicates, or `failed` with the reason, or `refused`
    with the reason why the whole study cannot go on.

    A trainer that dies is replaced, and the trial goes on from its last checkpoint. What kills trainers again and again
    is found by letting each that was there train alone; the one that was alone when three died has failed.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Become a trial; its trainer is found when it is first asked."""
        self._number: TrialId = config["number"]
        self._parameters: dict[str, Scalar] = config["parameters"]
        self._full_budget: int = config["steps"]
        self._where = (config["store"], config["study"], config["run"], config["versions"])
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
