"""The fused driver: one compiled loop around objective and `advance`, the only `lax.while_loop` over evaluations.

One call may be the whole run or one epoch of it: the state is arrays only, the body is the same program, and so are the bits.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._objective.extras import rebound
from jaxgd._run.advance import advance, end_epoch, evaluated_point, row
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec, RunState, before_epoch, begin, goes_on, start_epoch
from jaxgd._trees import put, select, taken
from jaxgd.methods.protocol import Point, Problem
from jaxgd.result import RUNNING

_FEW = 16  # batches of a block: where it has fewer, a batch takes longer than asking the host
_TOGETHER = 4  # turns of a loop on a GPU that are started together


def run_segment(spec: RunSpec, objective: Objective, state: RunState, until: Any) -> tuple[RunState, Any]:
    """Run until the run ends or `until` epochs are done.

    Return the state and the rows of the history, `spec.capacity` at most. A state that nothing was evaluated for is initialised
    first, whatever is in it: one program begins a run and continues it.
    """
    return continue_run(spec, objective, select(state.is_first, begin(spec), state), until)


def continue_run(spec: RunSpec, objective: Objective, state: RunState, until: Any) -> tuple[RunState, Any]:
    """Do what `run_segment` does for a state that is initialised."""

    def run_until(state: RunState, until: Any) -> RunState:
        return lax.while_loop(lambda state: is_running(state, until), lambda state: run_epoch(spec, objective, state), state)

    if not spec.names:
        return run_until(state, until), {}

    return _recorded(run_until, functools.partial(_row, spec, objective), spec, state, until)


def is_running(state: RunState, until: Any) -> Any:
    """Return whether a run goes on before `until` epochs are done."""
    before = state.epoch < until
    return (state.code == RUNNING) & (before if state.nonfinite is None else before | state.nonfinite)


def run_epoch(spec: RunSpec, objective: Objective, state: RunState) -> RunState:
    """Run one epoch: all its batches, and what follows from them."""
    after = _run_batches(spec, objective, state)
    return end_epoch(spec, state, after, validation_cost(spec, objective, after))


def validation_cost(spec: RunSpec, objective: Objective, state: RunState) -> Any:
    """Return the cost on the validation data after an epoch; None where there are none."""
    if objective.validation is None:
        return None
    validation = rebound(objective.validation, spec.measured(state))
    return validation(spec.shown(state), *spec.validation).astype(state.best.cost.dtype)


def _row(spec: RunSpec, objective: Objective, state: RunState) -> dict[str, Any]:
    """Return what the history records of a state."""
    all_rows = rebound(objective.all_rows, spec.measured(state))
    return row(spec, state, None if all_rows is None else all_rows(spec.iterate(state), spec.source.data)[1])


def _run_batches(spec: RunSpec, objective: Objective, state: RunState) -> RunState:
    """Run the batches of one epoch."""
    source, zero = spec.source, jnp.zeros((), jnp.int32)
    if source.count == 1:
        return evaluated(spec, objective, state, objective.evaluate, source.batch(state.epoch, zero))
    return _run_blocks(spec, objective, start_epoch(spec, state), source.count)


def _run_blocks(spec: RunSpec, objective: Objective, state: RunState, until: Any) -> RunState:
    """Run the batches before `until` of the epoch under way, block by block."""
    source = spec.source
    order = source.order(state.epoch)
    if source.per_block >= source.count:
        return _run_block(spec, objective, state, order, jnp.zeros((), jnp.int32), until)

    def one(state: RunState) -> RunState:
        first = state.batch - state.batch % source.per_block
        return _run_block(spec, objective, state, order, first, jnp.minimum(until, first + source.per_block))

    return lax.while_loop(lambda state: goes_on(spec, state) & (state.batch < until), one, state)


def _run_block(spec: RunSpec, objective: Objective, state: RunState, order: Any, first: Any, until: Any) -> RunState:
    """Run the batches before `until` of the block that begins with the batch `first`.

    The full ones run in a loop, then the smaller one in a loop of at most one turn.
    """
    source = spec.source
    rows = source.block(order, state.epoch, first)
    most = min(source.per_block, source.full)
    counted = not source.on_host and most >= _FEW

    def loop(state: RunState, end: Any, evaluate: Any, weight: float, *, last: bool) -> RunState:
        def batch(state: RunState) -> RunState:
            return evaluated(spec, objective, state, evaluate, source.take(rows, first, state.batch, last=last), weight)

        def unfinished(state: RunState) -> Any:
            return goes_on(spec, state) & (state.batch < end)

        if counted:
            return _counted(unfinished, batch, state, 1 if last else most)
        return lax.while_loop(unfinished, batch, state)

    state = loop(state, jnp.minimum(until, source.full), objective.evaluate, 1.0, last=False)
    if source.last_size:
        end = jnp.where(state.batch == source.full, jnp.minimum(until, source.count), first)
        state = loop(state, end, objective.evaluate_last, source.last_weight, last=True)
    return state


def _counted(unfinished: Callable[[Any], Any], turn: Callable[[Any], Any], state: Any, length: int) -> Any:
    """Return what `lax.while_loop` does, for a GPU and a loop of `length` turns at most.

    Of a loop of known length it need not ask the host after every turn. The turns after the last one change nothing. Some turns are
    written out, so that their functions are started together. They are kept apart: mixed with the next turn, a turn would have
    other bits than as the last one before a pause.
    """
    together = _TOGETHER if length > 1 else 1

    def turn_or_nothing(_: Any, state: Any) -> Any:
        return lax.optimization_barrier(select(unfinished(state), turn(state), state))

    return lax.fori_loop(0, -(-length // together) * together, turn_or_nothing, state, unroll=together)


def run_part(spec: RunSpec, objective: Objective, state: RunState, until: Any) -> RunState:
    """Run the batches before `until` of the epoch under way: by the same loops as a whole epoch, and so to the same bits.

    They are the body of a loop of one turn, as they are in a whole run: whether XLA makes one function of a loop, with other bits,
    depends on what is in it.
    """
    until = jnp.minimum(until, spec.source.count)
    return _in_a_loop(state, lambda: _run_blocks(spec, objective, state, until))


def end_part(spec: RunSpec, objective: Objective, state: RunState) -> tuple[RunState, Any]:
    """Run the rest of an epoch within which the run may have paused; return the state and the recorded row."""

    def rest() -> RunState:
        after = _run_blocks(spec, objective, state, spec.source.count)
        return end_epoch(spec, before_epoch(state), after, validation_cost(spec, objective, after))

    after = _in_a_loop(state, rest)
    recorded = _in_a_loop(state, functools.partial(_row, spec, objective, after)) if spec.names else {}
    return after, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], recorded)


def _in_a_loop(state: RunState, function: Callable[[], Any]) -> Any:
    """Return what a function returns, called in a loop of one turn, of which the compiler does not know that."""
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function))
    return lax.while_loop(lambda carry: carry[1], lambda _: (function(), jnp.asarray(False)), (blank, state.epoch >= 0))[0]


def evaluated(
    spec: RunSpec,
    objective: Objective,
    state: RunState,
    evaluate: Callable[..., Any],
    rows: tuple[Any, ...],
    weight: float = 1.0,
) -> RunState:
    """Evaluate the trial on some rows and advance: the only place where the cost is evaluated in a loop."""
    arguments = (*spec.given(state), *rows)

    def at(params: Any) -> Point:
        return evaluated_point(spec, params, evaluate(params, *arguments))

    problem = Problem(at, **objective.further(arguments, rows))
    return advance(spec, state, at(state.trial), problem, weight)


def _recorded(
    run_until: Callable[[Any, Any], Any], recorded_row: Callable[[Any], Any], spec: RunSpec, state: RunState, until: Any
) -> tuple[RunState, Any]:
    """Run an epoch at a time, and write a row after each; an epoch without a new row writes nothing.

    The loop inside is the one that runs when nothing is recorded, untouched: were the writing part of it, the compiler might round
    its numbers otherwise.
    """
    first = spec.n_rows(state)
    like = jax.eval_shape(recorded_row, state)
    empty = jax.tree.map(lambda leaf: jnp.zeros((spec.capacity, *leaf.shape), leaf.dtype), like)

    def unfinished(carry: Any) -> Any:
        return (carry[0].code == RUNNING) & (carry[0].epoch < until)

    def one(carry: Any) -> Any:
        state, rows = carry
        after = run_until(state, state.epoch + 1)
        written = spec.n_rows(after)
        return after, _write(rows, written - first - 1, recorded_row(after), written > spec.n_rows(state))

    return lax.while_loop(unfinished, one, (state, empty))


def _write(rows: Any, index: jax.Array, values: Any, is_new: jax.Array) -> Any:
    index = jnp.maximum(index, 0)

    def written(buffer: jax.Array, value: jax.Array) -> jax.Array:
        return put(buffer, index, select(is_new, value, taken(buffer, index)))

    return jax.tree.map(written, rows, values)
