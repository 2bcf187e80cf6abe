"""The schema of a study's spec. Errors name the field, the rule and the received value.

This module imports neither torch nor Ray, so that a study is read quickly. `study.spec.resolve` checks the sections
that configure models.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from study.errors import UserError
from study.formatting import suggestion
from study.spec.loader import SpecError, find_problems, shown
from study.spec.space import Parameter, SpecScalar, parameter_order

MAX_TRIALS = 1_000_000
_MAX_STEPS = 1_000_000_000
_MAX_SEED = 2**32 - 1  # of NumPy and Optuna
# Memory of a trainer with a stack of 8 small models. The trainers of a node share the spectrograms.
_GIB_PER_TRAINER = 1.0

_STUDY_NAME_RULE = "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"


def is_study_name(name: str) -> bool:
    """Return whether a study can have this name. No such name is a path that leads out of the store."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is not None


def study_name(text: str) -> str:
    """Return the name of a study without the slash that shells complete; raise a UserError if it is not a name."""
    name = text.removesuffix("/")
    if not is_study_name(name):
        raise UserError(f"name of a study: {_STUDY_NAME_RULE}; got {text!r}")
    return name


class Baseline(StrEnum):
    """Models that the trials of a study are compared with. They are not points of the search space."""

    PLAIN_VAE = "plain_vae"  # trained like a trial
    UNTRAINED = "untrained"

    @property
    def label(self) -> str:
        """Name of the baseline in a chart or a table."""
        return {Baseline.PLAIN_VAE: "plain VAE", Baseline.UNTRAINED: "untrained"}[self]


TrialId = int | Baseline
"""Number of a trial, or a baseline that is trained like one."""

_LOWER_IS_BETTER = ("fidelity/", "loss/", "leakage/", "linear_leakage/")
_GROUPS_BY_FACTOR: tuple[str, ...] = (
    "information",
    "accuracy",
    "r2",
    "linear_information",
    "linear_accuracy",
    "linear_r2",
)
_GROUPS_BY_FACTOR += ("probe", "sampled_probe", "nmi", "corrected_nmi")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _StrictSection(_Section):
    """Section whose numbers are neither text nor true or false."""

    model_config = ConfigDict(strict=True)


class TrainConfig(_StrictSection):
    """Budget of a replicate: steps, pairs in a batch, number of reports, and precision of the large layers."""

    steps: int = Field(6000, ge=1, le=_MAX_STEPS)
    batch_pairs: int = Field(128, ge=16, le=65536, multiple_of=16)
    reports: int = Field(6, ge=1, le=1000)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _check_reports(self) -> "TrainConfig":
        if self.reports > self.steps:
            raise ValueError(f"reports must be at most steps ({self.steps}); got {self.reports}")
        return self


class SearchConfig(_StrictSection):
    """Sampler of the search, number of trials, and seed."""

    sampler: Literal["tpe", "nsga2", "gp", "qmc", "random", "grid"] = "tpe"
    trials: int | None = Field(None, ge=1, le=MAX_TRIALS)
    seed: int = Field(0, ge=0, le=_MAX_SEED)


class HalvingConfig(_StrictSection):
    """Early stopping: the steps of the first rung, and the factor between rungs."""

    reduction_factor: int = Field(3, ge=2, le=1000)
    min_steps: int = Field(600, ge=1)


class ResourcesConfig(_Section):
    """Limits of what a study uses: lanes, compilation, devices, trainers and memory for data."""

    lanes: int | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    devices: int | Literal["auto"] = "auto"
    trainers: int | Literal["auto"] = "auto"
    data_gib: float | Literal["auto"] = "auto"

    @field_validator("*", mode="before")
    @classmethod
    def _check_range(cls, value: Any, info: ValidationInfo) -> Any:
        """Check type and range before Pydantic does, whose errors of alternatives are long."""
        if value == "auto":
            return value
        if info.field_name == "compile":
            if not isinstance(value, bool):
                raise ValueError(f"must be true, false or auto; got {shown(value)}")
            return value
        low, high = (0, 1e6) if info.field_name == "data_gib" else (1, 4096)
        types = (int, float) if info.field_name == "data_gib" else int
        if isinstance(value, bool) or not isinstance(value, types):
            kind = "a number" if info.field_name == "data_gib" else "an integer"
            raise ValueError(f"must be {kind}, or auto; got {shown(value)}")
        if not low <= value <= high:
            raise ValueError(f"must be at least {low}, at most {high:,.0f}, or auto; got {shown(value)}")
        return value


class Spec(_Section):
    """Everything that defines a study: data, search space, objectives and budget.

    The sections `data` to `optimiser` are configurations of marl, or mappings with their fields;
    `study.spec.resolve.resolve` checks them and fills in their defaults.

    Attributes:
        name: Name of the study, and of its folder in the store.
        train: Steps, pairs in a batch, evenly spaced reports, and precision of the large layers.
        replicates: Number of seeds of each trial, the first of which is `first_seed`.
        space: Parameters that the search varies, by their path in a model's configuration.
        include: Configurations that are tried first.
        halving: Early stopping.
        post_training: Metrics computed after training for the front and trials near it: all metrics on test clips,
            probes of samples, and metrics that take seconds a model (`marl.evaluation.post_training`).
        final_metrics: Metrics of final reports and of `post_training: [test]`: `all` that many models share in one
            batch, or only those that the `objectives` need, which suits a short study. `rescore` computes the others.
        resources: Lanes of a stack, compilation, number of devices, trainers on a node without GPUs, and memory for
            data on each device.
    """

    name: str
    data: dict[str, Any]
    audio: dict[str, Any] = {}
    views: dict[str, Any] = {}
    model: dict[str, Any] = {}
    latent: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    contrast: dict[str, Any] = {}
    independence: dict[str, Any] = {}
    optimiser: dict[str, Any] = {}
    train: TrainConfig = TrainConfig()
    replicates: int = Field(3, ge=1, le=1000, strict=True)
    first_seed: int = Field(0, ge=0, le=_MAX_SEED, strict=True)
    space: dict[str, Parameter] = Field(min_length=1)
    objectives: dict[str, Literal["min", "max"]] = Field(
        {"fidelity/log_mel_rmse_db": "min", "disentanglement/separation": "max"}, min_length=1
    )
    search: SearchConfig = SearchConfig()
    include: tuple[dict[str, SpecScalar], ...] = ()
    halving: HalvingConfig | None = None
    post_training: tuple[Literal["test", "samples", "dci", "sound"], ...] = ("test", "samples", "dci", "sound")
    final_metrics: Literal["all", "objectives"] = "all"
    resources: ResourcesConfig = ResourcesConfig()

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not is_study_name(value):
            raise ValueError(f"{_STUDY_NAME_RULE}; got {value!r}")
        return value

    @field_validator(
        "data", "audio", "views", "model", "latent", "loss", "contrast", "independence", "optimiser", mode="before"
    )
    @classmethod
    def _read_config(cls, value: Any) -> Any:
        """Take a configuration of marl for its fields."""
        return value.model_dump(mode="json") if isinstance(value, BaseModel) else value

    @field_validator("halving", mode="before")
    @classmethod
    def _read_none(cls, value: Any) -> Any:
        if value == "none":
            return None
        if value is None or isinstance(value, Mapping | HalvingConfig):
            return value
        raise ValueError(f"must have the fields reduction_factor and min_steps, or be none; got {value!r}")

    @model_validator(mode="after")
    def _check_halving(self) -> "Spec":
        if self.halving and self.halving.min_steps >= self.train.steps:
            raise ValueError(
                f"halving.min_steps must be less than train.steps ({self.train.steps}); got {self.halving.min_steps}"
            )
        if self.halving and self.first_seed:
            raise ValueError(f"first_seed must be 0 with halving, which compares first seeds; got {self.first_seed}")
        return self

    @model_validator(mode="after")
    def _check_conditions(self) -> "Spec":
        for name, parameter in self.space.items():
            for other, values in parameter.when.items():
                if other not in self.space:
                    known = suggestion(other, self.space)
                    raise ValueError(f"space.{name}.when: {other!r} must be a parameter of the space; {known}")
                for value in values:
                    if not self.space[other].contains(value):
                        raise ValueError(f"space.{name}.when: {other} cannot have the value {value!r}")
        parameter_order(self.space)
        return self

    @property
    def shared_factors(self) -> tuple[str, ...]:
        """Factors that both views of a pair share; the spec must be resolved."""
        return tuple(self.views["shared"])

    @property
    def seeds(self) -> range:  # noqa: D102
        return range(self.first_seed, self.first_seed + self.replicates)

    def direction(self, metric: str) -> Literal["min", "max"]:
        """Return the better direction of a metric: for an objective the one that the spec gives."""
        return self.objectives.get(metric) or self.usual_direction(metric)

    def usual_direction(self, metric: str) -> Literal["min", "max"]:
        """Return the better direction of a metric, whether or not it is an objective; the spec must be resolved.

        Lower is better for errors, losses and the information of the wrong subspace about a factor.
        """
        metric = metric.removeprefix("test/")
        if metric.startswith(_LOWER_IS_BETTER):
            return "min"
        group, _, rest = metric.partition("/")
        if group in _GROUPS_BY_FACTOR:
            factor, _, subspace = rest.partition("/")
            wrong = "private" if factor in self.shared_factors else "shared"
            return "min" if subspace == wrong else "max"
        return "max"

    def budgets(self) -> tuple[int, ...]:
        """Return the steps at which trials report: evenly spaced, and the rungs; the last is the full budget."""
        even = {round(self.train.steps * (number + 1) / self.train.reports) for number in range(self.train.reports)}
        return tuple(sorted(even | set(self.rungs())))

    def trainers(self, stacks: int, cpus: float, memory_gib: float = math.inf) -> int:
        """Return the number of trainers on a node without GPUs: by default one for each CPU, as memory allows.

        A trainer there has one thread: threads that compute one step together leave half of the second CPU unused
        (docs/performance.md). There are no more trainers than stacks that the replicates of the study fill.
        """
        if self.resources.trainers != "auto":
            return self.resources.trainers
        return max(1, min(int(min(cpus, memory_gib / _GIB_PER_TRAINER)), stacks))

    def rungs(self) -> tuple[int, ...]:
        """Return the steps at which halving compares trials and stops most of them; empty without halving."""
        rungs: list[int] = []
        if self.halving:
            step = self.halving.min_steps
            while step < self.train.steps:
                rungs.append(step)
                step *= self.halving.reduction_factor
        return tuple(rungs)

    def expected_steps(self, reached: int = 0) -> int:
        """Return the expected number of steps that a trial still takes, summed over its replicates.

        One trial in `reduction_factor` is assumed to pass each rung. `reached` is the step of the first seed.
        """
        expected, probability = 0.0, 1.0
        for rung in (rung for rung in self.rungs() if rung > reached):
            expected += probability * (rung - reached)
            probability /= self.halving.reduction_factor if self.halving else 1
            reached = rung
        return round(expected + probability * (self.train.steps - reached + (self.replicates - 1) * self.train.steps))


def parse_spec(content: Mapping[str, Any], source: str) -> Spec:
    """Return the spec with these fields; raise a SpecError that names the source if one breaks a rule."""
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        raise SpecError(problem._replace(source=source) for problem in find_problems(error, Spec)) from None
