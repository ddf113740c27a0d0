"""Derivatives of a minimum under constraints, by the implicit function theorem.

At a minimum x of f(x, t) under c(x, t) = 0, the c of the equations and of the active inequalities, with multipliers y:

    [ H   J'] [ dx]     [d(grad f - J'y)/dt]        H = d²(f - y'c)/dx²,  J = dc/dx
    [ J   0 ] [-dy]  = -[     dc/dt        ] dt

A. V. Fiacco, Introduction to Sensitivity and Stability Analysis in Nonlinear Programming (1983). What is not active stays so, and
what is active stays active: at a point where an active inequality has no multiplier this is the derivative for one side.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _derivatives
from jaxgd._objective.constraints import ConstraintFunctions
from jaxgd._objective.curvature import held_back, slack
from jaxgd._products import matmul
from jaxgd._trees import detached, pack, pytree, safe_divisor, unpack

_ROUNDINGS = 16.0  # for each number, below which an eigenvalue relative to rows of length one is nothing


@pytree
class ActiveConstraints:
    """The constraints at a minimum.

    Attributes:
        functions: the functions of the constraints.
        rows: what they get after the parameters.
        multipliers: those at the minimum, (m,).
        active: which are active, (m,).
    """

    functions: ConstraintFunctions
    rows: tuple[Any, ...]
    multipliers: Any
    active: Any

    def values(self, x: jax.Array, like: Any) -> jax.Array:
        """Return the values of the active constraints for parameters packed into a vector; zero for the others."""
        values = self.functions.evaluate(unpack(x, like), self.rows)[0]
        return jnp.where(self.active, values, 0).astype(x.dtype)

    def pull(self, x: jax.Array, like: Any) -> jax.Array:
        """Return the gradient of the sum of the active constraints times their multipliers."""
        rows = self.functions.evaluate(unpack(x, like), self.rows)[1]
        return matmul(jnp.where(self.active, self.multipliers, 0).astype(x.dtype), rows).astype(x.dtype)


def active_at(found: Any, functions: ConstraintFunctions | None, rows: tuple[Any, ...]) -> ActiveConstraints | None:
    """Return the constraints that were found at the end of a run; None where there are none."""
    if functions is None:
        return None
    found = detached(found)
    multipliers, active = (
        jnp.concatenate([jnp.asarray(leaf).reshape(-1) for name in functions.names for leaf in jax.tree.leaves(tree[name])])
        for tree in (found.multipliers, found.active)
    )
    return ActiveConstraints(functions, rows, multipliers, active)


def movement(found: Any, cost_at: Callable[[list[Any]], Any], at: list[Any], change: list[Any]) -> Any:
    """Return how the parameters move as some leaves of a cost with active constraints change."""
    like, cost = found.params, cost_at(at)
    x = pack(like)
    free, along = jnp.ones(x.shape, bool), jnp.zeros_like(x)

    def slope(x: jax.Array, some: list[Any]) -> jax.Array:
        cost = cost_at(some)
        return cost.slope(x, like) - cost.constraints.pull(x, like)

    if cost.box is not None:
        low, high = (pack(side) for side in lax.stop_gradient((cost.box.lower, cost.box.upper)))
        held = held_back(*lax.stop_gradient((x, slope(x, at))), low, high)
        at_low = lax.stop_gradient(x) <= low + slack(low)

        def limits(some: list[Any]) -> jax.Array:
            box = cost_at(some).box
            return jnp.where(at_low, pack(box.lower), pack(box.upper))

        free, along = ~held, jnp.where(held, jax.jvp(limits, (at,), (change,))[1], 0)

    def both(x: jax.Array, some: list[Any]) -> tuple[jax.Array, jax.Array]:
        return slope(x, some), cost_at(some).constraints.values(x, like)

    _, (tilt, missed) = jax.jvp(both, (x, at), (along, change))
    largest = getattr(cost.evaluate, "largest", 0)
    hessian = _derivatives.hessian(lambda x: slope(x, at), x, _derivatives.together(x.size, largest))
    rows = cost.constraints.functions.evaluate(like, cost.constraints.rows)[1].astype(x.dtype)
    moved = solved(hessian, rows, free, cost.constraints.active, -tilt, -missed)
    return unpack(jnp.where(free, moved, along), like)


def solved(hessian: jax.Array, rows: jax.Array, free: jax.Array, active: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Return dx of H dx - J'dy = b, J dx = c for free variables and active constraints.

    It is NaN where the point is no minimum. Directions along which nothing is determined are left out, as are constraints that
    depend on others.
    """
    n = b.size
    hessian = jnp.where(free[:, None] & free, hessian, 0) + jnp.diag(jnp.where(free, 0, jnp.ones_like(b)))
    rows = jnp.where(free & active[:, None], rows, 0)
    matrix = jnp.block([[hessian, rows.T], [rows, -jnp.diag(jnp.where(active, 0, jnp.ones_like(c)))]])
    right = jnp.concatenate([jnp.where(free, b, 0), jnp.where(active, c, 0)])
    fixed = lax.stop_gradient(matrix)
    size = safe_divisor(jnp.sqrt(jnp.abs(jnp.diagonal(fixed))[:n]))
    lengths = safe_divisor(jnp.sqrt(jnp.sum((fixed[n:, :n] / size) ** 2, axis=1)))
    size = jnp.concatenate([size, jnp.where(active, lengths, 1)])
    finite = jnp.all(jnp.isfinite(fixed))
    values, vectors = jnp.linalg.eigh(jnp.where(finite, fixed / size[:, None] / size, 0))
    least = _ROUNDINGS * right.size * jnp.finfo(b.dtype).eps
    determined = jnp.abs(values) > least
    scaled = jnp.where(finite, fixed[n:, :n] / size[n:, None] / size[:n], 0)
    rank = jnp.sum(jnp.linalg.svd(scaled, compute_uv=False) > least) if c.size else 0
    valid = finite & (jnp.sum(values < -least) == rank + jnp.sum(~active))  # the curvature along the constraints is not negative
    inverse = jnp.where(valid, jnp.where(determined, 1 / jnp.where(determined, values, 1), 0), jnp.nan)

    def solve(_: Any, right: jax.Array) -> jax.Array:
        return matmul(vectors, inverse * matmul(vectors.T, right / size)) / size

    return lax.custom_linear_solve(lambda v: matmul(matrix, v), right, solve, symmetric=True)[:n]
