"""What a trial is compared by while it is young, where an objective is known of mature trials alone."""

__all__ = ["stand_in"]

_STAND_INS = {"disentanglement/separation": "disentanglement/linear_separation"}
_STAND_IN_GROUPS = {"probe/": "linear_probe/"}


def stand_in(objective: str) -> str:
    """The column that stands in for an objective while a trial is young: what needs probes by its linear sibling."""
    for group, sibling in _STAND_IN_GROUPS.items():
        if objective.startswith(group):
            return sibling + objective.removeprefix(group)
    return _STAND_INS.get(objective, objective)
