"""Readers: classifiers that read factors from representations, and the information that they find."""

from marl.metrics.readers.calibration import class_prior
from marl.metrics.readers.information import (
    balanced_accuracy,
    explained_variance,
    information_share,
    information_standard_error,
    usable_information,
)
from marl.metrics.readers.reader import READERS, Reader

__all__ = [
    "READERS",
    "Reader",
    "balanced_accuracy",
    "class_prior",
    "explained_variance",
    "information_share",
    "information_standard_error",
    "usable_information",
]
