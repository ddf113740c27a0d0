"""The moves of a run: `advance` takes in one evaluation, `end_epoch` what an epoch has shown. Every driver calls these two.

    evaluation = objective(state.trial, batch)
    state      = advance(spec, state, evaluation)
    state      = end_epoch(spec, before, state)         after the last batch of an epoch

In `minimize` every evaluation is an epoch, and so it is in a `fit` whose batches are all rows.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import schedules
from jaxgd._objective.extras import Carried
from jaxgd._run.state import EpochState, Mean, RunSpec, RunState, goes_on
from jaxgd._trees import all_finite, at_least_float32, norm, select
from jaxgd.bounds import apply_update, projected_gradient
from jaxgd.methods.protocol import Point, Problem, checked_step
from jaxgd.result import RUNNING, Best, Status, above
from jaxgd.stopping import Observation, check_rules, needs_gradient


def advance(spec: RunSpec, state: RunState, point: Point, problem: Problem, weight: float = 1.0) -> RunState:
    """Take in one evaluation: judge it, ask the method for an update and the rules about it, and apply it.

    The sums over the epoch count the evaluation `weight` times. The aux of a cost with a state comes with the state after the
    evaluation, which becomes the run's where the point is taken.
    """
    carried = point.aux if isinstance(point.aux, Carried) else None
    if carried is not None:
        point = point._replace(aux=carried.aux)
    if spec.skips:  # so that the compiler does not mix the evaluation with what is selected below, in other ways in other loops
        point = point._replace(
            **dict(zip(("cost", "gradient"), lax.optimization_barrier((point.cost, point.gradient)), strict=True))
        )
    finite = all_finite(point.cost, point.params, point.gradient)
    last = select(finite, point.params, state.current.params)
    if not spec.method.traits.steps_back:  # the trial is not looked at from here on, and the next takes its memory
        point = point._replace(params=last)
    known = state.current if spec.keeps_point else None
    problem = problem._replace(bounds=spec.bounds, current=known, penalty=spec.penalty)
    answer = checked_step(spec.method_at(state), point, state.method, problem)
    lap = _noted(spec, state, point, last, finite, weight)
    current = spec.kept(point._replace(params=last))
    if spec.method.traits.can_reject:
        accepted = state.is_first | (finite & answer.accepted)
        lap, current = lap._replace(accepted=accepted), select(accepted, spec.kept(point), state.current)
    cost_state = None
    if carried is not None:
        taken = finite if lap.accepted is None else lap.accepted
        taken = taken if state.nonfinite is None else taken & ~state.nonfinite  # the point before is only looked at again
        cost_state = select(taken, carried.state, state.cost_state)
    trial, change = apply_update(current.params, answer.update, spec.bounds)
    code, rules = state.code, state.rules
    if spec.can_end:
        fired, rules = check_rules(spec.rules, "update", Observation(current.params, update=change), rules)
        code = jnp.where(fired == RUNNING, answer.code, fired).astype(jnp.int32)
    if spec.revisits:
        trial = select(finite | state.is_first, trial, current.params)
    elif spec.can_end and not spec.method.traits.can_reject:  # an update that ends the run is not applied
        trial = select(code == RUNNING, trial, state.trial)
    after = state._replace(trial=trial, current=current, method=answer.state, rules=rules, under_way=lap, code=code)
    if carried is not None:
        after = after._replace(cost_state=cost_state)
    if not spec.returns_current:
        after = after._replace(batch=state.batch + 1)
    if spec.skips:
        after = _unless_dropped(spec, finite, state, after)
    if state.steps is not None:
        after = after._replace(steps=state.steps + (_is_accepted(spec, state, after) & ~state.is_first).astype(jnp.int32))
    return after if after.mean is None else after._replace(mean=_average(spec, after))


def _unless_dropped(spec: RunSpec, finite: Any, before: RunState, after: RunState) -> RunState:
    """Return the state after a step; where something was not finite, the state before, the step counted as dropped."""
    kept = ("trial", "current", "method", "rules", "cost_state")
    found = lax.optimization_barrier({name: getattr(after, name) for name in kept})
    fields = {name: select(finite, found[name], getattr(before, name)) for name in kept}
    code = jnp.where(finite, after.code, RUNNING).astype(jnp.int32)
    return after._replace(**fields, code=code, skipped=before.skipped + (~finite).astype(jnp.int32))


def evaluated_point(spec: RunSpec, params: Any, evaluation: tuple[Any, Any, Any]) -> Point:
    """Return a point with its evaluation, as far as `advance` looks at that."""
    cost, gradient, aux = evaluation
    return Point(params, cost, gradient, aux if spec.returns_current or isinstance(aux, Carried) else None)


def end_epoch(spec: RunSpec, before: RunState, state: RunState, validation: Any = None) -> RunState:
    """Take in what an epoch has shown: its cost, its place among the best, the verdicts of the rules.

    `before` is the state before the epoch, and `validation` the cost on the validation data after it. An epoch that was broken off
    shows nothing; in `minimize` a point that was rejected still counts for the best one.
    """
    lap: Any = state.under_way
    judged = _is_accepted(spec, before, state) if spec.returns_current else goes_on(spec, state)
    telling = judged & (_weight(spec, state) > 0) if spec.skips else judged  # of an epoch that was dropped whole nothing is known
    epoch_cost = lap.cost if spec.returns_current else _epoch_cost(spec, before, state)
    watched = epoch_cost if validation is None else validation
    seen = lap.seen if spec.watches_points else spec.shown(state)
    fired, rules = check_rules(spec.rules, "progress", _observed(spec, state, seen, watched), state.rules)
    start_cost = None if state.start_cost is None else jnp.where(before.epoch == 0, epoch_cost, state.start_cost)
    known = lap.finite if spec.returns_current else telling & all_finite(watched, seen)
    counts = judged if not spec.returns_current else True if before.nonfinite is None else ~before.nonfinite
    best = select(known & (watched < before.best.cost), Best(seen, watched), before.best)
    return state._replace(
        best=Best(state.current.params, state.current.cost) if spec.is_constrained else best,
        rules=select(telling, rules, state.rules),
        under_way=None,
        epoch=before.epoch + jnp.asarray(counts).astype(jnp.int32),
        batch=state.batch if spec.returns_current else jnp.where(judged, 0, state.batch),
        epoch_cost=None if spec.returns_current else epoch_cost,
        validation_cost=None if validation is None else jnp.where(judged, validation, before.validation_cost),
        start_cost=start_cost,
        nonfinite=None if before.nonfinite is None else ~lap.finite & ~before.is_first,
        code=_code(spec, before, state, jnp.where(telling, fired, RUNNING), start_cost),
        plateaus=_plateaus(spec, state, telling, watched),
    )


def _plateaus(spec: RunSpec, state: RunState, judged: Any, cost: jax.Array) -> Any:
    """Return the states of the plateaus after an epoch of this cost."""
    if state.plateaus is None:
        return None
    return select(judged & jnp.isfinite(cost), schedules.after_epoch(spec.method, state.plateaus, cost), state.plateaus)


def row(spec: RunSpec, state: RunState, gradient: Any = None) -> dict[str, Any]:
    """Return what the history records of a state. `gradient` is that over all rows where the state does not hold it."""
    point = state.current if spec.returns_current else Point(spec.iterate(state), state.epoch_cost, gradient)
    quantities = {
        "cost": lambda: point.cost,
        "params": lambda: point.params,
        "gradient_norm": lambda: norm(spec.slope(point.params, point.gradient), point.cost.dtype),
        "learning_rate": lambda: spec.method_at(state).rate(spec.updates(state)),  # type: ignore[attr-defined]
        "validation_cost": lambda: state.validation_cost,
    }
    return {name: quantities[name]() for name in spec.names}


def _is_accepted(spec: RunSpec, before: RunState, state: RunState) -> Any:
    """Return whether the last evaluation was accepted as the current point."""
    lap: Any = state.under_way
    if spec.method.traits.can_reject:
        return lap.accepted
    return lap.finite & ~before.nonfinite if spec.revisits else lap.finite


def _noted(spec: RunSpec, state: RunState, point: Point, last: Any, finite: Any, weight: float) -> EpochState:
    """Return the epoch under way with one evaluation more."""
    if spec.source.count == 1:
        gradient = jax.tree.map(at_least_float32, point.gradient) if needs_gradient(spec.rules) else None
        return EpochState(finite, None, last, point.cost, gradient)
    lap: Any = state.under_way
    cost = _weighted(point.cost, weight)
    total, error = (lap.cost + cost, None) if lap.error is None else plus(lap.cost, lap.error, cost)
    total, error = select(finite, (total, error), (lap.cost, lap.error))
    gradient, dropped = lap.gradient, lap.dropped
    if gradient is not None:
        added = jax.tree.map(lambda s, g: s + _weighted(at_least_float32(g), weight), gradient, point.gradient)
        gradient = select(finite, added, gradient) if spec.skips else added
    if dropped is not None:
        dropped = jnp.where(finite, dropped, dropped + weight)
    return EpochState(finite, None, None, total, gradient, error, dropped)


def plus(total: jax.Array, error: jax.Array, cost: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a sum with one cost more, and its new rounding error. The error of the sum does not grow with the number of costs.

    W. Kahan, Further remarks on reducing truncation errors, Commun. ACM 8 (1965).
    """
    corrected = cost - error
    new = total + corrected
    return new, (new - total) - corrected


def _weighted(number: jax.Array, weight: float) -> jax.Array:
    return number if weight == 1 else number * weight


def _average(spec: RunSpec, state: RunState) -> Mean:
    """Take the iterate into the mean, in the part of the run that is averaged."""
    (from_epoch, from_batch), mean = spec.average_from, state.mean
    late = (state.epoch > from_epoch) | ((state.epoch == from_epoch) & (state.batch > from_batch))
    taken = goes_on(spec, state) & late
    count = mean.count + ((taken & state.under_way.finite) if spec.skips else taken).astype(jnp.int32)  # type: ignore[union-attr]
    iterate, number = spec.iterate(state), jnp.maximum(count, 1)

    def toward(m: jax.Array, x: jax.Array) -> jax.Array:
        k = number.astype(m.dtype)
        if spec.decay is None:
            return m + (at_least_float32(x) - m) / k
        decay = spec.decay.astype(m.dtype)
        return m + (at_least_float32(x) - m) * ((1 - decay) / (1 - decay**k))

    moved = jax.tree.map(toward, mean.params, iterate)
    return Mean(select(count > mean.count, moved, mean.params), count)


def _epoch_cost(spec: RunSpec, before: RunState, state: RunState) -> jax.Array:
    """Return the mean cost over the rows of the finite batches; the last epoch's where none was."""
    lap: Any = state.under_way
    if spec.source.count == 1:
        return jnp.where(lap.finite, lap.cost, before.epoch_cost)
    if lap.dropped is not None:
        weight = _weight(spec, state)
        return jnp.where(weight > 0, lap.cost / jnp.where(weight > 0, weight, 1), before.epoch_cost)
    evaluated = state.batch - (~lap.finite).astype(jnp.int32)
    return jnp.where(evaluated > 0, lap.cost / spec.source.weight(evaluated, lap.cost.dtype), before.epoch_cost)


def _weight(spec: RunSpec, state: RunState) -> jax.Array:
    """Return what the evaluations of an epoch that were not dropped count for together."""
    lap: Any = state.under_way
    if lap.dropped is None:
        return lap.finite.astype(spec.empty.cost.dtype)
    return spec.source.weight(state.batch, lap.cost.dtype) - lap.dropped


def _observed(spec: RunSpec, state: RunState, seen: Any, cost: jax.Array) -> Observation:
    """Return what the progress rules see."""
    if spec.returns_current:
        point = state.current
        return _observation(spec, point.params, point.cost, point.gradient)
    gradient = state.under_way.gradient  # type: ignore[union-attr]
    if gradient is not None and spec.source.count > 1:
        weight: Any = jnp.maximum(_weight(spec, state), spec.source.last_weight or 1) if spec.skips else spec.source.total_weight
        gradient = jax.tree.map(lambda g: g / (weight.astype(g.dtype) if spec.skips else weight), gradient)
    return _observation(spec, seen, cost, gradient)


def _observation(spec: RunSpec, params: Any, cost: jax.Array, gradient: Any) -> Observation:
    """Return an observation of a point with the gradient of the cost."""
    if spec.penalty is None:
        return Observation(params, cost, projected_gradient(params, gradient, spec.bounds))
    return Observation(params, cost, spec.slope(params, gradient), smooth=gradient)


def _code(spec: RunSpec, before: RunState, state: RunState, fired: jax.Array, start_cost: Any) -> jax.Array:
    """Return the status after an epoch: what a progress rule says, what the method or an update rule says, the end of the run."""
    lap: Any = state.under_way
    spent: Any = Status.MAX_EPOCHS.code
    if spec.is_constrained:
        spent = Status.MAX_STEPS.code
    elif spec.returns_current:
        spent = jnp.where(above(state.current.cost, start_cost), Status.WORSE.code, Status.MAX_STEPS.code)
    code = jnp.where(before.epoch + 1 >= spec.n_epochs, spent, RUNNING)
    if spec.can_end:
        code = jnp.where(state.code != RUNNING, state.code, code)
    code = jnp.where(fired != RUNNING, fired, code)
    if spec.revisits:
        diverged = before.nonfinite | (before.is_first & ~lap.finite)
        code = jnp.where(lap.finite | before.is_first, code, RUNNING)
    else:
        diverged = ~lap.finite & before.is_first if spec.method.traits.steps_back else ~lap.finite & (not spec.skips)
    return jnp.where(diverged, Status.DIVERGED.code, code).astype(jnp.int32)
