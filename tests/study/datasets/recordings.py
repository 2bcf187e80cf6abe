"""Recordings in the form of user data: sung vowels in several audio formats, and a table of their factors."""

import csv
from pathlib import Path

import numpy as np
import soundfile
import yaml

VOWELS = {"a": (800.0, 1200.0), "e": (400.0, 2200.0), "i": (300.0, 2600.0), "o": (450.0, 800.0)}
_FORMATS = (("wav", "PCM_16", 16_000), ("flac", "PCM_24", 44_100), ("ogg", "VORBIS", 22_050), ("wav", "FLOAT", 48_000))


def vowel(name: str, f0: float, sample_rate: int, seconds: float = 1.0) -> np.ndarray:
    """Harmonics of a pitch beneath two formants."""
    time_s = np.arange(round(seconds * sample_rate)) / sample_rate
    harmonics = f0 * np.arange(1, int(4000 / f0) + 1)
    level = sum(np.exp(-(((harmonics - formant) / 200.0) ** 2)) for formant in VOWELS[name]) + 0.01
    sound = (level[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time_s)).sum(axis=0)
    return 0.5 * sound / np.abs(sound).max()


def write_recordings(folder: Path, singers: int = 12, pitches: int = 5) -> Path:
    """Sound files and `factors.csv`; some singers' names are not known."""
    folder.mkdir(parents=True)
    rows = []
    for singer in range(singers):
        for name in VOWELS:
            for step in range(pitches):
                suffix, subtype, sample_rate = _FORMATS[(singer + step) % len(_FORMATS)]
                f0 = (110.0 + 7 * singer) * 2 ** (step / 6)
                file = f"singer-{singer:02d}/{name}-{step}.{suffix}"
                (folder / file).parent.mkdir(exist_ok=True)
                sound = vowel(name, f0, sample_rate)
                channels = np.stack([sound] * (1 + step % 2), axis=1)
                soundfile.write(folder / file, channels, sample_rate, subtype=subtype)
                voice = ("low", "high")[singer % 2] if (singer + step) % 10 else ""
                rows.append({"file": file, "vowel": name, "f0": f"{f0:.1f}", "voice": voice, "singer": f"{singer:02d}"})
    with (folder / "factors.csv").open("w", newline="", encoding="utf-8") as file_of_table:
        writer = csv.DictWriter(file_of_table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_spec(path: Path, folder: Path, **changes) -> Path:
    """A spec of a small study on them."""
    content = {
        "name": "voices",
        "data": {"kind": "folder", "path": str(folder), "factors": ["vowel", "f0", "voice"], "group": "singer"},
        "views": {"shared": ["vowel"]},
        "model": {"width": 16, "embedding": 16, "hidden": 32},
        "train": {"steps": 30, "batch_pairs": 16, "reports": 1},
        "replicates": 1,
        "space": {"contrast.strategy": {"choice": ["none", "infonce"]}},
        "search": {"sampler": "grid"},
        "post_training": [],
        "resources": {"lanes": 2, "compile": False, "trainers": 1},
        **changes,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
