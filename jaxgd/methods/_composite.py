"""The least value of a quadratic model plus a separable penalty, within bounds: no evaluation of the cost."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import matmul
from jaxgd._trees import taken

_PASSES = 200  # at most; one for each change of the set of zeros, or some, and hundreds where columns are nearly the same
_LENGTHS = 7  # of a Newton step, all of which are compared, each half of the one before


class Piece(NamedTuple):
    """A quadratic model c'd + d'Bd / 2 of a cost around a point x, with the penalty.

    Attributes:
        x: the point.
        slopes: c.
        matrix: B, positive definite.
        prox: the proximal operator of the penalty within the bounds, for packed parameters and a step for each.
        penalty: the penalty of packed parameters.
    """

    x: jax.Array
    slopes: jax.Array
    matrix: jax.Array
    prox: Callable[[jax.Array, jax.Array], jax.Array]
    penalty: Callable[[jax.Array], jax.Array]


class _Pass(NamedTuple):
    """The state after some passes.

    The parameters, the slopes of the model there, the fall of the model with the penalty so far, whether the end is not reached,
    and the passes.
    """

    z: jax.Array
    slopes: jax.Array
    fall: jax.Array
    unfinished: jax.Array
    passes: jax.Array


def least_with_penalty(piece: Piece) -> tuple[jax.Array, jax.Array]:
    """Return the minimiser of c'd + d'Bd / 2 + P(x + d), and the fall to it.

    Each pass is a sweep of exact steps along one parameter after the other, and a semismooth Newton step: with t the inverse
    diagonal of B, u = z - t * slopes and D the derivative of prox at u, the parameters with D = 0 go to prox(u), and the others
    solve

        (B + (1 - D) / (t D)) d = -(z - prox(u)) / (t D) - B d of the former

    The best of parts of this step is taken, with parameters that would change their sign at zero. It ends where the energy of a
    step along each parameter is below rounding of the whole fall.

    J. Friedman, T. Hastie, R. Tibshirani, Regularization paths for generalized linear models via coordinate descent, J. Stat.
    Softw. 33 (2010); M. Hintermüller, K. Ito, K. Kunisch, The primal-dual active set strategy as a semismooth Newton method, SIAM
    J. Optim. 13 (2002); H. Lee, A. Battle, R. Raina, A. Ng, Efficient sparse coding algorithms, NIPS 2006, for the comparison of
    parts of a step.
    """
    eps, diagonal = float(jnp.finfo(piece.x.dtype).eps), jnp.diagonal(piece.matrix)

    def one_pass(state: _Pass) -> _Pass:
        z, slopes = _sweep(piece, diagonal, state.z, state.slopes)
        z, slopes, left = _newton(piece, diagonal, z, slopes)
        d = z - piece.x
        bent = jnp.sum(d * matmul(piece.matrix, d)) / 2
        fall = piece.penalty(piece.x) - piece.penalty(z) - jnp.sum(d * piece.slopes) - bent
        fall = jnp.maximum(fall, bent)  # at the minimum it is that at least, and rounding of the penalty does not hide it
        unfinished = left > eps * fall
        return _Pass(z, slopes, fall, unfinished & jnp.any(z != state.z), state.passes + 1)

    start = _Pass(piece.x, piece.slopes, jnp.zeros((), piece.x.dtype), jnp.asarray(True), jnp.zeros((), jnp.int32))
    end = lax.while_loop(lambda state: state.unfinished & (state.passes < _PASSES), one_pass, start)
    return end.z, end.fall


def _sweep(piece: Piece, diagonal: jax.Array, z: jax.Array, slopes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the parameters, and the slopes there, after an exact step along each of them in turn."""

    def along(k: jax.Array, carry: Any) -> Any:
        z, slopes = carry
        change = jnp.where(places == k, piece.prox(z - slopes / diagonal, steps) - z, 0)
        moved = jnp.sum(change)
        return z + change, slopes + moved * taken(piece.matrix, k)

    places, steps = jnp.arange(z.size, dtype=jnp.int32), 1 / diagonal
    return lax.fori_loop(jnp.int32(0), jnp.int32(z.size), along, (z, slopes))


def _newton(piece: Piece, diagonal: jax.Array, z: jax.Array, slopes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the parameters after the best part of a semismooth Newton step, if it lowers the model.

    With them come the slopes there, and the energy that steps along each parameter have left. Where rounding of the penalty hides
    whether the model falls, that energy has to.
    """
    n, dtype, steps = z.size, z.dtype, 1 / diagonal
    moved, kept = jax.jvp(lambda u: piece.prox(u, steps), (z - slopes / diagonal,), (jnp.ones_like(z),))
    free, left = kept > 0, z - moved
    divisor = jnp.where(free, steps * kept, 1)
    onto = jnp.where(free, 0, -left)
    own = jnp.where(free, (1 - kept) / divisor + 4 * n * jnp.finfo(dtype).eps * diagonal, 1)
    matrix = jnp.where(free[:, None] & free, piece.matrix, 0) + jnp.diag(own)
    factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    right = jnp.where(free, -left / divisor - matmul(piece.matrix, onto), 0)
    solved = jax.scipy.linalg.cho_solve((factor, True), right)
    step = onto + jnp.where(free & jnp.all(jnp.isfinite(solved)), solved, jnp.where(free, -left, 0))

    lengths = jnp.asarray(0.5, dtype) ** jnp.arange(_LENGTHS, dtype=dtype)
    trials = z + lengths[:, None] * step
    trials = jnp.where(trials * jnp.sign(moved) < 0, 0, trials)
    trials = jax.vmap(lambda trial: piece.prox(trial, jnp.zeros_like(trial)))(trials)  # into the bounds
    d = trials - z
    rises = matmul(d, slopes) + jnp.sum(matmul(d, piece.matrix) * d, axis=1) / 2
    height = piece.penalty(z)
    rises = rises + jax.vmap(piece.penalty)(trials) - height
    best = jnp.argmin(jnp.where(jnp.isfinite(rises), rises, jnp.inf))
    there = slopes + matmul(piece.matrix, d[best])

    def energy(z: jax.Array, slopes: jax.Array) -> jax.Array:
        return jnp.sum(diagonal * jnp.square(z - piece.prox(z - slopes / diagonal, steps)))

    before, after, noise = energy(z, slopes), energy(trials[best], there), 4 * n**0.5 * jnp.finfo(dtype).eps * height
    lower = (rises[best] < -noise) | ((rises[best] <= noise) & (after < before))
    return jnp.where(lower, trials[best], z), jnp.where(lower, there, slopes), jnp.where(lower, after, before)
