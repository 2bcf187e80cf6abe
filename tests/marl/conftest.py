"""Stacks that tests share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from marl.config import ViewsConfig
from marl.data import Dataset
from marl.models import ModelConfig
from marl.stack import Stack
from tests.marl.cases import PATCH, empty, new_stack


@pytest.fixture(scope="session")
def _stacks() -> dict[tuple[Any, ...], Stack]:
    return {}


@pytest.fixture
def shared_stack(_stacks: dict[tuple[Any, ...], Stack], small_dataset: Dataset) -> Iterator[Callable[..., Stack]]:
    """Function like `new_stack` that returns the same empty stack for the same arguments.

    A stack traces its step when it is first called, which takes as long as a hundred steps.
    """
    used = []

    def get(
        lanes: int,
        model: ModelConfig = PATCH,
        dataset: Dataset = small_dataset,
        views: ViewsConfig | None = None,
        **options: Any,
    ) -> Stack:
        key = (id(dataset), lanes, repr(model), repr(views), *sorted(options.items()))
        if key not in _stacks:
            _stacks[key] = new_stack(dataset, lanes, model, views, **options)
        used.append(_stacks[key])
        return _stacks[key]

    yield get
    for stack in used:
        empty(stack)
