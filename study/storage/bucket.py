"""Objects of S3, or of a server that speaks as it does."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import botocore.auth
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from study.storage.backend import Entry, StorageError, TooLarge

__all__ = ["Bucket"]

_Result = TypeVar("_Result")

_AT_ONCE = 16
_DELETED_AT_ONCE = 1000  # as many as a request may name
_CLOCK_KEPT_S = 300.0
# The answer's date has whole seconds, and it was on its way: clocks that differ by less are taken for the same.
_CLOCK_NOISE = timedelta(seconds=2)
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=15,
    retries={
        "total_max_attempts": 1,
        "mode": "standard",
    },  # `study.storage.object_store` is where things are tried again
    max_pool_connections=2 * _AT_ONCE,
    # Servers other than AWS refuse, or answer wrongly, the checksums that botocore began to send by default.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_PASSING = {
    "RequestTimeout",
    "RequestTimeTooSkewed",  # the answer has said what time it is
    "SlowDown",
    "OperationAborted",
    "ConditionalRequestConflict",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
}
_REFUSED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"}
_NOT_THERE = {"NoSuchKey", "NotFound", "404"}
_EXISTS = 412
_FULL = 507


class Bucket:
    """What is under a prefix of a bucket, as a `Storage`. Threads may share it.

    Args:
        uri: `s3://bucket/prefix`. Keys, region and endpoint are looked for where all programs for AWS do: in the
            environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL), in ~/.aws, or with the machine.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self._root = f"{prefix}/" if prefix else ""
        self._lock = threading.Lock()
        self._made: Any = None
        self._offset = timedelta()
        self._clock_read = -float("inf")

    @property
    def client(self) -> Any:
        """The client of botocore, with the keys that were there when it was made."""
        with self._lock:
            if self._made is None:
                session = botocore.session.get_session()
                session.register("after-call.s3", self._read_clock)
                endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
                self._made = session.create_client("s3", endpoint_url=endpoint, config=_CONFIG)
            return self._made

    def refresh_credentials(self) -> None:
        """Look for keys anew: those of a role or of a file are replaced while a study runs."""
        with self._lock:
            self._made = None

    def read(self, name: str, limit: int) -> bytes:
        """The content of an object of at most so many bytes."""
        with _explained():
            answer = self.client.get_object(Bucket=self._bucket, Key=self._root + name)
            with contextlib.closing(answer["Body"]) as body:  # as its own context it would not say what botocore says
                if answer["ContentLength"] > limit:
                    raise TooLarge(answer["ContentLength"], limit)
                content: bytes = body.read()
        return content

    def read_all(self, names: Sequence[str], limit: int) -> list[bytes | Exception]:
        """The contents of objects, or why they cannot be read, with one request each."""

        def read(name: str) -> bytes | Exception:
            try:
                return self.read(name, limit)
            except (FileNotFoundError, TooLarge, StorageError) as error:
                return error

        return self._side_by_side(read, names)

    def write(self, name: str, content: bytes) -> None:
        """Write an object, and ask whether it is there: some servers say so of what they lose."""
        with _explained():
            at = {"Bucket": self._bucket, "Key": self._root + name}
            written = self.client.put_object(**at, Body=content)
            try:
                found = self.client.head_object(**at)
            except ClientError as error:
                if _status(error) == 404:
                    raise StorageError("an object that it took is not there", retryable=True) from None
                raise
            if found["ContentLength"] != len(content) or found.get("ETag") != written.get("ETag"):
                raise StorageError("an object that it took is not the one that is there", retryable=True)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object if there is none; a server that knows no conditions writes it in any case."""
        with _explained():
            try:
                self.client.put_object(Bucket=self._bucket, Key=self._root + name, Body=content, IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == _EXISTS:
                    return False
                if _code(error) != "NotImplemented":
                    raise
                self.client.put_object(Bucket=self._bucket, Key=self._root + name, Body=content)
        return True

    def entries(self, prefix: str) -> dict[str, Entry]:
        """All objects under a prefix: a request for each thousand, one more where there are none."""
        with _explained():
            key = f"{self._root}{prefix}".rstrip("/")
            found = list(self._listed(f"{key}/" if key else ""))
            if not found:  # of keys that begin so, the whole one is the first
                (*first,) = self.client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1).get("Contents", [])
                found = [one for one in first if one["Key"] == key]
        return {
            one["Key"].removeprefix(self._root): Entry(one["Size"], f"{one['Size']} {one.get('ETag')}")
            for one in found
            if not one["Key"].endswith("/")  # some tools make an object for a folder
        }

    def folders(self) -> list[str]:
        """Names of the folders at the top."""
        with _explained():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._root, Delimiter="/"
            )
            found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
        return [prefix.removeprefix(self._root).rstrip("/") for prefix in found]

    def delete(self, prefix: str) -> None:
        """Delete an object, or all under a prefix."""
        keys = [self._root + name for name in self.entries(prefix)]
        with _explained():
            if len(keys) == 1:
                self.client.delete_object(Bucket=self._bucket, Key=keys[0])
                return
            for begin in range(0, len(keys), _DELETED_AT_ONCE):
                some = [{"Key": key} for key in keys[begin : begin + _DELETED_AT_ONCE]]
                answer = self.client.delete_objects(Bucket=self._bucket, Delete={"Objects": some, "Quiet": True})
                for error in answer.get("Errors", []):
                    raise StorageError(f"{error.get('Code')}: {error.get('Message')}", retryable=True)

    def clock_offset(self) -> timedelta:
        """How far the server's clock is ahead, by any answer of the last minutes; a request where there was none."""
        if time.monotonic() - self._clock_read > _CLOCK_KEPT_S:
            with _explained(), contextlib.suppress(ClientError):  # a refusal has a date as well
                self.client.head_bucket(Bucket=self._bucket)
        return self._offset

    def _listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            yield from page.get("Contents", [])

    def _side_by_side(self, action: Callable[[str], _Result], names: Sequence[str]) -> list[_Result]:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bucket") as threads:
            return list(threads.map(action, names))

    def _read_clock(self, http_response: Any, **_: Any) -> None:
        """Learn the server's clock from the date of an answer, were it a refusal."""
        try:
            date = parsedate_to_datetime(http_response.headers["date"])
            offset = date + timedelta(seconds=0.5) - datetime.now(UTC)
        except (KeyError, TypeError, ValueError):
            return
        if abs(offset - self._offset) > _CLOCK_NOISE:
            self._offset = _Signature.offset = offset
        self._clock_read = time.monotonic()


class _Signature(botocore.auth.S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signs by the server's clock: requests of a machine whose own is a quarter of an hour off are refused."""

    offset = timedelta()

    def _modify_request_before_signing(self, request: Any) -> None:
        request.context["timestamp"] = (datetime.now(UTC) + self.offset).strftime(botocore.auth.SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


botocore.auth.AUTH_TYPE_MAPS["s3v4"] = _Signature


@contextmanager
def _explained() -> Iterator[None]:
    """Say in words of a `Storage` what botocore says."""
    try:
        yield
    except ClientError as error:
        if _code(error) in _NOT_THERE:
            raise FileNotFoundError(str(error)) from error
        raise _translated(error) from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        reason = "no keys found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise StorageError(reason, retryable=False, is_refusal=True) from error
    except (ParamValidationError, ProfileNotFound) as error:
        raise StorageError(str(error), retryable=False) from error
    except (BotoCoreError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StorageError(str(error), retryable=True) from error


def _translated(error: ClientError) -> StorageError:
    code, status = _code(error), _status(error)
    reason = f"{code}: {error.response.get('Error', {}).get('Message', 'no reason given')}"
    if code == "NoSuchBucket":
        return StorageError("there is no such bucket", retryable=False)
    if status == _FULL or "StorageFull" in code or "QuotaExceeded" in code:
        return StorageError(f"it is full ({reason})", retryable=False)
    if code in _PASSING:
        return StorageError(reason, retryable=True)
    if status in (401, 403) or code in _REFUSED:
        return StorageError(f"access denied; check the keys and their rights ({reason})", False, is_refusal=True)
    return StorageError(reason, retryable=status >= 500 or status in (408, 409, 429))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
