"""Pictures of fits: the curve with its uncertainty, and the correlations of the parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem
from jaxgd._checks import check, check_trees
from jaxgd._trees import number_names, pack, unpack, working_dtype
from jaxgd.plot import _numbers, _style
from jaxgd.plot._style import Axes
from jaxgd.result import Result
from jaxgd.uncertainty import Covariance

_CURVE = 400  # points of the curve
_SIZE = 5.5  # of a marker
_SIGNS = 60  # parameters, up to which a negative cell has a sign, for prints without colours


def fit(
    model: Callable[[Any, Any], Any],
    result: Any,
    data: Any,
    *,
    ax: "Axes | None" = None,
    covariance: Covariance | None = None,
    sigma: float = 1.0,
) -> "Axes":
    """Draw the points, the fitted curve, and the band of its uncertainty.

    The band follows from the uncertainty of the parameters, to first order in them:

        variance(x) = J(x) C J(x)ᵀ          J = df / dparams, C the covariance

    It holds the curve f(x), and not new observations. There is none without a covariance or if that does not determine the curve.
    More than 2000 points have no error bars; where there are more than 5000, one of each small cell of the picture is drawn.

    Args:
        model: model(params, x) -> y for x of the shape in the data, written with `jax.numpy`.
        result: a `Result`, or parameters.
        data: (x, y) or (x, y, sigma_y): x of shape (n,) or (n, 1), y (n,), sigma_y its errors, (n,) or a number, drawn as bars.
        ax: the Axes to draw into; None makes a figure. Where its x axis is logarithmic, so are the steps of the curve.
        covariance: a `Covariance` of the parameters.
        sigma: half the width of the band in standard errors of the curve, > 0.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x, y = np.array([5, 15, 25, 35, 45, 55.0]), np.array([5, 20, 14, 32, 22, 38.0])
    >>> def line(params, x):
    ...     return params["offset"] + params["slope"] * x
    >>> def residuals(params, data):
    ...     return line(params, data[0]) - data[1]
    >>> start = {"offset": 0.0, "slope": 0.0}
    >>> result = jaxgd.minimize(lambda params, data: jnp.sum(residuals(params, data) ** 2), start, (x, y))
    >>> found = jaxgd.covariance(None, result.params, (x, y), residuals=residuals)
    >>> ax = jaxgd.plot.fit(line, result, (x, y), covariance=found, sigma=2)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['data', 'fit', 'fit ± 2 standard errors']
    """
    _style.needed()
    check.function("model", model, ("params", "x"), "a function, called as model(params, x)")
    check.positive("sigma", sigma)
    params = _numbers.one_run(result).params if isinstance(result, Result) else result
    _numbers.concrete("result", params, data)
    x, y, spread = _table(data)
    with _problem.precision(_numbers.dtype_of(params)) as to:
        params = check_trees.parameters("result", params, to)
        if covariance is not None and _numbers.one_covariance(covariance).names != number_names(params):
            mine, theirs = (", ".join(names[:5]) for names in (number_names(params), covariance.names))
            raise ValueError(f"covariance: expected that of the parameters {mine}, got that of {theirs}.")
        ax = _style.axes(ax)
        finite = x[np.isfinite(x)]
        spaced = np.geomspace if ax.get_xscale() == "log" and finite.min() > 0 else np.linspace
        at = spaced(finite.min(), finite.max(), _CURVE)
        inputs = jnp.asarray(at.reshape(-1, *np.shape(data[0])[1:]), working_dtype(params))
        curve, errors = _curve(model, params, inputs, covariance)
    size = _points(ax, x, y, spread)
    width = float(sigma) * errors
    banded = covariance is not None and bool(np.all(np.isfinite(width)))
    label = "fit" if banded or covariance is None else "fit (no band: the covariance does not determine it)"
    ax.plot(at, curve, color=_style.VERMILLION, linewidth=1.8, zorder=2.5, label=label)
    if banded:
        name = "fit ± 1 standard error" if sigma == 1 else f"fit ± {float(sigma):g} standard errors"
        ax.fill_between(at, curve - width, curve + width, color=_style.ORANGE, alpha=0.35, linewidth=0, zorder=2.4, label=name)
    ax.set(xlabel="x", ylabel="y")
    _style.ticks(ax)
    entries = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda entry: not entry[1].startswith("data"))
    ax.legend(*zip(*entries, strict=True), framealpha=0.85, markerscale=_SIZE / size)
    return ax


def _table(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the columns x, y and sigma_y, each (n,), the last one None if it is not there."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise TypeError(f"data: expected (x, y) or (x, y, sigma_y), got {check.show(data)}.")
    shape = np.shape(data[0])
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)) or 0 in shape:
        raise ValueError(f"data: expected x of shape (n,) or (n, 1), got shape {shape}.")
    columns = []
    for name, given in zip(("x", "y", "sigma_y"), data, strict=False):
        column = np.asarray(given, np.float64)
        if name == "sigma_y" and column.ndim == 0:
            column = np.full(shape[0], column)
        if column.size != shape[0]:
            raise ValueError(f"data: expected {shape[0]} numbers in {name}, one for each x, got shape {column.shape}.")
        columns.append(column.reshape(-1))
    if not np.any(np.isfinite(columns[0])):
        raise ValueError("data: expected finite numbers in x, got none.")
    return columns[0], columns[1], columns[2] if len(columns) == 3 else None


def _curve(model: Any, params: Any, x: jax.Array, covariance: Covariance | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve and its standard errors (zero without a covariance), each (m,)."""
    point = pack(params)

    def values(vector: jax.Array) -> jax.Array:
        y = jnp.asarray(model(unpack(vector, params), x))
        y = jnp.broadcast_to(y, len(x)) if y.ndim == 0 else y  # a constant
        if y.size != len(x):
            raise ValueError(f"model: expected a number for each x, {len(x)}, it returned shape {y.shape}.")
        return y.reshape(-1)

    if covariance is None:
        return np.asarray(values(point), np.float64), np.zeros(len(x))
    curve, change = jax.linearize(values, point)
    jacobian = np.asarray(jax.vmap(change)(jnp.eye(point.size, dtype=point.dtype)), np.float64).T
    variance = np.sum(jacobian @ np.asarray(covariance.matrix, np.float64) * jacobian, axis=1)
    return np.asarray(curve, np.float64), np.sqrt(np.maximum(variance, 0))


def _points(ax: "Axes", x: np.ndarray, y: np.ndarray, spread: np.ndarray | None) -> float:
    """Draw the data, over the curve if they are few and below it if many, and return their size."""
    kept = _numbers.cloud(x, y)
    size = float(np.clip(8 - 1.5 * np.log10(max(len(kept), 1)), 1.5, _SIZE))
    label = "data" if len(kept) > 0.5 * len(x) else f"data ({len(x):,} points, thinned)"
    style: dict[str, Any] = {"color": _style.ink(ax), "marker": "o", "markersize": size, "linestyle": "", "label": label}
    style |= {"zorder": 3} if len(kept) <= 500 else {"zorder": 2, "alpha": 0.35, "markeredgewidth": 0}
    if spread is not None and len(kept) <= 2000:
        ax.errorbar(x[kept], y[kept], spread[kept], elinewidth=0.8, capsize=0 if len(kept) > 50 else 2, **style)
    else:
        ax.plot(x[kept], y[kept], rasterized=len(kept) > 2000, **style)
    return size


def correlation(covariance: Covariance, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the matrix of correlations as a map: blue for -1, white for 0, vermillion for 1.

    Up to 12 parameters have numbers in their cells; up to 60 have a minus sign where a correlation is negative. Correlations that
    are not determined are hatched; parameters that are held have none. Names without room are left out at even steps.

    Args:
        covariance: a `Covariance`.
        ax: the Axes to draw into; None makes a figure, with a bar that explains the colours.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

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
    from matplotlib.colors import LinearSegmentedColormap

    covariance = _numbers.one_covariance(covariance)
    matrix = np.asarray(covariance.correlation, np.float64)
    names = [_style.pretty(name) for name in covariance.names]
    own = ax is None
    side = float(np.clip(2.8 + 0.36 * len(names), 3.6, 8.0))
    ax = _style.axes(ax, side + 0.8, side, closed=True)
    if np.any(np.isnan(matrix)):
        _style.hatch(ax)
    colors = LinearSegmentedColormap.from_list("correlation", ["#00508A", "white", "#A84A00"], N=257)
    image = ax.imshow(np.ma.masked_invalid(matrix), cmap=colors, vmin=-1, vmax=1, interpolation="nearest")
    last = len(matrix) - 0.5
    if len(matrix) <= _SIGNS:
        edges = np.arange(1, len(matrix)) - 0.5
        ax.hlines(edges, -0.5, last, color="white", linewidth=0.6)
        ax.vlines(edges, -0.5, last, color="white", linewidth=0.6)
    ax.set(xlim=(-0.5, last), ylim=(last, -0.5))
    room = min(ax.get_window_extent().width, ax.get_window_extent().height) / ax.figure.dpi * 72 * 0.72 / len(names)
    _ticks(ax, names, room)
    if len(names) <= 12 and room >= 20:
        size = float(np.clip(room / 5, 7, 10))
        for (row, column), value in np.ndenumerate(matrix):
            color = "white" if abs(value) > 0.6 else "black"
            text = "NaN" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"  # and no -0.00
            ax.text(column, row, text, color=color, fontsize=size, ha="center", va="center")
    elif len(names) <= _SIGNS:
        rows, columns = np.nonzero(matrix < -0.05)
        ax.plot(columns, rows, linestyle="", marker="_", color="black", markersize=0.35 * room, markeredgewidth=0.7, gid="negative")
    if own:
        _style.bar(image, ax, "correlation", ticks=[-1, -0.5, 0, 0.5, 1], shrink=0.8)
    return ax


def _ticks(ax: "Axes", names: list[str], room: float) -> None:
    """Name the rows and columns, or some of them at even steps, where each has a room in points."""
    size = float(np.clip(0.8 * room, 6.0, 8.0))
    places = np.arange(0, len(names), max(1, int(np.ceil(1.3 * size / room))))
    shown = [names[place] for place in places]
    across = max(map(len, shown)) * 0.65 * size < room * (places[1] if len(places) > 1 else 1)
    ax.set_xticks(places, shown, rotation=0 if across else 90, fontsize=size)
    ax.set_yticks(places, shown, fontsize=size)
    ax.tick_params(length=0 if len(places) == len(names) else 2)
