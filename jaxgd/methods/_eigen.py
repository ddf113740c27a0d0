"""Eigenvectors of symmetric matrices: LAPACK's, but loops for one of few rows, and Jacobi's rotations for many tiny ones.

LAPACK takes the matrices of a batch one by one, a microsecond each; rotations of a thousand of them at once are a few arithmetic
operations on vectors of a thousand numbers.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd.methods._few import has_few
from jaxgd.methods._few_eigen import eigh_of_few

_TINY = 4  # rows of a matrix, up to which a sweep is written out
_MANY = 64  # matrices
_ALONE = 12  # rows of one matrix, up to which loops take no longer than LAPACK
_SWEEPS = 12  # at most; the convergence is quadratic, and five or six do


@jax.custom_batching.custom_vmap
def eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the eigenvalues of a symmetric matrix, ascending, (n,), and its eigenvectors, a column each, (n, n)."""
    if has_few(matrix) and matrix.shape[0] <= _ALONE:
        return eigh_of_few(matrix)
    return _of_library(matrix)


@eigh.def_vmap
def _eigh_of_many(count: int, batched: list[bool], matrices: jax.Array) -> Any:
    mapped = bool(batched[0])
    if mapped and count >= _MANY and matrices.shape[-1] <= _TINY:
        return jacobi(matrices), (True, True)
    return _of_library(matrices), (mapped, mapped)


def _of_library(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what `eigh` does. Of a single number that is not finite JAX knows an eigenvector."""
    if matrices.shape[-1] == 1:
        matrices = jnp.where(jnp.isfinite(matrices), matrices, jnp.nan)
        return matrices[..., 0], matrices * 0 + 1
    values, vectors = jnp.linalg.eigh(matrices, symmetrize_input=False)
    return values, vectors


def jacobi(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the same for matrices of shape (count, n, n), by cyclic rotations that annihilate one element after the other.

    With t the tangent of the angle of a rotation in the plane (p, q), c its cosine and s its sine:

        t = 2 a_pq sign(a_qq - a_pp) / (|a_qq - a_pp| + sqrt((a_qq - a_pp)**2 + 4 a_pq**2))
        a_pp <- a_pp - t a_pq,  a_qq <- a_qq + t a_pq,  a_pq <- 0,  (x_p, x_q) <- (c x_p - s x_q, s x_p + c x_q)

    for the other elements x of the two rows and for the eigenvectors, until no |a_pq| > rounding * sqrt(|a_pp a_qq|). Of a matrix
    that is not finite nothing is.

    C. G. J. Jacobi, Über ein leichtes Verfahren, J. reine angew. Math. 30 (1846); J. Demmel, K. Veselić, Jacobi's method is more
    accurate than QR, SIAM J. Matrix Anal. Appl. 13 (1992), for the criterion of the end.
    """
    n = matrices.shape[-1]
    planes = [(p, q) for p in range(n) for q in range(p + 1, n)]
    eps = jnp.finfo(matrices.dtype).eps

    def unsettled(carry: Any) -> jax.Array:
        sweeps, a, _ = carry
        large = [jnp.abs(a[p, q]) > eps * jnp.sqrt(jnp.abs(a[p, p])) * jnp.sqrt(jnp.abs(a[q, q])) for p, q in planes]
        return (sweeps < _SWEEPS) & jnp.any(jnp.stack(large)) if large else jnp.asarray(False)

    def sweep(carry: Any) -> Any:
        sweeps, matrix, columns = carry
        a, v = _elements(matrix), _elements(columns)
        for p, q in planes:
            a, v = _rotated(a, v, p, q)
        return sweeps + 1, _stacked(a), _stacked(v)

    first = jnp.moveaxis(matrices, 0, -1)
    first = jnp.where(jnp.all(jnp.isfinite(first), axis=(0, 1)), first, jnp.nan)
    own = jnp.broadcast_to(jnp.eye(n, dtype=matrices.dtype)[:, :, None], first.shape) + 0 * first
    _, matrix, columns = lax.while_loop(unsettled, sweep, (jnp.zeros((), jnp.int32), first, own))
    values, vectors = [matrix[k, k] for k in range(n)], [[columns[i, k] for i in range(n)] for k in range(n)]
    for p, q in planes:
        values, vectors = _exchanged(values, vectors, p, q)
    return jnp.stack(values, axis=-1), jnp.moveaxis(_stacked(vectors), (0, 1, 2), (2, 1, 0))


def _elements(array: jax.Array) -> list[list[jax.Array]]:
    return [[array[i, j] for j in range(array.shape[1])] for i in range(array.shape[0])]


def _stacked(rows: list[list[jax.Array]]) -> jax.Array:
    return jnp.stack([jnp.stack(row) for row in rows])


def _rotated(a: Any, v: Any, p: int, q: int) -> tuple[Any, Any]:
    """Return the matrix and the eigenvectors after the rotation in one plane, as new lists."""
    a, v = [list(row) for row in a], [list(row) for row in v]
    element, difference = a[p][q], a[q][q] - a[p][p]
    length = jnp.abs(difference) + jnp.hypot(difference, 2 * element)
    tangent = jnp.where(length > 0, jnp.where(difference < 0, -2, 2) * element / jnp.where(length > 0, length, 1), 0)
    cosine = lax.rsqrt(1 + tangent * tangent)
    sine = tangent * cosine
    turned = functools.partial(_turned, cosine, sine)
    for k in range(len(a)):
        if k not in (p, q):
            a[k][p], a[k][q] = turned(a[k][p], a[k][q])
            a[p][k], a[q][k] = a[k][p], a[k][q]
        v[k][p], v[k][q] = turned(v[k][p], v[k][q])
    a[p][p], a[q][q] = a[p][p] - tangent * element, a[q][q] + tangent * element
    a[p][q] = a[q][p] = jnp.zeros_like(element)
    return a, v


def _turned(cosine: jax.Array, sine: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    return cosine * x - sine * y, sine * x + cosine * y


def _exchanged(values: Any, vectors: Any, p: int, q: int) -> tuple[Any, Any]:
    """Eigenvalues and their vectors, two of them exchanged where they are not in ascending order."""
    values, vectors = list(values), list(vectors)
    swap = values[p] > values[q]
    values[p], values[q] = jnp.minimum(values[p], values[q]), jnp.maximum(values[p], values[q])
    first, second = vectors[p], vectors[q]
    vectors[p] = [jnp.where(swap, y, x) for x, y in zip(first, second, strict=True)]
    vectors[q] = [jnp.where(swap, x, y) for x, y in zip(first, second, strict=True)]
    return values, vectors
