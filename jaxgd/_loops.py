"""How loops run: compiled by `lax.while_loop`, the only one of the package, or in Python for a cost that can't be traced.

The loops themselves are `_steps` (all rows in every step) and `_epochs` (minibatches). Each carries a run from where its state
stands to a given tick, an evaluation or an epoch. One call may be the whole run or one step of it: the state is arrays only, the
body is the same program, and so the numbers are the same bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._program import compiled


class Lowering(NamedTuple):
    """How a loop runs: its `while_loop`, and how to call a function inside it."""

    while_loop: Callable[..., Any]
    call: Callable[..., Any]


def _python_loop(condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    while condition(state):
        state = body(state)
    return state


traced = Lowering(lax.while_loop, lambda function, *arguments: function(*arguments))
eager = Lowering(_python_loop, lambda function, *arguments: compiled(function, *arguments)(*arguments))


def buffers(values: Any, capacity: int) -> Any:
    """Empty rows for values like these."""
    return jax.tree.map(lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.result_type(leaf)), values)


def write(buffers: Any, row: jax.Array, values: Any) -> Any:
    """Write one row; the row before the first is the first, which is written again before anyone reads it."""
    row = jnp.maximum(row, 0)
    return jax.tree.map(lambda buffer, value: lax.dynamic_update_index_in_dim(buffer, value, row, 0), buffers, values)
