import pytest

from study.doctor.checks import Finding


@pytest.fixture
def stack_passes(monkeypatch):
    """The check of a stack, which takes a process of its own for some seconds, passes at once."""
    monkeypatch.setattr("study.doctor.preflight.try_stack", lambda *_: None)
    monkeypatch.setattr("study.doctor.preflight.check_stack", lambda *_: Finding("stack", "pass", "some trial-steps/s"))
