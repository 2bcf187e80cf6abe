"""A stack: lanes that train together as one program.

The parameters of all models are the rows of one matrix, each layer is one batched matmul, and one call makes one step
of all lanes. A replicate (a configuration and a seed) occupies a lane while it trains. Its result depends on
configuration and seed alone.
"""

import math
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


@dataclass(frozen=True)
class Snapshot:
    """State of a replicate from which any lane can resume training, on the CPU and without the padding of the stack."""

    step: int  # number of trained steps
    parameters: Parameters  # of encoder and decoder
    heads: Parameters
    first_moment: Parameters  # of Adam, for all parameters
    second_moment: Parameters


class Stack:
    """Lanes that train together.

    Args:
        architecture: Sizes that all models of the stack have in common.
        lanes: Number of lanes; fixed, because the order of sums depends on it.
        dataset: Clips; the stack trains on their device.
        views: How the views of a pair are made, for all replicates.
        batch_pairs: Pairs of a batch, a multiple of 16.
        active_terms: Terms of the objective that any replicate uses.
        precision: Precision of the large layers in training. Evaluation is always float32.
        compiled: Whether the step is compiled, see `marl.stack.compile_step`.

    Raises:
        ValueError: If the batch is not a multiple of 16 or the network does not fit the spectrograms.
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
        self.lanes, self.dataset, self.batch_pairs = lanes, dataset, batch_pairs
        self.objective_spec = ObjectiveSpec(self.network, active_terms, sampler.groups, getattr(torch, precision))
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
        """Current models of all lanes."""
        self._configs: list[Config | None] = [None] * lanes
        log_mels = dataset.log_mels
        if not log_mels.is_prepared and precision == "bfloat16":
            # Standardised log-mels are small numbers, for which float16 is more precise than bfloat16.
            log_mels = log_mels.to(torch.float16)
        self._source: BatchSource
        if log_mels.is_resident:
            self._source = DeviceBatchSource(log_mels, sampler, lanes, batch_pairs)
        else:
            self._source = HostBatchSource(log_mels, sampler_of("training", dataset.on_cpu()), lanes, batch_pairs)
        self._seed_K = torch.zeros(lanes, dtype=torch.int64)
        self._step_K = torch.zeros(lanes, dtype=torch.int64)
        """Copy of the progress of the lanes on the CPU, so that it is known without waiting for the device."""
        self._step_function = StepFunction(self.objective_spec, sampler, self._source, batch_pairs)
        self._compiled = compiled
        self.checked_step: CheckedStep | None = None
        """Step in use, with its form; None before the first step."""

    @property
    def free_lanes(self) -> list[int]:
        """Lanes that no replicate occupies."""
        return [lane for lane, config in enumerate(self._configs) if config is None]

    def attach(self, config: Config, seed: int, snapshot: Snapshot | None = None) -> int:
        """Give a replicate a lane, from its initial parameters or from a snapshot, and return the lane.

        Raises:
            ValueError: If no lane is free, or the stack is too small for the model or does not compute its terms.
        """
        if not self.free_lanes:
            raise ValueError(f"all {self.lanes} lanes are taken")
        lane = self.free_lanes[0]
        hyperparameters = build_hyperparameters(self.objective_spec, config)
        if snapshot is None:
            heads = ActiveTerms.of(config).heads
            initial = self.network.initial_parameters(config.latent, seed, self.dataset.device, heads)
            zeros = {name: torch.zeros_like(value) for name, value in initial.items()}
            rows, step = [initial, zeros, zeros], 0
        else:
            mask = self.network.mask(config.latent)
            parts = (snapshot.parameters | snapshot.heads, snapshot.first_moment, snapshot.second_moment)
            rows, step = [self.network.pad(part, mask) for part in parts], snapshot.step
        self._configs[lane] = config
        for field_K, value in zip(self._state.hyperparameters, hyperparameters, strict=True):
            field_K[lane] = value
        for part, row in zip(self._state.parts, rows, strict=True):
            for name, value_K in part.shaped.items():
                value_K[lane] = row[name]
        progress = self._state.progress
        progress.step[lane] = self._step_K[lane] = step
        progress.seed[lane] = self._seed_K[lane] = seed
        progress.active[lane] = 1
        progress.diverged[lane] = NOT_DIVERGED
        progress.learning_rate[lane] = config.optimiser.learning_rate
        progress.warmup[lane] = max(1, config.optimiser.warmup_steps)
        for column, decay in enumerate((FIRST_DECAY, SECOND_DECAY)):
            progress.decay_power[lane, column] = math.prod([decay] * step)
        return lane

    def detach(self, lane: int) -> None:
        """Free a lane."""
        self._occupant(lane)
        self._configs[lane] = None
        self._state.progress.active[lane] = 0
        self._state.progress.learning_rate[lane] = 0.0
        for part in self._state.parts:
            part.matrix[lane] = 0.0

    def snapshot(self, lane: int) -> Snapshot:
        """Return the current state of the replicate in a lane."""
        config = self._occupant(lane)
        mask, heads = self.network.mask(config.latent), ActiveTerms.of(config).heads
        rows = []
        for part in self._state.parts:
            cropped = self.network.crop({name: value_K[lane] for name, value_K in part.shaped.items()}, mask, heads)
            rows.append({name: value.to("cpu", copy=True).contiguous() for name, value in cropped.items()})
        parameters, first_moment, second_moment = rows
        specs = self.network.parameter_specs
        of_heads = {name: parameters.pop(name) for name in list(parameters) if specs[name].head is not None}
        return Snapshot(int(self._state.progress.step[lane]), parameters, of_heads, first_moment, second_moment)

    def prepare(self) -> CheckedStep:
        """Return the step; the first call compiles it if the stack is compiled."""
        if self.checked_step is None:
            if self._compiled:  # the compiled step is checked on the same clips in every stack
                lane_K = torch.arange(self.lanes)
                self._source.prefetch(lane_K, lane_K, lane_K)
            self.checked_step = compile_step(self._step_function, self._state, self._compiled)
        return self.checked_step

    def step(self) -> None:
        """Train all occupied lanes for one step."""
        after_K = self._step_K + torch.tensor([int(config is not None) for config in self._configs])
        step = self.prepare()
        self._source.prefetch(self._seed_K, self._step_K, after_K)
        step.run()
        self._step_K = after_K

    def steps(self) -> list[int]:
        """Return the number of trained steps of each lane; zero for idle lanes."""
        return (self._state.progress.step * self._state.progress.active).tolist()

    def diverged(self) -> dict[int, int]:
        """Return the lanes with a non-finite loss, each with the first step at which it occurred."""
        return {
            lane: step
            for lane, step in enumerate(self._state.progress.diverged.tolist())
            if step != NOT_DIVERGED and self._configs[lane] is not None
        }

    def synchronise(self) -> None:
        """Wait until the device has completed all steps."""
        if self.dataset.device.type == "cuda":
            torch.cuda.synchronize(self.dataset.device)

    def _occupant(self, lane: int) -> Config:
        config = self._configs[lane]
        if config is None:
            raise ValueError(f"lane {lane} is not occupied")
        return config
