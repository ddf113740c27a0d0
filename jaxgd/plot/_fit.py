"""A fitted curve with its points and its uncertainty."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem
from jaxgd._checks import check, check_trees
from jaxgd._trees import number_names, pack, unpack, working_dtype
from jaxgd.plot import _style, _thin
from jaxgd.result import Result
from jaxgd.uncertainty import Covariance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CURVE = 400  # points of the curve
_BARS = 2000  # points with error bars at most
_SIZE = 5.5  # of a marker


def fit(
    model: Callable[[Any, Any], Any],
    result: Any,
    data: Any,
    *,
    ax: "Axes | None" = None,
    covariance: Covariance | None = None,
    sigma: float = 1.0,
) -> "Axes":
    """The points, the fitted curve, and the band of its uncertainty.

    The band is what the uncertainty of the parameters makes of the curve f(x), to first order:

        variance(x) = J(x) C J(x)ᵀ          J = df / dparams, C the covariance

    It holds the curve, and not new observations. Without a covariance, or where that does not determine the curve, there is none.
    Of more than 5000 points one of each small cell of the picture is drawn; more than 2000 are drawn without error bars.

    Args:
        model: model(params, x) -> y for x of the shape that the data have, written with `jax.numpy`.
        result: a `Result`, or parameters.
        data: (x, y) or (x, y, sigma_y): x of shape (n,) or (n, 1), y of shape (n,), sigma_y the standard deviations of y, (n,) or a
            number, drawn as error bars.
        ax: the Axes to draw into; None makes a figure. Where its x axis is logarithmic, so are the steps of the curve.
        covariance: a `Covariance` of the parameters.
        sigma: half the width of the band in standard errors of the curve, > 0.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.
        ImportError: without matplotlib.

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
    check.scalar("sigma", sigma)
    check.positive("sigma", sigma)
    params = _style.one_run(result).params if isinstance(result, Result) else result
    _style.concrete("result", params, data)
    x, y, spread = _table(data)
    wide = any(np.asarray(leaf).dtype == np.float64 for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype"))
    with _problem.precision("float64" if wide else None) as to:
        params = check_trees.parameters("result", params, to)
        _check_covariance(covariance, params)
        ax = _style.axes(ax)
        ends = np.min(x, initial=np.inf, where=np.isfinite(x)), np.max(x, initial=-np.inf, where=np.isfinite(x))
        at = np.geomspace(*ends, _CURVE) if ax.get_xscale() == "log" and ends[0] > 0 else np.linspace(*ends, _CURVE)
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
    _style.powers(ax.xaxis)
    _style.powers(ax.yaxis)
    entries = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda entry: not entry[1].startswith("data"))
    ax.legend(*zip(*entries, strict=True), framealpha=0.85, markerscale=_SIZE / size)
    return ax


def _table(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The columns x, y and, if it is there, sigma_y, each (n,)."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise TypeError(f"data: expected (x, y) or (x, y, sigma_y), got {check.show(data)}.")
    shape = np.shape(data[0])
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)) or 0 in shape:
        raise ValueError(f"data: expected x of shape (n,) or (n, 1), got shape {shape}.")
    columns = [_style.numbers(column) for column in data]
    columns[2:] = [np.broadcast_to(column, shape[:1]) for column in columns[2:] if column.ndim == 0] or columns[2:]
    for name, column in zip(("x", "y", "sigma_y"), columns, strict=False):
        if column.size != shape[0]:
            raise ValueError(f"data: expected {shape[0]} numbers in {name}, one for each x, got shape {column.shape}.")
    x, y, *spread = (column.reshape(-1) for column in columns)
    if not np.any(np.isfinite(x)):
        raise ValueError("data: expected finite numbers in x, got none.")
    return x, y, spread[0] if spread else None


def _check_covariance(covariance: Any, params: Any) -> None:
    """Check that a covariance is one of these parameters."""
    if covariance is None:
        return
    covariance = _style.one_covariance(covariance)
    if covariance.names != number_names(params):
        mine, theirs = (", ".join(names[:5]) for names in (number_names(params), covariance.names))
        raise ValueError(f"covariance: expected that of the parameters {mine}, got that of {theirs}.")


def _curve(model: Any, params: Any, x: jax.Array, covariance: Covariance | None) -> tuple[np.ndarray, np.ndarray]:
    """The curve, and its standard errors (zero without a covariance), each (m,)."""
    point = pack(params)

    def values(vector: jax.Array) -> jax.Array:
        y = jnp.asarray(model(unpack(vector, params), x))
        y = jnp.broadcast_to(y, len(x)) if y.ndim == 0 else y  # a constant
        if y.size != len(x):
            raise ValueError(f"model: expected a number for each x, {len(x)}, it returned shape {y.shape}.")
        return y.reshape(-1)

    curve = _style.numbers(values(point))
    if covariance is None:
        return curve, np.zeros_like(curve)
    basis = jnp.eye(point.size, dtype=point.dtype)

    def column(direction: jax.Array) -> jax.Array:
        return jax.jvp(values, (point,), (direction,))[1]

    try:
        jacobian = _style.numbers(jax.vmap(column)(basis)).T
    except TypeError:  # a model that looks at values can be differentiated, but not mapped
        jacobian = np.stack([_style.numbers(column(direction)) for direction in basis], axis=1)
    variance = np.sum(jacobian @ _style.numbers(covariance.matrix) * jacobian, axis=1)
    return curve, np.sqrt(np.maximum(variance, 0))


def _points(ax: "Axes", x: np.ndarray, y: np.ndarray, spread: np.ndarray | None) -> float:
    """Draw the data, few of them over the curve and many below it, and return the size of their markers."""
    kept = _thin.cloud(x, y)
    size = float(np.clip(8 - 1.5 * np.log10(max(len(kept), 1)), 1.5, _SIZE))
    label = "data" if len(kept) > 0.5 * len(x) else f"data ({len(x):,} points, thinned)"
    style: dict[str, Any] = {"color": _style.ink(ax), "marker": "o", "markersize": size, "linestyle": "", "label": label}
    style |= {"zorder": 3} if len(kept) <= 500 else {"zorder": 2, "alpha": 0.35, "markeredgewidth": 0}
    if spread is not None and len(kept) <= _BARS:
        ax.errorbar(x[kept], y[kept], spread[kept], elinewidth=0.8, capsize=0 if len(kept) > 50 else 2, **style)
    else:
        ax.plot(x[kept], y[kept], rasterized=len(kept) > 2000, **style)
    return size
