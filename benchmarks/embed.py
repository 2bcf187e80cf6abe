"""Speed of `marl-study embed` on many short sounds, compared with a plain loop.

    python -m benchmarks.embed [--clips N] [--plain N]

The sounds are one second each at the model's sample rate. The plain loop reads a file and calls `model.encode`, one
after the other, as one would in a notebook, for fewer files. The peak memory of the command is also measured at a tenth
of the clips: it must not grow with their number.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

import marl
from benchmarks.machine import log, new_parser, print_table, timed, write_record
from benchmarks.models import full_stack
from marl.audio import AudioConfig
from marl.checkpoint import METADATA_FILE, MODEL_FILE, ModelMetadata, model_bytes
from marl.config import Config
from marl.data.syntone import SynTone

CONFIG = Config()
RATE = 16_000


def write_model(folder: Path) -> None:
    """Write a default model, trained for a few steps."""
    dataset = SynTone(frequencies=20, amplitudes=4).build(AudioConfig(), torch.device("cpu"))
    stack = full_stack(dataset, [CONFIG], lanes=1, pairs=16)
    for _ in range(4):
        stack.step()
    snapshot = stack.snapshot(0)
    metadata = ModelMetadata(
        config=CONFIG,
        audio=dataset.audio.config,
        mean_db=dataset.audio.mean_db,
        std_db=dataset.audio.std_db,
        shared_factors=("timbre",),
        seed=0,
        step=snapshot.step,
    )
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(model_bytes(snapshot))
    (folder / METADATA_FILE).write_text(metadata.model_dump_json())


def write_sounds(folder: Path, first: int, end: int) -> None:
    """Write frequency sweeps."""
    folder.mkdir(exist_ok=True)
    time_s = np.arange(RATE) / RATE
    for number in range(first, end):
        waveform = 0.3 * np.sin(2 * np.pi * (100 + number % 3000 + 50 * time_s) * time_s)
        soundfile.write(folder / f"{number:06d}.wav", waveform, RATE, subtype="PCM_16")


def run_command(model: Path, sounds: Path, output: Path) -> float:
    """Run `marl-study embed` and return its peak memory in bytes."""
    command = [str(Path(sys.executable).with_name("marl-study")), "embed", str(model), str(sounds)]
    command += ["-o", str(output), "--overwrite"]
    _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024


def plain_loop(extractor, paths: list[Path]) -> torch.Tensor:
    rows = []
    for path in paths:
        waveform, sample_rate = soundfile.read(path, dtype="float32")
        rows.append(torch.cat(extractor.encode(torch.from_numpy(waveform), sample_rate), dim=-1))
    return torch.cat(rows)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--plain", type=int, default=1_000, metavar="N", help="clips in the plain loop")
    options = parser.parse_args()
    tenth = max(1, options.clips // 10)
    rates, peaks = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, sounds, table = folder / "model", folder / "sounds", folder / "table.parquet"
        write_model(model)
        for first, end in ((0, tenth), (tenth, options.clips)):
            write_sounds(sounds, first, end)
            peaks[str(end)], seconds = timed(run_command, model, sounds, table)
            rates[str(end)] = end / seconds
        latents_ND, seconds = timed(plain_loop, marl.load(model), sorted(sounds.iterdir())[: options.plain])
        plain_rate = len(latents_ND) / seconds
        embedded = pd.read_parquet(table).filter(regex="^(private|shared)/").to_numpy()
    difference = float(np.abs(embedded[: len(latents_ND)] - latents_ND.numpy()).max())
    rows = [[f"marl-study embed, {end} clips", rates[end], peaks[end] / 2**20] for end in rates]
    print_table("one-second clips", ["way", "clips/s", "peak MiB"], [*rows, ["plain loop", plain_rate, None]])
    log(f"largest difference of a feature to the plain loop: {difference:.1e}")
    results = {"clips_per_second": rates, "plain_clips_per_second": plain_rate, "peak_bytes": peaks}
    write_record("embed", options, {**results, "largest_difference_to_plain": difference})


if __name__ == "__main__":
    main()
