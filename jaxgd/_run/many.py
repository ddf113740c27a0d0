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

from jaxgd._compile.program import program_for
from jaxgd._run import fused
from jaxgd._run.driver import Loop, Run
from jaxgd._run.objective import Objective
from jaxgd._run.options import RunOptions
from jaxgd._run.progress import Progress
from jaxgd._run.report import progress
from jaxgd._run.state import RunSpec, RunState, begin
from jaxgd._trees import pytree, select, static, with_fields
from jaxgd.data.source import AllRows, Source
from jaxgd.result import RUNNING, Best, Status

STARTS = 8  # lanes, of runs that look at the same data
FITS, FITS_ON_DEVICES = 64, 2048  # lanes of others: few on a CPU, where stragglers then cost little, and many on a GPU or TPU
_NUMBERS = 2**22  # of data on a device, that all lanes may look at together
_REFILLED = 8  # one in so many lanes has to have ended before some are filled again


class Each(NamedTuple):
    """The arguments that differ from run to run, a row for each run; None for what all of them share.

    Attributes:
        params: the free parameters at the start.
        data: the data.
        box: the bounds.
        frozen: the values of what is fixed.
        method: the method.
        penalty: the penalty.
    """

    params: Any
    data: Any = None
    box: Any = None
    frozen: Any = None
    method: Any = None
    penalty: Any = None

    def placed(self, spec: RunSpec, objective: Objective) -> tuple[RunSpec, Objective]:
        """Return the spec and the objective of the run whose arguments are in this row."""
        fields: dict[str, Any] = {"empty": spec.empty._replace(params=self.params)}
        if self.data is not None:
            fields["source"] = AllRows((self.data, *spec.source.data[1:]))  # type: ignore[attr-defined]
        fields |= {
            name: value
            for name, value in (("bounds", self.box), ("method", self.method), ("penalty", self.penalty))
            if value is not None
        }
        if self.frozen is not None:
            objective = objective.frozen_at(self.frozen)
        if self.penalty is not None:
            objective = objective._replace(evaluate=objective.evaluate and with_fields(objective.evaluate, penalty=self.penalty))
        return with_fields(spec, **fields), objective


@pytree
class ManySpec:
    """The spec of many runs.

    Attributes:
        run: the spec of one of them.
        each: the arguments that differ, with a row for each run and perhaps more.
        count: the number of runs.
        width: how many go side by side.
        keeps_ends: whether all that a result tells of a run is written down, and not only what `Starts` do.
    """

    run: RunSpec
    each: Each
    count: Any
    width: int = static()
    keeps_ends: bool = static(default=False)

    n_epochs = 2**31 - 2  # ticks, at most

    @property
    def start(self) -> Any:
        """The starts of all runs."""
        return self.each.params

    @property
    def source(self) -> Source:
        """The source of the rows of all runs."""
        return self.run.source

    @property
    def capacity(self) -> int:
        """No history is kept."""
        return 0

    @property
    def size(self) -> int:
        """The number of rows; as the number of a run it stands for none."""
        return jax.tree.leaves(self.each.params)[0].shape[0]

    def n_rows(self, state: Any) -> Any:
        """Return the length of the history, which there is none of."""
        return state.ticks

    def row(self, number: Any) -> Each:
        """Return the arguments of a run."""
        return jax.tree.map(lambda leaf: leaf[number], self.each)


class Ends(NamedTuple):
    """The ends of the runs, a row for each; the code is that of RUNNING where one has not ended."""

    params: Any
    cost: Any
    code: Any
    evaluations: Any
    details: "Details | None" = None


class Details(NamedTuple):
    """The further numbers of an end that a result tells."""

    gradient: Any
    aux: Any
    best: Best
    steps: Any
    start_cost: Any
    gain: Any
    prices: Any = None


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


def width(most: int, numbers: int) -> int:
    """Return how many runs go side by side: few, and fewer of those each of which looks at many numbers."""
    return max(1, min(most, _NUMBERS // max(numbers, 1)))


def run(spec: ManySpec, objective: Objective) -> Pool:
    """Run all, and return the pool at the end; after an interrupt what was reached is written down."""

    def view(pool: Pool) -> Progress:
        return progress(spec.run, pool.best)

    pool, _ = Run(LANES, spec, objective, RunOptions(), view=view, row=None, unit="run", total=spec.size)(spec)
    return program_for(finish, spec, pool, pool.code)(spec, pool, pool.code)


def begin_all(spec: ManySpec) -> Pool:
    """Return the state before the first evaluation."""
    zero = jnp.zeros((), jnp.int32)
    numbers = jnp.arange(spec.width, dtype=jnp.int32)
    rows = jax.vmap(spec.row)(jnp.minimum(numbers, spec.size - 1))
    lanes = jax.vmap(lambda row: _begun(spec, row))(rows)
    first = jax.tree.map(lambda leaf: leaf[0], lanes)
    like = jax.eval_shape(lambda state: _end(spec, state), first)
    ends = jax.tree.map(lambda leaf: jnp.zeros((spec.size, *leaf.shape), leaf.dtype), like)
    return Pool(
        lanes=lanes._replace(code=jnp.where(numbers < spec.count, lanes.code, Status.INTERRUPTED.code)),
        rows=rows,
        numbers=jnp.where(numbers < spec.count, numbers, spec.size),
        following=jnp.asarray(spec.width, jnp.int32),
        ends=ends._replace(params=spec.each.params, cost=jnp.full_like(ends.cost, jnp.inf), code=jnp.full_like(ends.code, RUNNING)),
        best=first,
        found=jnp.asarray(False),
        ticks=zero,
        code=jnp.asarray(RUNNING, jnp.int32),
    )


def _begun(spec: ManySpec, row: Each) -> RunState:
    """Return the state of a run before its first evaluation."""
    return begin(row.placed(spec.run, Objective(None))[0])  # type: ignore[arg-type]


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
    rows = jax.vmap(lambda state: _end(spec, state))(lanes)
    ends = jax.tree.map(lambda table, row: table.at[places].set(row, mode="drop"), pool.ends, rows)
    costs = jnp.where(ended, jax.vmap(functools.partial(_rank, spec))(lanes), jnp.inf)
    winner = jnp.where(jnp.any(costs < jnp.inf), jnp.argmin(costs), jnp.argmax(ended))
    held = jnp.where(pool.found, _rank(spec, pool.best), jnp.inf)
    better = jnp.any(ended) & ((costs[winner] < held) | ~pool.found)
    best = select(better, jax.tree.map(lambda leaf: leaf[winner], lanes), pool.best)
    numbers = jnp.where(ended, nowhere, pool.numbers)
    return pool._replace(ends=ends, best=best, numbers=numbers, found=pool.found | jnp.any(ended))


def _rank(spec: ManySpec, state: RunState) -> jax.Array:
    """Return the cost by which a run is compared with others: infinite where it came to nothing, or misses its constraints."""
    cost, method = state.current.cost, spec.run.method
    fine = jnp.isfinite(cost)
    if spec.run.is_constrained:
        fine = fine & method.is_feasible(state.current.params, state.method)  # type: ignore[attr-defined]
    return jnp.where(fine, cost, jnp.inf)


def _end(spec: ManySpec, state: RunState) -> Ends:
    """Return what is written down of the end of a run."""
    current, details = state.current, None
    if spec.keeps_ends:
        gain = spec.run.method.gain(current.params, state.method) if spec.run.method.knows_gain else None
        found = state.best.cost < jnp.inf
        best = select(found, state.best, Best(current.params, current.cost))
        method: Any = spec.run.method
        prices = method.multipliers(current.params, state.method) if spec.run.is_constrained else None
        details = Details(current.gradient, current.aux, best, state.steps, state.start_cost, gain, prices)
    return Ends(current.params, current.cost, state.code, state.epoch, details)


def _refilled(spec: ManySpec, pool: Pool) -> Pool:
    """Return the pool with the next runs in its empty lanes. Its code is that of its end if none is left."""
    empty = pool.numbers == spec.size
    numbers = pool.following + jnp.cumsum(empty.astype(jnp.int32), dtype=jnp.int32) - 1
    refill = empty & (numbers < spec.count)
    rows = jax.vmap(spec.row)(jnp.minimum(numbers, spec.size - 1))
    fresh = jax.vmap(lambda row: _begun(spec, row))(rows)
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
