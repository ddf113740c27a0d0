"""The loop over steps: all rows in every step, one evaluation a tick."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._loops import Lowering, recorded, traced
from jaxgd._trees import add, all_finite, norm, pytree, select, static
from jaxgd.methods.protocol import Method, Point
from jaxgd.result import RUNNING, Best, Status
from jaxgd.stopping import Observation, Rule, check_rules


@pytree
class Plan:
    """What a run of `minimize` is told: everything but its state and its cost."""

    method: Method
    rules: tuple[Rule, ...]
    data: tuple[Any, ...]
    max_steps: Any
    names: tuple[str, ...] = static()
    capacity: int = static()


class State(NamedTuple):
    """The state of a run of `minimize`.

    `trial` is the point to evaluate next, `current` the last accepted one with its evaluation; `step` counts the updates that led
    to it, and `rows` the points accepted, the start included: the length of the history. `code` is that of the status.
    """

    trial: Any
    current: Point
    best: Best
    method: Any
    rules: Any
    rows: Any
    step: Any
    evaluations: Any
    code: Any

    @property
    def ticks(self) -> Any:
        """Evaluations made."""
        return self.evaluations


def begin(method: Method, rules: tuple[Rule, ...], empty: Point) -> State:
    """The state before the first evaluation; `empty` is the start with an infinite cost."""
    return State(
        trial=empty.params,
        current=empty,
        best=Best(empty.params, jnp.full_like(empty.cost, jnp.inf)),
        method=method.init(empty.params),
        rules=tuple(rule.init(empty.params, empty.cost.dtype) for rule in rules),
        rows=jnp.zeros((), jnp.int32),
        step=jnp.zeros((), jnp.int32),
        evaluations=jnp.zeros((), jnp.int32),
        code=jnp.asarray(RUNNING, jnp.int32),
    )


def segment(plan: Plan, evaluate: Callable[..., Any], state: State, until: Any, lower: Lowering = traced) -> tuple[State, Any]:
    """Run until the run ends or `until` evaluations are made; return the state and the rows recorded, `plan.capacity` at most."""

    def running_until(until: Any) -> Callable[[State], jax.Array]:
        return lambda state: (state.code == RUNNING) & (state.evaluations < until)

    def at(params: Any) -> Point:
        return Point(params, *evaluate(params, *plan.data))

    def tick(state: State) -> State:
        return lower.call(_advance, plan, state, at(state.trial), at if lower is traced else None)

    def advance(state: State, until: Any) -> State:
        return lower.while_loop(running_until(until), tick, state)

    if not plan.names:
        return advance(state, until), {}
    return recorded(advance, lambda state: lower.call(row, plan, state), state, until, plan.capacity, lower)


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


def _advance(plan: Plan, state: State, point: Point, evaluate: Any) -> State:
    """One tick: take an evaluation in, ask the rules, ask the method for the next point."""
    first = state.evaluations == 0
    finite = all_finite(point.cost, point.params, point.gradient)
    answer = plan.method.step(point, state.method, evaluate)
    accepted = first | (finite & answer.accepted)
    current = select(accepted, point, state.current)
    better = finite & (point.cost < state.best.cost)

    progress = Observation(current.params, current.cost, current.gradient)
    ended, rules = check_rules(plan.rules, "progress", progress, state.rules)
    rules = select(accepted, rules, state.rules)
    update, rules = check_rules(plan.rules, "update", Observation(current.params, update=answer.update), rules)
    diverged = ~finite & (first | ~jnp.asarray(getattr(plan.method, "steps_back", False)))
    code = jnp.where(state.evaluations >= plan.max_steps, Status.MAX_STEPS.code, RUNNING)
    for verdict in (answer.code, update, jnp.where(accepted, ended, RUNNING), jnp.where(diverged, Status.DIVERGED.code, RUNNING)):
        code = jnp.where(verdict != RUNNING, verdict, code).astype(jnp.int32)
    return State(
        trial=add(current.params, answer.update),
        current=current,
        best=select(better, Best(point.params, point.cost), state.best),
        method=answer.state,
        rules=rules,
        rows=state.rows + accepted.astype(jnp.int32),
        step=state.step + (accepted & ~first).astype(jnp.int32),
        evaluations=state.evaluations + 1,
        code=code,
    )
