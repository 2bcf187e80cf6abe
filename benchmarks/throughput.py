"""Trial-steps per second of the same models trained one by one and as stacks, in one process and in several.

    python -m benchmarks.throughput

Every way trains the same network and objective with the same optimiser on all of SynTone: on a GPU the default network
with 128 pairs a batch, on a processor the quickstart's with 32. Plain training is what a user would write:
`torch.optim.Adam`, `torch.randint` for the batch, `torch.randn` for the noise, and no hashing of random numbers. Its
second clips may equal the first ones in other factors, which saves it work; a `DataLoader` draws such clips again.

On a processor the ways differ in processes, threads of each process and lanes of a stack. Processes times threads are
at most the number of cores. bfloat16 is measured where the processor multiplies it at least 1.2 times as fast as
float32.

The ways take turns, so that other load on the machine slows all of them; the median over rounds counts. The share of
the floor compares with `benchmarks.floor`, by rates measured in the same run. "First step" is the time of the first
step of a new stack, the slowest of all processes. Each compiled way has a separate cache of compiled steps, which is
empty in the first round and warm in later ones.

Memory is the proportional set size of all processes of a way, which divides shared memory among the processes that
share it. Where the system does not report it, memory is the resident set size; on a GPU it is the allocated memory of
the device. The last round counts.

With two cores the benchmark takes about six minutes, most of it for compiling and for starting processes.
"""

import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Literal, NamedTuple
from unittest import mock

import psutil
import torch

from benchmarks.floor import floor, measured_rates
from benchmarks.machine import calls_per_second, device_kind, log, new_parser, print_table, timed, write_record
from benchmarks.models import PAIRS, PlainModel, architecture, full_stack, pair_loader, synchronise
from marl.audio import AudioConfig, LogMel
from marl.config import Config, ContrastConfig
from marl.data import Dataset, LogMels
from marl.data.syntone import SynTone
from marl.stack import Precision
from study.environment import available_cpus, process_env
from study.training.planning import can_compile, multiplies_bfloat16_fast

CONFIG = Config(contrast=ContrastConfig(strategy="infonce", private=1.0))
WARM_STEPS = 5
CORES = available_cpus()


class Way(NamedTuple):
    """One way to train. `threads` is the number of threads of each process, `lanes` the width of a stack."""

    kind: Literal["loader", "resident", "stack"]
    processes: int = 1
    threads: int = 1
    lanes: int = 1
    compiled: bool = False
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        processes = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        where = f"{processes} of {self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.kind != "stack":
            return f"one model at a time, {self.kind}, {where}"
        how = f"{'compiled, ' if self.compiled else ''}{self.precision}"
        return f"{'one model' if self.lanes == 1 else f'stack of {self.lanes}'}, {how}, {where}"


def cpu_ways(cores: int, bfloat16: bool) -> list[Way]:
    """Return the ways to train on a processor, with those in bfloat16 or without."""
    chosen = [Way("loader", 1, cores), Way("resident"), Way("resident", cores)]
    chosen += [Way("stack", 1, cores, 8), *(Way("stack", 1, cores, lanes, True) for lanes in (8, 16))]
    chosen += [*(Way("stack", cores, 1, lanes) for lanes in (4, 8, 16)), Way("stack", cores, 1, 8, True)]
    if bfloat16:
        chosen.append(Way("stack", cores, 1, 8, True, "bfloat16"))
    return list(dict.fromkeys(chosen))  # on a single core some are the same


def cuda_ways(cores: int) -> list[Way]:
    """Return the ways to train on a GPU."""
    fast = {"compiled": True, "precision": "bfloat16"}
    chosen = [Way("loader", 1, cores), Way("resident", 1, cores), Way("resident", 8)]
    chosen += [Way("stack", 1, cores, **fast), Way("stack", 8, **fast)]
    chosen += [Way("stack", 1, cores, lanes, **fast) for lanes in (8, 32, 64, 128)]
    return [*chosen, Way("stack", 1, cores, 64, True)]


def build_dataset(device: torch.device, log_mels: Path | None) -> Dataset:
    """Build SynTone, or load the log-mels that another process has built, which takes less time."""
    if log_mels is None:
        return SynTone().build(AudioConfig(), device)
    clips, values_NFT = SynTone().clips(AudioConfig(), device), torch.load(log_mels, map_location=device)
    return Dataset(**vars(clips), log_mels=LogMels(values_NFT), audio=LogMel(AudioConfig(), device=device))


def plain_step(way: Way, data: Dataset):
    device = data.device
    pairs = PAIRS[device.type]
    clips = data.splits["training"]
    timbre = data.value_NC[clips, data.factor_names.index("timbre")]
    order = timbre.argsort()
    clips, timbre = clips[order], timbre[order]
    size = timbre.bincount()
    start = size.cumsum(0) - size
    model = PlainModel(CONFIG, device)

    def resident():
        while True:
            first = torch.randint(len(clips), (pairs,), device=device)
            group = timbre[first]
            second = start[group] + (torch.rand(pairs, device=device) * size[group]).long()
            yield data.log_mels[clips[torch.cat([first, second])]], group

    def loaded():
        columns = [data.factor_names.index(name) for name in ("timbre", "frequency", "amplitude")]
        arrays = (data.log_mels.values_NFT, clips, data.value_NC[:, columns])
        return pair_loader(*(array.cpu().numpy() for array in arrays), pairs, min(4, CORES), device)

    batches = loaded() if way.kind == "loader" else resident()
    return lambda: model.step(*next(batches))


_barrier: Barrier
"""Barrier of the processes of one way, set when a process starts."""


def _set_barrier(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def train(way: Way, seconds: float, log_mels: Path | None) -> dict[str, float]:
    """Measure one process. All processes of a way start together, and all hold their memory until it is measured."""
    torch.set_num_threads(way.threads)
    device = torch.device(device_kind())
    dataset = build_dataset(device, log_mels)
    if way.kind == "stack":
        step = full_stack(dataset, [CONFIG], way.lanes, PAIRS[device.type], way.precision, way.compiled).step
    else:
        step = plain_step(way, dataset)

    wait = partial(synchronise, device)
    wait()
    _, first_step_s = timed(lambda: (step(), wait()))
    for _ in range(WARM_STEPS):
        step()
    wait()
    _barrier.wait(timeout=600)
    # A GPU works through a queue; processes on a processor should end together.
    every = 8 if device.type == "cuda" else 1
    rate = way.lanes * calls_per_second(step, wait, seconds, every, warm_up=0)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else process_memory()
    _barrier.wait(timeout=600)
    return {"rate": rate, "memory_gb": memory / 1e9, "first_step_s": first_step_s}


def process_memory() -> int:
    """Return the bytes of this process and its children, with its share of what it shares with other processes."""
    total, own = 0, psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # a child may have ended
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total


def measure(way: Way, seconds: float, cache: Path, log_mels: Path | None) -> dict[str, float]:
    """Sum trial-steps per second and memory over the processes of one way; return them with the longest first step."""
    context = get_context("spawn")
    environment = process_env(way.threads)
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"), "TRITON_CACHE_DIR": str(cache / "triton")}
    barrier = context.Barrier(way.processes)
    with (
        mock.patch.dict(os.environ, environment),
        ProcessPoolExecutor(way.processes, context, _set_barrier, (barrier,)) as pool,
    ):
        found = [pool.submit(train, way, seconds, log_mels) for _ in range(way.processes)]
        results = [one.result() for one in found]
    return {
        "rate": sum(one["rate"] for one in results),
        "memory_gb": sum(one["memory_gb"] for one in results),
        "first_step_s": max(one["first_step_s"] for one in results),
    }


def main() -> None:
    parser, kind = new_parser(__doc__), device_kind()
    on_gpu = kind == "cuda"
    rounds, seconds = (3, 5.0) if on_gpu else (2, 2.0)
    parser.add_argument("--rounds", type=int, default=rounds, help="measurements of each way")
    parser.add_argument("--seconds", type=float, default=seconds, help="of each measurement")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled ways")
    options = parser.parse_args()
    compiles = can_compile(kind) and not options.no_compile
    chosen = cuda_ways(CORES) if on_gpu else cpu_ways(CORES, compiles and multiplies_bfloat16_fast())
    chosen = [way for way in chosen if compiles or not way.compiled]
    precisions = list(dict.fromkeys(way.precision for way in chosen))
    rates = measured_rates(torch.device(kind), precisions)
    measured: dict[Way, list[dict[str, float]]] = {way: [] for way in chosen}
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as folder:
        log_mels = None if on_gpu else Path(folder, "log_mels.pt")
        if log_mels is not None:
            torch.save(build_dataset(torch.device(kind), None).log_mels.values_NFT, log_mels)
        for number in range(options.rounds):
            for index, way in enumerate(chosen):
                measured[way].append(measure(way, options.seconds, Path(folder, str(index)), log_mels))
                log(f"round {number + 1} of {options.rounds}: {way.name}: {measured[way][-1]['rate']:.0f}")
    results, reference = [], statistics.median(one["rate"] for one in measured[chosen[0]])
    floor_s = {one: floor(architecture(CONFIG), PAIRS[kind], one).seconds(rates, one) for one in precisions}
    for way in chosen:
        speeds, first_steps = ([one[name] for one in measured[way]] for name in ("rate", "first_step_s"))
        rate, warm = statistics.median(speeds), first_steps[1:] if way.compiled else first_steps
        results.append(
            {
                "way": way.name,
                "trial_steps_per_second": rate,
                "lowest": min(speeds),
                "highest": max(speeds),
                "times_first": rate / reference,
                "share_of_floor": rate * floor_s[way.precision],
                "memory_gb": measured[way][-1]["memory_gb"],
                "cold_first_step_s": first_steps[0] if way.compiled else None,
                "warm_first_step_s": statistics.median(warm) if warm else None,
            }
        )
    head = ["", "trial-steps/s", "lowest", "highest", "x first", "of floor", "GB", "first step cold s", "warm s"]
    floors = ", ".join(f"{1 / seconds:,.0f} in {one}" for one, seconds in floor_s.items())
    print_table(
        f"throughput on {kind}; floor in trial-steps/s: {floors}", head, [list(row.values()) for row in results]
    )
    config = {"model": CONFIG.model_dump(mode="json"), "batch_pairs": PAIRS[kind], "rates": rates._asdict()}
    config["floor"] = {one: floor(architecture(CONFIG), PAIRS[kind], one)._asdict() for one in precisions}
    write_record("throughput", options, {"ways": results}, **config)


if __name__ == "__main__":
    main()
