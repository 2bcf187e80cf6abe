from copy import deepcopy

import torch

from marl.stack.flat_parameters import FlatParameters

SHAPES = {"weight": (3, 5), "bias": (5,), "wide": (70,)}


def test_parameters_are_disjoint_views():
    parameters = FlatParameters(SHAPES, 4, torch.device("cpu"))
    for number, (name, shape) in enumerate(SHAPES.items(), start=1):
        assert parameters.shaped[name].shape == (4, *shape)
        parameters.shaped[name].fill_(number)
    assert [value.unique().tolist() for value in parameters.flat.values()] == [[1], [2], [3]]


def test_parameters_start_at_cache_lines():
    parameters = FlatParameters(SHAPES, 4, torch.device("cpu"))
    starts = {row.storage_offset() % 64 for value in parameters.flat.values() for row in value}
    assert starts == {0}


def test_a_copy_has_equal_values_in_separate_memory():
    parameters = FlatParameters(SHAPES, 2, torch.device("cpu"))
    parameters.flat["bias"].fill_(7)
    copy = deepcopy(parameters)
    parameters.flat["bias"].zero_()
    assert copy.shaped["bias"].eq(7).all()
    assert copy.flat["bias"].stride() == parameters.flat["bias"].stride()
