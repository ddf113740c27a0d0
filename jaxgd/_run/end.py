"""The end of a run of `fit`: the point to return, evaluated over all rows, and the best of those whose costs are known.

A handful of points are evaluated one after the other, at one place, so that one program serves for all: by the host, or in turns of
a loop inside an outer program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._compile.program import Program, apply, program_for
from jaxgd._objective.all_rows import CostAlone
from jaxgd._objective.extras import rebound
from jaxgd._run.objective import call, is_eager
from jaxgd._run.state import RunSpec, RunState
from jaxgd._shards import begin_copies
from jaxgd._trees import all_finite, is_traced, select
from jaxgd.methods.protocol import Point
from jaxgd.result import Best, Status, above

_RETURNED, _BEFORE, _BEST, _START, _LAST = map(np.int32, range(5))  # the points that may be evaluated, by number
_LITTLE = 2**20  # operations of the cost, up to which compiling it well takes longer than its few evaluations at the end
_LARGE = 2**24  # bytes of rows, over which the cost is found without its gradient where that is not needed


class End(NamedTuple):
    """The end of a run.

    Attributes:
        point: the point that is returned, with its evaluation over all rows.
        choice: the number of that point.
        evaluations: how many were made to find it.
        code: the status.
        best: the best point.
        start_cost: the cost of the start over all rows.
        start_validation: the same on the validation data.
        last_cost: the cost of the last iterate, NaN where it is not known.
    """

    point: Point
    choice: Any
    evaluations: Any
    code: Any
    best: Best
    start_cost: Any
    start_validation: Any
    last_cost: Any


class AllRows(NamedTuple):
    """The cost over all rows, and on the validation data.

    Attributes:
        evaluate: the cost with its gradient and aux over all rows.
        validation: the cost alone on the validation data; None where there are none.
        empty: a point that was not evaluated, its cost infinite, of the shapes of an evaluation.
    """

    evaluate: Callable[..., Any]
    validation: Callable[..., Any] | None
    empty: Point

    def prepare(self, spec: RunSpec) -> None:
        """Begin to compile what `find_end` needs, unless the cost runs as Python or an outer program is traced."""
        if is_eager(self.evaluate) or is_traced(spec, self.evaluate):
            return
        arguments = self.evaluate, spec.start, spec.source.data, self.empty
        self._program(*arguments).prepare(*arguments, like=(self.empty, False))
        if self._is_large(spec.source.data):
            arguments = CostAlone(self.evaluate), *arguments[1:3]
            program_for(apply, *arguments, in_parts=True).prepare(*arguments, like=0)
        if self.validation is not None:
            arguments = self.validation, spec.start, *spec.validation
            program_for(apply, *arguments, in_parts=True).prepare(*arguments, like=0)

    def at(self, params: Any, data: Any) -> tuple[Point, Any]:
        """Return the evaluation of a point over all rows, and whether it is finite."""
        arguments = self.evaluate, params, data, self.empty
        if is_traced(arguments):
            return _evaluated(*arguments)
        if is_eager(self.evaluate):
            point = Point(params, *self.evaluate(params, data))
            return point, all_finite(point.cost, point.gradient)
        return self._program(*arguments)(*arguments)

    def cost_at(self, params: Any, data: Any) -> Point:
        """Return a point of which only the cost is wanted."""
        if is_traced(self.evaluate, params, data) or is_eager(self.evaluate) or not self._is_large(data):
            return self.at(params, data)[0]
        arguments = CostAlone(self.evaluate), params, data
        return self.empty._replace(cost=program_for(apply, *arguments, in_parts=True)(*arguments))

    def _program(self, *arguments: Any) -> Program:
        quickly = getattr(self.evaluate, "operations", np.inf) <= _LITTLE
        return program_for(_evaluated, *arguments, in_parts=True, quickly=quickly)

    def _is_large(self, data: Any) -> bool:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(data)) >= _LARGE


def _evaluated(evaluate: Any, params: Any, data: Any, empty: Point) -> tuple[Point, jax.Array]:
    """Return an evaluation, and whether it is finite: in a loop of one turn, since XLA compiles small loops in half the time."""

    def once(_: Any) -> Any:
        point = Point(params, *evaluate(params, data))
        return point, all_finite(point.cost, point.gradient), jnp.asarray(False)

    point, finite, _ = lax.while_loop(lambda carry: carry[2], once, (empty, np.bool_(False), np.bool_(True)))
    return point, finite


class _Way(NamedTuple):
    """How to take turns, and to choose between two values: on the host, or inside an outer program."""

    turns: Callable[..., Any]
    pick: Callable[[Any, Any, Any], Any]
    when: Callable[[Any, Callable[[], Any], Callable[[], Any]], Any]
    scalar: Callable[[Any], Any]


def _one_program(turn: Callable[[Any, Any], Any], numbers: tuple[Any, ...], found: Any) -> Any:
    return lax.fori_loop(0, len(numbers), lambda k, found: turn(jnp.asarray(numbers)[k], found), found)


def _one_by_one(turn: Callable[[Any, Any], Any], numbers: tuple[Any, ...], found: Any) -> Any:
    for number in numbers:
        found = turn(number, found)
    return found


_INSIDE = _Way(_one_program, select, lax.cond, lambda value: value)
_ON_HOST = _Way(
    _one_by_one,
    lambda chosen, one, other: one if chosen else other,
    lambda chosen, one, other: one() if chosen else other(),
    lambda value: np.asarray(value)[()],
)


class _Facts(NamedTuple):
    """The facts of a state about its points, in scalars."""

    code: Any
    diverged: Any
    moved: Any  # whether a point but the start was reached
    averaged: Any  # whether the point to return is a mean of iterates
    whole: Any  # whether the point to return is the end of an epoch, and was shown to validation data
    kept: Any  # whether that epoch is the best one


class _Found(NamedTuple):
    """The findings so far; `costs` are those of the points, by number, NaN where they are not known."""

    point: Any
    choice: Any
    finite: Any
    evaluations: Any
    costs: Any


def find_end(spec: RunSpec, state: RunState, rows: AllRows) -> End:
    """Find the point that a run returns, and the best one of those whose costs are known.

    Where the point to return is not finite over all rows it is the one before, or the best seen; where none is, the first is kept.
    The costs of the start and, where no costs over all rows were seen on the way, of the end of the best epoch are found too,
    unless they are the same point.
    """
    rows = rebound(rows, spec.measured(state))
    way = _INSIDE if is_traced(spec, state, rows.evaluate) else _ON_HOST
    facts = _facts(spec, state, way.scalar)
    points = _points(spec, state, facts, way)

    def evaluated(number: Any) -> tuple[Point, Any]:
        params, data = _numbered(points, number, way), spec.source.data
        if way is _ON_HOST and number > _BEST:
            return rows.cost_at(params, data), np.bool_(False)
        point, finite = rows.at(params, data)
        begin_copies((point.cost, finite))
        return point, finite

    def turn(number: Any, found: _Found) -> _Found:
        wanted = _is_wanted(spec, facts, found, number)
        point, finite = way.when(wanted, lambda: evaluated(number), lambda: (rows.empty, np.bool_(False)))
        if spec.skips:  # the cost over all rows may hold those that the steps had dropped
            stepped = state.skipped < state.epoch * np.int32(spec.source.count) + state.batch
            finite = finite | (stepped & all_finite(jnp.zeros((), spec.empty.cost.dtype), point.params))
        finite, to_return = way.scalar(finite), (number <= _BEST) & (found.finite ^ True) & wanted
        taken = to_return & (finite | (number == _RETURNED))
        xp: Any = np if way is _ON_HOST else jnp
        return _Found(
            point=way.pick(taken, point, found.point),
            choice=way.pick(taken, number, found.choice),
            finite=way.pick(taken, finite, found.finite),
            evaluations=found.evaluations + way.pick(to_return, np.int32(1), np.int32(0)),
            costs=xp.where((np.arange(5, dtype=np.int32) == number) & wanted, xp.asarray(point.cost), found.costs),
        )

    numbers = (_RETURNED, _BEFORE, _BEST, *([_START] if not spec.one_batch else [_LAST] if spec.average_from is not None else []))
    found = _Found(rows.empty, _RETURNED, np.bool_(False), np.int32(0), np.full(5, np.nan, rows.empty.cost.dtype))
    found = way.turns(turn, numbers, found)
    held_out = None
    if rows.validation is not None:
        arguments = rows.validation, *spec.validation
        held_out = _held_out(
            lambda number: call(arguments[0], _numbered(points, number, way), *arguments[1:]), state, facts, found, way
        )
    return _concluded(spec, state, facts, found, held_out, way)


def point_at(spec: RunSpec, state: RunState, choice: Any) -> Any:
    """Return the point of this number among those that a run returns, which an outer program may differentiate."""
    return _numbered(_points(spec, state, _facts(spec, state, _INSIDE.scalar), _INSIDE), jnp.asarray(choice), _INSIDE)


def end_on_the_way(spec: RunSpec, state: RunState) -> End:
    """Return the end of a run as far as it was measured on the way: its cost is the mean over the last epoch's batches."""
    facts = _facts(spec, state, _ON_HOST.scalar)
    unknown = np.full_like(spec.empty.cost, np.nan)
    params = _points(spec, state, facts, _ON_HOST)[0]
    gradient = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), params)
    held_out = unknown if spec.validation else None
    best = state.best if np.isfinite(state.best.cost) else Best(params, state.epoch_cost)
    return End(Point(params, state.epoch_cost, gradient), _RETURNED, np.int32(0), state.code, best, unknown, held_out, unknown)


def start_over_all_rows(spec: RunSpec, rows: AllRows) -> Point:
    """Return the evaluation of the start over all rows."""
    return rows.at(spec.start, spec.source.data)[0]


def _facts(spec: RunSpec, state: RunState, scalar: Callable[[Any], Any]) -> _Facts:
    code, epoch, batch = map(scalar, (state.code, state.epoch, state.batch))
    moved = (epoch > 0) | (batch > 1) if state.steps is None else scalar(state.steps) > 0
    averaged = np.bool_(False) if state.mean is None else scalar(state.mean.count) > 0
    seen = averaged ^ True if spec.decay is None else np.bool_(True)
    whole = (epoch > 0) & (batch == 0)
    kept = whole & (scalar(state.epoch_cost) == scalar(state.best.cost))
    return _Facts(code, code == Status.DIVERGED.code, moved, averaged, whole & seen, kept & seen)


def _points(spec: RunSpec, state: RunState, facts: _Facts, way: _Way) -> tuple[Any, ...]:
    """Return the points that may be evaluated, in the order of their numbers.

    The one to return is the mean of the iterates if one was asked for and begun, else the last iterate, or, of a run that diverged,
    the last one whose own batch was finite, which is the point before. The others are the best seen on the way, the start, and the
    last iterate.
    """
    before, last = state.current.params, spec.iterate(state)
    returned = last
    if state.mean is not None:
        mean = jax.tree.map(lambda m, x: m.astype(x.dtype), state.mean.params, last)
        returned = way.pick(facts.averaged, mean, last)
    return way.pick(facts.diverged, before, returned), before, state.best.params, spec.start, last


def _numbered(points: tuple[Any, ...], number: Any, way: _Way) -> Any:
    """Return the point of a number."""
    if way is _ON_HOST:
        return points[int(number)]
    params = points[0]
    for k, others in enumerate(points[1:], start=1):
        params = select(number == k, others, params)
    return params


def _is_wanted(spec: RunSpec, facts: _Facts, found: _Found, number: Any) -> Any:
    """Return whether a point is to be evaluated: the first three until one is finite, the others for their costs.

    Where every batch is all rows the costs of all iterates are known, but for the last one where the mean is returned.
    """
    lost = found.finite ^ True
    wanted = (
        (number == _RETURNED) | ((number == _BEFORE) & lost & (facts.diverged ^ True)) | ((number == _BEST) & lost & facts.moved)
    )
    if spec.one_batch:
        return wanted | ((number == _LAST) & facts.averaged & (facts.diverged ^ True))
    if not spec.validation:
        same = facts.kept & (found.choice == _RETURNED)
        wanted = wanted | ((number == _BEST) & facts.moved & (same ^ True))
    return wanted | ((number == _START) & facts.moved)


def _held_out(validation: Callable[[Any], Any], state: RunState, facts: _Facts, found: _Found, way: _Way) -> tuple[Any, Any]:
    """Return the costs on the validation data of the start and of the point that is returned."""
    known = facts.whole & (found.choice == _RETURNED)

    def turn(number: Any, costs: tuple[Any, Any]) -> tuple[Any, Any]:
        of_start = number == _START
        wanted = way.pick(of_start, facts.moved, known ^ True)
        at_start, at_end = costs
        params = way.pick(of_start, _START, found.choice)
        cost = way.when(wanted, lambda: validation(params), lambda: state.validation_cost)
        return way.pick(wanted & of_start, cost, at_start), way.pick(wanted & (of_start ^ True), cost, at_end)

    at_start, at_end = way.turns(turn, (_START, _RETURNED), (state.validation_cost, state.validation_cost))
    return way.pick(facts.moved, at_start, at_end), at_end


def _concluded(spec: RunSpec, state: RunState, facts: _Facts, found: _Found, held_out: Any, way: _Way) -> End:
    """Return what is found at the end, once all costs are."""
    point, scalar = found.point, way.scalar
    start_cost = way.pick(facts.moved, state.start_cost if spec.one_batch else found.costs[_START], point.cost)
    last = way.pick(facts.averaged, found.costs[_LAST], point.cost)
    if held_out is not None:
        returned, others = Best(point.params, held_out[1]), [state.best, Best(spec.start, held_out[0])]
    elif spec.one_batch:
        returned, others = Best(point.params, point.cost), [Best(spec.start, start_cost), state.best]
        if spec.average_from is not None:
            others.append(Best(spec.iterate(state), found.costs[_LAST]))
    else:
        returned, others = (
            Best(point.params, point.cost),
            [Best(spec.start, start_cost), Best(state.best.params, found.costs[_BEST])],
        )
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
        last_cost=way.pick(code == Status.DIVERGED.code, np.full_like(spec.empty.cost, np.nan), last),
    )


def _lowest(first: Best, others: list[Best], way: _Way) -> Best:
    """Return the point of lowest finite cost, the first where none is lower."""
    best = first
    for other in others:
        cost, lowest = way.scalar(other.cost), way.scalar(best.cost)
        better = (abs(cost) < np.inf) & ((cost < lowest) | (abs(lowest) < np.inf) ^ True)
        best = Best(*way.pick(better, (other.params, other.cost), (best.params, best.cost)))
    return best
