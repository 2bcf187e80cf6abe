"""Storage backend for Amazon S3 and servers with the same interface."""

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

from study.storage.backend import Entry, StorageError, TooLargeError

__all__ = ["Bucket"]

_Result = TypeVar("_Result")

_CONCURRENT_REQUESTS = 16
_MAX_DELETED_KEYS = 1000  # maximum number of keys in one request
_CLOCK_MAX_AGE_S = 300.0
# The date of a response has whole seconds, and the response travelled: smaller differences are ignored.
_CLOCK_TOLERANCE = timedelta(seconds=2)
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=15,
    retries={"total_max_attempts": 1, "mode": "standard"},  # `study.storage.object_store` retries
    max_pool_connections=2 * _CONCURRENT_REQUESTS,
    # Servers other than AWS reject, or answer wrongly, the checksums that botocore sends by default.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_RETRYABLE_CODES = {
    "RequestTimeout",
    "RequestTimeTooSkewed",  # the response states the time of the server
    "SlowDown",
    "OperationAborted",
    "ConditionalRequestConflict",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
}
_REFUSAL_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"}
_ABSENT_CODES = {"NoSuchKey", "NotFound", "404"}
_PRECONDITION_FAILED = 412
_INSUFFICIENT_STORAGE = 507


class Bucket:
    """Backend for the objects under a prefix of a bucket. Threads may share it.

    Args:
        uri: `s3://bucket/prefix`. Credentials, region and endpoint are looked up as by all AWS programs: in the
            environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL), in ~/.aws, or from the machine.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self._root = f"{prefix}/" if prefix else ""
        self._lock = threading.Lock()
        self._client: Any = None
        self._offset = timedelta()
        self._clock_read = -float("inf")

    @property
    def client(self) -> Any:
        """The client of botocore, with the credentials that existed when it was created."""
        with self._lock:
            if self._client is None:
                session = botocore.session.get_session()
                session.register("after-call.s3", self._read_clock)
                endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
                self._client = session.create_client("s3", endpoint_url=endpoint, config=_CONFIG)
            return self._client

    def refresh_credentials(self) -> None:
        """Look up the credentials again: roles and files get new ones while a study runs."""
        with self._lock:
            self._client = None

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of an object."""
        with _storage_errors():
            response = self.client.get_object(Bucket=self._bucket, Key=self._root + name)
            # Used as a context manager itself, the body would raise errors of urllib3 instead of botocore.
            with contextlib.closing(response["Body"]) as body:
                if response["ContentLength"] > limit:
                    raise TooLargeError(response["ContentLength"], limit)
                content: bytes = body.read()
        return content

    def read_all(self, names: Sequence[str], limit: int) -> list[bytes | Exception]:
        """Read objects concurrently, with one request each."""

        def read(name: str) -> bytes | Exception:
            try:
                return self.read(name, limit)
            except (FileNotFoundError, TooLargeError, StorageError) as error:
                return error

        return self._concurrently(read, names)

    def write(self, name: str, content: bytes) -> None:
        """Write an object, and verify that it exists: some servers accept objects that they lose."""
        with _storage_errors():
            key = {"Bucket": self._bucket, "Key": self._root + name}
            written = self.client.put_object(**key, Body=content)
            try:
                stored = self.client.head_object(**key)
            except ClientError as error:
                if _status(error) == 404:
                    raise StorageError("the server lost an object that it accepted", retryable=True) from None
                raise
            if stored["ContentLength"] != len(content) or stored.get("ETag") != written.get("ETag"):
                raise StorageError("the server stored another object than it accepted", retryable=True)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless it exists; a server without conditional writes writes it in any case."""
        with _storage_errors():
            try:
                self.client.put_object(Bucket=self._bucket, Key=self._root + name, Body=content, IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == _PRECONDITION_FAILED:
                    return False
                if _code(error) != "NotImplemented":
                    raise
                self.client.put_object(Bucket=self._bucket, Key=self._root + name, Body=content)
        return True

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return all objects under a prefix, with a request for each thousand, and one more if there are none."""
        with _storage_errors():
            key = f"{self._root}{prefix}".rstrip("/")
            objects = list(self._listed(f"{key}/" if key else ""))
            if not objects:  # the prefix may be the name of an object, which is the first of the keys that begin so
                response = self.client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
                objects = [item for item in response.get("Contents", []) if item["Key"] == key]
        return {
            item["Key"].removeprefix(self._root): Entry(item["Size"], f"{item['Size']} {item.get('ETag')}")
            for item in objects
            if not item["Key"].endswith("/")  # some tools create an object for a folder
        }

    def folders(self) -> list[str]:
        """Return the names of the top-level folders."""
        with _storage_errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._root, Delimiter="/"
            )
            prefixes = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
        return [prefix.removeprefix(self._root).rstrip("/") for prefix in prefixes]

    def delete(self, prefix: str) -> None:
        """Delete an object, or all objects under a prefix."""
        keys = [self._root + name for name in self.entries(prefix)]
        with _storage_errors():
            if len(keys) == 1:
                self.client.delete_object(Bucket=self._bucket, Key=keys[0])
                return
            for first in range(0, len(keys), _MAX_DELETED_KEYS):
                batch = [{"Key": key} for key in keys[first : first + _MAX_DELETED_KEYS]]
                response = self.client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
                for error in response.get("Errors", []):
                    raise StorageError(f"{error.get('Code')}: {error.get('Message')}", retryable=True)

    def clock_offset(self) -> timedelta:
        """Return how far the server's clock is ahead, by a recent response; without one, a request is made."""
        if time.monotonic() - self._clock_read > _CLOCK_MAX_AGE_S:
            with _storage_errors(), contextlib.suppress(ClientError):  # a refusal has a date too
                self.client.head_bucket(Bucket=self._bucket)
        return self._offset

    def _listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            yield from page.get("Contents", [])

    def _concurrently(self, action: Callable[[str], _Result], names: Sequence[str]) -> list[_Result]:
        with ThreadPoolExecutor(_CONCURRENT_REQUESTS, thread_name_prefix="bucket") as threads:
            return list(threads.map(action, names))

    def _read_clock(self, http_response: Any, **_: Any) -> None:
        """Read the server's clock from the date of a response; refusals have one too."""
        try:
            date = parsedate_to_datetime(http_response.headers["date"])
            offset = date + timedelta(seconds=0.5) - datetime.now(UTC)
        except (KeyError, TypeError, ValueError):
            return
        if abs(offset - self._offset) > _CLOCK_TOLERANCE:
            self._offset = _Signature.offset = offset
        self._clock_read = time.monotonic()


class _Signature(botocore.auth.S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signs requests with the time of the server, which rejects a clock that is 15 minutes off."""

    offset = timedelta()

    def _modify_request_before_signing(self, request: Any) -> None:
        request.context["timestamp"] = (datetime.now(UTC) + self.offset).strftime(botocore.auth.SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


botocore.auth.AUTH_TYPE_MAPS["s3v4"] = _Signature


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Convert errors of botocore into FileNotFoundError and StorageError."""
    try:
        yield
    except ClientError as error:
        if _code(error) in _ABSENT_CODES:
            raise FileNotFoundError(str(error)) from error
        raise _storage_error(error) from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        reason = "no keys found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise StorageError(reason, retryable=False, is_refusal=True) from error
    except (ParamValidationError, ProfileNotFound) as error:
        raise StorageError(str(error), retryable=False) from error
    except (BotoCoreError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StorageError(str(error), retryable=True) from error


def _storage_error(error: ClientError) -> StorageError:
    code, status = _code(error), _status(error)
    reason = f"{code}: {error.response.get('Error', {}).get('Message', 'no reason given')}"
    if code == "NoSuchBucket":
        return StorageError("there is no such bucket", retryable=False)
    if status == _INSUFFICIENT_STORAGE or "StorageFull" in code or "QuotaExceeded" in code:
        return StorageError(f"it is full ({reason})", retryable=False)
    if code in _RETRYABLE_CODES:
        return StorageError(reason, retryable=True)
    if status in (401, 403) or code in _REFUSAL_CODES:
        return StorageError(f"access denied; check the keys and their rights ({reason})", False, is_refusal=True)
    return StorageError(reason, retryable=status >= 500 or status in (408, 409, 429))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
