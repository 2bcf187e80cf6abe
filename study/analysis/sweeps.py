"""Which trials show what a parameter does: those that differ in it alone, where a study was made of such ones."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from study.spec import Parameter, Scalar, Spec

__all__ = ["Sweep", "is_numeric", "sweep_of"]

_Configuration = Mapping[str, Scalar]
# Two configurations in `include` are two starting points of a search, not an ablation.
_LEAST_INCLUDED = 3


class Sweep(NamedTuple):
    """The complete trials that are drawn for each parameter.

    Attributes:
        reference: the configuration that all trials share but for one parameter each, without a parameter that is the
            only one to vary; none where trials differ in more.
        trials: rows of results by parameter, those that have a value of it.
    """

    reference: dict[str, Scalar] | None
    trials: dict[str, pd.DataFrame]


def is_numeric(parameter: Parameter) -> bool:
    """Whether a parameter's values are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in parameter.extremes())


def sweep_of(table: pd.DataFrame, spec: Spec) -> Sweep:
    """Find out whether a study changes one parameter at a time, and from where.

    It does when the configurations of `include`, where they are at least half of the trials, or else of all trials,
    differ from one configuration in one parameter at most. Parameters whose condition holds for one of two only do not
    count as a difference. Then a parameter is shown by the trials that differ in it alone, and by the reference.

    Args:
        table: results of all trials.
        spec: of the study.
    """
    configurations = _configurations(table, spec)
    is_ablation = len(spec.include) >= max(_LEAST_INCLUDED, len(table) / 2)
    wanted = list(spec.include) if is_ablation else list(configurations.values())
    reference = _reference(wanted)
    complete = table[table["state"] == "complete"]
    if reference is None:
        return Sweep(None, {name: complete[_has(complete, name)] for name in spec.space})
    trials = {}
    for name in spec.space:
        shown = [
            index
            for index in complete.index
            if configurations[index] in wanted and _differences(configurations[index], reference) <= {name}
        ]
        trials[name] = complete.loc[shown][_has(complete.loc[shown], name)]
    return Sweep(reference, trials)


def _reference(configurations: Iterable[_Configuration]) -> dict[str, Scalar] | None:
    """The configuration that differs from each of these in one parameter at most, whether it is among them or not."""
    distinct = list({frozenset(one.items()): one for one in configurations}.values())
    if len(distinct) < 2:
        return None
    values: dict[str, Counter[Scalar]] = {}
    for one in distinct:
        for name, value in one.items():
            values.setdefault(name, Counter())[value] += 1
    usual = {name: counts.most_common(1)[0][0] for name, counts in values.items()}
    for candidate in (*distinct, usual):
        if all(len(_differences(one, candidate)) <= 1 for one in distinct):
            varied = {name for one in distinct for name in _differences(one, candidate)}
            return {name: value for name, value in candidate.items() if varied != {name}}
    return None


def _differences(one: _Configuration, other: _Configuration) -> set[str]:
    return {name for name in one.keys() & other.keys() if one[name] != other[name]}


def _configurations(table: pd.DataFrame, spec: Spec) -> dict[Hashable, dict[str, Scalar]]:
    """The parameters that each trial has, by row."""
    columns = {f"config/{name}": name for name in spec.space if f"config/{name}" in table}
    rows = table[list(columns)].rename(columns=columns).to_dict("records")
    return {
        index: {name: value for name, value in row.items() if pd.notna(value)}
        for index, row in zip(table.index, rows, strict=True)
    }


def _has(table: pd.DataFrame, name: str) -> pd.Series:
    column = f"config/{name}"
    return table[column].notna() if column in table else pd.Series(False, index=table.index)
