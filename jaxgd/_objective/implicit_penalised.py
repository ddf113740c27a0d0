"""How a minimum with a penalty moves: by the implicit function theorem for the fixed point of a proximal gradient step.

With T the proximal operator within the bounds, a minimum x is the fixed point x = T(x - t g(x)) for every step t. As the cost, the
penalty or a bound change,

    dx = D (dx - t (H dx + dg)) + E        D: the derivative of T,  E: what T moves for a fixed argument

A separable T has a diagonal D, zero for parameters that stay at a kink or at a bound: these move by E, and for all others

    (H + (1 - D) / (t D)) dx = E / (t D) - dg

is a symmetric system, with a step t for each parameter. For any other T the equation is solved as it is.

Q. Bertrand and others, Implicit differentiation for fast hyperparameter selection in non-smooth convex learning, J. Mach. Learn.
Res. 23 (2022).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _derivatives
from jaxgd._products import matmul
from jaxgd._trees import largest, pack, safe_divisor, unpack


def movement(found: Any, cost_at: Callable[[list[Any]], Any], at: list[Any], change: list[Any], solved: Callable[..., Any]) -> Any:
    """Return how the parameters move as some leaves of the cost, its penalty or its bounds change.

    `solved(cost, x, like, free, b, more)` solves (H + diag(more)) dx = b for the free parameters.
    """
    like, cost = found.params, cost_at(at)
    x, g = pack(like), pack(found.gradient)
    still, slope = lax.stop_gradient((x, g))
    separable = cost.penalty.is_separable
    steps = _steps(still, slope) if separable else safe_divisor(largest(still, x.dtype)) / safe_divisor(largest(slope, x.dtype))

    def operator(u: jax.Array, some: list[Any]) -> jax.Array:
        cost = cost_at(some)
        tree = unpack(steps, like) if separable else steps
        return pack(cost.penalty.prox(unpack(u, like), tree, cost.box)).astype(u.dtype)

    u = x - steps * g
    _, shift = jax.jvp(lambda some: operator(u, some), (at,), (change,))
    if not separable:
        return unpack(_by_matrix(cost, x, like, lambda u: operator(u, at), u, steps, shift, cost_at, at, change), like)
    _, kept = jax.jvp(lambda u: operator(u, at), (u,), (jnp.ones_like(u),))
    free = kept > 0
    if cost.box is not None:
        free = free & (pack(cost.box.lower) < pack(cost.box.upper))
    divisor = jnp.where(free, steps * kept, 1)
    along = jnp.where(free, 0, shift)
    _, turned = jax.jvp(lambda x, some: cost_at(some).slope(x, like), (x, at), (along, change))
    b = jnp.where(free, shift / divisor - turned, 0)
    moved = solved(cost, x, like, free, b, jnp.where(free, (1 - kept) / divisor, 0))
    return unpack(jnp.where(free, moved, along), like)


def _steps(x: jax.Array, g: jax.Array) -> jax.Array:
    """Return a step for each parameter that doubles or cancels it, 1 where it is zero: kinks are then told from rounding."""
    both = (x != 0) & (g != 0)
    return jnp.where(both, jnp.abs(x) / jnp.where(both, jnp.abs(g), 1), 1)


def _by_matrix(
    cost: Any, x: jax.Array, like: Any, operator: Any, u: jax.Array, step: jax.Array, shift: jax.Array, *moving: Any
) -> jax.Array:
    """Return how packed parameters move, by the matrix I - D + t D H."""
    number = getattr(cost.evaluate, "largest", 0)
    if not _derivatives.affords_matrix(x.size, number):
        raise ValueError(
            f"penalty: expected one that is separable, such as jaxgd.L1, for derivatives of a minimum of {x.size} parameters: "
            "differentiate a smaller problem."
        )
    cost_at, at, change = moving
    hessian = _derivatives.hessian(lambda x: cost.slope(x, like), x, _derivatives.together(x.size, number))
    jacobian = jax.jacfwd(operator)(u)
    _, turned = jax.jvp(lambda some: cost_at(some).slope(x, like), (at,), (change,))
    identity = jnp.eye(x.size, dtype=x.dtype)
    matrix = identity - jacobian + step * matmul(jacobian, hessian)
    right = shift - step * matmul(jacobian, turned)
    return jnp.linalg.solve(matrix, right)
