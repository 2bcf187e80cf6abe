"""Training speed of a whole study through Ray, compared with a bare stack.

    python -m benchmarks.study [--quick] [--plain]

The study is the quickstart's with a budget that suits the device, started as the command line starts it, on a temporary
store; `benchmarks.phases` says which phases it is cut into. Before and after it a stack of the same width trains alone,
in a process without Ray: the rate that there is to reach. With `--plain`, the script that one would write without this
project (`benchmarks.plain`) trains a share of the same work.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from typing import Any
from unittest import mock

from rich.console import Console

from benchmarks.machine import ROOT, add_json_option, command_started, device_kind, part, print_table, say, write_record
from benchmarks.phases import phases, sample
from study.environment import process_env
from study.runs.create import begin
from study.search.sampler import Search
from study.spec.loader import load_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore
from study.training.planning import can_compile, plan_stacks

WARM_STEPS = 5
CHECK_EVERY = 5  # steps between two looks at the clock, so that the queue of a GPU is not emptied at each
FEWEST_PLAIN_TRIALS = 2  # that many run side by side
# By device: steps, lanes, pairs, minutes of pure training, and the share of them for the plain script.
DEFAULTS = {"cpu": (800, 8, 32, 2.0, 0.25), "cuda": (6000, 64, 128, 5.0, 0.01)}
QUICK_MINUTES = 0.5


def spec_of(chosen: argparse.Namespace, trials: int) -> ResolvedSpec:
    """The quickstart with another budget."""
    return resolve(
        load_spec(
            ROOT / "studies" / "quickstart.yaml",
            [
                f"train.steps={chosen.steps}",
                f"train.batch_pairs={chosen.pairs}",
                f"replicates={chosen.replicates}",
                "post_training=[]",
                f"resources.lanes={chosen.lanes}",
                f"resources.compile={str(chosen.compile).lower()}",
                f"search.trials={trials}",
                "halving=none",
                *chosen.set,
            ],
        )
    )


def bare_stack(resolved: ResolvedSpec, seconds: float) -> dict[str, float]:
    """Trial-steps a second of the study's own stack, full, without Ray, reports or checkpoints."""
    import torch

    plan, search = plan_stacks(resolved, device_kind(), ObjectStore("runs")), Search(resolved.spec)
    configs = [resolved.trial_config(search.ask(number)) for number in range(plan.lanes)]
    stack = plan.stack(resolved, configs[0], resolved.data.build(resolved.audio, torch.device(device_kind())))
    for config in configs:
        stack.attach(config, seed=0)
    began = time.monotonic()
    for _ in range(WARM_STEPS):
        stack.step()
    stack.steps()  # waits for the device
    warmed = time.monotonic()
    steps = 0
    while (took := time.monotonic() - warmed) < seconds:
        for _ in range(CHECK_EVERY):
            stack.step()
        stack.steps()
        steps += CHECK_EVERY
    return {"trial_steps_per_second": steps * plan.lanes / took, "warm_up_seconds": warmed - began}


def run_study(resolved: ResolvedSpec) -> dict[str, Any]:
    """Run it, as `marl-study run` does, and note what the trainers answer to the driver's questions.

    Returns:
        Arguments of `phases`; times are seconds since the command.
    """
    from study.runs import driver as launch

    began = command_started()
    samples: list[dict[str, Any]] = []
    starts: list[float] = []

    class Watching(launch.TrainerGroup):
        def progress(self) -> list[dict[str, Any]]:
            return self.note(super().progress())

        def note(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
            if ready := [answer for answer in answers if answer["ready"]]:
                samples.append(sample(time.monotonic() - began, ready))
            return answers

    class Watched(launch._Driver):
        def _examine_contenders(self) -> None:
            self._trainers.note(
                self._trainers.call("progress", timeout_s=5.0)
            )  # the last steps came after the last look
            super()._examine_contenders()

        def _changed(self, number: int, state: str, *more: Any) -> None:
            if state == "running":
                starts.append(time.monotonic() - began)
            super()._changed(number, state, *more)

    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder:
        store = StudyStore(ObjectStore(folder), resolved.spec.name)
        metadata = begin(store, resolved)
        with mock.patch.object(launch, "_Driver", Watched), mock.patch.object(launch, "TrainerGroup", Watching):
            launch.launch(store, resolved.spec.search.trials or 0, Console(stderr=True, highlight=False))
    ended = time.monotonic() - began
    return {"samples": samples, "lanes": metadata.stack["lanes"], "last_start": starts[-1], "ended": ended}


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
    print(f"pure training of a bare stack: {pure:,.0f} trial-steps/s ({before:,.0f} before, {after:,.0f} after)")
    if plain := results.get("plain"):
        print(
            f"plain Ray Tune, {100 * plain['share_of_the_work']:.0f} % of the work: "
            f"{plain['trial_steps_per_second']:,.1f} trial-steps/s over its whole run; "
            f"the study is {results['times_plain']:.1f} times as fast over its whole run"
        )


def options() -> argparse.Namespace:
    kind = device_kind()
    steps, lanes, pairs, minutes, plain = DEFAULTS[kind]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help=f"of each replicate (here {steps})")
    parser.add_argument("--lanes", type=int, default=lanes, help=f"width of the stack (here {lanes})")
    parser.add_argument("--pairs", type=int, default=pairs, help=f"of a batch (here {pairs})")
    parser.add_argument("--replicates", type=int, default=2, help="of each trial (2)")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="the step (by default where that can be, and the study is not quick)",
    )
    parser.add_argument("--trials", type=int, help="as many as pure training fits into the minutes")
    parser.add_argument("--minutes", type=float, help=f"of pure training (here {minutes}; quick {QUICK_MINUTES})")
    parser.add_argument("--quick", action="store_true", help="a short study, to see that it works")
    parser.add_argument("--pure-seconds", type=float, default=10.0, help="of each measurement of the bare stack (10)")
    parser.add_argument(
        "--plain", type=float, nargs="?", const=plain, metavar="SHARE", help=f"run plain Ray Tune too (here {plain})"
    )
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a field of the spec")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    add_json_option(parser)
    chosen = parser.parse_args()
    chosen.minutes = chosen.minutes or (QUICK_MINUTES if chosen.quick else minutes)
    if chosen.compile is None:
        chosen.compile = can_compile(kind) and not chosen.quick
    if chosen.trials and chosen.trials * chosen.replicates <= chosen.lanes:
        parser.error(
            f"no steady state: {chosen.trials} trials x {chosen.replicates} do not exceed {chosen.lanes} lanes"
        )
    return chosen


def work(chosen: argparse.Namespace) -> None:
    """Run a part of the benchmark in a separate process."""
    resolved = spec_of(chosen, chosen.trials)
    answer = bare_stack(resolved, chosen.pure_seconds) if chosen.work == "pure" else run_study(resolved)
    chosen.json.write_text(json.dumps(answer))


def main() -> None:
    chosen = options()
    if chosen.work:
        work(chosen)
        return
    shared = ("steps", "lanes", "pairs", "replicates")
    words = [word for name in shared for word in (f"--{name}", getattr(chosen, name))]
    words.append("--compile" if chosen.compile else "--no-compile")
    words += [word for change in chosen.set for word in ("--set", change)]

    def pure() -> float:
        say("training a bare stack")
        words_pure = [*words, "--work", "pure", "--trials", 1 + chosen.lanes, "--pure-seconds", chosen.pure_seconds]
        return part("benchmarks.study", *words_pure, environment=process_env())["trial_steps_per_second"]

    before = pure()
    fitting = chosen.minutes * 60 * before / (chosen.steps * chosen.replicates)
    # Several rounds of all lanes, or there is no steady state to speak of.
    trials = chosen.trials or max(math.ceil(fitting), 3 * math.ceil(chosen.lanes / chosen.replicates))
    total = trials * chosen.replicates * chosen.steps
    say(f"running a study of {trials} trials x {chosen.replicates} replicates x {chosen.steps} steps = {total:,}")
    record = part("benchmarks.study", *words, "--work", "study", "--trials", trials)
    after = pure()
    results: dict[str, Any] = {
        "phases": (found := phases(**record)),
        "trials": trials,
        "pure_before_and_after": [before, after],
        "pure_trial_steps_per_second": (pure_rate := (before + after) / 2),
        "steady_share_of_pure": (found["steady"]["trial_steps_per_second"] or 0.0) / pure_rate,
        "samples": record["samples"],
    }
    if chosen.plain:
        plain_trials = max(FEWEST_PLAIN_TRIALS, round(chosen.plain * trials * chosen.replicates))
        say(f"running plain Ray Tune: {plain_trials} trials x {chosen.steps} steps")
        words_plain = ["--trials", plain_trials, "--steps", chosen.steps, "--pairs", chosen.pairs]
        results["plain"] = part("benchmarks.plain", *words_plain)["results"]
        results["plain"]["share_of_the_work"] = plain_trials * chosen.steps / total
        plain_rate = results["plain"]["trial_steps_per_second"]
        results["times_plain"] = found["whole"]["trial_steps_per_second"] / plain_rate
    show(results)
    hidden = ("json", "work")
    config = {name: value for name, value in vars(chosen).items() if name not in hidden}
    config["spec"] = spec_of(chosen, trials).spec.model_dump(mode="json", exclude_none=True)
    write_record("study", chosen.json, config, results)


if __name__ == "__main__":
    main()
