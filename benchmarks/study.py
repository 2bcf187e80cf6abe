"""Training speed of a whole study through Ray, compared with a bare stack.

    python -m benchmarks.study [--quick] [--plain]

The study is the quickstart's with a budget that suits the device, started as the command line starts it, on a temporary
store; `benchmarks.phases` defines its phases. Before and after it bare stacks of the same width, one for each trainer,
train alone in processes without Ray, at the highest rate that the study could reach. With `--plain`, the script that
one would write without this project (`benchmarks.plain`) trains a share of the same work.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier
from typing import Any
from unittest import mock

from rich.console import Console

from benchmarks.machine import (
    ROOT,
    calls_per_second,
    command_started,
    device_kind,
    in_child,
    log,
    new_parser,
    print_table,
    write_record,
)
from benchmarks.phases import phases, sample
from study.environment import available_cpus, process_env
from study.runs.lifecycle import create_study
from study.search.sampler import Search
from study.spec.resolve import read_spec
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore
from study.training.planning import can_compile, plan_stacks, trainer_threads

MIN_PLAIN_TRIALS = 2  # they run side by side
# By device: steps, lanes, pairs, minutes of pure training, and the share of them for the plain script.
DEFAULTS = {"cpu": (1000, 8, 32, 2.0, 0.25), "cuda": (6000, 64, 128, 5.0, 0.01)}
QUICK_MINUTES = 0.5


def spec_of(options: argparse.Namespace, trials: int) -> ResolvedSpec:
    """Return the quickstart's spec with the budget of the options."""
    changes = [
        f"train.steps={options.steps}",
        f"train.batch_pairs={options.pairs}",
        f"replicates={options.replicates}",
        "post_training=[]",
        f"resources.lanes={options.lanes}",
        f"resources.compile={str(options.compile).lower()}",
        f"search.trials={trials}",
        "halving=none",
    ]
    return read_spec(ROOT / "study" / "ready" / "quickstart.yaml", [*changes, *options.set])


def bare_stack(options: argparse.Namespace, start: Barrier) -> float:
    """Return trial-steps per second of one of the study's full stacks without Ray, reports or checkpoints."""
    import torch

    resolved = spec_of(options, 1 + options.lanes)
    plan, search = plan_stacks(resolved, device_kind(), ObjectStore("runs")), Search(resolved.spec)
    configs = [resolved.trial_config(search.ask(number)) for number in range(plan.lanes)]
    stack = plan.stack(resolved, configs[0], resolved.data.build(resolved.audio, torch.device(device_kind())))
    for config in configs:
        stack.attach(config, seed=0)
    stack.step()
    start.wait(timeout=600)
    return plan.lanes * calls_per_second(stack.step, stack.synchronise, options.pure_seconds)


def bare_stacks(options: argparse.Namespace) -> float:
    """Return trial-steps per second of as many full stacks as the study has trainers, side by side."""
    context, trainers = get_context("spawn"), most_trainers()
    with (
        mock.patch.dict(os.environ, process_env(trainer_threads(device_kind()))),
        context.Manager() as manager,
        ProcessPoolExecutor(trainers, context) as pool,
    ):
        start = manager.Barrier(trainers)
        return sum(pool.map(bare_stack, [options] * trainers, [start] * trainers))


def most_trainers() -> int:
    """Return the number of trainers of a study on this machine, if there is work for all."""
    return 1 if device_kind() == "cuda" else available_cpus()


def run_study(options: argparse.Namespace, trials: int) -> dict[str, Any]:
    """Run a study as `marl-study run` does, and return the arguments of `phases`: times are seconds since its start."""
    from study.runs import driver

    began, resolved = command_started(), spec_of(options, trials)
    samples: list[dict[str, Any]] = []
    starts: list[float] = []

    class Watching(driver.TrainerGroup):
        def progress(self) -> list[dict[str, Any]]:
            return self.note(super().progress())

        def note(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
            if ready := [answer for answer in answers if answer["ready"]]:
                samples.append(sample(time.monotonic() - began, ready))
            return answers

    class Watched(driver._Driver):
        def _evaluate_front(self) -> None:
            # The last steps follow the last regular progress request.
            self.trainers.note(self.trainers.call("progress", timeout_s=5.0))
            super()._evaluate_front()

        def _on_state(self, number: int, state: str, *more: Any) -> None:
            if state == "running":
                starts.append(time.monotonic() - began)
            super()._on_state(number, state, *more)

    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder:
        store = StudyStore(ObjectStore(folder), resolved.spec.name)
        metadata = create_study(store, resolved)
        with mock.patch.object(driver, "_Driver", Watched), mock.patch.object(driver, "TrainerGroup", Watching):
            driver.run_study(store, trials, Console(stderr=True, highlight=False))
    ended = time.monotonic() - began
    return {
        "samples": samples,
        "lanes": most_trainers() * metadata.stack["lanes"],
        "last_start": starts[-1],
        "ended": ended,
    }


def show(results: Mapping[str, Any]) -> None:
    pure = results["pure_trial_steps_per_second"]

    def percent(share: float | None) -> str | None:
        return None if share is None else f"{100 * share:.1f} %"

    kinds = list(results["phases"]["whole"]["share_of_time"])
    rows = [
        (
            name,
            f"{phase['seconds']:.1f}",
            phase["trial_steps_per_second"],
            percent((phase["trial_steps_per_second"] or 0) / pure),
            percent(phase["useful_share_of_lane_steps"]),
            *(percent(phase["share_of_time"].get(kind)) for kind in kinds),
        )
        for name, phase in results["phases"].items()
    ]
    head = ("phase", "seconds", "trial-steps/s", "of pure", "useful lane-steps", *kinds)
    print_table("a study through Ray, and how its trainer spent the time", head, rows)
    before, after = results["pure_before_and_after"]
    print(f"pure training of bare stacks: {pure:,.0f} trial-steps/s ({before:,.0f} before, {after:,.0f} after)")
    if plain := results.get("plain"):
        print(
            f"plain Ray Tune, {100 * plain['share_of_the_work']:.0f} % of the work: "
            f"{plain['trial_steps_per_second']:,.1f} trial-steps/s over its whole run; "
            f"the study is {results['times_plain']:.1f} times as fast over its whole run"
        )


def parse_options() -> argparse.Namespace:
    kind = device_kind()
    steps, lanes, pairs, minutes, plain = DEFAULTS[kind]
    parser = new_parser(__doc__)
    parser.add_argument("--steps", type=int, default=steps, help="of each replicate")
    parser.add_argument("--lanes", type=int, default=lanes, help="of the stack")
    parser.add_argument("--pairs", type=int, default=pairs, help="of a batch")
    parser.add_argument("--replicates", type=int, default=2, help="of each trial")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the step, by default where that is possible and the study is not quick",
    )
    parser.add_argument("--trials", type=int, help="number of trials instead of --minutes")
    parser.add_argument("--minutes", type=float, help=f"of pure training ({minutes}, quick {QUICK_MINUTES})")
    parser.add_argument("--quick", action="store_true", help="run a short study")
    parser.add_argument("--pure-seconds", type=float, default=10.0, help="of each measurement of the bare stack")
    parser.add_argument("--plain", type=float, nargs="?", const=plain, metavar="SHARE", help="run plain Ray Tune, too")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a field of the spec")
    options = parser.parse_args()
    options.minutes = options.minutes or (QUICK_MINUTES if options.quick else minutes)
    if options.compile is None:
        options.compile = can_compile(kind) and not options.quick
    lanes = options.lanes * most_trainers()
    if options.trials and options.trials * options.replicates <= lanes:
        parser.error(f"no steady state: {options.trials} trials x {options.replicates} do not exceed {lanes} lanes")
    return options


def main() -> None:
    options = parse_options()

    def pure() -> float:
        log("training bare stacks")
        return bare_stacks(options)

    before = pure()
    affordable = options.minutes * 60 * before / (options.steps * options.replicates)
    # A steady state needs several rounds of all lanes.
    lanes = options.lanes * most_trainers()
    trials = options.trials or max(math.ceil(affordable), 3 * math.ceil(lanes / options.replicates))
    total = trials * options.replicates * options.steps
    log(f"running a study of {trials} trials x {options.replicates} replicates x {options.steps} steps = {total:,}")
    record = in_child(run_study, options, trials)
    found, after = phases(**record), pure()
    pure_rate = (before + after) / 2
    results: dict[str, Any] = {
        "phases": found,
        "trials": trials,
        "pure_before_and_after": [before, after],
        "pure_trial_steps_per_second": pure_rate,
        "steady_share_of_pure": (found["steady"]["trial_steps_per_second"] or 0.0) / pure_rate,
        "samples": record["samples"],
    }
    if options.plain:
        from benchmarks import plain

        plain_trials = max(MIN_PLAIN_TRIALS, round(options.plain * trials * options.replicates))
        log(f"running plain Ray Tune: {plain_trials} trials x {options.steps} steps")
        results["plain"] = in_child(plain.measure, plain_trials, options.steps, options.pairs)
        results["plain"]["share_of_the_work"] = plain_trials * options.steps / total
        plain_rate = results["plain"]["trial_steps_per_second"]
        results["times_plain"] = found["whole"]["trial_steps_per_second"] / plain_rate
    show(results)
    spec = spec_of(options, trials).spec.model_dump(mode="json", exclude_none=True)
    write_record("study", options, results, spec=spec)


if __name__ == "__main__":
    main()
