"""Trial-steps per second of a plain script with Ray Tune, Optuna and a DataLoader.

    python -m benchmarks.plain

Each trial is a process that trains one model: the quickstart's network, objective, space and number of reports, batches
from a DataLoader with worker processes, `torch.optim.Adam`, `torch.randn`. The spectrograms are made once and mapped
into memory by every trial. All of the run counts: it begins with the command and ends when Ray has stopped.
"""

import argparse
import logging
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import ray
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch.utils.data import DataLoader, Dataset

from benchmarks.machine import add_json_option, command_started, print_table, write_record
from marl.audio import AudioConfig
from marl.config import Config, ContrastConfig, LossConfig, SubspaceWeights
from marl.data.syntone import SynTone
from marl.models import Architecture, LatentConfig, build_network
from marl.objective import ActiveTerms, Batch, LaneHyperparameters, ObjectiveSpec, build_hyperparameters, objective

VALIDATION_CLIPS = 2048
LOG_MELS, META = "log_mels.npy", "meta.npz"


class Pairs(Dataset):
    """A training clip and another one of the same timbre that differs in frequency and amplitude."""

    def __init__(self, folder: Path) -> None:
        meta = np.load(folder / META)
        self.log_mels = np.load(folder / LOG_MELS, mmap_mode="r")
        self.clips, self.values = meta["training"], meta["values"]
        timbre = self.values[self.clips, 0]
        self.of_timbre = [self.clips[timbre == index] for index in range(timbre.max() + 1)]

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        first = self.clips[index]
        timbre = self.values[first, 0]
        others = self.of_timbre[timbre]
        while True:
            second = others[torch.randint(len(others), ()).item()]
            if (self.values[second, 1:] != self.values[first, 1:]).all():
                return torch.tensor(self.log_mels[first]), torch.tensor(self.log_mels[second]), int(timbre)


class Run(NamedTuple):
    """What all trials have in common."""

    folder: str
    steps: int
    pairs: int
    reports: int
    workers: int
    threads: int


def prepare(folder: Path) -> None:
    """Make all spectrograms of SynTone once."""
    data = SynTone().build(AudioConfig(), torch.device("cpu"))
    np.save(folder / LOG_MELS, data.log_mels.values_NFT.numpy())
    np.savez(
        folder / META,
        training=data.splits["training"].numpy(),
        validation=data.splits["validation"].numpy(),
        values=data.value_NC.numpy(),
        std_db=data.audio.std_db,
    )


def train(config: dict[str, Any], run: Run) -> None:
    """One trial: trains a model and reports at every budget."""
    torch.set_num_threads(run.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = Pairs(Path(run.folder))
    meta = np.load(Path(run.folder) / META)
    held_out = meta["validation"][:VALIDATION_CLIPS]
    validation = torch.tensor(data.log_mels[held_out], device=device)
    validation_timbre = torch.tensor(data.values[held_out, 0], device=device)
    loader = DataLoader(
        data,
        batch_size=run.pairs,
        shuffle=True,
        drop_last=True,
        num_workers=run.workers,
        persistent_workers=run.workers > 0,
        pin_memory=device.type == "cuda",
    )

    latent = LatentConfig(private=config["private"], shared=config["shared"])
    asked = Config(
        latent=latent,
        loss=LossConfig(
            private=SubspaceWeights(gamma=config["private_gamma"]), shared=SubspaceWeights(gamma=config["shared_gamma"])
        ),
        contrast=ContrastConfig(
            strategy=config["strategy"], shared=config["contrast"], temperature=config["temperature"]
        ),
    )
    audio = AudioConfig()
    network = build_network(Architecture(audio.mel_bands, audio.frames, asked.model, latent.private, latent.shared))
    objective_spec = ObjectiveSpec(network, ActiveTerms.of(asked), len(data))
    hyperparameters = LaneHyperparameters(*(one.to(device) for one in build_hyperparameters(objective_spec, asked)))
    parameters = {
        name: value.to(device).requires_grad_() for name, value in network.initial_parameters(latent, seed=0).items()
    }
    optimiser = torch.optim.Adam(parameters.values(), lr=asked.optimiser.learning_rate)

    def evaluate() -> dict[str, float]:
        with torch.no_grad():
            clips = network.to_input(validation)
            mean = network.encode(parameters, hyperparameters.mask_D, clips).mean
            error = (network.decode(parameters, mean) - clips).square().mean().sqrt().item()
            # How often the nearest centre of a timbre, in the shared latents, is the clip's own.
            shared = mean[:, latent.private :]
            centres = torch.stack([shared[validation_timbre == index].mean(dim=0) for index in range(4)])
            is_own = torch.cdist(shared, centres).argmin(dim=1) == validation_timbre
            return {"log_mel_rmse_db": error * float(meta["std_db"]), "shared_timbre": is_own.float().mean().item()}

    step = 0
    while step < run.steps:
        for first, second, timbre in loader:
            clips = torch.cat([first, second]).to(device, non_blocking=True)
            noise = torch.randn(len(clips), network.latents, device=device)
            batch = Batch(network.to_input(clips), timbre.to(device, non_blocking=True), noise)
            loss, _ = objective(objective_spec, parameters, hyperparameters, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            if step % math.ceil(run.steps / run.reports) == 0 or step == run.steps:
                tune.report({**evaluate(), "step": step})
            if step == run.steps:
                break


def study(trials: int, at_once: int, run: Run) -> tuple[int, int]:
    """All trials; returns how many steps they trained, and how many trials failed."""
    gpus = torch.cuda.device_count()
    space = {
        "private_gamma": tune.loguniform(0.3, 10),
        "shared_gamma": tune.loguniform(0.3, 10),
        "private": tune.choice([4, 8, 16]),
        "shared": tune.choice([4, 8]),
        "strategy": tune.choice(["none", "infonce"]),
        "contrast": tune.loguniform(20, 200),
        "temperature": tune.loguniform(0.07, 0.5),
    }
    with tempfile.TemporaryDirectory(prefix="plain-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=f"{folder}/ray",
        )
        share = {"cpu": (os.cpu_count() or 1) / at_once, "gpu": 1 / at_once if gpus else 0}
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, run=run), share),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(metric=["log_mel_rmse_db", "shared_timbre"], mode=["min", "max"], seed=0),
                num_samples=trials,
                max_concurrent_trials=at_once,
            ),
            run_config=tune.RunConfig(storage_path=f"{folder}/tune", verbose=0),
        ).fit()
        ray.shutdown()
    for error in results.errors:
        print(error, file=sys.stderr)
    return sum(result.metrics.get("step", 0) for result in results if result.metrics), results.num_errors


def options() -> argparse.Namespace:
    cpus = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="how many models (default 8)")
    parser.add_argument("--steps", type=int, help="steps of each (6,000 on a GPU, 800 on CPUs)")
    parser.add_argument("--pairs", type=int, help="pairs of a batch (128 on a GPU, 32 on CPUs)")
    parser.add_argument("--reports", type=int, default=4, help="evaluations of each (default 4)")
    parser.add_argument("--at-once", type=int, default=2, help="trials side by side (default 2)")
    parser.add_argument("--workers", type=int, help="of each trial's DataLoader (4 on a GPU, 1 on CPUs)")
    add_json_option(parser)
    found = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    found.steps = found.steps or (6000 if has_gpu else 800)
    found.pairs = found.pairs or (128 if has_gpu else 32)
    found.workers = found.workers if found.workers is not None else (4 if has_gpu else 1)
    found.threads = max(1, cpus // found.at_once)
    return found


def main() -> None:
    began, chosen = command_started(), options()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}
    with tempfile.TemporaryDirectory(prefix="plain-data-") as folder:
        run = Run(folder, chosen.steps, chosen.pairs, chosen.reports, chosen.workers, chosen.threads)
        prepare(Path(folder))
        ready = time.monotonic()
        steps, failed = study(chosen.trials, chosen.at_once, run)
    seconds = time.monotonic() - began
    results = {
        "trial_steps_per_second": steps / seconds,
        "trial_steps": steps,
        "seconds": seconds,
        "preparing_seconds": ready - began,
        "failed_trials": failed,
    }
    config = {name: value for name, value in vars(chosen).items() if name != "json"}
    print_table(
        f"plain Ray Tune: {chosen.trials} trials, {chosen.steps} steps, {chosen.pairs} pairs, {chosen.at_once} at once",
        ("", "trial-steps/s", "seconds", "trial-steps", "failed"),
        [("whole run", results["trial_steps_per_second"], seconds, steps, failed)],
    )
    write_record("plain", chosen.json, config, results)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
