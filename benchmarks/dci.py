"""DCI scores with this project's boosted trees and with scikit-learn, on the same latents in the same run.

    python -m benchmarks.dci [--clips N] [--held-out N] [--latents N] [--classes N [N ...]]

Both kinds of trees are fitted to one factor after the other; `dci` also fits ours to the factors in parallel threads.
At the default sizes scikit-learn takes some minutes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier

from benchmarks.machine import log, new_parser, print_table, timed, write_record
from marl.metrics.boosted_trees import boosted_tree_importances
from marl.metrics.dci import completeness, dci, disentanglement


def draw_clips(models: int, clips: int, latents: int, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw noisy latents [K, N, D], most of which depend on one of the factors [N, C] and a little on the others."""
    random = np.random.default_rng(0)
    class_NC = np.stack([random.integers(count, size=clips) for count in classes], axis=1)
    value_NC = 2 * class_NC / (np.array(classes) - 1) - 1
    moved_NC = np.concatenate([value_NC, np.sin(5 * value_NC)], axis=1)
    weight_KCD = random.normal(size=(models, moved_NC.shape[1], latents)) ** 3
    noise_KND = random.normal(size=(models, clips, latents))
    return (moved_NC @ weight_KCD + noise_KND).astype(np.float32), class_NC


def sklearn_importances(
    fit_ND: np.ndarray, fit_class_N: np.ndarray, held_out_ND: np.ndarray, held_out_class_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Like `boosted_tree_importances`, with scikit-learn."""
    trees = GradientBoostingClassifier(random_state=0).fit(fit_ND, fit_class_N)
    return trees.feature_importances_, trees.score(held_out_ND, held_out_class_N)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--clips", type=int, default=10_000, help="to fit on")
    parser.add_argument("--held-out", type=int, default=5_000)
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--classes", type=int, nargs="+", default=[4, 20, 10], metavar="N", help="of each factor")
    options = parser.parse_args()
    latent_1ND, class_NC = draw_clips(1, options.clips + options.held_out, options.latents, options.classes)
    fit_ND, held_ND = np.split(latent_1ND[0], [options.clips])
    fit_class_NC, held_class_NC = np.split(class_NC, [options.clips])

    def by_factor(trees):
        """Fit trees to one factor after the other; return importances [D, C] and accuracies [C]."""
        factors = zip(fit_class_NC.T, held_class_NC.T, strict=True)
        importances, accuracies = zip(*(trees(fit_ND, fit, held_ND, held) for fit, held in factors), strict=True)
        return np.stack(importances, axis=1), accuracies

    _, ready = timed(boosted_tree_importances, fit_ND[:10], fit_class_NC[:10, 0], held_ND, held_class_NC[:, 0])
    log(f"ready: compiled, or loaded from the cache, in {ready:.1f} s")
    results, importance_DC = {}, {}
    for name, trees in (("ours", boosted_tree_importances), ("scikit-learn", sklearn_importances)):
        (importance_DC[name], accuracy_C), seconds = timed(by_factor, trees)
        importance_1DC = torch.from_numpy(importance_DC[name])[None]
        results[name] = {
            "seconds": seconds,
            "disentanglement": disentanglement(importance_1DC).item(),
            "completeness": completeness(importance_1DC).item(),
            "informativeness": float(np.mean(accuracy_C)),
        }
        log(f"done: {name}")
    scores, seconds = timed(dci, *map(torch.from_numpy, (fit_ND, fit_class_NC, held_ND, held_class_NC)))
    results["ours in threads"] = {"seconds": seconds, **scores._asdict()}
    differences = {
        "importance": float(np.abs(importance_DC["ours"] - importance_DC["scikit-learn"]).max()),
        **{score: abs(results["ours"][score] - results["scikit-learn"][score]) for score in scores._fields},
    }
    rows = [[name, *row.values(), results["scikit-learn"]["seconds"] / row["seconds"]] for name, row in results.items()]
    title = f"{options.clips:,} clips, {options.latents} latents, factors of {options.classes} classes"
    print_table(title, ["", "seconds", *scores._fields, "times faster"], rows)
    print_table("largest differences", ["", *differences], [["ours", *differences.values()]])
    found = {"ready_seconds": ready, "scores": results, "differences": differences}
    write_record("dci", options, found, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
