"""The manifest of an exported model: study, trial, seed and licence, and the SHA-256 of each other file."""

import hashlib
import json
from pathlib import Path
from typing import Any

from marl.checkpoint import MANIFEST_FILE

__all__ = ["checksums", "foreign_files", "is_intact", "read_manifest", "sha256_of"]


def read_manifest(bundle: Path) -> dict[str, Any]:
    """Return the manifest of a bundle; an empty one if it cannot be read."""
    try:
        return dict(json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def checksums(bundle: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a bundle, as its manifest states them; none if it cannot be read."""
    try:
        return dict(read_manifest(bundle)["sha256"])
    except (ValueError, KeyError, TypeError):
        return {}


def foreign_files(bundle: Path) -> list[str]:
    """Return the files in a bundle's folder that were changed after the export, or that the export did not write."""
    if not bundle.is_dir():
        return [bundle.name] if bundle.exists() else []
    hashes = checksums(bundle)
    foreign = []
    for path in sorted(path for path in bundle.rglob("*") if path.is_symlink() or not path.is_dir()):
        name = path.relative_to(bundle).as_posix()
        is_regular = path.is_file() and not path.is_symlink()
        is_manifest = name == MANIFEST_FILE and bool(hashes)
        if not is_regular or not (is_manifest or _has_hash(path, hashes.get(name))):
            foreign.append(name)
    return foreign


def is_intact(bundle: Path) -> bool:
    """Return whether all files of a bundle exist and are unchanged; other files are ignored."""
    hashes = checksums(bundle)
    return bool(hashes) and all(_has_hash(bundle / name, expected) for name, expected in hashes.items())


def _has_hash(path: Path, expected: str | None) -> bool:
    try:
        return path.is_file() and sha256_of(path) == expected
    except OSError:  # unreadable
        return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
