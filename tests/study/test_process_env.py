"""What a process that trains finds around it."""

import os
import subprocess
import sys

import pytest

from study.process_env import available_cpus, surroundings


def test_a_training_process_has_as_many_threads_as_processors_it_may_run_on():
    assert surroundings()["OMP_NUM_THREADS"] == str(available_cpus())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to processors")
def test_a_process_bound_to_one_processor_counts_one():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from study.process_env import available_cpus; print(available_cpus())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "1"
