"""Bounds: a box that holds every point that is evaluated."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks import check, check_arrays, check_trees
from jaxgd._trees import add, is_leaf, is_traced, pytree


@pytree
class Bounds:
    """The lowest and the highest value of each parameter, two pytrees like the parameters; open ends are infinite."""

    lower: Any
    upper: Any

    @staticmethod
    def of(bounds: Any, params: Any) -> "Bounds | None":
        """Check the argument `bounds`: None, or a pair (lower, upper).

        Each of the two is None, a number, or a pytree like the parameters with a number, an array or None for each of them, or for
        whole branches. An object with `lb` and `ub`, as SciPy has it, serves as well.
        """
        if bounds is None:
            return None
        pair = _pair(bounds, params)
        lower, upper = (
            check_trees.like_parameters(f"bounds[{k}]", side, params, functools.partial(_side, -1 if k == 0 else 1))
            for k, side in enumerate(pair)
        )
        return _box(lower, upper, params)

    def check(self, name: str, params: Any, roundings: float = 0.0) -> None:
        """Check that parameters lie in the box, or beyond it by at most a number of roundings."""
        named, _ = tree_flatten_with_path(params)
        for (path, x), low, high in zip(named, jax.tree.leaves(self.lower), jax.tree.leaves(self.upper), strict=True):
            if is_traced(x, low, high):
                continue
            x, low, high = map(np.asarray, (x, low, high))
            slack = roundings * float(jnp.finfo(x.dtype).eps) * np.abs(x)
            index = check_arrays.first((x + slack < low) | (x - slack > high))
            if index is not None:
                where, limits = check.entry(name + keystr(path), index), f"from {low[index]!s} to {high[index]!s}"
                raise ValueError(f"{where}: expected a value within the bounds, {limits}, got {x[index]!s}.")

    def rounded(self, params: Any) -> Any:
        """Return the parameters, those that a rounding put outside the box moved to their bounds."""

        def one(x: Any, low: Any, high: Any) -> Any:
            if is_traced(x, low, high) or not np.any((np.asarray(x) < low) | (np.asarray(x) > high)):
                return x
            return jnp.asarray(np.clip(np.asarray(x), low, high))

        return jax.tree.map(one, params, self.lower, self.upper)

    def project(self, params: Any) -> Any:
        """Return the nearest point in the box."""
        return jax.tree.map(jnp.clip, params, self.lower, self.upper)


def of_many(bounds: Any, params: Any, count: int) -> tuple[Bounds | None, bool]:
    """Check the bounds of many runs; return them and whether they differ from run to run.

    They differ where an array has one dimension more than its parameter, and then all have a leading axis.
    """
    if bounds is None:
        return None, False
    differ = False

    def side(sign: int, name: str, value: Any, like: Any) -> Any:
        nonlocal differ
        stacked = jax.ShapeDtypeStruct((count, *like.shape), like.dtype)
        if np.ndim(value) == len(like.shape) + 1:
            if len(value) != count:
                raise ValueError(f"{name}: expected a row for each of {count} fits, got {len(value)} rows.")
            differ = True
            return _side(sign, name, value, stacked)
        one = _side(sign, name, value, like)
        return (jnp if is_traced(one) else np).broadcast_to(one, stacked.shape)

    lower, upper = (
        check_trees.like_parameters(f"bounds[{k}]", one, params, functools.partial(side, -1 if k == 0 else 1))
        for k, one in enumerate(_pair(bounds, params))
    )
    return (_box(lower, upper, params), True) if differ else (Bounds.of(bounds, params), False)


def _pair(bounds: Any, params: Any) -> Any:
    """Return the lower and the upper side of the argument `bounds`."""
    pair = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") and hasattr(bounds, "ub") else bounds
    several = isinstance(pair, tuple | list) and len(pair) > 0
    each = several and all(isinstance(one, tuple) and len(one) == 2 for one in pair)  # as SciPy has it
    if not several or len(pair) != 2 or (each and is_leaf(params)):
        cure = f": pass {check.show(tuple(map(list, zip(*pair, strict=True))))}" if each else ""
        raise TypeError(f"bounds: expected a tuple (lower, upper), got {check.show(bounds)}{cure}.")
    return pair


def _box(lower: Any, upper: Any, params: Any) -> Bounds | None:
    """Return the box of two sides in the types of the parameters; None where nothing is bounded."""
    named, structure = tree_flatten_with_path(params)
    sides = zip(named, jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True)
    rounded = [_rounded("params" + keystr(path), low, high, leaf.dtype) for (path, leaf), low, high in sides]
    lower, upper = (structure.unflatten(side) for side in zip(*rounded, strict=True))
    if all(not is_traced(leaf) and np.all(np.isinf(leaf)) for leaf in jax.tree.leaves((lower, upper))):
        return None
    return Bounds(lower, upper)


def _side(sign: int, name: str, value: Any, like: Any) -> Any:
    """Return one part of one side, of the shape of a parameter.

    It has 64 bits unless it is traced; -1 is the lower side and 1 the upper.
    """
    if value is None:
        return np.full(like.shape, sign * np.inf)
    if isinstance(value, list):
        value = [sign * np.inf if item is None else item for item in value]
    array = check.real(name, value)
    if array is None:
        return jnp.broadcast_to(jnp.asarray(value, like.dtype), like.shape)
    if np.any(np.isnan(array) | (array == -sign * np.inf)):
        raise ValueError(f"{name}: expected a number or None, got {check.show(value)}.")
    return check_trees.fitting(name, array, like)


def _rounded(name: str, low: Any, high: Any, dtype: Any) -> tuple[Any, Any]:
    """Return both sides of a parameter in its type, checked. A bound that the type can't hold exactly is rounded into the box."""
    if is_traced(low, high):
        return jnp.asarray(low, dtype), jnp.asarray(high, dtype)
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    sides = []
    for sign, side in ((-1, low), (1, high)):
        with np.errstate(over="ignore"):
            near = side.astype(dtype)
        outside = (sign * near.astype(np.float64) > sign * side) & (low != high)
        sides.append(np.where(outside, np.nextafter(near, near.dtype.type(-sign * np.inf)), near))
    index = check_arrays.first((sides[0] >= sides[1]) & (low != high))
    if index is not None:
        got = f"{float(low[index])!r} and {float(high[index])!r} for {check.entry(name, index)}"
        if low[index] > high[index]:
            raise ValueError(f"bounds: expected every lower bound to be at most the upper one, got {got}.")
        raise ValueError(f"bounds: expected two that {np.dtype(dtype)} can tell apart, got {got}: pass dtype='float64'.")
    return sides[0], sides[1]


def at_active_bound(x: jax.Array, gradient: jax.Array, low: Any, high: Any) -> jax.Array:
    """Return which variables lie at a bound beyond which a descent would go."""
    return ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))


def apply_update(params: Any, update: Any, bounds: Bounds | None) -> tuple[Any, Any]:
    """Return the parameters after an update, held within their bounds, and the update as it came out."""
    trial = add(params, update)
    if bounds is None:
        return trial, update
    trial = bounds.project(trial)
    return trial, jax.tree.map(jnp.subtract, trial, params)


def projected_gradient(params: Any, gradient: Any, bounds: Bounds | None) -> Any:
    """Return the gradient without what a bound holds back: zero where a descent would leave the box."""
    if bounds is None or gradient is None:
        return gradient

    def one(x: jax.Array, g: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.where(at_active_bound(x, g, low, high), jnp.zeros_like(g), g)

    return jax.tree.map(one, params, gradient, bounds.lower, bounds.upper)
