"""A table of sounds: spectrograms that can be played, with one frequency axis and one scale of levels.

The table is a component of Streamlit. Its JavaScript is constant and writes text as text, never as HTML.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import streamlit as st
import torch
from PIL import Image

from marl.audio import AudioConfig, hz_to_mel
from study.export.audition import Sound, loudness_gain_db, wav_files

FLOOR_DB, TOP_DB = -60.0, 0.0
# Colour ramp ordered by lightness, for light and dark themes, from the floor to full scale in dB.
_RAMP = np.array([[10, 10, 30], [60, 20, 90], [140, 40, 110], [220, 90, 70], [250, 190, 90], [252, 253, 220]])
_PIXELS = 3  # for each value of a spectrogram, in both directions
_TICKS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
_MIN_GAIN_DB = 0.05  # smaller changes of loudness are not mentioned


class Row(NamedTuple):
    """Sounds of one row by their titles, and a remark below some of them. The first sound sets the loudness."""

    title: str
    sounds: Mapping[str, Sound]
    remarks: Mapping[str, str] = {}


def sound_table(
    rows: Sequence[Row], config: AudioConfig, key: str, is_matched: bool = True, is_blind: bool = False
) -> None:
    """Draw rows of sounds. Matched, all sounds of a row have the loudness (RMS) of its first one.

    A blind table has players only. Pictures and changes of loudness would tell the sounds apart.
    """
    data = {
        "rows": [_row(row, is_matched, is_blind) for row in rows],
        "columns": max((len(row.sounds) for row in rows), default=1),
        "blind": is_blind,
        "ticks": [[position, f"{hz / 1000:g}"] for hz, position in _tick_positions(config)],
        "seconds": config.clip_s,
        "scale": [f"{FLOOR_DB:g}", f"{TOP_DB:g} dB"],
        "ramp": ["rgb({}, {}, {})".format(*colour) for colour in _RAMP],
    }
    _component()(data=data, key=key)


def spectrogram_image(sound: Sound) -> np.ndarray:
    """Return a spectrogram as an RGB image with low frequencies at the bottom."""
    scaled_FT = np.clip((sound.decibels_FT - FLOOR_DB) / (TOP_DB - FLOOR_DB), 0, 1)[::-1]
    steps = np.linspace(0, 1, len(_RAMP))
    image = np.stack([np.interp(scaled_FT, steps, _RAMP[:, colour]) for colour in range(3)], axis=-1)
    return image.astype(np.uint8).repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)


def _row(row: Row, is_matched: bool, is_blind: bool) -> dict[str, Any]:
    sounds = list(row.sounds.values())
    files = wav_files(sounds, is_matched)
    cells = []
    for title, sound, file in zip(row.sounds, sounds, files, strict=True):
        remarks = [row.remarks[title]] if title in row.remarks else []
        gain_db = loudness_gain_db(sound, sounds[0]) if is_matched else 0.0
        if abs(gain_db) >= _MIN_GAIN_DB:
            remarks.append(f"loudness {gain_db:+.1f} dB".replace("-", "\N{MINUS SIGN}"))
        cell = {"title": title, "audio": _data_url("audio/wav", file)}
        if not is_blind:
            buffer = io.BytesIO()
            Image.fromarray(spectrogram_image(sound)).save(buffer, format="PNG")
            cell |= {"remark": ", ".join(remarks), "image": _data_url("image/png", buffer.getvalue())}
        cells.append(cell)
    return {"title": row.title, "cells": cells}


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _tick_positions(config: AudioConfig) -> list[tuple[int, float]]:
    """Return round frequencies within a log-mel, and their positions from 0 at the bottom to 1 at the top."""
    low, high, *ticks = hz_to_mel(torch.tensor([config.min_hz, config.max_hz, *_TICKS_HZ])).tolist()
    positions = ((tick - low) / (high - low) for tick in ticks)
    return [(hz, position) for hz, position in zip(_TICKS_HZ, positions, strict=True) if 0.15 < position < 1.001]


@st.cache_resource
def _component() -> Any:
    return st.components.v2.component("marl_study_sounds", css=_CSS, js=_JS, isolate_styles=False)


_CSS = """
.sounds {font-family: var(--st-font); color: var(--st-text-color); font-size: 0.85rem}
.sounds-scale {display: flex; align-items: center; gap: 0.4rem; justify-content: flex-end; margin-bottom: 0.3rem}
.sounds-ramp {width: 9rem; height: 0.6rem; border-radius: 0.2rem}
.sounds-head {display: flex; align-items: center; gap: 0.8rem; margin: 0.9rem 0 0.35rem}
.sounds-head strong {font-size: 0.95rem}
.sounds-row {display: flex; gap: 0.4rem; align-items: flex-start}
.sounds-cells {flex: 1; min-width: 0; display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill,
  minmax(max(9.5rem, (100% - (var(--columns) - 1) * 0.75rem) / var(--columns)), 1fr))}
.sounds-axis {position: relative; width: 2.2rem; flex: none; height: 9.5rem; font-size: 0.7rem; opacity: 0.85}
.sounds-axis span {position: absolute; right: 0.2rem; transform: translateY(50%); white-space: nowrap}
.sounds-cell {min-width: 0; max-width: 26rem}
.sounds-picture {position: relative; height: 9.5rem; cursor: pointer; border-radius: 0.3rem; overflow: hidden}
.sounds-picture img {width: 100%; height: 100%; display: block; image-rendering: pixelated}
.sounds-picture i {position: absolute; top: 0; bottom: 0; width: 2px; left: 0; background: #fff; opacity: 0}
.sounds-cell.playing .sounds-picture i {opacity: 0.9}
.sounds-cell.playing .sounds-picture {outline: 2px solid var(--st-primary-color)}
.sounds-time {display: flex; justify-content: space-between; font-size: 0.7rem; opacity: 0.85}
.sounds-controls {display: flex; align-items: center; gap: 0.4rem; margin-top: 0.25rem}
.sounds-head button, .sounds-controls span {white-space: nowrap}
.sounds-controls input {flex: 1 1 auto; min-width: 3rem; accent-color: var(--st-primary-color)}
.sounds button {border: 1px solid var(--st-border-color); background: var(--st-background-color); cursor: pointer;
  color: var(--st-text-color); border-radius: var(--st-button-radius, 0.4rem); padding: 0.15rem 0.6rem; font: inherit}
.sounds button:hover {border-color: var(--st-primary-color); color: var(--st-primary-color)}
.sounds-title {line-height: 1.25; margin-top: 0.15rem}
.sounds-remark {opacity: 0.8; font-size: 0.8rem}
"""

_JS = """
const build = (data, root) => {
  const make = (tag, parent, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    parent.appendChild(element);
    return element;
  };
  const players = [];
  const stopOthers = (kept) => players.forEach((player) => { if (player !== kept) player.audio.pause(); });
  root.style.setProperty("--columns", data.columns);
  if (!data.blind) {
    const scale = make("div", root, "sounds-scale");
    make("span", scale, "", data.scale[0]);
    make("span", scale, "sounds-ramp").style.background = `linear-gradient(to right, ${data.ramp.join(", ")})`;
    make("span", scale, "", data.scale[1]);
  }
  data.rows.forEach((row, number) => {
    const head = make("div", root, "sounds-head");
    make("strong", head, "", row.title);
    const all = make("button", head, "", "\\u25b6 Play row");
    const line = make("div", root, "sounds-row");
    const axis = data.blind ? null : make("div", line, "sounds-axis");
    if (axis && number === 0) {
      data.ticks.forEach(([position, label]) => { make("span", axis, "", label).style.bottom = `${100 * position}%`; });
      make("span", axis, "", "kHz").style.bottom = "-0.5rem";
    }
    const cells = make("div", line, "sounds-cells");
    const ofRow = row.cells.map((cell) => {
      const box = make("div", cells, "sounds-cell");
      const picture = cell.image ? make("div", box, "sounds-picture") : null;
      const head = picture && make("i", picture);
      if (picture) {
        const image = make("img", picture);
        image.src = cell.image;
        image.alt = `spectrogram of the ${cell.title}, ${row.title}`;
        picture.onclick = (event) => {
          const frame = picture.getBoundingClientRect();
          audio.currentTime = (event.clientX - frame.left) / frame.width * length();
          player.next = null;
          start();
        };
      }
      if (picture && number === 0) {
        const times = make("div", box, "sounds-time");
        const ends = ["0", (data.seconds / 2).toFixed(1), `${data.seconds.toFixed(1)} s`];
        ends.forEach((text) => make("span", times, "", text));
      }
      const controls = make("div", box, "sounds-controls");
      const button = make("button", controls, "", "\\u25b6");
      button.setAttribute("aria-label", `Play ${cell.title}, ${row.title}`);
      const bar = make("input", controls);
      Object.assign(bar, {type: "range", min: 0, max: 1000, value: 0});
      bar.setAttribute("aria-label", `Position in ${cell.title}, ${row.title}`);
      const time = make("span", controls, "", `${data.seconds.toFixed(1)} s`);
      make("div", box, "sounds-title", cell.title);
      if (cell.remark) make("div", box, "sounds-remark", cell.remark);
      const audio = make("audio", box);
      audio.src = cell.audio;
      audio.preload = "auto";
      const player = {audio, next: null};
      const length = () => audio.duration || data.seconds;
      const show = () => {
        const part = audio.currentTime / length();
        bar.value = 1000 * part;
        if (head) head.style.left = `${100 * part}%`;
        time.textContent = `${audio.currentTime.toFixed(1)} / ${length().toFixed(1)} s`;
        if (!audio.paused) requestAnimationFrame(show);
      };
      const start = () => { stopOthers(player); audio.play(); };
      audio.onplay = () => { box.classList.add("playing"); button.textContent = "\\u275a\\u275a"; show(); };
      audio.onpause = () => { box.classList.remove("playing"); button.textContent = "\\u25b6"; };
      audio.onended = () => { audio.onpause(); const next = player.next; player.next = null; if (next) next(); };
      button.onclick = () => { player.next = null; if (audio.paused) start(); else audio.pause(); };
      bar.oninput = () => { audio.currentTime = bar.value / 1000 * length(); show(); };
      player.start = start;
      players.push(player);
      return player;
    });
    all.onclick = () => {
      ofRow.forEach((player, place) => {
        player.audio.currentTime = 0;
        player.next = place + 1 < ofRow.length ? () => ofRow[place + 1].start() : null;
      });
      ofRow[0].start();
    };
  });
};

export default ({data, parentElement}) => {
  let root = parentElement.querySelector(".sounds");
  if (!root) {
    root = document.createElement("div");
    root.className = "sounds";
    parentElement.appendChild(root);
  }
  const content = JSON.stringify(data);
  // A page that is redrawn with the same sounds keeps them, so that one that plays goes on.
  if (root.content !== content) {
    root.content = content;
    root.replaceChildren();
    build(data, root);
  }
};
"""
