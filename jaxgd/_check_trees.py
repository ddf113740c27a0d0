"""The checks of trees: a start, data, and what has to resemble the parameters."""

import numbers
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd import _checks
from jaxgd._checks import entry, show
from jaxgd._trees import is_number, is_traced

_WIDER = "pass dtype='float64', or set JAX's 64-bit flag"
_SMALL = 4096  # numbers
_PLAIN = (bool, int, float, np.number, np.bool_)


def layout(tree: Any) -> str:
    """The structure of a tree, with a star for each array.

    >>> layout({"a": 1.0, "b": (2.0, 3.0)}), layout(1.0)
    ("{'a': *, 'b': (*, *)}", 'one array')
    """
    text = str(jax.tree.structure(tree)).removeprefix("PyTreeDef(").removesuffix(")")
    return "one array" if text == "*" else text


def parameters(name: str, start: Any, dtype: Any = None) -> Any:
    """Check a start and return it as a pytree of floating arrays: lists of numbers become arrays, integers become floats.

    Floating arrays come back in `dtype`, or in their own where it is None.
    """
    params = _converted(name, start, lambda path, leaf: _parameter(path, leaf, dtype))
    leaves = jax.tree.leaves(params)
    if not leaves or all(leaf.size == 0 for leaf in leaves):
        raise ValueError(f"{name}: expected at least one number, got {show(start)}.")
    for path, leaf in tree_flatten_with_path(params)[0]:
        if isinstance(leaf, np.ndarray) or (not is_traced(leaf) and leaf.is_fully_addressable):
            array = np.asarray(leaf)
            index = first(~np.isfinite(array))
            if index is not None:
                raise ValueError(f"{entry(name + keystr(path), index)}: expected a finite number, got {array[index]!s}.")
    return params


def _parameter(name: str, leaf: Any, dtype: Any) -> Any:
    """An array of NumPy's stays one where it is small: a program takes it in faster than it is put on a device beforehand."""
    array = _number_array(name, leaf)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected real numbers, got complex ones: use the real and the imaginary parts as parameters.")
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    array = _cast(name, array, dtype if floating else dtype or jnp.result_type(float))
    return jax.device_put(array) if isinstance(array, np.ndarray) and array.size > _SMALL else array


def data_arrays(name: str, data: Any, dtype: Any = None) -> Any:
    """Check data and return them as a pytree of arrays: lists of numbers and what NumPy takes become arrays.

    Floating arrays come back in `dtype`, or in their own where it is None.
    """

    def convert(path: str, leaf: Any) -> jax.Array:
        array = _number_array(path, leaf, boolean=True)
        return _on_device(path, array, dtype if jnp.issubdtype(array.dtype, jnp.floating) else None)

    arrays = _converted(name, data, convert)
    if not jax.tree.leaves(arrays):
        raise ValueError(f"{name}: expected a pytree of arrays, got {show(data)}.")
    return arrays


def drawn(name: str, start: Any) -> Any:
    """Check one of many random starts, while it is traced, for things that no array can hold."""
    return _converted(name, start, _number_array)


def _converted(name: str, tree: Any, convert: Callable[[str, Any], jax.Array]) -> Any:
    """A tree whose leaves, lists of numbers among them, are converted, each knowing its own name."""
    try:
        named, structure = tree_flatten_with_path(tree, is_leaf=_is_array_like)
    except ValueError:  # JAX sorts the keys of a dict
        raise ValueError(f"{name}: expected dictionaries with keys that can be sorted, got {show(tree)}.") from None
    return structure.unflatten([convert(name + keystr(path), leaf) for path, leaf in named])


def rows(name: str, data: Any) -> int:
    """Check that all arrays in data have the same number of rows, at least one, and return it."""
    lengths = {}
    for path, leaf in tree_flatten_with_path(data)[0]:
        where = name + keystr(path)
        if leaf.ndim == 0:
            cure = ": pass one array for each column, not one tuple for each row" if len(path) > 1 else ""
            raise ValueError(f"{where}: expected an array with one row for each observation, got a single number{cure}.")
        lengths[where] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise ValueError(f"{name}: expected equally many rows in every array, got: {got}.")
    n_rows = next(iter(lengths.values()))
    if n_rows == 0:
        raise ValueError(f"{name}: expected at least one row, got none.")
    return n_rows


def resembling(name: str, arrays: Any, data: Any) -> None:
    """Check that other data have the structure of the data, and rows of their shapes."""
    if jax.tree.structure(arrays) != jax.tree.structure(data):
        raise ValueError(f"{name}: expected the structure of the data, {layout(data)}, got {layout(arrays)}.")
    for (path, mine), theirs in zip(tree_flatten_with_path(arrays)[0], jax.tree.leaves(data), strict=True):
        if mine.shape[1:] != theirs.shape[1:]:
            where = name + keystr(path)
            raise ValueError(f"{where}: expected rows of the shape {theirs.shape[1:]} that the data have, got {mine.shape[1:]}.")


def _is_array_like(node: Any) -> bool:
    """Whether a node of a tree stands for one array: a list of numbers, or what NumPy takes (a column of a table).

    A list of numbers in which None stands for some is one, too, and refused as such: it is no tree.
    """
    if isinstance(node, list):
        numbers_too = any(isinstance(item, _PLAIN) for item in node)
        return bool(node) and all(
            (isinstance(item, list) and _is_array_like(item)) or (numbers_too and (item is None or isinstance(item, _PLAIN)))
            for item in node
        )
    return hasattr(node, "__array__") or isinstance(node, Iterator)  # JAX warns of iterators


def _on_device(name: str, array: Any, dtype: Any) -> jax.Array:
    """An array of NumPy's or of JAX's as one of JAX's, in a precision or its own; nothing is compiled for NumPy's."""
    array = _cast(name, array, dtype)
    return jax.device_put(array) if isinstance(array, np.ndarray) else array


def _cast(name: str, array: Any, dtype: Any) -> Any:
    """An array of NumPy's or of JAX's in a precision or its own, as far as JAX's flags allow that."""
    target = jax.dtypes.canonicalize_dtype(dtype or array.dtype)
    if isinstance(array, jax.Array) and array.dtype == target:
        return array
    if isinstance(array, jax.Array) and (is_traced(array) or not array.is_fully_addressable):
        return array.astype(target)
    try:
        with np.errstate(over="raise"):
            return np.asarray(array).astype(target, copy=False)
    except FloatingPointError:
        largest = np.max(np.abs(array), where=np.isfinite(array), initial=0)
        raise ValueError(f"{name}: holds numbers of {largest:.3g}, beyond {target}: {_WIDER}.") from None


def _number_array(name: str, leaf: Any, *, boolean: bool = False) -> Any:
    """One leaf as an array of NumPy's or of JAX's; boolean says whether truth values may stand in it."""
    if isinstance(leaf, jax.Array):
        array = leaf
    else:
        try:
            array = np.asarray(leaf)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected numbers in rows of equal length, got {show(leaf)}.") from None
    if not (jnp.issubdtype(array.dtype, jnp.number) or (boolean and array.dtype == bool)):
        _refuse(name, leaf, array)
    if isinstance(array, jax.Array):
        return array
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    narrow = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
    if array.dtype.kind in "iu" and narrow.itemsize < array.dtype.itemsize and array.size:
        for number in (int(array.min()), int(array.max())):
            if not np.iinfo(narrow).min <= number <= np.iinfo(narrow).max:
                raise ValueError(f"{name}: holds integers of {number}, beyond 32 bits: {_WIDER}.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _refuse(name: str, leaf: Any, array: Any) -> NoReturn:
    """Name the first entry of what is no array of numbers that is no number."""
    if not isinstance(array, jax.Array):
        for index, item in np.ndenumerate(array):
            item = item.item() if isinstance(item, np.str_ | np.bytes_ | np.bool_) else item
            if isinstance(item, bool) or not isinstance(item, numbers.Real):
                raise TypeError(f"{entry(name, index)}: expected numbers, got {show(item)}.")
            if isinstance(item, int) and not -(2**63) <= item < 2**64:
                raise TypeError(f"{entry(name, index)}: expected numbers of at most 64 bits, got {show(item)}.")
        if array.size:
            raise TypeError(f"{name}: expected numbers, got Python objects such as {show(array.flat[0])}: convert them to float.")
    raise TypeError(f"{name}: expected numbers, got {show(leaf)}.")


def first(wrong: np.ndarray) -> tuple[int, ...] | None:
    """Where in an array the first number is that is wrong; None where none is."""
    return tuple(map(int, np.unravel_index(np.argmax(wrong), wrong.shape))) if np.any(wrong) else None


def schedule(name: str, value: Any, params: Any) -> None:
    """Check what a function step -> rate returns: a number, or a pytree of rates like params."""

    def rates(step: Any) -> Any:
        found = value(step)
        leaves = jax.tree.leaves(found)
        if not leaves or not all(is_number(leaf) or _is_real(leaf) for leaf in leaves):
            raise _checks.Refused(f"{name}: expected a function step -> rate, it returned {show(found)}.")
        return jax.tree.map(jnp.asarray, found)

    rate = jax.eval_shape(rates, jax.ShapeDtypeStruct((), jnp.int32))
    per_variable(name, jax.tree.map(lambda leaf: np.ones(leaf.shape), rate), params)


def _is_real(leaf: Any) -> bool:
    kinds = jnp.floating, jnp.integer
    return isinstance(leaf, jax.Array | np.ndarray) and any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def per_variable(name: str, value: Any, params: Any) -> None:
    """Check a hyperparameter > 0 that is one number, or a pytree like params that holds a number or an array for each."""
    if is_number(value):
        return _checks.positive(name, value)
    if jax.tree.structure(value, is_leaf=_is_array_like) != jax.tree.structure(params):
        raise ValueError(f"{name}: expected a number, or a pytree like the parameters ({layout(params)}), got {show(value)}.")
    values = jax.tree.leaves(value, is_leaf=_is_array_like)
    for one, (path, leaf) in zip(values, tree_flatten_with_path(params)[0], strict=True):
        where = name + keystr(path)
        _checks.positive(where, one, several=True)
        shape = np.shape(one)
        fits = len(shape) <= len(leaf.shape) and all(n in (1, m) for n, m in zip(shape[::-1], leaf.shape[::-1], strict=False))
        if not fits:
            raise ValueError(f"{where}: expected the shape {leaf.shape} of the parameters, got shape {shape}.")
    return None


def like_parameters(name: str, value: Any, params: Any, convert: Callable[[str, Any, Any], Any]) -> Any:
    """Check a pytree like the parameters, or with one value for a branch of theirs, and return it converted, leaf by leaf.

    `convert(name, value, parameter)` gets each value, a number, an array, a list of numbers or None, with the parameter it is for.
    """
    try:
        whole = jax.tree.broadcast(value, params, is_leaf=_is_value)
    except ValueError:
        expected = f"one value, or a pytree like the parameters ({layout(params)})"
        raise ValueError(f"{name}: expected {expected}, got {show(value)}.") from None
    named, structure = tree_flatten_with_path(params)
    values = jax.tree.leaves(whole, is_leaf=_is_value)
    converted = [convert(name + keystr(path), one, leaf) for one, (path, leaf) in zip(values, named, strict=True)]
    return structure.unflatten(converted)


def _is_value(node: Any) -> bool:
    if isinstance(node, list):
        return bool(node) and (_is_array_like(node) or all(item is None or is_number(item) for item in node))
    return node is None or _is_array_like(node)


def fitting(name: str, array: np.ndarray, like: Any) -> np.ndarray:
    """Check that an array has the shape of a parameter, or can be broadcast to it, and return it in that shape."""
    try:
        return np.array(np.broadcast_to(array, like.shape))
    except ValueError:
        raise ValueError(f"{name}: expected the shape {like.shape} of the parameters, got shape {array.shape}.") from None
