"""Cost of a proposal in the driver for each sampler and number of trials.

    python -m benchmarks.samplers [--trials 100 1000 10000]

Space and objectives come from `study/ready/tradeoff.yaml`. Past trials have random configurations and random values; a
third of them is complete and the rest was pruned, as with halving.
"""

import random

from benchmarks.machine import ROOT, log, new_parser, print_table, timed, write_record
from study.search.sampler import PastTrial, Search
from study.spec import Spec
from study.spec.resolve import read_spec

SAMPLERS = ("random", "qmc", "nsga2", "tpe", "gp")
PATIENCE_S = 30.0


def spec_of(sampler: str) -> Spec:
    changes = [f"search.sampler={sampler}", "search.trials=100000"]
    return read_spec(ROOT / "study" / "ready" / "tradeoff.yaml", changes).spec


def past_trials(count: int) -> list[PastTrial]:
    search, numbers = Search(spec_of("random")), random.Random(0)
    found = []
    for number in range(count):
        parameters = search.ask(number)
        values = [numbers.random(), numbers.random()] if number % 3 == 0 else None
        found.append(PastTrial(number, "complete" if values else "pruned", parameters, values, {}))
    return found


def ask_ms(sampler: str, trials: list[PastTrial], rounds: int) -> float:
    """Return the median milliseconds of a proposal. A new result before each one invalidates cached models."""
    search, numbers, took = Search(spec_of(sampler), trials), random.Random(1), []
    for number in range(len(trials), len(trials) + rounds):
        took.append(timed(search.ask, number)[1])
        search.tell(number, "complete", [numbers.random(), numbers.random()])
        if sum(took) > PATIENCE_S:
            break
    return 1000 * sorted(took)[len(took) // 2]


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10000], help="past trials")
    # A Gaussian process takes minutes for a proposal after thousands of trials.
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS[:-1], choices=SAMPLERS)
    parser.add_argument("--rounds", type=int, default=9, help="proposals, fewer if they are slow")
    options = parser.parse_args()
    rows = []
    for count in options.trials:
        trials = past_trials(count)
        for sampler in options.samplers:
            log(f"{sampler}, {count:,} trials")
            rows.append({"sampler": sampler, "trials": count, "ask_ms": ask_ms(sampler, trials, options.rounds)})
    table = [(name, *(row["ask_ms"] for row in rows if row["sampler"] == name)) for name in options.samplers]
    head = ("ms per proposal, after", *(f"{count:,} trials" for count in options.trials))
    print_table("cost of a proposal", head, table)
    write_record("samplers", options, {"proposals": rows})


if __name__ == "__main__":
    main()
