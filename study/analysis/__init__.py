"""What came out of a study, read from the store alone."""

from study.analysis.aggregation import metric_columns
from study.analysis.results import STATES, StudyResults, trial_name

__all__ = ["STATES", "StudyResults", "metric_columns", "trial_name"]
