"""A constrained problem as an interior point method sees it: variables and slacks within walls, equations between them.

    minimise f(x)   subject to   c_E(x) = 0,   c_I(x) - s = 0,   low <= x <= high,   -w <= s

with costs and constraints in units of their first gradients. The width w is rounding: without it a feasible set that has no inside,
as two opposite inequalities make it, would have no slack to move in.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._products import matmul

_SCALED = 100.0  # the largest number of a gradient at the start, in units of the run
_MEAN = 100.0  # the mean multiplier above which the errors are relative to it
_TINY = 1e-2  # gradients and values at the start that are enlarged
_HUGE = 100.0  # the largest divisor of errors
_INSIDE = 1e-2  # how far inside its walls a variable begins: of a wall's size, and of the way between two


class Walls(NamedTuple):
    """The walls of n variables and p slacks, (n + p,), and which variables have no room between theirs, (n,)."""

    low: Any
    high: Any
    held: Any

    @staticmethod
    def of(box: Any, x: jax.Array, n_slacks: int, width: float) -> "Walls":
        """Return the walls of a box, two vectors or None, and of slacks."""
        low, high = (jnp.full_like(x, -jnp.inf), jnp.full_like(x, jnp.inf)) if box is None else box
        slack = jnp.full((n_slacks,), -width, x.dtype)
        held = low == high
        low, high = jnp.where(held, -jnp.inf, low), jnp.where(held, jnp.inf, high)
        return Walls(jnp.concatenate([low, slack]), jnp.concatenate([high, jnp.full_like(slack, jnp.inf)]), held)

    def inside(self, x: jax.Array) -> jax.Array:
        """Return variables, (n,), moved away from their walls."""
        low, high = self.low[: x.size], self.high[: x.size]
        room = jnp.where(jnp.isfinite(high - low), _INSIDE * (high - low), jnp.inf)
        near, far = (jnp.minimum(_INSIDE * jnp.maximum(1, jnp.abs(side)), room) for side in (low, high))
        x = jnp.where(jnp.isfinite(low), jnp.maximum(x, low + near), x)
        return jnp.where(jnp.isfinite(high), jnp.minimum(x, high - far), x)

    def gaps(self, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the distances from both walls; infinite where there is none."""
        return v - self.low, self.high - v

    def farthest(self, v: jax.Array, move: jax.Array, share: jax.Array) -> jax.Array:
        """Return the longest step along a move, at most 1, that leaves a part 1 - share of every distance."""
        return jnp.minimum(positive(self.gaps(v)[0], move, share), positive(self.gaps(v)[1], -move, share))


def positive(numbers: jax.Array, move: jax.Array, share: jax.Array) -> jax.Array:
    """Return the longest step, at most 1, that leaves positive numbers the part 1 - share of themselves."""
    limits = jnp.where(move < 0, -share * numbers / jnp.where(move < 0, move, -1), jnp.inf)
    return jnp.minimum(1, jnp.min(limits, initial=jnp.inf)).astype(numbers.dtype)


class Iterate(NamedTuple):
    """A point with its multipliers: slacks (p,), multipliers of the constraints (m,), of the walls (n + p,) each."""

    s: Any
    y: Any
    low: Any
    high: Any


class Place(NamedTuple):
    """An evaluated point: parameters (n,), cost, gradient (n,), values of the constraints (m,), Jacobian (m, n)."""

    x: Any
    cost: Any
    gradient: Any
    values: Any
    jacobian: Any


class Units(NamedTuple):
    """The numbers that the cost, a scalar, and the constraints, (m,), are multiplied by."""

    cost: Any
    constraints: Any

    @staticmethod
    def at(place: Place) -> "Units":
        """Return the units in which no gradient at a point has a number above 100, and tiny constraints are enlarged."""
        slope = jnp.max(jnp.abs(place.gradient), initial=0.0)
        rows = jnp.max(jnp.abs(place.jacobian), axis=1, initial=0.0)
        tiny = (rows > 0) & (jnp.maximum(rows, jnp.abs(place.values)) < _TINY)
        larger = 1 / jnp.where(tiny, jnp.maximum(jnp.maximum(rows, jnp.abs(place.values)), 1e-12), 1)
        return Units(_unit(slope), _unit(rows) * larger)

    def applied(self, place: Place) -> Place:
        """Return a place in these units."""
        weights = self.constraints
        return Place(
            place.x,
            self.cost * place.cost,
            self.cost * place.gradient,
            weights * place.values,
            weights[:, None] * place.jacobian,
        )


def _unit(size: jax.Array) -> jax.Array:
    return jnp.where(size > _SCALED, jnp.maximum(_SCALED / jnp.where(size > _SCALED, size, 1), 1e-8), 1).astype(size.dtype)


def behind(numbers: jax.Array, size: int) -> jax.Array:
    """Return numbers of the inequalities behind zeros for the equations."""
    return jnp.concatenate([jnp.zeros((size - numbers.size,), numbers.dtype), numbers])


def missed(place: Place, s: jax.Array) -> jax.Array:
    """Return by how much the equations are missed, those of the slacks among them, (m,)."""
    return place.values - behind(s, place.values.size)


def pulled(place: Place, y: jax.Array, n_slacks: int) -> jax.Array:
    """Return the gradient of sum(y * equations) for variables and slacks, (n + p,)."""
    return jnp.concatenate([matmul(y, place.jacobian), -y[y.size - n_slacks :]])


def barrier(walls: Walls, v: jax.Array) -> jax.Array:
    """Return the sum of -log of the distances from the walls."""
    gaps = jnp.concatenate(walls.gaps(v))
    return -jnp.sum(jnp.where(jnp.isfinite(gaps), jnp.log(jnp.where(gaps > 0, gaps, 0)), 0))


def steepness(walls: Walls, v: jax.Array) -> jax.Array:
    """Return the gradient of `barrier`."""
    low, high = walls.gaps(v)
    return 1 / high - 1 / low


class Errors(NamedTuple):
    """The errors of the conditions of optimality, in units of mean multipliers.

    Attributes:
        stationary: the largest of the gradient and of the equations, a scalar.
        products: multipliers of the walls times the distances from them, (n + p,) for each side, zero where there is no wall.
        walled: whether there is one.
        unit: what errors of the products are divided by.
    """

    stationary: Any
    products: Any
    walled: Any
    unit: Any

    @staticmethod
    def of(slope: jax.Array, left: jax.Array, gaps: tuple[jax.Array, jax.Array], v: jax.Array, it: Iterate) -> "Errors":
        """Return the errors for the gradient of the Lagrangian and the missed equations."""
        prices = jnp.stack(it[2:])
        walled = jnp.isfinite(jnp.stack(gaps))
        total = jnp.sum(jnp.abs(prices))
        dual = _relative((jnp.sum(jnp.abs(it.y)) + total) / max(it.y.size + 2 * v.size, 1))
        stationary = jnp.maximum(_most(slope * jnp.maximum(1, jnp.abs(v))) / dual, _most(left))
        products = jnp.where(walled, jnp.stack(gaps) * prices, 0)
        return Errors(stationary, products, walled, _relative(total / max(2 * v.size, 1)))

    def largest(self, barrier: Any) -> jax.Array:
        """Return the largest error where the products are to be the weight of the barriers."""
        return jnp.maximum(self.stationary, _most(jnp.where(self.walled, self.products - barrier, 0)) / self.unit)


def natural(place: Place, walls: Walls, y: jax.Array, n_slacks: int) -> jax.Array:
    """Return the largest error of the conditions of optimality at a point with multipliers: how far it is from its projection.

    Which constraints are active follows from the point: of an inequality it is the smaller of its value and its multiplier.
    """
    n, m = place.x.size, place.values.size
    slope, dual = place.gradient + matmul(y, place.jacobian), _dual(y)
    size = jnp.maximum(1, jnp.abs(place.x))
    target = jnp.clip(place.x - slope * size / dual, walls.low[:n], walls.high[:n])
    apart = jnp.where(walls.held, 0, place.x - target)
    equations, rest = place.values[: m - n_slacks], place.values[m - n_slacks :]
    return jnp.maximum(_most(apart), jnp.maximum(_most(equations), _most(jnp.minimum(rest, -y[m - n_slacks :] / dual))))


def rounded(place: Place, held: jax.Array, y: jax.Array, matrix: jax.Array, eps: float) -> jax.Array:
    """Return what the rounding of the variables does to the natural error; `matrix` is the curvature of the Lagrangian."""
    size = jnp.maximum(1, jnp.abs(place.x))
    change = eps * matmul(jnp.abs(matrix), jnp.abs(place.x))
    return _most(jnp.where(held, 0, change * size)) / _dual(y)


def bought(place: Place, y: jax.Array, n_slacks: int) -> jax.Array:
    """Return by how much violations lower the cost, to first order, relative to a cost above 1."""
    violated = jnp.where(jnp.arange(y.size) < y.size - n_slacks, place.values, jnp.minimum(place.values, 0))
    return jnp.sum(jnp.abs(y * violated)) / jnp.maximum(1, jnp.abs(place.cost))


def _dual(y: jax.Array) -> jax.Array:
    """Return what errors of the gradient are divided by."""
    return _relative(jnp.sum(jnp.abs(y)) / max(y.size, 1))


def _relative(mean: jax.Array) -> jax.Array:
    """Return what errors are divided by where multipliers are large; huge ones tell that there may be none."""
    return jnp.clip(mean / _MEAN, 1, _HUGE)


def _most(numbers: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(numbers), initial=0.0)
