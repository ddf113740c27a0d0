"""The loop over epochs, and the loop over an epoch's minibatches inside it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _shuffle
from jaxgd._loops import Lowering, recorded, traced
from jaxgd._trees import add, all_finite, norm, pytree, select, static, wide
from jaxgd.methods.protocol import Method, Point
from jaxgd.result import RUNNING, Best, Status
from jaxgd.stopping import Observation, Rule, check_rules, needs_gradient


@pytree
class Plan:
    """What a run of `fit` is told: everything but its state and its cost."""

    method: Method
    rules: tuple[Rule, ...]
    data: Any
    validation: tuple[Any, ...]
    seed: Any
    n_epochs: Any
    average_from: Any  # (epoch, batch): the first update whose iterate is averaged; None for no average
    shuffle: bool | str = static()
    n_rows: int = static()
    batch_size: int = static()
    names: tuple[str, ...] = static()
    capacity: int = static()

    @property
    def full_batches(self) -> int:
        return self.n_rows // self.batch_size

    @property
    def last_size(self) -> int:
        """The number of rows of the last, smaller batch; 0 where there is none."""
        return self.n_rows % self.batch_size

    @property
    def batches(self) -> int:
        return self.full_batches + (self.last_size > 0)

    def updates(self, state: Any) -> jax.Array:
        """The updates applied so far, at most the largest int32."""
        most = jnp.iinfo(jnp.int32).max
        exact = state.epoch < (most - self.batches) // self.batches
        return jnp.where(exact, state.epoch * self.batches + state.batch, most)

    @property
    def sums_gradient(self) -> bool:
        """Whether a rule asks for the mean gradient of an epoch."""
        return needs_gradient(self.rules)


class Sums(NamedTuple):
    """The sums over an epoch's batches: of the costs, with the rounding error it carries along, and of the gradients."""

    cost: Any
    error: Any
    gradient: Any


class Mean(NamedTuple):
    """A running mean of iterates."""

    params: Any
    count: Any


class State(NamedTuple):
    """The state of a run of `fit`.

    `trial` is the current iterate, the next to be evaluated; `params` the last one whose evaluation was finite, `cost` that of its
    batch. `epoch` counts the whole epochs, `batch` the updates in the epoch that runs. `epoch_cost` and `validation_cost` are
    those of the last whole epoch.
    """

    trial: Any
    params: Any
    cost: Any
    best: Best
    method: Any
    rules: Any
    sums: Sums
    mean: Any
    epoch: Any
    batch: Any
    epoch_cost: Any
    validation_cost: Any
    code: Any

    @property
    def ticks(self) -> Any:
        """Whole epochs done."""
        return self.epoch

    @property
    def rows(self) -> Any:
        """Rows of the history so far, one for each epoch; that of the start is made elsewhere."""
        return self.epoch


def begin(plan: Plan, empty: Point) -> State:
    """The state before the first evaluation; `empty` is the start with an infinite cost."""
    start, cost = empty.params, empty.cost
    return State(
        trial=start,
        params=start,
        cost=cost,
        best=Best(start, jnp.full_like(cost, jnp.inf)),
        method=plan.method.init(start),
        rules=tuple(rule.init(start, cost.dtype) for rule in plan.rules),
        sums=_no_sums(plan, start, cost),
        mean=None if plan.average_from is None else Mean(_wide_zeros(start), jnp.zeros((), jnp.int32)),
        epoch=jnp.zeros((), jnp.int32),
        batch=jnp.zeros((), jnp.int32),
        epoch_cost=cost,
        validation_cost=cost if plan.validation else None,
        code=jnp.asarray(RUNNING, jnp.int32),
    )


def _no_sums(plan: Plan, params: Any, cost: Any) -> Sums:
    zero = jnp.zeros_like(cost)
    return Sums(zero, zero, _wide_zeros(params) if plan.sums_gradient else None)


def _wide_zeros(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros_like(wide(leaf)), params)


class Functions(NamedTuple):
    """The cost in the forms that a run needs: with its gradient for a full batch, for the last, smaller one, and for all rows.

    `last` is None where the rows divide evenly, `value`, the cost alone for the validation data, where there are none.
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
        state = _batches(plan, functions, state, lower)
        validation = functions.value and functions.value(state.trial, *plan.validation).astype(state.cost.dtype)
        return lower.call(_epoch_end, plan, state, validation)

    def advance(state: State, until: Any) -> State:
        return lower.while_loop(running_until(until), epoch, state)

    def recorded_row(state: State) -> dict[str, Any]:
        gradient = functions.whole(state.trial, plan.data)[1] if "gradient_norm" in plan.names else None
        return lower.call(row, plan, state, gradient)

    if not plan.names:
        return advance(state, until), {}
    return recorded(advance, recorded_row, state, until, plan.capacity, lower)


def _batches(plan: Plan, functions: Functions, state: State, lower: Lowering) -> State:
    """The batches of one epoch: the full ones in a loop, then the smaller one, a loop of one turn so that a stop skips it."""
    order = lower.call(_order, plan, state.epoch)

    def batch(evaluate: Callable[..., Any], size: int) -> Callable[[State], State]:
        def step(state: State) -> State:
            rows = lower.call({size: _take_batch, plan.last_size: _take_last}[size], plan, order, state.epoch, state.batch)

            def at(params: Any) -> Point:
                return Point(params, *evaluate(params, rows)[:2])

            return lower.call(_advance, plan, state, at(state.trial), at if lower is traced else None)

        return step

    def running(n_batches: int) -> Callable[[State], jax.Array]:
        return lambda state: (state.code == RUNNING) & (state.batch < n_batches)

    state = lower.while_loop(running(plan.full_batches), batch(functions.full, plan.batch_size), state)
    if functions.last is not None:
        state = lower.while_loop(running(plan.batches), batch(functions.last, plan.last_size), state)
    return state


def _order(plan: Plan, epoch: jax.Array) -> Any:
    """What the shuffled order of an epoch needs, made once for it."""
    return _shuffle.shuffle(plan.seed, epoch, plan.n_rows) if plan.shuffle is True else None


def _take_batch(plan: Plan, order: Any, epoch: jax.Array, batch: jax.Array) -> Any:
    return _take(plan, order, epoch, batch, plan.batch_size)


def _take_last(plan: Plan, order: Any, epoch: jax.Array, batch: jax.Array) -> Any:
    return _take(plan, order, epoch, batch, plan.last_size)


def _take(plan: Plan, order: Any, epoch: jax.Array, batch: jax.Array, size: int) -> Any:
    """The rows of one batch."""
    if plan.batch_size == plan.n_rows and plan.shuffle != "replacement":
        return plan.data
    dtype = _shuffle.index_dtype(plan.n_rows)
    first = batch.astype(dtype) * jnp.asarray(plan.batch_size, dtype)
    if not plan.shuffle:
        return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, first, size), plan.data)
    positions = first + jnp.arange(size, dtype=dtype)
    if plan.shuffle == "replacement":
        rows = _shuffle.draw(plan.seed, epoch, positions, plan.n_rows)
    else:
        rows = _shuffle.row(order, positions, plan.n_rows)
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), plan.data)


def _advance(plan: Plan, state: State, point: Point, evaluate: Any) -> State:
    """One batch: take its evaluation in, ask the method for the update and the rules about it, apply it."""
    finite = all_finite(point.params, point.cost, point.gradient)
    answer = plan.method.step(point, state.method, evaluate)
    code, rules = check_rules(plan.rules, "update", Observation(point.params, update=answer.update), state.rules)
    code = jnp.where(finite, code, Status.DIVERGED.code).astype(jnp.int32)
    going = code == RUNNING
    trial = select(going, add(point.params, answer.update), state.trial)
    return state._replace(
        trial=trial,
        params=select(finite, point.params, state.params),
        cost=jnp.where(finite, point.cost, state.cost),
        method=answer.state,
        rules=rules,
        sums=_add_up(state.sums, point),
        mean=state.mean if state.mean is None else _average(plan, state, trial, going),
        batch=state.batch + going.astype(jnp.int32),
        code=code,
    )


def _add_up(sums: Sums, point: Point) -> Sums:
    """Add a batch to the sums of the epoch, the costs by W. Kahan's compensated summation (Commun. ACM 8, 1965)."""
    corrected = point.cost - sums.error
    total = sums.cost + corrected
    gradient = None if sums.gradient is None else jax.tree.map(lambda s, g: s + wide(g), sums.gradient, point.gradient)
    return Sums(total, (total - sums.cost) - corrected, gradient)


def _average(plan: Plan, state: State, trial: Any, going: jax.Array) -> Mean:
    """Take an iterate into the mean, if the run has come to the part that is averaged."""
    epoch, batch = plan.average_from
    late = (state.epoch > epoch) | ((state.epoch == epoch) & (state.batch >= batch))
    count = state.mean.count + (going & late).astype(jnp.int32)
    mean = jax.tree.map(lambda m, x: m + (wide(x) - m) / jnp.maximum(count, 1).astype(m.dtype), state.mean.params, trial)
    return Mean(select(count > state.mean.count, mean, state.mean.params), count)


def _epoch_end(plan: Plan, state: State, validation: Any) -> State:
    """After the batches of an epoch, if it was not broken off: its cost, its place among the best, the rules."""
    whole = state.batch == plan.batches
    epoch_cost = state.sums.cost / plan.batches
    watched = epoch_cost if validation is None else validation
    gradient = None if state.sums.gradient is None else jax.tree.map(lambda g: g / plan.batches, state.sums.gradient)
    code, rules = check_rules(plan.rules, "progress", Observation(state.trial, watched, gradient), state.rules)
    code = jnp.where((code == RUNNING) & (state.epoch + 1 >= plan.n_epochs), Status.MAX_EPOCHS.code, code).astype(jnp.int32)
    better = all_finite(watched, state.trial) & (watched < state.best.cost)
    ended = state._replace(
        best=select(better, Best(state.trial, watched), state.best),
        rules=rules,
        sums=_no_sums(plan, state.params, state.cost),
        epoch=state.epoch + 1,
        batch=jnp.zeros_like(state.batch),
        epoch_cost=epoch_cost,
        validation_cost=validation,
        code=code,
    )
    return select(whole, ended, state)


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


def finish(plan: Plan, evaluate: Callable[..., Any], state: State, empty: Point, lower: Lowering = traced) -> tuple[Point, Any]:
    """The point that a run returns, evaluated over all rows, and how many evaluations that took.

    It is the mean of the iterates if one was asked for and begun, else the last iterate. Where that is not finite it is the last
    iterate whose own batch was, or the best; where no candidate is finite over all rows, the first is evaluated again and kept.
    `empty` is a point with an infinite cost, of the shapes to come.
    """
    candidates = lower.call(_candidates, state)

    def unsettled(carry: Any) -> jax.Array:
        point, tried = carry
        return ~all_finite(point.cost, point.gradient) & (tried <= len(candidates))

    def attempt(carry: Any) -> Any:
        tried = carry[1]
        params = candidates[0]
        for index, candidate in enumerate(candidates[1:], start=1):
            params = select(tried == index, candidate, params)
        return Point(params, *evaluate(params, plan.data)), tried + 1

    return lower.while_loop(unsettled, attempt, (empty, jnp.zeros((), jnp.int32)))


def _candidates(state: State) -> tuple[Any, Any, Any]:
    last = state.trial
    if state.mean is not None:
        mean = jax.tree.map(lambda m, x: m.astype(x.dtype), state.mean.params, last)
        last = select(state.mean.count > 0, mean, last)
    return select(state.code == Status.DIVERGED.code, state.params, last), state.params, state.best.params
