"""Errors for users, the arguments and calls that messages name, and what errors of storage mean.

Messages name arguments and functions of the Python API; within `command_line`, options and commands of `marl-study`.
This module imports nothing of the project, so that `--help` starts quickly.
"""

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

DEFAULT_STORE = "runs"
"""Folder of studies where `--store` is not given."""

_INSUFFICIENT_STORAGE = 507
_PERMANENT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR, errno.EACCES, errno.EPERM)
_PERMANENT_TYPES = {"ParamValidationError", "ProfileNotFound", "InvalidRegionError", "InvalidConfigError"}
_RETRYABLE_CODES = {"RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
_REFUSAL_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"}


# Commands that the Python API has as a method of a study; `resume` is a function.
_METHODS = ("results", "front", "status", "export", "rescore")
_on_command_line: ContextVar[bool] = ContextVar("on_command_line", default=False)


@contextmanager
def command_line() -> Iterator[None]:
    """Make messages within the context name options and commands instead of arguments and functions."""
    token = _on_command_line.set(True)
    try:
        yield
    finally:
        _on_command_line.reset(token)


def is_command_line() -> bool:
    """Return whether the caller runs within `command_line`."""
    return _on_command_line.get()


def option(name: str, value: object = None, flag: str | None = None) -> str:
    """Return how users write an argument: `trials=24` in Python, `--trials 24` on the command line.

    Args:
        name: Name of the argument.
        value: Its value. By default only the name is returned.
        flag: The option, if its name differs from that of the argument.
    """
    if is_command_line():
        flag = flag or f"--{name}"
        return flag if value is None or value is True else f"{flag} {shlex.quote(str(value))}"
    return name if value is None else f"{name}={value!r}"


def command_for(study_uri: str, command: str, **arguments: object) -> str:
    """Return how users call a command on the study at `StudyStore.uri`.

    It is `study.resume("quickstart", trials=24)` in Python, and `marl-study resume quickstart --trials 24` on the
    command line or if the Python API has no such function.
    """
    store, _, study = study_uri.rpartition("/")
    is_default = store == str(Path(DEFAULT_STORE).absolute())
    if not is_command_line() and command in ("resume", *_METHODS):
        place = f'"{study}"' if is_default else f'"{study}", store="{store}"'
        values = [option(name, value) for name, value in arguments.items()]
        if command == "resume":
            return f"study.resume({', '.join([place, *values])})"
        return f"study.open({place}).{command}({', '.join(values)})"
    words = ["marl-study", command, shlex.quote(study), *([] if is_default else ["--store", shlex.quote(store)])]
    return " ".join([*words, *(f"--{name} {shlex.quote(str(value))}" for name, value in arguments.items())])


class UserError(Exception):
    """The call, the spec or the environment is wrong, and nothing was changed. Commands exit with 2."""


class RunError(Exception):
    """The call is valid, but failed while it ran. Commands exit with 1."""


class Interrupted(BaseException):
    """The user stopped the run. All progress is in the store.

    It is no Exception, like KeyboardInterrupt, so that no handler of errors catches it and spends time on cleaning up.
    """


class UnreadableObject(UserWarning):
    """An object of the store is truncated or corrupt and was left out."""


class TooLargeError(ValueError):
    """An object is larger than its kind can be. It is not read."""

    def __init__(self, limit: int, size: int | None = None) -> None:
        super().__init__(f"must have at most {limit:,} bytes; got {'more' if size is None else f'{size:,}'}")


class StorageFailure(NamedTuple):
    """Why a call of a store failed, whether the same call may succeed later, and whether credentials were refused."""

    reason: str
    retryable: bool
    is_refusal: bool = False


def storage_failure(error: BaseException) -> StorageFailure | None:
    """Return the failure of storage that an error means; None if an object is absent or too large, or for a defect."""
    code, status = response_code(error)
    if code == "NoSuchBucket":
        return StorageFailure("there is no such bucket", retryable=False)
    if isinstance(error, FileNotFoundError | TooLargeError | UserError | TypeError | AttributeError):
        return None
    reason = f"{code}: {error}" if code else getattr(error, "strerror", None) or str(error) or type(error).__name__
    if status == _INSUFFICIENT_STORAGE or "StorageFull" in code or "QuotaExceeded" in code:
        return StorageFailure(f"it is full ({reason})", retryable=False)
    if code == "RequestTimeTooSkewed":
        return StorageFailure(f"the clock of this machine is off; synchronise it by NTP ({reason})", retryable=False)
    if "Credential" in type(error).__name__:
        return StorageFailure("no keys found; for S3 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", False, True)
    if status in (401, 403) or code in _REFUSAL_CODES:
        return StorageFailure(f"access denied; check the keys and their rights ({reason})", False, is_refusal=True)
    if status:
        return StorageFailure(reason, status >= 500 or status in (408, 409, 429) or code in _RETRYABLE_CODES)
    is_permanent = isinstance(error, ValueError) or type(error).__name__ in _PERMANENT_TYPES
    is_permanent |= isinstance(error, OSError) and error.errno in _PERMANENT_ERRNOS
    return StorageFailure(reason, not is_permanent, is_refusal=isinstance(error, PermissionError))


def response_code(error: BaseException) -> tuple[str, int]:
    """Return the error code and the HTTP status of the S3 response that caused an error, or "" and 0."""
    for source in (error, error.__cause__):
        response = getattr(source, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0
