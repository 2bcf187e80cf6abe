"""Training on clips in host memory, four times as many as the device may hold, compared with resident clips.

    python -m benchmarks.feeding [--lanes N] [--pairs N] [--frequencies N] [--seconds S]

The same stack trains on the same clips of SynTone, float16 as a prepared set keeps them: first with all of them on the
device, then from a mapped file, as if memory for a quarter of them were allowed. Rounds of both alternate. After the
same number of steps the models of both must be equal to the bit.
"""

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import device_kind, log, new_parser, print_table, timed, write_record
from benchmarks.models import LANES, PAIRS, full_stack
from marl.audio import AudioConfig
from marl.config import Config
from marl.data import LogMels
from marl.data.syntone import SynTone
from marl.stack import Stack
from study.environment import process_env
from study.training.planning import can_compile, trainer_threads

CONFIG = Config.model_validate({"contrast": {"strategy": "infonce"}})
ROUNDS = 4


def train(stack: Stack, steps: int) -> None:
    for number in range(1, steps + 1):
        stack.step()
        if number % 8 == 0 or number == steps:  # as a trainer does
            stack.synchronise()


def same_models(stacks: dict[str, Stack], lanes: int) -> bool:
    pairs = ([stack.snapshot(lane).parameters for stack in stacks.values()] for lane in range(lanes))
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in a)


def main() -> None:
    kind = device_kind()
    parser = new_parser(__doc__)
    parser.add_argument("--lanes", type=int, default=LANES[kind])
    parser.add_argument("--pairs", type=int, default=PAIRS[kind])
    parser.add_argument("--frequencies", type=int, default=400, help="of SynTone, 80 clips each")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the four rounds")
    parser.add_argument("--no-compile", action="store_true")
    options, device = parser.parse_args(), torch.device(kind)
    compiled = can_compile(kind) and not options.no_compile
    precision = "bfloat16" if compiled and kind == "cuda" else "float32"

    made = SynTone(frequencies=options.frequencies).build(AudioConfig(), device)
    decibels = made.audio.decibels(made.log_mels.values_NFT).to(torch.float16)
    size = decibels.numel() * decibels.element_size()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log_mels.npy")
        np.save(path, decibels.cpu().numpy())
        mapped = np.load(path, mmap_mode="r")
        log(f"{len(mapped):,} clips, {size / 2**20:.0f} MiB, allowed are {size / 2**22:.0f} MiB")
        stacks = {}
        for name, values in (("resident", decibels), ("fed", mapped)):
            log_mels = LogMels(values, device, made.audio.mean_db, made.audio.std_db)
            dataset = dataclasses.replace(made, log_mels=log_mels)
            stacks[name] = full_stack(dataset, [CONFIG], options.lanes, options.pairs, precision, compiled)
            train(stacks[name], 8)
        steps = max(8, round(options.seconds * 8 / timed(train, stacks["resident"], 8)[1]))
        train(stacks["fed"], 8)
        rates: dict[str, list[float]] = {name: [] for name in stacks}
        for _ in range(ROUNDS):
            for name, stack in stacks.items():
                rates[name].append(steps * options.lanes / timed(train, stack, steps)[1])
        same = same_models(stacks, options.lanes)
    median = {name: float(np.median(values)) for name, values in rates.items()}
    share = median["fed"] / median["resident"]
    results = {
        "trial_steps_per_second": median,
        "share_of_the_resident_rate": share,
        "bytes": size,
        "bytes_allowed": size // 4,
        "steps": steps * ROUNDS + 16,
        "same_to_the_bit": same,
    }
    rows = [["resident", f"{median['resident']:.0f}", "1"], ["fed", f"{median['fed']:.0f}", f"{share:.3f}"]]
    print_table(
        f"{options.lanes} lanes, {options.pairs} pairs, {kind}", ["clips", "trial-steps/s", "of resident"], rows
    )
    log(f"after {results['steps']} steps all models are {'the same to the bit' if same else 'NOT the same'}")
    write_record("feeding", options, results, compiled=compiled, device=kind)


if __name__ == "__main__":
    os.environ |= process_env(trainer_threads(device_kind()))
    main()
