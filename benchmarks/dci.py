"""DCI scores with this project's boosted trees and with scikit-learn, on the same latents in the same run.

    python -m benchmarks.dci [--clips N] [--held-out N] [--latents N] [--classes N [N ...]]

Scikit-learn's trees are fitted to one factor after the other; ours so, too, and by `dci`, which fits them to factors
side by side in threads. At the default sizes scikit-learn takes some minutes.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier

from benchmarks.machine import add_json_option, print_table, say, write_record
from marl.metrics.boosted_trees import boosted_tree_importances
from marl.metrics.dci import completeness, dci, disentanglement


def clips_of(number: int, latents: int, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Noisy latents [N, D], most of them moved by one of the factors [N, C] and a little by the others."""
    random = np.random.default_rng(0)
    class_NC = np.stack([random.integers(count, size=number) for count in classes], axis=1)
    value_NC = 2 * class_NC / (np.array(classes) - 1) - 1
    moved_NC = np.concatenate([value_NC, np.sin(5 * value_NC)], axis=1)
    weight_CD = random.normal(size=(moved_NC.shape[1], latents)) ** 3
    return (moved_NC @ weight_CD + random.normal(size=(number, latents))).astype(np.float32), class_NC


def theirs(
    fit_ND: np.ndarray, fit_class_N: np.ndarray, held_out_ND: np.ndarray, held_out_class_N: np.ndarray
) -> tuple[np.ndarray, float]:
    """As `boosted_tree_importances`, by scikit-learn."""
    trees = GradientBoostingClassifier(random_state=0).fit(fit_ND, fit_class_N)
    return trees.feature_importances_, trees.score(held_out_ND, held_out_class_N)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000, help="to fit on")
    parser.add_argument("--held-out", type=int, default=5_000)
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--classes", type=int, nargs="+", default=[4, 20, 10], metavar="N", help="of each factor")
    add_json_option(parser)
    options = parser.parse_args()
    latent_ND, class_NC = clips_of(options.clips + options.held_out, options.latents, options.classes)
    fit_ND, held_out_ND = np.split(latent_ND, [options.clips])
    fit_class_NC, held_out_class_NC = np.split(class_NC, [options.clips])

    started = time.perf_counter()
    boosted_tree_importances(fit_ND[:10], fit_class_NC[:10, 0], held_out_ND, held_out_class_NC[:, 0])
    ready = time.perf_counter() - started
    say(f"ready: compiled, or loaded from the cache, in {ready:.1f} s")
    results, importance_DC = {}, {}
    for name, trees in (("ours", boosted_tree_importances), ("scikit-learn", theirs)):
        started = time.perf_counter()
        found = [
            trees(fit_ND, fit_class_N, held_out_ND, held_out_class_N)
            for fit_class_N, held_out_class_N in zip(fit_class_NC.T, held_out_class_NC.T, strict=True)
        ]
        seconds = time.perf_counter() - started
        importance_DC[name] = np.stack([importance_D for importance_D, _ in found], axis=1)
        importance, mask = torch.from_numpy(importance_DC[name])[None], torch.ones(1, options.latents)
        results[name] = {
            "seconds": seconds,
            "disentanglement": disentanglement(importance, mask).item(),
            "completeness": completeness(importance, mask).item(),
            "informativeness": float(np.mean([told for _, told in found])),
        }
        say(f"done: {name}")
    started = time.perf_counter()
    scores = dci(*map(torch.from_numpy, (fit_ND, fit_class_NC, held_out_ND, held_out_class_NC)))
    results["ours in threads"] = {"seconds": time.perf_counter() - started, **scores._asdict()}
    differences = {
        "importance": float(np.abs(importance_DC["ours"] - importance_DC["scikit-learn"]).max()),
        **{score: abs(results["ours"][score] - results["scikit-learn"][score]) for score in scores._fields},
    }
    times = {name: results["scikit-learn"]["seconds"] / results[name]["seconds"] for name in results}

    title = f"{options.clips:,} clips, {options.latents} latents, factors of {options.classes} classes"
    head = ["", "seconds", *scores._fields, "times faster"]
    print_table(title, head, [[name, *row.values(), times[name]] for name, row in results.items()])
    print_table("largest differences", ["", *differences], [["ours", *differences.values()]])
    config = {name: getattr(options, name) for name in ("clips", "held_out", "latents", "classes")}
    config["threads"] = torch.get_num_threads()
    write_record("dci", options.json, config, {"ready_seconds": ready, "scores": results, "differences": differences})


if __name__ == "__main__":
    main()
