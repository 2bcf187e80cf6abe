"""Which replicate trains in which lane: trains in chunks, reports at budgets, keeps checkpoints.

Everything a trainer does that needs no Ray. Replicates wait in line, take a lane as soon as one is free, and give it
back at the full budget. Results do not depend on when that happens (`marl.stack`).
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from marl import checkpoint
from marl.checkpoint import DESCRIPTION_FILE, MODEL_FILE, STATE_FILE, Description
from marl.config import Config
from marl.data import build
from marl.evaluation import evaluate, held_out_clips
from marl.metrics import METRIC_VERSION
from marl.model import Architecture
from marl.stack import Snapshot, Stack
from study.configuration import StackPlan, audio_of, config_of, data_of
from study.spec import Scalar
from study.store import StudyStore

__all__ = ["Failure", "Lanes", "Report"]

_CHECKPOINT_EVERY_S = 60.0
# How long to train before looking up: soon enough to drain in time, seldom enough to cost nothing.
_CHUNK_S = 0.5


class Report(NamedTuple):
    """One replicate at one budget: a row of `reports/`."""

    trial: int
    row: dict[str, Any]


class Failure(NamedTuple):
    """A replicate that came to no value; its trial fails with it."""

    trial: int
    error: str


@dataclass
class _Replicate:
    trial: int
    seed: int
    config: Config
    parameters: dict[str, Scalar]
    step: int = 0
    snapshot: Snapshot | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


class Lanes:
    """The stacks of one device, one for each architecture, and the replicates in them and in line.

    Args:
        store: the study; its document says what to train.
        device: where to train.
    """

    def __init__(self, store: StudyStore, device: torch.device) -> None:
        document = store.document()
        self._store = store
        self._spec = document.spec
        self._plan = StackPlan.model_validate(document.stack)
        self._budgets = self._spec.budgets()
        self._audio = audio_of(self._spec)
        self._dataset = build(data_of(self._spec), self._audio, device)
        self._stacks: dict[Architecture, Stack] = {}
        self._training: dict[tuple[Architecture, int], _Replicate] = {}
        self._waiting: deque[_Replicate] = deque()
        self._checkpointed = time.monotonic()
        self.trained_steps = 0

    @property
    def is_busy(self) -> bool:
        """Whether any replicate trains or waits."""
        return bool(self._training or self._waiting)

    def progress(self) -> list[tuple[int, int, int]]:
        """Trial, seed and step of each replicate that trains or waits."""
        return [(one.trial, one.seed, one.step) for one in (*self._training.values(), *self._waiting)]

    def add(self, trial: int, parameters: Mapping[str, Scalar]) -> list[Report]:
        """Put a trial's replicates in line, each from its last checkpoint; returns the reports it had by then."""
        config = config_of(self._spec, parameters)
        reports: list[Report] = []
        for seed in range(self._spec.replicates):
            replicate = _Replicate(trial, seed, config, dict(sorted(parameters.items())))
            self._restore(replicate)
            reports += [Report(trial, row) for row in replicate.rows]
            if not any(row["step"] == self._budgets[-1] for row in replicate.rows):
                self._waiting.append(replicate)
        return reports

    def remove(self, trial: int) -> None:
        """Take a trial out of line and out of its lanes."""
        self._waiting = deque(one for one in self._waiting if one.trial != trial)
        for (architecture, lane), one in list(self._training.items()):
            if one.trial == trial:
                self._free(architecture, lane)

    def advance(self, interrupted: Callable[[], bool]) -> list[Report | Failure]:
        """Fill free lanes, train one chunk of each stack, and evaluate whoever reached a budget.

        Args:
            interrupted: asked between steps; when true, the chunk ends.
        """
        self._fill()
        results: list[Report | Failure] = []
        for architecture in {architecture for architecture, _ in self._training}:
            self._train(architecture, interrupted)
            results += self._failures(architecture)
            results += self._reports(architecture)
        if time.monotonic() - self._checkpointed >= _CHECKPOINT_EVERY_S:
            self.checkpoint()
        return results

    def checkpoint(self) -> None:
        """Write a checkpoint of every replicate that is in a lane."""
        self._checkpointed = time.monotonic()
        for (architecture, lane), replicate in self._training.items():
            self._write_checkpoint(replicate, self._stacks[architecture].snapshot(lane), is_final=False)

    def _fill(self) -> None:
        """Give lanes to those in line, in order; an architecture whose lanes are taken holds up no other."""
        still_waiting: deque[_Replicate] = deque()
        while self._waiting:
            replicate = self._waiting.popleft()
            architecture = self._plan.architecture(self._audio, replicate.config)
            stack = self._stack(architecture)
            if not stack.free_lanes:
                still_waiting.append(replicate)
                continue
            lane = stack.attach(replicate.config, replicate.seed, replicate.snapshot)
            replicate.snapshot = None
            self._training[architecture, lane] = replicate
        self._waiting = still_waiting

    def _stack(self, architecture: Architecture) -> Stack:
        if architecture not in self._stacks:
            self._stacks[architecture] = Stack(
                architecture,
                self._plan.lanes,
                self._dataset,
                self._spec.views.shared,
                self._spec.train.batch_pairs,
                self._plan.combinations,
                self._plan.contrasts,
            )
        return self._stacks[architecture]

    def _occupied(self, architecture: Architecture) -> list[tuple[int, _Replicate]]:
        return [(lane, one) for (owner, lane), one in self._training.items() if owner == architecture]

    def _train(self, architecture: Architecture, interrupted: Callable[[], bool]) -> None:
        occupied = self._occupied(architecture)
        until_due = min(self._next_budget(one.step) - one.step for _, one in occupied)
        stop_at = time.monotonic() + _CHUNK_S
        steps = 0
        while steps < until_due and time.monotonic() < stop_at and not interrupted():
            self._stacks[architecture].step()
            steps += 1
        for _, one in occupied:
            one.step += steps
        self.trained_steps += steps * len(occupied)

    def _next_budget(self, step: int) -> int:
        return next(budget for budget in self._budgets if budget > step)

    def _failures(self, architecture: Architecture) -> Iterable[Failure]:
        for lane, step in self._stacks[architecture].diverged().items():
            if (architecture, lane) not in self._training:  # went with another replicate of its trial
                continue
            replicate = self._training[architecture, lane]
            self.remove(replicate.trial)
            yield Failure(replicate.trial, f"diverged: the loss of seed {replicate.seed} is not finite at step {step}")

    def _reports(self, architecture: Architecture) -> Iterable[Report | Failure]:
        due = [(lane, one) for lane, one in self._occupied(architecture) if one.step in self._budgets]
        due = [(lane, one) for lane, one in due if not any(row["step"] == one.step for row in one.rows)]
        if not due:
            return
        stack = self._stacks[architecture]
        mature = any(one.step == self._budgets[-1] for _, one in due)
        evaluation = evaluate(stack, self._spec.views.shared, mature)
        for lane, one in due:
            if (architecture, lane) not in self._training:  # went with another replicate of its trial
                continue
            is_final = one.step == self._budgets[-1]
            metrics = evaluation.metrics[lane]
            if not all(map(math.isfinite, metrics.values())):  # the last step before the budget broke it
                self.remove(one.trial)
                yield Failure(one.trial, f"diverged: the metrics of seed {one.seed} are not finite at step {one.step}")
                continue
            if not is_final:  # computed for the sake of a neighbour; a replicate's reports do not depend on it
                metrics = {name: value for name, value in metrics.items() if not _is_mature_only(name)}
            row = {
                "trial": one.trial,
                "seed": one.seed,
                "step": one.step,
                "metric_version": METRIC_VERSION,
                **metrics,
            }
            one.rows.append(row)
            if is_final:
                self._write_latents(stack, one, evaluation.means_KND[lane])
                self._write_checkpoint(one, stack.snapshot(lane), is_final=True)
                self._free(architecture, lane)
            yield Report(one.trial, row)

    def _free(self, architecture: Architecture, lane: int) -> None:
        self._stacks[architecture].detach(lane)
        del self._training[architecture, lane]

    def _restore(self, replicate: _Replicate) -> None:
        """Take up a replicate's last checkpoint, if it has one of the same configuration."""
        found = self._store.latest_checkpoint(replicate.trial, replicate.seed)
        if found is None or found.record.get("parameters") != replicate.parameters:
            return
        # Whoever wrote it may have died before this.
        self._store.delete_earlier_checkpoints(replicate.trial, replicate.seed, found.step)
        replicate.rows = list(found.record["reports"])
        replicate.step = found.step
        if STATE_FILE in found.files:
            description = Description.model_validate_json(found.files[DESCRIPTION_FILE])
            replicate.snapshot = checkpoint.restore(description, found.files[MODEL_FILE], found.files[STATE_FILE])

    def _write_checkpoint(self, replicate: _Replicate, snapshot: Snapshot, is_final: bool) -> None:
        description = Description(
            config=replicate.config,
            audio=self._audio,
            mean_db=self._dataset.audio.mean_db,
            std_db=self._dataset.audio.std_db,
            shared_factors=self._spec.views.shared,
            seed=replicate.seed,
            step=snapshot.step,
        )
        files = {
            MODEL_FILE: checkpoint.model_bytes(snapshot),
            DESCRIPTION_FILE: description.model_dump_json(indent=1).encode(),
        }
        if not is_final:
            files[STATE_FILE] = checkpoint.state_bytes(snapshot)
        record = {"parameters": replicate.parameters, "reports": replicate.rows}
        self._store.write_checkpoint(replicate.trial, replicate.seed, snapshot.step, files, record)

    def _write_latents(self, stack: Stack, replicate: _Replicate, mean_ND: Tensor) -> None:
        clips = held_out_clips(stack)
        columns: dict[str, Any] = {"clip": clips.cpu().numpy()}
        for column, name in enumerate(self._dataset.factor_names):
            values = self._dataset.factors[column].values
            columns[f"factor/{name}"] = [values[index] for index in self._dataset.value_NC[clips, column].tolist()]
        private = stack.network.architecture.private
        for subspace, first, size in (
            ("private", 0, replicate.config.latent.private),
            ("shared", private, replicate.config.latent.shared),
        ):
            for index in range(size):
                columns[f"{subspace}/{index}"] = mean_ND[:, first + index].cpu().numpy()
        self._store.write_latents(replicate.trial, replicate.seed, columns)


def _is_mature_only(name: str) -> bool:
    return name.startswith("probe/") or name == "disentanglement/separation"
