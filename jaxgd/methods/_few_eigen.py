"""Eigenvectors of a symmetric matrix of few rows, written as loops: a tridiagonal form, and QL iterations from there.

H. Bowdler, R. S. Martin, C. Reinsch, J. H. Wilkinson, The QR and QL algorithms for symmetric matrices, Numer. Math. 11 (1968);
R. S. Martin, C. Reinsch, J. H. Wilkinson, Householder's tridiagonalization of a symmetric matrix, Numer. Math. 11 (1968). Other
than there, a matrix is divided by a power of two, so that no square of its elements leaves the range of numbers that matter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._trees import put, safe_divisor, taken
from jaxgd.methods._few import ascending, power_of_two, reflector

_TURNS = 40  # for each eigenvalue, at most; two do on average


class _Iteration(NamedTuple):
    """The state of the QL iterations.

    Attributes:
        place: the eigenvalue that is looked for: those before it are found.
        turns: how many turns are left.
        diagonal: the diagonal of the tridiagonal matrix, (n,).
        beside: the elements beside it, and a zero, (n,).
        rows: the eigenvectors so far, a row each, (n, n).
    """

    place: jax.Array
    turns: jax.Array
    diagonal: jax.Array
    beside: jax.Array
    rows: jax.Array


class _Chase(NamedTuple):
    """The state of one QL iteration, which goes from the end of a block upwards.

    Attributes:
        place: the first row of the next rotation.
        sine, cosine: those of the last one.
        shift: what the last one has to take from the diagonal.
        bulge: the element that the next one rotates away, or the first of the block in the end.
        diagonal, beside, rows: as in `_Iteration`.
    """

    place: jax.Array
    sine: jax.Array
    cosine: jax.Array
    shift: jax.Array
    bulge: jax.Array
    diagonal: jax.Array
    beside: jax.Array
    rows: jax.Array


def eigh_of_few(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the eigenvalues of a symmetric matrix, ascending, (n,), and its eigenvectors, a column each, (n, n).

    They are NaN where the matrix is not finite. Errors are some roundings of the largest eigenvalue.
    """
    n, largest = matrix.shape[0], jnp.max(jnp.abs(matrix))
    finite = jnp.isfinite(largest)
    if n == 1:
        return jnp.where(finite, matrix[0], jnp.nan), jnp.where(finite, jnp.ones_like(matrix), jnp.nan)
    unit = safe_divisor(power_of_two(largest))
    diagonal, beside, rows = _tridiagonal(matrix / unit)
    first = jnp.where(finite, 0, n).astype(jnp.int32)
    begun = _Iteration(first, jnp.asarray(_TURNS * n, jnp.int32), diagonal, beside, rows)
    found = lax.while_loop(lambda state: (state.place < n) & (state.turns > 0), _turn, begun)
    values, rows = ascending(found.diagonal * unit, found.rows)
    return jnp.where(finite, values, jnp.nan), jnp.where(finite, rows.T, jnp.nan)


def _tridiagonal(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the diagonal of a tridiagonal T = Q A Q', the elements beside it and a zero, and Q.

    Turn k reflects column k onto its elements up to k + 1, from both sides: A <- A - v w' - w v' with w = p - (b v'p / 2) v and
    p = b A v.
    """
    n = matrix.shape[0]

    def reflect(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, q = carry
        v, b = reflector(taken(a, k), k + 1)
        p = b * jnp.sum(a * v, axis=1)
        w = p - (b / 2 * jnp.sum(p * v)) * v
        turned = b * jnp.sum(v[:, None] * q, axis=0)
        return a - v[:, None] * w - w[:, None] * v, q - v[:, None] * turned

    a, q = lax.fori_loop(np.int32(0), np.int32(n - 2), reflect, (matrix, jnp.eye(n, dtype=matrix.dtype)))
    return jnp.diagonal(a), jnp.concatenate([jnp.diagonal(a, 1), jnp.zeros((1,), a.dtype)]), q


def _turn(state: _Iteration) -> _Iteration:
    """Go to the next eigenvalue where one is found, or iterate on the block that begins with it."""
    dtype, places = state.diagonal.dtype, jnp.arange(state.diagonal.size, dtype=jnp.int32)
    around = jnp.abs(state.diagonal) + jnp.abs(jnp.roll(state.diagonal, -1))
    negligible = jnp.abs(state.beside) <= float(jnp.finfo(dtype).eps) * around + _least(dtype)
    last = jnp.min(jnp.where(negligible & (places >= state.place), places, places.size - 1))
    after = lax.cond(last == state.place, lambda: state._replace(place=state.place + 1), lambda: _iterated(state, last))
    return after._replace(turns=state.turns - 1)


def _iterated(state: _Iteration, last: jax.Array) -> _Iteration:
    """Return the state after one iteration on the block from `state.place` to `last`, by rotations from its end.

    The shift is the eigenvalue of the first two rows that is nearer to the first element.
    """
    first, diagonal, beside = state.place, state.diagonal, state.beside
    start, edge, one = taken(diagonal, first), taken(beside, first), jnp.ones((), diagonal.dtype)
    slope = (taken(diagonal, first + 1) - start) / (2 * edge)
    length = jnp.sqrt(1 + slope * slope)
    bulge = taken(diagonal, last) - start + edge / (slope + jnp.where(slope < 0, -length, length))
    begun = _Chase(last - 1, one, one, 0 * one, bulge, diagonal, beside, state.rows)
    end = lax.while_loop(lambda chase: chase.place >= first, _rotated, begun)
    beside = put(put(end.beside, first, end.bulge), last, 0 * one)
    return state._replace(diagonal=put(end.diagonal, first, taken(end.diagonal, first) - end.shift), beside=beside, rows=end.rows)


def _rotated(chase: _Chase) -> _Chase:
    """Return the state after the rotation of two neighbouring rows and columns."""
    k, diagonal, beside = chase.place, chase.diagonal, chase.beside
    edge = taken(beside, k)
    away, along = chase.sine * edge, chase.cosine * edge
    length = jnp.sqrt(away * away + chase.bulge * chase.bulge)
    length = jnp.where(length > _least(diagonal.dtype), length, 0)
    sine, cosine = away / safe_divisor(length), chase.bulge / safe_divisor(length)
    sine, cosine = jnp.where(length > 0, sine, 0), jnp.where(length > 0, cosine, 1)
    below = taken(diagonal, k + 1) - chase.shift
    mixed = (taken(diagonal, k) - below) * sine + 2 * cosine * along
    upper, lower = lax.dynamic_slice_in_dim(chase.rows, k, 2, allow_negative_indices=False)
    pair = jnp.stack([cosine * upper - sine * lower, sine * upper + cosine * lower])
    return _Chase(
        place=k - 1,
        sine=sine,
        cosine=cosine,
        shift=sine * mixed,
        bulge=cosine * mixed - along,
        diagonal=put(diagonal, k + 1, below + sine * mixed),
        beside=put(beside, k + 1, length),
        rows=lax.dynamic_update_slice_in_dim(chase.rows, pair, k, 0, allow_negative_indices=False),
    )


def _least(dtype: Any) -> float:
    """Return a length whose square still has all digits, nothing beside a largest element of one."""
    info = jnp.finfo(dtype)
    return float(info.tiny / info.eps) ** 0.5
