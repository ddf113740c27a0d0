"""The test whether a cost rises as its curvature predicts, one standard error away, along each axis of the error ellipsoid.

The slope's part of the rise is taken off, so that the point need not be the minimum to the last digit. Where rounding moves a point
that is evaluated, the promise is for the point as it is. In a box, a way ends at the wall.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._objective.curvature import Spectrum, spectrum
from jaxgd._products import matmul
from jaxgd._trees import is_traced, pack, unpack
from jaxgd.bounds import Bounds

_FACTOR = 2.0  # between the rise and the promised one, beyond which the cost is not quadratic
_ROUNDINGS = 16.0  # of the cost, that a rise may be wrong by
ALL = -1  # as the number of observations: as many as there are residuals
_SHORT = 0.05  # of a standard error: a way up to a wall that tells nothing


def evaluated(
    functions: tuple[Any, ...],
    value: Callable[..., Any],
    params: Any,
    arrays: tuple[Any, ...],
    box: Bounds | None,
    n: Any,
    factor: Any,
    rows: Any = None,
) -> tuple[Spectrum, jax.Array, jax.Array]:
    """Return the spectrum at a point, the `ends`, and the values there; `rows` are the gradients of active constraints."""
    found = spectrum(functions, params, arrays, box, rows)
    points = ends(found, scaling(found, n, factor)[0], params, box)

    def cost(point: jax.Array) -> jax.Array:
        return value(unpack(point, params), *arrays)

    costs = jax.lax.map(cost, points) if is_traced(points) else jnp.stack([cost(point) for point in points])
    return found, points, costs


def scaling(found: Spectrum, n: Any, factor: Any) -> tuple[jax.Array, jax.Array]:
    """Return the factor of the inverse curvature, and the degrees of freedom.

    The factor is the one given, with one degree where `n` is None, or s² of n observations.
    """
    if n is None:
        return factor, jnp.int32(1)
    freedom = jnp.where(n == ALL, len(found.left), n) - jnp.sum(found.free, dtype=jnp.int32)
    freedom = freedom + jnp.sum(jnp.isinf(found.values), dtype=jnp.int32)  # constraints take as many directions away
    variance = found.squares / jnp.maximum(freedom, 1).astype(found.squares.dtype)
    return jnp.where(freedom > 0, variance, jnp.nan), freedom


def ends(found: Spectrum, factor: Any, params: Any, box: Bounds | None) -> jax.Array:
    """Return the points to evaluate, a row for each: the parameters, and then the ends of all ways, or again the parameters."""
    determined = found.values > found.least
    lengths = jnp.sqrt(factor / jnp.where(determined, found.values, 1))
    axes = jnp.where(determined & jnp.isfinite(lengths), found.vectors * lengths, 0).T / found.size
    moves = jnp.where(found.free, jnp.concatenate([axes, -axes]), 0)
    x = pack(params)
    if box is not None:
        room = jnp.where(moves > 0, pack(box.upper) - x, pack(box.lower) - x)
        share = jnp.min(jnp.where(moves == 0, 1, room / jnp.where(moves == 0, 1, moves)), axis=1, initial=1)
        moves = jnp.where((share >= _SHORT)[:, None], share[:, None] * moves, 0)
    points = jnp.concatenate([x[None], x + moves])
    return points if box is None else jnp.clip(points, pack(box.lower), pack(box.upper))


def contradicts(found: Spectrum, points: jax.Array, costs: jax.Array) -> jax.Array:
    """Return whether the costs of these points contradict the curvature."""
    moves = points[1:] - points[0]
    along = matmul(moves * found.size, found.vectors)
    promised = jnp.sum(jnp.where(jnp.isinf(found.values), 0, found.values) * along**2, axis=1) / 2
    costs = costs.astype(moves.dtype)
    rises = costs[1:] - costs[0] - matmul(moves, found.gradient)
    noise = _ROUNDINGS * jnp.finfo(moves.dtype).eps * (jnp.abs(costs[0]) + jnp.abs(costs[1:]))
    believed = jnp.isfinite(costs[1:]) & (rises <= _FACTOR * promised + noise) & (rises >= promised / _FACTOR - noise)
    return jnp.any(jnp.any(moves != 0, axis=1) & ~believed)
