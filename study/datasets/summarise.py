"""Summary of a prepared set: counts, factors, durations, loudness, examples, and a probe on raw log-mels."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import soundfile
import torch
from rich.table import Table

from marl.data import Clips
from marl.data.dataset import SPLITS, UNKNOWN
from marl.evaluation import HELD_OUT_CLIPS
from marl.metrics.probes import probe_accuracy
from study.analysis.statistics import accuracy_standard_error
from study.datasets.load import clips_of, dataset_of
from study.datasets.prepared_set import PreparedSet
from study.errors import UserError
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore

__all__ = ["DatasetSummary", "summarise", "summary_tables", "write_examples"]

_MAX_NAMES = 3
_EXAMPLES = 24
_MAX_NAME_LENGTH = 120
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class DatasetSummary:
    """Summary of a prepared set.

    Attributes:
        uri: Address of the set.
        clips: Number of clips.
        splits: Number of clips of each split.
        factors: `factor`, `values`, `classes`, `unknown` (share of clips), `fewest` and `most` clips of a class; `read`
            with its standard error `read_se`, the accuracy of a small network on raw log-mels of validation clips; and
            `chance`.
        sounds: Minimum, quartiles and maximum of duration in seconds, loudness in dB, and peak.
        rejected: `reason`, `entries` and some `names` of rejected entries.
    """

    uri: str
    clips: int
    splits: dict[str, int]
    factors: pd.DataFrame
    sounds: pd.DataFrame
    rejected: pd.DataFrame


def summarise(resolved: ResolvedSpec, objects: ObjectStore) -> DatasetSummary:
    """Summarise the prepared set of a spec.

    Args:
        resolved: Resolved spec with the key of its prepared set.
        objects: The store.
    """
    prepared = PreparedSet(objects, resolved.spec.data["content"])
    known = clips_of(resolved, objects)
    factors = _factors(known)
    accuracy_C, at_stake_C = _read_from_log_mels(resolved, objects), known.num_eval_classes("validation")
    factors["read"] = accuracy_C
    measured = min(HELD_OUT_CLIPS, len(known.splits["validation"]))
    factors["read_se"] = [float(accuracy_standard_error(accuracy, measured)) for accuracy in accuracy_C]
    factors["chance"] = [1 / classes for classes in at_stake_C]
    sounds = prepared.rows[["sounds_s", "loudness_db", "peak"]].quantile(list(_QUANTILES)).T
    return DatasetSummary(
        uri=prepared.uri,
        clips=len(prepared.rows),
        splits={name: len(known.splits[name]) for name in (*SPLITS, *sorted(known.splits.keys() - set(SPLITS)))},
        factors=factors,
        sounds=sounds.set_axis(["minimum", "25 %", "median", "75 %", "maximum"], axis=1),
        rejected=_rejected(prepared.table),
    )


def summary_tables(found: DatasetSummary) -> list[Table]:
    """Return the summary as tables for a terminal."""
    counts = _table(f"{found.clips:,} clips", "split", "clips")
    for name, clips in found.splits.items():
        counts.add_row(name, f"{clips:,}")
    factors = _table(
        "factors", "factor", *("values", "classes", "unknown", "clips of a class", "probe on\nraw log-mels", "chance")
    )
    for row in found.factors.itertuples():
        factors.add_row(
            str(row.factor),
            *(f"{row.values:,}", str(row.classes), f"{row.unknown:.1%}", f"{row.fewest:,} to {row.most:,}"),
            *(f"{row.read:.3f} ± {row.read_se:.3f}", f"{row.chance:.3f}"),
        )
    sounds = _table("sounds", "", *found.sounds.columns)
    labels = {"sounds_s": "sounds for (s)", "loudness_db": "loudness (dB, full-scale sine is 0)", "peak": "peak"}
    for name, row in found.sounds.iterrows():
        sounds.add_row(labels[str(name)], *(f"{value:.2f}" for value in row))
    tables = [counts, factors, sounds]
    if len(found.rejected):
        rejected = _table("left out", "reason", "entries", "for example")
        for row in found.rejected.itertuples():
            rejected.add_row(str(row.reason), f"{row.entries:,}", str(row.names))
        tables.append(rejected)
    return tables


def write_examples(resolved: ResolvedSpec, objects: ObjectStore, folder: Path) -> list[Path]:
    """Write some validation clips as WAV files named by their factors.

    Raises:
        UserError: If the folder cannot be written.
    """
    known, audio = clips_of(resolved, objects), resolved.audio
    chosen = known.splits["validation"][:_EXAMPLES]
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (value_C, waveform_S) in enumerate(
            zip(known.value_NC[chosen].tolist(), known.waveforms(chosen.tolist()), strict=True)
        ):
            words = [str(factor.values[index]) for factor, index in zip(known.factors, value_C, strict=True)]
            name = re.sub(r"[^\w .,-]", "_", ", ".join(words))[:_MAX_NAME_LENGTH]
            path = folder / f"{number:02d} {name}.wav"
            soundfile.write(path, waveform_S.numpy(), audio.sample_rate, subtype="PCM_16")
            paths.append(path)
    except OSError as error:
        raise UserError(f"--examples: cannot write {folder}: {error.strerror or error}") from None
    return paths


def _factors(known: Clips) -> pd.DataFrame:
    rows = []
    for column, factor in enumerate(known.factors):
        value_N = known.value_NC[:, column]
        is_known_N = value_N != UNKNOWN
        counts = torch.tensor(factor.class_of_value)[value_N[is_known_N]].bincount(minlength=factor.classes)
        rows.append(
            {
                "factor": factor.name,
                "values": len(factor.values),
                "classes": factor.classes,
                "unknown": 1 - float(is_known_N.double().mean()),
                "fewest": int(counts.min()),
                "most": int(counts.max()),
            }
        )
    return pd.DataFrame(rows)


def _read_from_log_mels(resolved: ResolvedSpec, objects: ObjectStore) -> list[float]:
    """Return the accuracy of the probe of `probe/<factor>/…` on whole spectrograms, for each factor."""
    dataset = dataset_of(resolved, objects, torch.device("cpu"))
    fit, held_out = (
        clips[:HELD_OUT_CLIPS] for clips in (dataset.probe_train_clips("validation"), dataset.splits["validation"])
    )
    accuracy_1C = probe_accuracy(
        dataset.log_mels[fit].flatten(1)[None],
        dataset.classes(fit),
        dataset.log_mels[held_out].flatten(1)[None],
        dataset.classes(held_out),
        [factor.classes for factor in dataset.factors],
    )
    return [float(accuracy) for accuracy in accuracy_1C[0]]


def _rejected(table: pd.DataFrame) -> pd.DataFrame:
    rejected = table.dropna(subset=["rejected"])
    # Texts after a colon, and names of other entries, differ for each entry.
    reason = rejected["rejected"].str.replace(r"^same samples as .*", "same samples as another entry", regex=True)
    grouped = rejected.assign(reason=reason.str.split(":").str[0]).groupby("reason")["name"]
    rows = [
        {"reason": reason, "entries": len(names), "names": ", ".join(names.head(_MAX_NAMES))}
        for reason, names in grouped
    ]
    return pd.DataFrame(sorted(rows, key=lambda row: -row["entries"]), columns=["reason", "entries", "names"])


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right")
    return table
