"""The correlations of fitted parameters."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgd.plot import _style
from jaxgd.uncertainty import Covariance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALL = 12  # parameters, up to which there are numbers in the cells
_SIGNS = 60  # up to which a negative cell has a sign, for prints without colours
_FONT = 8.0  # points


def correlation(covariance: Covariance, *, ax: "Axes | None" = None) -> "Axes":
    """The matrix of correlations as a map: blue for -1, white for 0, vermillion for 1.

    Up to 12 parameters have numbers in their cells; up to 60 a minus sign where a correlation is negative. What is not determined
    is hatched; what is held has no correlations. Of more names than there is room for, every second or third or so is shown.

    Args:
        covariance: a `Covariance`.
        ax: the Axes to draw into; None makes a figure, with a bar that explains the colours.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.
        ImportError: without matplotlib.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x, y = np.array([5, 15, 25, 35, 45, 55.0]), np.array([5, 20, 14, 32, 22, 38.0])
    >>> def residuals(line, data):
    ...     return line["offset"] + line["slope"] * data[0] - data[1]
    >>> found = jaxgd.covariance(None, {"offset": 5.63, "slope": 0.54}, (x, y), residuals=residuals)
    >>> ax = jaxgd.plot.correlation(found)
    >>> [text.get_text() for text in ax.texts]
    ['1.00', '-0.87', '-0.87', '1.00']
    """
    _style.needed()
    covariance = _style.one_covariance(covariance)
    matrix = _style.numbers(covariance.correlation)
    names = [_style.pretty(name) for name in covariance.names]
    own = ax is None
    side = float(np.clip(2.8 + 0.36 * len(names), 3.6, 8.0))
    ax = _style.framed(_style.axes(ax, side + 0.8, side), closed=True) if own else _style.axes(ax)
    image = _cells(ax, matrix)
    room = min(ax.get_window_extent().width, ax.get_window_extent().height) / ax.figure.dpi * 72 * 0.72 / len(names)
    _ticks(ax, names, room)
    if len(names) <= _SMALL and room >= 20:
        _values(ax, matrix, float(np.clip(room / 5, 7, 10)))
    elif len(names) <= _SIGNS:
        rows, columns = np.nonzero(matrix < -0.05)
        ax.plot(columns, rows, linestyle="", marker="_", color="black", markersize=0.35 * room, markeredgewidth=0.7, gid="negative")
    if own:
        _style.bar(image, ax, "correlation", ticks=[-1, -0.5, 0, 0.5, 1], shrink=0.8)
    return ax


def _cells(ax: "Axes", matrix: np.ndarray) -> Any:
    """Draw the cells; where they are NaN, what is behind shows."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("correlation", ["#00508A", "white", "#A84A00"], N=257)
    colors = colors.with_extremes(bad=(0, 0, 0, 0))
    if np.any(np.isnan(matrix)):
        _style.hatched(ax)
    image = ax.imshow(np.ma.masked_invalid(matrix), cmap=colors, vmin=-1, vmax=1, interpolation="nearest")
    if len(matrix) <= _SIGNS:
        edges = np.arange(len(matrix) - 1) + 0.5
        ax.hlines(edges, -0.5, len(matrix) - 0.5, color="white", linewidth=0.6)
        ax.vlines(edges, -0.5, len(matrix) - 0.5, color="white", linewidth=0.6)
    ax.set(xlim=(-0.5, len(matrix) - 0.5), ylim=(len(matrix) - 0.5, -0.5))
    return image


def _ticks(ax: "Axes", names: list[str], room: float) -> None:
    """Name the rows and columns, or as many of them as have room, in points."""
    size = float(np.clip(0.8 * room, 6.0, _FONT))
    places = np.arange(0, len(names), max(1, int(np.ceil(1.3 * size / room))))
    shown = [names[place] for place in places]
    across = max(map(len, shown)) * 0.65 * size < room * (places[1] if len(places) > 1 else 1)
    ax.set_xticks(places, shown, rotation=0 if across else 90, fontsize=size)
    ax.set_yticks(places, shown, fontsize=size)
    ax.tick_params(length=0 if len(places) == len(names) else 2)


def _values(ax: "Axes", matrix: np.ndarray, size: float) -> None:
    """Write the numbers into the cells."""
    for (row, column), value in np.ndenumerate(matrix):
        color = "white" if abs(value) > 0.6 else "black"
        text = "NaN" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"  # and no -0.00
        ax.text(column, row, text, color=color, fontsize=size, ha="center", va="center")
