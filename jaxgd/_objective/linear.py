"""Symmetric linear equations A x = b, whose solutions have derivatives with respect to A and b.

Of a matrix all eigenvalues are known: directions along which A is zero to rounding are left out, and where one is negative the
solution is NaN. Of a product with A alone the solution comes by conjugate gradients.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import matmul, vdot
from jaxgd._trees import safe_divisor

_ROUNDINGS = 16.0  # for each variable, below which an eigenvalue relative to a diagonal of ones is nothing
_LEAST_STEPS, _STEPS = 1000, 4  # of conjugate gradients: at least, and for each variable
_EXACT = 0.75  # power of the rounding unit: the residual, relative to b, at which conjugate gradients end
_ENOUGH = 0.5  # the same for the residual of a solution that is returned at all


def solve_by_eigenvalues(matrix: jax.Array, b: jax.Array) -> jax.Array:
    """Return the solution; NaN where A has negative eigenvalues.

    It is the one of least norm, in units in which the diagonal of A is near 1.
    """
    fixed = lax.stop_gradient(matrix)
    size = safe_divisor(jnp.sqrt(abs(jnp.diagonal(fixed))))
    size = jnp.ldexp(jnp.ones_like(size), jnp.frexp(size)[1])  # powers of 2, by which nothing is rounded
    finite = jnp.all(jnp.isfinite(fixed))
    values, vectors = jnp.linalg.eigh(jnp.where(finite, fixed / size[:, None] / size, 0))
    least = _ROUNDINGS * len(b) * jnp.finfo(b.dtype).eps
    determined = values > least
    inverse = jnp.where(determined, 1 / jnp.where(determined, values, 1), 0)
    valid = finite & jnp.all(values >= -least) & jnp.any(determined)
    inverse = jnp.where(valid, inverse, jnp.nan)

    def solve(_: Any, b: jax.Array) -> jax.Array:
        return matmul(vectors, inverse * matmul(vectors.T, b / size)) / size

    return lax.custom_linear_solve(lambda x: matmul(matrix, x), b, solve, symmetric=True)


def solve_by_products(product: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
    """Return the solution by conjugate gradients (Hestenes and Stiefel 1952); `product` returns A times a vector.

    It is NaN where A turns out to have a negative eigenvalue, or where the residual does not get small.
    """
    return lax.custom_linear_solve(product, b, _conjugate_gradients, symmetric=True)


def _conjugate_gradients(product: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
    eps = jnp.finfo(b.dtype).eps
    scale = safe_divisor(jnp.max(abs(b), initial=0))
    b = b / scale
    squares, most = vdot(b, b), max(_LEAST_STEPS, _STEPS * b.size)

    def unfinished(carry: Any) -> jax.Array:
        _, _, _, rest, steps, convex = carry
        return (rest > squares * eps ** (2 * _EXACT)) & (steps < most) & convex

    def step(carry: Any) -> Any:
        x, residual, direction, rest, steps, _ = carry
        image = product(direction)
        curvature = vdot(direction, image)
        convex = curvature > 0
        length = rest / jnp.where(convex, curvature, 1)
        x, residual = x + length * direction, residual - length * image
        left = vdot(residual, residual)
        return x, residual, residual + left / rest * direction, left, steps + 1, convex

    start = jnp.zeros_like(b), b, b, squares, jnp.int32(0), jnp.asarray(True)
    x, _, _, rest, _, convex = lax.while_loop(unfinished, step, start)
    return jnp.where(convex & (rest <= squares * eps ** (2 * _ENOUGH)), scale * x, jnp.nan)
