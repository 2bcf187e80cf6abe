"""Gradient boosted trees that measure which latents predict a factor: the classifier of the DCI scores.

The trees have the splits of scikit-learn's `GradientBoostingClassifier()` with its defaults: 100 stages of a tree of
depth 3 for each class (Friedman, "Greedy function approximation", 2001). They are written by hand because they are 27
times as fast as scikit-learn's, which take minutes for each model of the front (docs/performance.md). Fast libraries
choose and weigh splits by second derivatives, which gives other importances.

A split is found exactly without visiting every clip. Clips are in bins along each latent. Sums over bins give the gain
of a split between any two bins. Bounds on the sum to the left of a clip within a bin bound the gain of a split inside
the bin, and few bins have a bound that reaches the best gain so far. Sums are counted for the smaller of two branches
and subtracted for the larger.

Y is classes of a factor, S stages, H bins of a latent, M nodes of a tree; node m has the branches 2m and 2m + 1.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from marl import randomness
from marl.randomness import Purpose

__all__ = ["DEPTH", "SortedLatents", "add_tree", "boosted_tree_importances", "sort_latents"]

DEPTH = 3
"""Depth of every tree."""

_STAGES = 100
_RATE = 0.1
# Values within the first are equal, and a node with at most the second variance is a leaf: constants of scikit-learn.
_SAME = 1e-7
_PURE = float(np.finfo(np.float64).eps)
# Relative differences of gains below this are ties, so that rounding does not decide between equal splits.
_TIE = 1e-12

# Compiled once, in seconds, and cached on disk. Without the global lock, factors run in parallel.
_compiled = njit(cache=True, nogil=True, error_model="numpy")


def boosted_tree_importances(
    fit_ND: NDArray[np.floating],
    fit_class_N: NDArray[np.integer],
    held_out_ND: NDArray[np.floating],
    held_out_class_N: NDArray[np.integer],
) -> tuple[NDArray[np.float64], float]:
    """Return the importance of each latent for a factor, [D], with sum one, and the accuracy on held-out clips.

    The importance of a latent is the reduction of the squared error of all trees by splits at its values. Ties between
    splits are broken by a hash of stage, class and latent, where scikit-learn draws at random: always taking the first
    latent would make it more important than equal ones.

    Without any split, for example if all latents are constant, importances are zero and the prediction is the most
    frequent class. A departure where scikit-learn raises: for a factor with a single value importances are zero too.
    """
    class_Y, class_N, count_Y = np.unique(fit_class_N, return_inverse=True, return_counts=True)
    clips, latents, classes = *fit_ND.shape, len(class_Y)
    fit, held_out_DN = sort_latents(fit_ND), np.ascontiguousarray(held_out_ND.T, dtype=np.float32)
    importance_D = np.zeros(latents)
    log_frequency_Y1 = np.log((count_Y / clips)[:, None])
    output_YN, held_out_output_YN = (np.repeat(log_frequency_Y1, count, axis=1) for count in (clips, len(held_out_ND)))
    is_class_YN = class_N == np.arange(classes)[:, None]
    rate = _RATE * (classes - 1) / classes
    for precedence_YD in _precedence(classes, latents):
        odds_YN = np.exp(output_YN - output_YN.max(axis=0))
        residual_YN = is_class_YN - odds_YN / odds_YN.sum(axis=0)
        for residual_N, precedence_D, output_N, held_out_output_N in zip(
            residual_YN, precedence_YD, output_YN, held_out_output_YN, strict=True
        ):
            add_tree(fit, residual_N, rate, precedence_D, output_N, held_out_DN, held_out_output_N, importance_D)
    accuracy = float(np.mean(class_Y[held_out_output_YN.argmax(axis=0)] == held_out_class_N))
    return importance_D / (importance_D.sum() or 1.0), accuracy


def _precedence(classes: int, latents: int) -> NDArray[np.int64]:
    """Return random numbers [S, Y, D]; of latents with the same gain the one with the smallest number wins."""
    stage_S = torch.arange(_STAGES)
    state_S = randomness.stream(torch.zeros_like(stage_S), stage_S, Purpose.TREE_TIES)
    return randomness.bits(state_S, torch.arange(classes), torch.arange(latents)).numpy()


class SortedLatents(NamedTuple):
    """Clips to fit on, sorted by each latent."""

    value_DN: NDArray[np.float32]
    bin_DN: NDArray[np.uint16]  # Bin of each clip.
    order_DN: NDArray[np.int32]  # Clips in increasing order of the value, and therefore of the bin.
    count_DH: NDArray[np.int32]  # Number of clips of each bin.
    is_mixed_DH: NDArray[np.bool_]  # True if a split inside the bin is possible.


_Split = tuple[float, int, int]
"""Reduction of the sum of squared errors; latent, -1 for no split; first clip of the right branch in its order."""


def sort_latents(fit_ND: NDArray[np.floating]) -> SortedLatents:
    """Return clips sorted by each latent, in about √N bins of √N clips."""
    value_DN = np.ascontiguousarray(fit_ND.T, dtype=np.float32)
    latents, clips = value_DN.shape
    bins = math.isqrt(clips)  # Visiting all bins and visiting all clips of one bin then cost about the same.
    order_DN = value_DN.argsort(axis=1, kind="stable")
    sorted_DN = np.take_along_axis(value_DN, order_DN, axis=1)
    is_new_DN = np.diff(sorted_DN, axis=1, prepend=-np.inf) > _SAME
    values_DN = is_new_DN.cumsum(axis=1)
    # A bin for each value if there are few; else equal numbers of clips, as far as clips of equal value allow.
    first_DN = np.maximum.accumulate(np.where(is_new_DN, np.arange(clips), 0), axis=1)
    sorted_bin_DN = np.where(values_DN[:, -1:] <= bins, values_DN - 1, first_DN * bins // clips)
    bin_DN = np.empty((latents, clips), np.uint16)
    np.put_along_axis(bin_DN, order_DN, sorted_bin_DN.astype(np.uint16), axis=1)
    cell_DN = np.arange(latents)[:, None] * bins + sorted_bin_DN
    count_DH = np.bincount(cell_DN.ravel(), minlength=latents * bins).reshape(latents, bins)
    end_DH = count_DH.cumsum(axis=1)
    smallest_DH = np.take_along_axis(sorted_DN, (end_DH - count_DH).clip(max=clips - 1), axis=1)
    largest_DH = np.take_along_axis(sorted_DN, (end_DH - 1).clip(min=0), axis=1)
    is_mixed_DH = largest_DH > smallest_DH + np.float64(_SAME)
    return SortedLatents(value_DN, bin_DN, order_DN.astype(np.int32), count_DH.astype(np.int32), is_mixed_DH)


@_compiled
def add_tree(
    fit: SortedLatents,
    residual_N: NDArray[np.float64],
    rate: float,
    precedence_D: NDArray[np.int64],
    output_N: NDArray[np.float64],
    held_out_DN: NDArray[np.float32],
    held_out_output_N: NDArray[np.float64],
    importance_D: NDArray[np.float64],
) -> None:
    """Fit a tree to residuals; add its values to the outputs and its gains to the importances, in place.

    Loops copy arrays where slices could, because slices double the time to compile.
    """
    latents, clips = fit.bin_DN.shape
    bins, nodes = fit.count_DH.shape[1], 2 << DEPTH
    # Sums of negative and of positive residuals, and numbers of clips, of the nodes that may have branches.
    table_MDH3 = np.zeros((nodes // 2, latents, bins, 3))
    for latent in range(latents):
        for index in range(bins):
            table_MDH3[1, latent, index, 2] = fit.count_DH[latent, index]
        for clip in range(clips):
            residual = residual_N[clip]
            table_MDH3[1, latent, fit.bin_DN[latent, clip], int(residual > 0)] += residual
    # Clips of a node are adjacent.
    clip_N, right_N, node_N = np.arange(clips), np.zeros(clips, np.int64), np.ones(clips, np.uint8)
    begin_M, end_M = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    latent_M, threshold_M, value_M = np.full(nodes, -1), np.zeros(nodes), np.zeros(nodes)
    end_M[1] = clips
    for node in range(1, nodes):
        begin, end = begin_M[node], end_M[node]
        total, squares, curvature = 0.0, 0.0, 0.0
        for clip in clip_N[begin:end]:
            residual = residual_N[clip]
            total += residual
            squares += residual * residual
            curvature += abs(residual) * (1 - abs(residual))
        latent, count = -1, end - begin
        if node < nodes // 2 and count > 1 and squares / count - (total / count) ** 2 > _PURE:
            gain, latent, cut = _best_split(
                fit, node, node_N, residual_N, table_MDH3[node], total / count, count, precedence_D
            )
        if latent < 0:
            # One step of Newton's method; without curvature the predictions are exact already.
            value_M[node] = rate * total / curvature if curvature > 1e-150 else 0.0
            for clip in clip_N[begin:end]:
                output_N[clip] += value_M[node]
            continue

        latent_M[node] = latent
        importance_D[latent] += gain
        value_N = fit.value_DN[latent]
        first = value_N[fit.order_DN[latent, cut]]
        middle, others, below, above = begin, 0, -np.inf, np.inf
        for clip in clip_N[begin:end]:
            value = value_N[clip]
            if value < first:
                clip_N[middle], node_N[clip] = clip, 2 * node
                middle += 1
                below = max(below, value)
            else:
                right_N[others], node_N[clip] = clip, 2 * node + 1
                others += 1
                above = min(above, value)
        for other in range(others):
            clip_N[middle + other] = right_N[other]
        threshold_M[node] = below / 2 + above / 2
        begin_M[2 * node], end_M[2 * node] = begin, middle
        begin_M[2 * node + 1], end_M[2 * node + 1] = middle, end
        if node < nodes // 4:
            smaller = 2 * node + int(middle - begin > end - middle)
            larger = 4 * node + 1 - smaller
            for latent in range(latents):
                for clip in clip_N[begin_M[smaller] : end_M[smaller]]:
                    index, residual = fit.bin_DN[latent, clip], residual_N[clip]
                    table_MDH3[smaller, latent, index, int(residual > 0)] += residual
                    table_MDH3[smaller, latent, index, 2] += 1
                for index in range(bins):
                    for column in range(3):
                        rest = table_MDH3[node, latent, index, column] - table_MDH3[smaller, latent, index, column]
                        table_MDH3[larger, latent, index, column] = rest

    for clip in range(len(held_out_output_N)):
        node = 1
        while latent_M[node] >= 0:
            node = 2 * node + int(held_out_DN[latent_M[node], clip] > threshold_M[node])
        held_out_output_N[clip] += value_M[node]


@_compiled
def _best_split(
    fit: SortedLatents,
    node: int,
    node_N: NDArray[np.uint8],
    residual_N: NDArray[np.float64],
    table_DH3: NDArray[np.float64],
    mean: float,
    count: int,
    precedence_D: NDArray[np.int64],
) -> _Split:
    """Return the best split of the clips of a node."""
    latents, bins, _ = table_DH3.shape
    best = (-1.0, -1, 0)
    # Splits between bins come first, because the best of them rules out most splits inside.
    for latent in range(latents):
        left, excess, end = 0.0, 0.0, 0
        for index in range(bins):
            inside = table_DH3[latent, index, 2]
            left += inside
            excess += table_DH3[latent, index, 0] + table_DH3[latent, index, 1] - inside * mean
            end += fit.count_DH[latent, index]
            if 0 < left < count:
                best = _better(best, excess, left, count, latent, end, precedence_D)
    for latent in range(latents):
        left, excess, end = 0.0, 0.0, 0
        for index in range(bins):
            begin, end = end, end + fit.count_DH[latent, index]
            inside = table_DH3[latent, index, 2]
            negative, positive = table_DH3[latent, index, 0], table_DH3[latent, index, 1]
            if inside > 1 and fit.is_mixed_DH[latent, index]:
                highest = excess + positive - min(inside * mean, 0.0)
                lowest = excess + negative - max(inside * mean, 0.0)
                product = min(left * (count - left), (left + inside) * (count - left - inside))
                if max(highest * highest, lowest * lowest) * count >= best[0] * (1 - _TIE) * product:
                    best = _best_inside(
                        best, fit, latent, begin, end, node, node_N, residual_N, mean, count, left, excess, precedence_D
                    )
            left += inside
            excess += negative + positive - inside * mean
    return best


@_compiled
def _best_inside(
    best: _Split,
    fit: SortedLatents,
    latent: int,
    begin: int,
    end: int,
    node: int,
    node_N: NDArray[np.uint8],
    residual_N: NDArray[np.float64],
    mean: float,
    count: int,
    left: float,
    excess: float,
    precedence_D: NDArray[np.int64],
) -> _Split:
    """Return the best split so far, or a better one between two clips of a bin."""
    last = np.inf
    for cut in range(begin, end):
        clip = fit.order_DN[latent, cut]
        if node_N[clip] == node:
            value = float(fit.value_DN[latent, clip])
            if value > last + _SAME:
                best = _better(best, excess, left, count, latent, cut, precedence_D)
            left += 1
            excess += residual_N[clip] - mean
            last = value
    return best


@_compiled
def _better(
    best: _Split, excess: float, left: float, count: int, latent: int, cut: int, precedence_D: NDArray[np.int64]
) -> _Split:
    """Return the best split so far, or another one if its gain is larger, or tied and its latent has precedence.

    `count` is the number of clips of the node, `left` the number of these to the left of the other split. `excess` is
    the sum of the residuals on the left, minus `left` times the mean of the node.
    """
    gain = excess * excess * count / (left * (count - left))
    is_larger, is_tie = gain > best[0] * (1 + _TIE), gain > best[0] * (1 - _TIE)
    if is_larger or (is_tie and precedence_D[latent] < precedence_D[best[1]]):
        return gain, latent, cut
    return best
