import pytest

from study.runs.speed import TrainingSpeed


def test_a_trial_needs_the_time_of_its_slowest_replicate():
    speed = TrainingSpeed()
    assert not speed.has_samples
    speed.add(0.0, [(0, 0, 0), (0, 1, 0), (1, 0, 0)], 0)
    speed.add(10.0, [(0, 0, 40), (0, 1, 20), (1, 0, 60)], 120)
    assert speed.total == 12
    assert speed.seconds_for(0, {0: 40, 1: 40}) == 20  # 4 and 2 steps/s
    assert speed.seconds_for(1, {0: 60}) == 10


def test_replicates_that_do_not_train_yet_are_as_fast_as_the_others():
    speed = TrainingSpeed()
    speed.add(0.0, [(0, 0, 0), (1, 0, 0), (2, 0, 0)], 0)
    speed.add(10.0, [(0, 0, 40), (1, 0, 20), (2, 0, 0), (3, 0, 0)], 60)
    assert speed.seconds_for(2, {0: 30}) == 10  # waits for a lane
    assert speed.seconds_for(3, {0: 30}) == 10  # has just started


def test_no_time_is_known_before_two_samples_or_without_steps():
    speed = TrainingSpeed()
    assert speed.total == 0
    assert speed.seconds_for(0, {0: 30}) is None
    speed.add(0.0, [(0, 0, 0)], 0)
    assert speed.total == 0
    assert speed.seconds_for(0, {0: 30}) is None
    speed.add(1.0, [(0, 0, 3)], 3)
    assert speed.seconds_for(0, {}) is None


def test_the_speed_forgets_what_was_trained_more_than_twenty_seconds_ago():
    speed = TrainingSpeed()
    for now, steps in ((0.0, 0), (10.0, 1000), (20.0, 1010), (30.0, 1020)):
        speed.add(now, [(0, 0, steps)], steps)
    assert speed.total == pytest.approx(1)
