"""The sum of the costs of an epoch's batches, added up so that rounding hardly grows with their number.

Few costs are added up as they come. Of many, those of a block are kept one by one and then added up in groups of groups.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._run.state import RunSpec, RunState, goes_on, start_epoch
from jaxgd._trees import select

_FEW = 64


def one_by_one(spec: RunSpec) -> bool:
    """Return whether the costs of a block are kept one by one."""
    return spec.source.count > _FEW


def start_block(spec: RunSpec, state: RunState) -> RunState:
    """Return the state before the first batch of a block, whose sum begins at zero."""
    shape = (spec.source.per_block + 1,) if one_by_one(spec) else ()
    return with_cost(state, jnp.zeros(shape, spec.empty.cost.dtype))


def end_block(spec: RunSpec, state: RunState, first: jax.Array) -> RunState:
    """Return the state after a block whose first batch was `first`, with the sum of its finite costs."""
    if not one_by_one(spec):
        return state
    lap: Any = state.under_way
    count = state.batch - first - (0 if spec.skips else (~lap.finite).astype(jnp.int32))
    costs = jnp.where(jnp.arange(lap.cost.size, dtype=jnp.int32) < count, lap.cost, 0)
    while costs.size > _FEW:
        costs = jnp.sum(jnp.pad(costs, (0, -costs.size % _FEW)).reshape(-1, _FEW), axis=1)
    return with_cost(state, jnp.sum(costs))


def plus(total: jax.Array, error: jax.Array, cost: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a sum with one cost more, and its new rounding error.

    W. Kahan, Further remarks on reducing truncation errors, Commun. ACM 8 (1965).
    """
    corrected = cost - error
    new = total + corrected
    return new, (new - total) - corrected


def begin_part(spec: RunSpec, state: RunState) -> RunState:
    """Return the state before the first batch of an epoch within which the run may pause."""
    zero = jnp.zeros_like(spec.empty.cost)
    state = start_block(spec, start_epoch(spec, state))
    return state._replace(under_way=state.under_way._replace(earlier=(zero, zero)))  # type: ignore[union-attr]


def first_of_block(spec: RunSpec, state: RunState) -> tuple[RunState, Any]:
    """Return the state before a batch, its sum at zero where a block begins, and that block's first batch."""
    first = state.batch - state.batch % spec.source.per_block
    return select(state.batch == first, start_block(spec, state), state), first


def after_part(spec: RunSpec, state: RunState, first: Any) -> RunState:
    """Return the state after some batches of a block, its sum added to the earlier ones if it is over."""
    lap: Any = state.under_way
    total, error = lap.earlier
    over = ~goes_on(spec, state) | (state.batch == jnp.minimum(first + spec.source.per_block, spec.source.count))
    block: Any = end_block(spec, state, first).under_way
    return state._replace(under_way=lap._replace(earlier=select(over, plus(total, error, block.cost), (total, error))))


def closed(state: RunState) -> tuple[RunState, RunState]:
    """Return the states before an epoch that was run in parts, as its end sees it, and after its batches."""
    lap: Any = state.under_way
    before = state._replace(under_way=None, batch=jnp.zeros((), jnp.int32))
    return before, state._replace(under_way=lap._replace(cost=lap.earlier[0], earlier=None))


def with_cost(state: RunState, cost: jax.Array) -> RunState:
    """Return the state with another sum of the costs of the epoch under way."""
    return state._replace(under_way=state.under_way._replace(cost=cost))  # type: ignore[union-attr]
