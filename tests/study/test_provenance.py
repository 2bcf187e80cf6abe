import shutil
import subprocess

import pytest

from study import provenance
from study.errors import RunError
from tests.messages import mentions


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that the code is taken to lie in, and git in it."""
    code = tmp_path / "study" / "provenance.py"
    code.parent.mkdir()
    code.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(code))

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
    found = provenance.commit()
    assert len(found) >= 12
    assert git("rev-parse", "HEAD").startswith(found)
    code.write_text("changed")
    assert provenance.commit() == f"{found}-dirty"


def test_code_that_is_no_checkout_has_no_commit(checkout):
    assert provenance.commit() is None


def test_a_machine_without_git_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None


def test_code_is_the_same_until_a_file_that_trains_changes(checkout):
    code, _ = checkout
    first = provenance.code()
    (code.parents[1] / "README.md").write_text("changed")
    (code.parents[1] / "dashboard").mkdir()
    (code.parents[1] / "dashboard" / "app.py").write_text("changed")
    assert provenance.code() == first
    code.write_text("changed")
    second = provenance.code()
    code.rename(code.with_name("renamed.py"))
    assert len({first, second, provenance.code()}) == 3


def test_other_code_is_refused_and_both_are_named():
    here = provenance.versions()
    provenance.refuse_other_versions(here)
    with pytest.raises(RunError, match=mentions("code", here["code"], "driver", "0123456789ab")):
        provenance.refuse_other_versions({**here, "code": "0123456789ab"})
