"""The test whether a cost is a mean or a sum over its rows, by evaluating it for some of them.

The cost of all rows follows from the costs of parts of them if it is c + sum(g(row)) or c + mean(g(row)), where c may depend on the
parameters. Of two sets of rows A and B, let C and D be A and B with their second halves exchanged. Then

    f(A) + f(B) = f(C) + f(D)              for every cost that adds up over the rows of sets of one size,
    f(A and B) = (f(A) + f(B)) / 2         for a mean,
    f(A) + f(B) - f(A and B) = c           for a sum, whichever the rows are.

A root, a logarithm or a ratio of sums, the largest of the rows, and rows that are compared with each other break the first, a
divisor such as n - 1 the others. Several such pairs are tried, at several points away from the start, since a cost may add up at
one of them alone, as it does where all weights are zero. The rows are spread over the data, and the first and the last row and
those of extreme values are among them, for the sake of rare labels and masked rows.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._compile.program import program_for
from jaxgd._shards import host_rows
from jaxgd._trees import at_least_float32, is_traced

_ROWS = 16  # in a set
_PAIRS = 8
_MEAN, _SUM, NEITHER = "mean", "sum", "neither"
_LOOKED_AT = 2**16  # numbers of an array, among which extreme ones are looked for
_COLUMNS = 16  # of each array, among whose values
_POINTS = (0.3, 0.1), (0.5, 0.5), (0.01, 0.003)  # how far from the start: relative to a parameter's size, and where it is zero


class Additive(NamedTuple):
    """A cost that adds up over its rows: whether it is their sum or their mean, and for how many rows that was found."""

    is_sum: bool
    sample: int


def additivity(evaluation: Callable[[int], Any], data: Any, params: Any, bounds: Any, most: int) -> Additive | None:
    """Return how a cost adds up over its rows; None where it does not, or where that is unknown.

    `evaluation(size)` gives the cost with its gradient for `size` rows; at most `most` rows are looked at together.
    """
    size = _size(data, most)
    kinds = _kinds_found(evaluation, data, params, bounds, size)
    return Additive(kinds == {_SUM}, size) if len(kinds) == 1 and NEITHER not in kinds else None


def adds_up(evaluation: Callable[[int], Any], data: Any, params: Any, bounds: Any) -> str | None:
    """Return how a cost adds up over its rows: "mean", "sum" or "neither"; None where that is unknown."""
    n_rows = jax.tree.leaves(data)[0].shape[0]
    kinds = _kinds_found(evaluation, data, params, bounds, _size(data, n_rows))
    return next(iter(kinds), None) if len(kinds) < 2 else NEITHER


def _size(data: Any, most: int) -> int:
    """Return how many rows there are in a set, where at most some of them are looked at together."""
    n_rows = jax.tree.leaves(data)[0].shape[0]
    return 2 * max(1, min(_ROWS, most // 2, n_rows // 2) // 2)


def _kinds_found(evaluation: Callable[[int], Any], data: Any, params: Any, bounds: Any, size: int) -> set[str]:
    """Return how a cost adds up at each of several points; none where that is unknown."""
    n_rows = jax.tree.leaves(data)[0].shape[0]
    if n_rows < 2 * size or is_traced(data, params, bounds) or not _is_here(data):
        return set()
    try:
        functions = evaluation(size), evaluation(2 * size)
        if is_traced(functions):
            return set()
        costs = _costs_of_sets(functions, params, bounds, _pairs(data, size))
    except Exception:  # a cost may refuse so few rows, in any way
        return set()
    return _kinds(costs)


def _is_here(data: Any) -> bool:
    """Return whether this process can read all rows."""
    return all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(data))


def _costs_of_sets(functions: Any, params: Any, bounds: Any, pairs: Any) -> np.ndarray:
    """Return the costs of the sets for each point and pair, an array (points, pairs, 5).

    The sets are A, B, C, D, and A and B together. A cost that was not traced is evaluated one by one, at fewer points.
    """
    points = np.asarray(_POINTS, np.float32)
    if getattr(functions[0], "shapes", None) is None:
        return np.asarray(_evaluated(functions, params, bounds, points[:1], pairs, each=_one_by_one))
    arguments = functions, params, bounds, points, pairs
    return np.asarray(program_for(_evaluated, *arguments)(*arguments))


def _one_by_one(function: Any, rows: Any) -> Any:
    count = jax.tree.leaves(rows)[0].shape[0]
    return jnp.stack([function(jax.tree.map(lambda leaf, k=k: leaf[k], rows)) for k in range(count)])


def _evaluated(functions: Any, params: Any, bounds: Any, points: Any, pairs: Any, each: Any = lax.map) -> Any:
    small, large = functions
    size = jax.tree.leaves(pairs)[0].shape[1] // 2
    first, second = np.arange(2 * size, dtype=np.int32).reshape(2, size)
    half = size // 2
    sets = np.stack([first, second, np.append(first[:half], second[half:]), np.append(second[:half], first[half:])])

    def at(distance: Any) -> Any:
        point = _aside(params, distance)
        point = point if bounds is None else bounds.project(point)

        def of_pair(rows: Any) -> Any:
            four = each(lambda chosen: small(point, jax.tree.map(lambda leaf: leaf[chosen], rows))[0], sets)
            return jnp.append(four, large(point, rows)[0])

        return each(of_pair, pairs)

    return each(at, points)


def _aside(params: Any, distance: Any) -> Any:
    """Return a point at some distance from another, in irregular directions."""
    moved, start = [], 1
    leaves, structure = jax.tree.flatten(params)
    for leaf in leaves:
        x = at_least_float32(leaf)
        number = jnp.arange(start, start + x.size, dtype=jnp.int32).reshape(x.shape).astype(x.dtype)
        noise = 2 * (jnp.abs(jnp.sin(number * 12.9898) * 43758.547) % 1) - 1  # as computer graphics makes it
        relative, absolute = distance.astype(x.dtype)
        moved.append((x + noise * jnp.where(x == 0, absolute, relative * jnp.abs(x))).astype(leaf.dtype))
        start += x.size
    return structure.unflatten(moved)


def _pairs(data: Any, size: int) -> Any:
    """Return the rows of all pairs, a pytree like the data with the axes (pairs, 2 * size) in front."""
    places = _places(data, size)
    return jax.tree.map(lambda leaf: host_rows(leaf, places), data)


def _places(data: Any, size: int) -> np.ndarray:
    """Return the rows of all pairs, (pairs, 2 * size).

    Half of them are spread over the data or, of every other pair, over one half of the data for each set. The others are unusual,
    and in both halves of one set: exchanged, the two sets have one each.
    """
    n_rows = jax.tree.leaves(data)[0].shape[0]
    random = np.random.default_rng(0)
    unusual = random.permutation(_unusual(data, n_rows))
    half, places, dealt = size // 2, np.empty((_PAIRS, 2, 2, size // 2), np.int64), 0  # of pair, set, half of the set
    for pair in range(_PAIRS):
        regions = ((0, n_rows // 2), (n_rows // 2, n_rows)) if pair % 2 else ((0, n_rows), (0, n_rows))
        count = max(half // 2, pair % 2)
        for which, (first, end) in enumerate(regions):
            places[pair, which] = random.integers(first, end, (2, half))
            places[pair, which, :, :count] = unusual[np.arange(dealt, dealt + count) % unusual.size]
            dealt += count
    return places.reshape(_PAIRS, 2 * size)


def _unusual(data: Any, n_rows: int) -> np.ndarray:
    """Return the first and last rows, and those of the extreme values of each column."""
    found = [0, n_rows - 1]
    for leaf in jax.tree.leaves(data):
        width = min(_COLUMNS, math.prod(leaf.shape[1:]))
        looked_at = slice(0, n_rows, -(-n_rows * width // _LOOKED_AT)) if width else slice(0)
        columns = host_rows(leaf, looked_at)
        columns = columns.reshape(columns.shape[0], -1)[:, :width]
        places = [*columns.argmin(axis=0), *columns.argmax(axis=0)] if columns.size else []
        if width == 1 and columns.dtype.kind in "biu":
            places += list(np.unique(columns, return_index=True)[1][:_COLUMNS])
        found += [int(place) * looked_at.step for place in places]
    return np.unique(found)


def _kinds(costs: np.ndarray) -> set[str]:
    """Return what the costs of the sets say. Points where one is not finite, or where the rows make no difference, say nothing."""
    eps = float(np.finfo(costs.dtype).eps)
    kinds = set()
    for at in costs.astype(np.float64):
        if np.all(np.isfinite(at)):
            rounding, spread = 16 * eps * np.max(np.abs(at)), np.ptp(at)
            if spread > 4 * rounding:
                kinds.add(_kind(at, rounding, rounding + eps**0.5 * spread))
    return kinds


def _kind(costs: np.ndarray, rounding: float, tolerance: float) -> str:
    """Return how the costs of the sets of each pair, (pairs, 5), go together.

    Of two sets of one size the costs add up to rounding. For sets of other sizes the cost may be computed otherwise.
    """
    one, two, three, four, both = costs.T
    if np.max(np.abs(one + two - three - four)) > rounding:
        return NEITHER
    if np.max(np.abs(both - (one + two) / 2)) <= tolerance:
        return _MEAN
    return _SUM if np.ptp(one + two - both) <= tolerance else NEITHER
