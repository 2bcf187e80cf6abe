"""What came out of a study, read from the store alone."""

from study.results.study_results import (
    PLAIN_VAE,
    STATES,
    StudyResults,
    mean_over_replicates,
    means_over_replicates,
    metric_columns,
)

__all__ = [
    "PLAIN_VAE",
    "STATES",
    "StudyResults",
    "mean_over_replicates",
    "means_over_replicates",
    "metric_columns",
]
