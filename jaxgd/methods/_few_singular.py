"""Singular values of a matrix of few columns, written as loops: a triangle by reflections, and Jacobi's rotations from there.

M. R. Hestenes, Inversion of matrices by biorthogonalization and related results, J. SIAM 6 (1958), for the rotations; J. Demmel,
K. Veselić, Jacobi's method is more accurate than QR, SIAM J. Matrix Anal. Appl. 13 (1992), for the criterion of the end.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._trees import put, safe_divisor, taken
from jaxgd.methods._few import ascending, power_of_two, reflector

_SWEEPS = 20  # at most; the convergence is quadratic, and four to eight do


def triangle_of_few(matrix: jax.Array, count: int) -> jax.Array:
    """Return the first rows of Q'A, (count, n), for a matrix A, (m, n), with m, n >= count.

    Q is that of the factors Q R of the first `count` columns: these columns become R. Turn k reflects column k onto its elements up
    to k: A <- A - b v v'A.
    """

    def reflected(k: jax.Array, a: jax.Array) -> jax.Array:
        v, b = reflector(taken(a, k, axis=1), k)
        return a - v[:, None] * (b * jnp.sum(v[:, None] * a, axis=0))

    return jnp.triu(lax.fori_loop(np.int32(0), np.int32(count), reflected, matrix)[:count])


def svd_of_few(matrix: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the singular values s of a matrix, ascending, (n,), its right vectors V, (n, n), and U'b, (n,).

    A = U s V' is that matrix, (n, n), and b the right side. Columns of A V are rotated in pairs until all are orthogonal. Where a
    value is zero, so is its element of U'b. All are NaN where the matrix is not finite.
    """
    n, largest = matrix.shape[0], jnp.max(jnp.abs(matrix))
    unit = safe_divisor(power_of_two(largest))
    eps = float(jnp.finfo(matrix.dtype).eps)

    def sweep(carry: Any) -> Any:
        def pair(place: jax.Array, found: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
            p, q = place // n, place % n
            return lax.cond(p < q, lambda: _rotated(*found, p, q, eps), lambda: found)

        sweeps, found = carry[0], (*carry[1:3], jnp.asarray(False))
        return sweeps + 1, *lax.fori_loop(np.int32(0), np.int32(n * n), pair, found)

    begun = jnp.zeros((), jnp.int32), (matrix / unit).T, jnp.eye(n, dtype=matrix.dtype), jnp.asarray(n > 1)
    _, columns, vectors, _ = lax.while_loop(lambda carry: carry[3] & (carry[0] < _SWEEPS), sweep, begun)
    tops = safe_divisor(jnp.max(jnp.abs(columns), axis=1))
    values = tops * jnp.sqrt(jnp.sum(jnp.square(columns / tops[:, None]), axis=1))
    along = jnp.sum(columns / safe_divisor(values)[:, None] * right, axis=1)
    values, rows = ascending(values, jnp.concatenate([vectors, along[:, None]], axis=1))
    values, rows = (jnp.where(jnp.isfinite(largest), one, jnp.nan) for one in (values * unit, rows))
    return values, rows[:, :n].T, rows[:, n]


def _rotated(columns: jax.Array, vectors: jax.Array, turned: jax.Array, p: jax.Array, q: jax.Array, eps: float) -> Any:
    """Return columns and vectors, as rows, after the rotation of two of them, and whether any was needed."""
    x, y = taken(columns, p), taken(columns, q)
    xx, yy, xy = jnp.sum(x * x), jnp.sum(y * y), jnp.sum(x * y)
    needed = jnp.abs(xy) > eps * jnp.sqrt(xx) * jnp.sqrt(yy)
    slope = (yy - xx) / jnp.where(needed, 2 * xy, 1)
    tangent = jnp.where(slope < 0, -1, 1) / (jnp.abs(slope) + jnp.sqrt(1 + slope * slope))
    cosine = jnp.where(needed, 1 / jnp.sqrt(1 + tangent * tangent), 1)
    sine = jnp.where(needed, cosine * tangent, 0)

    def turn(rows: jax.Array) -> jax.Array:
        x, y = taken(rows, p), taken(rows, q)
        return put(put(rows, p, cosine * x - sine * y), q, sine * x + cosine * y)

    return turn(columns), turn(vectors), turned | needed
