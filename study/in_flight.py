"""Bounded concurrency: keep a limited number of calls in flight."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Call = TypeVar("_Call")


def in_flight(
    calls: Iterable[_Call],
    has_room: Callable[[list[_Call]], bool],
    wait: Callable[[list[_Call]], Iterable[_Call]] = lambda running: running[:1],
) -> Iterator[_Call]:
    """Yield calls when they are done, while later ones run.

    Args:
        calls: Iterable that starts a call when the next item is taken.
        has_room: Returns whether another call may start, given the calls in flight in the order of their start.
            At least one call is in flight in any case.
        wait: Waits for a while, and returns those calls in flight that are done. By default the first one, whose
            result the caller then waits for, so that calls are yielded in the order of their start.
    """
    running: list[_Call] = []

    def take_done() -> Iterator[_Call]:
        for call in list(wait(running)):
            running.remove(call)
            yield call

    for call in calls:
        running.append(call)
        while running and not has_room(running):
            yield from take_done()
    while running:
        yield from take_done()
