"""The picture of the decision boundary of a classifier of two variables."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem
from jaxgd._checks import check
from jaxgd.plot import _numbers, _style
from jaxgd.plot._style import Axes

_SIDE = 241  # points along each side of the plane
_SIZE = 6.5  # of a marker


def decision_boundary(
    predict: Callable[[Any, Any], Any],
    params: Any,
    data: Any,
    *,
    ax: "Axes | None" = None,
    level: float = 0.5,
    labels: Any = None,
) -> "Axes":
    """Draw the regions of the classes, the boundary between them, and the points with their true classes.

    Where there are more than 5000 points, one of each small cell of the plane is drawn, at random.

    Args:
        predict: predict(params, x) for x of shape (n, columns). It returns a number for each row, such as a probability, above
            `level` for the upper class; or scores (n, k) of k classes, of which the highest wins; or integers, the classes.
        params: the parameters, such as `result.params`: whatever `predict` takes.
        data: (x, y): x of shape (n, 2), or of more columns of which all but two are constant; y (n,) the classes.
        ax: the Axes to draw into; None makes a figure.
        level: where a number for each row divides two classes.
        labels: the names of the classes: as many as there are, in ascending order of the classes, or a dict class -> name.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jax, jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (x[:, 0] > x[:, 1]).astype(int)
    >>> def probability(w, x):
    ...     return jax.nn.sigmoid(x @ w)
    >>> ax = jaxgd.plot.decision_boundary(probability, jnp.array([3.0, -3.0]), (x, y), labels=["no", "yes"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['no', 'yes']
    """
    _style.needed()
    check.function("predict", predict, ("params", "x"), "a function, called as predict(params, x)")
    _numbers.concrete("params", params, data)
    check.scalar("level", level)
    x, y, columns, axis_names = _table(data)
    low, high = _numbers.window(x[:, columns], x[:1, columns], cut=False)
    sides = np.linspace(low, high, _SIDE).T
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    rows = np.repeat(x[:1], len(grid), axis=0)
    rows[:, columns] = grid
    classes, margins = _margins(_predicted(predict, params, rows, data[0]), np.unique(y), float(level))
    names = _names(classes, labels)
    ax = _style.axes(ax, 6.4, 4.8)
    _regions(ax, sides, margins.reshape(len(classes), _SIDE, _SIDE))
    kept = _numbers.cloud(*x[:, columns].T)
    size = float(np.clip(9 - 1.6 * np.log10(max(len(kept), 1)), 2.5, _SIZE))
    for place, (one, name) in enumerate(zip(classes, names, strict=True)):
        mine = kept[y[kept] == one]
        at = x[np.ix_(mine, columns)].T
        _style.marks(ax, at[0], at[1], *_style.pair(place), size, markeredgewidth=0.4, label=_style.short(name))
    ax.set(xlabel=axis_names[0], ylabel=axis_names[1], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    _style.ticks(ax)
    ax.legend(framealpha=0.85, ncols=1 + (len(classes) - 1) // 12, markerscale=_SIZE / size)
    return ax


def _table(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return the rows, their classes, which two columns vary, and the names of those two."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data: expected a pair (x, y), got {check.show(data)}.")
    x, y = np.asarray(data[0], np.float64), np.asarray(data[1])
    if x.ndim != 2 or len(x) == 0 or x.shape[1] < 2:
        raise ValueError(f"data: expected x of shape (n, 2), or of more columns of which two vary, got shape {x.shape}.")
    y = y.reshape(-1) if y.size == len(x) else y
    if y.shape != (len(x),):
        raise ValueError(f"data: expected as many classes as rows of x, {len(x)}, got shape {y.shape}.")
    finite = np.all(np.isfinite(x), axis=1)
    if not np.any(finite):
        raise ValueError("data: expected rows of finite numbers in x, got none.")
    x, y = x[finite], y[finite]
    columns = np.arange(2) if x.shape[1] == 2 else np.flatnonzero(np.ptp(x, axis=0) != 0)
    if len(columns) != 2:
        raise ValueError(f"data: expected x with two columns that vary, to draw them, got {len(columns)} among {x.shape[1]}.")
    if len(np.unique(y)) > _style.PAIRS:
        raise ValueError(f"data: expected y to hold at most {_style.PAIRS} classes, got {len(np.unique(y))} different values.")
    named = list(getattr(data[0], "columns", [f"x[:, {column}]" for column in range(x.shape[1])]))
    return x, y, columns, [_style.short(str(named[column])) for column in columns]


def _predicted(predict: Callable[[Any, Any], Any], params: Any, rows: np.ndarray, x: Any) -> np.ndarray:
    """Return the predictions for rows, computed in 64 bits if the parameters have them, else in the precision of x."""
    dtype = np.asarray(x).dtype
    wide = _numbers.dtype_of(params)
    with _problem.precision(wide):
        kind = dtype if jnp.issubdtype(dtype, jnp.floating) and not wide else jnp.result_type(float)
        found = np.asarray(predict(params, jnp.asarray(rows, jax.dtypes.canonicalize_dtype(kind))))
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim not in (1, 2) or len(found) != len(rows):
        raise ValueError(f"predict: expected a number or scores for each of {len(rows)} rows, it returned shape {found.shape}.")
    return found


def _margins(found: np.ndarray, classes: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, (k,), and by how much each is ahead, (k, n): positive where it is predicted."""
    if found.ndim == 2:
        columns = np.arange(found.shape[1])
        known = classes if len(classes) == len(columns) else columns
        known = columns if np.all(np.isin(classes, columns)) else known
        if not np.all(np.isin(classes, known)):
            raise ValueError(f"predict: expected scores of the {len(classes)} classes in y, it returned {len(columns)} columns.")
        scores = found.astype(np.float64)
        rivals = [np.max(np.delete(scores, column, axis=1), axis=1) for column in columns]
        return known, scores.T - np.array(rivals)
    if found.dtype.kind in "iub":
        if classes.dtype.kind not in "iubf":
            found = classes[np.clip(found, 0, len(classes) - 1)]
        known = np.unique(np.concatenate([classes, np.unique(found)]))
        if len(known) > _style.PAIRS:
            raise ValueError(f"predict: expected at most {_style.PAIRS} classes, it returned {len(known)} different values.")
        return known, np.array([np.where(found == one, 0.5, -0.5) for one in known])
    if len(classes) > 2:
        raise ValueError(f"predict: expected scores (n, {len(classes)}) of the classes in y, it returned one number for each row.")
    ahead = found.astype(np.float64) - level
    if len(classes) == 1:
        return classes, ahead[None] if classes.dtype.kind in "iubf" and classes[0] > level else -ahead[None]
    return classes, np.stack([-ahead, ahead])


def _names(classes: np.ndarray, labels: Any) -> list[str]:
    if labels is None or isinstance(labels, dict):
        return [str((labels or {}).get(one.item(), _style.label(one.item()))) for one in classes]
    if isinstance(labels, str) or len(labels) != len(classes):
        raise ValueError(f"labels: expected a name for each of {len(classes)} classes, got {check.show(labels)}.")
    return [_style.label(one) for one in labels]


def _regions(ax: "Axes", sides: np.ndarray, margins: np.ndarray) -> None:
    """Fill the regions lightly, and draw the boundaries between them."""
    from matplotlib.colors import to_rgb

    paper = np.array(to_rgb(ax.get_facecolor()))
    if np.any(np.isnan(margins)):
        _style.hatch(ax)
    for place, margin in enumerate(np.ma.masked_invalid(margins)):
        lowest, highest = margin.min(), margin.max()
        if highest > 0:
            color, _ = _style.pair(place)
            tint: Any = 0.22 * np.array(to_rgb(color)) + 0.78 * paper
            ax.contourf(*sides, margin, levels=[0, highest + 1], colors=[tint])
        if lowest < 0 < highest and (place or len(margins) == 1):  # of two, each has the same boundary
            ax.contour(*sides, margin, levels=[0], colors=[_style.ink(ax)], linewidths=1.1)
