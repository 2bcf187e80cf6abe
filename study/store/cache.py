"""What a process that reads a study again and again keeps of it, so that it reads and computes only what is new."""

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

if TYPE_CHECKING:
    from study.analysis.aggregation import Aggregates  # which are computed from what is read

__all__ = ["StudyCache"]

_Value = TypeVar("_Value")

# So many are in memory at once, undecoded; more than an S3 client has connections.
_BATCH = 32


class StudyCache:
    """Objects of one study that were read, and means over replicates that were computed. Threads may share it.

    Objects are written whole and never changed, except those of runs; one that is replaced all the same has another
    etag, see `ObjectStore.entries`. What could not be read is not kept: it is tried again each time.

    Attributes:
        means: over the replicates of each trial, as they were last computed.
    """

    def __init__(self) -> None:
        self.means: Aggregates | None = None
        self._kept: dict[str, dict[str, tuple[str, Any]]] = {}
        # One thread reads, the others find it read.
        self._reading = threading.Lock()

    def read(
        self,
        folder: str,
        etags: Mapping[str, str],
        read_all: Callable[[Sequence[str]], Mapping[str, bytes]],
        decode: Callable[[str, bytes], _Value],
    ) -> dict[str, _Value | Exception]:
        """What objects hold, by name, in the order of their etags.

        Args:
            folder: that they are in; what is kept of it and not asked for now is forgotten.
            etags: of the objects that are wanted, by name.
            read_all: reads objects of some names; those that are not there it leaves out.
            decode: makes a value of a name and a content. An ArrowException, an OSError or a ValueError that it raises
                is the answer for that object, as is FileNotFoundError for one that is not there.
        """
        with self._reading:
            kept = self._kept.get(folder, {})
            found: dict[str, Any] = {
                name: kept[name][1] for name, etag in etags.items() if name in kept and kept[name][0] == etag
            }
            failed: dict[str, Exception] = {}
            missing = (name for name in etags if name not in found)
            while batch := list(islice(missing, _BATCH)):
                contents = read_all(batch)
                for name in batch:
                    try:
                        if name not in contents:
                            raise FileNotFoundError(f"{name} is not there any more")
                        found[name] = decode(name, contents[name])
                    except (pa.ArrowException, ValueError, OSError) as error:
                        failed[name] = error
            self._kept[folder] = {name: (etags[name], value) for name, value in found.items()}
        return {name: found[name] if name in found else failed[name] for name in etags}
