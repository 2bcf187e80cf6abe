"""Is all there that a study needs? Asked of the store and of every machine, before anything is paid for."""

from study.doctor.finding import Finding, shown
from study.doctor.preflight import examination

__all__ = ["Finding", "examination", "shown"]
