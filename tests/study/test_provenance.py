import shutil
import subprocess

import pytest

from study import provenance
from tests.study.commands import ROOT


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="no checkout")
def test_the_commit_is_that_of_the_checkout_with_a_word_if_it_was_changed():
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    changed = subprocess.run(
        ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found = provenance.commit()
    assert head.startswith(found.removesuffix("-dirty"))
    assert found.endswith("-dirty") == bool(changed.strip())


def test_code_that_is_no_checkout_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "study" / "provenance.py"))
    assert provenance.commit() is None


def test_a_machine_without_git_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None
