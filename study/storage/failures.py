"""Failures of storage, told apart by the errors of botocore, fsspec and the operating system."""

import errno
from typing import NamedTuple

from study.errors import UserError

__all__ = ["Failure", "TooLargeError", "failure_of", "response_code"]

_INSUFFICIENT_STORAGE = 507
_PERMANENT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR, errno.EACCES, errno.EPERM)
_PERMANENT_TYPES = {"ParamValidationError", "ProfileNotFound", "InvalidRegionError", "InvalidConfigError"}
_RETRYABLE_CODES = {"RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
_REFUSAL_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"}


class TooLargeError(ValueError):
    """An object is larger than its kind can be. It is not read."""

    def __init__(self, limit: int, size: int | None = None) -> None:
        super().__init__(f"must have at most {limit:,} bytes; got {'more' if size is None else f'{size:,}'}")


class Failure(NamedTuple):
    """Reason of a failed call, whether the same call may succeed later, and whether credentials were refused."""

    reason: str
    retryable: bool
    is_refusal: bool = False


def failure_of(error: BaseException) -> Failure | None:
    """Return the failure of storage that an error means; None if an object is absent or too large, or for a defect."""
    code, status = response_code(error)
    if code == "NoSuchBucket":
        return Failure("there is no such bucket", retryable=False)
    if isinstance(error, FileNotFoundError | TooLargeError | UserError | TypeError | AttributeError):
        return None
    reason = f"{code}: {error}" if code else getattr(error, "strerror", None) or str(error) or type(error).__name__
    if status == _INSUFFICIENT_STORAGE or "StorageFull" in code or "QuotaExceeded" in code:
        return Failure(f"it is full ({reason})", retryable=False)
    if code == "RequestTimeTooSkewed":
        return Failure(f"the clock of this machine is off; synchronise it by NTP ({reason})", retryable=False)
    if "Credential" in type(error).__name__:
        return Failure("no keys found; for S3 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", False, True)
    if status in (401, 403) or code in _REFUSAL_CODES:
        return Failure(f"access denied; check the keys and their rights ({reason})", False, is_refusal=True)
    if status:
        return Failure(reason, status >= 500 or status in (408, 409, 429) or code in _RETRYABLE_CODES)
    is_permanent = isinstance(error, ValueError) or type(error).__name__ in _PERMANENT_TYPES
    is_permanent |= isinstance(error, OSError) and error.errno in _PERMANENT_ERRNOS
    return Failure(reason, not is_permanent, is_refusal=isinstance(error, PermissionError))


def response_code(error: BaseException) -> tuple[str, int]:
    """Return the error code and the HTTP status of the S3 response that caused an error, or "" and 0."""
    for source in (error, error.__cause__):
        response = getattr(source, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0
