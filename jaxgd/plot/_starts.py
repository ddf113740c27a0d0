"""Where the runs from many starts ended."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgd._checks import check
from jaxgd.plot import _style, _thin
from jaxgd.result import Result, Starts, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {  # of ends, by how their sentences begin: a colour and a marker
    "Converged": (_style.BLUE, "o"),
    "Not converged": (_style.ORANGE, "s"),
    "Stalled": (_style.GREEN, "^"),
    "Diverged": (_style.VERMILLION, "X"),
}
_OTHERS = _style.PURPLE, "D"


def starts(result: Result | Starts, *, ax: "Axes | None" = None, log: bool | None = None) -> "Axes":
    """The final costs of many starts, sorted: each step of the stairs is a minimum, its width how many starts found it.

    The colour and the marker of a point say how its run ended, and the legend how many did. What is not finite, or diverged far
    above all others, is at the upper edge. The scale is logarithmic where all costs are positive and most would otherwise lie at
    the foot.

    Args:
        result: the `Result` of `minimize` with `n_starts`, or its `starts`.
        ax: the Axes to draw into; None makes a figure.
        log: whether the costs are on a logarithmic scale; None says so where it helps.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.
        ImportError: without matplotlib.

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
    costs, codes = _ends(result)
    order = np.lexsort((np.arange(len(costs)), np.where(np.isfinite(costs), costs, np.inf)))
    costs, codes = costs[order], codes[order]
    top = _top(costs, codes)
    inside = np.isfinite(costs) & (costs <= top)
    shown = costs[inside]
    ax = _style.axes(ax)
    if log is True or (log is None and _at_the_foot(shown)):
        ax.set_yscale("log")
    _points(ax, costs, codes, inside)
    if shown.size:
        _style.best(ax, 1, shown[0], f"best: {shown[0]:.6g}")
    ax.set(xlabel="start, in the order of the final costs", ylabel="cost at the end")
    _style.counted(ax.xaxis)
    _style.powers(ax.yaxis)
    if not shown.size:
        ax.set_yticks([])
    ax.set_xlim(1 - 0.03 * max(len(costs), 8), len(costs) + 0.03 * max(len(costs), 8))
    ax.legend(loc="upper left", framealpha=0.85, fontsize="small")
    return ax


def _ends(result: Any) -> tuple[np.ndarray, np.ndarray]:
    """The final costs and the numbers of the statuses, each (n,)."""
    ends = result.starts if isinstance(result, Result) else result
    if not isinstance(ends, Starts):
        got = "one of a single start" if isinstance(result, Result) else check.show(result)
        raise TypeError(f"result: expected the Result of minimize with n_starts of at least 2, got {got}.")
    _style.concrete("result", ends)
    costs = _style.numbers(ends.cost)
    if costs.ndim != 1:
        raise ValueError(f"result: expected that of one call, got costs of shape {costs.shape}.")
    return costs, np.asarray(ends.code)


def _top(costs: np.ndarray, codes: np.ndarray) -> float:
    """The cost above which ends are moved to the edge: far above all that did not diverge."""
    staying = costs[np.isfinite(costs) & (codes != Status.DIVERGED.code)]
    if not staying.size:
        return np.inf
    with np.errstate(over="ignore"):  # no edge then
        return float(staying.max() + (np.ptp(staying) or abs(staying.max()) or 1.0))


def _at_the_foot(shown: np.ndarray) -> bool:
    """Whether most costs, of those that are told from the best, would lie within 2 % of a linear scale, and all are positive."""
    if not shown.size or shown[0] <= 0:
        return False
    rise = shown - shown[0]
    rise = rise[rise > 1e-6 * rise[-1]]
    return bool(rise.size and np.median(rise) < 0.02 * rise[-1])


def _points(ax: "Axes", costs: np.ndarray, codes: np.ndarray, inside: np.ndarray) -> None:
    """Draw the ends, with a colour and a marker for each way to end."""
    kinds = [status.value.split(":")[0].split(" by ")[0].split(" from ")[0].rstrip(".") for status in Status]
    rank = np.arange(1, len(costs) + 1)
    present = sorted({kinds[code] for code in np.unique(codes)}, key=lambda kind: list(_KINDS).index(kind) if kind in _KINDS else 9)
    size = float(np.clip(10 - 2 * np.log10(len(costs)), 3.5, 7.5))
    heights = np.where(inside, np.log(costs, where=inside, out=costs.copy()) if ax.get_yscale() == "log" else costs, np.nan)
    kept = _thin.cloud(rank, heights)
    for kind in present:
        color, marker = _KINDS.get(kind, _OTHERS)
        mine = np.isin(codes, [code for code, other in enumerate(kinds) if other == kind])
        low, high = kept[mine[kept]], np.flatnonzero(mine & ~inside)
        high = high[_thin.envelope(np.zeros(len(high)), max(10, 60 * len(high) // len(costs)))]
        style: dict[str, Any] = {"linestyle": "", "marker": marker, "markersize": size, "color": color, "markeredgewidth": 0.3}
        style["markeredgecolor"] = ax.get_facecolor()
        label = f"{kind.lower()}: {int(np.sum(mine)):,}" + _note(mine & ~inside, costs)
        ax.plot([], [], label=label, **{**style, "markersize": 6.5})
        ax.plot(rank[low], costs[low], rasterized=len(low) > 2000, gid="ends", **style)
        if high.size:  # without points it would count as one at the corner of the figure when a layout is made
            ax.plot(rank[high], np.ones(len(high)), transform=ax.get_xaxis_transform(), clip_on=False, gid="edge", **style)


def _note(edge: np.ndarray, costs: np.ndarray) -> str:
    """What is at the edge, in words."""
    lost = int(np.sum(edge & ~np.isfinite(costs)))
    beyond = int(np.sum(edge)) - lost
    notes = ", ".join(f"{count:,} {what}" for count, what in ((lost, "not finite"), (beyond, "far above")) if count)
    return f"\nat the edge: {notes}" if notes else ""
