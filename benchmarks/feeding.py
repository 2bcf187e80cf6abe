"""Training on clips in host memory, four times as many as the device may hold, compared with resident clips.

    python -m benchmarks.feeding [--lanes N] [--pairs N] [--frequencies N] [--seconds S]

The same stack trains on the same clips of SynTone, float16 as a prepared set keeps them: first with all of them on the
device, then from a mapped file, as where memory for a quarter of them is allowed. Both are timed in turns, and after as
many steps both must be the same to the bit.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import add_json_option, device_kind, print_table, say, write_record
from marl.audio import AudioConfig
from marl.config import Config
from marl.data import Dataset, LogMels
from marl.data.syntone import SynTone
from marl.models import Architecture
from marl.objective import ActiveTerms
from marl.stack import Stack
from study.environment import process_env
from study.training.planning import can_compile

CONFIG = Config.model_validate({"contrast": {"strategy": "infonce"}})
ROUNDS = 4


def stack_of(dataset: Dataset, lanes: int, pairs: int, compiled: bool) -> Stack:
    """A full stack of default models."""
    architecture = Architecture(64, 64, CONFIG.model, 8, 8)
    precision = "bfloat16" if compiled and dataset.device.type == "cuda" else "float32"
    stack = Stack(architecture, lanes, dataset, CONFIG.views, pairs, ActiveTerms.of(CONFIG), precision, compiled)
    for seed in range(lanes):
        stack.attach(CONFIG, seed)
    return stack


def timed(stack: Stack, steps: int) -> float:
    """Seconds of some steps."""
    stack.synchronise()
    began = time.perf_counter()
    for number in range(steps):
        stack.step()
        if number % 8 == 7:  # as a trainer does
            stack.synchronise()
    stack.synchronise()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=64 if device_kind() == "cuda" else 8)
    parser.add_argument("--pairs", type=int, default=128 if device_kind() == "cuda" else 32)
    parser.add_argument("--frequencies", type=int, default=400, help="of SynTone; 80 clips each")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the four rounds")
    parser.add_argument("--no-compile", action="store_true")
    add_json_option(parser)
    options = parser.parse_args()
    device = torch.device(device_kind())
    compiled = can_compile(device_kind()) and not options.no_compile

    made = SynTone(frequencies=options.frequencies).build(AudioConfig(), device)
    decibels = made.audio.decibels(made.log_mels.values_NFT).to(torch.float16)
    size = decibels.numel() * decibels.element_size()
    resident = dataclasses.replace(made, log_mels=LogMels(decibels, device, made.audio.mean_db, made.audio.std_db))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log_mels.npy")
        np.save(path, decibels.cpu().numpy())
        mapped = np.load(path, mmap_mode="r")
        fed = dataclasses.replace(made, log_mels=LogMels(mapped, device, made.audio.mean_db, made.audio.std_db))
        say(f"{len(mapped):,} clips, {size / 2**20:.0f} MiB where {size / 2**22:.0f} MiB are allowed")
        stacks = {
            name: stack_of(dataset, options.lanes, options.pairs, compiled)
            for name, dataset in (("resident", resident), ("fed", fed))
        }
        for stack in stacks.values():
            timed(stack, 8)
        steps = max(8, round(options.seconds * 8 / timed(stacks["resident"], 8)))
        timed(stacks["fed"], 8)
        rates: dict[str, list[float]] = {name: [] for name in stacks}
        for _ in range(ROUNDS):
            for name, stack in stacks.items():
                rates[name].append(steps * options.lanes / timed(stack, steps))
        same = all(
            torch.equal(ours, theirs)
            for lane in range(options.lanes)
            for ours, theirs in zip(
                *(stack.snapshot(lane).parameters.values() for stack in stacks.values()), strict=True
            )
        )
    median = {name: float(np.median(values)) for name, values in rates.items()}
    results = {
        "trial_steps_per_second": median,
        "share_of_the_resident_rate": median["fed"] / median["resident"],
        "bytes": size,
        "bytes_allowed": size // 4,
        "steps": steps * ROUNDS + 16,
        "same_to_the_bit": same,
    }
    print_table(
        f"{options.lanes} lanes, {options.pairs} pairs, {device_kind()}",
        ["clips", "trial-steps/s", "of resident"],
        [[name, f"{rate:.0f}", f"{rate / median['resident']:.3f}"] for name, rate in median.items()],
    )
    say(f"after {results['steps']} steps all models are {'the same to the bit' if same else 'NOT the same'}")
    config = {name: value for name, value in vars(options).items() if name != "json"}
    write_record("feeding", options.json, {**config, "compiled": compiled, "device": device_kind()}, results)


if __name__ == "__main__":
    import os

    os.environ |= process_env()
    main()
