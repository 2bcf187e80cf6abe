"""Players for sounds of models with their spectrograms. Sounds are computed on demand and cached."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.address import choose, choose_many, choose_value
from dashboard.reading import Reading
from dashboard.text import plain
from study.charts.style import SUBSPACES, factor_value_label
from study.errors import RunError, UserError
from study.export.audition import COMPARISON, Audition, Sound, latent_ranges, log_mel_rmse_db, wav_files

_MAX_OFFERED = 200
_MAX_CLIPS = 6
_PARTS = {"private swapped": "private part of the other", "shared swapped": "shared part of the other"}
_HEADINGS = {name: _PARTS.get(name, name) for name in COMPARISON}
_EXPLANATION = (
    "Each row is a held-out clip. The private part encodes what differs between the views of a pair, the shared part "
    "what they have in common. With the private part of another clip, the sound should keep its {shared} and take the "
    "other clip's {private}; with the shared part of another clip, the reverse. All sounds of a row have the same gain."
)
# Colour ramp ordered by lightness, for light and dark themes, from the floor to full scale in dB.
_RAMP = np.array([[10, 10, 30], [60, 20, 90], [140, 40, 110], [220, 90, 70], [250, 190, 90], [252, 253, 220]])
_FLOOR_DB, _TOP_DB = -60.0, 0.0
_PIXELS = 3  # for each value of a spectrogram, in both directions
# The weights of a complete trial never change, so loaded models and sounds stay valid as long as the study exists.
_STUDY: dict[str | type[Any], Callable[[Any], Any]] = {
    Reading: lambda reading: (reading.results.store.uri, str(reading.results.metadata.created))
}


def listening_table(reading: Reading, trial: int, seed: int) -> None:
    """Draw a row of players for each selected clip and the other clip: the sounds of `COMPARISON`."""
    audition = _audition_or_reason(reading, trial, seed)
    if audition is None:
        return
    clips, other, labels = _choose_clips(reading, audition)
    for clip in dict.fromkeys([*clips, other]):
        st.markdown(f"**{plain(labels[clip])}**" + (" (the other clip)" if clip == other else ""))
        sounds = _sounds(reading, audition, trial, seed, clip, other)
        # Swapping a clip with itself gives its reconstruction.
        titles = {_HEADINGS[name]: sounds[name] for name in (COMPARISON if clip != other else COMPARISON[:2])}
        remarks = {_HEADINGS["reconstruction"]: _error_text(sounds)}
        _players(titles, f"clip {clip}, trial {trial}", remarks, len(COMPARISON))


def side_by_side(reading: Reading, trials: Sequence[int], seed: int) -> None:
    """Draw three rows of players for each clip: reconstruction and both swaps, with a column for each trial.

    The first column is the original, or the clip to swap with. All sounds of a row have the same gain.
    """
    loaded = {trial: _audition_or_reason(reading, trial, seed) for trial in trials}
    auditions = {trial: audition for trial, audition in loaded.items() if audition is not None}
    if not auditions:
        return
    first, *_ = auditions.values()
    clips, other, labels = _choose_clips(reading, first)
    for clip in clips:
        st.markdown(f"**{plain(labels[clip])}**")
        sounds = {trial: _sounds(reading, model, trial, seed, clip, other) for trial, model in auditions.items()}
        original = next(iter(sounds.values()))["original"]
        for name in COMPARISON[1:]:
            is_swap = name != "reconstruction"
            row = {"the other clip": first.original(other)} if is_swap else {"original": original}
            titles = {trial: f"trial {trial}: {_HEADINGS[name]}" for trial in sounds}
            row |= {titles[trial]: sounds[trial][name] for trial in sounds}
            remarks = {} if is_swap else {titles[trial]: _error_text(sounds[trial]) for trial in sounds}
            _players(row, f"clip {clip}", remarks, len(row))


def traversal(reading: Reading, trial: int, seed: int) -> None:
    """Draw a slider for each latent of a clip, and the sound that the latents decode to."""
    audition = _audition_or_reason(reading, trial, seed)
    if audition is None:
        return
    labels = _clip_labels(audition.clips.head(_MAX_OFFERED))
    clip = choose("clip", "Begin with clip", list(labels), next(iter(labels)), labels.__getitem__)
    sample = reading.results.store.read_latents(trial, seed)
    if sample is None:
        st.info(f"Not drawn: the store has no readable latents of trial {trial}, seed {seed}.")
        return
    ranges = latent_ranges(sample)
    st.caption(
        "Each slider covers the central 90 % of the clips and a margin, and starts at the value of the clip. "
        "The player decodes the values of the sliders."
    )
    changed: list[np.ndarray] = []
    for column, subspace, latents in zip(st.columns(2), SUBSPACES, audition.latents(clip), strict=True):
        with column:
            st.markdown(f"**{subspace}**")
            names = [f"{subspace}/{index}" for index in range(len(latents))]
            # The key holds the clip and the model, because the values depend on them.
            sliders = [
                _latent_slider(f"{trial}/{seed}/{clip}/{name}", name, float(value), ranges.loc[name])
                for name, value in zip(names, latents, strict=True)
            ]
            changed.append(np.array(sliders))
    before, after = audition.reconstruction(clip), audition.decoded(*changed)
    remarks = {"latents above": f"{log_mel_rmse_db(before, after):.2f} dB from the original latents"}
    _players({"original latents": before, "latents above": after}, labels[clip], remarks, 2)


def _latent_slider(key: str, name: str, value: float, limits: pd.Series) -> float:
    margin = 0.25 * max(float(limits["p95"] - limits["p5"]), 1e-3)
    low, high = min(float(limits["p5"]) - margin, value), max(float(limits["p95"]) + margin, value)
    return choose_value(key, name, low, high, value)


def _audition_or_reason(reading: Reading, trial: int, seed: int) -> Audition | None:
    """Return a model to listen to, or show why there is none."""
    try:
        return _audition(reading, trial, seed)
    except (UserError, RunError) as error:
        st.info(plain(f"Trial {trial}: {error}"))
        return None


@st.cache_resource(max_entries=16, show_spinner="Loading the model", hash_funcs=_STUDY)
def _audition(reading: Reading, trial: int, seed: int) -> Audition:
    return Audition.of(reading.results, trial, seed)


@st.cache_resource(max_entries=200, show_spinner="Making the sounds", hash_funcs=_STUDY)
def _sounds(reading: Reading, _audition: Audition, trial: int, seed: int, clip: int, other: int) -> dict[str, Sound]:
    return _audition.compare(clip, other)


def _error_text(sounds: dict[str, Sound]) -> str:
    return f"{log_mel_rmse_db(sounds['original'], sounds['reconstruction']):.2f} dB from the original"


def _choose_clips(reading: Reading, audition: Audition) -> tuple[list[int], int, dict[int, str]]:
    """Draw the selectors of clips; return the selected clips, the clip to swap with, and labels of all clips on offer.

    The page stops if no clip is selected.
    """
    offered = audition.clips.head(_MAX_OFFERED)
    labels = _clip_labels(offered)
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
    shared = reading.results.spec.shared_factors
    private = [name for name in reading.results.metadata.factors if name not in shared]
    st.caption(plain(_EXPLANATION.format(shared=" and ".join(shared), private=" and ".join(private))))
    return clips, other, labels


def _players(sounds: dict[str, Sound], subject: str, remarks: dict[str, str], columns: int) -> None:
    files = wav_files(list(sounds.values()))
    for column, (name, sound), file in zip(st.columns(columns), sounds.items(), files, strict=False):
        with column:
            st.image(
                spectrogram_image(sound), width="stretch", caption=name, alt=f"spectrogram of the {name}, {subject}"
            )
            st.audio(file, format="audio/wav", alt=f"{name}, {subject}")
            if name in remarks:
                st.caption(remarks[name])


def spectrogram_image(sound: Sound) -> np.ndarray:
    """Return a spectrogram as an RGB image with low frequencies at the bottom."""
    scaled_FT = np.clip((sound.decibels_FT - _FLOOR_DB) / (_TOP_DB - _FLOOR_DB), 0, 1)[::-1]
    steps = np.linspace(0, 1, len(_RAMP))
    image = np.stack([np.interp(scaled_FT, steps, _RAMP[:, colour]) for colour in range(3)], axis=-1)
    return image.astype(np.uint8).repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)


def _clip_labels(clips: pd.DataFrame) -> dict[int, str]:
    """Return a label for each clip from the values of its factors, with units."""
    factors = [str(name) for name in clips if str(name).startswith("factor/")]
    return {
        int(row["clip"]): ", ".join(factor_value_label(name.removeprefix("factor/"), row[name]) for name in factors)
        + f" (clip {int(row['clip'])})"
        for row in clips.to_dict("records")
    }
