"""What models are trained for, and the settings of each."""

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
    "Batch",
    "ActiveTerms",
    "LaneHyperparameters",
    "ObjectiveSpec",
    "check_compatible",
    "build_hyperparameters",
    "objective",
    "extra_forward_passes",
    "term_names",
]
