"""The race for a learning rate: candidates run side by side, in heats of a few lanes, before the run itself.

All heats are turns of one loop, so that the cost is compiled once for them. The heats of the first round try every candidate for a
short time; each round after it gives fewer of them, the best of either kind, more of it: the cost after few updates tells which
rates are far off, and only that after a good part of the run whether steps should be relative. A heat of one lane is what remains
for parameters of which several copies would not fit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._batches import Batches
from jaxgd._bounds import Bounds, moved
from jaxgd._loops import Lowering, eager, traced
from jaxgd._trees import all_finite, is_traced, pytree, static, with_fields
from jaxgd.methods.automatic import LONG, Candidates, Place, Sought, candidates
from jaxgd.result import RUNNING, Status

_ROWS = 256, 512, 1024  # rows on which candidates are compared
_SEEN = 64  # times as many at least does the run see; few rows choose badly, many cost too much
_WIDTH = 2  # lanes in a heat
_NUMBERS = 50_000_000  # of all lanes' parameters
_LEFT = (6, 2), (2,)  # candidates in the rounds after the first, where they are of one kind, and of two
_SHARES = (1 / 180, 1 / 50, 1 / 16), (1 / 70, 1 / 10)  # of a long run, for a candidate in each round
_SHORT = 1 / 20, 1 / 4  # of a run that is not long, where they are of two kinds
_LONGEST = 100_000  # updates, above which a race gets no longer
_MOST = 0.9  # of a run that is not long, for the race altogether, where they are of one kind


class Tried(NamedTuple):
    """What a search for a learning rate tried.

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
class Plan:
    """What a race is told; `n_steps` are the updates of a candidate in each round, `total` those of the run."""

    rule: Any
    candidates: Candidates
    batches: Batches
    bounds: Bounds | None
    n_steps: Any
    total: Any
    place: Place
    counts: tuple[int, ...] = static()
    width: int = static()
    judges: int = static()

    @property
    def rows(self) -> np.ndarray:
        """The rows on which candidates are compared: one from each of as many equal parts, at a place that follows no period."""
        n_rows = self.batches.n_rows
        count = min(n_rows, self.judges)
        return np.array([(part * n_rows + (part * 2654435761 % 2**32 * n_rows >> 32)) // count for part in range(count)])

    @property
    def heats(self) -> list[int]:
        """The number of heats in each round."""
        return [-(-count // self.width) for count in self.counts]


def plan(found: Sought, rule: Any, batches: Batches, bounds: Bounds | None, params: Any, total: int) -> Plan:
    """The race before a run of `total` updates of a rule in which some numbers are sought."""
    tried = candidates(found, total)
    count, size = len(tried.learning_rate), sum(leaf.size for leaf in jax.tree.leaves(params))
    dtype = jax.tree.leaves(rule)[0].dtype
    kinds = 2 if found.place.relative else 1
    counts = _counts(count, kinds)
    return Plan(
        rule=rule,
        candidates=Candidates(*(column.astype(dtype) for column in tried)),
        batches=Batches(batches.data, batches.seed, batches.shuffle, batches.n_rows, batches.batch_size, 1),
        bounds=bounds,
        n_steps=np.array(_lengths(min(total, _LONGEST), counts, kinds), np.int32),
        total=np.asarray(total, dtype),
        place=with_fields(found.place, factor=_number(found.place.factor, dtype)),
        counts=counts,
        width=max(1, min(_WIDTH, count, _NUMBERS // max(size, 1))),
        judges=max(rows for rows in _ROWS if rows == _ROWS[0] or _SEEN * rows <= total * batches.batch_size),
    )


def _number(value: Any, dtype: Any) -> Any:
    return value.astype(dtype) if is_traced(value) else np.asarray(value, dtype)


def _counts(count: int, kinds: int) -> tuple[int, ...]:
    """How many candidates take part in each round."""
    return (count, *(min(count, left) for left in _LEFT[kinds - 1]))


def _lengths(total: int, counts: tuple[int, ...], kinds: int) -> tuple[int, ...]:
    """How many updates a candidate gets in each round: nobody has to race alone."""
    if counts[0] == 1:
        return (0,) * len(counts)
    shares = _SHARES[kinds - 1]
    if total < LONG:
        together = sum(n * share for n, share in zip(counts, shares, strict=True))
        shares = _SHORT if kinds == 2 else [share * min(_MOST / together, LONG / total) for share in shares]
    return tuple(max(1, int(share * total)) for share in shares)


def begin(plan: Plan) -> tuple[Any, Any]:
    """The number of the next heat, and what was reached in each round."""
    return np.int32(0), np.full((len(plan.heats), plan.counts[0]), np.inf, plan.total.dtype)


def judged(plan: Plan, value: Any, params: Any) -> Any:
    """The cost of some parameters on the rows on which candidates are compared."""
    return value(params, jax.tree.map(lambda leaf: leaf[plan.rows], plan.batches.data))


def race(plan: Plan, evaluate: Any, value: Any, start: Any, carry: Any, until: Any, lower: Lowering = traced) -> tuple[Any, Any]:
    """Run the heats before `until`.

    `evaluate` is the cost with its gradient for a batch, `value` the cost alone for the rows of `plan.rows`.
    """
    width, counts = plan.width, np.array(plan.counts, np.int32)
    firsts = np.cumsum([0, *plan.heats], dtype=np.int32)  # the first heat of each round, and the end
    judges = jax.tree.map(lambda leaf: leaf[plan.rows], plan.batches.data)
    each = _each(plan, lower)

    def heat(carry: Any) -> Any:
        number, costs = carry
        now = jnp.sum(number >= firsts[1:-1], dtype=jnp.int32)
        queue = _queue(costs, now, plan.candidates.relative)
        place = (number - jnp.asarray(firsts)[now]) * width + np.arange(width, dtype=np.int32)
        numbers = queue[jnp.minimum(place, jnp.asarray(counts)[now] - 1)]
        lanes = Candidates(*(jnp.asarray(column)[numbers] for column in plan.candidates))
        params = _run(plan, evaluate, lanes, jnp.asarray(plan.n_steps)[now], start, lower)
        reached = each(lambda one: value(one, judges))(params).astype(costs.dtype)
        sound = jax.vmap(all_finite)(reached, params)
        return number + 1, jnp.asarray(costs).at[now, numbers].set(jnp.where(sound, reached, jnp.inf))

    return lower.while_loop(lambda carry: carry[0] < until, heat, carry)


def verdict(plan: Plan, costs: Any) -> tuple[Candidates, Tried]:
    """The best candidate, of the last round in which anything was finite, and what all achieved."""
    xp: Any = jnp if is_traced(costs) else np
    costs = xp.asarray(costs)
    last = xp.max(xp.where(xp.any(costs < xp.inf, axis=1), np.arange(len(plan.heats), dtype=np.int32), 0))
    best = xp.argmin(costs[last])
    rates, relative = map(xp.asarray, plan.candidates)
    tried = Tried(rates, relative > 0, plan.n_steps, costs, plan.width * int(np.dot(plan.heats, plan.n_steps)))
    return Candidates(rates[best], relative[best]), tried


def code(plan: Plan, costs: Any) -> Any:
    """Return the code of the status that a run begins with: DIVERGED if candidates raced and nothing was finite, else RUNNING."""
    if not np.any(plan.n_steps):
        return np.int32(RUNNING)
    xp: Any = jnp if is_traced(costs) else np
    return xp.where(xp.any(costs < xp.inf), np.int32(RUNNING), np.int32(Status.DIVERGED.code))


def _queue(costs: jax.Array, now: jax.Array, relative: Any) -> jax.Array:
    """The candidates in the order in which a round takes them, the two kinds in turn.

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


def _run(plan: Plan, evaluate: Any, lanes: Candidates, n_steps: jax.Array, start: Any, lower: Lowering) -> Any:
    """Where some candidates come to from the start in so many updates, the run's schedule being as much faster."""
    batches, rule = plan.batches, plan.rule
    each = _each(plan, lower)

    def step(carry: Any) -> Any:
        k, lap = carry
        epoch, batch = k // batches.full, k % batches.full
        rows = batches.block(batches.order(epoch), epoch, batch)
        rows = batches.take(rows, batch, batch, batches.batch_size)
        time = (k.astype(plan.total.dtype) * (plan.total / n_steps.astype(plan.total.dtype))).astype(jnp.int32)

        def one(candidate: Candidates, state: Any) -> Any:
            params, memory = state
            gradient = evaluate(params, rows)[1]
            update, memory = plan.place.put(rule, candidate).resolved(time).update(gradient, memory, params)
            return moved(params, update, plan.bounds)[0], memory

        return k + 1, each(one)(lanes, lap)

    lap = jax.vmap(lambda _: (start, rule.init(start)))(lanes.learning_rate)
    return lower.while_loop(lambda carry: carry[0] < n_steps, step, (jnp.zeros((), jnp.int32), lap))[1][0]


def _each(plan: Plan, lower: Lowering) -> Any:
    """How a function is mapped over lanes."""
    return _one_by_one if lower is eager or plan.width == 1 else jax.vmap


def _one_by_one(function: Any) -> Any:
    """What `jax.vmap` does, for one lane, and for a function that can't be traced."""

    def mapped(*arguments: Any) -> Any:
        count = jax.tree.leaves(arguments)[0].shape[0]
        results = [function(*jax.tree.map(lambda leaf, k=k: leaf[k], arguments)) for k in range(count)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return mapped
