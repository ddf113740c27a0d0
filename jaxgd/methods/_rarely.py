"""A branch that is rarely taken: for many runs side by side it is computed for those alone that take it.

`jax.vmap` makes of `lax.cond` a choice between two branches, both of which are computed for all rows. Here the rows that take the
branch are gathered, some at a time, until none is left.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._compile import jaxprs

_PART = 8  # of the rows go together
_LEAST = 8  # rows that go together


def rarely(wanted: jax.Array, function: Callable[[], Any], otherwise: Any) -> Any:
    """Return what a function returns where the scalar `wanted` holds, else `otherwise`, a tree of the same structure and shapes."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)()
    leaves, structure = jax.tree.flatten(otherwise)
    leaves = [jnp.asarray(leaf, like.dtype) for leaf, like in zip(leaves, jax.tree.leaves(shapes), strict=True)]

    def taken(constants: list[Any]) -> list[jax.Array]:
        return [jnp.asarray(one) for one in jaxprs.applied(closed.jaxpr, constants)]

    @jax.custom_batching.custom_vmap
    def chosen(wanted: jax.Array, constants: list[Any], leaves: list[jax.Array]) -> list[jax.Array]:
        return lax.cond(wanted, lambda: taken(constants), lambda: leaves)

    @chosen.def_vmap
    def chosen_by_many(count: int, batched: Any, wanted: jax.Array, constants: list[Any], leaves: list[jax.Array]) -> Any:
        axes = [0 if is_batched else None for is_batched in batched[1]]
        wanted = jnp.broadcast_to(wanted, (count,))
        kept = [
            leaf if is_batched else jnp.broadcast_to(leaf, (count, *leaf.shape))
            for leaf, is_batched in zip(leaves, batched[2], strict=True)
        ]
        together = min(count, max(_LEAST, count // _PART))
        order, number = jnp.argsort(~wanted), jnp.sum(wanted, dtype=jnp.int32)

        def part(carry: tuple[jax.Array, list[jax.Array]]) -> tuple[jax.Array, list[jax.Array]]:
            done, found = carry
            places = lax.dynamic_slice(order, (done,), (together,))
            rows = [one if axis is None else jnp.asarray(one)[places] for one, axis in zip(constants, axes, strict=True)]
            new = jax.vmap(taken, in_axes=(axes,), axis_size=together)(rows)
            places = jnp.where(wanted[places], places, count)
            return done + together, [one.at[places].set(row, mode="drop") for one, row in zip(found, new, strict=True)]

        _, found = lax.while_loop(lambda carry: carry[0] < number, part, (jnp.zeros((), jnp.int32), kept))
        return found, [True] * len(found)

    return jax.tree.unflatten(structure, chosen(wanted, closed.consts, leaves))
