import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.fx.experimental.proxy_tensor import make_fx

from marl import randomness
from marl.randomness import Purpose

_WORD = (1 << 64) - 1
_ADDRESS = st.integers(0, (1 << 31) - 1)


def _hash(state: int, part: int) -> int:
    """Return the finaliser of SplitMix64 in Python integers, written from the paper."""
    x = (state + (part + 1) * 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)


def _bits(seed: int, step: int, row: int, dimension: int) -> torch.Tensor:
    state = randomness.stream(torch.tensor(seed), torch.tensor(step), Purpose.LATENT_NOISE)
    return randomness.bits(state, torch.tensor([row]), torch.tensor([dimension]))


@given(seed=_ADDRESS, step=_ADDRESS, row=_ADDRESS, dimension=_ADDRESS)
def test_bits_are_the_hash_of_seed_purpose_and_position(seed, step, row, dimension):
    expected = 0
    for part in (int(Purpose.LATENT_NOISE), 0, seed, step, row, dimension):
        expected = _hash(expected, part)
    assert int(_bits(seed, step, row, dimension)) & _WORD == expected


def test_splitmix64_gives_its_published_first_number():
    # First output of the reference implementation for seed zero.
    assert int(randomness._hash(torch.tensor(0), 0)) & _WORD == 0xE220A8397B1DCDAF


@given(lanes=st.integers(1, 5), rows=st.integers(1, 7), narrow=st.integers(1, 6), wide=st.integers(6, 12))
def test_numbers_do_not_depend_on_lanes_rows_or_padding(lanes, rows, narrow, wide):
    seed, step = torch.arange(lanes) + 3, torch.arange(lanes) * 7
    state = randomness.stream(seed, step, Purpose.LATENT_NOISE)
    many = randomness.normal(state, torch.arange(rows + 2), torch.arange(wide))
    one = randomness.normal(state[-1], torch.arange(rows), torch.arange(narrow))
    assert torch.equal(many[-1, :rows, :narrow], one)


@pytest.mark.gpu
def test_numbers_have_the_same_bits_on_cpu_and_gpu():
    seed, step = torch.arange(64) * 1_000_003, torch.arange(64) * 17
    rows, dimensions = torch.arange(256), torch.arange(32)
    for draw in (randomness.bits, randomness.uniform, randomness.normal):
        on_cpu = draw(randomness.stream(seed, step, Purpose.LATENT_NOISE), rows, dimensions)
        on_gpu = draw(randomness.stream(seed.cuda(), step.cuda(), Purpose.LATENT_NOISE), rows.cuda(), dimensions.cuda())
        assert torch.equal(on_cpu, on_gpu.cpu())


@pytest.fixture(scope="module")
def state():
    return randomness.stream(torch.tensor(5), torch.tensor(11), Purpose.LATENT_NOISE)


def test_uniform_numbers_are_uniform(state):
    values = randomness.uniform(state, torch.arange(1000), torch.arange(1000)).flatten().numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    counts, _ = np.histogram(values, bins=256, range=(0, 1))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_normal_numbers_are_normal(state):
    values = randomness.normal(state, torch.arange(1000), torch.arange(1000)).flatten().double().numpy()
    assert abs(values.mean()) < 4e-3
    assert abs(values.var() - 1) < 6e-3
    assert abs(stats.skew(values)) < 0.01
    assert abs(stats.kurtosis(values)) < 0.02
    assert stats.kstest(values, "norm").pvalue > 1e-3


def test_integers_are_uniform_below_their_limit(state):
    values = randomness.integers(state, torch.arange(1000), torch.arange(100), below=37).flatten().numpy()
    counts = np.bincount(values)
    assert len(counts) == 37
    assert stats.chisquare(counts).pvalue > 1e-3


def test_every_bit_is_set_half_of_the_time(state):
    bits = randomness.bits(state, torch.arange(400), torch.arange(400)).flatten()
    for position in range(64):
        ones = int(((bits >> position) & 1).sum())
        assert stats.binomtest(ones, len(bits)).pvalue > 1e-5, position


@pytest.mark.parametrize("axis", ["seed", "step", "purpose", "part", "row", "dimension"])
def test_neighbouring_positions_are_uncorrelated(axis):
    def values(offset: int) -> np.ndarray:
        moved = dict.fromkeys(("seed", "step", "part", "row", "dimension"), 0) | {axis: offset}
        purpose = Purpose.SECOND_VIEW if moved.pop("purpose", 0) else Purpose.FIRST_VIEW
        state = randomness.stream(torch.tensor(moved["seed"]), torch.tensor(moved["step"]), purpose, moved["part"])
        rows, dimensions = torch.arange(300) + moved["row"], torch.arange(300) + moved["dimension"]
        return randomness.normal(state, rows, dimensions).flatten().numpy()

    first, second = values(0), values(1)
    if axis in ("row", "dimension"):  # these overlap: compare only new positions
        assert not np.array_equal(first, second)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))


@pytest.mark.slow
@pytest.mark.skipif(not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler")
@pytest.mark.parametrize("vector_bits", [None, 256], ids=["native", "avx2"])
def test_compiled_and_plain_numbers_have_the_same_bits(vector_bits):
    # With torch.arange instead of stored tables, Inductor's C++ code overflows signed integers: 12 dimensions are then
    # drawn wrong with 256-bit vectors, and 36 with 512-bit ones. `%` in `integers` fails with GCC 12 and AVX-512.
    device = torch.device("cpu")

    def draw(seed, step):
        state = randomness.stream(seed, step, Purpose.LATENT_NOISE)
        rows, few, many = (randomness.indices(count, device) for count in (5, 12, 36))
        return (
            randomness.uniform(state, rows, few),
            randomness.normal(state, many, many),
            randomness.integers(state, rows, few, below=37),
        )

    seed, step = torch.arange(4) * 1_000_003, torch.arange(4) * 17
    expected = draw(seed, step)
    compiled = torch.compile(make_fx(draw)(seed, step), dynamic=False, options={"cpp.simdlen": vector_bits})
    for drawn, plain in zip(compiled(seed, step), expected, strict=True):
        assert torch.equal(drawn, plain)
