"""Random numbers that are hashes of seed, step, purpose, row and dimension.

There is no generator state. A replicate draws the same numbers in any lane, beside any neighbours, after any
interruption and at any padded width. The hash uses only integer arithmetic, table look-ups and exact conversions, so
CPU and GPU give the same bits.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014), applied once for each of these inputs. K is lanes, R rows, D dimensions.
"""

from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Purpose", "bits", "indices", "integers", "normal", "stream", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST_MULTIPLIER = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND_MULTIPLIER = 0x94D049BB133111EB - (1 << 64)
_NORMAL_TABLE_BITS = 16


class Purpose(IntEnum):
    """Purpose of a random number. The values are part of every result: never renumber them."""

    INITIAL_VALUES = 1
    FIRST_VIEW = 2
    SECOND_VIEW = 3
    LATENT_NOISE = 4
    SPLIT = 5
    AUGMENTATION = 8
    SEGMENT = 9
    FACTOR_VAE_BATCH = 10
    BETA_VAE_BATCH = 11
    METRIC_NOISE = 12
    TREE_TIES = 13
    READER_SPLIT = 14
    READER_INITIAL_VALUES = 15
    READER_BATCH = 16


def _shift_right(x: Tensor, count: int) -> Tensor:
    # torch shifts signed integers arithmetically; the hash needs zeros on the left.
    return (x >> count) & ((1 << (64 - count)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _FIRST_MULTIPLIER
    x = (x ^ _shift_right(x, 27)) * _SECOND_MULTIPLIER
    return x ^ _shift_right(x, 31)


def _hash(state: Tensor, part: Tensor | int) -> Tensor:
    offset = (part + 1) * _GOLDEN
    if isinstance(offset, int):  # integers of Python do not wrap around
        offset = (offset + (1 << 63)) % (1 << 64) - (1 << 63)
    return _mix(state + offset)


def stream(seed_K: Tensor, step_K: Tensor, purpose: Purpose, part: int = 0) -> Tensor:
    """Return the hash states of one purpose, int64, for seeds and steps of any shape.

    The functions below derive their numbers from a state. `part` distinguishes uses within one purpose, for example the
    parameters of a model.
    """
    state = _hash(torch.zeros_like(seed_K), int(purpose))
    return _hash(_hash(_hash(state, part), seed_K), step_K)


@lru_cache(maxsize=64)
def indices(count: int, device: torch.device) -> Tensor:
    """Return the int64 numbers from 0 to `count` - 1 as a stored table.

    Compiled code must use it instead of `torch.arange` for rows and dimensions. TorchInductor 2.11 turns arithmetic on
    `torch.arange` into C++ expressions of a signed loop counter. The hash overflows 64 bits, which is undefined for
    signed integers, so GCC assumes that the loop ends before the overflow: `(torch.arange(12) * _GOLDEN).double()` has
    wrong values from the ninth on where vectors have 256 bits, and longer ranges corrupt memory where they have 512
    (pytorch issues 175966 and 190764). Numbers loaded from memory wrap around as in eager mode.
    """
    with torch.inference_mode(False):  # the cached table is also used where gradients are recorded
        return torch.arange(count, device=device)


def bits(state_K: Tensor, row_R: Tensor, dimension_D: Tensor) -> Tensor:
    """Return 64 random bits for each state, row and dimension, int64 [*state, R, D].

    Compiled code takes `row_R` and `dimension_D` from `indices`.
    """
    rows = _hash(state_K[..., None], row_R)
    return _hash(rows[..., None], dimension_D)


def uniform(state_K: Tensor, row_R: Tensor, dimension_D: Tensor) -> Tensor:
    """Return uniform numbers in [0, 1), float32 multiples of 2^-24, [*state, R, D]."""
    return _shift_right(bits(state_K, row_R, dimension_D), 40).to(torch.float32) * 2.0**-24


def normal(state_K: Tensor, row_R: Tensor, dimension_D: Tensor) -> Tensor:
    """Return standard normal numbers, float32 [*state, R, D], from a table of 65,536 quantiles.

    A Box-Muller transform would differ in the last bit between devices, because it has a logarithm and a cosine.
    """
    index = _shift_right(bits(state_K, row_R, dimension_D), 64 - _NORMAL_TABLE_BITS)
    return _normal_quantiles(index.device)[index]


def integers(state_K: Tensor, row_R: Tensor, dimension_D: Tensor, below: Tensor | int) -> Tensor:
    """Return integers in [0, below), int64 [*state, R, D]; `below` broadcasts and must be far smaller than 2^31.

    Probabilities differ by a fraction of at most `below` / 2^31, the modulo bias.
    """
    # `%` corrects the sign of negative numbers, which costs time; GCC 12 miscompiles that correction in Inductor's code
    # for AVX2 on processors that also have AVX-512 (ATEN_CPU_CAPABILITY=avx2).
    return torch.fmod(_shift_right(bits(state_K, row_R, dimension_D), 33), below)


@lru_cache(maxsize=16)
def _normal_quantiles(device: torch.device) -> Tensor:
    count = 1 << _NORMAL_TABLE_BITS
    quantiles: Tensor = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
    return quantiles.to(torch.float32).to(device)
