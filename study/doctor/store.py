"""Checks of the store: write, list, read, delete, throughput, location, clock and free space."""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from study.doctor.checks import Finding
from study.errors import UserError
from study.formatting import format_bytes
from study.runs.dry_run import StorageEstimate
from study.storage import ObjectStore

_Result = TypeVar("_Result")

_MEGABYTE = 1_000_000
_LARGE = 8 * _MEGABYTE
_SLOW_S = 1.0
# Checkpoints of all lanes are written every minute.
_CHECKPOINT_EVERY_S = 60.0
_NOTICEABLE_SKEW_S = 5.0
_CHECK = "store"
# Region that botocore reports if none is configured.
_NO_REGION = "aws-global"


class Speed(NamedTuple):
    """Throughput to and from the store, in bytes per second."""

    up: float
    down: float


def check_store(uri: str, size: StorageEstimate | None) -> Iterator[Finding]:
    """Yield the findings of every operation that a study performs on its store, and whether it has room for a study.

    Test objects are deleted afterwards.

    Raises:
        UserError: If the address is invalid.
    """
    objects = ObjectStore(uri)
    folder = f"check-{uuid.uuid4().hex}"
    is_s3 = uri.startswith("s3://")
    try:
        yield _check_operations(objects, folder)
        if is_s3:
            yield _check_clock_of(objects)
            yield from _check_bucket(objects, f"{folder}/condition")
        yield check_speed(_speed(objects, f"{folder}/large"), size)
    except (UserError, FileNotFoundError) as error:  # FileNotFoundError: the object written just before
        yield Finding(_CHECK, "fail", str(error), "a study must be able to write, list, read and delete there")
        with contextlib.suppress(UserError):  # S3 refuses a machine whose clock is far off, and tells its own time
            if is_s3 and (clock := _check_clock_of(objects)).verdict != "pass":
                yield clock
        return
    finally:
        with contextlib.suppress(UserError):  # the failure has been reported already
            objects.delete(folder)
    if size is not None:
        path = Path(objects.uri).absolute()
        existing = next((parent for parent in (path, *path.parents) if parent.exists()), path)
        free = None if "://" in objects.uri else shutil.disk_usage(existing).free
        yield check_room(size, objects.uri, free)


def _check_clock_of(objects: ObjectStore) -> Finding:
    return check_clock((objects.now() - datetime.now(UTC)).total_seconds(), "the store's clock")


def check_clock(skew_s: float, what: str) -> Finding:
    """Check that a clock is not ahead of or behind the clock of this machine. A study works with clocks that differ."""
    value = f"{what} is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    if abs(skew_s) > _NOTICEABLE_SKEW_S:
        advice = "synchronise the clocks by NTP (chrony or systemd-timesyncd), or times in logs and tables will differ"
        return Finding("clock", "warn", value, advice)
    return Finding("clock", "pass", value)


def check_speed(speed: Speed, size: StorageEstimate | None) -> Finding:
    """Check that the checkpoints of all lanes, written every minute, fit into the throughput."""
    value = f"{format_bytes(speed.up)}/s up, {format_bytes(speed.down)}/s down"
    if size is None:
        return Finding("throughput", "pass", value)
    needed = size.training / _CHECKPOINT_EVERY_S
    value += f"; checkpoints of all lanes need {format_bytes(needed)}/s for each trainer"
    if speed.up < needed:
        advice = "use a store nearer to the machines; late checkpoints mean more repeated training after a failure"
        return Finding("throughput", "warn", value, advice)
    return Finding("throughput", "pass", value)


def check_room(size: StorageEstimate, uri: str, free: int | None) -> Finding:
    """Check that the store has room for a study. `free` is in bytes if the store is a local folder, else None."""
    total = size.kept + size.training
    value = f"the study writes at most {format_bytes(total)}, and keeps {format_bytes(size.kept)} of it"
    if free is None:
        return Finding("room", "pass", value)
    value += f"; {format_bytes(free)} are free in {uri}"
    if total > free:
        return Finding("room", "fail", value, "free some space, use another store, or reduce the number of trials")
    return Finding("room", "pass", value)


def store_error_here(uri: str, name: str) -> str:
    """Return why this machine cannot write to the store or read an object of another machine; empty if it can."""
    own = f"check-{uuid.uuid4().hex}"
    try:
        objects = ObjectStore(uri)
        objects.write(own, b"marl-study")
        objects.delete(own)
        objects.read(name)
    except FileNotFoundError:
        return f"{uri} is a different folder there: it lacks the object that this machine wrote"
    except UserError as error:
        return str(error)
    return ""


def _check_operations(objects: ObjectStore, folder: str) -> Finding:
    name = f"{folder}/small"
    objects.names(folder)  # opens the connection, which is not measured
    _, writing = _timed(lambda: objects.write(name, b"marl-study"))
    listed, listing = _timed(lambda: objects.names(folder))
    content, reading = _timed(lambda: objects.read(name))
    _, deleting = _timed(lambda: objects.delete(name))
    times = {"write": writing, "list": listing, "read": reading, "delete": deleting}
    value = f"{objects.uri}: " + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in times.items())
    if listed != [name] or content != b"marl-study" or objects.names(folder):
        value = f"{objects.uri}: the store did not show an object that was written or deleted"
        advice = "a study needs a store that shows every write and deletion immediately"
        return Finding(_CHECK, "fail", value, advice)
    if max(times.values()) > _SLOW_S:
        return Finding(_CHECK, "warn", value, "use a store nearer to the machines, or trials will wait for it")
    return Finding(_CHECK, "pass", value)


def _check_bucket(objects: ObjectStore, name: str) -> Iterator[Finding]:
    """Check the region of a bucket of S3, and whether it honours conditional writes."""
    filesystem, bucket = objects.filesystem, objects.uri.removeprefix("s3://").partition("/")[0]
    meta, region = filesystem.s3.meta, None
    with contextlib.suppress(OSError):  # the keys may not ask, or the server does not tell
        region = filesystem.call_s3("head_bucket", Bucket=bucket).get("BucketRegion")
    value = f"{meta.endpoint_url}, region {region or 'unknown'}"
    if region and meta.region_name not in (region, _NO_REGION):
        advice = "use a bucket in the region of the machines: traffic between regions is slow and costs money"
        yield Finding("endpoint", "warn", f"{value}; this machine uses {meta.region_name}", advice)
    else:
        yield Finding("endpoint", "pass", value)
    try:
        objects.write(name, b"first")
        filesystem.pipe_file(f"{objects.uri}/{name}", b"second", mode="create")
        answer = "ignored"
    except FileExistsError:
        answer = "honoured"
    except OSError as error:
        answer = f"refused ({error})"
    # A study works with and without conditional writes.
    yield Finding("condition", "pass", f"conditional writes (If-None-Match) are {answer}")


def _speed(objects: ObjectStore, name: str) -> Speed:
    content = os.urandom(_LARGE)
    _, up = _timed(lambda: objects.write(name, content))
    read, down = _timed(lambda: objects.read(name))
    if read != content:
        size = f"{_LARGE / _MEGABYTE:.0f} MB"
        raise UserError(f"store {objects.uri}: {size} were read back with other content than written")
    return Speed(_LARGE / up, _LARGE / down)


def _timed(action: Callable[[], _Result]) -> tuple[_Result, float]:
    started = time.perf_counter()
    return action(), time.perf_counter() - started
