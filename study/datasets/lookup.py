"""Which prepared set a spec means, by what its files hold now; without Ray, which takes seconds to import."""

from collections.abc import Callable
from typing import TypeVar

from marl.audio import AudioConfig
from marl.data import AudioDatasetConfig, Source
from study.datasets.prepared_set import PreparedSet, key_of
from study.errors import UserError
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore

__all__ = ["find", "understood", "with_content"]

_Result = TypeVar("_Result")


def find(config: AudioDatasetConfig, audio: AudioConfig, objects: ObjectStore) -> tuple[PreparedSet, Source]:
    """The place in the store of the set that a configuration gives as its files are now, and where its clips come from.

    Raises:
        UserError: when the files are not there, or not what they must be.
    """
    source = understood(config.source)
    return PreparedSet(objects, key_of(config, audio, understood(source.digest))), source


def with_content(
    resolved: ResolvedSpec, objects: ObjectStore, build: Callable[[], PreparedSet] | None = None
) -> ResolvedSpec:
    """A resolved spec that names the prepared set it means; as it is where there is none to name.

    Args:
        resolved: the spec.
        objects: the store.
        build: prepares the set where it is not there.

    Raises:
        UserError: when it is not there and is not built either.
    """
    config = resolved.data
    if not isinstance(config, AudioDatasetConfig):
        return resolved
    if config.content is not None:
        found = PreparedSet(objects, config.content)
    elif build is not None:
        found = build()
    else:
        found, _ = find(config, resolved.audio, objects)
    if not found.is_whole():
        raise UserError(f"data: is not prepared in {objects.uri}; do so by `marl-study data build SPEC` with this spec")
    return resolved.with_content(found.key)


def understood(action: Callable[[], _Result]) -> _Result:
    """What files say; what is wrong with them is the user's to mend."""
    try:
        return action()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"data: {where}{error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"data: {error}") from None
