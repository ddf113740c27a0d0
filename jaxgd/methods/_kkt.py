"""The linear system of an interior point method, with the inertia that makes its solution a direction of descent.

The slacks are eliminated, the rest is solved as it stands:

    [ W + S_x + d    J' ] [dx]     [r_x]      D = e for an equation,
    [ J              -D ] [dy]  =  [r_c]      D = e + 1 / (S_s + d) for an inequality

W is the curvature of the Lagrangian, S the curvature of the barriers, and e a small number that keeps the matrix regular where rows
of J depend on each other. The smallest d of a growing sequence is taken for which W + S_x + d + J' D**-1 J is positive definite:
the matrix then has as many positive eigenvalues as there are variables and as many negative ones as there are constraints.

A. Wächter, L. Biegler, On the implementation of an interior-point filter line-search algorithm for large-scale nonlinear
programming, Math. Program. 106 (2006), whose sequence this is. They count eigenvalues in a factorisation LDL', which JAX does not
have: a Cholesky factorisation tells the same.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import matmul
from jaxgd.methods._barrier import behind
from jaxgd.methods._few import cholesky, solver

_FIRST, _LEAST, _MOST = 1e-4, 1e-20, 1e20  # the first d ever, the least, and that above which none is tried
_FAST, _GROWTH, _DECAY = 100.0, 8.0, 1 / 3  # from one d to the next, while none was needed yet, and later; to the next system


class System(NamedTuple):
    """A linear system for n variables, p slacks and m constraints, of which the last p have a slack.

    Attributes:
        curvature: W, (n, n).
        barrier: S_x and S_s, (n + p,); an infinite one holds a slack.
        jacobian: J, (m, n).
        regular: e, a scalar.
        held: which variables don't take part, (n,).
        moves: the moves of those, (n,), zero for all others.
        silent: which constraints don't take part, (m,).
    """

    curvature: Any
    barrier: Any
    jacobian: Any
    regular: Any
    held: Any
    moves: Any
    silent: Any


class Direction(NamedTuple):
    """The solution: the moves of the variables with their slacks, those of the multipliers, and the d that was taken."""

    variables: Any
    multipliers: Any
    damping: Any


class Caution(NamedTuple):
    """How a system is solved.

    Attributes:
        last: the d of the last system that needed one.
        floor: the least d.
        wary: whether negative curvature is to be left rather than damped.
        nudge: a move of variables and slacks, (n + p,).
    """

    last: Any
    floor: Any
    wary: Any
    nudge: Any


def solve(system: System, variables: jax.Array, constraints: jax.Array, caution: Caution) -> tuple[Direction, jax.Array]:
    """Return the direction for the right-hand sides, (n + p,) and (m,), and whether it is another.

    Where one is wary and there is negative curvature, the direction is that of the nudge along the constraints, most of it along
    the most negative curvature.
    """
    n, free = system.curvature.shape[0], ~system.held
    eye = jnp.eye(n, dtype=system.curvature.dtype)
    matrix = whole = system.curvature + system.barrier[:n] * eye
    matrix = jnp.where(free[:, None] & free, matrix, jnp.where(free, 0, eye))
    rows = jnp.where(free & ~system.silent[:, None], system.jacobian, 0)
    damping = _damping(system, matrix, rows, free, caution)

    escapes = caution.wary & (damping > _FIRST)
    moves = jnp.where(escapes, 0, system.moves)
    variables = jnp.where(escapes, caution.nudge, variables)
    right = jnp.where(free, variables[:n] - matmul(whole, moves), moves)
    loud = jnp.where(system.silent | escapes, 0, constraints - matmul(system.jacobian, moves))
    soft = 1 / (system.barrier[n:] + damping)  # zero where a slack is held
    n_equations = loud.size - soft.size
    loud = loud + jnp.where(system.silent, 0, behind(soft * variables[n:], loud.size))
    corner = jnp.where(system.silent, 1, system.regular + behind(soft, loud.size))
    whole = jnp.block([[matrix + jnp.where(free, damping, 0) * eye, rows.T], [rows, -corner * jnp.eye(loud.size, dtype=eye.dtype)]])
    found = _solved(whole, jnp.concatenate([right, loud]))
    multipliers = found[n:]
    slacks = soft * (multipliers[n_equations:] + variables[n:])
    return Direction(jnp.concatenate([found[:n], slacks]), multipliers, damping), escapes


def _damping(system: System, matrix: jax.Array, rows: jax.Array, free: jax.Array, caution: Caution) -> jax.Array:
    """Return the least d of the sequence for which the inertia is right."""
    n, eps, last, floor = matrix.shape[0], float(jnp.finfo(matrix.dtype).eps), caution.last, caution.floor
    eye = jnp.eye(n, dtype=matrix.dtype)
    coarse = eps ** (1 / 3)  # a larger D makes the test only stricter, and keeps digits for the curvature along the constraints

    def definite(damping: jax.Array) -> jax.Array:
        corner = jnp.maximum(system.regular + behind(1 / (system.barrier[n:] + damping), rows.shape[0]), coarse)
        whole = matrix + jnp.where(free, damping, 0) * eye + matmul(rows.T / corner, rows)
        diagonal = jnp.diagonal(whole)
        size = 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
        pivots = jnp.diagonal(cholesky(whole * size[:, None] * size))
        return jnp.all(diagonal > 0) & jnp.all(pivots * pivots > n * eps)

    def wrong(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        return ~carry[1] & (carry[0] < _MOST)

    def larger(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        tried = carry[0]  # nothing yet where it is negative
        first = jnp.where(last > 0, jnp.maximum(last * _DECAY, _LEAST), _FIRST)
        grown = jnp.where(tried == floor, jnp.maximum(first, _GROWTH * floor), tried * jnp.where(last > 0, _GROWTH, _FAST))
        damping = jnp.where(tried < 0, floor, grown).astype(matrix.dtype)
        return damping, definite(damping)

    return lax.while_loop(wrong, larger, (jnp.full_like(floor, -1), floor < 0))[0]


def _solved(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Return the solution of a symmetric system in units of its rows, refined once."""
    largest = jnp.max(jnp.abs(matrix), axis=1)
    size = 1 / jnp.sqrt(jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1))
    scaled, goal = matrix * size[:, None] * size, size * right
    solved = solver(scaled)

    def refined(_: Any, found: jax.Array) -> jax.Array:
        return found + solved(goal - matmul(scaled, found))

    return size * lax.fori_loop(0, 2, refined, jnp.zeros_like(goal))
