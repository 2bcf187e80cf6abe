"""Many models as one: a stack of lanes that train together as a single program.

The parameters of all models are the rows of one matrix, every layer is one batched matmul, and one call makes one step
of every lane. A replicate (a configuration under a seed) takes a lane, trains there and gives it back; what it becomes
is a function of its configuration and seed alone.

K is lanes.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from marl.config import Config, ViewsConfig
from marl.data import BatchSource, Dataset, DeviceBatchSource, HostBatchSource, PairSampler
from marl.models import Architecture, LatentConfig, Parameters, build_network
from marl.objective import ActiveTerms, LaneHyperparameters, ObjectiveSpec, build_hyperparameters
from marl.stack.adam import FIRST_DECAY, SECOND_DECAY, Rates
from marl.stack.batched_models import Models
from marl.stack.compile_step import CheckedStep, compile_step
from marl.stack.flat_parameters import FlatParameters
from marl.stack.step import NOT_DIVERGED, LaneProgress, State, StepFunction

__all__ = ["Precision", "Snapshot", "Stack"]

Precision = Literal["float32", "bfloat16"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Snapshot:
    """State of a replicate from which any lane can resume training, on the CPU and without the padding of the stack.

    Attributes:
        step: Number of steps trained.
        parameters: Parameters of encoder and decoder.
        heads: Parameters of the heads.
        first_moment: First moments of Adam, of all parameters.
        second_moment: Second moments of Adam, of all parameters.
    """

    step: int
    parameters: Parameters
    heads: Parameters
    first_moment: Parameters
    second_moment: Parameters


class Stack:
    """Lanes that train together.

    Args:
        architecture: what all models of the stack have in common.
        lanes: how many; fixed, because sums are taken in another order at another width.
        dataset: the clips; training takes place on their device.
        views: how the views of a pair are made, for all replicates.
        batch_pairs: pairs of a batch, a multiple of 16.
        active_terms: what any replicate asks the objective for.
        precision: in which the large layers are trained; evaluation is float32 always.
        compiled: whether the step is compiled, see `marl.stack.compile_step`.

    Raises:
        ValueError: when the batch is not a multiple of 16 or the network does not fit the spectrograms.
    """

    def __init__(
        self,
        architecture: Architecture,
        lanes: int,
        dataset: Dataset,
        views: ViewsConfig,
        batch_pairs: int,
        active_terms: ActiveTerms,
        precision: Precision = "float32",
        compiled: bool = False,
    ) -> None:
        if batch_pairs < 16 or batch_pairs % 16:
            raise ValueError(f"batch_pairs must be a multiple of 16, got {batch_pairs}")

        def sampler_of(split: str, clips: Dataset) -> PairSampler:
            return PairSampler(clips, views.shared, split, views.scheme, views.augment)

        sampler = sampler_of("training", dataset)
        self.network = build_network(architecture, active_terms.heads, sampler.groups)
        self.lanes = lanes
        self.dataset = dataset
        self.batch_pairs = batch_pairs
        training_clips = len(dataset.splits["training"])
        self.objective_spec = ObjectiveSpec(
            self.network, active_terms, training_clips, sampler.groups, _DTYPES[precision]
        )
        device = dataset.device
        narrowest = LatentConfig.model_validate({"private": 1, "shared": 1, "fusion": active_terms.fusions[0]})
        idle = build_hyperparameters(self.objective_spec, Config(latent=narrowest))
        self._state = State(
            parameters=FlatParameters(self.network.shapes, lanes, device),
            first_moments=FlatParameters(self.network.shapes, lanes, device),
            second_moments=FlatParameters(self.network.shapes, lanes, device),
            hyperparameters=LaneHyperparameters(*(torch.stack([field] * lanes).to(device) for field in idle)),
            progress=LaneProgress(
                seed=torch.zeros(lanes, dtype=torch.int64, device=device),
                step=torch.zeros(lanes, dtype=torch.int64, device=device),
                active=torch.zeros(lanes, dtype=torch.int64, device=device),
                diverged=torch.full((lanes,), NOT_DIVERGED, dtype=torch.int64, device=device),
                learning_rate=torch.zeros(lanes, 1, device=device),
                warmup=torch.ones(lanes, 1, device=device),
                decay_power=torch.ones(lanes, 2, dtype=torch.float64, device=device),
            ),
            rates=Rates(torch.zeros(lanes, 1, device=device), torch.zeros(lanes, 1, device=device)),
        )
        self.models = Models(
            self.objective_spec,
            dataset,
            sampler_of("validation", dataset),
            batch_pairs,
            self._state.parameters.shaped,
            self._state.hyperparameters,
        )
        """The models in all lanes, as they are at any time."""
        self._configs: list[Config | None] = [None] * lanes
        log_mels = dataset.log_mels
        if not log_mels.is_prepared and precision == "bfloat16":
            # Standardised log-mels have a range of some deviations: float16 keeps more of them than bfloat16.
            log_mels = log_mels.to(torch.float16)
        self._source: BatchSource
        if log_mels.is_resident:
            self._source = DeviceBatchSource(log_mels, sampler, lanes, batch_pairs)
        else:
            self._source = HostBatchSource(log_mels, sampler_of("training", dataset.on_cpu()), lanes, batch_pairs)
        self._seed_K = torch.zeros(lanes, dtype=torch.int64)
        self._step_K = torch.zeros(lanes, dtype=torch.int64)
        """The progress of the lanes, as this side knows it without asking the device."""
        self._step_function = StepFunction(self.objective_spec, sampler, self._source, batch_pairs)
        self._compiled = compiled
        self._step: CheckedStep | None = None

    @property
    def free_lanes(self) -> list[int]:
        """Lanes that no replicate occupies."""
        return [lane for lane, config in enumerate(self._configs) if config is None]

    def attach(self, config: Config, seed: int, snapshot: Snapshot | None = None) -> int:
        """Give a replicate a lane, from its beginning or from a snapshot; returns the lane.

        Raises:
            ValueError: when no lane is free, or the model does not fit the stack, or asks for what it does not compute.
        """
        if not self.free_lanes:
            raise ValueError(f"all {self.lanes} lanes are taken")
        lane = self.free_lanes[0]
        hyperparameters = build_hyperparameters(self.objective_spec, config)
        if snapshot is None:
            initial = self.network.initial_parameters(
                config.latent, seed, self.dataset.device, ActiveTerms.of(config).heads
            )
            zeros = {name: torch.zeros_like(value) for name, value in initial.items()}
            rows, step = [initial, zeros, zeros], 0
        else:
            mask = self.network.mask(config.latent)
            parts = (snapshot.parameters | snapshot.heads, snapshot.first_moment, snapshot.second_moment)
            rows, step = [self.network.pad(part, mask) for part in parts], snapshot.step
        self._configs[lane] = config
        for field_K, value in zip(self._state.hyperparameters, hyperparameters, strict=True):
            field_K[lane] = value
        for views, part in zip(self._parts(), rows, strict=True):
            for name, view in views.items():
                view[lane] = part[name]
        progress = self._state.progress
        progress.step[lane] = self._step_K[lane] = step
        progress.seed[lane] = self._seed_K[lane] = seed
        progress.active[lane] = 1
        progress.diverged[lane] = NOT_DIVERGED
        progress.learning_rate[lane] = config.optimiser.learning_rate
        progress.warmup[lane] = max(1, config.optimiser.warmup_steps)
        for column, decay in enumerate((FIRST_DECAY, SECOND_DECAY)):
            power = 1.0
            for _ in range(step):
                power *= decay
            progress.decay_power[lane, column] = power
        return lane

    def detach(self, lane: int) -> None:
        """Free a lane."""
        self._occupant(lane)
        self._configs[lane] = None
        self._state.progress.active[lane] = 0
        self._state.progress.learning_rate[lane] = 0.0
        for views in self._parts():
            for view in views.values():
                view[lane] = 0.0

    def snapshot(self, lane: int) -> Snapshot:
        """What the replicate in a lane is now."""
        config = self._occupant(lane)
        mask, heads = self.network.mask(config.latent), ActiveTerms.of(config).heads
        parts = []
        for views in self._parts():
            cropped = self.network.crop({name: view[lane] for name, view in views.items()}, mask, heads)
            parts.append({name: value.to("cpu", copy=True).contiguous() for name, value in cropped.items()})
        parameters, first_moment, second_moment = parts
        specs = self.network.parameter_specs
        own, of_heads = (
            {name: value for name, value in parameters.items() if (specs[name].head is not None) == is_head}
            for is_head in (False, True)
        )
        return Snapshot(int(self._state.progress.step[lane]), own, of_heads, first_moment, second_moment)

    def step(self) -> None:
        """One step of every occupied lane. Idle lanes are computed too and changed by nothing."""
        after_K = self._step_K + torch.tensor([int(config is not None) for config in self._configs])
        if self._step is None:
            if self._compiled:  # the compiled step is checked on the same clips in every stack
                lane_K = torch.arange(self.lanes)
                self._source.prefetch(lane_K, lane_K, lane_K)
            self._step = compile_step(self._step_function, self._state, self._compiled)
        self._source.prefetch(self._seed_K, self._step_K, after_K)
        self._step.run()
        self._step_K = after_K

    @property
    def checked_step(self) -> CheckedStep | None:
        """The form of the step that trains; None before the first step."""
        return self._step

    def steps(self) -> list[int]:
        """Steps trained by lane; zero where idle."""
        return (self._state.progress.step * self._state.progress.active).tolist()

    def diverged(self) -> dict[int, int]:
        """For each lane whose loss was not finite, the step at which that happened first."""
        return {
            lane: step
            for lane, step in enumerate(self._state.progress.diverged.tolist())
            if step != NOT_DIVERGED and self._configs[lane] is not None
        }

    def synchronise(self) -> None:
        """Wait until the device has done all that it was told, so that the progress read next is right."""
        if self.dataset.device.type == "cuda":
            torch.cuda.synchronize(self.dataset.device)

    def _parts(self) -> tuple[Parameters, Parameters, Parameters]:
        """Parameters and moments of all lanes."""
        state = self._state
        return state.parameters.shaped, state.first_moments.shaped, state.second_moments.shaped

    def _occupant(self, lane: int) -> Config:
        config = self._configs[lane]
        if config is None:
            raise ValueError(f"lane {lane} is not occupied")
        return config
