"""Kills a study's command at a chosen write. On PYTHONPATH, it comes into every Python process of the study.

MARL_TEST_CRASH is JSON: `when` (before or after), `method` (write, create or delete), `pattern` of the object's name,
and `count`, which such call it shall be. The process that makes the call kills the command first, then itself.
"""

import json
import os
import re
import signal
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

import study.storage

# In a study of seconds, what is done every minute is done every half second; and half of what a study of tiny models
# computes would be probes.
_CHANGES = {
    "study.training.lanes": {"_CHECKPOINT_EVERY_S": 0.5},
    "study.store.writer": {"_HEARTBEAT_EVERY_S": 0.5, "_FLUSH_EVERY_S": 0.5},
    "marl.metrics.probes": {"_STEPS": 20},
}
_COMMAND = int(os.environ.setdefault("MARL_TEST_COMMAND", str(os.getpid())))
_CRASH = json.loads(os.environ.get("MARL_TEST_CRASH", "null"))
_calls = 0


def _crash():
    os.kill(_COMMAND, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _crashing(method):
    original = getattr(study.storage.ObjectStore, method)

    def call(self, name, *arguments):
        global _calls
        hit = _CRASH and _CRASH["method"] == method and re.search(_CRASH["pattern"], name)
        if hit:
            _calls += 1
        now = hit and _calls == _CRASH["count"]
        if now and _CRASH["when"] == "before":
            _crash()
        result = original(self, name, *arguments)
        if now:
            _crash()
        return result

    return call


class _Hurry(MetaPathFinder):
    """Changes modules when they are imported; importing them here would give torch to trials, which have none."""

    def find_spec(self, name, path, target=None):
        if name not in _CHANGES:
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            for constant, value in _CHANGES[name].items():
                assert hasattr(module, constant), f"{name} has no {constant}"
                setattr(module, constant, value)

        spec.loader.exec_module = exec_module
        return spec


for _method in ("write", "create", "delete"):
    setattr(study.storage.ObjectStore, _method, _crashing(_method))
sys.meta_path.insert(0, _Hurry())
