"""From the state of a run to what a user sees: the progress, the history and the result."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._objective.extras import rebound
from jaxgd._run.advance import row
from jaxgd._run.end import AllRows, End, start_over_all_rows
from jaxgd._run.progress import Progress
from jaxgd._run.state import RunSpec, RunState, begin
from jaxgd._trees import integer, is_traced, norm, select, with_fields
from jaxgd.methods.protocol import Point
from jaxgd.result import Best, History, Result, Status


def progress(spec: RunSpec, state: RunState, rows: AllRows | None = None) -> Progress:
    """Return what a callback sees of a run; `rows` evaluates the cost over all rows where the state does not."""

    def gradient_norm() -> Any:
        point = state.current if rows is None else rebound(rows, spec.measured(state)).at(spec.iterate(state), spec.source.data)[0]
        return norm(spec.slope(point.params, point.gradient), spec.empty.cost.dtype)

    details = {"gradient_norm": gradient_norm}
    if hasattr(spec.method, "rate"):
        details["learning_rate"] = lambda: spec.method_at(state).rate(spec.updates(state))  # type: ignore[attr-defined]
    if spec.returns_current:
        step = int(state.steps)
        return Progress(step, step, state.current.params, state.current.cost, None, state.best, details=details)
    epoch = int(state.epoch)
    step = epoch * spec.source.count + int(state.extra) - (0 if state.skipped is None else int(state.skipped))
    return Progress(step, epoch, spec.iterate(state), state.epoch_cost, state.validation_cost, state.best, details=details)


def result(state: RunState, history: History | None = None) -> Result:
    """Return the result of a run of `minimize`, in the free parameters."""
    n_steps = integer(state.steps)
    return Result(
        params=state.current.params,
        cost=state.current.cost,
        gradient=state.current.gradient,
        best=_best_of(state.best, state.current),
        n_steps=n_steps,
        n_epochs=n_steps,
        n_evaluations=integer(state.epoch),
        code=integer(state.code),
        history=history,
        aux=state.current.aux,
        state=state,
        cost_state=state.cost_state,
        start_cost=state.start_cost,
    )


def result_over_all_rows(spec: RunSpec, state: RunState, end: End, history: History | None) -> Result:
    """Return the result of a run of `fit`, in the free parameters."""
    code, epoch, batch, choice = (integer(value) for value in (state.code, state.epoch, state.batch, end.choice))
    seen = epoch * spec.source.count + batch
    if state.steps is not None:
        n_steps = integer(state.steps)
    else:
        n_steps = seen if state.under_way is not None else seen - _flag(batch > 0)
        one_back = (code == Status.DIVERGED.code) | (choice == 1)  # the point before the last iterate is returned
        if state.skipped is not None:
            n_steps = n_steps - integer(state.skipped)
        n_steps = n_steps - _flag(one_back) * _flag(n_steps > 0)
    return Result(
        params=end.point.params,
        cost=end.point.cost,
        gradient=end.point.gradient,
        best=end.best,
        n_steps=n_steps,
        n_epochs=epoch,
        n_evaluations=seen + integer(end.evaluations),
        code=integer(end.code),
        history=history,
        aux=end.point.aux,
        state=state,
        cost_state=state.cost_state,
        n_skipped=None if state.skipped is None else integer(state.skipped),
        start_cost=end.start_cost,
    )


def history(chunks: list[Any], first: dict[str, Any] | None = None) -> History | None:
    """Return the rows of all segments as one `History`, after the row of the start where that was made apart."""
    parts = ([jax.tree.map(lambda leaf: leaf[None], first)] if first else []) + chunks
    if not parts:
        return None
    join = jnp.concatenate if is_traced(parts) else np.concatenate
    return History(**jax.tree.map(lambda *leaves: join(leaves), *parts))


def history_over_all_rows(spec: RunSpec, state: RunState, end: End, chunks: list[Any], rows: AllRows | None) -> History | None:
    """Return the history of a run of `fit`, the row of the start in front.

    `rows` evaluate the start where its gradient is recorded; without them that is NaN.

    Where every batch is all rows, the cost of an epoch is that of the point before its update: it belongs to the row before.
    """
    gradient = None
    if "gradient_norm" in spec.names:
        gradient = end.point.gradient if rows is None else start_over_all_rows(spec, rows).gradient
    first = row(spec, begin(spec), gradient) | {"cost": end.start_cost}
    if spec.validation:
        first["validation_cost"] = end.start_validation
    found = history(chunks, first)
    if found is None or not spec.one_batch:
        return found
    if is_traced(found.cost):
        cost = jnp.append(found.cost[1:], jnp.nan).at[state.epoch].set(end.last_cost)
    else:
        cost = np.append(found.cost[1:], end.last_cost)
    return with_fields(found, cost=cost)


def _best_of(best: Best, point: Point) -> Best:
    """Return the best point seen, or the point at hand where no other was finite."""
    if is_traced(best.cost):
        return select(best.cost == jnp.inf, Best(point.params, point.cost), best)
    return Best(point.params, point.cost) if np.asarray(best.cost) == np.inf else best


def _flag(value: Any) -> Any:
    """Return a truth value as an integer, 0 or 1."""
    return value.astype(jnp.int32) if is_traced(value) else int(value)
