"""Errors that Ray Tune records for a trial: a lost actor or a failure of the trial."""

from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, ActorPlacementGroupRemoved, ActorUnavailableError, RayTaskError

from study.search.tune import _failure


def task_error(cause, last_line):
    return RayTaskError(
        "step", f"Traceback (most recent call last):\n  ...\n{last_line}", cause, "worker", 1, "127.0.0.1"
    )


@pytest.fixture
def trial(tmp_path):
    """Record errors as Tune does: the text of each one, and a pickle of the last one that Ray raised."""

    def record(*errors):
        text, pickled = tmp_path / "error.txt", tmp_path / "error.pkl"
        for number, error in enumerate(errors):
            with text.open("a") as file:
                file.write(f"Failure # {number} (occurred at noon)\n{error}\n")
            if isinstance(error, RayTaskError | ActorDiedError | ActorUnavailableError):
                pickled.write_bytes(cloudpickle.dumps(error))
        return SimpleNamespace(
            error_file=str(text) if errors else None, pickled_error_file=str(pickled) if pickled.exists() else None
        )

    return record


LOST = ActorDiedError()


@pytest.mark.parametrize(
    "error", [LOST, ActorUnavailableError("no route", None), ActorPlacementGroupRemoved(), task_error(LOST, "lost")]
)
def test_a_lost_actor_is_recognised_by_the_type_of_its_error(trial, error):
    reason, is_lost = _failure(trial(error))
    assert is_lost
    assert "lost" in reason


def test_an_error_of_the_trial_may_name_an_actor(trial):
    error = task_error(ValueError("the Actor has no such ActorError"), "ValueError: the Actor has no such ActorError")
    assert _failure(trial(error)) == ("ValueError: the Actor has no such ActorError", False)


def test_an_error_while_the_actor_starts_is_no_loss(trial):
    error = ActorDiedError(task_error(ImportError("no module"), "ImportError: no module"))
    assert error.actor_init_failed
    assert _failure(trial(error)) == ("ImportError: no module", False)


def test_the_last_error_counts_although_only_an_earlier_one_was_pickled(trial):
    assert _failure(trial(LOST, RuntimeError("broken"))) == ("broken", False)
    assert _failure(trial()) == ("unknown", False)
