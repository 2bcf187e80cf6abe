"""Trial-steps per second of the same models trained one by one, in several processes, and as a stack.

    python -m benchmarks.throughput

Every way trains the same network and objective with the same optimiser on all of SynTone: on a GPU the default network
with 128 pairs a batch, on a processor the quickstart's with 32. Plain training is what a user would write:
`torch.optim.Adam`, `torch.randint` for the batch, `torch.randn` for the noise, and no hashing of random numbers. Its
second clips may equal the first ones in other factors, which saves it work; a `DataLoader` draws such clips again. The
ways take turns, so that other load on the machine slows all of them; the median over rounds counts. The
share of the floor is that of `benchmarks.floor`, by rates measured in the same run. "First step" is the time of the
first step of a new stack, once with an empty cache of compiled steps and then with a warm one.
"""

import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from threading import Barrier
from typing import Literal, NamedTuple
from unittest import mock

import psutil
import torch

from benchmarks.floor import floor, measured_rates
from benchmarks.machine import calls_per_second, device_kind, log, new_parser, print_table, timed, write_record
from benchmarks.models import PAIRS, PlainModel, architecture, full_stack, pair_loader, synchronise
from marl.audio import AudioConfig
from marl.config import Config, ContrastConfig
from marl.data.syntone import SynTone
from marl.stack import Precision
from study.environment import process_env

CONFIG = Config(contrast=ContrastConfig(strategy="infonce", private=1.0))
WARM_STEPS = 10
CORES = os.cpu_count() or 1


class Way(NamedTuple):
    """One way to train. `lanes` is the width of a stack."""

    kind: Literal["loader", "resident", "stack"]
    processes: int = 1
    lanes: int = 1
    compiled: bool = False
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        many = "one process" if self.processes == 1 else f"{self.processes} processes"
        if self.kind != "stack":
            return f"one model at a time, {self.kind}, {many}"
        how = f"{'compiled, ' if self.compiled else ''}{self.precision}"
        return f"{'one model' if self.lanes == 1 else f'stack of {self.lanes}'}, {how}, {many}"


def ways(kind: str) -> list[Way]:
    processes, fast = (CORES if kind == "cpu" else 8), {"compiled": True, "precision": "bfloat16"}
    both = [Way("loader"), Way("resident"), Way("resident", processes)]
    both += [Way("stack", **fast), Way("stack", processes, **fast)]
    if kind == "cuda":
        stacks = [*(Way("stack", lanes=lanes, **fast) for lanes in (8, 32, 64, 128)), Way("stack", 1, 64, True)]
    else:
        stacks = [Way("stack", 1, 8), Way("stack", 1, 8, True), *(Way("stack", 1, lanes, **fast) for lanes in (8, 16))]
    return both + stacks


def plain_step(way: Way, device: torch.device):
    pairs, data = PAIRS[device.type], SynTone().build(AudioConfig(), device)
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
        order = [data.factor_names.index(name) for name in ("timbre", "frequency", "amplitude")]
        arrays = (data.log_mels.values_NFT, clips, data.value_NC[:, order])
        return pair_loader(*(array.cpu().numpy() for array in arrays), pairs, min(4, CORES), device)

    batches = loaded() if way.kind == "loader" else resident()
    return lambda: model.step(*next(batches))


def train(way: Way, threads: int, seconds: float, start: Barrier) -> dict[str, float]:
    """Measure one process. All processes of a way pass the barrier together."""
    torch.set_num_threads(threads)
    device = torch.device(device_kind())
    if way.kind == "stack":
        dataset = SynTone().build(AudioConfig(), device)
        step = full_stack(dataset, [CONFIG], way.lanes, PAIRS[device.type], way.precision, way.compiled).step
    else:
        step = plain_step(way, device)

    wait = partial(synchronise, device)
    wait()
    _, first_step_s = timed(lambda: (step(), wait()))
    for _ in range(WARM_STEPS if seconds else 0):
        step()
    wait()
    start.wait(timeout=600)
    rate = way.lanes * calls_per_second(step, wait, seconds, every=8, warm_up=0) if seconds else 0.0
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss
    return {"rate": rate, "memory_gb": memory / 1e9, "first_step_s": first_step_s}


def measure(way: Way, seconds: float, cache: str) -> dict[str, float]:
    """Sum trial-steps per second and memory over the processes of one way; return them with the longest first step."""
    threads, context = 1 if way.processes > 1 else CORES, get_context("spawn")
    environment = {**process_env(), "OMP_NUM_THREADS": str(threads)}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton"}
    with (
        mock.patch.dict(os.environ, environment),
        context.Manager() as manager,
        ProcessPoolExecutor(way.processes, context) as pool,
    ):
        start = manager.Barrier(way.processes)
        found = [pool.submit(train, way, threads, seconds, start) for _ in range(way.processes)]
        results = [one.result() for one in found]
    return {
        "rate": sum(one["rate"] for one in results),
        "memory_gb": sum(one["memory_gb"] for one in results),
        "first_step_s": max(one["first_step_s"] for one in results),
    }


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options, kind = parser.parse_args(), device_kind()
    chosen, rates = ways(kind), measured_rates(torch.device(kind))
    measured: dict[Way, list[dict[str, float]]] = {way: [] for way in chosen}
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as cache:
        cold = {way: measure(way, 0.0, cache)["first_step_s"] for way in chosen if way.compiled}
        for number in range(options.rounds):
            for way in chosen:
                measured[way].append(measure(way, options.seconds, cache))
                log(f"round {number + 1} of {options.rounds}: {way.name}: {measured[way][-1]['rate']:.0f}")
    results, reference = [], statistics.median(one["rate"] for one in measured[chosen[0]])
    for way in chosen:
        speeds = [one["rate"] for one in measured[way]]
        rate, step = statistics.median(speeds), floor(architecture(CONFIG), PAIRS[kind], way.precision)
        results.append(
            {
                "way": way.name,
                "trial_steps_per_second": rate,
                "lowest": min(speeds),
                "highest": max(speeds),
                "times_first": rate / reference,
                "share_of_floor": rate * step.seconds(rates, way.precision),
                "memory_gb": statistics.median(one["memory_gb"] for one in measured[way]),
                "cold_first_step_s": cold.get(way),
                "warm_first_step_s": statistics.median(one["first_step_s"] for one in measured[way]),
            }
        )
    head = ["", "trial-steps/s", "lowest", "highest", "x first", "of floor", "GB", "first step cold s", "warm s"]
    print_table(f"throughput on {kind}", head, [list(row.values()) for row in results])
    config = {"model": CONFIG.model_dump(mode="json"), "batch_pairs": PAIRS[kind], "rates": rates._asdict()}
    config["floor"] = floor(architecture(CONFIG), PAIRS[kind], "bfloat16")._asdict()
    write_record("throughput", options, {"ways": results}, **config)


if __name__ == "__main__":
    main()
