"""The sum of the costs of an epoch's batches, added up so that rounding hardly grows with their number.

Few costs are added up as they come. Of many, those of a block are kept one by one and then added up in groups of groups.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._run.state import RunSpec, RunState

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
    count = state.batch - first - (~lap.finite).astype(jnp.int32)
    costs = jnp.where(jnp.arange(lap.cost.size, dtype=jnp.int32) < count, lap.cost, 0)
    while costs.size > _FEW:
        costs = jnp.sum(jnp.pad(costs, (0, -costs.size % _FEW)).reshape(-1, _FEW), axis=1)
    return with_cost(state, jnp.sum(costs))


def with_cost(state: RunState, cost: jax.Array) -> RunState:
    """Return the state with another sum of the costs of the epoch under way."""
    return state._replace(under_way=state.under_way._replace(cost=cost))  # type: ignore[union-attr]
