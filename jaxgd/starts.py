"""Random starts: functions of a key that return parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check

__all__ = ["normal"]


def normal(shape: Any = (), scale: float = 1.0) -> Callable[[jax.Array], Any]:
    """Return a random start: independent normal numbers of mean zero.

    Args:
        shape: an integer, a tuple of integers, or a pytree of such shapes.
        scale: the standard deviation, > 0.

    Returns:
        A function key -> params, to be passed as `start` together with `key`.

    Raises:
        TypeError, ValueError: for a shape that is none, or a scale that is not positive.

    >>> import jax
    >>> jax.tree.map(lambda leaf: leaf.shape, normal({"weights": (3, 2), "bias": ()})(jax.random.key(0)))
    {'bias': (), 'weights': (3, 2)}
    """
    check.positive("scale", scale)
    shapes, structure = check_shape("shape", shape)

    def draw(key: jax.Array) -> Any:
        checked = check.random_key(key)
        if checked is None:
            check.missing_key("a random start")
        keys = jax.random.split(jax.random.key(checked) if isinstance(checked, int) else checked, len(shapes))
        dtype = jnp.result_type(float)
        draws = [
            jnp.asarray(scale, dtype) * jax.random.normal(one_key, one if isinstance(one, tuple) else (one,), dtype)
            for one_key, one in zip(keys, shapes, strict=True)
        ]
        return jax.tree.unflatten(structure, draws)

    return draw


def check_shape(name: str, shape: Any) -> tuple[list[Any], Any]:
    """Check a pytree of shapes, and return its leaves, integers and tuples of them, and its structure."""
    if isinstance(shape, jax.Array) and jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        raise TypeError("start: expected a function key -> params, got jaxgd.normal itself: call it with a shape, as in normal(3).")
    shapes, structure = jax.tree.flatten(shape, is_leaf=_is_shape)
    if not shapes:
        raise ValueError(f"{name}: expected at least one shape, got {check.show(shape)}.")
    for one in shapes:
        for size in one if isinstance(one, tuple) else (one,):
            if not isinstance(size, int | np.integer) or isinstance(size, bool):
                expected = "an integer, a tuple of integers, or a pytree of such shapes"
                raise TypeError(f"{name}: expected {expected}, got {check.show(shape)}.")
            check.integer(name, size, 0)
    return shapes, structure


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple) and all(isinstance(size, int | np.integer) for size in node)
