"""The stepwise driver: the host calls the objective, compiled or as Python, and then the compiled `advance`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile.program import program_for
from jaxgd._run.advance import advance, end_epoch, row
from jaxgd._run.fused import is_running
from jaxgd._run.objective import Objective, call
from jaxgd._run.state import RunSpec, RunState, begin, goes_on, start_epoch
from jaxgd._run.sums import end_block, one_by_one, start_block, with_cost
from jaxgd.data.source import Source
from jaxgd.methods.protocol import Point, Problem


def run_segment(spec: RunSpec, objective: Objective, state: RunState, until: Any) -> tuple[RunState, Any]:
    """Do what the fused driver's function of this name does."""
    state = _program(begin, spec) if state.is_first else state
    rows = []
    while is_running(state, until):
        before, state = state, run_epoch(spec, objective, state)
        if spec.names and spec.n_rows(state) > spec.n_rows(before):
            all_rows = objective.all_rows
            gradient = None if all_rows is None else call(all_rows, spec.iterate(state), spec.source.data)[1]
            rows.append(_program(row, spec, state, gradient))
    return state, jax.tree.map(lambda *leaves: np.stack(leaves), *rows) if rows else {}


def run_epoch(spec: RunSpec, objective: Objective, state: RunState) -> RunState:
    """Do what the fused driver's function of this name does."""
    source = spec.source
    if source.count == 1:
        rows = _program(type(source).batch, source, state.epoch, jnp.zeros((), jnp.int32))
        after = _evaluated(_advance, spec, objective, state, objective.evaluate, rows)
    else:
        order, after = _program(type(source).order, source, state.epoch), _program(start_epoch, spec, state)
        while goes_on(spec, after) and after.batch < source.count:
            after = _run_block(spec, objective, after, order)
    validation = None
    if objective.validation is not None:
        validation = call(objective.validation, spec.iterate(after), *spec.validation).astype(state.best.cost.dtype)
    return _program(end_epoch, spec, state, after, validation)


def _run_block(spec: RunSpec, objective: Objective, state: RunState, order: Any) -> RunState:
    """Run the batches of a block."""
    source, first, total = spec.source, state.batch, state.under_way.cost  # type: ignore[union-attr]
    state = _program(start_block, spec, state)
    block = _program(type(source).block, source, order, state.epoch, first)
    for batch in range(int(first), min(int(first) + source.per_block, source.count)):
        last = batch == source.full
        rows = _program(_take_last if last else type(source).take, source, block, first, np.int32(batch))
        evaluate: Any = objective.evaluate_last if last else objective.evaluate
        state = _evaluated(_advance_last if last else _advance, spec, objective, state, evaluate, rows, first)
        if not goes_on(spec, state):
            break
    state = _program(end_block, spec, state, first)
    return with_cost(state, total + state.under_way.cost)  # type: ignore[union-attr]


def _evaluated(
    function: Any, spec: RunSpec, objective: Objective, state: RunState, evaluate: Any, rows: Any, first: Any = None
) -> RunState:
    """Evaluate the trial on some rows, with second derivatives if the method needs them, and advance."""
    cost, gradient, aux = call(evaluate, state.trial, *rows)
    matrix = None if objective.hessian is None else call(objective.hessian, state.trial, *rows)
    point = Point(state.trial, cost, gradient, aux if spec.returns_current else None)
    return _program(function, spec, state, point, matrix, first)


def _program(function: Any, *arguments: Any) -> Any:
    return program_for(function, *arguments)(*arguments)


def _advance(spec: RunSpec, state: RunState, point: Point, matrix: Any, first: Any, weight: float = 1.0) -> RunState:
    problem = Problem(None, None if matrix is None else lambda _: matrix)
    return advance(spec, state, point, problem, first if one_by_one(spec) else None, weight)


def _advance_last(spec: RunSpec, state: RunState, point: Point, matrix: Any, first: Any) -> RunState:
    return _advance(spec, state, point, matrix, first, spec.source.last_weight)


def _take_last(source: Source, block: Any, first: Any, batch: Any) -> Any:
    return source.take(block, first, batch, last=True)
