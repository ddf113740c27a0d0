"""The next direction of an interior point method: Newton's for the conditions of optimality under barriers.

In a search the conditions are those of the problem. In a restoration, which begins where no step of a search is accepted far from
feasible points, they are those of the least violation. When all has converged, a polish takes what is active for equations and
drops the barriers, so that active constraints and bounds hold to rounding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import matmul
from jaxgd._trees import select
from jaxgd.methods import _kkt
from jaxgd.methods._barrier import Errors, Iterate, Place, barrier, missed, natural, positive, pulled, rounded, steepness
from jaxgd.methods._few import cholesky, solve_lower, solve_upper
from jaxgd.methods._interior_memory import POLISH, RESTORE, SEARCH, Frame, Memory
from jaxgd.methods._interior_trial import FALLS, LESS, LOWER, RESCUES, VIOLATIONS, Turn
from jaxgd.result import RUNNING, Status

_KAPPA, _LINEAR, _POWER = 10.0, 0.2, 1.5  # at errors of ten times the barrier it falls, to a fifth or the power 1.5
_LARGE = 1e3  # multipliers, above which an estimate is dropped
_WEIGHT = 1e3  # of the violation in a restoration
_MOST, _LITTLE = 1e4, 1e-4  # of the first violation, see `Memory`
_EDGE = 0.99  # of the way to a wall that a step may go
_SHORT = 0.05  # of the share that the filter may ask for
_TINY, _TINIEST = 1e-2, 1e-12  # gradients with curvatures at the start, below which the cost is enlarged, and the least
_ESCAPE = 1e-2  # of the variables: the length of a step away from a saddle
_DEEP = 1.3  # power of the rounding unit: its inverse is a depth that no minimum has
_FLAT = 0.4  # power of the rounding unit: the relative slope of the violation that is none


class Ground(NamedTuple):
    """The point from which a direction is sought: the place in units of the run, its slacks and multipliers, and what follows.

    Attributes:
        at: the place.
        it: slacks and multipliers.
        v: variables and slacks.
        gaps: the distances from both walls.
        left: the missed equations.
        slope: the gradient of what is minimised, for variables and slacks.
        tilt: the gradient of the Lagrangian.
        rest: what is to vanish for the equations.
        matrix: the curvature of the Lagrangian.
        restoring: whether this is a restoration.
    """

    at: Any
    it: Any
    v: Any
    gaps: Any
    left: Any
    slope: Any
    tilt: Any
    rest: Any
    matrix: Any
    restoring: Any


def renewed(frame: Frame, curvature: Callable[..., Any], at: Place, turn: Turn) -> tuple[Memory, jax.Array]:
    """Return the memory with a new direction at a point, and the code of the end, or of going on."""
    walls, p = frame.walls, frame.n_slacks
    memory, ground = _ground(frame, curvature, at, turn)
    at, it, v, restoring = ground.at, ground.it, ground.v, ground.restoring

    errors = Errors.of(ground.tilt, ground.rest, ground.gaps, v, it)
    settled = (memory.stage == SEARCH) & (errors.largest(0.0) <= frame.tolerance)
    hopeless = restoring & _least_violated(frame, at)
    least = frame.tolerance / _KAPPA
    weight = lax.while_loop(
        lambda weight: (errors.largest(weight) <= _KAPPA * weight) & (weight > least),
        lambda weight: jnp.maximum(least, jnp.minimum(_LINEAR * weight, weight**_POWER)).astype(weight.dtype),
        memory.barrier,
    )
    polishing = (memory.stage == POLISH) | settled
    memory = memory._replace(
        filter=memory.filter.cleared((weight < memory.barrier) & (memory.stage == SEARCH)),
        error=jnp.where(memory.stage == POLISH, memory.error, natural(at, walls, it.y, p)),
        blur=rounded(at, walls.held, it.y, ground.matrix, frame.eps),
        settled=(memory.settled & (memory.stage == POLISH)) | settled,
    )
    corrected = memory
    found, ahead, escapes = _direction(frame, ground, memory._replace(barrier=weight), turn, polishing, hopeless)
    polishing = polishing & ~escapes
    tau = jnp.maximum(_EDGE, 1 - weight)
    share = jnp.where(polishing, 1, walls.farthest(v, found.variables, tau))
    along = jnp.where(polishing & (jnp.arange(v.size) >= at.x.size), 0, found.variables)
    memory = memory._replace(
        it=it,
        barrier=weight,
        damping=jnp.where(found.damping > 0, found.damping, memory.damping),
        ahead=ahead,
        along=along,
        move=share * along,
        share=share,
        share_z=jnp.minimum(positive(it.low, ahead.low, tau), positive(it.high, ahead.high, tau)),
        stage=jnp.where(polishing, POLISH, jnp.where(escapes & ~restoring, SEARCH, memory.stage)).astype(jnp.int32),
        refusals=jnp.zeros_like(memory.refusals),
        rescues=memory.rescues + escapes.astype(jnp.int32),
    )
    memory = _with_merit(frame, ground, memory, escapes)
    corrected = corrected._replace(move=walls.farthest(v, found.variables, tau) * found.variables)
    cost = at.cost / memory.units.cost
    deep = (cost < -(frame.eps**-_DEEP)) & (jnp.abs(cost) * frame.eps > jnp.abs(memory.first))
    ends = (hopeless & ~escapes, Status.INFEASIBLE), (deep, Status.UNBOUNDED)
    code = jnp.select([seen for seen, _ in ends], [status.code for _, status in ends], RUNNING)
    return select(turn.corrects, corrected, memory), code.astype(jnp.int32)


def _ground(frame: Frame, curvature: Callable[..., Any], at: Place, turn: Turn) -> tuple[Memory, Ground]:
    """Return the memory and the ground from which a direction is sought."""
    walls, p, memory = frame.walls, frame.n_slacks, turn.memory
    it, v = memory.it, jnp.concatenate([at.x, memory.it.s])
    gaps, left = walls.gaps(v), missed(at, it.s)
    memory = _entered(memory, v, left, turn.enters)
    restoring, rows = memory.stage == RESTORE, jnp.zeros((p,), v.dtype)
    near = [jnp.where(jnp.isfinite(gap), memory.barrier / gap, 0) for gap in gaps]
    pull = memory.restoration.merit(memory.barrier, at.x, left)[1]
    slope = jnp.concatenate([jnp.where(restoring, pull, at.gradient), rows])
    low, high = (
        jnp.where(turn.enters, one, jnp.where(turn.resets, jnp.minimum(z, _LARGE), z)) for one, z in zip(near, it[2:], strict=True)
    )
    y = jnp.where(turn.resets, _estimated(at, slope - low + high, p), it.y)
    y = jnp.where(turn.enters, left / memory.restoration.divisor, y)
    matrix = curvature(jnp.where(restoring, 0, 1).astype(v.dtype), y)
    larger = jnp.where(turn.resets & (memory.most == 0), _enlarged(at, matrix, walls.held), 1)
    memory = memory._replace(units=memory.units._replace(cost=memory.units.cost * larger))
    at = at._replace(cost=at.cost * larger, gradient=at.gradient * larger)
    slope, y, matrix = slope * larger, y * larger, matrix * larger
    aside = jnp.concatenate([walls.held, jnp.zeros((p,), bool)])
    tilt = jnp.where(aside, 0, slope + pulled(at, y, p) - low + high)
    rest = left - jnp.where(restoring, memory.restoration.width * y, 0)
    return memory, Ground(at, Iterate(it.s, y, low, high), v, gaps, left, slope, tilt, rest, matrix, restoring)


def _entered(memory: Memory, v: jax.Array, left: jax.Array, enters: jax.Array) -> Memory:
    """Return the memory where a restoration begins, if it does."""
    worst = jnp.max(jnp.abs(left), initial=0.0)
    begun = memory.restoration._replace(
        anchor=v, violation=memory.violation, width=(worst / _WEIGHT).astype(v.dtype), barrier=memory.barrier
    )
    weight = jnp.where(enters, jnp.maximum(memory.barrier, worst), memory.barrier)
    return memory._replace(restoration=select(enters, begun, memory.restoration), barrier=weight)


def _direction(
    frame: Frame, ground: Ground, memory: Memory, turn: Turn, polishing: jax.Array, hopeless: jax.Array
) -> tuple[_kkt.Direction, Iterate, jax.Array]:
    """Return the direction, that of the multipliers, and whether it leads away from a saddle."""
    walls, p, eps = frame.walls, frame.n_slacks, frame.eps
    at, it, v, gaps, restoring = ground.at, ground.it, ground.v, ground.gaps, ground.restoring
    n, m, y = at.x.size, at.values.size, ground.it.y
    slack = jnp.where(memory.stage == POLISH, at.values[m - p :], it.s)
    silent = jnp.concatenate([jnp.zeros((m - p,), bool), polishing & (it.low[n:] <= slack)])
    at_low, at_high = (polishing & jnp.isfinite(gap[:n]) & (z[:n] > gap[:n]) for gap, z in zip(gaps, it[2:], strict=True))
    moves = jnp.where(at_low, walls.low[:n] - at.x, jnp.where(at_high, walls.high[:n] - at.x, 0))
    base = jnp.where(silent, 0, y)
    near = [jnp.where(jnp.isfinite(gap), memory.barrier / gap, 0) for gap in gaps]
    stiff = [jnp.where(jnp.isfinite(gap), z / gap, 0) for gap, z in zip(gaps, it[2:], strict=True)]
    stiffness = jnp.where(polishing, jnp.where(jnp.arange(n + p) < n, 0, jnp.inf), stiff[0] + stiff[1])
    _, pull, weight = memory.restoration.merit(memory.barrier, at.x, ground.left)
    slope = jnp.concatenate([jnp.where(restoring, pull, at.gradient), jnp.zeros((p,), v.dtype)])
    eye = jnp.eye(n, dtype=v.dtype)
    matrix = ground.matrix + jnp.where(restoring, weight, 0) * eye
    matrix = jnp.where(jnp.all(jnp.isfinite(matrix)), matrix, eye)
    regular = eps**0.5 * jnp.where(polishing, eps, memory.barrier) ** 0.25
    regular = jnp.where(restoring, memory.restoration.width, regular)
    system = _kkt.System(matrix, stiffness, at.jacobian, regular, walls.held | at_low | at_high, moves, silent)
    goal = jnp.where(turn.corrects, turn.left, jnp.where(polishing, at.values, ground.rest))
    force = slope + pulled(at, base, p) - jnp.where(polishing, 0, near[0] - near[1])

    flat = polishing | hopeless  # the slope says nothing, and a wrong inertia tells that this is no minimum
    last, floor = (jnp.where(flat, 0, one) for one in (memory.damping, memory.floor))
    size = jnp.maximum(1, jnp.abs(at.x))
    nudge = jnp.concatenate([jnp.cos(jnp.arange(1.0, n + 1, dtype=v.dtype)) * size, jnp.zeros((p,), v.dtype)])
    found, escapes = _kkt.solve(system, -force, -goal, _kkt.Caution(last, floor, flat & (memory.rescues < RESCUES), nudge))
    length = jnp.max(jnp.abs(found.variables[:n]) / size, initial=0.0)
    variables = jnp.where(escapes, _ESCAPE / jnp.where(length > 0, length, 1), 1) * found.variables
    changes = [one - z + sign * stiffened * variables for one, z, stiffened, sign in zip(near, it[2:], stiff, (-1, 1), strict=True)]
    ahead = Iterate(it.s, jnp.where(polishing, base - y, 0) + found.multipliers, *changes)
    return found._replace(variables=variables), jax.tree.map(lambda leaf: jnp.where(escapes, 0, leaf), ahead), escapes


def _with_merit(frame: Frame, ground: Ground, memory: Memory, escapes: jax.Array) -> Memory:
    """Return the memory with the merit at a point and its slope along the direction."""
    at, v, left, restoring = ground.at, ground.v, ground.left, ground.restoring
    worth, pull, _ = memory.restoration.merit(memory.barrier, at.x, left)
    slope = jnp.concatenate([jnp.where(restoring, pull, at.gradient), jnp.zeros((frame.n_slacks,), v.dtype)])
    slope = slope + memory.barrier * steepness(frame.walls, v)
    slope = slope + jnp.where(restoring, pulled(at, left / memory.restoration.divisor, frame.n_slacks), 0)
    gentle = jnp.where(escapes, 0, jnp.sum(slope * memory.along))
    violation, first = jnp.sum(jnp.abs(left)), memory.most == 0
    little = jnp.where(first, _LITTLE * jnp.maximum(1, violation), memory.little)
    fall = jnp.where(gentle < 0, -gentle, 1)
    ask = jnp.where(gentle < 0, jnp.minimum(LESS, LOWER * violation / fall), LESS)
    ask = jnp.where((gentle < 0) & (violation <= little), jnp.minimum(ask, violation**VIOLATIONS / fall**FALLS), ask)
    least = frame.eps**0.75
    return memory._replace(
        violation=violation,
        merit=jnp.where(restoring, worth, at.cost) + memory.barrier * barrier(frame.walls, v),
        slope=gentle,
        most=jnp.where(first, _MOST * jnp.maximum(1, violation), memory.most),
        little=little,
        shortest=jnp.where(restoring, least, jnp.maximum(_SHORT * ask, least)),
    )


def _estimated(at: Place, slope: jax.Array, p: int) -> jax.Array:
    """Return the multipliers that leave the least of a slope, or zeros where they are large."""
    m = at.values.size
    if m == 0:
        return jnp.zeros((0,), at.x.dtype)
    own = jnp.concatenate([jnp.zeros((m - p, p), at.x.dtype), -jnp.eye(p, dtype=at.x.dtype)])
    rows, eps = jnp.concatenate([at.jacobian, own], axis=1), float(jnp.finfo(at.x.dtype).eps)
    gram = matmul(rows, rows.T)
    gram = gram + (eps**0.5 * jnp.trace(gram) / m + eps) * jnp.eye(m, dtype=at.x.dtype)
    factor = cholesky(gram)
    y = -solve_upper(factor, solve_lower(factor, matmul(rows, slope)))
    return jnp.where(jnp.max(jnp.abs(y)) <= _LARGE, y, 0)


def _enlarged(at: Place, matrix: jax.Array, held: jax.Array) -> jax.Array:
    """Return by how much a cost is enlarged whose gradient and curvature are tiny at the start."""
    curved = jnp.max(jnp.abs(jnp.diagonal(matrix)) * jnp.maximum(1, jnp.abs(at.x)), initial=0.0)
    size = jnp.maximum(jnp.max(jnp.where(held, 0, jnp.abs(at.gradient)), initial=0.0), curved)
    tiny = (size > 0) & (size < _TINY)
    return jnp.where(tiny, 1 / jnp.where(tiny, jnp.maximum(size, _TINIEST), 1), 1).astype(size.dtype)


def _least_violated(frame: Frame, at: Place) -> jax.Array:
    """Return whether the violation has no slope, and is some."""
    n, m = at.x.size, at.values.size
    equations, rest = at.values[: m - frame.n_slacks], at.values[m - frame.n_slacks :]
    violated = jnp.concatenate([equations, jnp.minimum(rest, 0)])
    worst = jnp.max(jnp.abs(violated), initial=0.0)
    slope = matmul(violated / jnp.where(worst > 0, worst, 1), at.jacobian)
    apart = at.x - jnp.clip(at.x - slope, frame.walls.low[:n], frame.walls.high[:n])
    steepest = jnp.max(jnp.abs(jnp.where(frame.walls.held, 0, apart)), initial=0.0)
    return (steepest <= frame.eps**_FLAT) & (worst > 100 * frame.tolerance)
