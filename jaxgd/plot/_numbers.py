"""The numbers of a picture: their checks, the few to draw where they are many, and the limits to draw them in."""

import itertools
from typing import Any

import jax
import numpy as np

from jaxgd._checks import check
from jaxgd._trees import is_traced, parameters_of
from jaxgd.result import Result, Status
from jaxgd.uncertainty import Covariance

_MOST = 4000  # points of a line or a path
DECADES = 200  # on either side of one, beyond which matplotlib's ticks on a logarithmic scale leave 64 bits
END = 1e307  # the same for a linear scale


def concrete(name: str, *trees: Any) -> None:
    """Check that nothing is being traced."""
    if is_traced(trees):
        raise TypeError(f"{name}: expected numbers, got values that JAX is tracing: draw outside jax.jit, jax.vmap and jax.grad.")


def one_run(result: Any, expected: str = "a Result") -> Result:
    """Check that an object is the result of one run, and return it."""
    return _one("result", result, Result, expected, "run", ": take one, as in jax.tree.map(lambda leaf: leaf[0], result)")


def one_covariance(covariance: Any) -> Covariance:
    """Check that an object is the covariance of one fit, and return it."""
    return _one("covariance", covariance, Covariance, "a jaxgd.Covariance", "fit")


def _one(name: str, value: Any, kind: type, expected: str, what: str, cure: str = "") -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {expected}, got {check.show(value)}.")
    concrete(name, value)
    if np.ndim(value.code):
        raise ValueError(f"{name}: expected that of one {what}, got those of {np.size(value.code)}{cure}.")
    return value


def flat(params: Any) -> np.ndarray:
    """Return all numbers of a pytree, (k,)."""
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(parameters_of(params))])


def dtype_of(params: Any) -> str | None:
    """Return "float64" if any array among the parameters has that dtype, else None."""
    return "float64" if any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(params)) else None


def envelope(values: np.ndarray, most: int = _MOST) -> np.ndarray:
    """Return which points of a line to keep: the extremes of each of `most / 2` stretches, and both ends."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most // 2 + 1).astype(np.int64).tolist()
    lows = np.where(np.isnan(values), np.inf, values)
    highs = np.where(np.isnan(values), -np.inf, values)
    kept = [0, count - 1]
    for first, last in itertools.pairwise(edges):
        kept += [first + np.argmin(lows[first:last]), first + np.argmax(highs[first:last])]
    return np.unique(kept)


def cloud(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which of many points to keep: a random one in each cell of a grid, and the extremes.

    Classes that share a cell are each kept as often as they are common there. Points that are not finite are dropped.
    """
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(finite) <= 5000:
        return finite
    shuffled = finite[np.random.default_rng(0).permutation(len(finite))]
    _, first = np.unique(180 * _cells(x[shuffled], 240) + _cells(y[shuffled], 180), return_index=True)
    extremes = [finite[find(values[finite])] for values in (x, y) for find in (np.argmin, np.argmax)]
    return np.unique(np.concatenate([shuffled[first], extremes]))


def _cells(values: np.ndarray, count: int) -> np.ndarray:
    """Return which of `count` equal intervals each value is in."""
    low, high = np.min(values), np.max(values)
    scaled = (values / 2 - low / 2) / max(high / 2 - low / 2, np.finfo(np.float64).tiny)  # halves, which can't overflow
    return np.minimum((count * scaled).astype(np.int64), count - 1)


def trail(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which points (n, k) of a path to keep, in the order in which they were visited.

    Where the path stays in one of 1000 cells along each axis between `low` and `high`, the first of its points there is kept. Where
    that is still too many, only the extremes along each axis of equal stretches are. The extremes of the whole are always kept.
    """
    count = len(points)
    if count <= _MOST:
        return np.arange(count)
    cells = np.floor(1000 * (points - low) / (high - low))
    moves = np.any(cells[1:] != cells[:-1], axis=1)
    kept = np.concatenate([[0], 1 + np.flatnonzero(moves), [count - 1]])
    if len(kept) > _MOST:
        sparse = [envelope(column, _MOST // points.shape[1]) for column in points[kept].T]
        kept = kept[np.concatenate(sparse)]
    return np.unique(np.concatenate([kept, np.argmin(points, axis=0), np.argmax(points, axis=0)]))


def drawable(values: np.ndarray, *, log: bool) -> np.ndarray:
    """Return numbers, those that matplotlib can't draw on a scale moved to the end of what it can."""
    return np.where(values > 0, np.clip(values, 10.0**-DECADES, 10.0**DECADES), values) if log else np.clip(values, -END, END)


def floor(values: np.ndarray) -> float | None:
    """Return where to draw zeros on a logarithmic scale, below all other values, or None if there are no zeros."""
    positive = values[np.isfinite(values) & (values > 0)]
    if np.all(values != 0) or not positive.size:
        return None
    low, high = np.log10([positive.min(), positive.max()])
    return float(10 ** max(low - max(0.3, 0.05 * (high - low)), -DECADES))


def blown_up(costs: np.ndarray, code: Any) -> bool:
    """Return whether a run left for infinity, by its status or because its costs were still growing at its end."""
    finite = costs[np.isfinite(costs)]
    if Status.of(code).nonfinite or finite.size == 0:
        return True
    return bool(finite[-1] / 1e4 > abs(finite[0]) and finite[-1] / 1e2 > abs(np.median(finite / 2) * 2))


def window(points: np.ndarray, anchors: np.ndarray, *, cut: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of a picture that shows points (n, k) and anchors (m, k) with some room around them.

    With `cut`, for runs that left for infinity, only the points near the anchors count.
    """
    low, high = np.min(anchors, axis=0), np.max(anchors, axis=0)
    if cut:
        room = np.where(high > low, 2 * (high - low), np.maximum(1.0, abs(low)))
        points = points[np.all((points >= low - room) & (points <= high + room), axis=1)]
    shown = np.concatenate([anchors, points])
    low, high = np.min(shown, axis=0), np.max(shown, axis=0)
    room = 0.12 * (high - low)
    least = 1e-6 * np.maximum(abs(low), abs(high))
    room = np.where(room > least, room, np.where(low == 0, 1.0, 0.1 * abs(low)))
    return low - room, high + room
