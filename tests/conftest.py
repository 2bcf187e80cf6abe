"""What tests of several folders share: reference values and small data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from marl.audio import AudioConfig
from marl.data import Dataset, SynTone, build

REFERENCES = Path(__file__).parent / "references"


@pytest.fixture(scope="session")
def reference() -> Callable[[str, str], dict[str, np.ndarray]]:
    """Arrays of one case of a reference file, by name."""

    def load(file: str, case: str) -> dict[str, np.ndarray]:
        arrays = np.load(REFERENCES / file)
        prefix = f"{case}/"
        return {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}

    return load


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """640 clips of SynTone: 4 timbres, 40 frequencies, 4 amplitudes."""
    return build(SynTone(frequencies=40, amplitudes=4), AudioConfig(), torch.device("cpu"))
