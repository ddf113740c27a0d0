"""The checks of a cost, and of a function of residuals: how it is called, and what it returned while it was traced."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _checks


def signature(cost: Any, arguments: tuple[str, ...], name: str = "cost") -> None:
    """Check that the cost is a function that takes the arguments it will get."""
    called = f"{name}({', '.join(arguments)})"
    _checks.function(name, cost, f"a function, called as {called}")
    try:
        signature = inspect.signature(cost)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        reason = "since data were given" if len(arguments) > 1 else "since no data were given"
        got = getattr(cost, "__name__", type(cost).__name__)
        raise TypeError(f"{name}: expected a function that can be called as {called}, {reason}; got {got}{signature}.") from error


def aux_array(leaf: Any) -> jax.Array:
    """Check one leaf of what the cost returned beside its value, and return it as an array."""
    try:
        array = jnp.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"cost: with has_aux=True the aux must be a pytree of numbers and arrays, it holds {_checks.show(leaf)}."
        ) from error
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise TypeError("cost: with has_aux=True the aux must be a pytree of numbers and arrays, it holds a random key.")
    return array


def value(value: Any, *, has_aux: bool) -> tuple[jax.Array, Any]:
    """Check what the cost returned while it is traced: a real scalar, or with `has_aux` a pair of it and anything."""
    aux = None
    if has_aux:
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise TypeError(f"cost: with has_aux=True it must return a pair (cost, aux), it returned {_kind(value)}.")
        value, aux = value
    if value is None:
        raise TypeError("cost: it must return a real scalar, it returned None: is a `return` missing?")
    if isinstance(value, tuple | list | dict):
        hint = "" if has_aux else "; for a pair (cost, aux) say has_aux=True"
        raise TypeError(f"cost: it must return a real scalar, it returned {_kind(value)}{hint}.")
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"cost: it must return a real scalar, it returned {_kind(value)}.") from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError("cost: it must return a real scalar, it returned a complex number: return its real part or its modulus.")
    if array.shape != ():
        raise TypeError(f"cost: it must return a real scalar, it returned an array of shape {array.shape}: take its sum or mean.")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"cost: it must return a real scalar, it returned {_kind(array)}: an integer has no derivative.")
    return array, aux


def residual_arrays(value: Any, *, has_aux: bool) -> list[jax.Array]:
    """Check what a function of residuals returned: a pytree of real arrays, or with `has_aux` a pair of it and anything."""
    if has_aux:
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise TypeError(f"residuals: with has_aux=True they must come in a pair (residuals, aux), it returned {_kind(value)}.")
        value = value[0]
    leaves = jax.tree.leaves(value)
    for leaf in leaves or [value]:
        if not isinstance(leaf, jax.Array | np.ndarray | float) or not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"residuals: it must return an array of real numbers, or a pytree of them, it returned {_kind(leaf)}.")
    return [jnp.asarray(leaf) for leaf in leaves]


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype} of shape {value.shape}" if value.shape else f"a scalar of type {value.dtype}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__} {_checks.show(value)}"
