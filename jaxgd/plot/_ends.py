"""Pictures of the costs at the end of many runs: over the starts, and over the learning rates."""

from typing import Any

import numpy as np

from jaxgd._checks import check
from jaxgd.plot import _numbers, _style
from jaxgd.plot._style import Axes
from jaxgd.result import Result, Starts, Status
from jaxgd.sweep import Sweep

_KINDS = {  # a colour and a marker for each kind of end, named as its sentence begins
    "Converged": (_style.BLUE, "o"),
    "Not converged": (_style.ORANGE, "s"),
    "Stalled": (_style.GREEN, "^"),
    "Diverged": (_style.VERMILLION, "X"),
}


def starts(result: Result | Starts, *, ax: "Axes | None" = None, log: bool | None = None) -> "Axes":
    """Draw the final costs of many starts, sorted.

    Each step of the stairs is a minimum, and its width is how many starts found it. The colour and the marker of a point say how
    its run ended, and the legend how many runs ended so. Costs that are not finite, or that diverged far above all others, are at
    the upper edge. The scale is logarithmic where all costs are positive and most would otherwise lie at the foot. Costs beyond
    ±1e307, or on a logarithmic scale beyond 1e-200 and 1e200, are drawn there.

    Args:
        result: the `Result` of `minimize` with `n_starts`, or its `starts`.
        ax: the Axes to draw into; None makes a figure.
        log: whether the costs are on a logarithmic scale; None chooses it where it helps.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jax.numpy as jnp, jaxgd
    >>> def cost(v):
    ...     return v**4 - 5 * v**2 - 3 * v
    >>> result = jaxgd.minimize(cost, jaxgd.normal(scale=3.0), key=0, n_starts=50)
    >>> ax = jaxgd.plot.starts(result)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['converged: 50', 'best: -11.2003']
    """
    _style.needed()
    if log is not None:
        check.flag("log", log)
    ends = result.starts if isinstance(result, Result) else result
    if not isinstance(ends, Starts):
        got = "one of a single start" if isinstance(result, Result) else check.show(result)
        raise TypeError(f"result: expected the Result of minimize with n_starts of at least 2, got {got}.")
    _numbers.concrete("result", ends)
    costs, codes = np.asarray(ends.cost, np.float64), np.asarray(ends.code)
    if costs.ndim != 1:
        raise ValueError(f"result: expected that of one call, got costs of shape {costs.shape}.")
    order = np.argsort(np.where(np.isfinite(costs), costs, np.inf), kind="stable")
    costs, codes = costs[order], codes[order]
    inside = _within_reach(costs, codes)
    shown = costs[inside]
    ax = _style.axes(ax)
    if log is True or (log is None and _at_the_foot(shown)):
        ax.set_yscale("log")
    heights = _numbers.drawable(np.where(inside, costs, np.nan), log=ax.get_yscale() == "log")
    _points(ax, costs, heights, codes)
    if shown.size:
        _best(ax, 1, heights[0], shown[0])
    else:
        ax.set_yticks([])
    ax.set(xlabel="start, in the order of the final costs", ylabel="cost at the end")
    _style.ticks(ax, counts=True)
    room = 0.03 * max(len(costs), 8)
    ax.set_xlim(1 - room, len(costs) + room)
    ax.legend(loc="upper left", framealpha=0.85, fontsize="small")
    return ax


def _within_reach(costs: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return which costs are finite and not far above all runs that did not diverge."""
    finite = np.isfinite(costs)
    staying = costs[finite & (codes != Status.DIVERGED.code)]
    if not staying.size:
        return finite
    lowest, highest = float(staying.min()), float(staying.max())  # Python numbers overflow without a warning
    return finite & (costs <= highest + (highest - lowest or abs(highest) or 1.0))


def _at_the_foot(shown: np.ndarray) -> bool:
    """Return whether costs are positive, and most above the best within the lowest 2 % of a linear scale."""
    if not shown.size or shown[0] <= 0:
        return False
    rise = shown - shown[0]
    rise = rise[rise > 1e-6 * rise[-1]]
    return bool(rise.size and np.median(rise) < 0.02 * rise[-1])


def _points(ax: "Axes", costs: np.ndarray, heights: np.ndarray, codes: np.ndarray) -> None:
    """Draw the ends, with a colour and a marker for each way to end; NaN heights go to the edge."""
    kinds = [status.value.split(":")[0].split(" by ")[0].split(" from ")[0].rstrip(".") for status in Status]
    rank = np.arange(1, len(costs) + 1)
    size = float(np.clip(10 - 2 * np.log10(len(costs)), 3.5, 7.5))
    kept = _numbers.cloud(rank, np.log(heights) if ax.get_yscale() == "log" else heights)
    for kind in dict.fromkeys([*_KINDS, *kinds]):
        mine = np.isin(codes, [code for code, other in enumerate(kinds) if other == kind])
        if not np.any(mine):
            continue
        look = _KINDS.get(kind, (_style.PURPLE, "D"))
        low, high = kept[mine[kept]], np.flatnonzero(mine & np.isnan(heights))
        lost = int(np.sum(~np.isfinite(costs[high])))
        counts = {"not finite": lost, "far above": len(high) - lost}
        notes = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        label = f"{kind.lower()}: {int(np.sum(mine)):,}" + (f"\nat the edge: {notes}" if notes else "")
        _style.marks(ax, [], [], *look, 6.5, markeredgewidth=0.3, label=label)
        _style.marks(ax, rank[low], heights[low], *look, size, markeredgewidth=0.3, gid="ends")
        if high.size:  # without points it would count as one at the corner of the figure when a layout is made
            _at_the_edge(ax, rank[high], max(10, 60 * len(high) // len(costs)), *look, size, markeredgewidth=0.3, gid="edge")


def sweep(sweep: Sweep, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the cost at the end of a run over its learning rate, both logarithmic, and mark the best.

    Runs that diverged are marked at the upper edge, and so are those that ended far above the run with the lowest rate, which moved
    least from the start. Where a cost is negative the scale of the costs is linear; zeros are at the lower edge. Costs
    beyond 1e-200 and 1e200, or on a linear scale beyond ±1e307, are drawn there.

    Args:
        sweep: the `Sweep` that `learning_rate_sweep` returned.
        ax: the Axes to draw into; None makes a figure.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.linspace(0, 1, 100)
    >>> cost = lambda slope, batch: jnp.mean((slope * batch - 3 * batch) ** 2)
    >>> rates = [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]
    >>> found = jaxgd.learning_rate_sweep(cost, 0.0, x, batch_size=10, n_epochs=5, learning_rates=rates, key=0)
    >>> ax = jaxgd.plot.sweep(found)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['best: 1', 'diverged or far above: 2']
    """
    _style.needed()
    if not isinstance(sweep, Sweep):
        raise TypeError(f"sweep: expected what jaxgd.learning_rate_sweep returns, got {check.show(sweep)}.")
    _numbers.concrete("sweep", sweep)
    rates, costs = np.asarray(sweep.learning_rate, np.float64), np.asarray(sweep.cost, np.float64)
    order = np.argsort(rates, kind="stable")
    rates, costs = rates[order], costs[order]
    inside = _near_the_first(costs)
    known = costs[inside]
    ax = _style.axes(ax)
    ax.set_xscale("log")
    if known.size:
        edge = None
        if np.any(known > 0) and not np.any(known < 0):
            ax.set_yscale("log")
            edge = _numbers.floor(known)
        heights = np.where(inside, costs if edge is None else np.where(costs == 0, edge, costs), np.nan)
        heights = _numbers.drawable(heights, log=ax.get_yscale() == "log")
        kept, best = _numbers.envelope(heights), np.nanargmin(np.where(inside, costs, np.nan))
        marker = "o" if len(kept) <= 100 else ""
        ax.plot(rates[kept], heights[kept], marker=marker, markersize=4.5, linewidth=1.4, color=_style.BLUE, gid="cost")
        _best(ax, rates[best], heights[best], rates[best])
        if edge is not None:
            ax.set_ylim(bottom=edge)
    else:
        ax.set_yticks([])
    if not np.all(inside):
        lost = rates[~inside]
        _at_the_edge(ax, lost, 100, _style.VERMILLION, "X", 7, label=f"diverged or far above: {len(lost):,}")
    ax.set(xlabel="learning rate", ylabel="cost at the end")
    _style.ticks(ax)
    ax.legend(framealpha=0.85)
    return ax


def _near_the_first(costs: np.ndarray) -> np.ndarray:
    """Return which costs are finite and not far above that of the lowest rate."""
    finite = np.isfinite(costs)
    if not np.any(finite):
        return finite
    first, lowest = float(costs[finite][0]), float(costs[finite].min())
    return finite & (costs <= first + 9 * max(abs(first), first - lowest))


def _best(ax: "Axes", x: float, y: float, named: float) -> None:
    """Mark the best point with a star, and name one of its numbers in the legend."""
    style: dict[str, Any] = {"markeredgecolor": _style.ink(ax), "zorder": 5, "clip_on": False}
    _style.marks(ax, [x], [y], _style.ORANGE, "*", 15, label=f"best: {named:.6g}", **style)


def _at_the_edge(ax: "Axes", x: np.ndarray, most: int, color: Any, marker: str, size: float, **style: Any) -> None:
    """Draw marks at the upper edge, `most` of them where there are more."""
    few = x[_numbers.envelope(np.zeros(len(x)), most)]
    style |= {"transform": ax.get_xaxis_transform(), "clip_on": False}
    _style.marks(ax, few, np.ones(len(few)), color, marker, size, **style)
