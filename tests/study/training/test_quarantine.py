from hypothesis import given
from hypothesis import strategies as st

from study.training.quarantine import Suspects


def test_without_suspicion_everybody_in_line_may_train():
    assert Suspects().allowed([3, 1, 2], is_anyone_training=True) == {1, 2, 3}


def test_while_a_suspect_waits_nobody_is_given_a_lane_and_who_has_one_keeps_it():
    suspects = Suspects()
    suspects.add(2)
    assert suspects.allowed([1, 2], is_anyone_training=True) == set()
    assert suspects.turn is None


def test_a_suspect_trains_alone_once_it_knows_and_up_to_its_next_report():
    suspects = Suspects()
    suspects.add(2)
    assert suspects.allowed([1, 2], is_anyone_training=False) == set()
    assert (suspects.turn, suspects.waits_to_admit) == (2, True)
    suspects.admit(1)  # not its turn
    assert suspects.waits_to_admit
    suspects.admit(2)
    assert suspects.allowed([1, 2], is_anyone_training=False) == {2}
    assert suspects.allowed([1], is_anyone_training=True) == set()
    suspects.clear(2)
    assert suspects.allowed([1], is_anyone_training=True) == {1}


def test_a_suspect_that_is_not_in_line_holds_up_nobody():
    suspects = Suspects()
    suspects.add(7)
    assert suspects.allowed([1, 2], is_anyone_training=False) == {1, 2}


@given(in_line=st.lists(st.integers(0, 9), unique=True), suspected=st.sets(st.integers(0, 9)))
def test_every_suspect_in_line_has_its_turn_in_order_and_then_the_others_train(in_line, suspected):
    suspects = Suspects()
    for trial in suspected:
        suspects.add(trial)
    turns, waiting = [], list(in_line)
    while any(trial in suspected for trial in waiting):
        suspects.allowed(waiting, is_anyone_training=False)
        suspects.admit(suspects.turn)
        (alone,) = suspects.allowed(waiting, is_anyone_training=False)
        turns.append(alone)
        waiting.remove(alone)
        suspects.clear(alone)
    assert turns == [trial for trial in in_line if trial in suspected]
    assert suspects.allowed(waiting, is_anyone_training=False) == set(waiting)
