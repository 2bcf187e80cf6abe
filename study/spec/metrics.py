"""Which way a metric is better."""

from typing import Literal

from study.spec import Spec

__all__ = ["direction_of", "stand_in"]

_LESS_IS_BETTER = ("fidelity/", "test/fidelity/", "loss/", "leakage/")
_BY_FACTOR = ("probe", "linear_probe", "sampled_probe", "nmi", "corrected_nmi")


def direction_of(spec: Spec, metric: str) -> Literal["min", "max"]:
    """Whether a study wants less or more of a metric.

    As its objectives say; else less of errors and losses, less of what the wrong subspace tells of a factor, and more
    of all others.
    """
    if metric in spec.objectives:
        return spec.objectives[metric]
    if metric.startswith(_LESS_IS_BETTER):
        return "min"
    group, _, rest = metric.removeprefix("test/").partition("/")
    if group in _BY_FACTOR:
        factor, _, subspace = rest.partition("/")
        wrong = "private" if factor in spec.shared_factors else "shared"
        return "min" if subspace == wrong else "max"
    return "max"


_STAND_INS = {"disentanglement/separation": "disentanglement/linear_separation"}
_STAND_IN_GROUPS = {"probe/": "linear_probe/"}


def stand_in(objective: str) -> str:
    """The column that stands in for an objective while a trial is young: what needs probes by its linear sibling."""
    for group, sibling in _STAND_IN_GROUPS.items():
        if objective.startswith(group):
            return sibling + objective.removeprefix(group)
    return _STAND_INS.get(objective, objective)
