"""What models are trained for, and the settings of each."""

from marl.objective.ingredients import Ingredients, check, passes_of
from marl.objective.objective import objective, term_names
from marl.objective.program import Batch, Lane, Program, lane_settings

__all__ = [
    "Batch",
    "Ingredients",
    "Lane",
    "Program",
    "check",
    "lane_settings",
    "objective",
    "passes_of",
    "term_names",
]
