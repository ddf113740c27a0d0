"""Many starts: runs of `minimize` side by side in a few lanes, each of which begins the next run when its own has ended.

The lanes are one program whose tick evaluates the cost once for each of them. Because no lane waits for another, a few slow runs do
not hold the others up, and because there are few lanes, little is wasted on those that wait for the last runs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd import _steps
from jaxgd._loops import Loop, Lowering, traced
from jaxgd._trees import pytree, select, static, with_fields
from jaxgd.result import RUNNING, Status

_LANES = 8
_NUMBERS = 2**22  # of data, that all lanes may look at together


@pytree
class Plan:
    """What all runs are told, their starts, and how many of them run side by side."""

    run: _steps.Plan
    starts: Any
    width: int = static()
    capacity: int = static(default=0)

    @property
    def data(self) -> Any:
        """All rows."""
        return self.run.data

    @property
    def count(self) -> int:
        """The number of starts."""
        return jax.tree.leaves(self.starts)[0].shape[0]


class Ends(NamedTuple):
    """Where the runs ended, a row for each start; the code is that of RUNNING where one has not."""

    params: Any
    cost: Any
    code: Any
    evaluations: Any


class Pool(NamedTuple):
    """The state of many runs.

    `lanes` are the states of those under way, a row each, and `numbers` whose they are; `following` is the number of the next
    start. `best` is the last state of the best run that has ended, and `found` says that there is one.
    """

    lanes: _steps.State
    numbers: Any
    following: Any
    ends: Ends
    best: _steps.State
    found: Any
    ticks: Any
    code: Any

    @property
    def rows(self) -> Any:
        """No history is kept."""
        return self.ticks


def width(n_starts: int, data: Any) -> int:
    """How many runs go side by side: few, and fewer of those that look at much."""
    size = sum(leaf.size for leaf in jax.tree.leaves(data))
    return max(1, min(n_starts, _LANES, _NUMBERS // max(size, 1)))


def begin(plan: Plan) -> Pool:
    """The state before the first evaluation."""
    zero = jnp.zeros((), jnp.int32)
    numbers = jnp.arange(plan.width, dtype=jnp.int32)
    count = plan.count
    ends = Ends(
        plan.starts,
        jnp.full((count,), jnp.inf, plan.run.empty.cost.dtype),
        jnp.full((count,), RUNNING, jnp.int32),
        jnp.zeros((count,), jnp.int32),
    )
    best = _fresh(plan, zero)
    return Pool(
        lanes=jax.vmap(lambda number: _fresh(plan, number))(numbers),
        numbers=numbers,
        following=jnp.asarray(plan.width, jnp.int32),
        ends=ends,
        best=best,
        found=jnp.asarray(False),
        ticks=zero,
        code=jnp.asarray(RUNNING, jnp.int32),
    )


def _fresh(plan: Plan, number: jax.Array) -> _steps.State:
    """The state of the run from one start, before its first evaluation."""
    start = jax.tree.map(lambda leaf: leaf[number], plan.starts)
    return _steps.begin(with_fields(plan.run, empty=plan.run.empty._replace(params=start)))


def segment(plan: Plan, functions: _steps.Functions, pool: Pool, until: Any, lower: Lowering = traced) -> tuple[Pool, Any]:
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
            ticked = jax.vmap(lambda state: _steps.tick(plan.run, functions, state))(lanes)
            return _choose(busy, ticked, lanes), ticks + 1

        lanes, ticks = lower.while_loop(going, tick, (pool.lanes, pool.ticks))
        ended = busy & (lanes.code != RUNNING)
        return _refilled(plan, recorded(pool._replace(lanes=lanes, ticks=ticks), ended), ended)

    return lower.while_loop(running, until_one_ends, pool), {}


loop = Loop(begin, segment)


def recorded(pool: Pool, ended: jax.Array) -> Pool:
    """The pool with the ends of some of its lanes written down, and the best of them kept."""
    lanes, nowhere = pool.lanes, pool.ends.code.shape[0]
    places = jnp.where(ended, pool.numbers, nowhere)
    rows = Ends(lanes.current.params, lanes.current.cost, lanes.code, lanes.evaluations)
    ends = jax.tree.map(lambda table, row: table.at[places].set(row, mode="drop"), pool.ends, rows)
    costs = jnp.where(ended & jnp.isfinite(lanes.current.cost), lanes.current.cost, jnp.inf)
    winner = jnp.where(jnp.any(costs < jnp.inf), jnp.argmin(costs), jnp.argmax(ended))
    held = jnp.where(pool.found & jnp.isfinite(pool.best.current.cost), pool.best.current.cost, jnp.inf)
    better = jnp.any(ended) & ((costs[winner] < held) | ~pool.found)
    best = select(better, jax.tree.map(lambda leaf: leaf[winner], lanes), pool.best)
    return pool._replace(ends=ends, best=best, found=pool.found | jnp.any(ended))


def _refilled(plan: Plan, pool: Pool, ended: jax.Array) -> Pool:
    """The pool with the next starts in the lanes whose runs have just ended, and the code of its own end if none is left."""
    numbers = pool.following + jnp.cumsum(ended.astype(jnp.int32), dtype=jnp.int32) - 1
    refill = ended & (numbers < plan.count)
    fresh = jax.vmap(lambda number: _fresh(plan, number))(jnp.minimum(numbers, plan.count - 1))
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
    """The pool after its runs were broken off with a code: what was reached is written down."""
    under_way = pool.lanes.code == RUNNING
    lanes = pool.lanes._replace(code=jnp.where(under_way, code, pool.lanes.code))
    started = under_way & (lanes.evaluations > 0)
    return recorded(pool._replace(lanes=lanes), started)
