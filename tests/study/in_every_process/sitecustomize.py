"""Changes that tests make to the processes of a study: commands and their descendants.

The folder is on PYTHONPATH, so every Python process imports this module when it starts. MARL_TEST_CHANGES has the
changes as JSON; `tests.study.processes` describes them. A module is changed after its import: an import here would
load torch into processes that do not need it.
"""

import json
import os
import re
import signal
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path

_CHANGES = json.loads(os.environ.get("MARL_TEST_CHANGES", "{}"))
_HELD_AT_MOST_S = 240.0
# The command of the study: the first process that imports this module. Its children inherit its number.
_COMMAND = int(os.environ.setdefault("MARL_TEST_COMMAND", str(os.getpid())))


def _set_constants(module):
    for name, value in _CHANGES["constants"][module.__name__].items():
        assert hasattr(module, name), f"{module.__name__} has no {name}"
        setattr(module, name, getattr(module, name)._replace(**value) if isinstance(value, dict) else value)


def _train_no_plain_vae(module):
    module.StudyResults.has_plain_vae = True


def _kill_command_at_write(module):
    crash = _CHANGES["crash"]
    original = getattr(module.ObjectStore, crash["method"])
    calls = 0

    def kill():
        os.kill(_COMMAND, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def call(self, name, *arguments):
        nonlocal calls
        is_hit = re.search(crash["pattern"], name) is not None
        calls += is_hit
        is_now = is_hit and calls == crash["count"]
        if is_now and crash["when"] == "before":
            kill()
        result = original(self, name, *arguments)
        if is_now:
            kill()
        return result

    setattr(module.ObjectStore, crash["method"], call)


class _Switch:
    """A file that blocks a process while it exists, and a file beside it that the blocked process creates."""

    def __init__(self, name):
        self._file = Path(_CHANGES["switches"]) / name

    def value(self):
        """Return the number in the file, or None without a file."""
        try:
            return int(self._file.read_text())
        except (OSError, ValueError):
            return None

    def wait(self, is_interrupted):
        """Wait until the test removes the file, but not for ever, because a failed test does not remove it."""
        self._file.with_suffix(".held").touch()
        until = time.monotonic() + _HELD_AT_MOST_S
        while self._file.exists() and time.monotonic() < until and not is_interrupted():
            time.sleep(0.01)


def _obey_switches_of_training(module):
    hold, hold_discarded, poison = _Switch("training"), _Switch("discarded"), _Switch("poison")
    advance, discard, train = module.Lanes.advance, module.Lanes.discard, module.Lanes._train
    steps = discarded = 0

    def advance_unless_held(self, interrupted):
        def count_and_hold():
            nonlocal steps
            steps += 1
            after = hold.value()
            if after is not None and steps >= after:
                hold.wait(interrupted)
            enough = hold_discarded.value()
            if enough is not None and discarded >= enough:
                hold_discarded.wait(interrupted)
            return interrupted()

        return advance(self, count_and_hold)

    def count_discarded(self, trial):
        nonlocal discarded
        discarded += 1
        discard(self, trial)

    def train_unless_poisoned(self, key, interrupted):
        if any(replicate.trial == poison.value() for replicate in self._training.values()):
            os.kill(os.getpid(), signal.SIGKILL)
        train(self, key, interrupted)

    module.Lanes.advance, module.Lanes._train = advance_unless_held, train_unless_poisoned
    module.Lanes.discard = count_discarded


def _obey_switch_of_evaluation(module):
    hold, evaluate = _Switch("evaluation"), module.Evaluator.evaluate_stored

    def evaluate_unless_held(self, *arguments):
        if hold.value() is not None:
            hold.wait(lambda: False)
        return evaluate(self, *arguments)

    module.Evaluator.evaluate_stored = evaluate_unless_held


def _changes_by_module():
    by_module = {name: [_set_constants] for name in _CHANGES.get("constants", {})}
    for field, name, change in (
        ("without_plain_vae", "study.analysis.results", _train_no_plain_vae),
        ("crash", "study.storage.object_store", _kill_command_at_write),
        ("switches", "study.training.lanes", _obey_switches_of_training),
        ("switches", "study.training.evaluation", _obey_switch_of_evaluation),
    ):
        if _CHANGES.get(field):
            by_module.setdefault(name, []).append(change)
    return by_module


class _Finder(MetaPathFinder):
    """Finds modules to change, and changes each once it is loaded."""

    def __init__(self, by_module):
        self._by_module = by_module

    def find_spec(self, name, path, target=None):
        if name not in self._by_module:
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            for change in self._by_module[name]:
                change(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder(_changes_by_module()))
