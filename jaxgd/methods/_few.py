"""Linear algebra of matrices of few rows on a CPU, written as loops: they become part of the native function around them.

LAPACK's are functions of their own, with kernels on both sides to be compiled and called.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._trees import put, safe_divisor, taken

_ROWS = 16  # up to which loops are as fast as LAPACK


def has_few(matrix: jax.Array) -> bool:
    """Return whether a matrix has so few rows that loops are used, here on this machine."""
    return matrix.shape[-1] <= _ROWS and jax.default_backend() == "cpu"


def cholesky(matrix: jax.Array) -> jax.Array:
    """Return the lower triangle L with L L' = A, or NaN where A is not positive definite.

    Only the lower triangle of A is used.
    """
    if not has_few(matrix):
        return jnp.linalg.cholesky(matrix, symmetrize_input=False)
    rows = jnp.arange(matrix.shape[0])

    def column(k: jax.Array, factor: jax.Array) -> jax.Array:
        left = taken(matrix, k, axis=1) - jnp.sum(factor * taken(factor, k), axis=1)
        return put(factor, k, jnp.where(rows >= k, left / jnp.sqrt(taken(left, k)), 0), axis=1)

    factor = lax.fori_loop(0, rows.size, column, jnp.zeros_like(matrix))
    return jnp.where(jnp.all(jnp.isfinite(factor)), factor, jnp.nan)


def solve_lower(factor: jax.Array, right: jax.Array) -> jax.Array:
    """Return the solution x, (n,), of L x = b for a lower triangle L, (n, n)."""
    if not has_few(factor):
        return jax.scipy.linalg.solve_triangular(factor, right, lower=True)

    def row(k: jax.Array, x: jax.Array) -> jax.Array:
        own = taken(factor, k)
        return put(x, k, (taken(right, k) - jnp.sum(own * x)) / taken(own, k))

    return lax.fori_loop(0, right.size, row, jnp.zeros_like(right))


def solve_upper(factor: jax.Array, right: jax.Array) -> jax.Array:
    """Return the solution x, (n,), of L' x = b for a lower triangle L, (n, n)."""
    if not has_few(factor):
        return jax.scipy.linalg.solve_triangular(factor, right, lower=True, trans=1)

    def row(turn: jax.Array, x: jax.Array) -> jax.Array:
        k = right.size - 1 - turn
        own = taken(factor, k, axis=1)
        return put(x, k, (taken(right, k) - jnp.sum(own * x)) / taken(own, k))

    return lax.fori_loop(0, right.size, row, jnp.zeros_like(right))


def solver(matrix: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Return the function b -> x, both (n,), that solves A x = b for a matrix A, (n, n): factorised once."""
    if not has_few(matrix):
        factors = jax.scipy.linalg.lu_factor(matrix, check_finite=False)
        return lambda right: jax.scipy.linalg.lu_solve(factors, right, check_finite=False)
    places = jnp.arange(matrix.shape[0], dtype=jnp.int32)

    def eliminate(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, order = carry
        pivot = lax.argmax(jnp.where(places >= k, jnp.abs(taken(a, k, axis=1)), -1), 0, jnp.int32)
        row = taken(a, pivot)
        a = put(put(a, pivot, taken(a, k)), k, row)
        order = put(put(order, pivot, taken(order, k)), k, taken(order, pivot))
        ratios = jnp.where(places > k, taken(a, k, axis=1) / taken(row, k), 0)
        below = (places > k)[:, None]
        return jnp.where(
            below & (places > k), a - ratios[:, None] * row, jnp.where(below & (places == k), ratios[:, None], a)
        ), order

    lu, order = lax.fori_loop(np.int32(0), np.int32(places.size), eliminate, (matrix, places))

    def solve(right: jax.Array) -> jax.Array:
        def forward(k: jax.Array, x: jax.Array) -> jax.Array:
            return put(x, k, taken(right, taken(order, k)) - jnp.sum(jnp.where(places < k, taken(lu, k) * x, 0)))

        def backward(turn: jax.Array, x: jax.Array) -> jax.Array:
            k = places.size - 1 - turn
            row = taken(lu, k)
            return put(x, k, (taken(x, k) - jnp.sum(jnp.where(places > k, row * x, 0))) / taken(row, k))

        count = np.int32(places.size)
        return lax.fori_loop(np.int32(0), count, backward, lax.fori_loop(np.int32(0), count, forward, jnp.zeros_like(right)))

    return solve


def reflector(column: jax.Array, place: Any) -> tuple[jax.Array, jax.Array]:
    """Return v, (n,), and b of the reflection I - b v v' that clears a column below a place.

    With x the column from that place on, in units in which its squares are in range, v = x + sign(x_place) |x| e_place and
    b = 2 / v'v.
    """
    rows = jnp.arange(column.size, dtype=jnp.int32)
    x = jnp.where(rows >= place, column, 0)
    x = x / safe_divisor(jnp.max(jnp.abs(x)))
    first, length = taken(x, place), jnp.sqrt(jnp.sum(x * x))
    v = jnp.where(rows == place, first + jnp.where(first < 0, -length, length), x)
    needed = jnp.any((rows > place) & (x != 0))
    return v, jnp.where(needed, 1 / safe_divisor(length * (length + jnp.abs(first))), 0)


def power_of_two(size: jax.Array) -> jax.Array:
    """Return the largest power of two up to a size >= 0; zero for what is not normal."""
    info, whole = jnp.finfo(size.dtype), jnp.dtype(f"uint{8 * size.dtype.itemsize}")
    exponent = np.asarray(info.max, size.dtype).view(whole) >> info.nmant << info.nmant
    bits = lax.bitcast_convert_type(size, whole) & whole.type(exponent)
    return lax.bitcast_convert_type(bits, size.dtype)


def ascending(values: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return values in ascending order, (n,), with the row of each, (n, k)."""
    places = jnp.arange(values.size, dtype=jnp.int32)
    before = (values < values[:, None]) | ((values == values[:, None]) & (places < places[:, None]))
    ranks = jnp.sum(before, axis=1, dtype=jnp.int32)

    def placed(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> Any:
        return put(carry[0], taken(ranks, k), taken(values, k)), put(carry[1], taken(ranks, k), taken(rows, k))

    return lax.fori_loop(np.int32(0), np.int32(values.size), placed, (jnp.zeros_like(values), jnp.zeros_like(rows)))
