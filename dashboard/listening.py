"""Players for sounds of models with their spectrograms. Sounds are computed on demand and cached."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.address import choose, choose_many, slide
from dashboard.reading import Reading
from dashboard.text import plain
from study.analysis import StudyResults
from study.charts.style import SUBSPACES, factor_value_label
from study.errors import UserError
from study.export.audition import COMPARISON, Audition, Sound, latent_ranges, log_mel_rmse_db, wav_files

__all__ = ["listening_table", "side_by_side", "traversal"]

_MAX_OFFERED = 200
_RECONSTRUCTION = "reconstruction"
_MAX_CLIPS = 6
_HEADINGS = {
    "original": "original",
    "reconstruction": "reconstruction",
    "private swapped": "private part of the other",
    "shared swapped": "shared part of the other",
}
_EXPLAINED = (
    "Each row is a held-out clip. The private part encodes what differs between the views of a pair, the shared part "
    "what they have in common. With the private part of another clip, the sound should keep its {shared} and take the "
    "other clip's {private}; with the shared part of another clip, the reverse. All sounds of a row have the same gain."
)
# Colour ramp ordered by lightness, for light and dark themes, from the floor to full scale in dB.
_RAMP = np.array([[10, 10, 30], [60, 20, 90], [140, 40, 110], [220, 90, 70], [250, 190, 90], [252, 253, 220]])
_FLOOR_DB, _TOP_DB = -60.0, 0.0
_ENLARGED = 3


def listening_table(reading: Reading, trial: int, seed: int) -> None:
    """Draw a row for each selected clip: the original, the reconstruction, and both swaps."""
    audition = _audition_or_reason(reading, trial, seed)
    if audition is None:
        return
    clips, other, labels = _clips(reading, audition)
    for clip in dict.fromkeys([*clips, other]):
        st.markdown(f"**{plain(labels[clip])}**" + (" (the other clip)" if clip == other else ""))
        sounds = _sounds_of(reading, audition, (trial, seed, clip, other))
        # Swapping a clip with itself gives its reconstruction.
        shown = COMPARISON if clip != other else COMPARISON[:2]
        remarks = {_HEADINGS[_RECONSTRUCTION]: _error(sounds)}
        _players(
            {_HEADINGS[name]: sounds[name] for name in shown}, f"clip {clip}, trial {trial}", remarks, len(COMPARISON)
        )


def side_by_side(reading: Reading, trials: Sequence[int], seed: int) -> None:
    """Draw a row for each clip and way to decode it, with a column for each trial. All sounds have the same gain."""
    auditions = {trial: one for trial in trials if (one := _audition_or_reason(reading, trial, seed)) is not None}
    if not auditions:
        return
    clips, other, labels = _clips(reading, next(iter(auditions.values())))
    for clip in clips:
        st.markdown(f"**{plain(labels[clip])}**")
        rows = {trial: _sounds_of(reading, one, (trial, seed, clip, other)) for trial, one in auditions.items()}
        first = next(iter(rows.values()))
        for name in COMPARISON[1:]:
            heard = {"original": first["original"]}
            if name != _RECONSTRUCTION:
                heard = {"the other clip": next(iter(auditions.values())).original(other)}
            titles = {trial: f"trial {trial}: {_HEADINGS[name]}" for trial in rows}
            heard |= {titles[trial]: row[name] for trial, row in rows.items()}
            remarks = {titles[trial]: _error(row) for trial, row in rows.items()} if name == _RECONSTRUCTION else {}
            _players(heard, f"clip {clip}", remarks, len(heard))


def traversal(reading: Reading, trial: int, seed: int) -> None:
    """Draw a slider for each latent of a clip, and the sound that the latents decode to."""
    audition = _audition_or_reason(reading, trial, seed)
    if audition is None:
        return
    labels = _labels(audition.clips.head(_MAX_OFFERED))
    clip = choose("clip", "Begin with clip", list(labels), next(iter(labels)), labels.__getitem__)
    sample = reading.results.store.read_latents(trial, seed)
    if sample is None:
        st.info(f"Not drawn: the store has no readable latents of trial {trial}, seed {seed}.")
        return
    ranges = latent_ranges(sample)
    own = dict(zip(SUBSPACES, audition.latents(clip), strict=True))
    st.caption(
        "Each slider covers the central 90 % of the clips and a margin, and starts at the value of the clip. "
        "The player decodes the values of the sliders."
    )
    columns = st.columns(2)
    moved = {}
    for place, subspace in enumerate(SUBSPACES):
        with columns[place]:
            st.markdown(f"**{subspace}**")
            moved[subspace] = [
                _slider(f"{subspace}/{index}", float(value), ranges.loc[f"{subspace}/{index}"], (trial, seed, clip))
                for index, value in enumerate(own[subspace])
            ]
    before = audition.reconstruction(clip)
    after = audition.decoded(np.array(moved["private"]), np.array(moved["shared"]))
    sounds = {"original latents": before, "latents above": after}
    _players(
        sounds, labels[clip], {"latents above": f"{log_mel_rmse_db(before, after):.2f} dB from the original latents"}, 2
    )


def _slider(name: str, value: float, limits: pd.Series, place: tuple[int, ...]) -> float:
    margin = 0.25 * max(float(limits["p95"] - limits["p5"]), 1e-3)
    low, high = min(float(limits["p5"]) - margin, value), max(float(limits["p95"]) + margin, value)
    # The key holds the clip and the model, because the values depend on them.
    return slide("/".join(map(str, (*place, name))), name, low, high, value)


def _audition_or_reason(reading: Reading, trial: int, seed: int) -> Audition | None:
    """Return a model to listen to, or show why there is none."""
    try:
        with st.spinner("Loading the model"):
            return _audition(reading.results, reading.results.store.uri, reading.results.metadata.created, trial, seed)
    except UserError as error:
        st.info(plain(f"Trial {trial}: {error}"))
        return None


# The weights of a complete trial never change, so loaded models and sounds stay valid.
@st.cache_resource(max_entries=16, show_spinner=False)
def _audition(_results: StudyResults, uri: str, created: datetime, trial: int, seed: int) -> Audition:
    return Audition.of(_results, trial, seed)


@st.cache_resource(max_entries=200, show_spinner=False)
def _sounds(_audition: Audition, uri: str, created: datetime, place: tuple[int, int, int, int]) -> dict[str, Sound]:
    _, _, clip, other = place
    return _audition.compare(clip, other)


def _sounds_of(reading: Reading, audition: Audition, place: tuple[int, int, int, int]) -> dict[str, Sound]:
    with st.spinner("Making the sounds"):
        return _sounds(audition, reading.results.store.uri, reading.results.metadata.created, place)


def _error(sounds: dict[str, Sound]) -> str:
    return f"{log_mel_rmse_db(sounds['original'], sounds[_RECONSTRUCTION]):.2f} dB from the original"


def _clips(reading: Reading, audition: Audition) -> tuple[list[int], int, dict[int, str]]:
    """Return the selected clips, the other clip, and the label of each. Stop the page if no clip is selected."""
    offered = audition.clips.head(_MAX_OFFERED)
    labels = _labels(offered)
    left, right = st.columns(2)
    with left:
        clips = choose_many("clips", "Clips", list(labels), _different(offered), labels.__getitem__, _MAX_CLIPS)
    with right:
        other = choose("other", "The other clip", list(labels), _unlike(offered, clips), labels.__getitem__)
    if not clips:
        st.info("Choose a clip.")
        st.stop()
    shared = reading.results.spec.shared_factors
    private = [name for name in reading.results.metadata.factors if name not in shared]
    st.caption(plain(_EXPLAINED.format(shared=" and ".join(shared), private=" and ".join(private))))
    return clips, other, labels


def _players(sounds: dict[str, Sound], what: str, remarks: dict[str, str], columns: int) -> None:
    contents = wav_files(list(sounds.values()))
    for column, (name, sound), content in zip(st.columns(columns), sounds.items(), contents, strict=False):
        with column:
            st.image(_picture(sound), width="stretch", caption=name, alt=f"spectrogram of the {name}, {what}")
            st.audio(content, format="audio/wav", alt=f"{name}, {what}")
            if name in remarks:
                st.caption(remarks[name])


def _picture(sound: Sound) -> np.ndarray:
    """Return a spectrogram as an RGB image with low frequencies at the bottom."""
    part_FT = np.clip((sound.decibels_FT - _FLOOR_DB) / (_TOP_DB - _FLOOR_DB), 0, 1)[::-1]
    steps = np.linspace(0, 1, len(_RAMP))
    image = np.stack([np.interp(part_FT, steps, _RAMP[:, colour]) for colour in range(3)], axis=-1)
    return image.astype(np.uint8).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)


def _labels(clips: pd.DataFrame) -> dict[int, str]:
    """Return a label for each clip from its factors and their units."""
    names = [str(name) for name in clips if str(name).startswith("factor/")]
    return {
        int(row["clip"]): ", ".join(factor_value_label(name.removeprefix("factor/"), row[name]) for name in names)
        + f" (clip {int(row['clip'])})"
        for row in clips.to_dict("records")
    }


def _different(clips: pd.DataFrame) -> list[int]:
    """Return two clips that differ in the first factor."""
    first = next(name for name in clips if str(name).startswith("factor/"))
    return [int(clip) for clip in clips.drop_duplicates(first)["clip"].head(2)]


def _unlike(clips: pd.DataFrame, chosen: Sequence[int]) -> int:
    """Return a clip, not among the chosen ones, that differs from the first of them in every factor if there is one."""
    names = [name for name in clips if str(name).startswith("factor/")]
    first = clips[clips["clip"] == chosen[0]] if chosen else clips.head(1)
    differs = (clips[names] != first[names].iloc[0]).all(axis=1) & ~clips["clip"].isin(chosen)
    return int(clips[differs]["clip"].iloc[0] if differs.any() else clips["clip"].iloc[-1])
