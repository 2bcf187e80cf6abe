import torch

from marl.stack.flat_parameters import Rows

SHAPES = {"weight": (3, 5), "bias": (5,), "wide": (70,)}


def test_parameters_are_disjoint_views():
    rows = Rows(SHAPES, 4, torch.device("cpu"))
    for number, (name, shape) in enumerate(SHAPES.items(), start=1):
        assert rows.shaped[name].shape == (4, *shape)
        rows.shaped[name].fill_(number)
    assert [value.unique().tolist() for value in rows.flat.values()] == [[1], [2], [3]]


def test_parameters_start_at_cache_lines():
    rows = Rows(SHAPES, 4, torch.device("cpu"))
    starts = {row.storage_offset() % 64 for value in rows.flat.values() for row in value}
    assert starts == {0}


def test_a_copy_has_equal_values_in_separate_memory():
    rows = Rows(SHAPES, 2, torch.device("cpu"))
    rows.flat["bias"].fill_(7)
    copy = rows.copy()
    rows.flat["bias"].zero_()
    assert copy.shaped["bias"].eq(7).all()
    assert copy.flat["bias"].stride() == rows.flat["bias"].stride()
