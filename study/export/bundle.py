"""An exported model: a folder that stands on its own, and the check that it is what it says.

It holds the weights, the configuration, held-out clips with their factors, the scores on these clips, the study's own
scores, a model card, and the SHA-256 of each file. `verify` loads the model as any user would, scores it again on the
clips, and compares: changed weights are found even where the checksums were computed anew.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch

import marl
from marl.checkpoint import METADATA_FILE, MODEL_FILE, ModelMetadata
from marl.data import Dataset
from marl.evaluation import information_metrics
from marl.metrics import METRIC_VERSION
from study.errors import RunError, UserError
from study.storage import atomic_path

__all__ = ["checksums", "is_whole", "verify", "write_bundle"]

_MANIFEST_FILE = "manifest.json"
_SCORES_FILE = "scores.json"
_CARD_FILE = "README.md"
_CLIPS_FOLDER = "clips"
_FACTORS_FILE = "factors.csv"
_CLIPS = 64
# Another processor sums in another order, which changes an error by some 0.0001 dB and may, once in a while, move a
# latent that lies on the edge of a bin. Other weights change the error of at least one clip by far more.
_FIDELITY_TOLERANCE_DB = 0.002
_INFORMATION_TOLERANCE = 0.05


def write_bundle(
    bundle: Path,
    model: Mapping[str, bytes],
    dataset: Dataset,
    identity: Mapping[str, Any],
    scores: Mapping[str, Any],
    card: str,
) -> None:
    """Write a bundle; it is there whole or not at all, and replaces what was there.

    Args:
        bundle: the folder.
        model: weights and metadata, by file name.
        dataset: where held-out clips are taken from.
        identity: what the manifest says beside checksums, such as study, trial and seed.
        scores: what the study measured, kept beside the scores on the clips.
        card: for a human reader.

    Raises:
        UserError: when the folder cannot be written.
    """
    try:
        with atomic_path(bundle) as draft:
            draft.mkdir()
            for file, content in model.items():
                (draft / file).write_bytes(content)
            _write_clips(dataset, draft / _CLIPS_FOLDER)
            all_scores = {
                "metric_version": METRIC_VERSION,
                "on these clips": _score(draft),
                **scores,
            }
            (draft / _SCORES_FILE).write_text(json.dumps(all_scores, indent=1), encoding="utf-8")
            (draft / _CARD_FILE).write_text(card, encoding="utf-8")
            files = sorted(path for path in draft.rglob("*") if path.is_file())
            manifest = {
                **identity,
                "marl-study": version("marl-study"),
                "sha256": {path.relative_to(draft).as_posix(): _sha256(path) for path in files},
            }
            (draft / _MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {bundle}: {error.strerror or error}") from None


def is_whole(bundle: Path) -> bool:
    """Whether a bundle is there and no file of it has changed."""
    try:
        return all(_sha256(bundle / name) == expected for name, expected in checksums(bundle).items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def checksums(bundle: Path) -> dict[str, str]:
    """The SHA-256 of each file of a bundle, as its manifest states them."""
    return dict(json.loads((bundle / _MANIFEST_FILE).read_text(encoding="utf-8"))["sha256"])


def verify(bundle: Path) -> dict[str, tuple[float, float]]:
    """Check every file's SHA-256, load the model, score it on the clips of the bundle, and compare.

    Returns:
        For each metric the value that the bundle states and the one found.

    Raises:
        UserError: when this is no bundle.
        RunError: when a file is not what the manifest says, or a score differs by more than its tolerance.
    """
    try:
        hashes = checksums(bundle)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{bundle} is no exported model: it has no readable {_MANIFEST_FILE}") from None
    for name, expected in sorted(hashes.items()):
        path = bundle / name
        if bundle.resolve() not in path.resolve().parents:
            raise RunError(f"{bundle / _MANIFEST_FILE} names a file outside of the bundle: {name}")
        if not path.is_file():
            raise RunError(f"{path} is missing")
        if _sha256(path) != expected:
            raise RunError(f"{path} is not the file that was exported: its SHA-256 differs")
    for name in (MODEL_FILE, METADATA_FILE, _SCORES_FILE, f"{_CLIPS_FOLDER}/{_FACTORS_FILE}"):
        if name not in hashes:
            raise RunError(f"{bundle / _MANIFEST_FILE} does not list {name}")
    try:
        stated = json.loads((bundle / _SCORES_FILE).read_text(encoding="utf-8"))["on these clips"]
        found = _score(bundle)
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{bundle}: {error}") from None
    if stated.keys() != found.keys():
        raise RunError(
            f"{bundle / _SCORES_FILE} states other metrics than are computed: {sorted(stated.keys() ^ found.keys())}"
        )
    for name, value in found.items():
        tolerance = _FIDELITY_TOLERANCE_DB if name.startswith("fidelity/") else _INFORMATION_TOLERANCE
        if not abs(value - stated[name]) <= tolerance:
            raise RunError(
                f"{bundle}: {name} is {value:.4f} on the clips of the bundle, but {stated[name]:.4f} is stated "
                f"(tolerance {tolerance}): the weights are not those that were scored"
            )
    return {name: (stated[name], value) for name, value in found.items()}


def _write_clips(dataset: Dataset, folder: Path) -> None:
    folder.mkdir()
    clips = dataset.splits["validation"][:_CLIPS]
    waveforms = dataset.waveforms(clips.tolist())
    rows = []
    classes = dataset.classes(clips)
    for index, waveform in enumerate(waveforms):
        name = f"{index:03d}.flac"
        soundfile.write(folder / name, waveform.numpy(), dataset.audio.config.sample_rate, subtype="PCM_24")
        row: dict[str, Any] = {"file": name}
        for column, factor in enumerate(dataset.factors):
            row[factor.name] = factor.values[int(dataset.value_NC[clips[index], column])]
            row[f"{factor.name} class"] = int(classes[index, column])
        rows.append(row)
    pd.DataFrame(rows).to_csv(folder / _FACTORS_FILE, index=False)


def _score(bundle: Path) -> dict[str, float]:
    """Fidelity, of all and of each, and what single latents tell of the factors, on a bundle's own clips."""
    model, folder = marl.load(bundle), bundle / _CLIPS_FOLDER
    metadata = ModelMetadata.model_validate_json((bundle / METADATA_FILE).read_bytes())
    factors = pd.read_csv(folder / _FACTORS_FILE)
    rate = model.log_mel.config.sample_rate
    waveforms = []
    for name in factors["file"]:
        if Path(name).name != name:
            raise ValueError(f"{_FACTORS_FILE} names a file outside of its folder: {name}")
        samples, sample_rate = soundfile.read(folder / name, dtype="float32")
        if sample_rate != rate or samples.shape != (model.log_mel.config.clip_samples,):
            raise ValueError(f"{name} is no clip of {model.log_mel.config.clip_samples} samples at {rate} Hz")
        waveforms.append(samples)
    batch = torch.from_numpy(np.stack(waveforms))
    private, shared = (part.squeeze(1) for part in model.encode(batch, rate))
    log_mel = model.log_mel(batch)
    error_N = (model.decode(private, shared) - log_mel).square().mean(dim=(-2, -1)) * model.log_mel.std_db**2
    names = [column.removesuffix(" class") for column in factors if column.endswith(" class")]
    classes = torch.tensor(factors[[f"{name} class" for name in names]].to_numpy(dtype=np.int64))
    latents = torch.cat([private, shared], dim=-1)[None]
    mask = torch.ones(1, latents.shape[-1])
    scores = {
        "fidelity/log_mel_rmse_db": float(error_N.mean().sqrt()),
        **information_metrics(latents, mask, model.private, classes, names, metadata.shared_factors)[0],
    }
    for name, error in zip(factors["file"], error_N.sqrt().tolist(), strict=True):
        scores[f"fidelity/log_mel_rmse_db of {name}"] = error
    return scores


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
