"""Trial-steps a second on this machine's CPUs: one stack of models against plain training of one model a process.

    python -m benchmarks.throughput

Every way trains models of the quickstart study's size on all of SynTone: the same network, objective, batch, optimiser
and allocator. Plain training is what a user would write: `torch.optim.Adam`, `torch.randint` for the batch,
`torch.randn` for the noise, data resident in memory, and no hashing of random numbers. The ways take turns, so that
whatever else the machine does meanwhile slows all of them; the median over rounds counts.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from marl.audio import AudioConfig
from marl.config import Config
from marl.data import SynTone, build
from marl.model import Architecture, PatchNetwork
from marl.objective import Batch, ContrastConfig, Program, contrasts_of, lane_settings, objective
from marl.stack import Stack
from study.trainer import ALLOCATOR

LANES, PAIRS = 8, 32
CONFIG = Config(contrast=ContrastConfig(strategy="infonce"))
WARM_STEPS = 10
# Name, processes side by side, threads of each (none: all cores), and whether a process trains a stack.
WAYS = {
    f"stack of {LANES}, one process, all cores": (1, None, True),
    "plain, a single-threaded process a core, side by side": (os.cpu_count() or 1, 1, False),
    "plain, one process, all cores": (1, None, False),
}


def dataset():
    return build(SynTone(), AudioConfig(), torch.device("cpu"))


def architecture() -> Architecture:
    audio = AudioConfig()
    return Architecture(audio.mel_bands, audio.frames, CONFIG.model, CONFIG.latent.private, CONFIG.latent.shared)


def stack_step():
    """One step of a full stack; returns the step and how many models it trains."""
    contrasts = tuple(contrasts_of(CONFIG.contrast))
    stack = Stack(architecture(), LANES, dataset(), ("timbre",), PAIRS, (CONFIG.latent.combine,), contrasts)
    for seed in range(LANES):
        stack.attach(CONFIG, seed)
    return stack.step, LANES


def plain_step():
    """One step of one model, as a script would make it."""
    data, network = dataset(), PatchNetwork(architecture())
    clips = data.splits["training"]
    timbre = data.value_NC[clips, data.factor_names.index("timbre")]
    order = timbre.argsort()
    clips, timbre = clips[order], timbre[order]
    size = timbre.bincount()
    start = size.cumsum(0) - size
    program = Program(network, (CONFIG.latent.combine,), tuple(contrasts_of(CONFIG.contrast)), len(clips))
    settings = lane_settings(program, CONFIG.latent, CONFIG.loss, CONFIG.contrast)
    parameters = {name: value.requires_grad_() for name, value in network.initial(CONFIG.latent, seed=0).items()}
    optimiser = torch.optim.Adam(parameters.values(), lr=CONFIG.optimiser.learning_rate)

    def step():
        first = torch.randint(len(clips), (PAIRS,))
        group = timbre[first]
        second = start[group] + (torch.rand(PAIRS) * size[group]).long()
        patches = network.to_patches(data.log_mel_NFT[clips[torch.cat([first, second])]])
        noise = torch.randn(2 * PAIRS, network.latents)
        loss, _ = objective(program, parameters, settings, Batch(patches, group, noise))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step, 1


def work(threads: int | None, is_stack: bool, seconds: float) -> None:
    """One process: prints its trial-steps a second. Waits for a line, so that all processes begin together."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    step, models = stack_step() if is_stack else plain_step()
    for _ in range(WARM_STEPS):
        step()
    print("ready", flush=True)
    sys.stdin.readline()
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        step()
        steps += 1
    print(steps * models / (time.monotonic() - started), flush=True)


def measure(processes: int, threads: int | None, is_stack: bool, seconds: float) -> float:
    """Trial-steps a second of all processes of one way together."""
    words = [sys.executable, "-m", "benchmarks.throughput", "--work", json.dumps([threads, is_stack, seconds])]
    environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(threads or os.cpu_count() or 1)}
    workers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0]) for worker in workers)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is measured")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each time")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*json.loads(options.work))
        return
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(options.rounds):
        for name, (processes, threads, is_stack) in WAYS.items():
            rates[name].append(measure(processes, threads, is_stack, options.seconds))
            print(f"round {number + 1} of {options.rounds}: {name}: {rates[name][-1]:.0f}", file=sys.stderr)
    stack_name = next(iter(WAYS))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{'':<56}{'trial-steps/s':>14}{'lowest':>9}{'highest':>9}{'stack is':>10}")
    for name, values in rates.items():
        ratio = medians[stack_name] / medians[name]
        print(f"{name:<56}{medians[name]:>14.1f}{min(values):>9.1f}{max(values):>9.1f}{ratio:>9.2f}x")
    record = {
        "trial_steps_per_second": rates,
        "device": f"{processor()}, {os.cpu_count()} CPUs",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "lanes": LANES,
        "batch_pairs": PAIRS,
        "seconds": options.seconds,
        "config": CONFIG.model_dump(mode="json"),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
