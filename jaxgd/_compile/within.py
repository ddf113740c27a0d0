"""Programs with native parts inside somebody else's program, who may map them.

`jax.vmap` makes one loop of the loops of all rows: it lasts as long as the slowest, computes both sides of every branch, and its
arrays may be too large for a native function. So a native loop is called for one row after the other.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._compile.native import has_native_loops, in_parts, is_possible
from jaxgd._trees import replaced


def within(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same as a part of somebody's program.

    Where that is mapped, it is called for one row after the other if its loops are native, and otherwise without marked calls.
    """

    def applied(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        if not is_possible(leaves) or jax.device_count() > 1:  # where a traced array lies is not known
            return function(*arguments)
        return _unmapped(function, structure)(*leaves)

    return applied


@functools.lru_cache(64)  # the same object for the same function: a new one would make another program of whatever holds it
def _unmapped(function: Callable[..., Any], structure: Any) -> Any:
    """Return a function of the leaves of its arguments, in parts."""

    def plain(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    marked: Any = jax.custom_batching.custom_vmap(in_parts(plain))

    @marked.def_vmap
    def _mapped(size: int, batched: list[bool], *leaves: Any) -> tuple[Any, Any]:
        rows = [leaf[0] if one else leaf for leaf, one in zip(leaves, batched, strict=True)]
        if size > 0 and has_native_loops(jax.make_jaxpr(plain)(*rows).jaxpr):
            outputs = _one_by_one(function, structure, tuple(batched))(*leaves)
        else:
            outputs = jax.vmap(plain, [0 if one else None for one in batched], axis_size=size)(*leaves)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return marked


@functools.lru_cache(64)
def _one_by_one(function: Any, structure: Any, mapped: tuple[bool, ...]) -> Any:
    """Return a function of the leaves of its arguments, in parts: those that are mapped have rows, which it takes in turn."""

    def in_turn(*leaves: Any) -> Any:
        places = tuple(k for k, one in enumerate(mapped) if one)

        def one(rows: list[Any]) -> Any:
            return function(*jax.tree.unflatten(structure, replaced(list(leaves), places, rows)))

        return lax.map(one, [leaves[k] for k in places])

    marked: Any = jax.custom_batching.custom_vmap(in_parts(in_turn))

    @marked.def_vmap
    def _mapped_again(size: int, batched: list[bool], *leaves: Any) -> tuple[Any, Any]:
        """Take the rows of both axes as those of one."""
        count = next(leaf.shape[is_batched] for leaf, is_batched, one in zip(leaves, batched, mapped, strict=True) if one)

        def joined(leaf: Any, is_batched: bool, one: bool) -> Any:
            if not (is_batched or one):
                return leaf
            leaf = leaf if is_batched else leaf[None]
            leaf = leaf if one else leaf[:, None]
            own = leaf.shape[2:]
            return jnp.broadcast_to(leaf, (size, count, *own)).reshape(size * count, *own)

        both = tuple(map(operator.or_, batched, mapped))
        outputs = _one_by_one(function, structure, both)(*map(joined, leaves, batched, mapped))
        outputs = jax.tree.map(lambda leaf: leaf.reshape(size, count, *leaf.shape[1:]), outputs)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return jax.jit(marked)  # marks are for what is traced, and a map alone traces nothing
