"""The cost at the end over the learning rate."""

from typing import TYPE_CHECKING

import numpy as np

from jaxgd._checks import check
from jaxgd.plot import _scale, _style, _thin
from jaxgd.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def sweep(sweep: Sweep, *, ax: "Axes | None" = None) -> "Axes":
    """The cost at the end of a run over its learning rate, both logarithmic, the best marked.

    Runs that diverged, and those that ended far above the one with the lowest rate, which moved least from the start, are marked at
    the upper edge. Where a cost is negative its scale is linear; zeros are at the lower
    edge.

    Args:
        sweep: the `Sweep` that `learning_rate_sweep` returned.
        ax: the Axes to draw into; None makes a figure.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.
        ImportError: without matplotlib.

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
    _style.concrete("sweep", sweep)
    rates, costs = _style.numbers(sweep.learning_rate), _style.numbers(sweep.cost)
    order = np.argsort(rates, kind="stable")
    rates, costs = rates[order], costs[order]
    inside = _inside(costs)
    ax = _style.axes(ax)
    ax.set_xscale("log")
    _line(ax, rates, np.where(inside, costs, np.nan))
    if not np.all(inside):
        lost = np.flatnonzero(~inside)
        few = lost[_thin.envelope(np.zeros(len(lost)), 100)]
        mark = {"marker": "X", "markersize": 7, "color": _style.VERMILLION, "markeredgecolor": ax.get_facecolor(), "linestyle": ""}
        label = f"diverged or far above: {len(lost):,}"
        ax.plot(rates[few], np.ones(len(few)), transform=ax.get_xaxis_transform(), clip_on=False, label=label, **mark)
    ax.set(xlabel="learning rate", ylabel="cost at the end")
    _style.powers(ax.yaxis)
    if not np.any(inside):
        ax.set_yticks([])
    ax.legend(framealpha=0.85)
    return ax


def _inside(costs: np.ndarray) -> np.ndarray:
    """Which costs are in the picture: finite ones that are not far above that of the lowest rate."""
    finite = np.isfinite(costs)
    if not np.any(finite):
        return finite
    first, lowest = costs[finite][0], costs[finite].min()
    with np.errstate(over="ignore"):  # what is above infinity is no edge
        return finite & (costs <= first + 9 * max(abs(first), first - lowest))


def _line(ax: "Axes", rates: np.ndarray, costs: np.ndarray) -> None:
    """Draw the costs, NaN for those that are not in the picture, with the best."""
    known = costs[~np.isnan(costs)]
    if not known.size:
        return
    edge = None
    if np.any(known > 0) and not np.any(known < 0):
        ax.set_yscale("log")
        edge = _scale.floor(known)
    values = costs if edge is None else np.where(costs == 0, edge, costs)
    kept, best = _thin.envelope(values), np.nanargmin(costs)
    marker = "o" if len(kept) <= 100 else ""
    ax.plot(rates[kept], values[kept], marker=marker, markersize=4.5, linewidth=1.4, color=_style.BLUE, gid="cost")
    _style.best(ax, rates[best], values[best], f"best: {rates[best]:.6g}")
    if edge is not None:
        ax.set_ylim(bottom=edge)
