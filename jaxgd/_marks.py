"""Marks of single parameters at the end of a run: at a bound, never moved.

A run keeps its start and its bounds beside the result, and the rest is found when somebody asks. Inside an outer `jax.jit` or
`jax.vmap`, where nothing can be kept beside, it is found at once, a byte for each number.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._frozen import FrozenParameters
from jaxgd._trees import is_parameter, is_traced, parameters_of, working_dtype
from jaxgd.bounds import Bounds

AT_BOUND, UNMOVED, FLAT = 1, 2, 4
_MOST = 2**20  # numbers, above which no start is kept
_ROUNDINGS = 8.0  # from a bound that are still at the bound


class Beside(NamedTuple):
    """The data kept beside a result: its start, None if that is large or one of many, its bounds, and what is held.

    And the method, if that can tell from its state how much there is left to gain.
    """

    start: Any
    bounds: Bounds | None
    fixed: FrozenParameters | None
    method: Any


def beside(start: Any, bounds: Any, fixed: FrozenParameters | None, method: Any = None, *, one_of_many: bool = False) -> Beside:
    """Return what a run from a start within bounds keeps beside its result."""
    start = parameters_of(start)
    large = sum(np.size(leaf) for leaf in jax.tree.leaves(start)) > _MOST
    known = None if one_of_many or large else start
    return Beside(known, Bounds.of(bounds, start), fixed, method if method is not None and method.knows_gain else None)


def gain(beside: Beside, state: Any) -> Any:
    """Return how much lower the method expects the minimum to be; None where it does not know."""
    if beside.method is None:
        return None
    params = state.current.params
    if is_traced(params):
        return beside.method.gain(params, state.method)
    with jax.enable_x64(working_dtype(params) == np.float64):
        return np.asarray(beside.method.gain(params, state.method))[()]


def marks(params: Any, gradient: Any, n_steps: Any, beside: Beside) -> Any:
    """Return sums of AT_BOUND, UNMOVED and FLAT for all parameters; zero for fixed ones."""
    leaves, structure = jax.tree.flatten(parameters_of(params))
    xp: Any = jnp if is_traced(params, gradient, n_steps, beside[:3]) else np
    nothing = [None] * len(leaves)
    masks = nothing if beside.fixed is None else _frozen(beside.fixed, params)
    starts = nothing if beside.start is None else jax.tree.leaves(beside.start)
    lows, highs = (nothing, nothing) if beside.bounds is None else map(jax.tree.leaves, (beside.bounds.lower, beside.bounds.upper))
    found, none = [], np.int8(0)
    for x, g, start, low, high, frozen in zip(leaves, jax.tree.leaves(gradient), starts, lows, highs, masks, strict=True):
        x, mark = _at_least_32_bits(xp.asarray(x)), xp.zeros(np.shape(x), np.int8)
        if low is not None:
            slack = _ROUNDINGS * float(jnp.finfo(x.dtype).eps) * xp.abs(x)
            mark = xp.where((x - slack <= low) | (x + slack >= high), np.int8(AT_BOUND), none)
        if start is not None:
            unmoved = (x == _at_least_32_bits(xp.asarray(start)).astype(x.dtype)) & (n_steps > 0) & (mark == 0)
            flat = xp.asarray(g) == 0
            flat = flat if flat.shape == mark.shape else xp.all(flat)  # of unconstrained numbers there may be fewer
            mark = xp.where(unmoved, xp.where(flat, np.int8(UNMOVED | FLAT), np.int8(UNMOVED)), mark)
        found.append(mark if frozen is None else xp.where(frozen, none, mark))
    return structure.unflatten(found)


def _at_least_32_bits(array: Any) -> Any:
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


def _frozen(fixed: FrozenParameters, params: Any) -> list[Any]:
    """Return which of the parameters are frozen, an array of booleans for each of them."""
    leaves = zip(fixed.held.structure.flatten_up_to(params), fixed.held.leaves, strict=True)
    masks = [(leaf.shape, frozen) for leaf, frozen in leaves if is_parameter(leaf)]
    return [
        np.frombuffer(frozen, bool).reshape(shape) if isinstance(frozen, bytes) else np.bool_(frozen is True)
        for shape, frozen in masks
    ]


def named(marks: Any, mark: int) -> Iterator[str]:
    """Yield the names of the parameters with a mark, such as "params['w'][2]", or "params['w']" for a whole array."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(marks)[0]:
        place, marked = "params" + jax.tree_util.keystr(path), (np.asarray(leaf) & mark) > 0
        if marked.size and marked.all():
            yield place
        else:
            yield from (f"{place}[{','.join(map(str, index))}]" for index in np.argwhere(marked).tolist())
