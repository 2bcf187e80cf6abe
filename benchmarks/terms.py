"""Time that each term of the objective adds to a step, compared with its number of operations.

    python -m benchmarks.terms [--compile] [--rounds N]

Stacks of one width, each with the terms of some strategies for all of its lanes, step in turn in one process; times are
medians over rounds. Matrix products are counted, forward and backward, and their ratio is what a step would grow by if
nothing else took time.
"""

import statistics
from functools import partial

import torch
from torch.func import vmap
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import device_kind, log, new_parser, print_table, timed, write_record
from benchmarks.models import LANES, PAIRS, full_stack
from marl.audio import AudioConfig
from marl.config import Config
from marl.data.syntone import SynTone
from marl.losses.ssl import STRATEGIES
from marl.objective import objective
from marl.stack import Stack

STEPS = {"cpu": 5, "cuda": 50}


def config(**sections) -> Config:
    return Config.model_validate({"latent": {"private": 16, "shared": 16}, **sections})


def contrast(strategy: str, **fields) -> Config:
    return config(contrast={"strategy": strategy, "shared": 50.0, "private": 1.0, **fields})


PAIRWISE = [name for name, strategy in STRATEGIES.items() if strategy.projection == "optional"]
EVERY_STRATEGY = [contrast(name) for name in PAIRWISE]
INDEPENDENCE = config(independence={"hsic": 1, "cross_covariance": 1, "adversarial": 1})
TERMS = {
    "reconstruction and KL": [config()],
    **{f"{name} on both": [contrast(name)] for name in PAIRWISE},
    "repulsion": [config(contrast={"repulsion": 1})],
    "hsic, cross_covariance, adversarial": [INDEPENDENCE],
    "all of these": [*EVERY_STRATEGY, config(contrast={"repulsion": 1}), INDEPENDENCE],
    "all projected": [contrast(name, projection=True) for name in PAIRWISE],
    "local_global": [contrast("local_global")],
    "multiscale": [config(loss={"multiscale": {"scale_2": 1}})],
    "byol": [contrast("byol")],
    "swap_cycle": [config(independence={"swap_cycle": 1})],
    "augment": [config(views={"scheme": "augment"})],
    "segment": [config(views={"scheme": "segment"})],
}


def matrix_flop(stack: Stack) -> float:
    """Return the floating-point operations of a step's matrix products, forward and backward."""
    batch = stack._step_function._batch(stack._state.progress.seed, stack._state.progress.step)
    parameters = {name: value.detach().requires_grad_() for name, value in stack.models.parameters.items()}
    with FlopCounterMode(display=False) as counter:
        total_K, _ = vmap(partial(objective, stack.objective_spec))(parameters, stack._state.hyperparameters, batch)
        total_K.sum().backward()
    return float(counter.get_total_flops())


def steps(stack: Stack, count: int) -> None:
    for _ in range(count):
        stack.step()
    stack.synchronise()


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--compile", action="store_true", help="compile the steps, tens of seconds each on a processor")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each stack")
    parser.add_argument("--only", nargs="+", default=[], metavar="TERMS", help="the first of the table, and these")
    options, kind = parser.parse_args(), device_kind()
    dataset, lanes = SynTone().build(AudioConfig(), torch.device(kind)), LANES[kind]
    first = next(iter(TERMS))
    stacks = {}
    for name, configs in TERMS.items():
        if not options.only or name in (first, *options.only):
            stacks[name] = full_stack(dataset, configs, lanes, PAIRS[kind], compiled=options.compile)
            stacks[name].step()
            log(f"ready: {name}")
    times: dict[str, list[float]] = {name: [] for name in stacks}
    for _ in range(options.rounds):
        for name, stack in stacks.items():
            steps(stack, 1)
            times[name].append(timed(steps, stack, STEPS[kind])[1] / STEPS[kind])
    flop = {name: matrix_flop(stack) for name, stack in stacks.items()}
    results = [
        {
            "terms": name,
            "step_ms": 1e3 * statistics.median(times[name]),
            "times_first": statistics.median(a / b for a, b in zip(times[name], times[first], strict=True)),
            "products_times_first": flop[name] / flop[first],
        }
        for name in stacks
    ]
    head = ["", "ms a step", "x first", "products x first"]
    print_table(f"a step of {lanes} lanes on {kind}", head, [list(row.values()) for row in results])
    write_record("terms", options, {"terms": results}, lanes=lanes, batch_pairs=PAIRS[kind])


if __name__ == "__main__":
    main()
