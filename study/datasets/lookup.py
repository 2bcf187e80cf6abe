"""Which prepared set a spec means, by what its files hold now; without Ray, which takes seconds to import."""

from collections.abc import Callable
from typing import TypeVar

from marl.audio import AudioConfig
from marl.data import AudioDatasetConfig, Source
from study.datasets.prepared_set import PreparedSet, key_of
from study.errors import UserError
from study.spec import Spec
from study.spec.model_config import audio_of, data_of
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


def with_content(spec: Spec, objects: ObjectStore, build: Callable[[], PreparedSet] | None = None) -> Spec:
    """A resolved spec that names the prepared set it means; as it is where there is none to name.

    Args:
        spec: resolved.
        objects: the store.
        build: prepares the set where it is not there.

    Raises:
        UserError: when it is not there and is not built either.
    """
    config = data_of(spec)
    if not isinstance(config, AudioDatasetConfig):
        return spec
    if config.content is not None:
        found = PreparedSet(objects, config.content)
    elif build is not None:
        found = build()
    else:
        found, _ = find(config, audio_of(spec), objects)
    if not found.is_whole():
        raise UserError(f"data: is not prepared in {objects.uri}; do so by `marl-study data build SPEC` with this spec")
    return named(spec, found)


def named(spec: Spec, found: PreparedSet) -> Spec:
    """The spec with the name of its set."""
    return spec.model_copy(update={"data": {**spec.data, "content": found.key}})


def understood(action: Callable[[], _Result]) -> _Result:
    """What files say; what is wrong with them is the user's to mend."""
    try:
        return action()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"data: {where}{error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"data: {error}") from None
