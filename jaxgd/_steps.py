"""The loop over steps: all rows in every step, one evaluation a tick."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._bounds import Bounds, inward, moved
from jaxgd._loops import Loop, Lowering, recorded, traced
from jaxgd._trees import all_finite, norm, pytree, select, static
from jaxgd.methods.protocol import Method, Point, Problem, ask
from jaxgd.result import RUNNING, Best, Status, above
from jaxgd.stopping import Observation, Rule, check_rules


@pytree
class Plan:
    """What a run of `minimize` is told: everything but its state and its cost. `empty` is the start with an infinite cost."""

    empty: Point
    method: Method
    rules: tuple[Rule, ...]
    data: tuple[Any, ...]
    max_steps: Any
    bounds: Bounds | None
    names: tuple[str, ...] = static()
    capacity: int = static()


class State(NamedTuple):
    """The state of a run of `minimize`.

    `trial` is the point to evaluate next, `current` the last accepted one with its evaluation; `step` counts the updates that led
    to it. `code` is that of the status. `broken` says that the last evaluation of a method that accepts every point was not
    finite: then the loop goes back to the point before and evaluates it again, rather than keep two points at every tick.
    `start_cost` is the cost of the start.
    """

    trial: Any
    current: Point
    best: Best
    method: Any
    rules: Any
    step: Any
    evaluations: Any
    broken: Any
    start_cost: Any
    code: Any

    @property
    def ticks(self) -> Any:
        """Evaluations made."""
        return self.evaluations

    @property
    def rows(self) -> Any:
        """The points accepted, the start included: the length of the history."""
        return self.step + (self.evaluations > 0).astype(jnp.int32)


def begin(plan: Plan) -> State:
    """The state before the first evaluation."""
    empty = plan.empty
    return State(
        trial=empty.params,
        current=empty,
        best=Best(empty.params, jnp.full_like(empty.cost, jnp.inf)),
        method=plan.method.init(empty.params),
        rules=tuple(rule.init(empty.params, empty.cost.dtype) for rule in plan.rules),
        step=jnp.zeros((), jnp.int32),
        evaluations=jnp.zeros((), jnp.int32),
        broken=jnp.asarray(False),
        start_cost=empty.cost,
        code=jnp.asarray(RUNNING, jnp.int32),
    )


class Functions(NamedTuple):
    """The cost in the forms that a run needs: with its gradient, and its second derivatives for a method that asks for them."""

    evaluate: Any
    hessian: Any


def segment(plan: Plan, functions: Functions, state: State, until: Any, lower: Lowering = traced) -> tuple[State, Any]:
    """Run until the run ends or `until` evaluations are made; return the state and the rows recorded, `plan.capacity` at most."""

    def running_until(until: Any) -> Callable[[State], jax.Array]:
        return lambda state: (state.code == RUNNING) & ((state.evaluations < until) | state.broken)

    def advance(state: State, until: Any) -> State:
        return lower.while_loop(running_until(until), lambda state: tick(plan, functions, state, lower), state)

    if not plan.names:
        return advance(state, until), {}
    return recorded(advance, lambda state: lower.call(row, plan, state), state, until, plan.capacity, lower)


loop = Loop(begin, segment)


def tick(plan: Plan, functions: Functions, state: State, lower: Lowering = traced) -> State:
    """One evaluation, and what follows from it."""

    def at(params: Any) -> Point:
        return Point(params, *functions.evaluate(params, *plan.data))

    def curvature(params: Any) -> jax.Array:
        return functions.hessian(params, *plan.data)

    if lower is traced:
        return _advance(plan, state, at(state.trial), Problem(at, functions.hessian and curvature, plan.bounds, state.current))
    matrix = functions.hessian and curvature(state.trial)
    return lower.call(_advance_with, plan, state, at(state.trial), matrix)


def row(plan: Plan, state: State) -> dict[str, Any]:
    """What the history records of a state."""
    point, cost = state.current, state.current.cost
    quantities = {
        "cost": lambda: cost,
        "params": lambda: point.params,
        "gradient_norm": lambda: norm(point.gradient, cost.dtype),
        "learning_rate": lambda: plan.method.rate(state.step),  # type: ignore[attr-defined]
    }
    return {name: quantities[name]() for name in plan.names}


def _advance_with(plan: Plan, state: State, point: Point, matrix: Any) -> State:
    """One tick, the second derivatives being known."""
    return _advance(plan, state, point, Problem(None, lambda _: matrix, plan.bounds, state.current))


def _advance(plan: Plan, state: State, point: Point, problem: Problem) -> State:
    """One tick: take an evaluation in, ask the rules, ask the method for the next point."""
    first = state.evaluations == 0
    finite = all_finite(point.cost, point.params, point.gradient)
    steps_back, last = getattr(plan.method, "steps_back", False), select(finite, point.params, state.current.params)
    if not steps_back:  # the trial is not looked at from here on, and the next takes its memory
        point = point._replace(params=last)
    answer = ask(plan.method, point, state.method, problem)
    if answer.accepted is True:
        accepted, broken = finite & ~state.broken, ~finite & ~first
        current = point._replace(params=last)
        diverged = state.broken | (first & ~finite)
    else:
        accepted, broken = first | (finite & answer.accepted), jnp.asarray(False)
        current = select(accepted, point, state.current)
        diverged = ~finite & (first | ~jnp.asarray(steps_back))

    better = finite & (point.cost < state.best.cost)
    trial, change = moved(current.params, answer.update, plan.bounds)
    progress = Observation(current.params, current.cost, inward(current.params, current.gradient, plan.bounds))
    ended, rules = check_rules(plan.rules, "progress", progress, state.rules)
    rules = select(accepted, rules, state.rules)
    update, rules = check_rules(plan.rules, "update", Observation(current.params, update=change), rules)
    start_cost = jnp.where(first, current.cost, state.start_cost)
    spent = jnp.where(above(current.cost, start_cost), Status.WORSE.code, Status.MAX_STEPS.code)
    code = jnp.where(state.evaluations >= plan.max_steps, spent, RUNNING)
    for verdict in (answer.code, update, jnp.where(accepted, ended, RUNNING)):
        code = jnp.where(verdict != RUNNING, verdict, code)
    code = jnp.where(diverged, Status.DIVERGED.code, jnp.where(broken, RUNNING, code)).astype(jnp.int32)
    return State(
        trial=select(broken, current.params, trial) if answer.accepted is True else trial,
        current=current,
        best=select(better, Best(point.params, point.cost), state.best),
        method=answer.state,
        rules=rules,
        step=state.step + (accepted & ~first).astype(jnp.int32),
        evaluations=state.evaluations + (~state.broken).astype(jnp.int32),
        broken=broken,
        start_cost=start_cost,
        code=code,
    )
