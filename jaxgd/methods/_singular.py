"""Singular values of the Jacobian of residuals, with the residuals as a right side: by LAPACK, by loops, or by squares.

Of one matrix of few columns loops find them. LAPACK takes the matrices of a batch one by one, some microseconds each: for a batch
A'A is formed, in one product of matrices, where no digit that matters is lost to it, and only the other matrices go to LAPACK.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from jaxgd._compile.parts import LARGE
from jaxgd._products import matmul
from jaxgd._trees import safe_divisor
from jaxgd.methods._eigen import jacobi
from jaxgd.methods._few import has_few
from jaxgd.methods._few_singular import svd_of_few, triangle_of_few
from jaxgd.methods._rarely import rarely

_ALONE = 12  # columns of one matrix, up to which loops take no longer than LAPACK
_NARROW = 4  # columns of a matrix, up to which `jacobi` is written out
_MANY = 64  # matrices
_LOST = 8.0  # roots of rounding, above which what Cholesky's method leaves of a column is known well enough


@custom_vmap
def lengths_of(jacobian: jax.Array, residuals: jax.Array) -> jax.Array:
    """Return the lengths of the columns of a matrix, (m, n).

    They are zero where the matrix or the right side, (m,), is not finite.
    """
    jacobian, _ = _finite(jacobian, residuals)
    largest = safe_divisor(jnp.max(jnp.abs(jacobian), axis=0, initial=0))
    return largest * jnp.sqrt(jnp.sum(jnp.square(jacobian / largest), axis=0))


@lengths_of.def_vmap
def _lengths_of_many(count: int, batched: list[bool], jacobians: jax.Array, residuals: jax.Array) -> Any:
    if not (all(batched) and _is_narrow(count, jacobians)):
        return _one_by_one(lengths_of.fun, count, batched, jacobians, residuals)

    def length(jacobian: jax.Array, residuals: jax.Array, squares: jax.Array) -> jax.Array:
        lengths = jnp.sqrt(jnp.diagonal(squares)[:-1])
        return rarely(~_in_range(squares), lambda: lengths_of(jacobian, residuals), lengths)

    return jax.vmap(length)(jacobians, residuals, _squares(jacobians, residuals)), True


@custom_vmap
def svd_of(
    jacobian: jax.Array, residuals: jax.Array, scale: jax.Array, root: jax.Array, units: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the singular values of a scaled matrix, ascending, its vectors, and a right side in the left ones.

    That is s, V and U'b for A = U s V' and b = residuals / root, where A is jacobian * scale with the rows of diag(units) below.
    A matrix or residuals that are not finite are taken for zero. A is factorised by QR first, so that it may be long.
    """
    n, table = scale.size, _table(jacobian, residuals, scale, root, units)
    if not (has_few(table) and n <= _ALONE):
        return _svd_by_lapack(jacobian, residuals, scale, root, units)
    small = table.nbytes <= LARGE
    triangle = triangle_of_few(table, n) if small else jnp.linalg.qr(table, mode="r")
    return svd_of_few(triangle[:n, :n], triangle[:n, n])


def _svd_by_lapack(*arguments: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the same by functions of LAPACK."""
    n, triangle = arguments[2].size, jnp.linalg.qr(_table(*arguments), mode="r")
    left, values, rows = jnp.linalg.svd(triangle[:n, :n])
    return values[::-1], rows[::-1].T, matmul(triangle[:n, n], left)[::-1]


def _table(jacobian: jax.Array, residuals: jax.Array, scale: jax.Array, root: jax.Array, units: jax.Array) -> jax.Array:
    """Return the scaled matrix with diag(units) below, and the right side as its last column."""
    jacobian, residuals = _finite(jacobian, residuals)
    joined = jnp.concatenate([jacobian * scale, (residuals / root)[:, None]], axis=1)
    return jnp.concatenate([joined, jnp.pad(jnp.diag(units), ((0, 0), (0, 1)))])


@svd_of.def_vmap
def _svd_of_many(count: int, batched: list[bool], *arguments: jax.Array) -> Any:
    if not (batched[0] and _is_narrow(count, arguments[0])):
        return _one_by_one(_svd_by_lapack, count, batched, *arguments)
    arguments = tuple(
        one if is_batched else jnp.broadcast_to(one, (count, *one.shape))
        for one, is_batched in zip(arguments, batched, strict=True)
    )
    jacobians, residuals, scales, roots, units = arguments
    n = scales.shape[-1]
    squares = _squares(jacobians, residuals)
    own = jnp.eye(n, dtype=units.dtype)
    scaled = squares[:, :n, :n] * scales[:, :, None] * scales[:, None, :] + own * units[:, :, None] ** 2
    curvatures, vectors = jacobi(scaled)
    values = jnp.sqrt(jnp.maximum(curvatures, 0))
    right = squares[:, n, :n] * (scales / roots[:, None])
    along = jnp.sum(right[:, :, None] * vectors, axis=1) / safe_divisor(values)

    def unless_lost(arguments: Any, squares: jax.Array, scaled: jax.Array, found: Any) -> Any:
        lost = ~(_in_range(squares) & _in_range(scaled) & _are_independent(scaled))
        return rarely(lost, lambda: svd_of(*arguments), found)

    return jax.vmap(unless_lost)(arguments, squares, scaled, (values, vectors, along)), (True,) * 3


def _one_by_one(function: Any, count: int, batched: list[bool], *arguments: jax.Array) -> Any:
    """Return what a function of matrices returns for a batch, and that it is one."""
    axes = tuple(0 if is_batched else None for is_batched in batched)
    found = jax.vmap(function, in_axes=axes, axis_size=count)(*arguments)
    return found, jax.tree.map(lambda _: True, found)


def _is_narrow(count: int, jacobians: jax.Array) -> bool:
    return count >= _MANY and jacobians.shape[-1] <= _NARROW


def _finite(jacobian: jax.Array, residuals: jax.Array) -> tuple[jax.Array, jax.Array]:
    finite = jnp.all(jnp.isfinite(jacobian)) & jnp.all(jnp.isfinite(residuals))
    return jnp.where(finite, jacobian, 0), jnp.where(finite, residuals, 0)


def _squares(jacobians: jax.Array, residuals: jax.Array) -> jax.Array:
    """Return the products of columns, the last of which are the residuals, (count, n + 1, n + 1)."""
    joined = jnp.concatenate([jnp.swapaxes(jacobians, 1, 2), residuals[:, None]], axis=1)
    return matmul(joined, jnp.swapaxes(joined, 1, 2))


def _in_range(squares: jax.Array) -> jax.Array:
    """Return whether squares are finite, and neither so large nor so small that digits of the products are lost."""
    info, diagonal = jnp.finfo(squares.dtype), jnp.diagonal(squares)
    fine = (diagonal < info.max * info.eps) & ((diagonal > info.tiny / info.eps**2) | (diagonal == 0))
    return jnp.all(fine) & jnp.all(jnp.isfinite(squares))


def _are_independent(squares: jax.Array) -> jax.Array:
    """Return whether the columns of A are far from dependent, from A'A, by Cholesky's method."""
    n, least = len(squares), _LOST * jnp.finfo(squares.dtype).eps ** 0.5
    rest = [[squares[i, j] for j in range(n)] for i in range(n)]
    independent = jnp.asarray(True)
    for k in range(n):
        independent = independent & (rest[k][k] > least * squares[k, k])
        rest = [[rest[i][j] - rest[i][k] / safe_divisor(rest[k][k]) * rest[k][j] for j in range(n)] for i in range(n)]
    return independent
