"""The objective that models are trained for, its terms, and the hyperparameters of each model."""

from marl.objective.objective import objective, term_names
from marl.objective.spec import (
    ActiveTerms,
    Batch,
    LaneHyperparameters,
    ObjectiveSpec,
    build_hyperparameters,
    check_compatible,
    extra_forward_passes,
)

__all__ = [
    "ActiveTerms",
    "Batch",
    "LaneHyperparameters",
    "ObjectiveSpec",
    "build_hyperparameters",
    "check_compatible",
    "extra_forward_passes",
    "objective",
    "term_names",
]
