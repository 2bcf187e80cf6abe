"""One model of a trial, and what the store keeps of it: checkpoints, and a sample of latents."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from marl import checkpoint
from marl.checkpoint import DESCRIPTION_FILE, MODEL_FILE, STATE_FILE, Description
from marl.config import Config
from marl.data import Dataset
from marl.stack import Snapshot
from study.spec import Scalar, Spec
from study.spec.model_config import audio_of
from study.store import StudyStore

__all__ = ["Background", "Replicate", "ReplicateFiles"]


@dataclass
class Replicate:
    """A configuration under a seed, on its way.

    Attributes:
        trial: whose it is.
        seed: of the replicate.
        config: what is trained.
        parameters: of the trial.
        step: steps trained.
        snapshot: where to go on from, while it has no lane; none at the beginning.
        rows: its reports so far.
    """

    trial: int
    seed: int
    config: Config
    parameters: dict[str, Scalar]
    step: int = 0
    snapshot: Snapshot | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


class ReplicateFiles:
    """Reads and writes replicates. It changes none but by `restore`, so other threads may write while one trains.

    Args:
        store: the study.
        spec: of the study.
        dataset: the clips.
    """

    def __init__(self, store: StudyStore, spec: Spec, dataset: Dataset) -> None:
        self._store = store
        self._audio = audio_of(spec)
        self._shared = spec.shared_factors
        self._dataset = dataset

    def restore(self, replicate: Replicate) -> Replicate:
        """The replicate at its last checkpoint, if it has one of the same configuration."""
        found = self._store.latest_checkpoint(replicate.trial, replicate.seed)
        if found is None or found.record.get("parameters") != replicate.parameters:
            return replicate
        # Whoever wrote it may have died before this.
        self._store.delete_earlier_checkpoints(replicate.trial, replicate.seed, found.step)
        replicate.rows = list(found.record["reports"])
        replicate.step = found.step
        if STATE_FILE in found.files:
            description = Description.model_validate_json(found.files[DESCRIPTION_FILE])
            replicate.snapshot = checkpoint.restore(description, found.files[MODEL_FILE], found.files[STATE_FILE])
        return replicate

    def write_checkpoint(
        self, replicate: Replicate, snapshot: Snapshot, rows: Sequence[dict[str, Any]], is_final: bool
    ) -> None:
        """Write a checkpoint with the reports up to it; a final one needs no state of the optimiser."""
        description = Description(
            config=replicate.config,
            audio=self._audio,
            mean_db=self._dataset.audio.mean_db,
            std_db=self._dataset.audio.std_db,
            shared_factors=self._shared,
            seed=replicate.seed,
            step=snapshot.step,
        )
        files = {
            MODEL_FILE: checkpoint.model_bytes(snapshot),
            DESCRIPTION_FILE: description.model_dump_json(indent=1).encode(),
        }
        if not is_final:
            files[STATE_FILE] = checkpoint.state_bytes(snapshot)
        record = {"parameters": replicate.parameters, "reports": list(rows)}
        self._store.write_checkpoint(replicate.trial, replicate.seed, snapshot.step, files, record)

    def write_latents(self, replicate: Replicate, mean_ND: Tensor, clips: Tensor, private: int) -> None:
        """Write means of clips with the clips' factors.

        Args:
            replicate: whose they are.
            mean_ND: means at the widths of the stack.
            clips: which they are of.
            private: where the shared latents begin.
        """
        columns: dict[str, Any] = {"clip": clips.numpy()}
        for column, name in enumerate(self._dataset.factor_names):
            values = self._dataset.factors[column].values
            indices = self._dataset.value_NC[clips.to(self._dataset.device), column]
            columns[f"factor/{name}"] = [values[index] for index in indices.tolist()]
        for subspace, first, size in (
            ("private", 0, replicate.config.latent.private),
            ("shared", private, replicate.config.latent.shared),
        ):
            for index in range(size):
                columns[f"{subspace}/{index}"] = mean_ND[:, first + index].numpy()
        self._store.write_latents(replicate.trial, replicate.seed, columns)


_Result = TypeVar("_Result")

# Requests to a bucket wait for the network most of the time.
_THREADS = 8


class Background:
    """Jobs in threads of their own. Those of one trial are done one after the other, in the order of their coming."""

    def __init__(self) -> None:
        self._queues = [ThreadPoolExecutor(1, thread_name_prefix="store") for _ in range(_THREADS)]
        self._jobs: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way, or one that is done was not collected yet."""
        return bool(self._jobs)

    def submit(self, trial: int, job: Callable[[], _Result], then: Callable[[_Result], None]) -> None:
        """Do a job for a trial; `collect` will call `then` with what came of it, in the caller's thread."""
        self._jobs.append((self._queues[trial % _THREADS].submit(job), then))

    def collect(self, within_s: float = 0.0) -> None:
        """Take what is done, waiting so long for the first if there is none.

        Raises:
            Exception: whatever a job raised.
        """
        if not self._jobs:
            return
        if within_s:
            wait([future for future, _ in self._jobs], timeout=within_s, return_when="FIRST_COMPLETED")
        for _ in range(len(self._jobs)):
            future, then = self._jobs.popleft()
            if future.done():
                then(future.result())
            else:
                self._jobs.append((future, then))

    def finish(self) -> None:
        """Wait for all jobs, and collect them."""
        while self._jobs:
            self.collect(within_s=1.0)
