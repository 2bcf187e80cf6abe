"""Exported models: self-contained folders with weights, configuration, scores, clips, a model card and checksums.

`verify` loads a model as a user would, scores it again on the clips of its folder and compares. So it detects changed
weights even if the checksums were recomputed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch

import marl
from marl.checkpoint import MANIFEST_FILE, METADATA_FILE, MODEL_FILE, ModelMetadata
from marl.data import Dataset
from marl.evaluation import information_columns
from marl.metrics import METRIC_VERSION
from study.analysis import StudyResults
from study.datasets.load import dataset_of
from study.errors import RunError, UserError
from study.export.manifest import checksums, foreign_files, is_intact, read_manifest, sha256_of
from study.export.model_card import ExportedModel, model_card
from study.local_files import atomic_path
from study.spec.resolved_spec import ResolvedSpec
from study.store import Checkpoint

__all__ = ["export_trials", "verify"]

_SCORES_FILE, _CARD_FILE = "scores.json", "README.md"
_CLIPS_FOLDER, _FACTORS_FILE = "clips", "factors.csv"
_CLIPS = 64
_MAX_NAMED_FILES = 5
# Another processor sums in another order, which changes an error by about 0.0001 dB and may move a latent across the
# edge of a bin. Other weights change the error of at least one clip far more.
_FIDELITY_TOLERANCE_DB = 0.002
_INFORMATION_TOLERANCE = 0.05


def export_trials(
    results: StudyResults,
    trials: list[int],
    metric: str,
    folder: Path,
    licence: str | None = None,
    overwrite: bool = False,
    on_existing: Callable[[Path], None] = lambda _: None,
) -> list[Path]:
    """Write a bundle for each trial, of its best replicate in a metric, and return their paths.

    A bundle of the same model and licence that exists and is intact is not written again, unless `overwrite` is set.

    Args:
        results: Results of the study.
        trials: Numbers of complete trials.
        metric: Metric that selects the replicate.
        folder: Folder that gets a subfolder for each bundle.
        licence: Licence of the models, for their cards.
        overwrite: Replace existing folders with all their files.
        on_existing: Called with the path of each bundle that is not written again.

    Raises:
        UserError: If a trial is not complete, its weights were deleted, or a folder holds another model or foreign
            files or cannot be written. No bundle is written if a folder cannot be replaced.
        RunError: If a checkpoint is missing or damaged.
    """
    states = results.results().set_index("trial")["state"]
    for trial in trials:
        if (state := states.get(trial, "not there")) != "complete":
            raise UserError(f"only complete trials can be exported; trial {trial} is {state}")
    seeds = {trial: _best_replicate(results, trial, metric) for trial in trials}
    bundles = {trial: folder / f"{results.spec.name}-trial-{trial}-seed-{seed}" for trial, seed in seeds.items()}
    existing = set()
    for trial, bundle in bundles.items():
        if not overwrite and bundle.exists():
            _check_same(bundle, results, trial, seeds[trial], licence)
            if is_intact(bundle):
                existing.add(trial)
    dataset: Dataset | None = None
    for trial, bundle in bundles.items():
        if trial in existing:
            on_existing(bundle)
        else:
            dataset = dataset or dataset_of(ResolvedSpec(results.spec), results.store.objects, torch.device("cpu"))
            _export_replicate(results, dataset, trial, seeds[trial], metric, bundle, licence, overwrite)
    return list(bundles.values())


def verify(bundle: Path) -> dict[str, tuple[float, float]]:
    """Check the SHA-256 of every file of a bundle, score its model on its clips, and compare with the stated scores.

    Returns:
        The stated and the computed value of each metric.

    Raises:
        UserError: If the folder is not a bundle.
        RunError: If a file differs from the manifest, or a score by more than its tolerance.
    """
    hashes = checksums(bundle)
    if not hashes:
        raise UserError(f"{bundle} is not an exported model: it has no readable {MANIFEST_FILE}")
    for name, expected in sorted(hashes.items()):
        path = bundle / name
        if bundle.resolve() not in path.resolve().parents:
            raise RunError(f"{bundle / MANIFEST_FILE} names a file outside of the bundle: {name}")
        if not path.is_file():
            raise RunError(f"{path} is missing")
        if sha256_of(path) != expected:
            raise RunError(f"{path} was changed after the export: its SHA-256 differs")
    for name in (MODEL_FILE, METADATA_FILE, _SCORES_FILE, f"{_CLIPS_FOLDER}/{_FACTORS_FILE}"):
        if name not in hashes:
            raise RunError(f"{bundle / MANIFEST_FILE} does not list {name}")
    try:
        stated = json.loads((bundle / _SCORES_FILE).read_text(encoding="utf-8"))["on these clips"]
        computed = _score(bundle)
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{bundle}: {error}") from None
    if stated.keys() != computed.keys():
        difference = sorted(stated.keys() ^ computed.keys())
        raise RunError(f"{bundle / _SCORES_FILE} states other metrics than are computed: {difference}")
    for name, value in computed.items():
        tolerance = _FIDELITY_TOLERANCE_DB if name.startswith("fidelity/") else _INFORMATION_TOLERANCE
        if not abs(value - stated[name]) <= tolerance:
            raise RunError(
                f"{bundle}: the stated {name} is {stated[name]:.4f}, but on the clips of the bundle it is {value:.4f} "
                f"(tolerance {tolerance}): these are not the weights that were scored"
            )
    return {name: (stated[name], value) for name, value in computed.items()}


def _check_same(bundle: Path, results: StudyResults, trial: int, seed: int, licence: str | None) -> None:
    """Raise UserError if a folder holds foreign files, or a bundle of another model or licence."""
    foreign = foreign_files(bundle)
    if foreign and not is_intact(bundle):
        names = ", ".join(foreign[:_MAX_NAMED_FILES])
        more = f" and {len(foreign) - _MAX_NAMED_FILES} more" if len(foreign) > _MAX_NAMED_FILES else ""
        raise UserError(
            f"{bundle} holds files that were changed or that the export did not write: {names}{more}; move them, or "
            "replace the folder with --overwrite"
        )
    if not (hashes := checksums(bundle)):
        return
    files = _final_checkpoint(results, trial, seed).files
    stated = read_manifest(bundle)
    wanted = {"study": results.spec.name, "trial": trial, "seed": seed, "licence": licence}
    differences = [
        f"{name} {_or_none(stated.get(name))} instead of {_or_none(value)}"
        for name, value in wanted.items()
        if stated.get(name) != value
    ]
    differences += [
        f"another {name}"
        for name in (MODEL_FILE, METADATA_FILE)
        if hashes.get(name) != hashlib.sha256(files[name]).hexdigest()
    ]
    if differences:
        raise UserError(
            f"{bundle} holds another model: {', '.join(differences)}; choose another folder, or replace it with "
            "--overwrite"
        )


def _or_none(value: object) -> object:
    return "none" if value is None else value


def _final_checkpoint(results: StudyResults, trial: int, seed: int) -> Checkpoint:
    checkpoint = results.store.latest_checkpoint(trial, seed)
    if checkpoint is None or checkpoint.step != results.spec.train.steps:
        if (when := results.store.discarded(trial)) is not None:
            raise UserError(
                f"the weights of trial {trial} were deleted by `marl-study clean` on {when[:10]}; its results and "
                "latents are kept. Export a trial that has weights (--front), or train this one again: run the study "
                "under another name with its configuration in `include`"
            )
        raise RunError(f"the checkpoint of trial {trial}, seed {seed} is missing or damaged in {results.store.uri}")
    return checkpoint


def _export_replicate(
    results: StudyResults,
    dataset: Dataset,
    trial: int,
    seed: int,
    metric: str,
    bundle: Path,
    licence: str | None,
    overwrite: bool,
) -> None:
    checkpoint = _final_checkpoint(results, trial, seed)
    means = results.results().set_index("trial").loc[trial].to_dict()
    scores = _metrics(_final_reports(results, trial).loc[seed].to_dict())
    card = model_card(results.spec, dataset, ExportedModel(trial, seed, metric, scores, means), licence)
    try:
        with atomic_path(bundle) as draft:
            draft.mkdir()
            for name in (MODEL_FILE, METADATA_FILE):
                (draft / name).write_bytes(checkpoint.files[name])
            _write_clips(dataset, draft / _CLIPS_FOLDER)
            all_scores = {
                "metric_version": METRIC_VERSION,
                "on these clips": _score(draft),
                "in the study, this replicate": scores,
                "in the study, mean over replicates": _metrics(means),
            }
            (draft / _SCORES_FILE).write_text(json.dumps(all_scores, indent=1), encoding="utf-8")
            (draft / _CARD_FILE).write_text(card, encoding="utf-8")
            files = sorted(path for path in draft.rglob("*") if path.is_file())
            manifest = {
                "study": results.spec.name,
                "trial": trial,
                "seed": seed,
                "licence": licence,
                "marl-study": version("marl-study"),
                "sha256": {path.relative_to(draft).as_posix(): sha256_of(path) for path in files},
            }
            (draft / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            if not overwrite and bundle.exists():  # scoring takes a while
                _check_same(bundle, results, trial, seed, licence)
    except OSError as error:
        raise UserError(f"cannot write {bundle}: {error.strerror or error}") from None


def _best_replicate(results: StudyResults, trial: int, metric: str) -> int:
    reports = _final_reports(results, trial)
    if metric not in reports or reports[metric].isna().any():
        raise UserError(f"trial {trial} has no value of {metric!r}, which selects the replicate to export")
    return int(reports[metric].idxmin() if results.spec.direction(metric) == "min" else reports[metric].idxmax())


def _final_reports(results: StudyResults, trial: int) -> pd.DataFrame:
    """Return the reports of a trial at the full budget, by seed, with the latest version of each metric."""
    reports = results.reports()
    final = reports[(reports["trial"] == trial) & (reports["step"] == results.spec.train.steps)]
    return final.groupby("seed").last()


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    groups = ("fidelity/", "disentanglement/", "probe/", "nmi/")
    values = {name: value for name, value in row.items() if name.startswith(groups)}
    return {name: float(value) for name, value in values.items() if isinstance(value, float) and pd.notna(value)}


def _write_clips(dataset: Dataset, folder: Path) -> None:
    folder.mkdir()
    clips = dataset.splits["validation"][:_CLIPS]
    classes = dataset.classes(clips)
    table = pd.DataFrame({"file": [f"{index:03d}.flac" for index in range(len(clips))]})
    for name, waveform in zip(table["file"], dataset.waveforms(clips.tolist()), strict=True):
        soundfile.write(folder / name, waveform.numpy(), dataset.audio.config.sample_rate, subtype="PCM_24")
    for column, factor in enumerate(dataset.factors):
        table[factor.name] = [factor.values[index] for index in dataset.value_NC[clips, column].tolist()]
        table[f"{factor.name} class"] = classes[:, column].tolist()
    table.to_csv(folder / _FACTORS_FILE, index=False)


def _score(bundle: Path) -> dict[str, float]:
    """Return the fidelity over all clips of a bundle and of each, and the mutual information of its latents."""
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
