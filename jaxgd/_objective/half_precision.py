"""Parameters of 16 bits: a run moves them in 32, and the cost sees them in their own type.

A step smaller than the spacing of 16-bit numbers would be lost: bfloat16 has eight significant bits, and 256 + 0.1 is 256. So the
run keeps parameters, and all that a method remembers, in float32 (a master copy, P. Micikevicius et al., Mixed precision training,
ICLR 2018), and casts them wherever the cost is evaluated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._compile.closures import unjitted
from jaxgd._trees import is_parameter
from jaxgd.squares import of_others


class Types(NamedTuple):
    """The types of the parameters of fewer than 32 bits, with None for each other leaf."""

    structure: Any
    names: tuple[str | None, ...]


def half_types(params: Any) -> Types | None:
    """Return the `Types` of parameters, None where none has fewer than 32 bits."""
    leaves, structure = jax.tree.flatten(params)
    names = tuple(jnp.dtype(leaf.dtype).name if _is_narrow(leaf) else None for leaf in leaves)
    return Types(structure, names) if any(names) else None


def _is_narrow(leaf: Any) -> bool:
    return is_parameter(leaf) and jnp.dtype(leaf.dtype).itemsize < 4


def widened(tree: Any) -> Any:
    """Return a tree with its arrays of fewer than 32 bits in float32."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32) if _is_narrow(leaf) else leaf, tree)


def of_wide(cost: Callable[..., Any], types: Types) -> Callable[..., Any]:
    """Return a cost as a function of the widened parameters."""
    return of_others(cost, lambda function: functools.partial(_called, function, types.names))


def _called(cost: Any, names: tuple[str | None, ...], params: Any, *data: Any, **given: Any) -> Any:
    return unjitted(cost)(_cast(params, names, jax.tree.structure(params)), *data, **given)


def _cast(params: Any, names: tuple[str | None, ...], structure: Any) -> Any:
    pairs = zip(structure.flatten_up_to(params), names, strict=True)
    return structure.unflatten([leaf if name is None else leaf.astype(jnp.dtype(name)) for leaf, name in pairs])


def narrowed(params: Any, types: Types) -> Any:
    """Return parameters, or a gradient, in their own types."""
    return _cast(params, types.names, types.structure)
