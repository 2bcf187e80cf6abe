"""Trial-steps per second of a plain script with Ray Tune, Optuna and a DataLoader, for `benchmarks.study --plain`.

Each trial is a process that trains one model: the quickstart's network, objective, space and number of reports, batches
from a DataLoader with worker processes, `torch.optim.Adam`, `torch.randn`. The spectrograms are made once and mapped
into memory by every trial. The time of the whole run counts, from the start of the command to the end of Ray.
"""

import logging
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.machine import command_started
from benchmarks.models import PlainModel, pair_loader
from marl.audio import AudioConfig
from marl.config import Config
from marl.data.syntone import SynTone

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WORKERS = {"cpu": 1, "cuda": 4}  # of a DataLoader
REPORTS, CONCURRENT_TRIALS = 2, 2
VALIDATION_CLIPS = 2048
LOG_MELS, META = "log_mels.npy", "meta.npz"


def prepare(folder: Path) -> None:
    """Write the spectrograms of SynTone, its splits and its factor values."""
    data = SynTone().build(AudioConfig(), torch.device("cpu"))
    np.save(folder / LOG_MELS, data.log_mels.values_NFT.numpy())
    np.savez(
        folder / META,
        training=data.splits["training"].numpy(),
        validation=data.splits["validation"].numpy(),
        values=data.value_NC.numpy(),
        std_db=data.audio.std_db,
    )


def train(chosen: dict[str, Any], folder: str, steps: int, pairs: int, threads: int) -> None:
    """Train a trial's model and report at every budget."""
    torch.set_num_threads(threads)
    log_mels, meta = np.load(Path(folder) / LOG_MELS, mmap_mode="r"), np.load(Path(folder) / META)
    clips, values = meta["training"], meta["values"]
    held_out = meta["validation"][:VALIDATION_CLIPS]
    validation = torch.tensor(log_mels[held_out], device=DEVICE)
    validation_timbre = torch.tensor(values[held_out, 0], device=DEVICE)
    config = Config.model_validate(chosen)
    model = PlainModel(config, DEVICE)
    network, parameters = model.network, model.parameters

    def evaluate() -> dict[str, float]:
        with torch.no_grad():
            clips = network.to_input(validation)
            mean = network.encode(parameters, model.hyperparameters.mask_D, clips).mean
            error = (network.decode(parameters, mean) - clips).square().mean().sqrt().item()
            # Accuracy of the nearest centre of a timbre in the shared latents.
            shared = mean[:, config.latent.private :]
            centres = torch.stack([shared[validation_timbre == index].mean(dim=0) for index in range(4)])
            is_own = torch.cdist(shared, centres).argmin(dim=1) == validation_timbre
            return {"log_mel_rmse_db": error * float(meta["std_db"]), "shared_timbre": is_own.float().mean().item()}

    batches = pair_loader(log_mels, clips, values, pairs, WORKERS[DEVICE.type], DEVICE)
    for step in range(1, steps + 1):
        model.step(*next(batches))
        if step % math.ceil(steps / REPORTS) == 0 or step == steps:
            tune.report({**evaluate(), "step": step})


def search(trials: int, **run: Any) -> tuple[int, int]:
    """Run all trials; return the number of trained steps and of failed trials."""
    gpus = torch.cuda.device_count()
    space = {
        "latent": {"private": 16, "shared": 8},
        "loss": {"private": {"gamma": tune.loguniform(0.3, 30)}},
        "contrast": {"strategy": "infonce", "shared": tune.loguniform(2, 200)},
        "independence": {"hsic": tune.loguniform(3, 300)},
    }
    with tempfile.TemporaryDirectory(prefix="plain-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address="local", _temp_dir=f"{folder}/ray", **quiet)
        share = {"cpu": (os.cpu_count() or 1) / CONCURRENT_TRIALS, "gpu": 1 / CONCURRENT_TRIALS if gpus else 0}
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, **run), share),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(metric=["log_mel_rmse_db", "shared_timbre"], mode=["min", "max"], seed=0),
                num_samples=trials,
                max_concurrent_trials=CONCURRENT_TRIALS,
            ),
            run_config=tune.RunConfig(storage_path=f"{folder}/tune", verbose=0),
        ).fit()
        ray.shutdown()
    for error in results.errors:
        print(error, file=sys.stderr)
    return sum(result.metrics.get("step", 0) for result in results if result.metrics), results.num_errors


def measure(trials: int, steps: int, pairs: int) -> dict[str, float]:
    """Measure this process, from its start to the end of Ray."""
    began = command_started()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}
    with tempfile.TemporaryDirectory(prefix="plain-data-") as folder:
        prepare(Path(folder))
        ready = time.monotonic()
        threads = max(1, (os.cpu_count() or 1) // CONCURRENT_TRIALS)
        trained, failed = search(trials, folder=folder, steps=steps, pairs=pairs, threads=threads)
    seconds = time.monotonic() - began
    return {
        "trial_steps_per_second": trained / seconds,
        "trial_steps": trained,
        "seconds": seconds,
        "preparing_seconds": ready - began,
        "failed_trials": failed,
    }
