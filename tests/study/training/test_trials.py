from hypothesis import given
from hypothesis import strategies as st

from study.training.trials import Quarantine


def test_without_suspicion_all_queued_trials_are_eligible():
    assert Quarantine().eligible([3, 1, 2], is_training=True) == {1, 2, 3}


def test_while_a_suspected_trial_is_queued_no_trial_receives_a_lane():
    quarantine = Quarantine()
    quarantine.add(2)
    assert quarantine.eligible([1, 2], is_training=True) == set()
    assert quarantine.isolated is None


def test_a_suspected_trial_trains_in_isolation_after_confirmation_until_its_next_report():
    quarantine = Quarantine()
    quarantine.add(2)
    assert quarantine.eligible([1, 2], is_training=False) == set()
    assert (quarantine.isolated, quarantine.awaits_confirmation) == (2, True)
    quarantine.confirm(1)  # another trial
    assert quarantine.awaits_confirmation
    quarantine.confirm(2)
    assert quarantine.eligible([1, 2], is_training=False) == {2}
    assert quarantine.eligible([1], is_training=True) == set()
    quarantine.release(2)
    assert quarantine.eligible([1], is_training=True) == {1}


def test_a_suspected_trial_that_is_not_queued_delays_no_trial():
    quarantine = Quarantine()
    quarantine.add(7)
    assert quarantine.eligible([1, 2], is_training=False) == {1, 2}


@given(queue=st.lists(st.integers(0, 9), unique=True), suspected=st.sets(st.integers(0, 9)))
def test_all_queued_suspected_trials_are_isolated_in_order_before_the_others_train(queue, suspected):
    quarantine = Quarantine()
    for trial in suspected:
        quarantine.add(trial)
    isolated, queued = [], list(queue)
    while any(trial in suspected for trial in queued):
        quarantine.eligible(queued, is_training=False)
        quarantine.confirm(quarantine.isolated)
        (trial,) = quarantine.eligible(queued, is_training=False)
        isolated.append(trial)
        queued.remove(trial)
        quarantine.release(trial)
    assert isolated == [trial for trial in queue if trial in suspected]
    assert quarantine.eligible(queued, is_training=False) == set(queued)
