"""The cost of one or two parameters at many points, drawn as a curve or as filled contours below paths."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd import _problem
from jaxgd._checks import check_cost, check_trees
from jaxgd._compile.program import program_for
from jaxgd._frozen import FrozenParameters
from jaxgd._minimize import minimize
from jaxgd._objective.evaluation import trace_objective, value
from jaxgd._trees import is_parameter, parameters_of, unpack, working_dtype
from jaxgd.plot import _numbers, _style
from jaxgd.result import Result, Status

_TOGETHER = 2**22  # numbers in the largest array of the cost, for the points that are evaluated together
_IN_ALL = 2**31  # the same for all points of a surface, about two seconds
_EAGERLY = 1000  # points of a surface whose cost can't be traced
_SIDE = 33, 121  # points along each side of a surface
_CURVE = 600  # points of a curve
_LEVELS = 12
_NARROW = 100.0  # a ratio of the levels that 95 % and 5 % of the picture are below: 19 for a bowl, more for a steep valley
# From deep to high, light enough for a path to be read on every level, in even steps of lightness.
_DEEP, _HIGH = np.array([0.42, 0.58, 0.72]), np.array([0.98, 0.985, 0.99])


class Costs:
    """A cost to be called with many points at once, in the precision of a run.

    As many points as a limited memory allows are evaluated together by `jax.vmap`; they are evaluated one by one where the cost
    can't be mapped, and in a Python loop where it can't be traced.
    """

    def __init__(self, cost: Callable[..., Any], data: Any, result: Result) -> None:
        check_cost.signature(cost, ("params",) if data is None else ("params", "data"))
        self.cost, self.data, self.result = cost, data, result
        self.dtype = _numbers.dtype_of(parameters_of(result.params))
        self.has_aux = result.aux is not None
        with _problem.precision(self.dtype) as to:
            self.frozen = FrozenParameters.of(None, result.params)  # functions and the like
            self.like = jax.tree.map(jnp.asarray, self.frozen.free(result.params) if self.frozen else result.params)
            self.arrays: tuple[Any, ...] = () if data is None else (check_trees.data_arrays("data", data, to),)
            try:
                self.evaluate = self._value(jit=True)
                self.traced = True
            except TypeError:  # an error of another kind comes again, from the cost as it is
                self.evaluate = self._value(jit=False)
                self.traced = False

    def _value(self, *, jit: bool) -> Any:
        make = functools.partial(trace_objective, self.cost, self.like, value, has_aux=self.has_aux, fixed=self.frozen)
        self.arrays = _problem.settled(make, *self.arrays, jit=jit)
        return make(*self.arrays, jit=jit)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the costs, (n,) in 64 bits, at points (n, k) in the order of the parameters' leaves."""
        with _problem.precision(self.dtype):
            vectors = jnp.asarray(points, working_dtype(self.like))
            if not self.traced:
                return np.array([float(self.evaluate(unpack(vector, self.like), *self.arrays)) for vector in vectors])
            arguments = self.evaluate, vectors, self.like, self.arrays
            try:
                found = program_for(_together, *arguments)(*arguments)
            except NotImplementedError:
                found = program_for(_one_by_one, *arguments)(*arguments)
            return np.asarray(found, np.float64)

    @property
    def most(self) -> int:
        """Return the number of points that can be evaluated in about two seconds."""
        return max(_EAGERLY, _IN_ALL // max(1, self.evaluate.largest)) if self.traced else _EAGERLY

    def minimum(self) -> np.ndarray | None:
        """Return the minimum next to the best point of the run, or None if `minimize` finds none there for sure."""
        start = self.result.best.params
        rest = jax.tree.map(lambda leaf: not is_parameter(leaf), start) if self.frozen else None
        options: dict[str, Any] = {"fixed": rest, "dtype": self.dtype, "has_aux": self.has_aux, "jit": self.traced}
        found = minimize(self.cost, start, self.data, **options)
        return _numbers.flat(found.params) if found.converged or found.status is Status.STALLED else None


def _together(evaluate: Any, vectors: Any, like: Any, arrays: Any) -> Any:
    most = max(1, min(vectors.shape[0], _TOGETHER // max(1, evaluate.largest)))
    return lax.map(lambda vector: evaluate(unpack(vector, like), *arrays), vectors, batch_size=most)


def _one_by_one(evaluate: Any, vectors: Any, like: Any, arrays: Any) -> Any:
    return lax.map(lambda vector: evaluate(unpack(vector, like), *arrays), vectors)


class Ground:
    """The costs between two limits of one or two parameters."""

    def __init__(self, costs: Costs, low: np.ndarray, high: np.ndarray) -> None:
        self.costs, self.low, self.high = costs, low, high
        self.filled: Any = None
        self.logarithmic = False
        if len(low) == 1:
            self.axes = [np.linspace(low[0], high[0], min(_CURVE, costs.most))]
            self.values = costs(self.axes[0][:, None])
        else:
            side = int(np.clip(math.isqrt(costs.most), *_SIDE))
            self.axes = [np.linspace(*ends, side) for ends in zip(low, high, strict=True)]
            grid = np.stack(np.meshgrid(*self.axes), axis=-1)
            self.values = costs(grid.reshape(-1, 2)).reshape(side, side)

    def places(self, points: np.ndarray) -> np.ndarray:
        """Return the places of points (n, k) in the picture, (n, 2): on the curve, or the points themselves."""
        return points if len(self.low) == 2 else np.stack([points[:, 0], self.costs(points)], axis=1)

    def draw(self, ax: Any, names: tuple[str, ...], points: np.ndarray) -> None:
        """Draw the curve, limited to the costs of the points (n, k), or the contours, with names of the parameters."""
        ax.set(xlabel=names[0], xlim=(self.low[0], self.high[0]))
        if len(self.low) == 1:
            ax.plot(self.axes[0], self.values, color=_style.BLUE, linewidth=1.6, zorder=2, gid="cost")
            ax.set_ylabel("cost")
            self._limit(ax, points)
        else:
            self._fill(ax)
            ax.set(ylabel=names[1], ylim=(self.low[1], self.high[1]))
        _style.ticks(ax)

    def _limit(self, ax: Any, points: np.ndarray) -> None:
        """Limit a curve to the costs of points in the picture, and half as much again above them."""
        inside = points[(points[:, 0] >= self.low) & (points[:, 0] <= self.high)]
        reached = self.costs(inside[_numbers.cloud(inside[:, 0], inside[:, 0])])
        reached, values = reached[np.isfinite(reached)], self.values[np.isfinite(self.values)]
        if not reached.size or not values.size:
            return
        lowest, highest = min(values.min(), reached.min()), reached.max()
        top = max(highest, min(values.max(), highest + 0.5 * (highest - lowest)))
        room = 0.06 * (top - lowest) or 0.06 * abs(lowest) or 1.0
        ax.set_ylim(lowest - room, top + room)

    def _fill(self, ax: Any) -> None:
        finite = np.isfinite(self.values)
        if not np.all(finite):
            _style.hatch(ax)
        if not np.any(finite):
            return
        values = np.ma.masked_invalid(self.values)
        levels, self.logarithmic = _levels(self.values[finite])
        if self.logarithmic:
            values = values - values.min()
        above, below = bool(values.max() > levels[-1]), bool(values.min() < levels[0])
        extend = {(True, True): "both", (True, False): "max", (False, True): "min"}.get((above, below), "neither")
        share = np.linspace(0, 1, len(levels) - 1 + above + below)[:, None]
        colors = _DEEP + share * (_HIGH - _DEEP)
        self.filled = ax.contourf(*self.axes, values, levels=levels, colors=colors, extend=extend)
        ax.contour(*self.axes, values, levels=levels, colors=["0.45"], linewidths=0.35)

    def explain(self, ax: Any) -> None:
        """Draw a bar beside the Axes that explains the levels."""
        if self.filled is None:
            return
        bar = _style.bar(self.filled, ax, "cost above the lowest" if self.logarithmic else "cost")
        _style.ticks(bar.ax)
        if self.logarithmic:
            ticks = self.filled.levels[:: -(-len(self.filled.levels) // 8)]
            bar.set_ticks(ticks, labels=[_power(tick) for tick in ticks])


def _levels(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return levels for finite values, and whether they are logarithmic above the lowest, as a narrow valley needs them."""
    from matplotlib.ticker import MaxNLocator

    lowest, highest = float(values.min()), float(values.max())
    rise = values - lowest
    low, high = np.quantile(rise, [0.05, 0.95])
    if high > _NARROW * low:
        bottom, top = np.log10(np.quantile(rise[rise > 0], 0.003)), np.log10(rise.max())
        for digits, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 5), ((1,), 50)):
            powers = every * np.arange(math.floor(bottom / every), math.ceil(top / every) + 1)
            exponents = np.ravel(powers[:, None] + np.log10(digits))
            exponents = exponents[(exponents >= bottom) & (exponents <= top)]
            if 1 < len(exponents) <= _LEVELS:
                return 10.0**exponents, True
    if highest == lowest:
        room = abs(lowest) or 1.0
        return np.array([lowest - room, lowest + room]), False
    return np.unique(MaxNLocator(_LEVELS).tick_values(lowest, highest)), False


def _power(level: float) -> str:
    """Return a level that is one digit times a power of ten, as text."""
    if 1e-3 <= level < 1e4:
        return f"{level:.6g}"
    exponent = math.floor(math.log10(level) + 1e-9)
    digit = round(level / 10.0**exponent)
    factor = f"{digit} \\times " if digit > 1 else ""
    return f"${factor}10^{{{exponent}}}$"
