from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from hypothesis import given
from hypothesis import strategies as st

from study.in_flight import in_flight


def record_starts(count, started):
    for number in range(count):
        started.append(number)
        yield number


@given(st.integers(0, 20), st.integers(1, 5))
def test_calls_are_yielded_in_order_and_never_more_than_the_limit_are_in_flight(count, limit):
    started, done = [], []
    calls = record_starts(count, started)
    for call in in_flight(calls, lambda running: len(running) < limit, lambda running: running[:1]):
        done.append(call)
        assert len(started) - len(done) < limit
    assert started == done == list(range(count))


def test_a_call_starts_when_another_one_is_done():
    started = []
    results = in_flight(record_starts(3, started), lambda running: len(running) < 2, lambda running: running[:1])
    assert next(results) == 0
    assert started == [0, 1]
    assert next(results) == 1
    assert started == [0, 1, 2]


def test_while_nothing_is_done_it_waits_again():
    polls = iter([[], [], [0], [1]])
    assert list(in_flight(range(2), lambda running: True, lambda running: next(polls))) == [0, 1]


def test_futures_may_be_done_in_any_order():
    with ThreadPoolExecutor(2) as threads:
        futures = (threads.submit(pow, number, 2) for number in range(6))
        done = in_flight(
            futures, lambda running: len(running) < 3, lambda running: wait(running, return_when=FIRST_COMPLETED)[0]
        )
        assert sorted(future.result() for future in done) == [0, 1, 4, 9, 16, 25]
