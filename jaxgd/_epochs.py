"""The loop over epochs, and the loop over an epoch's minibatches inside it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._batches import Batches
from jaxgd._bounds import inward, moved
from jaxgd._fit_state import Asked, Mean, Plan, State, begin, habits, wide_zeros
from jaxgd._loops import Loop, Lowering, recorded, traced
from jaxgd._trees import all_finite, norm, select, wide
from jaxgd.methods.protocol import Point, Problem, ask
from jaxgd.result import RUNNING, Best, Status
from jaxgd.stopping import Observation, check_rules, needs_gradient

_FEW = 64  # costs that are added up as they come


class Lap(NamedTuple):
    """What changes from batch to batch: parts of the state, and sums over the epoch's batches.

    `batch` counts the batches evaluated; `finite` says that the last of them was (a trial after one that was not means nothing),
    and `code` is that of a method that ends itself or of a rule that watches updates, None where there is neither. `cost` and
    `gradient` are sums over the batches, a smaller one counting for less; no gradient where no rule asks for it. In a block of many
    batches `cost` holds their costs one by one.
    """

    trial: Any
    params: Any
    method: Any
    rules: Any
    mean: Any
    asked: Any
    batch: Any
    finite: Any
    code: Any
    cost: Any
    gradient: Any

    @property
    def going(self) -> Any:
        """Whether nothing has broken the epoch off."""
        return self.finite if self.code is None else self.finite & (self.code == RUNNING)

    @property
    def evaluated(self) -> Any:
        """The point that the next batch is evaluated at."""
        return self.trial if self.asked is None else self.asked.params


class Functions(NamedTuple):
    """The cost in the forms that a run needs: with its gradient for a full batch, for the last, smaller one, and for all rows.

    `last` is None where the rows divide evenly, `whole` where no row of a history needs it, and `value`, the cost alone for the
    validation data, where there are none.
    """

    full: Any
    last: Any
    whole: Any
    value: Any


def segment(plan: Plan, functions: Functions, state: State, until: Any, lower: Lowering = traced) -> tuple[State, Any]:
    """Run until the run ends or `until` epochs are done; return the state and the rows recorded, `plan.capacity` at most."""

    def running_until(until: Any) -> Callable[[State], jax.Array]:
        return lambda state: (state.code == RUNNING) & (state.epoch < until)

    def epoch(state: State) -> State:
        lap = _batches(plan, functions, state, lower)
        validation = functions.value and functions.value(lap.trial, *plan.validation).astype(state.best.cost.dtype)
        return lower.call(_epoch_end, plan, state, lap, validation)

    def advance(state: State, until: Any) -> State:
        return lower.while_loop(running_until(until), epoch, state)

    def recorded_row(state: State) -> dict[str, Any]:
        gradient = functions.whole(state.trial, plan.data)[1] if "gradient_norm" in plan.names else None
        return lower.call(row, plan, state, gradient)

    if not plan.names:
        return advance(state, until), {}
    return recorded(advance, recorded_row, state, until, plan.capacity, lower)


loop = Loop(begin, segment)


def _batches(plan: Plan, functions: Functions, state: State, lower: Lowering) -> Lap:
    """The batches of one epoch, block by block: the full ones in a loop, then the smaller one in a loop of at most one turn."""
    batches = plan.batches
    many = batches.count > _FEW
    order = lower.call(Batches.order, batches, state.epoch)

    def running(n_batches: Any) -> Callable[[Lap], jax.Array]:
        return lambda lap: lap.going & (lap.batch < n_batches)

    def block(lap: Lap) -> Lap:
        first = lap.batch
        if many:
            lap = lap._replace(cost=jnp.zeros((batches.per_block + 1,), lap.cost.dtype))
        rows = lower.call(Batches.block, batches, order, state.epoch, first)

        def batch(evaluate: Callable[..., Any], take: Callable[..., Any], advance: Callable[..., Lap]) -> Callable[[Lap], Lap]:
            def step(lap: Lap) -> Lap:
                taken = lower.call(take, batches, rows, first, lap.batch)

                def at(params: Any) -> Point:
                    return Point(params, *evaluate(params, taken)[:2])

                problem = Problem(at if lower is traced else None)
                return lower.call(advance, plan, state.epoch, first, lap, at(lap.evaluated), problem)

            return step

        if batches.count == 1:
            return batch(functions.full, _take_full, _advance)(lap)
        end = jnp.minimum(first + batches.per_block, batches.full)
        lap = lower.while_loop(running(end), batch(functions.full, _take_full, _advance), lap)
        if functions.last is not None:
            end = jnp.where(lap.batch == batches.full, batches.count, first)
            lap = lower.while_loop(running(end), batch(functions.last, _take_last, _advance_last), lap)
        return lower.call(_added_up, lap, first) if many else lap

    lap = lower.call(_start_of_epoch, plan, state)
    if batches.per_block >= batches.count:
        return block(lap)

    def another(carry: Any) -> Any:
        """A block after others: their costs are added up by W. Kahan's compensated summation (Commun. ACM 8, 1965)."""
        lap, error = carry
        one = block(lap._replace(cost=jnp.zeros_like(error)))
        corrected = one.cost - error
        total = lap.cost + corrected
        return one._replace(cost=total), (total - lap.cost) - corrected

    return lower.while_loop(lambda carry: running(batches.count)(carry[0]), another, (lap, jnp.zeros_like(lap.cost)))[0]


def _take_full(batches: Batches, rows: Any, first: jax.Array, batch: jax.Array) -> Any:
    return batches.take(rows, first, batch, batches.batch_size)


def _take_last(batches: Batches, rows: Any, first: jax.Array, batch: jax.Array) -> Any:
    return batches.take(rows, first, batch, batches.last_size)


def _start_of_epoch(plan: Plan, state: State) -> Lap:
    watched = any(rule.watches == "update" for rule in plan.rules) or habits(plan).ends
    return Lap(
        trial=state.trial,
        params=state.params,
        method=state.method,
        rules=state.rules,
        mean=state.mean,
        asked=state.asked,
        batch=jnp.zeros((), jnp.int32),
        finite=jnp.asarray(True),
        code=jnp.asarray(RUNNING, jnp.int32) if watched else None,
        cost=jnp.zeros_like(state.best.cost),
        gradient=wide_zeros(state.trial) if needs_gradient(plan.rules) else None,
    )


def _advance_last(plan: Plan, epoch: jax.Array, first: jax.Array, lap: Lap, point: Point, problem: Problem) -> Lap:
    """`_advance` for the last, smaller batch, which counts for less in the means over the epoch."""
    return _advance(plan, epoch, first, lap, point, problem, plan.batches.last_weight)


def _advance(plan: Plan, epoch: jax.Array, first: jax.Array, lap: Lap, point: Point, problem: Problem, weight: float = 1.0) -> Lap:
    """One batch: take its evaluation in, ask the method for the update and the rules about it, apply it."""
    finite = all_finite(point.cost, point.params, point.gradient)
    params = select(finite, point.params, lap.params)
    point = point._replace(params=params)  # the trial is not looked at from here on, and the next takes its memory
    asked = lap.asked
    last = None if asked is None else Point(lap.trial, asked.cost, asked.gradient)
    answer = ask(plan.method, point, lap.method, problem._replace(bounds=plan.bounds, current=last))
    current = point
    if last is not None:
        current, asked = _accepted(asked, last, point, finite, answer.accepted)
    ahead, change = moved(current.params, answer.update, plan.bounds)
    code, rules = None, lap.rules
    if lap.code is not None:
        code, rules = check_rules(plan.rules, "update", Observation(current.params, update=change), lap.rules)
        code = jnp.where(code == RUNNING, answer.code, code).astype(jnp.int32)
        ahead = select(code == RUNNING, ahead, lap.evaluated)
    trial = ahead if asked is None else current.params
    going = finite if code is None else finite & (code == RUNNING)
    return Lap(
        trial=trial,
        params=params,
        method=answer.state,
        rules=rules,
        mean=lap.mean if lap.mean is None else _average(plan, epoch, lap, trial, going),
        asked=None if asked is None else asked._replace(params=ahead),
        batch=lap.batch + 1,
        finite=finite,
        code=code,
        cost=_noted(lap, first, _weighted(point.cost, weight), finite),
        gradient=None if lap.gradient is None else _added(lap.gradient, point.gradient, weight),
    )


def _accepted(asked: Any, last: Point, point: Point, finite: jax.Array, answer: Any) -> tuple[Point, Asked]:
    """Return the current point after a method has accepted or rejected one; the first of a run is accepted whatever it says."""
    accepted = finite & ((asked.accepted == 0) | answer)
    current = select(accepted, point._replace(aux=None), last)
    return current, Asked(asked.params, current.cost, current.gradient, asked.accepted + accepted.astype(jnp.int32))


def _added(total: Any, gradient: Any, weight: float) -> Any:
    return jax.tree.map(lambda s, g: s + _weighted(wide(g), weight), total, gradient)


def _weighted(number: jax.Array, weight: float) -> jax.Array:
    return number if weight == 1 else number * weight


def _noted(lap: Lap, first: jax.Array, cost: jax.Array, finite: jax.Array) -> jax.Array:
    """The costs of an epoch with that of one batch more."""
    if lap.cost.ndim:
        place = (lap.batch - first).astype(jnp.uint32)  # of an integer with a sign JAX asks whether it counts from the end
        return lax.dynamic_update_slice(lap.cost, cost[None], (place,))
    return jnp.where(finite, lap.cost + cost, lap.cost)


def _added_up(lap: Lap, first: jax.Array) -> Lap:
    """The costs of a block added up in groups, and groups of groups, so that rounding hardly adds up."""
    count = lap.batch - first - (~lap.finite).astype(jnp.int32)
    costs = jnp.where(jnp.arange(lap.cost.size, dtype=jnp.int32) < count, lap.cost, 0)
    while costs.size > _FEW:
        costs = jnp.sum(jnp.pad(costs, (0, -costs.size % _FEW)).reshape(-1, _FEW), axis=1)
    return lap._replace(cost=jnp.sum(costs))


def _average(plan: Plan, epoch: jax.Array, lap: Lap, trial: Any, going: jax.Array) -> Mean:
    """Take an iterate into the mean, if the run has come to the part that is averaged."""
    from_epoch, from_batch = plan.average_from
    late = (epoch > from_epoch) | ((epoch == from_epoch) & (lap.batch >= from_batch))
    count = lap.mean.count + (going & late).astype(jnp.int32)
    mean = jax.tree.map(lambda m, x: m + (wide(x) - m) / jnp.maximum(count, 1).astype(m.dtype), lap.mean.params, trial)
    return Mean(select(count > lap.mean.count, mean, lap.mean.params), count)


def _epoch_end(plan: Plan, state: State, lap: Lap, validation: Any) -> State:
    """After the batches of an epoch: its cost, its place among the best, the rules; unless it was broken off."""
    whole = lap.going
    evaluated = lap.batch - (~lap.finite).astype(jnp.int32)
    epoch_cost = jnp.where(evaluated > 0, lap.cost / plan.batches.weight(evaluated, lap.cost.dtype), state.epoch_cost)
    watched = epoch_cost if validation is None else validation
    seen = lap.params if plan.watches_batches else lap.trial  # the point whose cost is watched
    gradient = None if lap.gradient is None else jax.tree.map(lambda g: g / plan.batches.total_weight, lap.gradient)
    observation = Observation(seen, watched, inward(seen, gradient, plan.bounds))
    code, rules = check_rules(plan.rules, "progress", observation, lap.rules)
    last = (code == RUNNING) & (state.epoch + 1 >= plan.n_epochs)
    code = jnp.where(last, Status.MAX_EPOCHS.code, code)
    broken = jnp.where(lap.finite, RUNNING if lap.code is None else lap.code, Status.DIVERGED.code)
    better = whole & all_finite(watched, seen) & (watched < state.best.cost)
    first = (state.epoch == 0) & (evaluated > 0)
    return State(
        trial=lap.trial,
        params=lap.params,
        best=select(better, Best(seen, watched), state.best),
        method=lap.method,
        rules=select(whole, rules, lap.rules),
        mean=lap.mean,
        asked=lap.asked,
        epoch=state.epoch + whole.astype(jnp.int32),
        batch=jnp.where(whole, 0, lap.batch),
        epoch_cost=epoch_cost,
        validation_cost=None if validation is None else jnp.where(whole, validation, state.validation_cost),
        start_cost=None if state.start_cost is None else jnp.where(first, epoch_cost, state.start_cost),
        code=jnp.where(whole, code, broken).astype(jnp.int32),
    )


def row(plan: Plan, state: State, gradient: Any) -> dict[str, Any]:
    """What the history records of a state; the gradient is that of all rows, or None where it is not asked for."""
    cost = state.epoch_cost
    quantities = {
        "cost": lambda: cost,
        "params": lambda: state.trial,
        "gradient_norm": lambda: norm(gradient, cost.dtype),
        "learning_rate": lambda: plan.method.rate(plan.updates(state)),  # type: ignore[attr-defined]
        "validation_cost": lambda: state.validation_cost,
    }
    return {name: quantities[name]() for name in plan.names}
