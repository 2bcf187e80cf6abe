"""Local files and folders that are written whole."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["UNFINISHED", "atomic_path"]

UNFINISHED = ".unfinished-"
"""Prefix of the names of files and folders that are being written."""

_LINKS_UNSUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def atomic_path(path: Path, exclusive: bool = False) -> Iterator[Path]:
    """Provide the path of a draft that gets its name when the block ends without an error.

    Readers see the earlier file or the whole new one; an earlier folder is deleted just before the new one gets its
    name. After an error, or if the block writes no draft, the path stays as it was.

    Args:
        path: File or folder to write; its parent folders are created.
        exclusive: Raise FileExistsError instead of replacing a file. Of several processes, one succeeds,
            unless the file system has no hard links.

    Yields:
        Path in the same folder, with the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}{path.suffix}")
    try:
        yield draft
        if draft.is_file():
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        elif draft.is_dir() and path.exists():
            shutil.rmtree(path)
        if exclusive:
            _link(path, draft)
        elif draft.exists():
            draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)


def _link(path: Path, draft: Path) -> None:
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in _LINKS_UNSUPPORTED:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        draft.replace(path)
