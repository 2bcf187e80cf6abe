"""Kills a study's command at a chosen write. On PYTHONPATH, it comes into every Python process of the study.

MARL_TEST_CRASH is JSON: `when` (before or after), `method` (write, create or delete), `pattern` of the object's name,
and `count`, which such call it shall be. The process that makes the call kills the command first, then itself.
"""

import json
import os
import re
import signal
import sys

import study.objects

_COMMAND = int(os.environ.setdefault("MARL_TEST_COMMAND", str(os.getpid())))
_CRASH = json.loads(os.environ.get("MARL_TEST_CRASH", "null"))
_calls = 0


def _crash():
    os.kill(_COMMAND, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _crashing(method):
    original = getattr(study.objects.Objects, method)

    def call(self, name, *arguments):
        global _calls
        _hurry()
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


def _hurry():
    """In a study of seconds, what is done every minute is done every half second."""
    for module, name in (
        ("study.lanes", "_CHECKPOINT_EVERY_S"),
        ("study.recorder", "_HEARTBEAT_EVERY_S"),
        ("study.recorder", "_FLUSH_EVERY_S"),
    ):
        if module in sys.modules:
            setattr(sys.modules[module], name, 0.5)


for _method in ("write", "create", "delete"):
    setattr(study.objects.Objects, _method, _crashing(_method))
