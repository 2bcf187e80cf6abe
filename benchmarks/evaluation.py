"""Seconds that each group of metrics of a final report takes, beside the training of a model.

    python -m benchmarks.evaluation [--models N] [--rounds N]

Models of 16 private and 16 shared latents on all of SynTone, evaluated together as trainers do it. Each group is
measured alone, so those with networks contain the encoding of the clips that they are fitted on. The competitor of the
readers, without that encoding, is the plain way to fit a strong one: a perceptron of 64 units for each factor and
subspace, trained for 2,000 steps of Adam on samples with fresh noise, one model after the other.
"""

import os
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.machine import device_kind, new_parser, print_table, write_record
from benchmarks.models import LANES, PAIRS, full_stack, synchronise
from marl.audio import AudioConfig
from marl.config import Config
from marl.data.syntone import SynTone
from marl.evaluation import FINAL, FIT_CLIPS, evaluate

SHARED = ("timbre",)
STEPS = 2000
PLAIN_BATCH = 512


def fit_plain(mean_ND: torch.Tensor, deviation_ND: torch.Tensor, class_NC: torch.Tensor, classes: list[int]) -> None:
    """Fit a perceptron for each factor, as a script would, on the latents of one subspace of one model."""
    for index, count in enumerate(classes):
        network = torch.nn.Sequential(
            torch.nn.Linear(mean_ND.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, count)
        ).to(mean_ND.device)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(STEPS):
            rows = torch.randint(len(mean_ND), (PLAIN_BATCH,), device=mean_ND.device)
            latents = mean_ND[rows] + deviation_ND[rows] * torch.randn_like(mean_ND[rows])
            loss = torch.nn.functional.cross_entropy(network(latents), class_NC[rows, index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--models", type=int, default=LANES[device_kind()], help="that are evaluated together")
    parser.add_argument("--pairs", type=int, default=PAIRS[device_kind()], help="of a batch in training")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of a processor; trainers have all")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median, smallest and largest are shown")
    parser.add_argument("--frequencies", type=int, default=400, help="of SynTone")
    options, device = parser.parse_args(), torch.device(device_kind())
    torch.set_num_threads(options.threads)
    dataset = SynTone(frequencies=options.frequencies).build(AudioConfig(), device)
    config = Config.model_validate({"latent": {"private": 16, "shared": 16}})
    stack = full_stack(dataset, [config], options.models, options.pairs)
    classes = [factor.classes for factor in dataset.factors]

    def train() -> None:
        for _ in range(20):
            stack.step()

    def plain() -> None:
        mean_ND, deviation_ND = posterior.mean[0], (0.5 * posterior.logvar[0]).exp()
        class_NC = dataset.classes(clips)
        for latents in (slice(16), slice(16, None)):
            fit_plain(mean_ND[:, latents], deviation_ND[:, latents], class_NC, classes)

    def seconds(work: Callable[[], object], rounds: int = options.rounds) -> list[float]:
        work()  # warms up
        found = []
        for _ in range(rounds):
            synchronise(device)
            started = time.perf_counter()
            work()
            synchronise(device)
            found.append(time.perf_counter() - started)
        return found

    training_s = statistics.median(seconds(train)) / 20 * STEPS / options.models
    clips = dataset.probe_train_clips("validation")[:FIT_CLIPS]
    encoding = [one / options.models for one in seconds(lambda: stack.models.encode(clips))]
    ways = {f"encoding of {len(clips):,} clips, once for all": encoding}
    posterior = stack.models.encode(clips)
    ways |= {
        name: [one / options.models for one in seconds(lambda name=name: evaluate(stack.models, SHARED, [name]))]
        for name in FINAL
    }
    ways["all together"] = [one / options.models for one in seconds(lambda: evaluate(stack.models, SHARED, FINAL))]
    ways[f"plain perceptrons, {STEPS} steps"] = seconds(plain, 1)
    results = [
        {
            "metrics": name,
            "seconds": statistics.median(found),
            "range": [min(found), max(found)],
            "share_of_training": statistics.median(found) / training_s,
        }
        for name, found in ways.items()
    ]
    rows = [
        [
            row["metrics"],
            f"{row['seconds']:.3f} ({row['range'][0]:.3f}-{row['range'][1]:.3f})",
            f"{row['share_of_training']:.1%}",
        ]
        for row in results
    ]
    title = f"{options.models} models on {device}, {torch.get_num_threads()} threads"
    print_table(f"{title}: {training_s:.1f} s of training for {STEPS} steps", ["", "s a model", "of training"], rows)
    write_record("evaluation", options, {"training_seconds": training_s, "groups": results}, steps=STEPS)


if __name__ == "__main__":
    main()
