"""Verification of exported models: unchanged files, by the SHA-256 in the manifest, and unchanged scores.

The manifest of a bundle states study, trial, seed and licence, and the SHA-256 of each other file. `verify` also loads
the model as a user would, scores it again on the clips of its folder and compares. So it detects changed weights even
if the checksums were recomputed.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch

import marl
from marl.checkpoint import MANIFEST_FILE, METADATA_FILE, MODEL_FILE, ModelMetadata
from marl.evaluation import information_columns
from marl.registry import PluginError, add_folders
from study.errors import RunError, UserError

SCORES_FILE, CLIPS_FOLDER, FACTORS_FILE = "scores.json", "clips", "factors.csv"
# Another processor sums in another order, which changes an error by about 0.0001 dB and may move a latent across the
# edge of a bin. Other weights change the error of at least one clip far more.
_FIDELITY_TOLERANCE_DB = 0.002
_INFORMATION_TOLERANCE = 0.05
_MAX_NAMED = 8  # models that an error message names


def verify(bundle: Path, plugins: Iterable[str] = ()) -> dict[str, tuple[float, float]]:
    """Check the SHA-256 of every file of a bundle, score its model on its clips, and compare with the stated scores.

    Args:
        bundle: Folder of the model.
        plugins: Networks that may be imported, also from the current folder.

    Returns:
        The stated and the computed value of each metric.

    Raises:
        UserError: If the folder is not a bundle, or its network is a plug-in that cannot be imported.
        RunError: If a file differs from the manifest, or a score by more than its tolerance.
    """
    hashes = checksums(bundle)
    if not hashes:
        raise not_a_model(bundle, f"it has no readable {MANIFEST_FILE}")
    for name, expected in sorted(hashes.items()):
        path = bundle / name
        if bundle.resolve() not in path.resolve().parents:
            raise RunError(f"{bundle / MANIFEST_FILE} names a file outside of the bundle: {name}")
        if not path.is_file():
            raise RunError(f"{path} is missing")
        if sha256_of(path) != expected:
            raise RunError(f"{path} was changed after the export: its SHA-256 differs")
    for name in (MODEL_FILE, METADATA_FILE, SCORES_FILE, f"{CLIPS_FOLDER}/{FACTORS_FILE}"):
        if name not in hashes:
            raise RunError(f"{bundle / MANIFEST_FILE} does not list {name}")
    try:
        stated = json.loads((bundle / SCORES_FILE).read_text(encoding="utf-8"))["on these clips"]
        add_folders([Path()] if plugins else ())
        computed = score(bundle, plugins)
    except PluginError as error:
        raise UserError(str(error)) from None
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{bundle}: {error}") from None
    if stated.keys() != computed.keys():
        difference = sorted(stated.keys() ^ computed.keys())
        raise RunError(f"{bundle / SCORES_FILE} states other metrics than are computed: {difference}")
    for name, value in computed.items():
        tolerance = _FIDELITY_TOLERANCE_DB if name.startswith("fidelity/") else _INFORMATION_TOLERANCE
        if not abs(value - stated[name]) <= tolerance:
            raise RunError(
                f"{bundle}: the stated {name} is {stated[name]:.4f}, but on the clips of the bundle it is {value:.4f} "
                f"(tolerance {tolerance}): these are not the weights that were scored"
            )
    return {name: (stated[name], value) for name, value in computed.items()}


def not_a_model(folder: Path, reason: str) -> UserError:
    """Return the error for a folder that is not an exported model, which names the models in it or beside it."""
    places = (folder, folder.parent)
    models = [str(path.parent) for place in places for path in sorted(place.glob(f"*/{MANIFEST_FILE}"))]
    found = f"; exported models are {', '.join(models[:_MAX_NAMED])}" if models else ""
    if not folder.is_dir():
        return UserError(f"there is no folder {folder}{found}")
    return UserError(f"{folder} is not an exported model: {reason}{found}")


def score(bundle: Path, plugins: Iterable[str] = ()) -> dict[str, float]:
    """Return the fidelity over all clips of a bundle and of each, and the mutual information of its latents."""
    model, folder = marl.load(bundle, plugins=plugins), bundle / CLIPS_FOLDER
    metadata = ModelMetadata.model_validate_json((bundle / METADATA_FILE).read_bytes())
    factors = pd.read_csv(folder / FACTORS_FILE)
    rate = model.log_mel.config.sample_rate
    waveforms = []
    for name in factors["file"]:
        if Path(name).name != name:
            raise ValueError(f"{FACTORS_FILE} names a file outside of its folder: {name}")
        samples, sample_rate = soundfile.read(folder / name, dtype="float32")
        if sample_rate != rate or samples.shape != (model.log_mel.config.clip_samples,):
            raise ValueError(f"{name} is not a clip of {model.log_mel.config.clip_samples} samples at {rate} Hz")
        waveforms.append(samples)
    batch = torch.from_numpy(np.stack(waveforms))
    private, shared = (latents.squeeze(1) for latents in model.encode(batch, rate))
    error_N = (model.decode(private, shared) - model.log_mel(batch)).square().mean(dim=(-2, -1))
    error_N = error_N * model.log_mel.std_db**2
    names = [column.removesuffix(" class") for column in factors if column.endswith(" class")]
    classes = torch.tensor(factors[[f"{name} class" for name in names]].to_numpy(dtype=np.int64))
    latents = torch.cat([private, shared], dim=-1)[None]
    mask = torch.ones(1, latents.shape[-1])
    columns = information_columns(latents, mask, model.private, classes, names, metadata.shared_factors)
    clip_names = [f"fidelity/log_mel_rmse_db of {name}" for name in factors["file"]]
    return {
        "fidelity/log_mel_rmse_db": float(error_N.mean().sqrt()),
        **{name: float(values_K[0]) for name, values_K in columns.items()},
        **dict(zip(clip_names, error_N.sqrt().tolist(), strict=True)),
    }


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
