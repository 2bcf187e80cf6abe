"""Readers: classifiers that read factors from representations, and the information that they find."""

from marl.metrics.readers.information import READERS, information_share, usable_information
from marl.metrics.readers.reader import FittedReader, Reader

__all__ = ["READERS", "FittedReader", "Reader", "information_share", "usable_information"]
