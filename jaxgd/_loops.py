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
from jaxgd._trees import select
from jaxgd.result import RUNNING


class Lowering(NamedTuple):
    """How a loop runs: its `while_loop`, and how to call a function inside it."""

    while_loop: Callable[..., Any]
    call: Callable[..., Any]


def _python_loop(condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    while condition(state):
        state = body(state)
    return state


class Loop(NamedTuple):
    """A loop over ticks: the state before the first, `begin(plan)`, and `segment(plan, functions, state, until, lower)` to go on.

    Called, it goes on from a state, or, if that has no tick behind it, from the beginning, whatever else is in it: so one program
    begins a run and goes on with it.
    """

    begin: Callable[[Any], Any]
    segment: Callable[..., tuple[Any, Any]]

    def __call__(self, plan: Any, functions: Any, state: Any, until: Any) -> tuple[Any, Any]:
        return self.segment(plan, functions, select(state.ticks == 0, self.begin(plan), state), until)


traced = Lowering(lax.while_loop, lambda function, *arguments: function(*arguments))
eager = Lowering(_python_loop, lambda function, *arguments: compiled(function, *arguments)(*arguments))


def recorded(
    advance: Callable[[Any, Any], Any], row: Callable[[Any], Any], state: Any, until: Any, capacity: int, lower: Lowering
) -> tuple[Any, Any]:
    """Run `advance(state, until)` a tick at a time, and write a row after each; return the last state and the rows.

    The loop inside is the one that runs when nothing is recorded, untouched: were the writing part of it, the compiler might round
    its numbers otherwise. The rows are those from `state.rows` on, at most `capacity`; a tick without a new row writes nothing.
    """
    first = state.rows
    empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), jax.eval_shape(row, state))

    def running(carry: Any) -> jax.Array:
        return (carry[0].code == RUNNING) & (carry[0].ticks < until)

    def tick(carry: Any) -> Any:
        state, rows = carry
        before = state.rows
        state = advance(state, state.ticks + 1)
        return state, lower.call(_write, rows, state.rows - first - 1, row(state), state.rows > before)

    return lower.while_loop(running, tick, (state, empty))


def _write(rows: Any, index: jax.Array, values: Any, is_new: jax.Array) -> Any:
    index = jnp.maximum(index, 0)

    def put(buffer: jax.Array, value: jax.Array) -> jax.Array:
        old = lax.dynamic_index_in_dim(buffer, index, 0, keepdims=False)
        return lax.dynamic_update_index_in_dim(buffer, select(is_new, value, old), index, 0)

    return jax.tree.map(put, rows, values)
