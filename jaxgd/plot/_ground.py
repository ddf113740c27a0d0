"""The cost as a curve or as filled contours, for paths to be drawn on."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgd.plot import _style, _thin
from jaxgd.plot._surface import Costs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIDE = 33, 121  # points along each side of a surface
_CURVE = 600  # points of a curve
_LEVELS = 12
_NARROW = 100.0  # of a bowl's levels, the ratio that 95 and 5 % of the picture are below, is 19; of a steep valley it is more
# From deep to high, light enough for a path to be read on every level, in even steps of lightness.
_DEEP, _HIGH = np.array([0.42, 0.58, 0.72]), np.array([0.98, 0.985, 0.99])


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
        """Where points (n, k) are in the picture, (n, 2): on the curve, or as they are."""
        return points if len(self.low) == 2 else np.stack([points[:, 0], self.costs(points)], axis=1)

    def draw(self, ax: "Axes", names: tuple[str, ...]) -> None:
        """Draw it, with the parameters' names at the axes."""
        if len(self.low) == 1:
            ax.plot(self.axes[0], self.values, color=_style.BLUE, linewidth=1.6, zorder=2, gid="cost")
            ax.set(xlabel=names[0], ylabel="cost", xlim=(self.low[0], self.high[0]))
        else:
            self._fill(ax)
            ax.set(xlabel=names[0], ylabel=names[1], xlim=(self.low[0], self.high[0]), ylim=(self.low[1], self.high[1]))
        _style.powers(ax.xaxis)
        _style.powers(ax.yaxis)

    def frame(self, ax: "Axes", points: np.ndarray) -> None:
        """Limit a curve to the costs at some points (n, k), of which those in the picture count, and half as much again."""
        if len(self.low) == 2:
            return
        inside = points[(points[:, 0] >= self.low) & (points[:, 0] <= self.high)]
        reached = self.costs(inside[_thin.cloud(inside[:, 0], inside[:, 0])])
        reached, values = reached[np.isfinite(reached)], self.values[np.isfinite(self.values)]
        if not reached.size or not values.size:
            return
        lowest, highest = min(values.min(), reached.min()), reached.max()
        top = max(highest, min(values.max(), highest + 0.5 * (highest - lowest)))
        room = 0.06 * (top - lowest) or 0.06 * abs(lowest) or 1.0
        ax.set_ylim(lowest - room, top + room)

    def _fill(self, ax: "Axes") -> None:
        finite = np.isfinite(self.values)
        if not np.all(finite):
            _style.hatched(ax)
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
        """Put a bar beside the Axes that says what the levels are."""
        if self.filled is None:
            return
        bar = _style.bar(self.filled, ax, "cost above the lowest" if self.logarithmic else "cost")
        _style.powers(bar.ax.yaxis)
        if self.logarithmic:
            ticks = self.filled.levels[:: -(-len(self.filled.levels) // 8)]
            bar.set_ticks(ticks, labels=[_power(tick) for tick in ticks])


def _levels(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Levels for finite values, and whether they are powers of ten above the lowest, as a narrow valley needs them."""
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
    """A level that is one digit times a power of ten, as text."""
    if 1e-3 <= level < 1e4:
        return f"{level:.6g}"
    exponent = math.floor(math.log10(level) + 1e-9)
    digit = round(level / 10.0**exponent)
    factor = f"{digit} \\times " if digit > 1 else ""
    return f"${factor}10^{{{exponent}}}$"
