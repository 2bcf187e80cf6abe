"""Replicates in the store: their checkpoints and latents, read and written in other threads than training."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from marl import checkpoint
from marl.checkpoint import METADATA_FILE, MODEL_FILE, STATE_FILE, ModelMetadata
from marl.config import Config
from marl.data import Dataset
from marl.stack import Snapshot
from study.spec import Scalar, TrialId
from study.spec.resolved_spec import ResolvedSpec
from study.store import StudyStore

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
# Requests to a bucket wait for the network most of the time.
_THREADS = 8


@dataclass
class Replicate:
    """One model of a trial: the trial's configuration under one seed.

    Attributes:
        parameters: Parameters of the trial, sorted by name.
        step: Number of steps trained.
        snapshot: State to resume from while the replicate has no lane; None for a new replicate.
        rows: Reports so far.
    """

    trial: TrialId
    seed: int
    config: Config
    parameters: dict[str, Scalar]
    step: int = 0
    snapshot: Snapshot | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def has_reported(self, step: int) -> bool:
        """Return whether there is a report at a step."""
        return any(row["step"] == step for row in self.rows)


class ReplicateFiles:
    """Reads and writes files of replicates, in any thread: of its methods, only `restore` changes a replicate."""

    def __init__(self, store: StudyStore, resolved: ResolvedSpec, dataset: Dataset) -> None:
        self._store, self._resolved, self._dataset = store, resolved, dataset

    def restore(self, replicate: Replicate) -> Replicate:
        """Set a replicate to its last checkpoint, unless the trial had other parameters then, and return it."""
        saved = self._store.latest_checkpoint(replicate.trial, replicate.seed)
        if saved is None or saved.record.get("parameters") != replicate.parameters:
            return replicate
        # The process that wrote the checkpoint may have died before it deleted the earlier ones.
        self._store.delete_earlier_checkpoints(replicate.trial, replicate.seed, saved.step)
        # JSON has the baseline as text.
        replicate.rows = [{**row, "trial": replicate.trial} for row in saved.record["reports"]]
        replicate.step = saved.step
        if STATE_FILE in saved.files:
            metadata = ModelMetadata.model_validate_json(saved.files[METADATA_FILE])
            replicate.snapshot = checkpoint.load_snapshot(metadata, saved.files[MODEL_FILE], saved.files[STATE_FILE])
        return replicate

    def write_checkpoint(
        self, replicate: Replicate, snapshot: Snapshot, rows: Sequence[dict[str, Any]], is_final: bool
    ) -> None:
        """Write a checkpoint with the reports so far; a final one has no optimiser state."""
        metadata = ModelMetadata(
            config=replicate.config,
            audio=self._resolved.audio,
            mean_db=self._dataset.audio.mean_db,
            std_db=self._dataset.audio.std_db,
            shared_factors=self._resolved.spec.shared_factors,
            seed=replicate.seed,
            step=snapshot.step,
            plugins=self._resolved.plugins,
        )
        files = {
            MODEL_FILE: checkpoint.model_bytes(snapshot),
            METADATA_FILE: metadata.model_dump_json(indent=1).encode(),
        }
        if not is_final:
            files[STATE_FILE] = checkpoint.state_bytes(snapshot)
        record = {"parameters": replicate.parameters, "reports": list(rows)}
        key = replicate.trial, replicate.seed, snapshot.step
        self._store.write_checkpoint(*key, files, record)
        level = logging.INFO if is_final else logging.DEBUG
        logger.log(level, "trial %s: checkpoint of seed %d written at step %d", *key)

    def write_latents(self, replicate: Replicate, mean_ND: Tensor, clips: Tensor, private: int) -> None:
        """Write posterior means of clips with the factors of the clips.

        Args:
            replicate: Replicate that encoded the clips.
            mean_ND: Means at the latent widths of the stack, whose private latents precede the shared ones.
            clips: Indices of the clips, [N].
            private: Number of private latents of the stack.
        """
        columns: dict[str, Any] = {"clip": clips.numpy()}
        index_CN = self._dataset.value_NC[clips.to(self._dataset.device)].T.tolist()
        for factor, index_N in zip(self._dataset.factors, index_CN, strict=True):
            columns[f"factor/{factor.name}"] = [factor.values[index] for index in index_N]
        latent = replicate.config.latent
        columns |= {f"private/{index}": mean_ND[:, index].numpy() for index in range(latent.private)}
        columns |= {f"shared/{index}": mean_ND[:, private + index].numpy() for index in range(latent.shared)}
        self._store.write_latents(replicate.trial, replicate.seed, columns)


class IOExecutor:
    """Runs jobs in threads. Jobs of one trial run one after another, in the order of submission."""

    def __init__(self) -> None:
        self._queues = [ThreadPoolExecutor(1, thread_name_prefix="store") for _ in range(_THREADS)]
        # Trials, jobs, and functions that receive the results.
        self._jobs: deque[tuple[TrialId, Future[Any], Callable[[Any], object] | None]] = deque()

    @property
    def is_busy(self) -> bool:
        """True while a job runs, or has not been collected."""
        return bool(self._jobs)

    def submit(
        self, trial: TrialId, job: Callable[[], _Result], on_done: Callable[[_Result], object] | None = None
    ) -> None:
        """Run a job for a trial. `collect` passes the result to `on_done`."""
        self._jobs.append((trial, self._queues[hash(trial) % _THREADS].submit(job), on_done))

    def cancel_callbacks(self, trial: TrialId) -> None:
        """Ignore the results of a trial's jobs so far. The jobs themselves still run."""
        self._jobs = deque((other, job, on_done if other != trial else None) for other, job, on_done in self._jobs)

    def collect(self, timeout_s: float = 0.0) -> None:
        """Pass on the results of finished jobs; wait for one if none is finished. Raise the error of a failed job."""
        if timeout_s and self._jobs:
            wait([future for _, future, _ in self._jobs], timeout=timeout_s, return_when="FIRST_COMPLETED")
        for _ in range(len(self._jobs)):
            trial, future, on_done = self._jobs.popleft()
            if not future.done():
                self._jobs.append((trial, future, on_done))
                continue
            result = future.result()
            if on_done:
                on_done(result)

    def finish(self) -> None:
        """Wait for all jobs, and collect them."""
        while self._jobs:
            self.collect(timeout_s=1.0)
