"""The schema of a study's spec. Errors name the field, the rule and the received value.

This module imports neither torch nor Ray, so that a study is read quickly. `study.spec.resolve` checks the sections
that configure models.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from study.formatting import suggestion
from study.spec.loader import SpecError, find_problems, shown
from study.spec.names import STUDY_NAME, STUDY_NAME_RULE, is_study_name
from study.spec.sampler_name import SamplerName
from study.spec.space import Parameter, SpecScalar, parameter_order

MAX_TRIALS = 1_000_000
DEFAULT_DATA_KIND = "syntone"
_MAX_STEPS = 1_000_000_000
_MAX_SEED = 2**32 - 1  # of NumPy and Optuna
# Memory of a trainer with a stack of 8 small models. The trainers of a node share the spectrograms.
_GIB_PER_TRAINER = 1.0

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
    """Section of the spec. The string below a field is its description in the reference and in the JSON Schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _StrictSection(_Section):
    """Section whose numbers are neither text nor true or false."""

    model_config = ConfigDict(strict=True)


class TrainConfig(_StrictSection):
    """Budget of a replicate: steps, pairs in a batch, number of reports, and precision of the large layers."""

    steps: int = Field(6000, ge=1, le=_MAX_STEPS)
    """Number of training steps of a replicate."""
    batch_pairs: int = Field(128, ge=16, le=65536, multiple_of=16)
    """Number of pairs in a batch."""
    reports: int = Field(6, ge=1, le=1000)
    """Number of evenly spaced reports of a replicate; the last one is at the last step."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the large layers. `auto`: bfloat16 in compiled steps on devices that compute it faster."""

    @model_validator(mode="after")
    def _check_reports(self) -> "TrainConfig":
        if self.reports > self.steps:
            raise ValueError(f"reports must be at most steps ({self.steps}); got {self.reports}")
        return self


class SearchConfig(_StrictSection):
    """Sampler of the search, number of trials, and seed."""

    sampler: SamplerName = "tpe"
    """Method that proposes configurations: Optuna's `tpe`, `nsga2` (evolution), `gp` (Gaussian process), `qmc`
    (quasi-random) and `random`, `grid` (all cells), or a plug-in."""
    trials: int | None = Field(None, ge=1, le=MAX_TRIALS)
    """Number of trials. By default 100; the number of cells with `grid`."""
    seed: int = Field(0, ge=0, le=_MAX_SEED)
    """Seed of the sampler."""


class HalvingConfig(_StrictSection):
    """Early stopping: the steps of the first rung, and the factor between rungs."""

    reduction_factor: int = Field(3, ge=2, le=1000)
    """One trial of this number passes each rung, and the next rung has this number of times the steps."""
    min_steps: int = Field(600, ge=1)
    """Steps of the first rung, less than `train.steps`."""


_Count = Annotated[int, Field(ge=1, le=4096)]


class ResourcesConfig(_Section):
    """Limits of what a study uses: lanes, compilation, devices, trainers and memory for data."""

    lanes: _Count | Literal["auto"] = "auto"
    """Number of models that a stack trains as one program. `auto` chooses the number that trains the study soonest."""
    compile: bool | Literal["auto"] = "auto"
    """Compile training steps. `auto`: on a GPU, and for long studies on a CPU."""
    devices: _Count | Literal["auto"] = "auto"
    """Maximum number of GPUs, or of nodes without GPUs. `auto`: all of them."""
    trainers: _Count | Literal["auto"] = "auto"
    """Number of trainers on a node without GPUs. `auto`: one for each CPU, as memory and stacks allow."""
    data_gib: Annotated[float, Field(ge=0, le=1_000_000)] | Literal["auto"] = "auto"
    """Memory for data on each device, GiB. Data that needs more stays in the memory of the machine."""

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


def _allow_none(schema: dict[str, Any]) -> None:
    """Add the word `none` to the JSON Schema of a section that may be left out."""
    schema["anyOf"].append({"const": "none"})


class Spec(_Section):
    """Everything that defines a study: data, search space, objectives and budget.

    The sections `data` to `optimiser` are configurations of marl, or mappings with their fields;
    `study.spec.resolve.resolve` checks them and fills in their defaults.
    """

    name: str = Field(json_schema_extra={"pattern": f"^{STUDY_NAME}$"})
    """Name of the study, and of its folder in the store. 1 to 64 letters, digits, '.', '_' or '-'."""
    data: dict[str, Any]
    """Kind of the data, and how it is split."""
    audio: dict[str, Any] = {}
    """Clips and their log-mel spectrograms."""
    views: dict[str, Any] = {}
    """How the two views of a pair are made."""
    model: dict[str, Any] = {}
    """Kind and sizes of the network."""
    latent: dict[str, Any] = {}
    """Sizes of the private and the shared subspace, and the fusion of the shared latents."""
    loss: dict[str, Any] = {}
    """Weights of the reconstruction and KL terms."""
    contrast: dict[str, Any] = {}
    """Self-supervised loss on the latents."""
    independence: dict[str, Any] = {}
    """Weights of terms that make private and shared latents independent."""
    optimiser: dict[str, Any] = {}
    """Learning rate and warm-up of Adam."""
    train: TrainConfig = TrainConfig()
    """Budget of a replicate: steps, batch, reports and precision."""
    replicates: int = Field(3, ge=1, le=1000, strict=True)
    """Number of seeds of each trial."""
    first_seed: int = Field(0, ge=0, le=_MAX_SEED, strict=True)
    """First seed of each trial; the others follow it. It must be 0 with halving."""
    space: dict[str, Parameter] = Field(min_length=1)
    """Parameters that the search varies, by their path in a model's configuration, such as `loss.private.gamma`."""
    objectives: dict[str, Literal["min", "max"]] = Field(
        {"fidelity/log_mel_rmse_db": "min", "disentanglement/separation": "max"}, min_length=1
    )
    """Metrics that the search minimises or maximises. `marl-study metrics` lists them."""
    search: SearchConfig = SearchConfig()
    """Sampler and number of trials."""
    include: tuple[dict[str, SpecScalar], ...] = ()
    """Configurations that are tried first: a value for each active parameter of the space."""
    halving: HalvingConfig | None = Field(None, json_schema_extra=_allow_none)
    """Early stopping of trials, or `none`: successive halving compares trials at rungs and stops most of them."""
    post_training: tuple[Literal["test", "samples", "dci", "sound"], ...] = ("test", "samples", "dci", "sound")
    """Metrics computed after training for the front and trials near it. `test`: all metrics on test clips; `samples`:
    probes of samples; `dci` and `sound`: metrics that take seconds a model."""
    metrics: tuple[str, ...] = ()
    """Further metrics of final reports, each a plug-in: `my_metrics:gini` has the column `custom/gini`."""
    final_metrics: Literal["all", "objectives"] = "all"
    """Metrics of final reports and of `post_training: [test]`. `all`: those that many models share in one batch;
    `objectives`: those that the objectives need, which suits a short study. `rescore` computes the others."""
    resources: ResourcesConfig = ResourcesConfig()
    """How trainers use the machines: lanes, compilation, devices, trainers and memory for data."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not is_study_name(value):
            raise ValueError(f"{STUDY_NAME_RULE}; got {value!r}")
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
