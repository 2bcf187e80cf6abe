"""A trial that kills whatever trains it. On PYTHONPATH, it comes into every Python process of the study.

MARL_TEST_POISON is the number of the trial: as soon as it has a lane, its trainer dies as by a fault of the processor.
"""

import os
import signal
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

_POISON = int(os.environ.get("MARL_TEST_POISON", "-9"))


class _Finder(MetaPathFinder):
    """Changes study.lanes when it is imported: it imports torch, which trials must not do."""

    def find_spec(self, name, path, target=None):
        if name != "study.training.lanes":
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            train = module.Lanes._train

            def deadly(self, family, interrupted):
                if any(one.trial == _POISON for one in self._training.values()):
                    os.kill(os.getpid(), signal.SIGKILL)
                train(self, family, interrupted)

            module.Lanes._train = deadly

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
