"""What came out of a study, read from the store alone."""

from study.analysis.results import PLAIN_VAE, STATES, StudyResults, metric_columns, trial_name

__all__ = ["PLAIN_VAE", "STATES", "StudyResults", "metric_columns", "trial_name"]
