"""The judgement of a trial of an interior point method, and what follows from it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._products import matmul
from jaxgd._trees import select
from jaxgd.methods._barrier import Iterate, Place, barrier, bought, missed, natural
from jaxgd.methods._interior_memory import ENTER, POLISH, RESTORE, SEARCH, START, Frame, Memory
from jaxgd.result import RUNNING, Status

LESS, LOWER = 1e-5, 1e-5  # of the violation: by how much less it, or the merit, has to be
ARMIJO = 1e-4  # of the fall that the slope promises
VIOLATIONS, FALLS = 1.1, 2.3  # the powers by which a violation is compared with a promised fall
_RANGE = 1e10  # by which the multipliers of walls may differ from barrier / distance
_BEGINS = 1e-2  # the least first slack
_AMPLE = 0.5  # of a slack: an inequality that stays above has its own value as slack, however it bends
_RESTORED = 0.9  # of the violation where a restoration began, below which it may end
_HOPELESS = 0.01  # of a direction: where less is asked for far from feasible points, a restoration begins
_ROUNDINGS = 10.0  # of the merit, or of a variable, that are nothing
_MANY, _FIRM, _FIRMER = 4, 1e-3, 8.0  # refusals after which the next direction is damped, how much, and the growth
_LEAST = 1e-9  # of the way into the box
RESCUES = 3  # in a run
_BOUGHT = 1e3  # tolerances: what violations may be worth in a cost


class Trial(NamedTuple):
    """The worth of a trial.

    Attributes:
        it: the slacks and multipliers there.
        violation: the sum of all violations.
        error: the natural error.
        finite: whether all that was evaluated is finite.
        accepted: whether it is the current point now.
        blocks: whether the filter gets the point that is left.
        restored: whether a restoration ends here.
        tiny: whether the direction is rounding.
    """

    it: Any
    violation: Any
    error: Any
    finite: Any
    accepted: Any
    blocks: Any
    restored: Any
    tiny: Any


def judge(frame: Frame, before: Memory, there: Place, finite: jax.Array) -> Trial:
    """Return what a trial is worth in the stage of the run."""
    m, stage = there.values.size, before.stage
    inequalities = there.values[m - frame.n_slacks :]
    fresh, polishing, restoring = stage <= ENTER, stage == POLISH, stage == RESTORE
    s = before.it.s + before.move[there.x.size :]
    s = jnp.maximum(jnp.where(fresh, _BEGINS, jnp.where(polishing, 0, s)), inequalities)
    s = jnp.where(~fresh & ~polishing & (inequalities >= _AMPLE * before.it.s), inequalities, s)
    v = jnp.concatenate([there.x, s])
    it = _stepped(frame, before, there, v)
    left = missed(there, s)
    violation = jnp.sum(jnp.abs(left))
    walls = barrier(frame.walls, v)
    lower = there.cost + jnp.where(restoring, before.restoration.barrier, before.barrier) * walls
    restoration = before.restoration.merit(before.barrier, there.x, left)[0] + before.barrier * walls
    merit = jnp.where(restoring, restoration, lower)
    noise = _ROUNDINGS * frame.eps * jnp.abs(before.merit)
    falls = merit <= before.merit + ARMIJO * before.share * before.slope + noise
    promised = jnp.maximum(-before.slope, 0)
    descends = (before.slope < 0) & (before.share * promised**FALLS > before.violation**VIOLATIONS)
    better = (violation <= (1 - LESS) * before.violation) | (lower <= before.merit - LOWER * before.violation)
    clear = (violation <= before.most) & before.filter.passes(violation, lower)
    passes = clear & jnp.where(descends & (before.violation <= before.little), falls, better)
    tiny = (stage == SEARCH) & jnp.all(jnp.abs(before.along) <= _ROUNDINGS * frame.eps * (1 + jnp.abs(v)))
    error = natural(there, frame.walls, it.y, frame.n_slacks)
    fine = jnp.select([fresh, restoring, polishing], [True, falls, error < before.error], passes | tiny)
    less = (violation <= _RESTORED * before.restoration.violation) & clear
    restored = restoring & falls & (less | (violation <= frame.tolerance))
    return Trial(it, violation, error, finite, (stage == START) | (finite & fine), ~(descends & falls), restored, tiny)


def _stepped(frame: Frame, before: Memory, there: Place, v: jax.Array) -> Iterate:
    """Return the slacks and multipliers at a trial."""
    n, p = there.x.size, frame.n_slacks
    fresh, polishing = before.stage <= ENTER, before.stage == POLISH
    y = before.it.y + jnp.where(polishing, 1, before.share) * before.ahead.y
    slope = jnp.where(frame.walls.held, 0, there.gradient + matmul(y, there.jacobian))
    price = jnp.maximum(-y[y.size - p :], 0)
    exact = (jnp.maximum(slope, 0), price), (jnp.maximum(-slope, 0), jnp.zeros_like(price))
    found = []
    for k, gap in enumerate(frame.walls.gaps(v)):
        near = before.barrier / gap
        z = jnp.clip(before.it[2 + k] + before.share_z * before.ahead[2 + k], near / _RANGE, near * _RANGE)
        z = jnp.where(polishing, jnp.concatenate(exact[k]), jnp.where(fresh, 1, z))
        found.append(jnp.where(jnp.isfinite(gap), z, 0))
    return Iterate(v[n:], jnp.where(fresh, 0, y), *found)


class Turn(NamedTuple):
    """The consequences of a trial.

    Attributes:
        memory: the memory so far.
        moved: whether the trial is the current point now.
        renews: whether a new direction is asked for.
        resets: whether the multipliers are estimated anew.
        corrects: whether the direction only corrects the trial, by the missed equations `left`.
        enters: whether a restoration begins.
        left: see `corrects`.
    """

    memory: Any
    moved: Any
    renews: Any
    resets: Any
    corrects: Any
    enters: Any
    left: Any


def turn(frame: Frame, before: Memory, here: Place, there: Place, trial: Trial) -> tuple[jax.Array, Turn]:
    """Return the code of the end, or of going on, and what follows from a trial."""
    stage, accepted, refused = before.stage, trial.accepted, ~trial.accepted
    fresh, search, polish = stage <= ENTER, stage == SEARCH, stage == POLISH
    inside = frame.walls.inside(there.x)
    is_inside = jnp.all(inside == there.x)
    begins = trial.finite & ((stage == ENTER) | ((stage == START) & is_inside))
    to_box = (stage == START) & ~begins

    corrects = search & refused & (before.refusals == 0) & trial.finite & (trial.violation >= before.violation)
    share = jnp.where(corrects, 1, jnp.where(fresh, 0.25, 0.5)) * before.share
    far = search & (before.violation > before.little)
    limit = jnp.where(fresh, _LEAST, jnp.where(far, jnp.maximum(before.shortest, _HOPELESS), before.shortest))
    stuck = refused & (share < limit) & ~corrects
    feasible = before.violation <= frame.tolerance
    to_restore = search & stuck & ~feasible
    to_polish = search & ((stuck & feasible) | (accepted & trial.tiny & (before.tiny >= 1)))
    ended = polish & (refused | (trial.error <= 8 * frame.eps) | (trial.error > before.error / 4))
    gain = jnp.where(accepted, bought(there, trial.it.y, frame.n_slacks), bought(here, before.it.y, frame.n_slacks))
    error = jnp.where(accepted, trial.error, before.error)
    sound = before.settled | (error <= frame.tolerance) | (error <= before.blur)
    rescue = polish & refused & ~sound & (before.rescues < RESCUES)
    resets = begins | trial.restored | rescue

    moved, share = accepted & ~rescue, jnp.where(to_box, 1, share)
    aside = jnp.concatenate([inside - there.x, jnp.zeros_like(before.it.s)])
    along = jnp.where(to_box, aside, before.along)
    barrier = jnp.where(rescue, jnp.maximum(10 * before.barrier, 1e-4), before.barrier)
    pair = (1 - LESS) * before.violation, before.merit - LOWER * before.violation
    memory = before._replace(
        it=select(moved, trial.it, before.it),
        stage=jnp.select([resets, to_box, to_restore, to_polish], [SEARCH, ENTER, RESTORE, POLISH], stage).astype(jnp.int32),
        filter=before.filter.blocking(*pair, (search & accepted & trial.blocks) | to_restore).cleared(rescue),
        share=share,
        along=along,
        move=share * along,
        refusals=jnp.where(accepted, 0, before.refusals + 1),
        error=jnp.where(polish & accepted, trial.error, before.error),
        floor=_floor(before, accepted & ~fresh & ~polish),
        rescues=before.rescues + rescue.astype(jnp.int32),
        tiny=jnp.where(accepted, jnp.where(trial.tiny, before.tiny + 1, 0), before.tiny),
        barrier=jnp.where(trial.restored, before.restoration.barrier, barrier),
    )
    lost = (to_box & is_inside) | ((stage == ENTER) & stuck)
    optimal = sound & (gain <= _BOUGHT * frame.tolerance)
    stalled = (ended & ~rescue & ~optimal) | ((stage == RESTORE) & stuck)
    ends = ((lost, Status.DIVERGED), (ended & optimal, Status.CONVERGED), (stalled, Status.STALLED))
    code = jnp.select([seen for seen, _ in ends], [status.code for _, status in ends], RUNNING).astype(jnp.int32)
    renews = (moved & ~fresh) | begins | corrects | to_restore | to_polish | rescue
    left = before.share * missed(here, before.it.s) + missed(there, trial.it.s)
    return code, Turn(memory, moved, renews & (code == RUNNING), resets, corrects, to_restore, left)


def _floor(before: Memory, accepted: jax.Array) -> jax.Array:
    """Return the least damping of the next direction: more after a direction of which little was taken."""
    more = jnp.maximum(_FIRMER * jnp.maximum(before.floor, before.damping), _FIRM)
    less = jnp.where(before.floor > _FIRM, before.floor / _FIRMER, 0)
    changed = jnp.where(before.refusals >= _MANY, more, jnp.where(before.refusals <= 1, less, before.floor))
    return jnp.where(accepted, changed, before.floor).astype(before.floor.dtype)
