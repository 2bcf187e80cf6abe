"""Speed of `marl-study embed` on many short sounds, compared with a plain loop.

    python -m benchmarks.embed [--clips N] [--plain N]

The sounds are one second each at the model's sample rate. The plain loop reads a file and calls `model.encode`, one
after the other, as one would in a notebook; it does so for fewer files. The command's memory at its peak is measured at
a tenth of the clips, too: it must not grow with them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

import marl
from benchmarks.machine import add_json_option, print_table, say, write_record
from marl import checkpoint
from marl.audio import AudioConfig
from marl.checkpoint import ModelMetadata
from marl.config import Config
from marl.data.syntone import SynTone
from marl.models import Architecture
from marl.objective import ActiveTerms
from marl.stack import Stack

CONFIG = Config()
RATE = 16_000
MIB = 2**20


def write_model(folder: Path) -> None:
    """A default model, trained for a few steps."""
    dataset = SynTone(frequencies=20, amplitudes=4).build(AudioConfig(), torch.device("cpu"))
    stack = Stack(Architecture(64, 64, CONFIG.model, 8, 8), 1, dataset, CONFIG.views, 16, ActiveTerms.of(CONFIG))
    stack.attach(CONFIG, seed=0)
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
    (folder / "model.safetensors").write_bytes(checkpoint.model_bytes(snapshot))
    (folder / "config.json").write_text(metadata.model_dump_json())


def write_sounds(folder: Path, first: int, end: int) -> None:
    """A sweep each."""
    folder.mkdir(exist_ok=True)
    time_s = np.arange(RATE) / RATE
    for number in range(first, end):
        waveform = 0.3 * np.sin(2 * np.pi * (100 + number % 3000 + 50 * time_s) * time_s)
        soundfile.write(folder / f"{number:06d}.wav", waveform, RATE, subtype="PCM_16")


def embedded(model: Path, sounds: Path, output: Path) -> tuple[float, float]:
    """Seconds and bytes at the peak of the command, whole as a user calls it, its start included."""
    command = [str(Path(sys.executable).with_name("marl-study")), "embed", str(model), str(sounds), "-o", str(output)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(said)
    return time.perf_counter() - began, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--plain", type=int, default=1_000, metavar="N", help="of them in the plain loop")
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, sounds = folder / "model", folder / "sounds"
        write_model(model)
        tenth = max(1, options.clips // 10)
        write_sounds(sounds, 0, tenth)
        few_s, few_bytes = embedded(model, sounds, folder / "few.parquet")
        write_sounds(sounds, tenth, options.clips)
        many_s, many_bytes = embedded(model, sounds, folder / "many.parquet")

        extractor = marl.load(model)
        began = time.perf_counter()
        rows = []
        for path in sorted(sounds.iterdir())[: options.plain]:
            waveform, sample_rate = soundfile.read(path, dtype="float32")
            rows.append(torch.cat(extractor.encode(torch.from_numpy(waveform), sample_rate), dim=-1))
        plain_rate = len(rows) / (time.perf_counter() - began)
        table = pd.read_parquet(folder / "many.parquet")
        latents = [column for column in table if column.startswith(("private/", "shared/"))]
        difference = np.abs(table[latents].to_numpy()[: len(rows)] - torch.cat(rows).numpy()).max()
    results = {
        "clips_per_second": {str(tenth): tenth / few_s, str(options.clips): options.clips / many_s},
        "plain_clips_per_second": plain_rate,
        "peak_bytes": {str(tenth): few_bytes, str(options.clips): many_bytes},
        "largest_difference_to_plain": float(difference),
    }
    print_table(
        "one-second clips",
        ["way", "clips/s", "peak MiB"],
        [
            [f"marl-study embed, {tenth:,} clips", f"{tenth / few_s:.0f}", f"{few_bytes / MIB:.0f}"],
            [
                f"marl-study embed, {options.clips:,} clips",
                f"{options.clips / many_s:.0f}",
                f"{many_bytes / MIB:.0f}",
            ],
            ["plain loop", f"{plain_rate:.0f}", ""],
        ],
    )
    say(f"largest difference of a feature to the plain loop: {difference:.1e}")
    config = {name: value for name, value in vars(options).items() if name != "json"}
    write_record("embed", options.json, config, results)


if __name__ == "__main__":
    main()
