"""Choice of the readers: how closely each orders models as an expensive reader, the judge, does.

    python -m benchmarks.readers FOLDER [--lanes N] [--steps N...] [--processes N] [--clips N...]

One stack for each strategy trains models of all fusions and of many sizes and weights on SynTone. FOLDER keeps what is
read: the posteriors of all models after each third of the training. Results are kept there as well, so that a run that
was interrupted goes on. The judge reads samples of all clips, with fresh noise: neighbours, linear and quadratic
discriminant analysis, and wide networks of several seeds, mixed by their likelihood on clips that none was fitted on.
"""

import itertools
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.machine import log, new_parser, print_table, write_record
from benchmarks.models import full_stack
from marl import randomness
from marl.audio import AudioConfig
from marl.config import Config
from marl.data.syntone import SynTone
from marl.evaluation import FIT_CLIPS
from marl.losses.ssl import STRATEGIES
from marl.metrics import METRIC_VERSION
from marl.metrics.readers import READERS, class_prior, information_share
from marl.metrics.readers.calibration import Classifier, _Mixture
from marl.metrics.readers.discriminant import LinearDiscriminants, QuadraticDiscriminants
from marl.metrics.readers.network import Network, NetworkConfig
from marl.metrics.readers.whitening import Whitening
from marl.randomness import Purpose

FUSIONS = ("none", "mean", "swap", "poe")
SIZES = (2, 3, 4, 6, 8, 12, 16)
WIDEST = max(SIZES)
THIRDS = ("a third", "two thirds", "the end")
ALL_CLIPS, HELD_OUT_CLIPS = 25_600, 2_048
SEEDS = 5
TARGETS = ("separation", "timbre in private", "frequency in shared", "amplitude in shared")
BOOTSTRAP = 1000
JUDGE_DRAWS, JUDGE_SEEDS, JUDGE_NEIGHBOURS = 2, 2, (8, 32)
JUDGE_NETWORK = NetworkConfig((96, 96, 96), epochs=8, min_steps=200, max_steps=3000, batch=512)


class Reading(NamedTuple):
    """What one stack of models is read with; `third` counts from zero."""

    reader: str
    kind: str
    clips: int
    third: int = 2
    seed: int = 0


def configs(strategy: str, lanes: int, seed: int) -> list[Config]:
    """Return configurations of all fusions. The first has the largest sizes, to which a stack pads all."""
    random = np.random.default_rng(seed)

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    def config(lane: int) -> Config:
        private, shared = (int(random.choice(SIZES)) if lane else WIDEST for _ in range(2))
        weights = [
            {"alpha": log_uniform(0.1, 5), "beta": log_uniform(0.1, 5), "gamma": log_uniform(0.1, 20)} for _ in range(2)
        ]
        fields = {
            "model": {"patch_bands": 16, "patch_frames": 16, "width": 64, "embedding": 16, "hidden": 96},
            "latent": {"private": private, "shared": shared, "fusion": FUSIONS[(lane + seed) % len(FUSIONS)]},
            "loss": {"private": weights[0], "shared": weights[1]},
            "contrast": {
                "strategy": strategy,
                "shared": log_uniform(5, 300),
                "temperature": log_uniform(0.07, 0.5),
                "repulsion": float(random.choice([0, 5, 50])),
            },
        }
        return Config.model_validate(fields)

    return [config(lane) for lane in range(lanes)]


def train(folder: Path, strategy: str, seed: int, steps: int, lanes: int, frequencies: int) -> None:
    """Train a stack and keep its posteriors in `folder`, if they are not there."""
    path = folder / f"{strategy}.pt"
    if path.exists():
        return
    torch.set_num_threads(1)
    dataset = SynTone(frequencies=frequencies).build(AudioConfig(), torch.device("cpu"))
    clips = dataset.probe_train_clips("validation")[:ALL_CLIPS], dataset.splits["validation"][:HELD_OUT_CLIPS]
    stack = full_stack(dataset, configs(strategy, lanes, seed), lanes, pairs=32)
    encoded = []
    for _ in THIRDS:
        for _ in range(steps // len(THIRDS)):
            stack.step()
        with torch.no_grad():
            posteriors = [stack.models.encode(part) for part in clips]
        mask_K1D = stack.models.mask_KD[:, None]
        encoded.append([(one.mean, (0.5 * one.logvar).exp() * mask_K1D) for one in posteriors])
    if stack.diverged():
        raise SystemExit(f"{strategy}: diverged")
    classes, counts = [dataset.classes(part) for part in clips], [factor.classes for factor in dataset.factors]
    torch.save({"encoded": encoded, "clips": clips, "classes": classes, "count": counts}, path)
    log(f"trained: {strategy}, {steps} steps")


def representations(kept: dict, third: int, part: int, draw: int | None = 0) -> tuple[Tensor, Tensor | None]:
    """Return the private and the shared latents of each model, [2K, N, D], and deviations if they are means."""
    mean_KND, deviation_KND = kept["encoded"][third][part]
    if draw is None:
        root_mean_KD = deviation_KND.square().mean(dim=1).sqrt()
        return _by_subspace(mean_KND), _by_subspace(root_mean_KD)
    zero = torch.zeros((), dtype=torch.int64)
    state = randomness.stream(zero, zero + draw, Purpose.METRIC_NOISE)
    noise_ND = randomness.normal(state, kept["clips"][part], torch.arange(mean_KND.shape[-1]))
    return _by_subspace(mean_KND + deviation_KND * noise_ND), None


def _by_subspace(latents: Tensor) -> Tensor:
    return torch.stack(latents.split(WIDEST, dim=-1), dim=1).flatten(0, 1)


class Neighbours:
    """Shares of the classes among the nearest clips."""

    def __init__(self, whitened_RNE: Tensor, one_hots: Sequence[Tensor]) -> None:
        self._clips_RNE, self._one_hots = whitened_RNE.float(), [one_hot_NY.float() for one_hot_NY in one_hots]

    def logits(self, whitened_RNE: Tensor) -> list[list[Tensor]]:
        """Return logits by number of neighbours and factor, [R, N, Y]."""
        nearest_RNk = torch.cat(
            [
                torch.cdist(part, self._clips_RNE).topk(max(JUDGE_NEIGHBOURS), largest=False).indices
                for part in whitened_RNE.float().split(256, dim=1)
            ],
            dim=1,
        )
        return [
            [(part[nearest_RNk[..., :count]].sum(dim=2) + 1 / part.shape[1]).log() for part in self._one_hots]
            for count in JUDGE_NEIGHBOURS
        ]


def judge(kept: dict, third: int) -> list[Tensor]:
    """Return the log-probabilities of the judge for the held-out clips by factor, [R, N, Y]."""
    classes, counts = kept["classes"], kept["count"]
    fit = len(classes[0]) - max(1, min(HELD_OUT_CLIPS, len(classes[0]) // 5))
    draws = [representations(kept, third, 0, draw)[0] for draw in range(JUDGE_DRAWS)]
    whitening = Whitening.fit(draws[0][:, :fit])
    first_RNE, held_out_RNE, eval_RNE = (
        whitening(one) for one in (draws[0][:, :fit], draws[0][:, fit:], representations(kept, third, 1)[0])
    )
    all_RNE = whitening(torch.cat([draw[:, :fit] for draw in draws], dim=1))
    one_hots = [one_hot(column[:fit], count).double() for column, count in zip(classes[0].mT, counts, strict=True)]
    repeated = [part.repeat(JUDGE_DRAWS, 1) for part in one_hots]
    neighbours = Neighbours(first_RNE, one_hots)
    classifiers: list[Classifier] = [LinearDiscriminants(all_RNE, repeated), QuadraticDiscriminants(all_RNE, repeated)]
    classifiers += [Network(all_RNE, repeated, JUDGE_NETWORK, seed) for seed in range(JUDGE_SEEDS)]
    calibration, asked = (
        [*(one.logits(latents) for one in classifiers), *neighbours.logits(latents)]
        for latents in (held_out_RNE, eval_RNE)
    )
    found = []
    for index, count in enumerate(counts):
        prior_Y = class_prior(classes[0][:, index], count)
        mixture = _Mixture(prior_Y, [one[index] for one in calibration], classes[0][fit:, index])
        found.append(mixture.log_probabilities([one[index] for one in asked]))
    return found


def read(kept: dict, reading: Reading) -> Tensor:
    """Return the information of each model about each factor in private and shared, [K, 2, C]."""
    counts = kept["count"]
    if reading.reader == "judge":
        answers = judge(kept, reading.third)
    else:
        draw = 0 if reading.kind == "samples" else None
        (fit_RND, deviation_RD), (eval_RND, _) = (representations(kept, reading.third, part, draw) for part in (0, 1))
        arguments = fit_RND[:, : reading.clips], kept["classes"][0][: reading.clips], counts, deviation_RD
        answers = replace(READERS[reading.reader], seed=reading.seed).fit(*arguments).log_probabilities(eval_RND)
    shares = [
        information_share(answer, kept["classes"][1][:, index], class_prior(kept["classes"][0][:, index], count))
        for index, (answer, count) in enumerate(zip(answers, counts, strict=True))
    ]
    return torch.stack(shares, dim=1).unflatten(0, (-1, 2))


def answer(folder: Path, strategy: str, reading: Reading) -> tuple[Tensor, float]:
    """Return separation and leakage of the models of a stack, [K, T], and CPU seconds a model, from FOLDER if kept."""
    path = folder / f"{strategy}-{'-'.join(map(str, reading))}.pt"
    if not path.exists():
        torch.set_num_threads(1)
        kept, started = torch.load(folder / f"{strategy}.pt"), time.process_time()
        share_K2C = read(kept, reading)
        seconds = (time.process_time() - started) / len(share_K2C)
        torch.save({"share": share_K2C, "seconds": seconds}, path)
        log(f"{strategy}: {' '.join(map(str, reading))}, {seconds:.2f} s a model")
    found = torch.load(path)
    private_KC, shared_KC = found["share"].unbind(dim=1)
    is_shared_C = torch.arange(private_KC.shape[1]) == 0  # timbre
    right_KC, wrong_KC = (
        torch.where(is_shared_C, shared_KC, private_KC),
        torch.where(is_shared_C, private_KC, shared_KC),
    )
    return torch.cat([(right_KC - wrong_KC).mean(dim=1, keepdim=True), wrong_KC], dim=1), found["seconds"]


def tau(first_M: np.ndarray, second_M: np.ndarray) -> list[float]:
    """Return Kendall's tau over models, and the ends of its 90 % interval from a bootstrap over models."""
    rows = np.random.default_rng(0).integers(len(first_M), size=(BOOTSTRAP, len(first_M)))
    drawn = [kendalltau(first_M[row], second_M[row]).statistic for row in rows]
    return [float(kendalltau(first_M, second_M).statistic), *map(float, np.nanquantile(drawn, [0.05, 0.95]))]


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for models and results; about 1 GB")
    parser.add_argument("--strategies", nargs="+", default=["none", *STRATEGIES], metavar="NAME", help="one stack each")
    parser.add_argument("--lanes", type=int, default=6, help="models of each strategy")
    parser.add_argument("--steps", type=int, nargs="+", default=[300, 600, 600], help="of the stacks, in turn")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--clips", type=int, nargs="+", default=[512, 2048, 6000, 12000, 25600], help="to fit on")
    parser.add_argument("--frequencies", type=int, default=400, help="of SynTone")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = {"steps": options.steps, "lanes": options.lanes, "frequencies": options.frequencies}
    kept["metric_version"], path = METRIC_VERSION, options.folder / "options.json"
    if path.exists() and json.loads(path.read_text()) != kept:
        parser.error(f"{options.folder} has models of other options, {path.read_text()}; use another folder")
    path.write_text(json.dumps(kept))
    names = options.strategies
    steps = [options.steps[index % len(options.steps)] for index in range(len(names))]
    rung_clips = [clips for clips in options.clips if clips <= FIT_CLIPS]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        train_one = partial(train, options.folder, lanes=options.lanes, frequencies=options.frequencies)
        list(pool.map(train_one, names, range(len(names)), steps))

        def answers(*words: Any, strategies: Sequence[str] = names) -> tuple[np.ndarray, float]:
            pairs = pool.map(partial(answer, options.folder, reading=Reading(*words)), strategies)
            found, seconds = zip(*pairs, strict=True)
            return torch.cat(found).numpy(), float(np.mean(seconds))

        judged_MT, judge_s = answers("judge", "samples", ALL_CLIPS)
        readers = []
        for words in itertools.product(READERS, ("samples", "means"), options.clips):
            found_MT, seconds = answers(*words)
            taus = [tau(found_M, judged_M) for found_M, judged_M in zip(found_MT.T, judged_MT.T, strict=True)]
            readers.append(
                dict(zip(("reader", "kind", "clips", "seconds", "tau"), (*words, seconds, taus), strict=True))
            )
        final_M = answers("strong", "samples", FIT_CLIPS)[0][:, 0]
        rungs = []
        for reader, clips, third in itertools.product(READERS, rung_clips, range(len(THIRDS))):
            found_M = answers(reader, "samples", clips, third)[0][:, 0]
            taus = [tau(found_M, one_M) for one_M in (final_M, judged_MT[:, 0])]
            rungs.append({"reader": reader, "clips": clips, "third": third, "tau": taus})
        spreads = []
        for clips in options.clips:
            drawn = [answers("strong", "samples", clips, 2, seed, strategies=names[:1])[0] for seed in range(SEEDS)]
            spreads.append({"clips": clips, "deviations": np.stack(drawn).std(axis=0, ddof=1).T.tolist()})
    title = f"Kendall's tau with the judge ({judge_s:.2g} s a model) over {len(judged_MT)} models"
    rows = [[f"{r['reader']}, {r['kind']}, {r['clips']}", *map(_text, r["tau"]), r["seconds"]] for r in readers]
    print_table(title, ["reader", *TARGETS, "CPU s a model"], rows)
    rows = [[f"{r['reader']}, {r['clips']}, {THIRDS[r['third']]}", *map(_text, r["tau"])] for r in rungs]
    print_table("Kendall's tau with the final separation", ["reader", f"strong, {FIT_CLIPS}", "judge"], rows)
    rows = [[r["clips"], *(f"{np.median(one):.4f}, {max(one):.4f}" for one in r["deviations"])] for r in spreads]
    print_table(f"deviation over {SEEDS} seeds of the strong reader: median and largest", ["clips", *TARGETS], rows)
    results = {"judge_seconds": judge_s, "readers": readers, "rungs": rungs, "spread": spreads}
    write_record("readers", options, results, models=len(judged_MT), targets=TARGETS)


def _text(found: Sequence[float]) -> str:
    return "{:.2f} ({:.2f}-{:.2f})".format(*found)


if __name__ == "__main__":
    main()
