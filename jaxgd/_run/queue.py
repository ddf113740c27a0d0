"""Many runs of `minimize` one after the other.

Where a run is one native function, so is a loop over runs. A run then takes less time than it takes in lanes, where both sides of
every branch are computed, and the program is compiled in a fraction of the time.
"""

import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._compile import native
from jaxgd._compile.program import Program, program_for
from jaxgd._run import fused
from jaxgd._run.driver import Loop
from jaxgd._run.many import Ends, ManySpec, begun, blank_ends, end_of, rank
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec, RunState
from jaxgd._trees import put, select, taken
from jaxgd.result import RUNNING, Status

_natives: weakref.WeakKeyDictionary[Program, bool] = weakref.WeakKeyDictionary()


class Queue(NamedTuple):
    """The state of many runs.

    Attributes:
        state: the state of the run under way; it is initialised where nothing was evaluated yet.
        number: the number of that run, and of runs that have ended.
        ends: the ends of all runs.
        best: the last state of the best run that has ended; None where all ends are kept.
        found: whether there is one.
        ticks: how often a run was advanced.
        code: RUNNING until all runs have ended.
    """

    state: RunState
    number: Any
    ends: Ends
    best: RunState | None
    found: Any
    ticks: Any
    code: Any


def begin_queue(spec: ManySpec) -> Queue:
    """Return the state before the first evaluation."""
    zero = jnp.zeros((), jnp.int32)
    first = begun(spec, spec.row(zero))
    return Queue(
        state=first,
        number=zero,
        ends=blank_ends(spec, first),
        best=None if spec.keeps_ends else first,
        found=jnp.asarray(False),
        ticks=zero,
        code=jnp.asarray(RUNNING, jnp.int32),
    )


def continue_queue(spec: ManySpec, objective: Objective, queue: Queue, until: Any) -> tuple[Queue, Any]:
    """Run until all runs have ended or `until` ticks are done; nothing is recorded."""

    def run_one(queue: Queue) -> Queue:
        row = spec.row(jnp.minimum(queue.number, spec.size - 1))
        run, functions = row.placed(spec.run, objective)
        state = select(queue.state.is_first, begun(spec, row), queue.state)

        def going(carry: Any) -> jax.Array:
            state, ticks = carry
            return (state.code == RUNNING) & (ticks < until)

        def tick(carry: Any) -> Any:
            state, ticks = carry
            return _tick(run, functions, state), ticks + 1

        state, ticks = lax.while_loop(going, tick, (state, queue.ticks))
        return _next(spec, _recorded(spec, queue._replace(state=state, ticks=ticks)))

    return lax.while_loop(lambda queue: (queue.code == RUNNING) & (queue.ticks < until), run_one, queue), {}


def run_queue(spec: ManySpec, objective: Objective, queue: Queue, until: Any) -> tuple[Queue, Any]:
    """Do what `continue_queue` does; a queue that has run no tick is initialised first."""
    return continue_queue(spec, objective, select(queue.ticks == 0, begin_queue(spec), queue), until)


QUEUE = Loop(begin_queue, run_queue, continue_queue)


def _recorded(spec: ManySpec, queue: Queue) -> Queue:
    """Return the queue with the end of the run under way written down, if it has ended."""
    state, place = queue.state, jnp.minimum(queue.number, spec.size - 1)
    ended = (state.code != RUNNING) & (queue.number < spec.count)

    def write(table: jax.Array, row: jax.Array) -> jax.Array:
        return put(table, place, select(ended, row, taken(table, place)))

    ends, best = jax.tree.map(write, queue.ends, end_of(spec, state)), queue.best
    if best is not None:
        held = jnp.where(queue.found, rank(spec, best), jnp.inf)
        best = select(ended & ((rank(spec, state) < held) | ~queue.found), state, best)
    return queue._replace(ends=ends, best=best, found=queue.found | ended)


def _next(spec: ManySpec, queue: Queue) -> Queue:
    """Return the queue with the next run under way, if the last has ended. Its code is that of its end if none is left."""
    state = queue.state
    ended = state.code != RUNNING
    number = queue.number + ended.astype(jnp.int32)
    state = state._replace(epoch=jnp.where(ended, 0, state.epoch), batch=jnp.where(ended, 0, state.batch))  # to be initialised
    code = jnp.where(number < spec.count, RUNNING, Status.CONVERGED.code).astype(jnp.int32)
    return queue._replace(state=state, number=number, code=code)


def finish_queue(spec: ManySpec, queue: Queue, code: jax.Array) -> Queue:
    """Return the queue after its runs were broken off with a code: what was reached is written down."""
    state = queue.state
    started = (state.epoch > 0) & (queue.number < spec.count)
    queue = _recorded(spec, queue._replace(state=state._replace(code=jnp.where(started, code, RUNNING))))
    codes = jnp.where(queue.ends.code == RUNNING, code, queue.ends.code)
    return queue._replace(ends=queue.ends._replace(code=codes))


def is_native(spec: ManySpec, objective: Objective) -> bool:
    """Return whether a tick of a run is one native function."""
    if not native.is_possible(jax.tree.leaves((spec, objective))):
        return False
    program = program_for(_first_tick, spec, objective)
    if program not in _natives:
        _natives[program] = native.is_whole(program.call.trace(spec, objective).jaxpr.jaxpr)
    return _natives[program]


def _first_tick(spec: ManySpec, objective: Objective) -> RunState:
    row = spec.row(jnp.zeros((), jnp.int32))
    return _tick(*row.placed(spec.run, objective), begun(spec, row))


@jax.jit
def _tick(run: RunSpec, objective: Objective, state: RunState) -> RunState:
    """Advance a run: as a function of its own, which is traced once."""
    return fused.run_epoch(run, objective, state)
