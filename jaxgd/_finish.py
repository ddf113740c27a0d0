"""The end of a run of `fit`: the point to return, evaluated over all rows, and the best of those whose costs are known.

A handful of points are evaluated one after the other, at one place, so that one program serves for all: in turns of a loop inside
an outer program, else by the host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._fit_state import Plan, State
from jaxgd._loops import eager, traced
from jaxgd._trees import all_finite, select
from jaxgd.methods.protocol import Point
from jaxgd.result import Best, Status, above

_RETURNED, _BEFORE, _BEST, _START, _LAST = map(np.int32, range(5))  # the points that may be evaluated, by number
_TURNS = _RETURNED, _BEFORE, _BEST, _START, _BEST, _LAST  # the first three until one is finite, the others for their costs
_START_TURN, _BEST_TURN, _LAST_TURN, _END = map(np.int32, range(3, 7))


class Functions(NamedTuple):
    """What is evaluated at the end, by the number of a point.

    `at_point` gives its evaluation over all rows, and whether it is finite, and `validation` its cost on the validation data.
    """

    at_point: Callable[[Any], tuple[Point, Any]]
    validation: Any = None  # where there are no such data


class End(NamedTuple):
    """What is found at the end of a run.

    `choice` is the number of the point that is returned, and `evaluations` were made to find it. `code` is that of the status.
    `start_cost` is the cost of the start over all rows, and `last_cost` that of the last iterate, NaN where it is not known;
    `start_validation` is that of the start on the validation data.
    """

    point: Point
    choice: Any
    evaluations: Any
    code: Any
    best: Best
    start_cost: Any
    start_validation: Any
    last_cost: Any


class _Found(NamedTuple):
    """What was found before a turn."""

    turn: Any
    point: Any
    choice: Any
    finite: Any
    evaluations: Any
    start: Any
    best: Any
    last: Any


def chosen(plan: Plan, state: State, number: Any) -> Any:
    """Return the point of a number.

    The one to return is the mean of the iterates if one was asked for and begun, else the last iterate, or, of a run that diverged,
    the last one whose own batch was finite, which is the point before. The others are the best seen on the way, the start, and the
    last iterate.
    """
    before = state.params if state.asked is None else state.trial
    last = state.trial
    if state.mean is not None:
        mean = jax.tree.map(lambda m, x: m.astype(x.dtype), state.mean.params, last)
        last = select(state.mean.count > 0, mean, last)
    params = select(state.code == Status.DIVERGED.code, before, last)
    for other, its_params in ((_BEFORE, before), (_BEST, state.best.params), (_START, plan.start), (_LAST, state.trial)):
        params = select(number == other, its_params, params)
    return params


def at_point(plan: Plan, evaluate: Any, state: State, empty: Point, number: Any) -> tuple[Point, jax.Array]:
    """Return the evaluation over all rows of the point of a number, and whether it is finite.

    It is a loop of one turn, since XLA compiles small loops in half the time.
    """

    def once(_: Any) -> Any:
        params = chosen(plan, state, number)
        point = Point(params, *evaluate(params, plan.data))
        return point, all_finite(point.cost, point.gradient), jnp.asarray(False)

    point, finite, _ = lax.while_loop(lambda carry: carry[2], once, (empty, np.bool_(False), np.bool_(True)))
    return point, finite


def on_validation(plan: Plan, value: Any, state: State, number: Any) -> jax.Array:
    """Return the cost on the validation data of the point of a number."""
    return value(chosen(plan, state, number), *plan.validation)


def at_point_eagerly(plan: Plan, evaluate: Any, state: State, empty: Point, number: Any) -> tuple[Point, jax.Array]:
    """`at_point` for a cost that can't be traced."""
    params = eager.call(chosen, plan, state, number)
    point = Point(params, *evaluate(params, plan.data))
    return point, eager.call(all_finite, point.cost, point.gradient)


def on_validation_eagerly(plan: Plan, value: Any, state: State, number: Any) -> jax.Array:
    """`on_validation` for a cost that can't be traced."""
    return value(eager.call(chosen, plan, state, number), *plan.validation)


class _Facts(NamedTuple):
    """What a state says of its points, in scalars."""

    code: Any
    diverged: Any
    moved: Any  # whether a point but the start was reached
    averaged: Any  # whether the point to return is a mean of iterates
    whole: Any  # whether the last iterate is the end of an epoch
    kept: Any  # whether that epoch is the best one


class _Way(NamedTuple):
    """How to loop, to choose between two values, and to look at a scalar."""

    loop: Callable[..., Any]
    pick: Callable[[Any, Any, Any], Any]
    scalar: Callable[[Any], Any]


_INSIDE = _Way(traced.while_loop, select, lambda value: value)  # an outer program
_ON_HOST = _Way(eager.while_loop, lambda chosen, one, other: one if chosen else other, lambda value: np.asarray(value)[()])


def finish(plan: Plan, functions: Functions, state: State, empty: Point, *, inside: bool) -> End:
    """Find the point that a run returns, and the best one of those whose costs are known.

    Where the point to return is not finite over all rows it is the one before, or the best seen; where none is, the first is kept.
    The costs of the start and, where no costs over all rows were seen on the way, of the end of the best epoch are found too,
    unless they are the same point. `empty` is a point with an infinite cost, of the shapes to come; `inside` says that an outer
    program is traced.
    """
    way = _INSIDE if inside else _ON_HOST
    facts = _facts(state, way.scalar)

    def take(found: _Found) -> _Found:
        number = jnp.asarray(_TURNS)[found.turn] if way is _INSIDE else _TURNS[int(found.turn)]
        point, finite = functions.at_point(number)
        finite, to_return = way.scalar(finite), found.turn <= _BEST
        taken = to_return & (finite | (found.turn == _RETURNED))
        found = found._replace(
            point=way.pick(taken, point, found.point),
            choice=way.pick(taken, number, found.choice),
            finite=way.pick(to_return, finite, found.finite),
            evaluations=found.evaluations + way.pick(to_return, np.int32(1), np.int32(0)),
            start=way.pick(found.turn == _START_TURN, point.cost, found.start),
            best=way.pick(found.turn == _BEST_TURN, point.cost, found.best),
            last=way.pick(found.turn == _LAST_TURN, point.cost, found.last),
        )
        return found._replace(turn=_next(plan, facts, found, way))

    zero, unknown = np.int32(0), np.full_like(empty.cost, np.nan)
    found = _Found(zero, empty, _RETURNED, np.bool_(False), zero, unknown, unknown, unknown)
    found = way.loop(lambda found: found.turn < _END, take, found)
    held_out = _held_out(functions, state, facts, found, way) if plan.validation else None
    return _concluded(plan, state, facts, found, held_out, way)


def _facts(state: State, scalar: Callable[[Any], Any]) -> _Facts:
    code, epoch, batch = map(scalar, (state.code, state.epoch, state.batch))
    moved = (epoch > 0) | (batch > 1) if state.asked is None else scalar(state.asked.accepted) > 1
    averaged = np.bool_(False) if state.mean is None else scalar(state.mean.count) > 0
    whole = (epoch > 0) & (batch == 0)
    kept = whole & (scalar(state.epoch_cost) == scalar(state.best.cost))
    return _Facts(code, code == Status.DIVERGED.code, moved, averaged, whole, kept)


def _next(plan: Plan, facts: _Facts, found: _Found, way: _Way) -> Any:
    """Return the turn after this: the first of those that are wanted.

    Where every batch is all rows the costs of all iterates are known, but for the last one where the mean is returned.
    """
    lost, never = found.finite ^ True, np.bool_(False)
    same = (facts.kept & (facts.averaged ^ True) & (found.choice == _RETURNED)) | (found.choice == _BEST)
    wanted = (
        lost & (facts.diverged ^ True),
        lost & facts.moved,
        never if plan.in_one_batch else facts.moved,
        never if plan.in_one_batch or plan.validation else facts.moved & (same ^ True),
        facts.averaged & (facts.diverged ^ True) if plan.in_one_batch else never,
    )
    following = _END
    for turn, is_wanted in reversed(list(enumerate(wanted, start=1))):
        following = way.pick(is_wanted & (found.turn < turn), np.int32(turn), following)
    return following


def _held_out(functions: Functions, state: State, facts: _Facts, found: _Found, way: _Way) -> tuple[Any, Any]:
    """Return the costs on the validation data of the start and of the point that is returned."""
    known = facts.whole & (facts.averaged ^ True) & (found.choice == _RETURNED)
    returned, end = np.int32(1), np.int32(2)
    after = way.pick(known, end, returned)

    def take(carry: Any) -> Any:
        turn, at_start, at_end = carry
        cost = functions.validation(way.pick(turn == returned, found.choice, _START))
        at_start, at_end = way.pick(turn == returned, at_start, cost), way.pick(turn == returned, cost, at_end)
        return way.pick(turn == returned, end, after), at_start, at_end

    first = way.pick(facts.moved, np.int32(0), returned)
    carry = first, state.validation_cost, state.validation_cost
    _, at_start, at_end = way.loop(lambda carry: carry[0] < end, take, carry)
    return way.pick(facts.moved, at_start, at_end), at_end


def _concluded(plan: Plan, state: State, facts: _Facts, found: _Found, held_out: Any, way: _Way) -> End:
    """Return what is found at the end, once all costs are."""
    point, scalar = found.point, way.scalar
    start_cost = way.pick(facts.moved, state.start_cost if plan.in_one_batch else found.start, point.cost)
    last = way.pick(facts.averaged, found.last, point.cost)
    if held_out is not None:
        returned, others = Best(point.params, held_out[1]), [state.best, Best(plan.start, held_out[0])]
    elif plan.in_one_batch:
        returned, others = Best(point.params, point.cost), [Best(plan.start, start_cost), state.best]
        if plan.average_from is not None:
            others.append(Best(state.trial, found.last))
    else:
        returned, others = Best(point.params, point.cost), [Best(plan.start, start_cost), Best(state.best.params, found.best)]
    intended = found.finite & (found.choice == _RETURNED)
    code = way.pick(intended, facts.code, np.int32(Status.DIVERGED.code))
    rose = (code == Status.MAX_EPOCHS.code) & above(scalar(point.cost), scalar(start_cost))
    return End(
        point=point,
        choice=found.choice,
        evaluations=found.evaluations,
        code=way.pick(rose, np.int32(Status.WORSE.code), code),
        best=_lowest(returned, others, way),
        start_cost=start_cost,
        start_validation=None if held_out is None else held_out[0],
        last_cost=way.pick(code == Status.DIVERGED.code, np.full_like(plan.infinite, np.nan), last),
    )


def _lowest(first: Best, others: list[Best], way: _Way) -> Best:
    """Return the point of lowest finite cost, the first where none is lower."""
    best = first
    for other in others:
        cost, lowest = way.scalar(other.cost), way.scalar(best.cost)
        better = (abs(cost) < np.inf) & ((cost < lowest) | (abs(lowest) < np.inf) ^ True)
        best = Best(*way.pick(better, (other.params, other.cost), (best.params, best.cost)))
    return best
