"""Random numbers as a function of what they are for, not of when they are drawn.

Every number is an integer hash of (seed, step, purpose, row, dimension). Nothing is carried from one draw to the next,
so a replicate draws the same numbers in any lane, beside any neighbours, after any interruption and at any padded
width; and because only integer arithmetic, table look-ups and exact conversions are used, the bits agree on CPU and
GPU.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014), applied once for each part of the address. K is lanes, R rows, D dimensions throughout.
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
    """What a number is drawn for. The values are part of every result: never renumber them."""

    INITIAL_VALUES = 1
    FIRST_VIEW = 2
    SECOND_VIEW = 3
    LATENT_NOISE = 4
    SPLIT = 5
    PROBE_INITIAL_VALUES = 6
    PROBE_BATCH = 7
    AUGMENTATION = 8
    SEGMENT = 9
    FACTOR_VAE_BATCH = 10
    BETA_VAE_BATCH = 11
    METRIC_NOISE = 12
    TREE_TIES = 13


def _shift_right(x: Tensor, count: int) -> Tensor:
    # torch shifts signed integers arithmetically; the hash needs zeros from the left.
    return (x >> count) & ((1 << (64 - count)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _FIRST_MULTIPLIER
    x = (x ^ _shift_right(x, 27)) * _SECOND_MULTIPLIER
    return x ^ _shift_right(x, 31)


def _descend(state: Tensor, part: Tensor | int) -> Tensor:
    offset = (part + 1) * _GOLDEN
    if isinstance(offset, int):  # Python's integers do not wrap around as tensors do
        offset = (offset + (1 << 63)) % (1 << 64) - (1 << 63)
    return _mix(state + offset)


def stream(seed_K: Tensor, step_K: Tensor, purpose: Purpose, part: int = 0) -> Tensor:
    """The state from which all numbers of one purpose at one step are derived.

    Args:
        seed_K: int64 seeds, any shape.
        step_K: int64 steps of the same shape.
        purpose: what the numbers are for.
        part: tells apart several uses within one purpose, for example the tensors of a model.

    Returns:
        int64 states of the same shape, to be handed to `bits`, `uniform`, `normal` or `integers`.
    """
    state = _descend(torch.zeros_like(seed_K), int(purpose))
    return _descend(_descend(_descend(state, part), seed_K), step_K)


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


def bits(stream_K: Tensor, row_R: Tensor, dimension_D: Tensor) -> Tensor:
    """64 random bits for each (stream, row, dimension), as int64 of shape [*stream, R, D].

    Compiled code takes `row_R` and `dimension_D` from `indices`.
    """
    rows = _descend(stream_K[..., None], row_R)
    return _descend(rows[..., None], dimension_D)


def uniform(stream_K: Tensor, row_R: Tensor, dimension_D: Tensor) -> Tensor:
    """Uniform float32 in [0, 1), a multiple of 2^-24, of shape [*stream, R, D]."""
    return _shift_right(bits(stream_K, row_R, dimension_D), 40).to(torch.float32) * 2.0**-24


def normal(stream_K: Tensor, row_R: Tensor, dimension_D: Tensor) -> Tensor:
    """Standard normal float32 of shape [*stream, R, D], looked up among 65,536 quantiles.

    A transformation of uniforms by logarithm and cosine would differ in the last bit between devices; a table does not.
    """
    index = _shift_right(bits(stream_K, row_R, dimension_D), 64 - _NORMAL_TABLE_BITS)
    return _normal_quantiles(index.device)[index]


def integers(stream_K: Tensor, row_R: Tensor, dimension_D: Tensor, below: Tensor | int) -> Tensor:
    """Integers in [0, below) of shape [*stream, R, D]; `below` broadcasts and is far smaller than 2^31.

    The bias of taking a remainder is below / 2^31, which no study of any length can see.
    """
    # `%` corrects the sign of negative numbers, which costs time; GCC 12 miscompiles that correction in Inductor's code
    # for AVX2 on processors that also have AVX-512 (ATEN_CPU_CAPABILITY=avx2).
    return torch.fmod(_shift_right(bits(stream_K, row_R, dimension_D), 33), below)


@lru_cache(maxsize=16)
def _normal_quantiles(device: torch.device) -> Tensor:
    count = 1 << _NORMAL_TABLE_BITS
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    quantiles: Tensor = torch.special.ndtri(middles)
    return quantiles.to(torch.float32).to(device)
