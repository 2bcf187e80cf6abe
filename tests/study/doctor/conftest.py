import pytest

from study.doctor.checks import Finding


@pytest.fixture
def stack_passes(monkeypatch):
    """Replace the check of a stack, which starts a process for some seconds, with one that passes."""
    monkeypatch.setattr("study.doctor.try_stack", lambda *_: None)
    monkeypatch.setattr("study.doctor.check_stack", lambda *_: Finding("stack", "pass", "some trial-steps/s"))
