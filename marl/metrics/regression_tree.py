"""One regression tree of gradient boosting: scikit-learn's splits, found in a fraction of the time.

A split is found exactly without looking at every clip. Clips lie in bins along each latent. Sums over bins give the
gain of a split between any two; how far the sum over the clips on its left can rise or fall within a bin bounds the
gain of a split inside, and few bins have a bound that the best gain so far does not reach. Sums are counted for the
smaller of two branches; those of the other are what is left.

N clips, D latents, B bins; M nodes of a tree, whose node m has the branches 2m and 2m + 1.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["DEPTH", "SortedLatents", "add_tree", "sort_latents"]

DEPTH = 3
"""Of every tree."""

# Values that differ by less are the same, and a node whose variance is not larger has no branches: scikit-learn's.
_SAME = 1e-7
_PURE = float(np.finfo(np.float64).eps)
# Gains that differ by less, relatively, are ties: rounding does not decide between splits that do the same.
_TIE = 1e-12

# Compiled once, in seconds, and kept on disk. Other threads run meanwhile.
_compiled = njit(cache=True, nogil=True, error_model="numpy")


class SortedLatents(NamedTuple):
    """Clips to fit on by latent."""

    value_DN: NDArray[np.float32]
    bin_DN: NDArray[np.uint16]
    order_DN: NDArray[np.int32]
    """Clips from the smallest value to the largest, and so bin after bin."""
    count_DB: NDArray[np.int32]
    """How many clips a bin has."""
    is_mixed_DB: NDArray[np.bool_]
    """Whether a split inside the bin is possible."""


_Split = tuple[float, int, int]
"""By how much the sum of squared errors falls; the latent, -1 for no split; where in its order the right begins."""


def sort_latents(fit_ND: NDArray[np.floating]) -> SortedLatents:
    """Clips by each of their latents, in about as many bins as a bin has clips."""
    value_DN = np.ascontiguousarray(fit_ND.T, dtype=np.float32)
    latents, clips = value_DN.shape
    bins = math.isqrt(clips)  # looking at all bins and at all clips of one costs about the same
    order_DN = value_DN.argsort(axis=1, kind="stable")
    sorted_DN = np.take_along_axis(value_DN, order_DN, axis=1)
    is_new_DN = np.diff(sorted_DN, axis=1, prepend=-np.inf) > _SAME
    values_DN = is_new_DN.cumsum(axis=1)
    # A bin for each value where there are few; else as many clips in each as clips of the same value allow.
    first_DN = np.maximum.accumulate(np.where(is_new_DN, np.arange(clips), 0), axis=1)
    sorted_bin_DN = np.where(values_DN[:, -1:] <= bins, values_DN - 1, first_DN * bins // clips)
    bin_DN = np.empty((latents, clips), np.uint16)
    np.put_along_axis(bin_DN, order_DN, sorted_bin_DN.astype(np.uint16), axis=1)
    place_DN = np.arange(latents)[:, None] * bins + sorted_bin_DN
    count_DB = np.bincount(place_DN.ravel(), minlength=latents * bins).reshape(latents, bins)
    end_DB = count_DB.cumsum(axis=1)
    smallest_DB = np.take_along_axis(sorted_DN, (end_DB - count_DB).clip(max=clips - 1), axis=1)
    largest_DB = np.take_along_axis(sorted_DN, (end_DB - 1).clip(min=0), axis=1)
    is_mixed_DB = largest_DB > smallest_DB + np.float64(_SAME)
    return SortedLatents(value_DN, bin_DN, order_DN.astype(np.int32), count_DB.astype(np.int32), is_mixed_DB)


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
    """Fit a tree to the residuals; add its values to the outputs and its gains to the importances.

    Loops copy what slices could: with these it takes twice as long to compile.
    """
    latents, clips = fit.bin_DN.shape
    bins, nodes = fit.count_DB.shape[1], 2 << DEPTH
    # Sum of negative residuals, sum of positive ones, number of clips; of nodes that may have branches.
    table_MDB3 = np.zeros((nodes // 2, latents, bins, 3))
    for latent in range(latents):
        for place in range(bins):
            table_MDB3[1, latent, place, 2] = fit.count_DB[latent, place]
        for clip in range(clips):
            residual = residual_N[clip]
            table_MDB3[1, latent, fit.bin_DN[latent, clip], int(residual > 0)] += residual
    # Clips of a node lie side by side.
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
                fit, node, node_N, residual_N, table_MDB3[node], total / count, count, precedence_D
            )
        if latent < 0:
            # One step of Newton's method; without curvature all is told already.
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
                    place, residual = fit.bin_DN[latent, clip], residual_N[clip]
                    table_MDB3[smaller, latent, place, int(residual > 0)] += residual
                    table_MDB3[smaller, latent, place, 2] += 1
                for place in range(bins):
                    for column in range(3):
                        rest = table_MDB3[node, latent, place, column] - table_MDB3[smaller, latent, place, column]
                        table_MDB3[larger, latent, place, column] = rest

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
    table_DB3: NDArray[np.float64],
    mean: float,
    count: int,
    precedence_D: NDArray[np.int64],
) -> _Split:
    """Of a node's clips."""
    latents, bins, _ = table_DB3.shape
    best = (-1.0, -1, 0)
    # Splits between bins first: the best of them rules out most splits inside.
    for latent in range(latents):
        left, excess, end = 0.0, 0.0, 0
        for place in range(bins):
            here = table_DB3[latent, place, 2]
            left += here
            excess += table_DB3[latent, place, 0] + table_DB3[latent, place, 1] - here * mean
            end += fit.count_DB[latent, place]
            if 0 < left < count:
                gain = _gain(excess, left, count)
                if gain > best[0] * (1 - _TIE):
                    best = _better(best, (gain, latent, end), precedence_D)
    for latent in range(latents):
        left, excess, end = 0.0, 0.0, 0
        for place in range(bins):
            begin, end = end, end + fit.count_DB[latent, place]
            here = table_DB3[latent, place, 2]
            negative, positive = table_DB3[latent, place, 0], table_DB3[latent, place, 1]
            if here > 1 and fit.is_mixed_DB[latent, place]:
                highest = excess + positive - min(here * mean, 0.0)
                lowest = excess + negative - max(here * mean, 0.0)
                product = min(left * (count - left), (left + here) * (count - left - here))
                if max(highest * highest, lowest * lowest) * count >= best[0] * (1 - _TIE) * product:
                    best = _best_inside(
                        best, fit, latent, begin, end, node, node_N, residual_N, mean, count, left, excess, precedence_D
                    )
            left += here
            excess += negative + positive - here * mean
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
    """The best so far, or one between two of a bin's clips that is better."""
    last = np.inf
    for cut in range(begin, end):
        clip = fit.order_DN[latent, cut]
        if node_N[clip] == node:
            value = float(fit.value_DN[latent, clip])
            if value > last + _SAME:
                gain = _gain(excess, left, count)
                if gain > best[0] * (1 - _TIE):
                    best = _better(best, (gain, latent, cut), precedence_D)
            left += 1
            excess += residual_N[clip] - mean
            last = value
    return best


@_compiled
def _gain(excess: float, left: float, count: int) -> float:
    """By how much the sum of squared errors falls, given how far the left residuals' sum is above so many means."""
    return excess * excess * count / (left * (count - left))


@_compiled
def _better(best: _Split, other: _Split, precedence_D: NDArray[np.int64]) -> _Split:
    """The other, which has the larger gain, or a tie."""
    is_tie = other[0] <= best[0] * (1 + _TIE)
    return best if is_tie and precedence_D[best[1]] <= precedence_D[other[1]] else other
