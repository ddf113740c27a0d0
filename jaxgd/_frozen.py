"""Frozen parameters: a run moves the others alone, and no derivative is taken for those that are held.

What is no parameter at all (a function, a key, integers that are fixed) is held as well. A run sees a pytree of the same structure,
its parameters free of all that: None stands for what is held as a whole, and of an array of which a part is free it has that part,
in one dimension. Methods that look at shapes see such an array whole, see `partly_frozen`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check, check_trees, plain
from jaxgd._compile.memory import Known
from jaxgd._trees import is_parameter, is_traced, parameters_of, pytree, static


@pytree
class PartialObjective:
    """A function of parameters, something that is given with them, and data, as one of parameters and data.

    What is given are the `values`: here the fixed parameters.
    """

    function: Any
    values: Any

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, where it was traced."""
        return getattr(self.function, "shapes", None)

    @property
    def largest(self) -> int:
        """How many numbers the largest array has that the function computes, where it was traced."""
        return getattr(self.function, "largest", 0)

    def with_values(self, values: Any) -> "PartialObjective":
        """Return the same function with other values given."""
        return PartialObjective(self.function, values)

    def __call__(self, params: Any, *data: Any) -> Any:
        return self.function(params, self.values, *data)


class Layout(NamedTuple):
    """The structure of all leaves, and of each whether it is held: all of an array, which of its numbers, or what is no array."""

    structure: Any
    leaves: tuple[bool | bytes | Known, ...]


@pytree
class FrozenParameters:
    """The fixed parameters: their arrays in the order of the leaves, and the `Layout`."""

    values: tuple[Any, ...]
    held: Layout = static()

    @staticmethod
    def of(fixed: Any, start: Any) -> "FrozenParameters | None":
        """Check the argument `fixed`: None, or booleans for parameters, parts of an array, or whole branches of the tree."""
        leaves, structure = jax.tree.flatten(start)
        masks: Any = None
        if fixed is not None:
            masks = iter(jax.tree.leaves(check_trees.like_parameters("fixed", fixed, parameters_of(start), _mask)))
        held = tuple(_held(leaf, masks) for leaf in leaves)
        if not any(held):
            return None
        if not any(isinstance(one, bytes) or (one is False and leaf.size) for leaf, one in zip(leaves, held, strict=True)):
            raise ValueError(check_trees.ALL_FIXED)
        values = tuple(jnp.asarray(leaf) for leaf, one in zip(leaves, held, strict=True) if _has_value(one))
        return FrozenParameters(values, Layout(structure, held))

    def movable(self, params: Any, part: Callable[[Any, Any], Any] = lambda leaf, held: leaf) -> Any:
        """Return some parameters, or anything of their structure, without the leaves that are held as a whole."""
        leaves = zip(self.held.structure.flatten_up_to(params), self.held.leaves, strict=True)
        return self.held.structure.unflatten([None if _is_held(one) else part(leaf, one) for leaf, one in leaves])

    def free(self, params: Any) -> Any:
        """Return the free ones among some parameters, or among anything of their shapes."""
        return self.movable(params, _free_part)

    def merge(self, free: Any) -> Any:
        """Return all leaves, the free parameters given, the others as they were at the start."""
        return self._joined(free, self.values, _filled)

    def values_of(self, params: Any) -> tuple[Any, ...]:
        """Return the arrays of which all or a part is held, of parameters, or of many with a leading axis."""
        leaves = zip(self.held.structure.flatten_up_to(params), self.held.leaves, strict=True)
        return tuple(leaf for leaf, held in leaves if _has_value(held))

    def stacked(self, free: Any, values: Any = None) -> Any:
        """Return the same for free parameters with a leading axis, which all arrays get, and so have other `values`."""
        if values is None:
            count = jax.tree.leaves(free)[0].shape[0]
            values = [jnp.broadcast_to(value, (count, *value.shape)) for value in self.values]
        return self._joined(free, values, lambda value, part, held: jax.vmap(lambda v, p: _filled(v, p, held))(value, part))

    def gradient(self, free: Any) -> Any:
        """Return the gradient for all parameters: zero for fixed ones, None for other leaves."""
        zeros = [jnp.zeros_like(value) if is_parameter(value) else None for value in self.values]
        return parameters_of(self._joined(free, zeros, _filled))

    def rates(self, free: Any) -> Any:
        """Return learning rates of the free parameters as those of all: 1 for fixed ones."""
        return self._joined(free, map(jnp.ones_like, self.values), _filled)

    def check_alike(self, starts: Any) -> None:
        """Check that many starts, all leaves with a leading axis, have the same values in what is held."""
        for leaf, held in zip(self.held.structure.flatten_up_to(starts), self.held.leaves, strict=True):
            if held is False or isinstance(held, Known) or is_traced(leaf):
                continue
            is_plain = not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            rows = np.asarray(leaf if is_plain else jax.random.key_data(leaf)).reshape(len(leaf), -1)
            rows = rows[:, np.frombuffer(held, bool)] if isinstance(held, bytes) else rows
            if np.any(rows != rows[0]):
                raise ValueError("fixed: expected the start to give what is fixed the same values for every key.")

    def places(self, params: Any) -> np.ndarray:
        """Return the places of the free numbers among all parameters packed into a vector."""
        at, places = 0, [np.zeros(0, int)]
        for leaf, held in zip(self.held.structure.flatten_up_to(params), self.held.leaves, strict=True):
            if is_parameter(leaf):
                places.append(at + _places(held, leaf.size))
                at += leaf.size
        return np.concatenate(places)

    def _joined(self, free: Any, values: Any, fill: Callable[..., Any]) -> Any:
        """Return all leaves: free ones, held ones, and those of which a part is free, `fill(value, part, held)`."""
        parts, rest, leaves = iter(jax.tree.leaves(free)), iter(values), []
        for held in self.held.leaves:
            if isinstance(held, Known):
                leaves.append(held.value)
            elif isinstance(held, bytes):
                leaves.append(fill(next(rest), next(parts), held))
            else:
                leaves.append(next(rest if held else parts))
        return self.held.structure.unflatten(leaves)


def of_the_free(function: Callable[..., Any], held: Layout) -> Callable[..., Any]:
    """Return a function of all parameters and data as one of free ones, the values of others, and data."""
    return lambda free, values, *data: function(FrozenParameters(values, held).merge(free), *data)


def partly_frozen(fixed: FrozenParameters | None) -> FrozenParameters | None:
    """Return the arrays of which a part is held, for a method that sees each of them whole.

    None if there are none. The leaves are those of the free parameters, without what is held as a whole.
    """
    if fixed is None:
        return None
    structure, held = fixed.held
    values = zip(filter(_has_value, held), fixed.values, strict=True)
    partly = tuple(value for one, value in values if isinstance(one, bytes))
    layout = Layout(jax.tree.structure(fixed.movable(structure.unflatten(held))), tuple(one for one in held if not _is_held(one)))
    return FrozenParameters(partly, layout) if partly else None


def _mask(name: str, value: Any, like: Any) -> np.ndarray:
    """One part of the argument, an array of booleans of the shape of a parameter."""
    plain.refuse(name, value)
    array = np.asarray(value)
    if array.dtype != bool:
        raise TypeError(f"{name}: expected True or False, got {check.show(value)}.")
    return check_trees.fitting(name, array, like)


def _held(leaf: Any, masks: Any) -> bool | bytes | Known:
    """Return which numbers of a leaf are fixed. The masks are those of the parameters still to come, or None."""
    if not isinstance(leaf, jax.Array | np.ndarray):
        return Known(leaf)
    if not is_parameter(leaf):
        return True
    mask = None if masks is None else next(masks)
    if mask is None or not mask.any():
        return False
    return True if mask.all() else mask.tobytes()


def _is_held(held: bool | bytes | Known) -> bool:
    """Return whether all of a leaf is held."""
    return held is True or isinstance(held, Known)


def _has_value(held: bool | bytes | Known) -> bool:
    """Return whether a leaf is an array, all or a part of which is held."""
    return held is True or isinstance(held, bytes)


def _places(held: Any, size: int) -> np.ndarray:
    """Return the places of the free numbers in an array."""
    mask = np.frombuffer(held, bool) if isinstance(held, bytes) else np.full(size, bool(held))
    return np.flatnonzero(~mask)


def _free_part(leaf: Any, held: Any) -> Any:
    """Return the free numbers of an array, in one dimension where a part of it is held."""
    return leaf.reshape(-1)[_places(held, leaf.size)] if isinstance(held, bytes) else leaf


def _filled(value: Any, part: Any, held: Any) -> Any:
    """Return an array with its free numbers given, in their precision."""
    flat = value.reshape(-1).astype(part.dtype)
    return flat.at[_places(held, value.size)].set(part, unique_indices=True).reshape(value.shape)
