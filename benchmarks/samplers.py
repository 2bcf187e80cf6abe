"""Cost of a proposal in the driver for each sampler and number of trials.

    python -m benchmarks.samplers [--trials 100 1000 10000]

Space and objectives come from `studies/tradeoff.yaml`. Trials so far have random configurations and made-up
values, of which a third is complete and the rest was pruned, as halving leaves it.
"""

import argparse
import random
import time

from benchmarks.machine import ROOT, add_json_option, print_table, say, write_record
from study.search.sampler import PastTrial, Search
from study.spec import Spec
from study.spec.loader import load_spec
from study.spec.resolve import resolve

SAMPLERS = ("random", "qmc", "nsga2", "tpe", "gp")
PATIENT = SAMPLERS[:-1]  # a Gaussian process over thousands of trials takes minutes a proposal
PATIENCE_S = 30.0


def spec_of(sampler: str) -> Spec:
    changes = [f"search.sampler={sampler}", "search.trials=100000"]
    return resolve(load_spec(ROOT / "studies" / "tradeoff.yaml", changes)).spec


def past(count: int) -> list[PastTrial]:
    """Trials that are over."""
    search, numbers = Search(spec_of("random")), random.Random(0)
    found = []
    for number in range(count):
        parameters = search.ask(number)
        values = [numbers.random(), numbers.random()] if number % 3 == 0 else None
        found.append(PastTrial(number, "complete" if values else "pruned", parameters, values, {}))
    return found


def ask_ms(sampler: str, trials: list[PastTrial], rounds: int) -> float:
    """Milliseconds of a proposal, the median; each is told a result before the next, so that nothing is kept."""
    search, numbers, took = Search(spec_of(sampler), trials), random.Random(1), []
    for number in range(len(trials), len(trials) + rounds):
        began = time.perf_counter()
        search.ask(number)
        took.append(time.perf_counter() - began)
        search.complete(number, [numbers.random(), numbers.random()])
        if sum(took) > PATIENCE_S:
            break
    return 1000 * sorted(took)[len(took) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10000], help="that are over")
    parser.add_argument("--samplers", nargs="+", default=PATIENT, choices=SAMPLERS, help="all but gp by default")
    parser.add_argument("--rounds", type=int, default=9, help="proposals (9); fewer where they take long")
    add_json_option(parser)
    chosen = parser.parse_args()
    rows = []
    for count in chosen.trials:
        trials = past(count)
        for sampler in chosen.samplers:
            say(f"{sampler}, {count:,} trials")
            rows.append({"sampler": sampler, "trials": count, "ask_ms": ask_ms(sampler, trials, chosen.rounds)})
    by_sampler = {sampler: [row["ask_ms"] for row in rows if row["sampler"] == sampler] for sampler in chosen.samplers}
    head = ("ms a proposal, after", *(f"{count:,} trials" for count in chosen.trials))
    print_table("what a proposal costs", head, [(sampler, *values) for sampler, values in by_sampler.items()])
    config = {"trials": chosen.trials, "rounds": chosen.rounds, "samplers": list(chosen.samplers)}
    write_record("samplers", chosen.json, config, {"proposals": rows})


if __name__ == "__main__":
    main()
