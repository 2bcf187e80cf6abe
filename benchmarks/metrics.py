"""Metrics of many models in one batch, compared with disentanglement_lib, one model at a time.

    python -m benchmarks.metrics [--models N] [--clips N] [--latents N]

The right column runs the library's definitions with numpy and scikit-learn (Locatello et al., ICML 2019; commit
86a644d): histograms of one latent after the other. Both sides get the same latents in the same run, and the largest
difference of a score is printed beside the times. `benchmarks.dci` compares boosted trees.
"""

import numpy as np
import torch
from sklearn.metrics import mutual_info_score

from benchmarks.dci import draw_clips
from benchmarks.machine import device_kind, new_parser, print_table, timed, write_record
from marl.metrics.information_gaps import mutual_information_gap
from marl.metrics.modularity import modularity
from marl.metrics.mutual_information import BINS, information

CLASSES = (4, 20, 10)


def plain_information(latents_ND: np.ndarray, class_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mutual information [D, C] and factor entropies [C], in nats."""
    binned_ND = np.stack([np.digitize(column, np.histogram(column, BINS)[1][:-1]) for column in latents_ND.T], axis=1)
    mutual_DC = [[mutual_info_score(factor, binned) for factor in class_NC.T] for binned in binned_ND.T]
    return np.array(mutual_DC), np.array([mutual_info_score(factor, factor) for factor in class_NC.T])


def plain_mig(latents_ND: np.ndarray, class_NC: np.ndarray) -> float:
    mutual_DC, entropy_C = plain_information(latents_ND, class_NC)
    ordered_DC = np.sort(mutual_DC, axis=0)[::-1]
    return float(np.mean((ordered_DC[0] - ordered_DC[1]) / entropy_C))


def plain_modularity(latents_ND: np.ndarray, class_NC: np.ndarray) -> float:
    squared_DC = plain_information(latents_ND, class_NC)[0] ** 2
    most_D = squared_DC.max(axis=1)
    return float(np.mean(1 - (squared_DC.sum(axis=1) - most_D) / (most_D * (squared_DC.shape[1] - 1))))


def batched_mig(latents_KND: torch.Tensor, class_NC: torch.Tensor) -> torch.Tensor:
    found = information(latents_KND, torch.ones_like(latents_KND[:, 0]), class_NC)
    return mutual_information_gap(found.mutual_KDC, found.factor_entropy_C).cpu()


def batched_modularity(latents_KND: torch.Tensor, class_NC: torch.Tensor) -> torch.Tensor:
    mask_KD = torch.ones_like(latents_KND[:, 0])
    return modularity(information(latents_KND, mask_KD, class_NC).mutual_KDC, mask_KD).cpu()


METRICS = {"MIG": (batched_mig, plain_mig), "modularity": (batched_modularity, plain_modularity)}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--models", type=int, default=16, help="in one batch")
    parser.add_argument("--clips", type=int, default=2048, help="on which metrics are computed")
    parser.add_argument("--latents", type=int, default=16, help="of each model")
    parser.add_argument("--plain-models", type=int, default=1, help="of them one after the other")
    options, kind = parser.parse_args(), device_kind()
    latents_KND, class_NC = draw_clips(options.models, options.clips, options.latents, CLASSES)
    tensors = [torch.from_numpy(array).to(kind) for array in (latents_KND, class_NC)]
    plain_KND = latents_KND[: options.plain_models]
    results = []
    for name, (batched, plain) in METRICS.items():
        batched(*tensors)  # compiles and warms up
        score_K, seconds = min((timed(batched, *tensors) for _ in range(2)), key=lambda run: run[1])
        expected, plain_s = timed(lambda plain=plain: [plain(one, class_NC) for one in plain_KND])
        ms_a_model, plain_ms = 1e3 * seconds / options.models, 1e3 * plain_s / len(expected)
        results.append(
            {
                "metric": name,
                "ms_a_model": ms_a_model,
                "plain_ms_a_model": plain_ms,
                "times_faster": plain_ms / ms_a_model,
                "largest_difference": max(abs(float(a) - b) for a, b in zip(score_K, expected, strict=False)),
            }
        )
    head = ["", "ms a model, batched", "ms a model, plain", "x", "largest difference"]
    title = f"{options.models} models, {options.clips} clips, {options.latents} latents on {kind}"
    print_table(title, head, [list(row.values()) for row in results])
    write_record("metrics", options, {"metrics": results}, classes=list(CLASSES))


if __name__ == "__main__":
    main()
