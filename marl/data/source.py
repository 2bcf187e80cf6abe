"""What a dataset offers that must be prepared before anything trains on it: which clips there are, and each as sound.

One file a kind (`nsynth`, `folder`, `soundfont`, `phrases`) has its configuration, a subclass of `Sounds`, and its
`Source`. `marl.data.preparation` makes spectrograms of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marl.settings import Settings

__all__ = ["Entry", "Sounds", "Source", "Unusable", "Value"]

Value = str | float | None
"""What a factor of a clip is: a word, a number, or not known."""


class Sounds(Settings):
    """The settings of any dataset that must be prepared.

    Attributes:
        split: what never lies in two splits: `clip`; `combination`, all clips alike in every factor; `group`, all that
            was cut from one recording, or has one entry in the group column; or the name of a factor, for example
            `instrument`, so that what is measured are sounds of instruments that no model was trained on.
        content: what the set was prepared from, as it was when the study began: the name of the prepared set in the
            store. It is filled in by whoever prepares it.
    """

    split: str = "clip"
    content: str | None = Field(None, pattern="^[0-9a-f]{32}$")


@dataclass(frozen=True)
class Entry:
    """A clip to be.

    Attributes:
        name: what a report calls it; no other of the set has it.
        values: of each factor, in the order of `Source.factor_names`.
        group: what it was cut from, or belongs to.
        place: where its source finds it.
    """

    name: str
    values: tuple[Value, ...]
    group: str
    place: tuple[Any, ...] = ()


class Unusable(Exception):  # noqa: N818  # it is no fault of the program
    """Why an entry gives no clip, in a few words for a report: `silent`, `cannot be decoded: ...`."""


class Source(Protocol):
    """Where the clips of a dataset come from. It is made from a configuration alone, on any machine that has the files.

    Attributes:
        factor_names: in the order of `Entry.values`.
    """

    factor_names: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that the files hold from which the clips are made."""

    def entries(self) -> Sequence[Entry]:
        """All clips to be, always in the same order.

        Raises:
            ValueError: when what describes them, such as a table of factors, is not what it must be.
            OSError: when a file that describes them cannot be read.
        """

    def waveforms(
        self, entries: Sequence[Entry], sample_rate: int, samples: int
    ) -> Iterable[NDArray[np.float32] | Unusable]:
        """Each of some entries, in their order, as mono float32 [samples], full scale at one.

        What an entry gives depends on nothing but the entry, so that any share of them can be made anywhere.
        """
