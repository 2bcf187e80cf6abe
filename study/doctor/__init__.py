"""Checks before a study runs: the store, and every machine that will train."""

from study.doctor.checks import Finding, render_finding
from study.doctor.preflight import run_checks

__all__ = ["Finding", "render_finding", "run_checks"]
