"""The checks of trees: a start, data, and what has to resemble the parameters."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _checks
from jaxgd._trees import is_number, is_traced


def parameters(name: str, start: Any, dtype: Any = None) -> Any:
    """Check a start and return it as a pytree of floating arrays: lists of numbers become arrays, integers become floats.

    Floating arrays come back in `dtype`, or in their own where it is None.
    """
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _parameter(name + jax.tree_util.keystr(path), leaf, dtype), start, is_leaf=_is_array_like
    )
    leaves = jax.tree.leaves(params)
    if not leaves or all(leaf.size == 0 for leaf in leaves):
        raise ValueError(f"{name}: expected at least one number, got {_checks.show(start)}.")
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not is_traced(leaf) and leaf.is_fully_addressable and not np.all(np.isfinite(np.asarray(leaf))):
            raise ValueError(f"{name}{jax.tree_util.keystr(path)}: expected finite numbers, got {_checks.show(np.asarray(leaf))}.")
    return params


def _parameter(name: str, leaf: Any, dtype: Any) -> jax.Array:
    array = _number_array(name, leaf)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected real numbers, got complex ones: use the real and the imaginary parts as parameters.")
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return _on_device(array, dtype if floating else dtype or jnp.result_type(float))


def data_arrays(name: str, data: Any, dtype: Any = None) -> Any:
    """Check data and return them as a pytree of arrays: lists of numbers and what NumPy takes become arrays.

    Floating arrays come back in `dtype`, or in their own where it is None.
    """

    def convert(path: Any, leaf: Any) -> jax.Array:
        array = _number_array(name + jax.tree_util.keystr(path), leaf, boolean=True)
        return _on_device(array, dtype if jnp.issubdtype(array.dtype, jnp.floating) else None)

    arrays = jax.tree_util.tree_map_with_path(convert, data, is_leaf=_is_array_like)
    if not jax.tree.leaves(arrays):
        raise ValueError(f"{name}: expected a pytree of arrays, got {_checks.show(data)}.")
    return arrays


def rows(name: str, data: Any) -> int:
    """Check that all arrays in data have the same number of rows, at least one, and return it."""
    lengths = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(data)[0]:
        if leaf.ndim == 0:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected an array with one row for each observation, got a scalar."
            )
        lengths[name + jax.tree_util.keystr(path)] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise ValueError(f"{name}: expected equally many rows in every array, got: {got}.")
    n_rows = next(iter(lengths.values()))
    if n_rows == 0:
        raise ValueError(f"{name}: expected at least one row, got none.")
    return n_rows


def _is_array_like(node: Any) -> bool:
    """Whether a node of a tree stands for one array: a list of numbers, or what NumPy takes (a column of a table)."""
    if isinstance(node, list):
        numbers = (bool, int, float, np.number, np.bool_)
        return bool(node) and all(isinstance(item, numbers) or (isinstance(item, list) and _is_array_like(item)) for item in node)
    return hasattr(node, "__array__")


def _on_device(array: Any, dtype: Any) -> jax.Array:
    """An array of NumPy's or of JAX's as one of JAX's, in a precision or its own; nothing is compiled for NumPy's."""
    target = jax.dtypes.canonicalize_dtype(dtype or array.dtype)
    if isinstance(array, jax.Array) and array.dtype == target:
        return array
    if isinstance(array, jax.Array) and (is_traced(array) or not array.is_fully_addressable):
        return array.astype(target)
    return jax.device_put(np.asarray(array).astype(target, copy=False))


def _number_array(name: str, leaf: Any, *, boolean: bool = False) -> Any:
    """One leaf as an array of NumPy's or of JAX's; boolean says whether truth values may stand in it."""
    if isinstance(leaf, jax.Array):
        array = leaf
    else:
        try:
            array = np.asarray(leaf)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected numbers, got {_checks.show(leaf)} ({error}).") from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or (boolean and array.dtype == bool)):
        raise TypeError(f"{name}: expected numbers, got {_checks.show(leaf)}.")
    if isinstance(array, jax.Array):
        return array
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    narrow = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
    if array.dtype.kind in "iu" and narrow.itemsize < array.dtype.itemsize and array.size:
        low, high = int(array.min()), int(array.max())
        if low < np.iinfo(narrow).min or high > np.iinfo(narrow).max:
            raise ValueError(
                f"{name}: holds integers up to {high}, beyond 32 bits: pass dtype='float64', or set JAX's 64-bit flag."
            )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def schedule(name: str, value: Any, params: Any) -> None:
    """Check what a function step -> rate returns: a number, or a pytree of rates like params."""
    try:
        inspect.signature(value).bind(0)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a function step -> rate, got {_checks.show(value)}.") from error
    rate = jax.eval_shape(value, jax.ShapeDtypeStruct((), jnp.int32))
    leaves = jax.tree.leaves(rate)
    real_rates = leaves and all(
        jnp.issubdtype(leaf.dtype, jnp.floating) or jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in leaves
    )
    if not real_rates:
        raise TypeError(f"{name}: expected a function step -> rate that returns a real number, it returns {_checks.show(rate)}.")
    per_variable(name, jax.tree.map(lambda leaf: np.ones(leaf.shape), rate), params, lambda *_: None)


def per_variable(name: str, value: Any, params: Any, check: Callable[[str, Any], None]) -> None:
    """Check a hyperparameter that is one number, or a pytree like params that holds a number or an array for each."""
    if is_number(value):
        return check(name, value)
    expected = jax.tree.structure(params)
    if jax.tree.structure(value, is_leaf=_is_array_like) != expected:
        raise ValueError(f"{name}: expected a number, or a pytree like the parameters ({expected}), got {_checks.show(value)}.")
    values = jax.tree.leaves(value, is_leaf=_is_array_like)
    for one, leaf in zip(values, jax.tree.leaves(params), strict=True):
        check(name, one)
        shape = np.shape(one)
        fits = len(shape) <= len(leaf.shape) and all(n in (1, m) for n, m in zip(shape[::-1], leaf.shape[::-1], strict=False))
        if not fits:
            raise ValueError(f"{name}: expected the shape {leaf.shape} of the parameters, got shape {shape}.")
    return None


def like_parameters(name: str, value: Any, params: Any, convert: Callable[[str, Any, Any], Any]) -> Any:
    """Check a pytree like the parameters, or with one value for a branch of theirs, and return it converted, leaf by leaf.

    `convert(name, value, parameter)` gets each value, a number, an array, a list of numbers or None, with the parameter it is for.
    """
    try:
        whole = jax.tree.broadcast(value, params, is_leaf=_is_value)
    except ValueError as error:
        expected = jax.tree.structure(params)
        raise ValueError(
            f"{name}: expected one value, or a pytree like the parameters ({expected}), got {_checks.show(value)}."
        ) from error
    named, structure = jax.tree_util.tree_flatten_with_path(params)
    values = jax.tree.leaves(whole, is_leaf=_is_value)
    converted = [convert(name + jax.tree_util.keystr(path), one, leaf) for one, (path, leaf) in zip(values, named, strict=True)]
    return structure.unflatten(converted)


def _is_value(node: Any) -> bool:
    if isinstance(node, list):
        return bool(node) and (_is_array_like(node) or all(item is None or is_number(item) for item in node))
    return node is None or _is_array_like(node)


def fitting(name: str, array: np.ndarray, like: Any) -> np.ndarray:
    """Check that an array has the shape of a parameter, or can be broadcast to it, and return it in that shape."""
    try:
        return np.array(np.broadcast_to(array, like.shape))
    except ValueError as error:
        raise ValueError(f"{name}: expected the shape {like.shape} of the parameters, got shape {array.shape}.") from error
