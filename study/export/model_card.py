"""The model card of an exported model: what it is, what it was trained on, how good it is, and whom to cite."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from marl.data import KINDS, Dataset
from study.analysis import metric_columns
from study.spec import Spec

__all__ = ["Subject", "model_card"]

# A name of so many parts is that of a class of a factor; the card leaves these out.
_DETAIL = 3
_UNSTATED = "unknown"

_METHOD = """@inproceedings{wilkins2024self,
  title = {Self-Supervised Multi-View Learning for Disentangled Music Audio Representations},
  author = {Wilkins, Julia and Ding, Sivan and Fuentes, Magdalena and Bello, Juan Pablo},
  year = {2024}, eprint = {2411.02711}, archivePrefix = {arXiv}
}
@inproceedings{wilkins2025balancing,
  title = {Balancing Information Preservation and Disentanglement in Self-Supervised Music Representation Learning},
  author = {Wilkins, Julia and Ding, Sivan and Fuentes, Magdalena and Bello, Juan Pablo},
  year = {2025}, eprint = {2507.22995}, archivePrefix = {arXiv}
}
@article{choi2022towards,
  title = {Towards Proper Contrastive Self-supervised Learning Strategies for Music Audio Representation},
  author = {Choi, Jeong and Jang, Seongwon and Cho, Hyunsouk and Chung, Sehee},
  year = {2022}, eprint = {2207.04471}, archivePrefix = {arXiv}
}"""


class Subject(NamedTuple):
    """A model that is exported.

    Attributes:
        trial: its number.
        seed: of the replicate.
        by: the metric that chose it among the trial's replicates.
        scores: its own, by metric.
        means: the trial's row of results, means over replicates with `/sd` and `/ci`.
    """

    trial: int
    seed: int
    by: str
    scores: Mapping[str, float]
    means: Mapping[str, Any]


def model_card(spec: Spec, dataset: Dataset, subject: Subject, licence: str | None) -> str:
    """The card, Markdown with the fields that model hubs read in front.

    Args:
        spec: of the study, resolved.
        dataset: of the study.
        subject: which model.
        licence: under which it may be used, as its owner says; none when that was not said.
    """
    data = KINDS[spec.data["kind"]]
    shared = " and ".join(spec.shared_factors)
    others = [factor.name for factor in dataset.factors if factor.name not in spec.shared_factors]
    unstated = "not stated. Say which by `marl-study export --licence`; that of the sounds may decide it"
    licence_line = f"Licence: {licence or unstated}."
    return f"""---
license: {licence or _UNSTATED}
library_name: marl-study
tags: [audio, music, representation-learning, disentanglement, self-supervised]
---

# {spec.name}, trial {subject.trial}, seed {subject.seed}

A feature extractor for music audio. Its shared features hold what two clips of the same {shared} have in common, its
private features what is each clip's own, such as {" and ".join(others)}.

```python
import marl

model = marl.load(".")
private, shared = model.encode_file("clips/000.flac")
```

{licence_line}

## Data

{data.description[0].upper()}{data.description[1:]}: {len(dataset.value_NC):,} clips of {spec.audio["clip_s"]:g} s at \
{spec.audio["sample_rate"]:,} Hz, {_splits(dataset)}. {_split_rule(spec)}

| factor | subspace | values | classes of probes |
|---|---|---:|---:|
{_factors(spec, dataset)}

| setting | value |
|---|---|
{_lines({name: value for name, value in spec.data.items() if name != "path"})}

## Training

{spec.train.steps:,} steps of {spec.train.batch_pairs} pairs; seed {subject.seed} is the best in `{subject.by}` of the
{spec.replicates} replicates of the trial, and what another seed may give is said by the means.

| parameter | value |
|---|---|
{_lines({name: subject.means.get(f"config/{name}") for name in spec.space})}

## Metrics

On validation clips that no model was trained on, `test/…` on others that chose nothing. The interval is of 90 %, for
the mean over seeds, on these clips. `marl-study verify .` checks that this folder is whole and scores the model again.

| metric | this model | mean of the trial | 90 % interval |
|---|---:|---:|---:|
{_metrics(subject)}

## Cite

```bibtex
{chr(10).join(filter(None, (_METHOD, data.reference)))}
```
"""


def _splits(dataset: Dataset) -> str:
    return ", ".join(f"{len(clips):,} for {name}" for name, clips in dataset.splits.items())


def _split_rule(spec: Spec) -> str:
    by = spec.data.get("split", "clip")
    if by == "clip":
        return "Clips were split one by one."
    return f"No {by} lies in two splits." if by in ("group", "combination") else f"No {by} of one split is in another."


def _factors(spec: Spec, dataset: Dataset) -> str:
    return "\n".join(
        f"| {factor.name} | {'shared' if factor.name in spec.shared_factors else 'private'} | {len(factor.values):,} "
        f"| {factor.classes} |"
        for factor in dataset.factors
    )


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"| {name} | {_text(value)} |" for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = ", ".join(map(_text, value))
    elif isinstance(value, float):
        text = "–" if pd.isna(value) else f"{value:.4g}"
    else:
        text = "–" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _metrics(subject: Subject) -> str:
    lines = []
    for name in metric_columns(pd.DataFrame([subject.scores])):
        if name.count("/") >= _DETAIL or name.endswith(("/sd", "/ci", "/clips_se")):
            continue
        mean, half = (float(subject.means.get(column, float("nan"))) for column in (name, f"{name}/ci"))
        interval = "–" if pd.isna(half) else f"{mean - half:.4f} to {mean + half:.4f}"
        lines.append(f"| {name} | {subject.scores[name]:.4f} | {mean:.4f} | {interval} |")
    return "\n".join(lines)
