"""The checks of arguments: each names the argument, what came, and what was expected, before anything compiles."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._trees import is_number, is_traced

HISTORY_NAMES = ("cost", "params", "gradient_norm", "learning_rate", "validation_cost")


def show(value: Any) -> str:
    """A value as an error message shows it, cut to one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Check that a value is one of a few."""
    if isinstance(value, np.bool_):
        value = bool(value)
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return
    raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {show(value)}.")


def whole(name: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """Check an integer within limits, and return it as a Python int."""
    too_high = high is not None and (why or (isinstance(value, int) and value > high))
    expected = f"an integer from {low} to {high}" if too_high else f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected {expected}{why}, got {show(value)}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}: expected {expected}{why}, got {value}.")
    return int(value)


def real(name: str, value: Any) -> np.ndarray | None:
    """Check that a value is a real number or an array of them, and return it as an array (None while traced)."""
    if is_traced(value):
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a number, got {show(value)}.") from error
    if array.dtype == bool or not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{name}: expected a number, got {show(value)}.")
    return array.astype(np.float64)


def scalar(name: str, value: Any) -> None:
    """Check that a value is one real number, and not NaN."""
    array = real(name, value)
    if array is not None and (array.shape != () or np.isnan(array)):
        raise ValueError(f"{name}: expected one number, got {show(value)}.")


def positive(name: str, value: Any) -> None:
    """Check that a number, or each number of an array, is finite and above zero."""
    array = real(name, value)
    if array is not None and not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name}: expected a finite number > 0, got {show(value)}.")


def at_least_zero(name: str, value: Any) -> None:
    """Check that a number is finite and not negative."""
    scalar(name, value)
    array = real(name, value)
    if array is not None and not np.all((array >= 0) & np.isfinite(array)):
        raise ValueError(f"{name}: expected a finite number >= 0, got {show(value)}.")


def fraction(name: str, value: Any, *, closed: bool) -> None:
    """Check that a number lies in [0, 1], or in [0, 1) if not closed."""
    scalar(name, value)
    array = real(name, value)
    if array is not None and not np.all((array >= 0) & (array <= 1 if closed else array < 1)):
        raise ValueError(f"{name}: expected a number in [0, 1{']' if closed else ')'}, got {show(value)}.")


def share(name: str, value: Any) -> None:
    """Check that a number lies in (0, 1]."""
    array = real(name, value)
    if array is None or array.shape != () or not 0 < array <= 1:
        raise ValueError(f"{name}: expected a number in (0, 1], got {show(value)}.")


def vector(name: str, value: Any) -> Any:
    """Check a list or array of real numbers of one dimension, and return it as an array."""
    if is_traced(value):
        return value
    array = real(name, value)
    if array is None or array.ndim != 1:
        raise TypeError(f"{name}: expected a list of numbers, got {show(value)}.")
    return array


def flag(name: str, value: Any) -> None:
    """Check that a value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {show(value)}.")


def switch(name: str, value: Any) -> None:
    """Check that a value is True or False, or a number, 1 or 0, in their place."""
    array = None if isinstance(value, bool | np.bool_) else real(name, value)
    if array is not None and not np.all((array == 0) | (array == 1)):
        raise ValueError(f"{name}: expected True or False, got {show(value)}.")


def function(name: str, value: Any, what: str) -> None:
    """Check that a value can be called."""
    if not callable(value):
        raise TypeError(f"{name}: expected {what}, got {show(value)}.")


def options(callback: Any, **flags: Any) -> None:
    """Check the options that both verbs share."""
    for name, value in flags.items():
        flag(name, value)
    if callback is not None:
        function("callback", callback, "None or a function of the progress")


def alone(name: str, **others: Any) -> None:
    """Check that options which don't go together with a named one were not given."""
    for other, value in others.items():
        if value:
            given = "jit=False" if other == "jit" else other
            raise ValueError(f"{name}: expected 1 together with {given}, which looks at one run.")


def missing_key(why: str) -> NoReturn:
    """Say that a random key is missing."""
    raise ValueError(f"key: {why} needs a random key: pass an integer, as in key=0, or a key of jax.random.")


def random_key(key: Any) -> jax.Array | int | None:
    """Check a random key (new-style, legacy, an integer or None), and return it as a Python integer or new-style."""
    if key is None:
        return None
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if not 0 <= key < 2**32:
            raise ValueError(f"key: expected an integer from 0 to 2**32 - 1, or a key of jax.random, got {key}.")
        return int(key)
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            if key.shape == ():
                return key  # type: ignore[return-value]
        elif key.dtype == jnp.uint32 and key.shape in ((2,), (4,)):
            return jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32" if key.shape == (2,) else "rbg")
        elif key.shape == () and jnp.issubdtype(key.dtype, jnp.integer):
            return jax.random.key(key)
    raise TypeError(f"key: expected an integer or one key of jax.random, got {show(key)}.")


def history_names(history: Any, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Check the names of what to record, and return them in a fixed order; the cost is always among them."""
    if history is None:
        return ()
    given = list(history) if isinstance(history, set | frozenset) else jax.tree.leaves(history)
    if not given:
        return ()
    known = tuple(name for name in HISTORY_NAMES if name != "validation_cost" or "validation_cost" in extra)
    for name in given:
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"history: expected names among {', '.join(known)}, got {show(name)}.")
    return tuple(name for name in known if name in {*given, "cost", *extra})


def parameters(name: str, start: Any, dtype: Any = None) -> Any:
    """Check a start and return it as a pytree of floating arrays: lists of numbers become arrays, integers become floats.

    Floating arrays come back in `dtype`, or in their own where it is None.
    """
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _parameter(name + jax.tree_util.keystr(path), leaf, dtype), start, is_leaf=_is_array_like
    )
    leaves = jax.tree.leaves(params)
    if not leaves or all(leaf.size == 0 for leaf in leaves):
        raise ValueError(f"{name}: expected at least one number, got {show(start)}.")
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not is_traced(leaf) and leaf.is_fully_addressable and not np.all(np.isfinite(np.asarray(leaf))):
            raise ValueError(f"{name}{jax.tree_util.keystr(path)}: expected finite numbers, got {show(np.asarray(leaf))}.")
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
        raise ValueError(f"{name}: expected a pytree of arrays, got {show(data)}.")
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
            raise TypeError(f"{name}: expected numbers, got {show(leaf)} ({error}).") from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or (boolean and array.dtype == bool)):
        raise TypeError(f"{name}: expected numbers, got {show(leaf)}.")
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
        raise TypeError(f"{name}: expected a function step -> rate, got {show(value)}.") from error
    rate = jax.eval_shape(value, jax.ShapeDtypeStruct((), jnp.int32))
    leaves = jax.tree.leaves(rate)
    real_rates = leaves and all(
        jnp.issubdtype(leaf.dtype, jnp.floating) or jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in leaves
    )
    if not real_rates:
        raise TypeError(f"{name}: expected a function step -> rate that returns a real number, it returns {show(rate)}.")
    per_variable(name, jax.tree.map(lambda leaf: np.ones(leaf.shape), rate), params, lambda *_: None)


def per_variable(name: str, value: Any, params: Any, check: Callable[[str, Any], None]) -> None:
    """Check a hyperparameter that is one number, or a pytree like params that holds a number or an array for each."""
    if is_number(value):
        return check(name, value)
    expected = jax.tree.structure(params)
    if jax.tree.structure(value, is_leaf=_is_array_like) != expected:
        raise ValueError(f"{name}: expected a number, or a pytree like the parameters ({expected}), got {show(value)}.")
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
        raise ValueError(f"{name}: expected one value, or a pytree like the parameters ({expected}), got {show(value)}.") from error
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
