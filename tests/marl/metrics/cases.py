"""Reference cases, and random latents and factors, for tests of metrics."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from marl.metrics.mutual_information import information

# Cases of `disentanglement.npz`.
CASES = (
    "perfect_exact_n500",
    "perfect_noisy_n500",
    "entangled_n500",
    "partial_n500",
    "relabelled_n500",
    "constant_latent_n500",
    "single_value_factor_n500",
    "constant_latent_and_single_value_factor_n500",
    "all_latents_constant_n500",
    "entangled_n5000",
    "partial_n5000",
    "perfect_noisy_n5000",
    "constant_latent_n500__degenerate_columns_removed",
    "single_value_factor_n500__degenerate_columns_removed",
    "constant_latent_and_single_value_factor_n500__degenerate_columns_removed",
)
# A factor with a single value, which support vector machines and boosted trees of scikit-learn refuse.
SINGLE_VALUED = ("single_value_factor_n500", "constant_latent_and_single_value_factor_n500")
TRAINABLE = tuple(case for case in CASES if case not in SINGLE_VALUED)
# Those that JEMMIG and DCIMIG have references for.
LIBRARY_CASES = tuple(case for case in CASES if not case.endswith("degenerate_columns_removed"))
# Cases of `matrix_scores.npz`.
MATRICES = (
    "identity",
    "identity_plus_unused_codes",
    "uniform",
    "all_zero",
    "random_dense",
    "random_sparse",
    "zero_row_and_zero_column",
    "tiny_values",
    "one_factor_dominates",
    "columns_sum_to_one",
)


def random_clips(seed, clips=180, models=1, latents=4, values=(2, 5), noise=1.0, power=1):
    """Return latents [model, clip, latent] that predict factors with noise, and classes of the factors [clip, factor].

    Args:
        values: how many classes each factor has.
        power: of the random weights; a higher one makes factors more unequal.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = torch.stack([torch.randint(count, (clips,), generator=generator) for count in values], dim=1)
    weights = torch.randn(models, len(values), latents, generator=generator, dtype=torch.float64).pow(power)
    drawn = torch.randn(models, clips, latents, generator=generator, dtype=torch.float64)
    return classes.to(torch.float64) @ weights + noise * drawn, classes


def unequal_clips(seed, models=2, clips=150):
    """Return random clips whose latents predict three factors to different degrees."""
    return random_clips(seed, clips, models, values=(2, 3, 5), power=3)


def split(arrays, part):
    """Return latents of one model and factors, of all clips or of the training ones."""
    rows = int(arrays["n_train"]) if part == "train" else len(arrays["mus"])
    return torch.from_numpy(arrays["mus"][:rows])[None], torch.from_numpy(arrays["ys"][:rows])


def halves(latents, classes):
    """Return the first half of latents and classes, to fit on, and the second, held out."""
    half = len(latents) // 2
    return latents[:half], classes[:half], latents[half:], classes[half:]


def from_zero(labels):
    """Return labels counted from zero in each factor, and how many each factor has."""
    columns = [np.unique(column, return_inverse=True) for column in labels.T]
    return torch.from_numpy(np.stack([column for _, column in columns], axis=1)), [len(names) for names, _ in columns]


def table_of(latents_ND, classes_NC, bins=20):
    """Return the table of one model that has all of its latents."""
    return information(latents_ND[None], torch.ones(1, latents_ND.shape[1]), classes_NC, bins)


def mutual_information(latents_KND, classes_NC):
    """Return the mutual information of latents and factors, [model, latent, factor], without padding."""
    return information(latents_KND, torch.ones_like(latents_KND[:, 0]), classes_NC).mutual_KDC


def factor_entropy(classes_NC):
    """Return the entropy of each factor."""
    return table_of(torch.zeros(len(classes_NC), 1), classes_NC).factor_entropy_C


def library_table(reference: Callable[[str, str], dict[str, np.ndarray]], case: str, kind: str) -> tuple[Any, dict]:
    """Return our table of what the second library was given, and the scores of the library.

    Args:
        kind: `cont10` has binned factors, `disc10` and `disc20` have labels.
    """
    scores, bins = reference("mutual_information_scores.npz", case), int(kind[-2:])
    latents_ND = torch.from_numpy(reference("disentanglement.npz", case)["mus"])
    found = table_of(latents_ND, torch.from_numpy(scores[f"{kind}_binned_factors"]), bins)
    return found, {name.removeprefix(f"{kind}_"): array for name, array in scores.items() if name.startswith(kind)}
