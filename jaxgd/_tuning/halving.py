"""Successive halving: candidates for a learning rate run side by side, in groups of a few lanes, before the run itself.

All groups are turns of one loop, so that the cost is compiled once for them. The groups of the first round try every candidate for
a short time; each round after it gives fewer of them, the best of either kind, more of it: the cost after few updates tells which
rates are far off, and only that after a good part of the run whether steps should be relative. A group of one lane is what remains
for parameters of which several copies would not fit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._compile.program import program_for
from jaxgd._objective.extras import rebound
from jaxgd._run.advance import advance, evaluated_point
from jaxgd._run.objective import call
from jaxgd._run.state import RunSpec, RunState, begin, start_epoch
from jaxgd._trees import all_finite, is_traced, pytree, static, with_fields
from jaxgd.data.source import Batches
from jaxgd.methods._proximal import updated
from jaxgd.methods.automatic import LONG, Candidates, FieldPath, TuningTarget, candidates
from jaxgd.methods.protocol import Method, Point, Problem, Step
from jaxgd.result import RUNNING, Status

_ROWS = 256, 512, 1024  # rows on which candidates are compared
_SEEN = 64  # times as many at least does the run see; few rows choose badly, many cost too much
_WIDTH = 2  # lanes in a group
_NUMBERS = 50_000_000  # of all lanes' parameters
_LEFT = (6, 2), (2,)  # candidates in the rounds after the first, where they are of one kind, and of two
_SHARES = (1 / 180, 1 / 50, 1 / 16), (1 / 70, 1 / 10)  # of a long run, for a candidate in each round
_SHORT = 1 / 20, 1 / 4  # of a run that is not long, where they are of two kinds
_LONGEST = 100_000  # updates, above which a search gets no longer
_MOST = 0.9  # of a run that is not long, for the search altogether, where they are of one kind


class Tried(NamedTuple):
    """The candidates of a search for a learning rate and their costs.

    Attributes:
        learning_rate: the candidates, (n,): the largest rate of each; the fastest of either kind first.
        relative: which of them took steps relative to the parameters, (n,).
        n_steps: the updates that a candidate got in each round, (rounds,).
        cost: the costs reached in each round, (rounds, n), on some rows; infinite for what was not finite or did not take part.
        n_evaluations: evaluations of the cost with its gradient, all together.
    """

    learning_rate: Any
    relative: Any
    n_steps: Any
    cost: Any
    n_evaluations: Any


@pytree
class Shortened(Method):
    """A rule whose schedule, meant for `total` updates, passes within `n_steps`."""

    rule: Any
    total: Any
    n_steps: Any

    def init(self, params: Any) -> Any:
        return jnp.zeros((), jnp.int32), self.rule.init(params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        count, memory = state
        time = (count.astype(self.total.dtype) * (self.total / self.n_steps.astype(self.total.dtype))).astype(jnp.int32)
        update, memory = updated(self.rule.resolved(time), point, memory, problem)
        return Step(update, (count + 1, memory))


@pytree
class Halving:
    """The specification of a search.

    Attributes:
        spec: what the runs of the candidates are told; the method is the rule whose numbers are sought.
        candidates: what is tried.
        place: where in the rule the numbers are.
        n_steps: the updates of a candidate in each round.
        total: the updates of the run.
        counts: the candidates in each round.
        width: the lanes of a group.
        n_rows: the rows on which candidates are compared.
    """

    spec: RunSpec
    candidates: Candidates
    place: FieldPath
    n_steps: Any
    total: Any
    counts: tuple[int, ...] = static()
    width: int = static()
    n_rows: int = static()

    @property
    def rows(self) -> np.ndarray:
        """The rows on which candidates are compared: one from each of as many equal parts, at a place that follows no period."""
        n_rows = self.spec.source.n_rows  # type: ignore[attr-defined]
        count = min(n_rows, self.n_rows)
        return np.array([(part * n_rows + (part * 2654435761 % 2**32 * n_rows >> 32)) // count for part in range(count)])

    @property
    def compared(self) -> Any:
        """The data in those rows."""
        source = self.spec.source
        return source.layout.pick(source.data, self.rows)

    @property
    def groups(self) -> list[int]:
        """The number of groups in each round."""
        return [-(-count // self.width) for count in self.counts]

    def lane(self, candidate: Candidates, n_steps: Any) -> RunSpec:
        """Return what the run of a candidate that gets `n_steps` updates is told."""
        return with_fields(self.spec, method=Shortened(self.place.put(self.spec.method, candidate), self.total, n_steps))

    def chosen(self, numbers: Any) -> Candidates:
        """Return some candidates, or one of them, by their numbers."""
        return Candidates(*(jnp.asarray(column)[numbers] for column in self.candidates))

    @property
    def each(self) -> Any:
        """The function that maps another over the lanes of a group; one lane alone need not be mapped."""
        return _over_one_lane if self.width == 1 else jax.vmap


def halving(found: TuningTarget, spec: RunSpec, rule: Any, total: int) -> Halving:
    """Return the search before a run of `total` updates of a rule in which some numbers are sought."""
    tried, source = candidates(found, total), spec.source
    assert isinstance(source, Batches)
    count, size = len(tried.learning_rate), sum(leaf.size for leaf in jax.tree.leaves(spec.start))
    dtype, factor = jax.tree.leaves(rule)[0].dtype, found.place.factor
    kinds = 2 if found.place.relative else 1
    counts = (count, *(min(count, left) for left in _LEFT[kinds - 1]))
    changes = {"source": with_fields(source, block_bytes=1), "validation": (), "average_from": None, "decay": None}
    return Halving(
        spec=with_fields(spec, method=rule, rules=(), names=(), **changes),
        candidates=Candidates(*(column.astype(dtype) for column in tried)),
        place=with_fields(found.place, factor=factor.astype(dtype) if is_traced(factor) else np.asarray(factor, dtype)),
        n_steps=np.array(_lengths(min(total, _LONGEST), counts, kinds), np.int32),
        total=np.asarray(total, dtype),
        counts=counts,
        width=max(1, min(_WIDTH, count, _NUMBERS // max(size, 1))),
        n_rows=max(rows for rows in _ROWS if rows == _ROWS[0] or _SEEN * rows <= total * source.batch_size),
    )


def _lengths(total: int, counts: tuple[int, ...], kinds: int) -> tuple[int, ...]:
    """Return how many updates a candidate gets in each round; one alone gets none."""
    if counts[0] == 1:
        return (0,) * len(counts)
    shares = _SHARES[kinds - 1]
    if total < LONG:
        together = sum(n * share for n, share in zip(counts, shares, strict=True))
        shares = _SHORT if kinds == 2 else [share * min(_MOST / together, LONG / total) for share in shares]
    return tuple(max(1, int(share * total)) for share in shares)


def start(search: Halving) -> tuple[Any, Any]:
    """Return the number of the next group, and the costs reached in each round."""
    return np.int32(0), np.full((len(search.groups), search.counts[0]), np.inf, search.total.dtype)


def run_groups(search: Halving, evaluate: Any, value: Any, carry: Any, until: Any) -> tuple[Any, Any]:
    """Run the groups before `until`, all in one loop.

    `evaluate` is the cost with its gradient for a batch, `value` the cost alone for the rows that are compared.
    """
    compared = search.compared

    def group(carry: Any) -> Any:
        numbers, now = _members(search, carry)
        states, finite = _lanes(search, evaluate, search.chosen(numbers), jnp.asarray(search.n_steps)[now])
        costs = search.each(lambda state: rebound(value, search.spec.measured(state))(state.trial, compared))(states)
        return _scored(carry, now, numbers, costs, states.trial, finite)

    return lax.while_loop(lambda carry: carry[0] < until, group, carry)


def run_group_stepwise(search: Halving, evaluate: Any, value: Any, carry: Any) -> tuple[Any, Any]:
    """Run the next group, lane by lane, for a cost that runs as Python."""
    numbers, now = _members(search, carry)
    n_steps = jnp.asarray(search.n_steps)[now]
    compared, ends = search.compared, []
    for number in numbers:
        spec = search.lane(search.chosen(number), n_steps)
        state, finite = begin(spec), jnp.asarray(True)
        for k in map(np.int32, range(int(n_steps))):
            rows = program_for(_batch, search, k)(search, k)
            evaluation = call(evaluate, state.trial, *program_for(_given, spec, state, k)(spec, state, k), *rows)
            point = evaluated_point(spec, state.trial, evaluation)
            state, finite = program_for(_advanced, spec, state, finite, point)(spec, state, finite, point)
        ends.append((state.trial, call(rebound(value, spec.measured(state)), state.trial, compared), finite))
    params, costs, finite = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ends)
    return _scored(carry, now, numbers, costs, params, finite)


def _members(search: Halving, carry: Any) -> tuple[jax.Array, jax.Array]:
    """Return the numbers of the candidates of the next group, and the number of its round."""
    number, costs = carry
    firsts = np.cumsum([0, *search.groups], dtype=np.int32)  # the first group of each round, and the end
    now = jnp.sum(number >= firsts[1:-1], dtype=jnp.int32)
    queue = _queue(jnp.asarray(costs), now, search.candidates.relative)
    place = (number - jnp.asarray(firsts)[now]) * search.width + np.arange(search.width, dtype=np.int32)
    return queue[jnp.minimum(place, jnp.asarray(np.array(search.counts, np.int32))[now] - 1)], now


def _scored(carry: Any, now: Any, numbers: Any, costs: Any, params: Any, finite: Any) -> tuple[Any, Any]:
    """Return the costs reached with those of a group."""
    number, reached = carry
    costs = costs.astype(reached.dtype)
    sound = jax.vmap(all_finite)(costs, params) & finite
    return number + 1, jnp.asarray(reached).at[now, numbers].set(jnp.where(sound, costs, jnp.inf))


def _lanes(search: Halving, evaluate: Any, lanes: Candidates, n_steps: jax.Array) -> tuple[RunState, jax.Array]:
    """Return the states in which candidates arrive in `n_steps` updates, and whether all evaluations were finite."""

    def step(carry: Any) -> Any:
        k, states = carry
        rows = _batch(search, k)

        def one(candidate: Candidates, carried: tuple[RunState, Any]) -> Any:
            (state, finite), spec = carried, search.lane(candidate, n_steps)
            evaluation = evaluate(state.trial, *_given(spec, state, k), *rows)
            return _advanced(spec, state, finite, evaluated_point(spec, state.trial, evaluation))

        return k + 1, search.each(one)(lanes, states)

    def fresh(candidate: Candidates) -> tuple[RunState, jax.Array]:
        return begin(search.lane(candidate, n_steps)), jnp.asarray(True)

    states = jax.vmap(fresh)(lanes)
    _, (state, finite) = lax.while_loop(lambda carry: carry[0] < n_steps, step, (jnp.zeros((), jnp.int32), states))
    return state, finite


def _given(spec: RunSpec, state: RunState, k: Any) -> tuple[Any, ...]:
    """Return the extras of the cost in update k; a lane does not count its steps."""
    return () if spec.extras is None else spec.extras.given(state.cost_state, k)


def _batch(search: Halving, k: jax.Array) -> tuple[Any, ...]:
    """Return the rows of the batch of update k: a full one."""
    source = search.spec.source
    return source.batch(k // source.full, k % source.full)


def _advanced(spec: RunSpec, state: RunState, finite: jax.Array, point: Point) -> tuple[RunState, jax.Array]:
    """Return the state of a lane after an evaluation, and whether all so far were finite."""
    after = advance(spec, start_epoch(spec, state), point, Problem())
    epoch: Any = after.under_way
    return after._replace(under_way=None, batch=state.batch), finite if spec.skips else finite & epoch.finite


def verdict(search: Halving, costs: Any) -> tuple[Candidates, Tried, Any]:
    """Return the best candidate of the last round in which anything was finite, what all achieved, and a status.

    The run begins with that status: DIVERGED if candidates ran and nothing was finite, else RUNNING.
    """
    xp: Any = jnp if is_traced(costs) else np
    costs = xp.asarray(costs)
    finite = xp.any(costs < xp.inf, axis=1)
    last = xp.max(xp.where(finite, np.arange(len(search.groups), dtype=np.int32), 0))
    best = xp.argmin(costs[last])
    rates, relative = map(xp.asarray, search.candidates)
    tried = Tried(rates, relative > 0, search.n_steps, costs, search.width * int(np.dot(search.groups, search.n_steps)))
    code = np.int32(RUNNING)
    if np.any(search.n_steps):
        code = xp.where(xp.any(finite), code, np.int32(Status.DIVERGED.code))
    return Candidates(rates[best], relative[best]), tried, code


def _queue(costs: jax.Array, now: jax.Array, relative: Any) -> jax.Array:
    """Return the candidates in the order in which a round takes them, the two kinds in turn.

    The last round takes the best of the one before. A second of three takes the best of the first and its neighbours, the faster
    before the slower, since what is too fast for a few updates may be right for many.
    """
    rows = jnp.arange(costs.shape[1], dtype=jnp.int32)
    kinds = jnp.asarray(relative) > 0

    def leader(mine: jax.Array) -> jax.Array:
        return jnp.argmin(jnp.where(mine, costs[0], jnp.inf)).astype(jnp.int32)

    before = costs[-2]
    if costs.shape[0] > 2:
        ahead = rows - jnp.where(kinds, leader(kinds), leader(~kinds))
        distance = jnp.where(ahead < 0, -2 * ahead - 1, 2 * ahead).astype(costs.dtype)
        before = jnp.where(now == 1, jnp.where(costs[0] < jnp.inf, distance, jnp.inf), before)
    order = jnp.argsort(jnp.where(now == 0, rows.astype(costs.dtype), before))
    mine = kinds[order]
    place = jnp.where(mine, jnp.cumsum(mine, dtype=jnp.int32), jnp.cumsum(~mine, dtype=jnp.int32))  # among its own kind
    return order[jnp.argsort(place)].astype(jnp.int32)


def _over_one_lane(function: Any) -> Any:
    """Do what `jax.vmap` does over one lane, for a function that can't be mapped."""

    def mapped(*arguments: Any) -> Any:
        result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], result)

    return mapped
