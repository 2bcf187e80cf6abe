"""What came out of a study, read from the store alone."""

from study.analysis.results import STATES, StudyResults, metric_columns, trial_name

__all__ = ["STATES", "StudyResults", "metric_columns", "trial_name"]
