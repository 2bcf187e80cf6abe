"""Metrics of many models in one batch, compared with disentanglement_lib, one model at a time.

    python -m benchmarks.metrics [--models N] [--clips N] [--latents N] [--with-trees]

The right column runs the library's definitions with numpy and scikit-learn (Locatello et al., ICML 2019; commit
86a644d): histograms of one latent after the other, boosted trees for each factor. Both sides get the same latents in
the same run, and the largest difference of a score is printed beside the times. Boosted trees take minutes on the
right, so they are excluded by default.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score

from benchmarks.machine import add_json_option, device_kind, print_table, write_record
from marl.metrics.dci import dci
from marl.metrics.information_gaps import mutual_information_gap
from marl.metrics.modularity import modularity
from marl.metrics.mutual_information import BINS, information

CLASSES = (4, 20, 10)


def clips_of(models: int, clips: int, latents: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents [K, N, D] that tell some of the factors [N, C], each model other ones."""
    random = np.random.default_rng(0)
    class_NC = np.stack([random.integers(count, size=clips) for count in CLASSES], axis=1)
    value_NC = 2 * class_NC / (np.array(CLASSES) - 1) - 1
    weight_KCD = random.normal(size=(models, len(CLASSES), latents)) ** 3
    noise_KND = random.normal(size=(models, clips, latents))
    return (np.einsum("nc,kcd->knd", value_NC, weight_KCD) + noise_KND).astype(np.float32), class_NC


def plain_information(latents_ND: np.ndarray, class_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information [D, C] and factor entropies, nats."""
    binned_ND = np.stack([np.digitize(column, np.histogram(column, BINS)[1][:-1]) for column in latents_ND.T], axis=1)
    mutual_DC = [[mutual_info_score(factor, binned) for factor in class_NC.T] for binned in binned_ND.T]
    return np.array(mutual_DC), np.array([mutual_info_score(factor, factor) for factor in class_NC.T])


def plain_mig(fit_ND: np.ndarray, fit_NC: np.ndarray, held_out_ND: np.ndarray, held_out_NC: np.ndarray) -> float:
    mutual_DC, entropy_C = plain_information(held_out_ND, held_out_NC)
    ordered_DC = np.sort(mutual_DC, axis=0)[::-1]
    return float(np.mean((ordered_DC[0] - ordered_DC[1]) / entropy_C))


def plain_modularity(fit_ND: np.ndarray, fit_NC: np.ndarray, held_out_ND: np.ndarray, held_out_NC: np.ndarray) -> float:
    squared_DC = plain_information(held_out_ND, held_out_NC)[0] ** 2
    most_D = squared_DC.max(axis=1)
    return float(np.mean(1 - (squared_DC.sum(axis=1) - most_D) / (most_D * (squared_DC.shape[1] - 1))))


def plain_dci(fit_ND: np.ndarray, fit_NC: np.ndarray, held_out_ND: np.ndarray, held_out_NC: np.ndarray) -> float:
    """Informativeness; `benchmarks.dci` compares the rest."""
    accuracies = [
        GradientBoostingClassifier(random_state=0).fit(fit_ND, fit).score(held_out_ND, held_out)
        for fit, held_out in zip(fit_NC.T, held_out_NC.T, strict=True)
    ]
    return float(np.mean(accuracies))


Plain = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]
Batched = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _everything(latents_KND: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(latents_KND[:, 0])


def batched_mig(fit: torch.Tensor, fit_NC: torch.Tensor, held: torch.Tensor, held_NC: torch.Tensor) -> torch.Tensor:
    found = information(held, _everything(held), held_NC)
    return mutual_information_gap(found.mutual_KDC, found.factor_entropy_C)


def batched_modularity(
    fit: torch.Tensor, fit_NC: torch.Tensor, held: torch.Tensor, held_NC: torch.Tensor
) -> torch.Tensor:
    return modularity(information(held, _everything(held), held_NC).mutual_KDC, _everything(held))


def our_dci(fit: torch.Tensor, fit_NC: torch.Tensor, held: torch.Tensor, held_NC: torch.Tensor) -> torch.Tensor:
    """One model after the other here, too."""
    scores = [dci(one, fit_NC, other, held_NC).informativeness for one, other in zip(fit, held, strict=True)]
    return torch.tensor(scores)


METRICS: dict[str, tuple[Batched, Plain]] = {
    "MIG": (batched_mig, plain_mig),
    "modularity": (batched_modularity, plain_modularity),
    "DCI (informativeness)": (our_dci, plain_dci),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=16, help="in one batch (16)")
    parser.add_argument("--clips", type=int, default=2048, help="to fit on, and as many held out (2048)")
    parser.add_argument("--latents", type=int, default=16, help="of each model (16)")
    parser.add_argument("--plain-models", type=int, default=1, help="how many of them one after the other (1)")
    parser.add_argument("--with-trees", action="store_true", help="boosted trees as well, of one model")
    add_json_option(parser)
    options = parser.parse_args()
    kind = device_kind()
    latents_KND, class_NC = clips_of(options.models, 2 * options.clips, options.latents)
    fit, held = (slice(0, options.clips), slice(options.clips, None))
    tensors = [
        torch.from_numpy(array).to(kind)
        for array in (latents_KND[:, fit], class_NC[fit], latents_KND[:, held], class_NC[held])
    ]
    results = []
    for name, (batched, plain) in METRICS.items():
        has_trees = name.startswith("DCI")
        if has_trees and not options.with_trees:
            continue
        models = 1 if has_trees else options.models
        given = [tensors[0][:models], tensors[1], tensors[2][:models], tensors[3]]
        seconds = []
        for _ in range(3):  # the first compiles and warms up
            started = time.perf_counter()
            found_K = batched(*given).cpu()
            seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        plain_models = min(options.plain_models, models)
        expected = [
            plain(latents_KND[model, fit], class_NC[fit], latents_KND[model, held], class_NC[held])
            for model in range(plain_models)
        ]
        plain_s = (time.perf_counter() - started) / plain_models
        results.append(
            {
                "metric": name,
                "ms_a_model": 1e3 * min(seconds[1:]) / models,
                "plain_ms_a_model": 1e3 * plain_s,
                "times_faster": plain_s / (min(seconds[1:]) / models),
                "largest_difference": max(abs(float(a) - b) for a, b in zip(found_K, expected, strict=False)),
            }
        )
    head = ["", "ms a model, batched", "ms a model, plain", "x", "largest difference"]
    print_table(
        f"{options.models} models, {options.clips} + {options.clips} clips, {options.latents} latents on {kind}",
        head,
        [list(row.values()) for row in results],
    )
    run = {name: getattr(options, name) for name in ("models", "clips", "latents", "plain_models")}
    write_record("metrics", options.json, {**run, "classes": list(CLASSES)}, {"metrics": results})


if __name__ == "__main__":
    main()
