"""Whether the store can be written, listed, read and deleted, how fast, where it is, and what its clock says."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from study.doctor.finding import Finding
from study.errors import UserError
from study.formatting import format_bytes
from study.runs.dry_run import Footprint
from study.storage import ObjectStore
from study.storage.backend import StorageError
from study.storage.bucket import Bucket

__all__ = ["check_clock", "check_room", "check_speed", "check_store", "reaches"]

_Result = TypeVar("_Result")

_MEGABYTE = 1_000_000
_LARGE = 8 * _MEGABYTE
_SLOW_S = 1.0
# Checkpoints of all lanes are written every minute.
_CHECKPOINT_EVERY_S = 60.0
_NOTICEABLE_SKEW_S = 5.0
_CHECK = "store"
# What botocore says where none is configured.
_NO_REGION = "aws-global"


class Speed(NamedTuple):
    """Bytes a second, to the store and from it."""

    up: float
    down: float


def check_store(uri: str, size: Footprint | None) -> Iterator[Finding]:
    """Try all that a study does with its store, on objects that are gone again afterwards.

    Args:
        uri: of the store.
        size: what a study will write, if one is known.

    Raises:
        UserError: when the URI is of no kind that is known.
    """
    objects = ObjectStore(uri)
    name, large = f"check-{uuid.uuid4().hex}", f"check-{uuid.uuid4().hex}"
    is_bucket = uri.startswith("s3://")
    try:
        yield _check_operations(objects, name)
        if is_bucket:
            yield check_clock((objects.now() - datetime.now(UTC)).total_seconds(), "the store's clock")
            yield from _check_bucket(Bucket(uri), name)
        yield check_speed(_speed(objects, large), size)
    except (UserError, StorageError, FileNotFoundError) as error:  # the last of what was written a moment ago
        advice = "put that right first: a study writes, lists, reads and deletes there"
        yield Finding(_CHECK, "fail", str(error), advice)
        return
    finally:
        _delete(objects, name, large)
    if size is not None:
        free = None if is_bucket else shutil.disk_usage(_existing(objects.uri)).free
        yield check_room(size, objects.uri, free)


def check_clock(skew_s: float, what: str) -> Finding:
    """Whether a clock agrees with this machine's, to some seconds; a study survives one that does not.

    Args:
        skew_s: how far it is ahead.
        what: whose clock.
    """
    value = f"{what} is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    if abs(skew_s) > _NOTICEABLE_SKEW_S:
        advice = "set the clocks by NTP (chrony or systemd-timesyncd); times of logs and tables will not agree"
        return Finding("clock", "warn", value, advice)
    return Finding("clock", "pass", value)


def check_speed(speed: Speed, size: Footprint | None) -> Finding:
    """Whether checkpoints of all lanes, written each minute, have the time to arrive."""
    value = f"{format_bytes(speed.up)}/s up, {format_bytes(speed.down)}/s down"
    if size is None:
        return Finding("throughput", "pass", value)
    needed = size.training / _CHECKPOINT_EVERY_S
    value += f"; checkpoints of all lanes need {format_bytes(needed)}/s for each trainer"
    if speed.up < needed:
        advice = "they will come late, so that more is trained again after a loss; take a store that is nearer"
        return Finding("throughput", "warn", value, advice)
    return Finding("throughput", "pass", value)


def check_room(size: Footprint, uri: str, free: int | None) -> Finding:
    """Whether what a study writes has room.

    Args:
        size: what it writes at most.
        uri: of the store.
        free: bytes, where the store is a folder.
    """
    total = size.kept + size.training
    value = f"the study writes at most {format_bytes(total)}, and keeps {format_bytes(size.kept)} of it"
    if free is None:
        return Finding("room", "pass", value)
    value += f"; {format_bytes(free)} are free in {uri}"
    if total > free:
        return Finding("room", "fail", value, "make room there, take another store, or ask for fewer trials")
    return Finding("room", "pass", value)


def reaches(uri: str, name: str) -> str:
    """Empty when this machine reads an object that another one wrote, and can write beside it; else why not."""
    own = f"check-{uuid.uuid4().hex}"
    try:
        objects = ObjectStore(uri)
        objects.write(own, b"marl-study")
        objects.delete(own)
        objects.read(name)
    except FileNotFoundError:
        return f"{uri} is another folder there: it does not hold what this machine wrote"
    except UserError as error:
        return str(error)
    return ""


def _check_operations(objects: ObjectStore, name: str) -> Finding:
    objects.names(name)  # connects, and is not counted
    _, writing = _timed(lambda: objects.write(name, b"marl-study"))
    listed, listing = _timed(lambda: objects.names(name))
    content, reading = _timed(lambda: objects.read(name))
    _, deleting = _timed(lambda: objects.delete(name))
    times = {"write": writing, "list": listing, "read": reading, "delete": deleting}
    value = f"{objects.uri}: " + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in times.items())
    if listed != [name] or content != b"marl-study" or objects.names(name):
        advice = "the store must show what was written, and only that; one that lags behind cannot hold a study"
        return Finding(_CHECK, "fail", f"{objects.uri}: an object was written, and the store said otherwise", advice)
    if max(times.values()) > _SLOW_S:
        return Finding(_CHECK, "warn", value, "trials will wait for it; take a store that is nearer")
    return Finding(_CHECK, "pass", value)


def _check_bucket(bucket: Bucket, name: str) -> Iterator[Finding]:
    """Where a bucket is, and whether it refuses a second writer of a name."""
    meta, region = bucket.client.meta, _region(bucket)
    value = f"{meta.endpoint_url}, region {region or 'unknown'}"
    if region and meta.region_name not in (region, _NO_REGION):
        advice = "keep the bucket in the region of the machines: traffic between regions is slow and paid for"
        yield Finding("endpoint", "warn", f"{value}; this machine uses {meta.region_name}", advice)
    else:
        yield Finding("endpoint", "pass", value)
    try:
        bucket.create(name, b"first")
        answer = "ignored" if bucket.create(name, b"second") else "honoured"
    except StorageError as error:
        answer = f"refused ({error})"
    # A study claims its name with and without it, so no answer is a failure.
    yield Finding("once only", "pass", f"to write an object only if there is none (If-None-Match) is {answer}")


def _region(bucket: Bucket) -> str | None:
    """Where a bucket is; none where the server does not say, or the keys may not ask."""
    name = bucket.uri.removeprefix("s3://").partition("/")[0]
    try:
        region: str | None = bucket.client.head_bucket(Bucket=name).get("BucketRegion")
    except (BotoCoreError, ClientError):
        return None
    return region


def _speed(objects: ObjectStore, name: str) -> Speed:
    content = os.urandom(_LARGE)
    _, up = _timed(lambda: objects.write(name, content))
    read, down = _timed(lambda: objects.read(name))
    if read != content:
        raise UserError(f"store {objects.uri}: {_LARGE / _MEGABYTE:.0f} MB were written and other bytes read")
    return Speed(_LARGE / up, _LARGE / down)


def _timed(action: Callable[[], _Result]) -> tuple[_Result, float]:
    started = time.perf_counter()
    return action(), time.perf_counter() - started


def _delete(objects: ObjectStore, *names: str) -> None:
    for name in names:
        try:
            objects.delete(name)
        except (UserError, FileNotFoundError):  # it has been told already that something is wrong
            return


def _existing(folder: str) -> Path:
    path = Path(folder).absolute()
    return next(parent for parent in (path, *path.parents) if parent.exists())
