"""A metric over one parameter, and over two: numbers for slices and heat maps.

The other parameters are not held still: trials that lie side by side here may differ in any of them, so that what is
seen is a projection of the space, and a metric's jumps from trial to trial are what the others do.

N is trials, A cells along one axis, B along the other.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import KDTree, QhullError

from study.errors import UserError
from study.search.history import as_spec
from study.spec import Parameter, Scalar, Spec

__all__ = ["slice_data", "surface"]

# How far from the nearest trial a cell may be at least, in parts of an axis.
_LEAST_REACH = 0.1


def slice_data(table: pd.DataFrame, spec: Spec, parameter: str, metric: str) -> pd.DataFrame:
    """A metric of the trials that have a parameter.

    Args:
        table: results of trials.
        spec: of the study.
        parameter: of the space.
        metric: a column of results.

    Returns:
        `trial`; `value` of the parameter; `mean` of the metric over replicates, with `low` and `high`, the ends of its
        90 % interval, which are not a number where there is no interval; `state`: only complete trials are mature.

    Raises:
        UserError: when the space has no such parameter.
    """
    rows = _rows(table, spec, [parameter], metric)
    mean, half = rows[metric].astype(float), rows[f"{metric}/ci"].astype(float)
    found = {"trial": rows["trial"], "value": _values(rows, spec, parameter), "mean": mean}
    return pd.DataFrame(found | {"low": mean - half, "high": mean + half, "state": rows["state"]})


def surface(table: pd.DataFrame, spec: Spec, first: str, second: str, metric: str, cells: int = 24) -> pd.DataFrame:
    """A metric over the ranges of two parameters, interpolated between complete trials.

    A range is cut into cells, evenly on the scale that it has in the space; a choice is a band for each of its values.
    Over two ranges the metric is linear in each triangle of a Delaunay triangulation of the trials, on these scales;
    along a band it is linear between the trials of this band; where two bands cross it is the mean of the trials there.
    Trials at one place are averaged.

    Nothing is extrapolated: a cell is empty when its middle lies outside of all triangles, beyond the outermost trials
    of a band, or where no trial is in two bands. So it is when it is farther from any trial than as many trials would
    be from one another if they were spread evenly, and farther than a tenth of the axis.

    Args:
        table: results of trials.
        spec: of the study.
        first: parameter along x.
        second: another along y.
        metric: a column of results.
        cells: along each range.

    Returns:
        A row a cell: `x`, its middle or the choice; `x_low` and `x_high`, where it begins and ends, empty for a choice;
        the same of `y`; `mean` of the metric, not a number in an empty cell.

    Raises:
        UserError: when the space has no such parameter, or both are the same.
    """
    if first == second:
        raise UserError(f"a surface lies over two parameters; got {first!r} twice")
    rows = _rows(table[table["state"] == "complete"], spec, [first, second], metric)
    x, y = (_Axis.of(spec.space[name], cells) for name in (first, second))
    x_N, y_N = x.places(_values(rows, spec, first)), y.places(_values(rows, spec, second))
    trials = pd.DataFrame({"x": x_N, "y": y_N, "mean": rows[metric].to_numpy(dtype=float)})
    trials = trials.groupby(["x", "y"], as_index=False)["mean"].mean()
    grid = x.cells("x").merge(y.cells("y"), how="cross")
    return grid.assign(mean=_interpolated(trials, x, y).ravel())


@dataclass(frozen=True)
class _Axis:
    """A parameter as an axis.

    Attributes:
        choices: the values of a choice, each a band at the place of its index.
        low, high: ends of a range, on its own scale; places go from 0 to 1 between them.
        is_log: whether this scale is logarithmic.
        count: of cells.
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
        if parameter.int is not None:  # a number has half a step to either side, and a cell of its own where it fits
            return cls(None, low - 0.5, high + 0.5, False, min(cells, int(high - low) + 1))
        if parameter.log_uniform is not None:
            return cls(None, math.log(low), math.log(high), True, cells)
        return cls(None, low, high, False, cells)

    @property
    def middles(self) -> np.ndarray:
        """Places of the middles of cells."""
        return np.arange(self.count) if self.choices is not None else (np.arange(self.count) + 0.5) / self.count

    def places(self, values: list[Scalar]) -> np.ndarray:
        """Where values lie."""
        if self.choices is not None:
            texts = [repr(choice) for choice in self.choices]  # 1 and true are two choices
            return np.array([texts.index(repr(value)) for value in values], dtype=int)
        numbers = np.array(values, dtype=float)
        return ((np.log(numbers) if self.is_log else numbers) - self.low) / (self.high - self.low)

    def cells(self, side: str) -> pd.DataFrame:
        """A row a cell: its middle, and where it begins and ends."""
        if self.choices is not None:
            return pd.DataFrame({side: list(self.choices), f"{side}_low": np.nan, f"{side}_high": np.nan})
        edges = np.arange(self.count + 1) / self.count
        found = {side: self.middles, f"{side}_low": edges[:-1], f"{side}_high": edges[1:]}
        return pd.DataFrame({name: self._values(places) for name, places in found.items()})

    def _values(self, places: np.ndarray) -> np.ndarray:
        scaled = self.low + places * (self.high - self.low)
        return np.exp(scaled) if self.is_log else scaled


def _interpolated(trials: pd.DataFrame, x: _Axis, y: _Axis) -> np.ndarray:
    """The metric at the middles of cells, [A, B], from `x`, `y` and `mean` of trials."""
    if x.choices is None and y.choices is None:
        return _over_ranges(trials, x, y)
    mean_AB = np.full((x.count, y.count), np.nan)
    if x.choices is None:
        for band, part in trials.groupby("y"):
            mean_AB[:, int(band)] = _along(part["x"].to_numpy(), part["mean"].to_numpy(), x.middles)
    elif y.choices is None:
        for band, part in trials.groupby("x"):
            mean_AB[int(band)] = _along(part["y"].to_numpy(), part["mean"].to_numpy(), y.middles)
    else:
        mean_AB[trials["x"], trials["y"]] = trials["mean"]
    return mean_AB


def _over_ranges(trials: pd.DataFrame, x: _Axis, y: _Axis) -> np.ndarray:
    places_N2 = trials[["x", "y"]].to_numpy(dtype=float)
    middles_AB2 = np.stack(np.meshgrid(x.middles, y.middles, indexing="ij"), axis=-1)
    try:
        mean_AB: np.ndarray = LinearNDInterpolator(places_N2, trials["mean"].to_numpy())(middles_AB2)
    except (QhullError, ValueError):  # too few trials for a triangle, or all in one line
        return np.full(middles_AB2.shape[:2], np.nan)
    distance_AB, _ = KDTree(places_N2).query(middles_AB2)
    mean_AB[distance_AB > max(_LEAST_REACH, len(places_N2) ** -0.5)] = np.nan
    return mean_AB


def _along(places_N: np.ndarray, mean_N: np.ndarray, middles_A: np.ndarray) -> np.ndarray:
    """Along one band, [A]; places are sorted and differ."""
    mean_A: np.ndarray = np.interp(middles_A, places_N, mean_N, left=np.nan, right=np.nan)
    distance_A = np.abs(middles_A[:, None] - places_N).min(axis=1)
    mean_A[distance_A > max(_LEAST_REACH, 1 / len(places_N))] = np.nan
    return mean_A


def _rows(table: pd.DataFrame, spec: Spec, parameters: list[str], metric: str) -> pd.DataFrame:
    """Trials that have the parameters and the metric, which is there as a column."""
    for name in parameters:
        if name not in spec.space:
            raise UserError(
                f"no parameter {name!r} in the space of study {spec.name!r}; there are {', '.join(spec.space)}"
            )
    columns = [f"config/{name}" for name in parameters]
    missing = {name: np.nan for name in (*columns, metric, f"{metric}/ci") if name not in table}
    rows = table.assign(**missing).dropna(subset=[*columns, metric])
    return rows.sort_values("trial", ignore_index=True)


def _values(rows: pd.DataFrame, spec: Spec, parameter: str) -> list[Scalar]:
    return [as_spec(spec, parameter, value) for value in rows[f"config/{parameter}"]]
