"""The checks of a cost, and of a function of residuals: how it is called, and what it returned while it was traced."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._checks.check import Refused


def signature(cost: Any, arguments: tuple[str, ...], extras: tuple[str, ...] = (), name: str = "cost") -> None:
    """Check that the cost is a function that takes the arguments it will get, and some extras by their names."""
    why = ", since data were given, as one argument" if len(arguments) > 1 else ", since no data were given"
    if "shared" in arguments:
        why = ", since " + ("data and shared" if "data" in arguments else "shared") + " were given, as one argument each"
    check.function(name, cost, arguments, f"a function that can be called as {name}({', '.join(arguments)})", why, extras)


def aux_array(leaf: Any) -> jax.Array:
    """Check one leaf of what the cost returned beside its value, and return it as an array."""
    expected = "cost: with has_aux=True the aux must be a pytree of numbers and arrays, it holds"
    try:
        array = jnp.asarray(leaf)
    except (TypeError, ValueError):
        raise Refused(f"{expected} {check.show(leaf)}.") from None
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise Refused(f"{expected} a random key.")
    return array


def value(value: Any, *, has_aux: bool) -> tuple[jax.Array, Any]:
    """Check what the cost returned while it is traced: a real scalar, or with `has_aux` a pair of it and anything."""
    value, aux = _pair(value, "cost: with has_aux=True it must return a pair (cost, aux)") if has_aux else (value, None)
    expected = "cost: it must return a real scalar, it returned"
    if value is None:
        raise Refused(f"{expected} None: is a `return` missing?")
    if isinstance(value, tuple | list | dict):
        pair = len(value) == 2 and not has_aux and not isinstance(value, dict)
        raise Refused(f"{expected} {_kind(value)}{': for a pair (cost, aux) pass has_aux=True' if pair else ''}.")
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise Refused(f"{expected} {_kind(value)}.") from None
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise Refused(f"{expected} a complex number: return its real part or its modulus.")
    if array.shape != ():
        raise Refused(f"{expected} an array of shape {array.shape}: take its sum or mean.")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise Refused(f"{expected} {_kind(array)}, which has no derivative.")
    return array, aux


def residual_arrays(value: Any, *, has_aux: bool) -> list[jax.Array]:
    """Check what a function of residuals returned: a pytree of real arrays, or with `has_aux` a pair of it and anything."""
    if has_aux:
        value, _ = _pair(value, "residuals: with has_aux=True they must come in a pair (residuals, aux)")
    leaves = jax.tree.leaves(value)
    for leaf in leaves or [value]:
        if not isinstance(leaf, jax.Array | np.ndarray | float) or not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise Refused(f"residuals: it must return an array of real numbers, or a pytree of them, it returned {_kind(leaf)}.")
    return [jnp.asarray(leaf) for leaf in leaves]


def _pair(value: Any, expected: str) -> Any:
    """Check that a value is a pair, and return it."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Refused(f"{expected}, it returned {_kind(value)}.")
    return value


def _kind(value: Any) -> str:
    """Return what a value is, in words."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype} of shape {value.shape}" if value.shape else f"a scalar of type {value.dtype}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    shown = check.show(value)
    return shown if value is None or shown.startswith("the ") else f"{type(value).__name__} {shown}"
