"""Versions, commit and environment variables of a study's processes."""

import os
import shutil
import subprocess
import sys

import pytest

from study import environment
from study.environment import available_cpus, process_env
from study.errors import RunError
from tests.messages import mentions


def test_a_training_process_has_the_number_of_threads_that_it_is_given():
    code = "import torch; print(torch.get_num_threads())"
    for threads in (1, available_cpus()):
        environment = {**os.environ, **process_env(threads)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(threads)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to processors")
def test_a_process_bound_to_one_processor_counts_one():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from study.environment import available_cpus; print(available_cpus())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "1"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that the code is taken to lie in, and git in it."""
    code = tmp_path / "study" / "environment.py"
    code.parent.mkdir()
    code.write_text("")
    monkeypatch.setattr(environment, "__file__", str(code))

    def git(*words):
        identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return code, git


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_the_commit_is_that_of_the_checkout_with_a_word_if_it_was_changed(checkout):
    code, git = checkout
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    found = environment.commit()
    assert len(found) >= 12
    assert git("rev-parse", "HEAD").startswith(found)
    code.write_text("changed")
    assert environment.commit() == f"{found}-dirty"


def test_code_that_is_no_checkout_has_no_commit(checkout):
    assert environment.commit() is None


def test_a_machine_without_git_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.commit() is None


def test_code_is_the_same_until_a_file_that_trains_changes(checkout):
    code, _ = checkout
    first = environment.code_hash()
    (code.parents[1] / "README.md").write_text("changed")
    (code.parents[1] / "dashboard").mkdir()
    (code.parents[1] / "dashboard" / "app.py").write_text("changed")
    assert environment.code_hash() == first
    code.write_text("changed")
    second = environment.code_hash()
    code.rename(code.with_name("renamed.py"))
    assert len({first, second, environment.code_hash()}) == 3


def test_other_code_is_refused_and_both_are_named():
    here = environment.versions()
    environment.check_same_versions(here)
    with pytest.raises(RunError, match=mentions("code", here["code"], "driver", "0123456789ab")):
        environment.check_same_versions({**here, "code": "0123456789ab"})
