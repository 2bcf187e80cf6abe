"""Trial-steps per second of the same models trained one by one, in several processes, and as a stack.

    python -m benchmarks.throughput

Every way trains the same network, objective, batch and optimiser on all of SynTone: on a GPU the default network with
128 pairs a batch, on a processor the quickstart's with 32. Plain training is what a user would write:
`torch.optim.Adam`, `torch.randint` for the batch, `torch.randn` for the noise, and no hashing of random numbers. The
ways take turns, so that other load on the machine slows all of them; the median over rounds counts. The
share of the floor is that of `benchmarks.floor`, by rates measured in the same run. "First step" is the time from a
made stack to the end of its first step, first with an empty cache of compiled steps and then with a warm one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import psutil
import torch

from benchmarks.floor import floor, measured_rates
from benchmarks.machine import add_json_option, device_kind, print_table, say, write_record
from marl.audio import AudioConfig
from marl.config import Config, ContrastConfig
from marl.data.syntone import SynTone
from marl.models import Architecture, build_network
from marl.objective import ActiveTerms, Batch, LaneHyperparameters, ObjectiveSpec, build_hyperparameters, objective
from marl.stack import Stack
from study.environment import process_env

CONFIG = Config(contrast=ContrastConfig(strategy="infonce", private=1.0))
PAIRS = {"cpu": 32, "cuda": 128}
WARM_STEPS = 10
CORES = os.cpu_count() or 1


class Way(NamedTuple):
    """One way to train.

    Attributes:
        kind: `loader`, `resident` or `stack`.
        processes: side by side on one device.
        lanes: of a stack.
        compiled: whether the step is compiled, and on a GPU a single graph.
        precision: of the large layers.
    """

    kind: str
    processes: int = 1
    lanes: int = 1
    compiled: bool = False
    precision: str = "float32"

    @property
    def name(self) -> str:
        many = "one process" if self.processes == 1 else f"{self.processes} processes"
        if self.kind != "stack":
            return f"one model at a time, {self.kind}, {many}"
        how = f"{'compiled, ' if self.compiled else ''}{self.precision}"
        return f"{'one model' if self.lanes == 1 else f'stack of {self.lanes}'}, {how}, {many}"


WAYS = {
    "cpu": [
        Way("loader"),
        Way("resident"),
        Way("resident", processes=CORES),
        Way("stack", compiled=True, precision="bfloat16"),
        Way("stack", processes=CORES, compiled=True, precision="bfloat16"),
        Way("stack", lanes=8),
        Way("stack", lanes=8, compiled=True),
        Way("stack", lanes=8, compiled=True, precision="bfloat16"),
        Way("stack", lanes=16, compiled=True, precision="bfloat16"),
    ],
    "cuda": [
        Way("loader"),
        Way("resident"),
        Way("resident", processes=8),
        Way("stack", compiled=True, precision="bfloat16"),
        Way("stack", processes=8, compiled=True, precision="bfloat16"),
        *(Way("stack", lanes=lanes, compiled=True, precision="bfloat16") for lanes in (8, 32, 64, 128)),
        Way("stack", lanes=64, compiled=True),
    ],
}


def architecture() -> Architecture:
    audio = AudioConfig()
    return Architecture(audio.mel_bands, audio.frames, CONFIG.model, CONFIG.latent.private, CONFIG.latent.shared)


def stack_step(way: Way, device: torch.device):
    stack = Stack(
        architecture(),
        way.lanes,
        SynTone().build(AudioConfig(), device),
        CONFIG.views,
        PAIRS[device.type],
        ActiveTerms.of(CONFIG),
        way.precision,
        way.compiled,
    )
    for seed in range(way.lanes):
        stack.attach(CONFIG, seed)
    return stack.step


class Clips(torch.utils.data.Dataset):
    """Pairs of one timbre, as a script would draw them."""

    def __init__(self, log_mel_NFT, clips, timbre) -> None:
        self._log_mel_NFT, self._clips, self._timbre = log_mel_NFT, clips, timbre
        self._of_timbre = [clips[timbre == value] for value in range(int(timbre.max()) + 1)]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index):
        others = self._of_timbre[self._timbre[index]]
        second = others[torch.randint(len(others), ())]
        return self._log_mel_NFT[self._clips[index]], self._log_mel_NFT[second], self._timbre[index]


def plain_step(way: Way, device: torch.device):
    pairs = PAIRS[device.type]
    data, network = SynTone().build(AudioConfig(), device), build_network(architecture())
    clips = data.splits["training"]
    timbre = data.value_NC[clips, data.factor_names.index("timbre")]
    order = timbre.argsort()
    clips, timbre = clips[order], timbre[order]
    size = timbre.bincount()
    start = size.cumsum(0) - size
    objective_spec = ObjectiveSpec(network, ActiveTerms.of(CONFIG), len(clips))
    hyperparameters = LaneHyperparameters(*(one.to(device) for one in build_hyperparameters(objective_spec, CONFIG)))
    initial = network.initial_parameters(CONFIG.latent, seed=0)
    parameters = {name: value.to(device).requires_grad_() for name, value in initial.items()}
    optimiser = torch.optim.Adam(parameters.values(), lr=CONFIG.optimiser.learning_rate)

    def resident():
        while True:
            first = torch.randint(len(clips), (pairs,), device=device)
            group = timbre[first]
            second = start[group] + (torch.rand(pairs, device=device) * size[group]).long()
            yield data.log_mels[clips[torch.cat([first, second])]], group

    def loaded():
        loader = torch.utils.data.DataLoader(
            Clips(data.log_mels.values_NFT.cpu(), clips.cpu(), timbre.cpu()),
            batch_size=pairs,
            shuffle=True,
            drop_last=True,
            num_workers=min(4, CORES),
            pin_memory=device.type == "cuda",
        )
        while True:
            for first, second, group in loader:
                yield torch.cat([first, second]).to(device, non_blocking=True), group.to(device, non_blocking=True)

    batches = loaded() if way.kind == "loader" else resident()

    def step():
        log_mels, group = next(batches)
        noise = torch.randn(2 * pairs, network.latents, device=device)
        loss, _ = objective(
            objective_spec, parameters, hyperparameters, Batch(network.to_input(log_mels), group, noise)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def work(way: Way, threads: int, seconds: float) -> None:
    """One process: prints what it measured. Waits for a line, so that all processes begin together."""
    torch.set_num_threads(threads)
    device = torch.device(device_kind())

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    step = (stack_step if way.kind == "stack" else plain_step)(way, device)
    wait()
    started = time.monotonic()
    step()
    wait()
    first_step_s = time.monotonic() - started
    if seconds:
        for _ in range(WARM_STEPS):
            step()
        wait()
    print("ready", flush=True)
    sys.stdin.readline()
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        step()
        steps += 1
        if steps % 8 == 0:
            wait()
    wait()
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss
    rate = steps * way.lanes / (time.monotonic() - started)
    print(json.dumps({"rate": rate, "memory_gb": memory / 1e9, "first_step_s": first_step_s}), flush=True)


def measure(way: Way, seconds: float, cache: str) -> dict[str, float]:
    """Sum trial-steps per second and memory over the processes of one way; return them with the longest first step."""
    threads = 1 if way.processes > 1 else CORES
    words = [sys.executable, "-m", "benchmarks.throughput", "--work", json.dumps([*way]), "--seconds", str(seconds)]
    environment = {**os.environ, **process_env(), "OMP_NUM_THREADS": str(threads)}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton"}
    workers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(way.processes)
    ]
    for worker in workers:
        while (line := worker.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"a process of {way.name!r} ended; it has said why")
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    found = [json.loads(worker.communicate()[0]) for worker in workers]
    return {
        "rate": sum(one["rate"] for one in found),
        "memory_gb": sum(one["memory_gb"] for one in found),
        "first_step_s": max(one["first_step_s"] for one in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each time")
    parser.add_argument("--only", default="", help="ways whose name holds this text")
    add_json_option(parser)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        way = Way(*json.loads(options.work))
        work(way, int(os.environ["OMP_NUM_THREADS"]), options.seconds)
        return
    kind = device_kind()
    ways = [way for way in WAYS[kind] if options.only in way.name]
    rates = measured_rates(torch.device(kind))
    found: dict[Way, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as cache:
        cold = {way: measure(way, 0.0, cache)["first_step_s"] for way in ways if way.compiled}
        for number in range(options.rounds):
            for way in ways:
                found[way].append(measure(way, options.seconds, cache))
                say(f"round {number + 1} of {options.rounds}: {way.name}: {found[way][-1]['rate']:.0f}")
    results, reference = [], None
    for way in ways:
        speeds = [one["rate"] for one in found[way]]
        rate = statistics.median(speeds)
        reference = reference or rate
        results.append(
            {
                "way": way.name,
                "trial_steps_per_second": rate,
                "lowest": min(speeds),
                "highest": max(speeds),
                "times_first": rate / reference,
                "share_of_floor": rate
                * floor(architecture(), PAIRS[kind], way.precision).seconds(rates, way.precision),
                "memory_gb": statistics.median(one["memory_gb"] for one in found[way]),
                "cold_first_step_s": cold.get(way),
                "warm_first_step_s": statistics.median(one["first_step_s"] for one in found[way]),
            }
        )
    head = ["", "trial-steps/s", "lowest", "highest", "x first", "of floor", "GB", "first step cold s", "warm s"]
    print_table(f"throughput on {kind}", head, [list(row.values()) for row in results])
    config = {
        "model": CONFIG.model_dump(mode="json"),
        "batch_pairs": PAIRS[kind],
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rates": rates._asdict(),
        "floor": floor(architecture(), PAIRS[kind], "bfloat16")._asdict(),
    }
    write_record("throughput", options.json, config, {"ways": results})


if __name__ == "__main__":
    main()
