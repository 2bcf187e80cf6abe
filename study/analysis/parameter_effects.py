"""Effect of parameters on a metric: sweeps of one parameter at a time, slices over one and surfaces over two.

Slices and surfaces are projections of the search space: the other parameters differ between trials, which shows as
scatter. N is trials, A cells along x, B cells along y.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import KDTree, QhullError

from study.analysis.aggregation import Spread, mean_and_spread
from study.errors import UserError
from study.formatting import suggestion
from study.spec import Parameter, Scalar, Spec

_Configuration = Mapping[str, Scalar]
_MIN_INCLUDED = 3  # two configurations in `include` are two starting points of a search, not an ablation
_MIN_REACH = 0.1  # a cell is drawn at least up to this distance from the nearest trial, as a fraction of the axis


class Sweep(NamedTuple):
    """Rows of the complete trials to draw for each parameter, and the reference that they are compared with.

    The reference is the configuration from which every trial differs in one parameter at most. If only one parameter
    varies, the reference lacks it. It is None if trials differ in several parameters.
    """

    reference: dict[str, Scalar] | None
    trials: dict[str, pd.DataFrame]


def is_numeric(parameter: Parameter) -> bool:
    """Return whether the values of a parameter are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in parameter.extremes())


def find_sweep(table: pd.DataFrame, spec: Spec) -> Sweep:
    """Detect whether a study changes one parameter at a time, and return the trials to draw for each parameter.

    A study is a sweep if its configurations differ from one reference in at most one parameter. If `include` makes up
    at least half of the trials, only its configurations are compared. Parameters that only one of two configurations
    has do not count as a difference. In a sweep, a parameter is drawn with the reference and the trials that differ in
    this parameter alone; otherwise with all trials.
    """
    names = [name for name in spec.space if f"config/{name}" in table]
    rows = table[[f"config/{name}" for name in names]].to_numpy(dtype=object)
    configurations = [{name: value for name, value in zip(names, row, strict=True) if pd.notna(value)} for row in rows]
    is_ablation = len(spec.include) >= max(_MIN_INCLUDED, len(table) / 2)
    compared: list[_Configuration] = list(spec.include if is_ablation else configurations)
    reference = _reference(compared)
    is_complete = (table["state"] == "complete").to_numpy()
    trials = {}
    for name in spec.space:
        is_drawn = [
            name in configuration
            and (reference is None or (configuration in compared and _differences(configuration, reference) <= {name}))
            for configuration in configurations
        ]
        trials[name] = table[is_complete & np.array(is_drawn, dtype=bool)]
    return Sweep(reference, trials)


def slice_data(table: pd.DataFrame, spec: Spec, parameter: str, metric: str, spread: Spread = "ci") -> pd.DataFrame:
    """Return a metric against one parameter.

    Returns:
        A row for each trial that has both: `trial`; `value` of the parameter; `mean` of the metric over replicates;
        `low` and `high`, the ends of its error bar, NaN without one; `state`, as only complete trials have final
        values.
    """
    rows = _rows(table, spec, [parameter], metric)
    values = {"trial": rows["trial"], "value": _values(rows, spec, parameter)}
    data = pd.DataFrame(values | mean_and_spread(rows, metric, spread))
    return data.assign(state=rows["state"])


def surface_data(
    table: pd.DataFrame, spec: Spec, first: str, second: str, metric: str, cells: int = 24
) -> pd.DataFrame:
    """Return a metric over two parameters, `first` along x and `second` along y, interpolated between complete trials.

    A range is divided into `cells` of equal size on its scale; a choice has a band for each value. Over two ranges the
    metric is interpolated linearly in a Delaunay triangulation of the trials, along a band linearly between its trials,
    and at the crossing of two bands it is the mean of the trials there. Trials at one point are averaged.

    Cells are NaN outside of the triangulation, beyond the outermost trials of a band, and far from any trial: farther
    than a tenth of the axis and than the spacing of equally many, evenly spread trials.

    Returns:
        A row for each cell: `x`, its middle or the choice; `x_low` and `x_high`, its edges, NaN for a choice; the same
        three columns for `y`; `mean` of the metric.
    """
    if first == second:
        raise UserError(f"a surface needs two different parameters; got {first!r} twice")
    rows = _rows(table[table["state"] == "complete"], spec, [first, second], metric)
    x, y = (_Axis.of(spec.space[name], cells) for name in (first, second))
    x_N, y_N = x.positions(_values(rows, spec, first)), y.positions(_values(rows, spec, second))
    trials = pd.DataFrame({"x": x_N, "y": y_N, "mean": rows[metric].to_numpy(dtype=float)})
    trials = trials.groupby(["x", "y"], as_index=False)["mean"].mean()
    grid = x.cells("x").merge(y.cells("y"), how="cross")
    return grid.assign(mean=_interpolate(trials, x, y).ravel())


def _reference(configurations: Iterable[_Configuration]) -> dict[str, Scalar] | None:
    """Return the configuration that differs from each of these in at most one parameter; it need not be one of them."""
    distinct = list({frozenset(configuration.items()): configuration for configuration in configurations}.values())
    if len(distinct) < 2:
        return None
    values: defaultdict[str, Counter[Scalar]] = defaultdict(Counter)
    for name, value in (item for configuration in distinct for item in configuration.items()):
        values[name][value] += 1
    most_common = {name: counts.most_common(1)[0][0] for name, counts in values.items()}
    for candidate in (*distinct, most_common):
        # The first configurations of a search refute most candidates.
        if all(len(_differences(configuration, candidate)) <= 1 for configuration in distinct):
            varied = set().union(*(_differences(configuration, candidate) for configuration in distinct))
            return {name: value for name, value in candidate.items() if varied != {name}}
    return None


def _differences(first: _Configuration, second: _Configuration) -> set[str]:
    return {name for name in first.keys() & second.keys() if first[name] != second[name]}


@dataclass(frozen=True)
class _Axis:
    """A parameter as an axis of `count` cells.

    The position of a choice is its index. Positions in a range go from 0 to 1 between its bounds, which are logarithms
    if `is_log`.
    """

    choices: tuple[Scalar, ...] | None
    low: float
    high: float
    is_log: bool
    count: int

    @classmethod
    def of(cls, parameter: Parameter, cells: int) -> "_Axis":
        if parameter.choice is not None:
            return cls(parameter.choice, 0, 1, False, len(parameter.choice))
        low, high = parameter.bounds
        if parameter.int is not None:  # one cell for each number, if `cells` are enough
            return cls(None, low - 0.5, high + 0.5, False, min(cells, int(high - low) + 1))
        if parameter.log_uniform is not None:
            return cls(None, math.log(low), math.log(high), True, cells)
        return cls(None, low, high, False, cells)

    @property
    def middles(self) -> np.ndarray:
        """Position of the middle of each cell, [count]; the index of each choice of a categorical parameter."""
        return np.arange(self.count) if self.choices is not None else (np.arange(self.count) + 0.5) / self.count

    def positions(self, values: list[Scalar]) -> np.ndarray:
        if self.choices is not None:
            texts = [repr(choice) for choice in self.choices]  # 1 and true are two choices
            return np.array([texts.index(repr(value)) for value in values], dtype=int)
        numbers = np.array(values, dtype=float)
        return ((np.log(numbers) if self.is_log else numbers) - self.low) / (self.high - self.low)

    def cells(self, side: str) -> pd.DataFrame:
        """Return a row for each cell: its middle and its edges."""
        if self.choices is not None:
            return pd.DataFrame({side: list(self.choices), f"{side}_low": np.nan, f"{side}_high": np.nan})
        edges = np.arange(self.count + 1) / self.count
        columns = {side: self.middles, f"{side}_low": edges[:-1], f"{side}_high": edges[1:]}
        return pd.DataFrame({name: self._values(positions) for name, positions in columns.items()})

    def _values(self, positions: np.ndarray) -> np.ndarray:
        scaled = self.low + positions * (self.high - self.low)
        return np.exp(scaled) if self.is_log else scaled


def _interpolate(trials: pd.DataFrame, x: _Axis, y: _Axis) -> np.ndarray:
    """Return the metric at the middles of cells, [A, B], from `x`, `y` and `mean` of trials."""
    if x.choices is None:
        if y.choices is None:
            return _interpolate_plane(trials, x, y)
        return _interpolate(trials.rename(columns={"x": "y", "y": "x"}), y, x).T
    mean_AB = np.full((x.count, y.count), np.nan)
    if y.choices is not None:
        mean_AB[trials["x"], trials["y"]] = trials["mean"]
        return mean_AB
    for band, rows in trials.groupby("x"):
        mean_AB[int(band)] = _interpolate_band(rows["y"].to_numpy(), rows["mean"].to_numpy(), y.middles)
    return mean_AB


def _interpolate_plane(trials: pd.DataFrame, x: _Axis, y: _Axis) -> np.ndarray:
    position_N2 = trials[["x", "y"]].to_numpy(dtype=float)
    middle_AB2 = np.stack(np.meshgrid(x.middles, y.middles, indexing="ij"), axis=-1)
    try:
        mean_AB: np.ndarray = LinearNDInterpolator(position_N2, trials["mean"].to_numpy())(middle_AB2)
    except (QhullError, ValueError):  # too few trials for a triangle, or all on one line
        return np.full(middle_AB2.shape[:2], np.nan)
    distance_AB, _ = KDTree(position_N2).query(middle_AB2)
    mean_AB[distance_AB > max(_MIN_REACH, len(position_N2) ** -0.5)] = np.nan
    return mean_AB


def _interpolate_band(position_N: np.ndarray, mean_N: np.ndarray, middle_A: np.ndarray) -> np.ndarray:
    """Return the metric at the middles of a band's cells, [A]; NaN far from trials, whose positions are sorted."""
    mean_A: np.ndarray = np.interp(middle_A, position_N, mean_N, left=np.nan, right=np.nan)
    distance_A = np.abs(middle_A[:, None] - position_N).min(axis=1)
    mean_A[distance_A > max(_MIN_REACH, 1 / len(position_N))] = np.nan
    return mean_A


def _rows(table: pd.DataFrame, spec: Spec, parameters: list[str], metric: str) -> pd.DataFrame:
    """Return the trials that have the parameters and the metric, by number, with a column for its interval."""
    for name in parameters:
        if name not in spec.space:
            raise UserError(f"study {spec.name!r} has no parameter {name!r}; {suggestion(name, spec.space)}")
    columns = [f"config/{name}" for name in parameters]
    missing = {name: np.nan for name in (*columns, metric, f"{metric}/ci") if name not in table}
    rows = table.assign(**missing).dropna(subset=[*columns, metric])
    return rows.sort_values("trial", ignore_index=True)


def _values(rows: pd.DataFrame, spec: Spec, parameter: str) -> list[Scalar]:
    return [spec.space[parameter].typed(value) for value in rows[f"config/{parameter}"]]
