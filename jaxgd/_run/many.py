"""Many starts: runs of `minimize` side by side in a few lanes, each of which begins the next run when its own has ended.

The lanes are one program whose tick evaluates the cost once for each of them. Because no lane waits for another, a few slow runs do
not hold the others up, and because there are few lanes, little is wasted on those that wait for the last runs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._run import fused
from jaxgd._run.driver import Loop
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec, RunState, begin
from jaxgd._shards import size_on_device
from jaxgd._trees import pytree, select, static, with_fields
from jaxgd.data.source import Source
from jaxgd.result import RUNNING, Status

_LANES = 8
_NUMBERS = 2**22  # of data on a device, that all lanes may look at together


@pytree
class ManySpec:
    """The spec of all runs, their starts, and how many of them run side by side."""

    run: RunSpec
    starts: Any
    width: int = static()

    n_epochs = 2**31 - 2  # ticks, at most

    @property
    def start(self) -> Any:
        """The starts of all runs."""
        return self.starts

    @property
    def source(self) -> Source:
        """The source of the rows of all runs."""
        return self.run.source

    @property
    def capacity(self) -> int:
        """No history is kept."""
        return 0

    @property
    def count(self) -> int:
        """The number of starts."""
        return jax.tree.leaves(self.starts)[0].shape[0]

    def n_rows(self, state: Any) -> Any:
        """Return the length of the history, which there is none of."""
        return state.ticks


class Ends(NamedTuple):
    """The ends of the runs, a row for each start; the code is that of RUNNING where one has not."""

    params: Any
    cost: Any
    code: Any
    evaluations: Any


class Pool(NamedTuple):
    """The state of many runs.

    `lanes` are the states of those under way, a row each, and `numbers` whose they are; `following` is the number of the next
    start. `best` is the last state of the best run that has ended, and `found` says that there is one.
    """

    lanes: RunState
    numbers: Any
    following: Any
    ends: Ends
    best: RunState
    found: Any
    ticks: Any
    code: Any


def width(n_starts: int, data: Any) -> int:
    """Return how many runs go side by side: few, and fewer of those that look at much."""
    size = sum(map(size_on_device, jax.tree.leaves(data)))
    return max(1, min(n_starts, _LANES, _NUMBERS // max(size, 1)))


def begin_all(spec: ManySpec) -> Pool:
    """Return the state before the first evaluation."""
    zero = jnp.zeros((), jnp.int32)
    numbers = jnp.arange(spec.width, dtype=jnp.int32)
    count = spec.count
    ends = Ends(
        spec.starts,
        jnp.full((count,), jnp.inf, spec.run.empty.cost.dtype),
        jnp.full((count,), RUNNING, jnp.int32),
        jnp.zeros((count,), jnp.int32),
    )
    best = _fresh(spec, zero)
    return Pool(
        lanes=jax.vmap(lambda number: _fresh(spec, number))(numbers),
        numbers=numbers,
        following=jnp.asarray(spec.width, jnp.int32),
        ends=ends,
        best=best,
        found=jnp.asarray(False),
        ticks=zero,
        code=jnp.asarray(RUNNING, jnp.int32),
    )


def _fresh(spec: ManySpec, number: jax.Array) -> RunState:
    """Return the state of the run from one start, before its first evaluation."""
    start = jax.tree.map(lambda leaf: leaf[number], spec.starts)
    return begin(with_fields(spec.run, empty=spec.run.empty._replace(params=start)))


def continue_all(spec: ManySpec, objective: Objective, pool: Pool, until: Any) -> tuple[Pool, Any]:
    """Run until all runs have ended or `until` ticks are done; nothing is recorded."""

    def running(pool: Pool) -> jax.Array:
        return (pool.code == RUNNING) & (pool.ticks < until)

    def until_one_ends(pool: Pool) -> Pool:
        busy = pool.lanes.code == RUNNING

        def going(carry: Any) -> jax.Array:
            lanes, ticks = carry
            return jnp.all((lanes.code == RUNNING) == busy) & (ticks < until)

        def tick(carry: Any) -> Any:
            lanes, ticks = carry
            ticked = jax.vmap(lambda state: fused.run_epoch(spec.run, objective, state))(lanes)
            return _choose(busy, ticked, lanes), ticks + 1

        lanes, ticks = lax.while_loop(going, tick, (pool.lanes, pool.ticks))
        ended = busy & (lanes.code != RUNNING)
        return _refilled(spec, recorded(pool._replace(lanes=lanes, ticks=ticks), ended), ended)

    return lax.while_loop(running, until_one_ends, pool), {}


def run_all(spec: ManySpec, objective: Objective, pool: Pool, until: Any) -> tuple[Pool, Any]:
    """Do what `continue_all` does; a pool that has run no tick is initialised first."""
    return continue_all(spec, objective, select(pool.ticks == 0, begin_all(spec), pool), until)


LANES = Loop(begin_all, run_all, continue_all)


def recorded(pool: Pool, ended: jax.Array) -> Pool:
    """Return the pool with the ends of some of its lanes written down, and the best of them kept."""
    lanes, nowhere = pool.lanes, pool.ends.code.shape[0]
    places = jnp.where(ended, pool.numbers, nowhere)
    rows = Ends(lanes.current.params, lanes.current.cost, lanes.code, lanes.epoch)
    ends = jax.tree.map(lambda table, row: table.at[places].set(row, mode="drop"), pool.ends, rows)
    costs = jnp.where(ended & jnp.isfinite(lanes.current.cost), lanes.current.cost, jnp.inf)
    winner = jnp.where(jnp.any(costs < jnp.inf), jnp.argmin(costs), jnp.argmax(ended))
    held = jnp.where(pool.found & jnp.isfinite(pool.best.current.cost), pool.best.current.cost, jnp.inf)
    better = jnp.any(ended) & ((costs[winner] < held) | ~pool.found)
    best = select(better, jax.tree.map(lambda leaf: leaf[winner], lanes), pool.best)
    return pool._replace(ends=ends, best=best, found=pool.found | jnp.any(ended))


def _refilled(spec: ManySpec, pool: Pool, ended: jax.Array) -> Pool:
    """Return the pool with the next starts in the lanes whose runs have just ended. Its code is that of its end if none is left."""
    numbers = pool.following + jnp.cumsum(ended.astype(jnp.int32), dtype=jnp.int32) - 1
    refill = ended & (numbers < spec.count)
    fresh = jax.vmap(lambda number: _fresh(spec, number))(jnp.minimum(numbers, spec.count - 1))
    lanes = _choose(refill, fresh, pool.lanes)
    return pool._replace(
        lanes=lanes,
        numbers=jnp.where(refill, numbers, pool.numbers),
        following=pool.following + jnp.sum(refill, dtype=jnp.int32),
        code=jnp.where(jnp.any(lanes.code == RUNNING), RUNNING, Status.CONVERGED.code).astype(jnp.int32),
    )


def _choose(condition: jax.Array, chosen: Any, other: Any) -> Any:
    """`select` lane by lane."""
    return jax.vmap(select)(condition, chosen, other)


def finish(pool: Pool, code: jax.Array) -> Pool:
    """Return the pool after its runs were broken off with a code: what was reached is written down."""
    under_way = pool.lanes.code == RUNNING
    lanes = pool.lanes._replace(code=jnp.where(under_way, code, pool.lanes.code))
    started = under_way & (lanes.epoch > 0)
    return recorded(pool._replace(lanes=lanes), started)
