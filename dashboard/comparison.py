"""Sounds of several models: a table of clips and models, and a blind test of two of them."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.address import choose
from dashboard.listening import (
    MAX_OFFERED,
    audition_or_reason,
    choose_clips,
    clip_labels,
    compared_sounds,
    error_text,
    heading,
    match_loudness,
)
from dashboard.notes import is_written, show_failure
from dashboard.players import Row, sound_table
from dashboard.reading import Reading
from study.analysis import trial_name
from study.analysis.statistics import wilson_interval
from study.export.audition import COMPARISON
from study.spec import Baseline, TrialId

_Pair = tuple[TrialId, TrialId]

_ROUNDS = (10, 20, 40)
_ANSWERS = ("A is nearer", "B is nearer", "I cannot tell")
_VIEWS = {name: name.replace(" swapped", " part swapped in") for name in COMPARISON[1:]}


def side_by_side(reading: Reading, trials: Sequence[int], seed: int) -> None:
    """Draw a row for each clip: the original, or the clip to swap with, and then a sound of each trial."""
    loaded = {trial: audition_or_reason(reading, trial, seed) for trial in trials}
    auditions = {trial: audition for trial, audition in loaded.items() if audition is not None}
    if not auditions:
        return
    first, *_ = auditions.values()
    clips, other, labels = choose_clips(reading, first)
    names = list(_VIEWS)
    name = choose("sound", "Sound of each trial", names, names[0], _VIEWS.__getitem__)
    is_matched = match_loudness()
    rows = []
    for clip in clips:
        sounds = {
            trial: compared_sounds(reading, model, trial, seed, clip, other) for trial, model in auditions.items()
        }
        row = {"original": next(iter(sounds.values()))["original"]}
        if name != "reconstruction":
            row[f"the other clip: {labels[other]}"] = first.original(other)
        titles = {trial: f"trial {trial}" for trial in sounds}
        row |= {titles[trial]: sounds[trial][name] for trial in sounds}
        remarks = {titles[trial]: error_text(sounds[trial]) for trial in sounds} if name == "reconstruction" else {}
        title = labels[clip] if name == "reconstruction" else f"{labels[clip]}: {heading(name, labels[other])}"
        rows.append(Row(title, row, remarks))
    sound_table(rows, first.audio, key="side by side", is_matched=is_matched)


@st.fragment
def blind_test(reading: Reading, trials: Sequence[int], seed: int) -> None:
    """Ask which of two reconstructions is nearer to the original, without telling whose they are.

    Clips and the order of the two are random. The result is kept as a note on the trials.
    """
    pairs = _pairs(reading, trials)
    left, right = st.columns(2)
    with left:
        pair = pairs[choose("pair", "Models", list(pairs), next(iter(pairs)), lambda name: _names(pairs[name]))]
    with right:
        rounds = choose("rounds", "Clips", _ROUNDS, _ROUNDS[0], is_segmented=True)
    first, second = (audition_or_reason(reading, trial, seed) for trial in pair)
    if first is None or second is None:
        return
    clips = first.clips.head(MAX_OFFERED)
    key = f"blind test {reading.results.spec.name} {pair} {seed} {rounds}"
    test: dict[str, Any] = st.session_state.setdefault(key, {})
    if not test:
        order = int(np.random.default_rng().integers(2**31))
        test |= {"order": order, "rounds": list(_rounds(clips, rounds, order)), "answers": []}
    answers: list[str] = test["answers"]
    st.caption(
        f"Which reconstruction is nearer to the original? {rounds} random clips of {_names(pair)}, in random order, "
        "with equal loudness. Pictures and names are hidden."
    )
    if len(answers) == rounds:
        _result(reading, pair, seed, test)
        return
    number = len(answers)
    st.progress(number / rounds, f"clip {number + 1} of {rounds}")
    clip, is_swapped = test["rounds"][number]
    sounds = [first.reconstruction(clip), second.reconstruction(clip)]
    if is_swapped:
        sounds.reverse()
    row = Row(clip_labels(clips)[clip], {"original": first.original(clip), "A": sounds[0], "B": sounds[1]})
    sound_table([row], first.audio, key=f"{key} {number}", is_blind=True)
    with st.container(horizontal=True):
        for answer in _ANSWERS:
            st.button(answer, key=f"{key} {number} {answer}", on_click=answers.append, args=[answer])


def _pairs(reading: Reading, trials: Sequence[int]) -> dict[str, _Pair]:
    """Return the pairs of models to choose from: of two trials, and of a trial and the plain VAE."""
    models: list[TrialId] = list(trials)
    if Baseline.PLAIN_VAE in set(reading.results.baselines().get("baseline", ())):
        models.append(Baseline.PLAIN_VAE)
    return {f"{first},{second}": (first, second) for first, second in combinations(models, 2)}


def _names(pair: _Pair) -> str:
    return " and ".join(map(trial_name, pair))


def _rounds(clips: pd.DataFrame, rounds: int, order: int) -> Iterator[tuple[int, bool]]:
    """Return for each round a random clip, and whether the second model is A."""
    random = np.random.default_rng(order)
    chosen = random.choice(clips["clip"].to_numpy(), size=rounds, replace=len(clips) < rounds)
    return zip(chosen.tolist(), (random.random(rounds) < 0.5).tolist(), strict=True)


def _result(reading: Reading, pair: _Pair, seed: int, test: dict[str, Any]) -> None:
    nearer: dict[str, list[str]] = {trial_name(pair[0]): [], trial_name(pair[1]): [], "undecided": []}
    for (clip, is_swapped), answer in zip(test["rounds"], test["answers"], strict=True):
        is_second = (answer == _ANSWERS[1]) != is_swapped
        nearer["undecided" if answer == _ANSWERS[2] else trial_name(pair[is_second])].append(str(clip))
    wins, undecided = len(nearer[trial_name(pair[0])]), len(nearer["undecided"])
    decided = len(test["answers"]) - undecided
    low, high = wilson_interval(wins, decided)
    result = (
        f"Blind test of {_names(pair)} (seed {seed}): {trial_name(pair[0])} was nearer to the original in {wins} of "
        f"{decided} decided clips ({100 * low:.0f} to {100 * high:.0f} %, 90 % interval), {undecided} undecided."
    )
    st.success(result)
    show_failure()
    clips = "; ".join(f"{name}: {', '.join(numbers) or 'none'}" for name, numbers in nearer.items())
    answers = f"Nearer by clip: {clips}. Order from seed {test['order']}."
    st.caption(answers)
    with st.container(horizontal=True):
        if not test.get("is_saved"):
            st.button(
                "Keep as a note", on_click=_keep, args=[reading, pair, f"{result}\n{answers}", test], type="primary"
            )
        st.button("Again with other clips", on_click=test.clear)


def _keep(reading: Reading, pair: _Pair, text: str, test: dict[str, Any]) -> None:
    test["is_saved"] = all(
        is_written(reading, reading.notes.write, trial, text) for trial in pair if not isinstance(trial, Baseline)
    )
