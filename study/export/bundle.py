"""Exported models: self-contained folders with weights, configuration, scores, clips, a model card and checksums.

The model card is filled into the template `model_card.md.j2`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import soundfile
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from marl.checkpoint import MANIFEST_FILE, METADATA_FILE, MODEL_FILE, ModelMetadata
from marl.data import KINDS, Dataset
from marl.metrics import METRIC_VERSION
from study.analysis import StudyResults, metric_columns
from study.datasets import dataset_of
from study.errors import UserError, option
from study.export.replicates import best_seed, final_checkpoint, final_reports
from study.export.verify import (
    CLIPS_FOLDER,
    FACTORS_FILE,
    SCORES_FILE,
    checksums,
    foreign_files,
    is_intact,
    read_manifest,
    score,
    sha256_of,
)
from study.local_files import atomic_path
from study.spec.plugins import load_recorded
from study.spec.resolved_spec import ResolvedSpec
from study.store import StudyMetadata

_CARD_FILE = "README.md"
_CLIPS = 64
_MAX_NAMED_FILES = 5
# Longer names belong to metrics of single classes, which the card leaves out.
_MAX_NAME_PARTS = 3


class _Model(NamedTuple):
    """A replicate of a trial, as its model card describes it.

    Attributes:
        metric: Metric that selected it among the trial's replicates.
        means: Row of the trial in the results.
        network: Kind of the network.
    """

    trial: int
    seed: int
    metric: str
    scores: Mapping[str, float]
    means: Mapping[str, Any]
    network: str


def export_trials(
    results: StudyResults,
    trials: list[int],
    metric: str,
    folder: Path,
    licence: str | None = None,
    overwrite: bool = False,
    on_existing: Callable[[Path], None] = lambda _: None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
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
        on_progress: Called with the number of finished bundles and of all bundles.

    Raises:
        UserError: If a trial is not complete, its weights were deleted, or a folder holds another model or foreign
            files or cannot be written. No bundle is written if a folder cannot be replaced.
        RunError: If a checkpoint is missing or damaged.
    """
    load_recorded(results.spec, results.metadata.plugins)
    states = results.results().set_index("trial")["state"]
    for trial in trials:
        if (state := states.get(trial, "not there")) != "complete":
            raise UserError(f"only complete trials can be exported; trial {trial} is {state}")
    seeds = {trial: best_seed(results, trial, metric) for trial in trials}
    bundles = {trial: folder / f"{results.spec.name}-trial-{trial}-seed-{seed}" for trial, seed in seeds.items()}
    existing = set()
    for trial, bundle in bundles.items():
        if not overwrite and bundle.exists():
            _check_same(bundle, results, trial, seeds[trial], licence)
            if is_intact(bundle):
                existing.add(trial)
    dataset: Dataset | None = None
    on_progress(0, len(bundles))
    for number, (trial, bundle) in enumerate(bundles.items(), 1):
        if trial in existing:
            on_existing(bundle)
        else:
            dataset = dataset or dataset_of(ResolvedSpec(results.spec), results.store.objects, torch.device("cpu"))
            _export_replicate(results, dataset, trial, seeds[trial], metric, bundle, licence, overwrite)
        on_progress(number, len(bundles))
    return list(bundles.values())


def _check_same(bundle: Path, results: StudyResults, trial: int, seed: int, licence: str | None) -> None:
    """Raise UserError if a folder holds foreign files, or a bundle of another model or licence."""
    foreign = foreign_files(bundle)
    if foreign and not is_intact(bundle):
        names = ", ".join(foreign[:_MAX_NAMED_FILES])
        more = f" and {len(foreign) - _MAX_NAMED_FILES} more" if len(foreign) > _MAX_NAMED_FILES else ""
        raise UserError(
            f"{bundle} holds files that were changed or that the export did not write: {names}{more}; move them, or "
            f"replace the folder with {option('overwrite', True)}"
        )
    if not (hashes := checksums(bundle)):
        return
    files = final_checkpoint(results, trial, seed).files
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
            f"{option('overwrite', True)}"
        )


def _or_none(value: object) -> object:
    return "none" if value is None else value


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
    checkpoint = final_checkpoint(results, trial, seed)
    means = results.results().set_index("trial").loc[trial].to_dict()
    report = final_reports(results, trial).loc[seed]
    scores = _metrics(report.to_dict())
    kind = ModelMetadata.model_validate_json(checkpoint.files[METADATA_FILE]).config.model.kind
    card = _model_card(results.metadata, dataset, _Model(trial, seed, metric, scores, means, kind), licence)
    try:
        with atomic_path(bundle) as draft:
            draft.mkdir()
            for name in (MODEL_FILE, METADATA_FILE):
                (draft / name).write_bytes(checkpoint.files[name])
            _write_clips(dataset, draft / CLIPS_FOLDER)
            all_scores = {
                "metric_version": METRIC_VERSION,
                "metric_version in the study": int(report["metric_version"]),
                "on these clips": score(draft),
                "in the study, this replicate": scores,
                "in the study, mean over replicates": _metrics(means),
            }
            (draft / SCORES_FILE).write_text(json.dumps(all_scores, indent=1), encoding="utf-8")
            (draft / _CARD_FILE).write_text(card, encoding="utf-8")
            files = sorted(path for path in draft.rglob("*") if path.is_file())
            manifest = {
                "study": results.spec.name,
                "trial": trial,
                "seed": seed,
                "licence": licence,
                "marl-study": version("marl-study"),
                "plugins": list(results.metadata.plugins),
                "sha256": {path.relative_to(draft).as_posix(): sha256_of(path) for path in files},
            }
            (draft / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            if not overwrite and bundle.exists():  # scoring takes a while
                _check_same(bundle, results, trial, seed, licence)
    except OSError as error:
        raise UserError(f"cannot write {bundle}: {error.strerror or error}") from None


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    groups = ("fidelity/", "disentanglement/", "information/", "leakage/", "probe/", "nmi/")
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
    table.to_csv(folder / FACTORS_FILE, index=False)


def _model_card(metadata: StudyMetadata, dataset: Dataset, model: _Model, licence: str | None) -> str:
    """Return the model card as Markdown with the YAML header that model hubs read. HTML in values is escaped."""
    spec = metadata.spec
    environment = Environment(
        loader=PackageLoader("study", "export"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    kind = KINDS[spec.data["kind"]]
    split, rules = spec.data.get("split", "clip"), {"clip": "Clips were assigned to splits one by one."}
    rules |= {unit: f"No {unit} is in two splits." for unit in ("group", "combination")}
    private = [factor.name for factor in dataset.factors if factor.name not in spec.shared_factors]
    return environment.get_template("model_card.md.j2").render(
        spec=spec,
        model=model,
        licence=licence,
        shared=" and ".join(spec.shared_factors),
        private=" and ".join(private),
        data=f"{kind.description[0].upper()}{kind.description[1:]}",
        reference=Markup(kind.reference or ""),  # noqa: S704  # BibTeX of this package
        clips=len(dataset.value_NC),
        splits=", ".join(f"{len(clips):,} for {name}" for name, clips in dataset.splits.items()),
        split_rule=rules.get(split, f"No two splits share a {split}."),
        factors=dataset.factors,
        settings={name: value for name, value in spec.data.items() if name != "path"},
        metrics=_card_metrics(model),
        plugins=metadata.plugins,
    )


def _card_metrics(model: _Model) -> list[dict[str, str]]:
    """Return name, score, mean and interval of each metric."""
    rows = []
    for name in metric_columns(pd.DataFrame([model.scores])):
        if name.count("/") >= _MAX_NAME_PARTS:
            continue
        mean, half_width = (float(model.means.get(column, float("nan"))) for column in (name, f"{name}/ci"))
        rows.append({"name": name, "score": f"{model.scores[name]:.4f}"})
        rows[-1]["mean"] = "–" if pd.isna(mean) else f"{mean:.4f}"
        rows[-1]["interval"] = "–" if pd.isna(half_width) else f"{mean - half_width:.4f} to {mean + half_width:.4f}"
    return rows


def _cell(value: Any) -> str:
    """Return a value as text for a cell of a Markdown table."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.4g}"
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
