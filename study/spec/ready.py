"""Ready studies: specs that come with the package, found by name."""

from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["find_spec", "ready_studies"]


@cache
def ready_studies() -> dict[str, Path]:
    """Return the files of the ready studies by name."""
    folder = Path(__file__).parents[1] / "ready"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_spec(path: str | Path) -> Path:
    """Return the path of a spec: the file if it exists, or else the ready study of this name; otherwise the path."""
    with suppress(OSError):
        if Path(path).exists():
            return Path(path)
    return ready_studies().get(str(path), Path(path))
