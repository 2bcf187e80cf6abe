"""Summary of a prepared set: counts, factors, durations, loudness, examples, and what a network reads from log-mels."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import soundfile
import torch
from rich.table import Column, Table

from marl.data import Clips, Partners
from marl.data.dataset import SPLITS, UNKNOWN
from marl.evaluation import FIT_CLIPS, HELD_OUT_CLIPS
from marl.metrics.readers import READERS, balanced_accuracy
from study.analysis.statistics import accuracy_standard_error
from study.datasets import clips_of, dataset_of, has_pairs
from study.datasets.prepared_set import PreparedSet
from study.errors import UserError
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore

_MAX_NAMES = 3
_EXAMPLES = 24
_COMPONENTS = 64
_MAX_NAME_LENGTH = 120
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class DatasetSummary:
    """Summary of a prepared set.

    Attributes:
        splits: Number of clips of each split.
        pairs: `clips` with known shared factors, by split, and number of `unpaired` clips, for which no other clip has
            the same shared and different private factors. Empty if the views are not pairs of clips.
        pairs_warning: Why a study on these clips is refused, or None.
        factors: `factor`, `values`, `classes`, `unknown` (share of clips), `fewest` and `most` clips of a class; `read`
            with its standard error `read_se`, the accuracy of a small network on raw log-mels of validation clips; and
            `chance`.
        sounds: Minimum, quartiles and maximum of duration in seconds, loudness in dB, and peak.
        rejected: `reason`, `entries` and some `names` of rejected entries.
    """

    uri: str
    clips: int
    splits: dict[str, int]
    pairs: pd.DataFrame
    pairs_warning: str | None
    factors: pd.DataFrame
    sounds: pd.DataFrame
    rejected: pd.DataFrame


def summarise(resolved: ResolvedSpec, objects: ObjectStore) -> DatasetSummary:
    """Summarise the prepared set of a spec that has the key of its set."""
    prepared = PreparedSet(objects, resolved.spec.data["content"])
    clips = clips_of(resolved, objects)
    factors = _factors(clips)
    factors["read"] = _read_from_log_mels(resolved, objects)
    measured = min(HELD_OUT_CLIPS, len(clips.splits["validation"]))
    factors["read_se"] = [float(accuracy_standard_error(accuracy, measured)) for accuracy in factors["read"]]
    factors["chance"] = [1 / classes for classes in clips.num_eval_classes("validation")]
    pairs, pairs_warning = _pairs(resolved, clips)
    sounds = prepared.rows[["sounds_s", "loudness_db", "peak"]].quantile(list(_QUANTILES)).T
    return DatasetSummary(
        uri=prepared.uri,
        clips=len(prepared.rows),
        splits={name: len(clips.splits[name]) for name in (*SPLITS, *sorted(clips.splits.keys() - set(SPLITS)))},
        pairs=pairs,
        pairs_warning=pairs_warning,
        factors=factors,
        sounds=sounds.set_axis(["minimum", "25 %", "median", "75 %", "maximum"], axis=1),
        rejected=_rejected(prepared.table),
    )


def summary_tables(summary: DatasetSummary) -> list[Table]:
    """Return the summary as tables for a terminal."""
    counts = _table(f"{summary.clips:,} clips", "split", "clips")
    for name, clips in summary.splits.items():
        counts.add_row(name, f"{clips:,}")
    columns = ("values", "classes", "unknown", "clips of a class", "lightweight reader\nof raw log-mels", "chance")
    factors = _table("factors", "factor", *columns)
    for row in summary.factors.itertuples():
        factors.add_row(
            str(row.factor),
            *(f"{row.values:,}", str(row.classes), f"{row.unknown:.1%}", f"{row.fewest:,} to {row.most:,}"),
            *(f"{row.read:.3f} ± {row.read_se:.3f}", f"{row.chance:.3f}"),
        )
    sounds = _table("sounds", "", *summary.sounds.columns)
    labels = {"sounds_s": "sounds for (s)", "loudness_db": "loudness (dB, full-scale sine is 0)", "peak": "peak"}
    for name, row in summary.sounds.iterrows():
        sounds.add_row(labels[str(name)], *(f"{value:.2f}" for value in row))
    tables = [counts, factors, sounds]
    if len(summary.pairs):
        pairs = _table("pairs", "split", "clips", "without a partner")
        for split, row in summary.pairs.iterrows():
            pairs.add_row(str(split), f"{row.clips:,}", f"{row.unpaired:,} ({row.unpaired / row.clips:.1%})")
        tables.insert(1, pairs)
    if len(summary.rejected):
        rejected = _table("left out", "reason", "entries", "for example")
        for row in summary.rejected.itertuples():
            rejected.add_row(str(row.reason), f"{row.entries:,}", str(row.names))
        tables.append(rejected)
    return tables


def write_examples(resolved: ResolvedSpec, objects: ObjectStore, folder: Path) -> list[Path]:
    """Write some validation clips as WAV files named by their factors."""
    clips = clips_of(resolved, objects)
    chosen = clips.splits["validation"][:_EXAMPLES]
    examples = zip(clips.value_NC[chosen].tolist(), clips.waveforms(chosen.tolist()), strict=True)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (value_C, waveform_S) in enumerate(examples):
            words = [str(factor.values[index]) for factor, index in zip(clips.factors, value_C, strict=True)]
            name = re.sub(r"[^\w .,-]", "_", ", ".join(words))[:_MAX_NAME_LENGTH]
            path = folder / f"{number:02d} {name}.wav"
            soundfile.write(path, waveform_S.numpy(), resolved.audio.sample_rate, subtype="PCM_16")
            paths.append(path)
    except OSError as error:
        raise UserError(f"--examples: cannot write {folder}: {error.strerror or error}") from None
    return paths


def _factors(clips: Clips) -> pd.DataFrame:
    rows = []
    for factor, value_N in zip(clips.factors, clips.value_NC.unbind(dim=1), strict=True):
        is_known_N = value_N != UNKNOWN
        counts = factor.class_of(value_N[is_known_N]).bincount(minlength=factor.classes)
        unknown = 1 - float(is_known_N.double().mean())
        rows.append((factor.name, len(factor.values), factor.classes, unknown, int(counts.min()), int(counts.max())))
    return pd.DataFrame(rows, columns=["factor", "values", "classes", "unknown", "fewest", "most"])


def _pairs(resolved: ResolvedSpec, clips: Clips) -> tuple[pd.DataFrame, str | None]:
    """Return `pairs` and `pairs_warning` of a summary."""
    pairs, warning = pd.DataFrame(columns=["clips", "unpaired"]), None
    if not has_pairs(resolved):
        return pairs, warning
    for split in ("training", "validation"):
        try:
            partners = Partners(clips, resolved.base_config.views.shared, split)
            pairs.loc[split] = [len(partners.clips_N), partners.unpaired]
            if split == "training":
                partners.check()
        except ValueError as error:
            warning = warning or str(error)
    return pairs, warning


def _read_from_log_mels(resolved: ResolvedSpec, objects: ObjectStore) -> list[float]:
    """Return the balanced accuracy of the lightweight reader of whole spectrograms, for each factor.

    It reads the principal components of the spectrograms that have most of their variance. There is one for every five
    clips to fit on at most: from more, a reader learns the clips by heart.
    """
    dataset = dataset_of(resolved, objects, torch.device("cpu"))
    train, held_out = (
        (dataset.log_mels[clips].flatten(1)[None], dataset.classes(clips))
        for clips in (
            dataset.probe_train_clips("validation")[:FIT_CLIPS],
            dataset.splits["validation"][:HELD_OUT_CLIPS],
        )
    )
    components = max(1, min(_COMPONENTS, train[0].shape[1] // 5))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the algorithm draws numbers
        _, _, component_FQ = torch.pca_lowrank(train[0][0], q=components, niter=4)
    fitted = READERS["lightweight"].fit(train[0] @ component_FQ, train[1], [one.classes for one in dataset.factors])
    answers = fitted.log_probabilities(held_out[0] @ component_FQ)
    return [float(balanced_accuracy(answer, class_N)) for answer, class_N in zip(answers, held_out[1].mT, strict=True)]


def _rejected(table: pd.DataFrame) -> pd.DataFrame:
    rejected = table.dropna(subset=["rejected"])
    # Texts after a colon, and names of other entries, differ for each entry.
    reason = rejected["rejected"].str.replace(r"^same samples as .*", "same samples as another entry", regex=True)
    grouped = rejected.assign(reason=reason.str.split(":").str[0]).groupby("reason")["name"]
    rows = [(reason, len(names), ", ".join(names.head(_MAX_NAMES))) for reason, names in grouped]
    return pd.DataFrame(sorted(rows, key=lambda row: -row[1]), columns=["reason", "entries", "names"])


def _table(title: str, first: str, *others: str) -> Table:
    columns = [Column(other, justify="right") for other in others]
    return Table(first, *columns, title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
