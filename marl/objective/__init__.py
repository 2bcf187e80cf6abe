"""What models are trained for, and the settings of each."""

from marl.objective.objective import objective, term_names
from marl.objective.spec import Batch, Ingredients, Lane, Program, check, lane_settings, passes_of

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
