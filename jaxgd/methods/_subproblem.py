"""The steps of a trust region: the least value of a quadratic model within a ball, or within a box."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import matmul
from jaxgd._trees import safe_divisor
from jaxgd.methods._few import cholesky, solve_lower, solve_upper

FAR = 1e9  # stands for an open end of a box, in units of the variables' sizes
_REFINEMENTS = 6  # of the multiplier by Newton's method; two or three make it good to a tenth (Moré and Sorensen), which is enough
_PASSES = 60  # of the projected Newton method at most; it needs about as many as the set of active bounds changes
_HALVINGS = 8  # of a step along the projected path, all of which are compared: the least is 1/128 of the step


def least_in_ball(curve: jax.Array, slopes: jax.Array, radius: jax.Array) -> jax.Array:
    """Return the minimiser of c'q + sum(l * q**2) / 2 in |q| <= radius, for l >= 0.

    The multiplier m of the radius solves |c / (l + m)| = radius, by Newton's method for the reciprocal, from a bound below (J. J.
    Moré, D. C. Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4 (1983)).
    """

    def at(multiplier: jax.Array) -> jax.Array:
        return jnp.where(slopes == 0, 0, -slopes / safe_divisor(curve + multiplier))

    def newton(_: Any, multiplier: jax.Array) -> jax.Array:
        q = at(multiplier)
        square = jnp.sum(q * q)
        fall = jnp.sum(q * q / safe_divisor(curve + multiplier))  # half of that of |q|**2 with the multiplier
        return multiplier + jnp.maximum((jnp.sqrt(square) / radius - 1) * square / safe_divisor(fall), 0)

    multiplier = jnp.maximum(jnp.max(jnp.abs(slopes) / radius - curve), 0)
    q = at(multiplier)
    inside = (multiplier == 0) & (jnp.sum(q * q) <= radius * radius)
    q = jnp.where(inside, q, at(lax.fori_loop(0, _REFINEMENTS, newton, multiplier)))
    return q * jnp.minimum(1, radius / safe_divisor(jnp.sqrt(jnp.sum(q * q))))


class _Pass(NamedTuple):
    """The state of the projected Newton method: the step, its model value, whether the last pass lowered it, the passes made."""

    step: jax.Array
    value: jax.Array
    lowered: jax.Array
    passes: jax.Array


def least_in_box(matrix: jax.Array, slopes: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the minimiser d of c'd + d'Bd / 2 in low <= d <= high, and its fall.

    B is positive semidefinite and 0 lies in the box. Each pass moves the variables that a diagonal Newton step would take to a
    bound onto it, solves for the others, and takes the best of the projections of this step and of parts of it, and of
    diagonal steps. Only matrices are involved: the cost is not evaluated.

    D. P. Bertsekas, Projected Newton methods for optimization problems with simple constraints, SIAM J. Control Optim. 20 (1982).
    The best of a fixed set of trial steps takes the place of his Armijo rule.
    """
    n, eps = slopes.size, float(jnp.finfo(slopes.dtype).eps)
    diagonal = jnp.maximum(jnp.diagonal(matrix), jnp.finfo(slopes.dtype).tiny)
    parts = jnp.asarray(2.0, slopes.dtype) ** -jnp.arange(_HALVINGS, dtype=slopes.dtype)
    own = jnp.eye(n, dtype=bool)

    def values(steps: jax.Array) -> jax.Array:
        return matmul(steps, slopes) + jnp.sum(matmul(steps, matrix) * steps, axis=1) / 2

    def one_pass(state: _Pass) -> _Pass:
        residual = slopes + matmul(matrix, state.step)
        ahead = state.step - residual / diagonal
        at_bound = ((ahead <= low) & (residual > 0)) | ((ahead >= high) & (residual < 0)) | (low == high)
        onto = jnp.where(at_bound & (low < high), jnp.where(residual > 0, low, high) - state.step, 0)
        free = ~at_bound
        reduced = jnp.where(free[:, None] & free, matrix, 0) + jnp.where(own, jnp.where(free, 4 * n * eps * diagonal, 1), 0)
        factor = cholesky(reduced)
        solved = -solve_upper(factor, solve_lower(factor, jnp.where(free, residual + matmul(matrix, onto), 0)))
        diagonally = -residual / diagonal
        newton = onto + jnp.where(jnp.all(jnp.isfinite(solved)), solved, jnp.where(free, diagonally, 0))
        trials = jnp.concatenate([parts[:, None] * newton, jnp.asarray([[1.0], [0.25], [1 / n]], slopes.dtype) * diagonally])
        trials = jnp.clip(state.step + trials, low, high)
        trials = jnp.where(
            trials - low <= 4 * eps * jnp.abs(low), low, jnp.where(high - trials <= 4 * eps * jnp.abs(high), high, trials)
        )
        found = values(trials)
        best = jnp.argmin(found)
        lowered = found[best] < state.value - 1e-3 * eps * jnp.abs(state.value)
        step, value = jnp.where(lowered, trials[best], state.step), jnp.where(lowered, found[best], state.value)
        return _Pass(step, value, lowered, state.passes + 1)

    start = _Pass(jnp.zeros_like(slopes), jnp.zeros((), slopes.dtype), jnp.asarray(True), jnp.zeros((), jnp.int32))
    end = lax.while_loop(lambda state: state.lowered & (state.passes < _PASSES), one_pass, start)
    return end.step, -end.value
