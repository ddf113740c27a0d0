"""The stepwise driver: the host calls the objective, compiled or as Python, and then the compiled `advance`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile.program import program_for
from jaxgd._objective.extras import rebound
from jaxgd._run.advance import advance, end_epoch, evaluated_point, row
from jaxgd._run.fused import is_running
from jaxgd._run.objective import Objective, call
from jaxgd._run.state import RunSpec, RunState, before_epoch, begin, goes_on, start_epoch
from jaxgd._trees import all_of, select
from jaxgd.data.source import Source
from jaxgd.methods.protocol import Point, Problem


def run_segment(spec: RunSpec, objective: Objective, state: RunState, until: Any) -> tuple[RunState, Any]:
    """Do what the fused driver's function of this name does."""
    state = _program(begin, spec) if state.is_first else state
    rows = []
    while is_running(state, until):
        before, (state, new) = state, run_epoch(spec, objective, state)
        if spec.names and spec.n_rows(state) > spec.n_rows(before):
            rows.append(new)
    return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows) if rows else {}


def run_epoch(spec: RunSpec, objective: Objective, state: RunState) -> tuple[RunState, Any]:
    """Run one epoch, and return the row of the history as well."""
    source = spec.source
    if source.count > 1:
        return end_part(spec, objective, _program(start_epoch, spec, state))
    rows = _program(type(source).batch, source, state.epoch, jnp.zeros((), jnp.int32))
    return _ended(spec, objective, state, _evaluated(advanced, spec, objective, state, objective.evaluate, rows))


def run_part(spec: RunSpec, objective: Objective, state: RunState, until: Any) -> RunState:
    """Do what the fused driver's function of this name does."""
    source, until = spec.source, min(int(until), spec.source.count)
    order = _program(type(source).order, source, state.epoch)
    while goes_on(spec, state) and state.batch < until:
        first = np.int32(state.batch - state.batch % source.per_block)
        block = _program(type(source).block, source, order, state.epoch, first)
        for batch in range(int(state.batch), min(int(first) + source.per_block, until)):
            last = batch == source.full
            rows = _program(_take_last if last else type(source).take, source, block, first, np.int32(batch))
            evaluate: Any = objective.evaluate_last if last else objective.evaluate
            state = _evaluated(_advance_last if last else advanced, spec, objective, state, evaluate, rows)
            if not goes_on(spec, state):
                break
    return state


def end_part(spec: RunSpec, objective: Objective, state: RunState) -> tuple[RunState, Any]:
    """Do what the fused driver's function of this name does."""
    return _ended(spec, objective, before_epoch(state), run_part(spec, objective, state, spec.source.count))


def _ended(spec: RunSpec, objective: Objective, before: RunState, after: RunState) -> tuple[RunState, Any]:
    """Return the state after an epoch, and the row of the history."""
    validation = None
    if objective.validation is not None:
        measure = rebound(objective.validation, spec.measured(after))
        shown = _program(_shown, spec, after)
        validation = call(measure, shown, *spec.validation).astype(before.best.cost.dtype)
    state = _program(end_epoch, spec, before, after, validation)
    if not spec.names:
        return state, {}
    all_rows = rebound(objective.all_rows, spec.measured(state))
    gradient = None if all_rows is None else call(all_rows, spec.iterate(state), spec.source.data)[1]
    return state, jax.tree.map(lambda leaf: np.asarray(leaf)[None], _program(row, spec, state, gradient))


def _evaluated(function: Any, spec: RunSpec, objective: Objective, state: RunState, evaluate: Any, rows: Any) -> RunState:
    """Evaluate the trial on some rows, with second derivatives if the method needs them, and advance."""
    rows = (*_program(_given, spec, state), *rows)
    point = evaluated_point(spec, state.trial, call(evaluate, state.trial, *rows))
    return _program(function, spec, state, point, matrices(objective, state, rows))


def matrices(objective: Objective, state: RunState, rows: Any) -> dict[str, Any]:
    """Return the matrices that the method may ask for, at the trial, and of residuals at the current point too."""
    places = (state.trial, state.current.params) if objective.linearised else (state.trial,)

    def at_places(one: Any) -> Any:
        return None if one is None else tuple(call(one, place, *rows) for place in places)

    return {"hessian": at_places(objective.hessian), "linearised": at_places(objective.linearised)}


def _given(spec: RunSpec, state: RunState) -> tuple[Any, ...]:
    return spec.given(state)


def _shown(spec: RunSpec, state: RunState) -> Any:
    return spec.shown(state)


def _program(function: Any, *arguments: Any) -> Any:
    return program_for(function, *arguments, in_parts=True)(*arguments)


def advanced(spec: RunSpec, state: RunState, point: Point, matrices: Any, weight: float = 1.0) -> RunState:
    """Advance with matrices at the trial, and for some methods at the current point too.

    Each is None where the method needs none.
    """

    def at(found: Any) -> Any:
        if found is None or len(found) == 1:
            return found and (lambda _: found[0])
        return lambda params: select(all_of(jnp.equal, params, point.params), *found)

    problem = Problem(None, **{name: at(found) for name, found in matrices.items()})
    return advance(spec, state, point, problem, weight)


def _advance_last(spec: RunSpec, state: RunState, point: Point, matrices: Any) -> RunState:
    return advanced(spec, state, point, matrices, spec.source.last_weight)


def _take_last(source: Source, block: Any, first: Any, batch: Any) -> Any:
    return source.take(block, first, batch, last=True)
