"""Many runs of `minimize` side by side: a few lanes, each of which begins the next run when its own has ended.

The lanes are one program whose tick evaluates the cost once for each of them. Because no lane waits for another, a few slow runs do
not hold the others up, and because there are few lanes, little is wasted on those that wait for the last runs. Lanes whose runs
have ended are filled again several at a time: to write down an end takes about as long as a tick of a small run.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._run import fused
from jaxgd._run.driver import Loop
from jaxgd._run.many import Each, Ends, ManySpec, begun, blank_ends, end_of, rank
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunState
from jaxgd._trees import select
from jaxgd.result import RUNNING, Status

_REFILLED = 8  # one in so many lanes has to have ended before some are filled again


class Pool(NamedTuple):
    """The state of many runs.

    Attributes:
        lanes: the states of the runs under way, a row each.
        rows: their arguments.
        numbers: the numbers of these runs; `size` for a lane whose end is written down, or that never had a run.
        following: the number of the run to begin next.
        ends: the ends of all runs.
        best: the last state of the best run that has ended.
        found: whether there is one.
        ticks: how often all lanes were advanced.
        code: RUNNING until all runs have ended.
    """

    lanes: RunState
    rows: Each
    numbers: Any
    following: Any
    ends: Ends
    best: RunState
    found: Any
    ticks: Any
    code: Any


def begin_all(spec: ManySpec) -> Pool:
    """Return the state before the first evaluation."""
    zero = jnp.zeros((), jnp.int32)
    numbers = jnp.arange(spec.width, dtype=jnp.int32)
    rows = jax.vmap(spec.row)(jnp.minimum(numbers, spec.size - 1))
    lanes = jax.vmap(lambda row: begun(spec, row))(rows)
    first = jax.tree.map(lambda leaf: leaf[0], lanes)
    return Pool(
        lanes=lanes._replace(code=jnp.where(numbers < spec.count, lanes.code, Status.INTERRUPTED.code)),
        rows=rows,
        numbers=jnp.where(numbers < spec.count, numbers, spec.size),
        following=jnp.asarray(spec.width, jnp.int32),
        ends=blank_ends(spec, first),
        best=first,
        found=jnp.asarray(False),
        ticks=zero,
        code=jnp.asarray(RUNNING, jnp.int32),
    )


def continue_all(spec: ManySpec, objective: Objective, pool: Pool, until: Any) -> tuple[Pool, Any]:
    """Run until all runs have ended or `until` ticks are done; nothing is recorded."""

    def running(pool: Pool) -> jax.Array:
        return (pool.code == RUNNING) & (pool.ticks < until)

    def until_some_end(pool: Pool) -> Pool:
        busy = jnp.sum(pool.lanes.code == RUNNING, dtype=jnp.int32)
        least = jnp.maximum(busy - max(1, spec.width // _REFILLED), 0)

        def going(carry: Any) -> jax.Array:
            lanes, ticks = carry
            return (jnp.sum(lanes.code == RUNNING, dtype=jnp.int32) > least) & (ticks < until)

        def one(row: Each, state: RunState) -> RunState:
            run, functions = row.placed(spec.run, objective)
            return fused.run_epoch(run, functions, state)

        def tick(carry: Any) -> Any:
            lanes, ticks = carry
            ticked = jax.vmap(one)(pool.rows, lanes)
            return _choose(lanes.code == RUNNING, ticked, lanes), ticks + 1

        lanes, ticks = lax.while_loop(going, tick, (pool.lanes, pool.ticks))
        return _refilled(spec, recorded(spec, pool._replace(lanes=lanes, ticks=ticks)))

    return lax.while_loop(running, until_some_end, pool), {}


def run_all(spec: ManySpec, objective: Objective, pool: Pool, until: Any) -> tuple[Pool, Any]:
    """Do what `continue_all` does; a pool that has run no tick is initialised first."""
    return continue_all(spec, objective, select(pool.ticks == 0, begin_all(spec), pool), until)


LANES = Loop(begin_all, run_all, continue_all)


def recorded(spec: ManySpec, pool: Pool) -> Pool:
    """Return the pool with the new ends of its lanes written down, and the best of all kept."""
    lanes, nowhere = pool.lanes, spec.size
    ended = (lanes.code != RUNNING) & (pool.numbers < nowhere)
    places = jnp.where(ended, pool.numbers, nowhere)
    rows = jax.vmap(lambda state: end_of(spec, state))(lanes)
    ends = jax.tree.map(lambda table, row: table.at[places].set(row, mode="drop"), pool.ends, rows)
    costs = jnp.where(ended, jax.vmap(functools.partial(rank, spec))(lanes), jnp.inf)
    winner = jnp.where(jnp.any(costs < jnp.inf), jnp.argmin(costs), jnp.argmax(ended))
    held = jnp.where(pool.found, rank(spec, pool.best), jnp.inf)
    better = jnp.any(ended) & ((costs[winner] < held) | ~pool.found)
    best = select(better, jax.tree.map(lambda leaf: leaf[winner], lanes), pool.best)
    numbers = jnp.where(ended, nowhere, pool.numbers)
    return pool._replace(ends=ends, best=best, numbers=numbers, found=pool.found | jnp.any(ended))


def _refilled(spec: ManySpec, pool: Pool) -> Pool:
    """Return the pool with the next runs in its empty lanes. Its code is that of its end if none is left."""
    empty = pool.numbers == spec.size
    numbers = pool.following + jnp.cumsum(empty.astype(jnp.int32), dtype=jnp.int32) - 1
    refill = empty & (numbers < spec.count)
    rows = jax.vmap(spec.row)(jnp.minimum(numbers, spec.size - 1))
    fresh = jax.vmap(lambda row: begun(spec, row))(rows)
    lanes = _choose(refill, fresh, pool.lanes)
    return pool._replace(
        lanes=lanes,
        rows=_choose(refill, rows, pool.rows),
        numbers=jnp.where(refill, numbers, pool.numbers),
        following=pool.following + jnp.sum(refill, dtype=jnp.int32),
        code=jnp.where(jnp.any(lanes.code == RUNNING), RUNNING, Status.CONVERGED.code).astype(jnp.int32),
    )


def _choose(condition: jax.Array, chosen: Any, other: Any) -> Any:
    """`select` lane by lane."""
    return jax.vmap(select)(condition, chosen, other)


def finish(spec: ManySpec, pool: Pool, code: jax.Array) -> Pool:
    """Return the pool after its runs were broken off with a code: what was reached is written down."""
    started = (pool.lanes.code == RUNNING) & (pool.lanes.epoch > 0)
    pool = recorded(spec, pool._replace(lanes=pool.lanes._replace(code=jnp.where(started, code, pool.lanes.code))))
    codes = jnp.where(pool.ends.code == RUNNING, code, pool.ends.code)
    return pool._replace(ends=pool.ends._replace(code=codes))
