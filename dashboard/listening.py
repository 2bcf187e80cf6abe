"""Sounds of one model: the listening table, and sounds decoded from moved latents. Sounds are computed on demand."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.address import choose, choose_many, choose_value, forget, switch
from dashboard.players import Row, sound_table
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import trial_name
from study.charts.style import SUBSPACES, MissingDataError, factor_value_label
from study.charts.trial import mutual_information_data
from study.errors import RunError, UserError
from study.export.audition import COMPARISON, Audition, Sound, latent_ranges, log_mel_rmse_db
from study.report.figures import ReportContext
from study.spec import TrialId

MAX_OFFERED = 200
"""Maximum number of clips to choose from."""

_MAX_CLIPS = 6
_MAX_SLIDERS = 8  # of each subspace; the others are in an expander
_EXPLANATION = (
    "Each row is a held-out clip. The private part encodes what differs between the views of a pair, the shared part "
    "what they have in common. With the private part of another clip, the sound should keep its {shared} and take the "
    "other clip's {private}; with the shared part of another clip, the reverse."
)
# The weights of a complete trial never change, so loaded models and sounds stay valid as long as the study exists.
_STUDY: dict[str | type[Any], Callable[[Any], Any]] = {
    Reading: lambda reading: (reading.results.store.uri, str(reading.results.metadata.created))
}


def listening_table(reading: Reading, trial: int, seed: int) -> None:
    """Draw a row of players for each selected clip and the other clip: the sounds of `COMPARISON`."""
    audition = audition_or_reason(reading, trial, seed)
    if audition is None:
        return
    clips, other, labels = choose_clips(reading, audition)
    is_matched = match_loudness()
    rows = []
    for clip in dict.fromkeys([*clips, other]):
        sounds = compared_sounds(reading, audition, trial, seed, clip, other)
        # Swapping a clip with itself gives its reconstruction.
        names = COMPARISON if clip != other else COMPARISON[:2]
        titled = {heading(name, labels[other]): sounds[name] for name in names}
        title = labels[clip] + (" (the other clip)" if clip == other else "")
        rows.append(Row(title, titled, {"reconstruction": error_text(sounds)}))
    sound_table(rows, audition.audio, key="listening table", is_matched=is_matched)


def traversal(reading: Reading, trial: int, seed: int) -> None:
    """Draw a slider for each latent of a clip, and beside them the sound that the latents decode to."""
    audition = audition_or_reason(reading, trial, seed)
    if audition is None:
        return
    labels = clip_labels(audition.clips.head(MAX_OFFERED))
    clip = choose("clip", "Begin with clip", list(labels), next(iter(labels)), labels.__getitem__)
    sample = reading.results.store.read_latents(trial, seed)
    if sample is None:
        st.info(f"Not drawn: the store has no readable latents of trial {trial}, seed {seed}.")
        return
    ranges = latent_ranges(sample)
    known = reading.once(("latents know", trial, seed), lambda: _best_factors(reading, trial, seed))
    _sliders_and_sound(audition, f"{trial}/{seed}/{clip}", clip, labels[clip], ranges, known)


@st.fragment
def _sliders_and_sound(
    audition: Audition, prefix: str, clip: int, label: str, ranges: pd.DataFrame, known: dict[str, tuple[str, float]]
) -> None:
    """Draw the sliders and the sound. As a fragment, only this part of the page runs again when a slider moves."""
    left, right = st.columns([3, 2], gap="medium")
    values: dict[str, float] = {}
    latents = dict(zip(SUBSPACES, audition.latents(clip), strict=True))
    with left:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Reset all latents", on_click=forget, args=[f"{prefix}/"])
            st.caption("Each slider spans the central 90 % of the clips and a margin. Sorted by what a latent knows.")
        for column, (subspace, value_D) in zip(st.columns(2, gap="medium"), latents.items(), strict=True):
            names = [f"{subspace}/{index}" for index in range(len(value_D))]
            start = dict(zip(names, map(float, value_D), strict=True))
            names.sort(key=lambda name: -known.get(name, ("", 0.0))[1])
            with column:
                st.markdown(f"**{subspace}**")
                for name in names[:_MAX_SLIDERS]:
                    values[name] = _latent_slider(prefix, name, start[name], ranges.loc[name], known)
                if names[_MAX_SLIDERS:]:
                    with st.expander(f"{len(names) - _MAX_SLIDERS} more, which know little"):
                        for name in names[_MAX_SLIDERS:]:
                            values[name] = _latent_slider(prefix, name, start[name], ranges.loc[name], known)
    changed = [
        np.array([values[f"{subspace}/{index}"] for index in range(len(value_D))])
        for subspace, value_D in latents.items()
    ]
    before, after = audition.reconstruction(clip), audition.decoded(*changed)
    remarks = {"moved latents": f"{log_mel_rmse_db(before, after):.2f} dB from the latents of the clip"}
    with right, st.container(key="traversal-sound"):  # it stays in view, by the style of the app
        row = Row(label, {"latents of the clip": before, "moved latents": after}, remarks)
        sound_table([row], audition.audio, key="traversal", is_matched=False)


def _latent_slider(
    prefix: str, name: str, value: float, limits: pd.Series, known: dict[str, tuple[str, float]]
) -> float:
    margin = 0.25 * max(float(limits["p95"] - limits["p5"]), 1e-3)
    low, high = min(float(limits["p5"]) - margin, value), max(float(limits["p95"]) + margin, value)
    factor, share = known.get(name, ("", 0.0))
    # The name of the parameter holds the clip and the model, because the values depend on them.
    return choose_value(f"{prefix}/{name}", f"{name} · {factor} {share:.2f}" if factor else name, low, high, value)


def _best_factors(reading: Reading, trial: int, seed: int) -> dict[str, tuple[str, float]]:
    """Return the factor that each latent has the most information about, and this share of the factor's entropy."""
    context = ReportContext(reading.results, trial, seed)
    try:
        data = mutual_information_data(context.latents, context.factors)
    except MissingDataError:
        return {}
    best = data.loc[data.groupby(["subspace", "latent"])["nmi"].idxmax()]
    return {f"{row.subspace}/{row.latent}": (str(row.factor), float(row.nmi)) for row in best.itertuples()}


def audition_or_reason(reading: Reading, trial: TrialId, seed: int) -> Audition | None:
    """Return a model to listen to, or show why there is none."""
    try:
        return _audition(reading, trial, seed)
    except (UserError, RunError) as error:
        name = trial_name(trial)
        st.info(plain(f"{name[0].upper()}{name[1:]}: {error}"))
        return None


@st.cache_resource(max_entries=16, show_spinner="Loading the model", hash_funcs=_STUDY)
def _audition(reading: Reading, trial: TrialId, seed: int) -> Audition:
    return Audition.of(reading.results, trial, seed)


@st.cache_resource(max_entries=200, show_spinner="Making the sounds", hash_funcs=_STUDY)
def compared_sounds(
    reading: Reading, _audition: Audition, trial: int, seed: int, clip: int, other: int
) -> dict[str, Sound]:
    """Return the sounds of `COMPARISON`."""
    return _audition.compare(clip, other)


def heading(name: str, other: str) -> str:
    """Return the title of a sound of `COMPARISON`; `other` is the label of the clip to swap with."""
    part, _, verb = name.partition(" ")
    return f"{part} swapped in from {other}" if verb == "swapped" else name


def match_loudness() -> bool:
    """Draw the switch of equal loudness."""
    return switch("matched", "Match loudness", True, "All sounds of a row get the RMS level of its first sound.")


def error_text(sounds: dict[str, Sound]) -> str:
    """Return the error of a reconstruction."""
    return f"{log_mel_rmse_db(sounds['original'], sounds['reconstruction']):.2f} dB from the original"


def choose_clips(reading: Reading, audition: Audition) -> tuple[list[int], int, dict[int, str]]:
    """Draw the selectors of clips; return the selected clips, the clip to swap with, and labels of all clips on offer.

    The page stops if no clip is selected.
    """
    offered = audition.clips.head(MAX_OFFERED)
    labels = clip_labels(offered)
    factors = [str(name) for name in offered if str(name).startswith("factor/")]
    left, right = st.columns(2)
    with left:
        default = offered.drop_duplicates(factors[0])["clip"].head(2).tolist()  # two that differ in the first factor
        clips = choose_many("clips", "Clips", list(labels), default, labels.__getitem__, _MAX_CLIPS)
    with right:
        # The first clip that differs from the first selected one in every factor; the last clip if there is none.
        first = offered[offered["clip"] == clips[0]] if clips else offered.head(1)
        differs = (offered[factors] != first[factors].iloc[0]).all(axis=1) & ~offered["clip"].isin(clips)
        unlike = int(offered[differs]["clip"].iloc[0] if differs.any() else offered["clip"].iloc[-1])
        other = choose("other", "The other clip", list(labels), unlike, labels.__getitem__)
    if not clips:
        st.info("Choose a clip.")
        st.stop()
    shared: Sequence[str] = reading.results.spec.shared_factors
    private = [name for name in reading.results.metadata.factors if name not in shared]
    st.caption(plain(_EXPLANATION.format(shared=" and ".join(shared), private=" and ".join(private))))
    return clips, other, labels


def clip_labels(clips: pd.DataFrame) -> dict[int, str]:
    """Return a label for each clip from the values of its factors, with units."""
    factors = [str(name) for name in clips if str(name).startswith("factor/")]
    return {
        int(row["clip"]): ", ".join(factor_value_label(name.removeprefix("factor/"), row[name]) for name in factors)
        + f" (clip {int(row['clip'])})"
        for row in clips.to_dict("records")
    }
