"""Fixed parameters: a run moves the others alone, and no derivative is taken for those that are held."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _check_trees, _checks
from jaxgd._trees import pytree, static


@pytree
class Held:
    """A function of the free parameters, of all parameters' values, and of data, as one of the free parameters and the data."""

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

    def __call__(self, params: Any, *data: Any) -> Any:
        return self.function(params, self.values, *data)


@pytree
class Fixed:
    """Which parameters are held, and all of their values.

    The free ones are a pytree of the same structure, in which an array of which nothing is free is empty, and one of which a part
    is free has that part in one dimension.
    """

    values: Any
    held: tuple[bool | bytes, ...] = static()  # for each array: whether all of it is held, or which of its numbers are

    @staticmethod
    def of(fixed: Any, values: Any) -> "Fixed | None":
        """Check the argument `fixed`: None, or booleans for parameters, parts of an array, or whole branches of the tree."""
        if fixed is None:
            return None
        masks = _check_trees.like_parameters("fixed", fixed, values, _mask)
        held = tuple(_summary(mask) for mask in jax.tree.leaves(masks))
        if all(one is True for one in held):
            raise ValueError("fixed: expected at least one parameter that is free, got True for all.")
        return Fixed(jax.tree.map(jnp.asarray, values), held) if any(held) else None

    def free(self, params: Any) -> Any:
        """The free ones among some parameters, or among anything of their shapes."""
        return self._map(lambda places, leaf: leaf.reshape(-1)[places], params, params)

    @property
    def places(self) -> np.ndarray:
        """The places of the free numbers among all parameters packed into a vector."""
        sizes = [leaf.size for leaf in jax.tree.leaves(self.values)]
        starts = np.cumsum([0, *sizes[:-1]])
        return np.concatenate([at + _places(held, n) for at, held, n in zip(starts, self.held, sizes, strict=True)])

    def whole(self, free: Any, rest: Any = None) -> Any:
        """All parameters, the free ones given, the others as they were at the start, or from `rest`."""

        def fill(places: np.ndarray, part: Any, value: Any) -> Any:
            if places.size == 0:
                return value
            return jnp.asarray(value).reshape(-1).at[places].set(part, unique_indices=True).reshape(value.shape)

        return self._map(fill, free, free, self.values if rest is None else rest)

    def gradient(self, free: Any) -> Any:
        """The gradient for all parameters, which is zero for those that are held: it was not computed."""
        return self.whole(free, jax.tree.map(jnp.zeros_like, self.values))

    def _map(self, change: Callable[..., Any], unheld: Any, *trees: Any) -> Any:
        """Change the leaves of which something is held, each with the places of its free numbers; the others are in `unheld`."""
        leaves, structure = jax.tree.flatten(unheld)
        columns = [structure.flatten_up_to(tree) for tree in trees]
        changed = []
        for held, leaf, value, *parts in zip(self.held, leaves, jax.tree.leaves(self.values), *columns, strict=True):
            changed.append(leaf if held is False else change(_places(held, value.size), *parts))
        return structure.unflatten(changed)


def _mask(name: str, value: Any, like: Any) -> np.ndarray:
    """One part of the argument, an array of booleans of the shape of a parameter."""
    array = np.asarray(value)
    if array.dtype != bool:
        raise TypeError(f"{name}: expected True or False, got {_checks.show(value)}.")
    return _check_trees.fitting(name, array, like)


def _summary(mask: np.ndarray) -> bool | bytes:
    return bool(mask.all()) if mask.all() or not mask.any() else mask.tobytes()


def _places(held: bool | bytes, size: int) -> np.ndarray:
    """The places of the free numbers in an array."""
    mask = np.frombuffer(held, bool) if isinstance(held, bytes) else np.full(size, held)
    return np.flatnonzero(~mask)
