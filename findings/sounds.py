"""Sounds of the best model of a study for docs/findings.md: two clips, their reconstructions, and their swaps.

    python -m findings.sounds STUDY [--store URI] [--trial N]

The files `docs/sounds/STUDY-<what>.flac` share one gain. The clips are the first validation clip and the first one
after it that differs from it in every factor.
"""

from pathlib import Path

import numpy as np
import soundfile

from findings.collect import new_parser
from study.cli.common import open_results
from study.export.audition import Audition, Sound

_PEAK = 0.9
FOLDER = Path(__file__).parents[1] / "docs" / "sounds"


def _centre_hz(sound: Sound) -> float:
    """Return the mean frequency of a sound, weighted by power."""
    power_F = np.abs(np.fft.rfft(sound.waveform_S)) ** 2
    return float(np.average(np.fft.rfftfreq(len(sound.waveform_S), 1 / sound.sample_rate), weights=power_F))


def main() -> None:
    """Write the sounds and print a description of each."""
    parser = new_parser(__doc__)
    parser.add_argument("study", metavar="STUDY")
    parser.add_argument("--trial", type=int, help="by default the best in the last objective")
    arguments = parser.parse_args()
    results = open_results(arguments.store, arguments.study)
    trial = arguments.trial
    if trial is None:
        trial = results.best_trial(list(results.spec.objectives)[-1])
    audition = Audition.of(results, trial, results.spec.first_seed)
    factors = [column for column in audition.clips if column.startswith("factor/")]
    first = audition.clips.iloc[0]
    second = audition.clips[(audition.clips[factors] != first[factors]).all(axis=1)].iloc[0]
    a, b = int(first["clip"]), int(second["clip"])
    sounds = {
        "a": audition.original(a),
        "b": audition.original(b),
        "a-inverted": audition.inverted(a),
        "a-reconstruction": audition.reconstruction(a),
        "b-reconstruction": audition.reconstruction(b),
        "a-with-shared-of-b": audition.swapped(a, shared_from=b),
        "b-with-shared-of-a": audition.swapped(b, shared_from=a),
    }
    loudest = max(float(np.abs(sound.waveform_S).max()) for sound in sounds.values()) / _PEAK
    FOLDER.mkdir(exist_ok=True)
    for name, sound in sounds.items():
        path = FOLDER / f"{arguments.study}-{name}.flac"
        soundfile.write(path, sound.waveform_S / loudest, sound.sample_rate, subtype="PCM_16")
        print(f"{name}: centre of power at {_centre_hz(sound):.0f} Hz")
    for name, row in (("a", first), ("b", second)):
        print(f"{name}: " + ", ".join(f"{column.removeprefix('factor/')} {row[column]}" for column in factors))
    print(f"trial {trial}, seed {results.spec.first_seed}: {len(sounds)} sounds in {FOLDER}")


if __name__ == "__main__":
    main()
