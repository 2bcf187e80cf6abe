"""Savings and losses of successive halving, on the same trials with and without it.

    python -m benchmarks.halving

All trials of a random search are trained to their full budget once, reporting at the rungs as well. A trial's numbers
do not depend on other trials, so a run with halving can be replayed from them: trials take lanes in turn, arrive at
rungs and are stopped there by `study.search.halving.Rungs`. The results are the number of steps, the hypervolume of the
front as a share of the hypervolume of all trials, and the share of the true front that halving kept. The reference
point of the hypervolume is the untrained network.
"""

import argparse
import heapq
import math
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from benchmarks.machine import ROOT, device_kind, log, new_parser, print_table, write_record
from study.analysis.pareto import hypervolume, pareto_front, to_costs
from study.runs.lifecycle import create_study
from study.search.halving import Rungs
from study.search.sampler import Search
from study.spec import Spec, parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore
from study.store import StudyStore
from study.training.lanes import Lanes
from study.training.trials import Failure


def spec_of(options: argparse.Namespace, seed: int) -> Spec:
    content = yaml.safe_load((ROOT / "study" / "ready" / "quickstart.yaml").read_text())
    content |= {
        "name": f"halving-{seed}",
        "replicates": options.replicates,
        "post_training": [],
        "train": {"steps": options.steps, "batch_pairs": 32, "reports": 1},
        "search": {"sampler": "random", "trials": options.trials, "seed": seed},
        "halving": {"reduction_factor": 3, "min_steps": math.ceil(options.steps / 9)},
        "resources": {"lanes": 8},
    }
    return resolve(parse_spec(content, "benchmark")).spec


def train_all(spec: Spec, folder: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    """Train all trials to the end; return their reports and the scores of the untrained network."""
    store = StudyStore(ObjectStore(str(folder)), spec.name)
    create_study(store, ResolvedSpec(spec))
    lanes, search = Lanes(store, torch.device(device_kind())), Search(spec)
    rows: list[dict[str, Any]] = []
    waiting = list(range(spec.search.trials or 0))
    while waiting or lanes.is_busy:
        while waiting and len(lanes.progress()) < 2 * lanes.stacks.plan.lanes:
            number = waiting.pop(0)
            lanes.add(number, search.ask(number), range(spec.replicates))
            lanes.finish()
        for result in lanes.advance(interrupted=lambda: False):
            if isinstance(result, Failure):
                raise SystemExit(f"trial {result.trial} failed: {result.error}")
            rows.append(result.row)
        done = sum(row["step"] == spec.train.steps for row in rows)
        if rows and done and done % 20 == 0:
            log(f"search {spec.search.seed}: {done} of {(spec.search.trials or 0) * spec.replicates} models")
    lanes.update_baselines()
    baselines = store.baselines()
    assert baselines is not None
    return pd.DataFrame(rows), baselines["untrained"]


def replay(spec: Spec, reports: pd.DataFrame, lanes: int) -> tuple[set[int], int]:
    """Return the trials that reach their full budget under halving, and the steps of all trials."""
    assert spec.halving is not None
    rungs = Rungs(spec.rungs(), spec.halving.reduction_factor, spec.objectives)
    intermediate = reports[reports["seed"] == 0].set_index(["trial", "step"])
    stages = [*spec.rungs(), spec.train.steps]
    waiting, survivors, steps = list(range(spec.search.trials or 0)), set(), 0
    # All lanes have the same speed, so steps are time. An event is a trial at the end of a stage.
    events: list[tuple[int, int, int]] = []
    busy = now = 0
    while waiting or events:
        while waiting and busy < lanes:
            heapq.heappush(events, (now + stages[0], waiting.pop(0), 0))
            busy += 1
        now, trial, stage = heapq.heappop(events)
        step = stages[stage]
        steps += step - (stages[stage - 1] if stage else 0)
        is_last = stage == len(stages) - 1
        if not is_last and rungs.continues(trial, step, intermediate.loc[(trial, step)].to_dict()):
            heapq.heappush(events, (now + stages[stage + 1] - step, trial, stage + 1))
            continue
        busy -= 1
        if is_last:
            survivors.add(trial)
    return survivors, steps + len(survivors) * (spec.replicates - 1) * spec.train.steps


def compare(spec: Spec, reports: pd.DataFrame, untrained: dict[str, float], lanes: int) -> dict[str, Any]:
    final = reports[reports["step"] == spec.train.steps].groupby("trial")[list(spec.objectives)].mean()
    reference_M = to_costs(pd.DataFrame([untrained]), spec.objectives)[0]

    def volume(trials: pd.DataFrame) -> float:
        return hypervolume(to_costs(trials, spec.objectives), reference_M)

    survivors, steps = replay(spec, reports, lanes)
    front = set(final.index[pareto_front(final, spec.objectives)])
    kept = final[final.index.isin(survivors)]
    every_step = len(final) * spec.replicates * spec.train.steps
    # Without halving, the same number of steps trains only the first trials of the search.
    first = final.iloc[: max(1, steps // (spec.replicates * spec.train.steps))]
    return {
        "search": spec.search.seed,
        "lanes": lanes,
        "share_of_steps": steps / every_step,
        "share_of_hypervolume": volume(kept) / volume(final),
        "share_without_halving": volume(first) / volume(final),
        "survivors": len(survivors),
        "front_kept": f"{len(front & survivors)} of {len(front)}",
        "hypervolume": volume(final),
    }


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--searches", type=int, default=3, help="seeds of the search")
    parser.add_argument("--replicates", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1200, help="the first rung is at a ninth of them")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for seed in range(options.searches):
        spec = spec_of(options, seed)
        with tempfile.TemporaryDirectory(prefix="benchmark-") as store:
            reports, untrained = train_all(spec, Path(store))
        results += [compare(spec, reports, untrained, lanes) for lanes in (1, 8, 64)]
    head = ["search", "lanes", "steps", "hypervolume", "same steps, no halving", "final", "front kept", "volume"]
    print_table("halving against none: shares", head, [list(row.values()) for row in results])
    write_record("halving", options, {"searches": results})


if __name__ == "__main__":
    main()
