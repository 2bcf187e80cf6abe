"""The moving picture of the README and docs/get-started.md, and its four sounds, from a study that was really run.

    marl-study run findings/listening.yaml
    python -m docs.pictures.listening listening --trial 0 --clip 8497 --other 21535

The private latents of `--clip` are decoded with the shared latents of `--other`, as on the listening page.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

from dashboard.players import spectrogram_image
from study.analysis import StudyResults
from study.charts.style import factor_value_label
from study.export.audition import Audition, Sound
from study.storage import ObjectStore
from study.store import StudyStore

PICTURE = Path(__file__).parent / "listening.webp"
SOUNDS = Path(__file__).parents[1] / "sounds"
PANEL, GAP, TITLE, CAPTION = 200, 16, 30, 28
FRAMES_PER_S, PAUSE_FRAMES = 12, 6
PAPER, INK, FAINT, ACCENT = "#ffffff", "#263238", "#78909c", "#3f51b5"


def panels(audition: Audition, clip: int, other: int) -> dict[str, tuple[str, Sound]]:
    """Return a caption and a sound for each panel, by its title."""
    sounds, rows = audition.compare(clip, other), audition.clips.set_index("clip")

    def label(number: int, *factors: str) -> str:
        values = rows.loc[number]
        return ", ".join(factor_value_label(name, values[f"factor/{name}"]) for name in factors)

    return {
        "original": (label(clip, "timbre", "frequency"), sounds["original"]),
        "reconstruction": ("from the latents of 1", sounds["reconstruction"]),
        "other": (label(other, "timbre", "frequency"), audition.original(other)),
        "swapped": ("pitch of 1, timbre of 3", sounds["shared swapped"]),
    }


def frames(parts: dict[str, tuple[str, Sound]]) -> list[Image.Image]:
    """Return the frames: each panel is played in turn, with a line that moves at the speed of the sound."""
    base = Image.new("RGB", (len(parts) * (PANEL + GAP) + GAP, TITLE + PANEL + CAPTION + GAP), PAPER)
    draw, bold, small = ImageDraw.Draw(base), ImageFont.load_default(17), ImageFont.load_default(13)
    lefts = [GAP + number * (PANEL + GAP) for number in range(len(parts))]
    for number, (left, (title, (caption, sound))) in enumerate(zip(lefts, parts.items(), strict=True), start=1):
        heading = f"{number}  {'another sound' if title == 'other' else title}"
        draw.text((left + PANEL / 2, TITLE / 2 + 3), heading, INK, bold, anchor="mm")
        draw.text((left + PANEL / 2, TITLE + PANEL + CAPTION / 2), caption, FAINT, small, anchor="mm")
        base.paste(Image.fromarray(spectrogram_image(sound)).resize((PANEL, PANEL)), (left, TITLE))
    shown = []
    for left, (_, sound) in zip(lefts, parts.values(), strict=True):
        count = round(FRAMES_PER_S * len(sound.waveform_S) / sound.sample_rate)
        for number in range(count):
            frame = base.copy()
            pen, x = ImageDraw.Draw(frame), left + round(PANEL * number / count)
            pen.rectangle((left - 3, TITLE - 3, left + PANEL + 2, TITLE + PANEL + 2), outline=ACCENT, width=3)
            pen.line((x, TITLE, x, TITLE + PANEL), PAPER, 2)
            shown.append(frame)
    return [*shown, *[base] * PAUSE_FRAMES]


def main() -> None:
    """Write the picture and the sounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--store", default="runs")
    for name in ("trial", "clip", "other"):
        parser.add_argument(f"--{name}", type=int, required=True)
    wanted = parser.parse_args()
    results = StudyResults(StudyStore(ObjectStore(wanted.store), wanted.study))
    audition = Audition.of(results, wanted.trial, results.spec.first_seed)
    parts = panels(audition, wanted.clip, wanted.other)
    first, *others = frames(parts)
    first.save(PICTURE, save_all=True, append_images=others, duration=1000 // FRAMES_PER_S, loop=0, lossless=True)
    gain = 0.8 / max(float(np.abs(sound.waveform_S).max()) for _, sound in parts.values())
    for title, (_, sound) in parts.items():
        soundfile.write(SOUNDS / f"listening-{title}.flac", sound.waveform_S * gain, sound.sample_rate)


if __name__ == "__main__":
    main()
