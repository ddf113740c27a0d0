"""The checks of arrays: what stands for one, whether it holds numbers, and whether a precision holds them."""

import functools
import numbers
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import narrow, plain
from jaxgd._checks.check import entry, show
from jaxgd._shards import host_rows, is_split, map_pieces
from jaxgd._trees import is_floating, is_leaf, is_traced

_WIDER = "pass dtype='float64', or set JAX's 64-bit flag"
EXACT = 2**24  # float32 holds all integers up to here
_COMPARED = 2**13  # rows of an array on several devices that are looked at together
_NUMBER = (bool, int, float, np.number, np.bool_)


def is_array_like(node: Any) -> bool:
    """Return whether a node of a tree stands for one array: a list of numbers, or what NumPy takes (a column of a table).

    A list of numbers in which None stands for some is one, too, and refused as such: it is no tree.
    """
    if isinstance(node, list):
        numbers_too = any(isinstance(item, _NUMBER) for item in node)
        return bool(node) and all(
            (isinstance(item, list) and is_array_like(item)) or (numbers_too and (item is None or isinstance(item, _NUMBER)))
            for item in node
        )
    if isinstance(node, Iterator):  # JAX warns of iterators
        return True
    return hasattr(node, "__array__") and (isinstance(node, np.ndarray | jax.Array) or is_leaf(node))  # else a node with an array


def number_array(name: str, leaf: Any, *, boolean: bool = False) -> Any:
    """Return one leaf as a NumPy or JAX array; `boolean` says whether truth values are allowed."""
    if isinstance(leaf, jax.Array):
        array = np.asarray(leaf) if is_wide(leaf) else leaf
    else:
        plain.refuse(name, leaf)
        try:
            array = np.asanyarray(leaf)
        except (TypeError, ValueError, RuntimeError) as error:
            if isinstance(leaf, list):
                raise TypeError(f"{name}: expected numbers in rows of equal length, got {show(leaf)}.") from None
            why = " ".join(str(error).split(". ")[0].split()).rstrip(".")
            raise TypeError(f"{name}: expected what NumPy takes for an array, got {show(leaf)}: {why}.") from None
        plain.refuse(name, array)
        array = np.asarray(array)
    if not (_is_number(array.dtype) or (boolean and array.dtype == bool)):
        refuse(name, leaf, array)
    if isinstance(array, jax.Array):
        return array
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    narrowed = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
    if array.dtype.kind in "iu" and narrowed.itemsize < array.dtype.itemsize and array.size:
        for number in (int(array.min()), int(array.max())):
            if not np.iinfo(narrowed).min <= number <= np.iinfo(narrowed).max:
                raise ValueError(f"{name}: holds integers of {number}, beyond 32 bits: {_WIDER}.")
    return array.astype(array.dtype.newbyteorder("="), copy=False).view()  # JAX may know the array itself in another precision


def _is_number(dtype: Any) -> bool:
    """Return whether a dtype is one of numbers; to NumPy a duration is an integer."""
    return isinstance(dtype, np.dtype) and (dtype.kind in "fiuc" or (dtype.kind == "V" and jnp.issubdtype(dtype, jnp.number)))


def refuse(name: str, leaf: Any, array: Any = None) -> NoReturn:
    """Name the first entry of what is no array of numbers that is no number."""
    if array is not None and not isinstance(array, jax.Array):
        for index, item in np.ndenumerate(array):
            item = item.item() if isinstance(item, np.str_ | np.bytes_ | np.bool_) else item
            if isinstance(item, bool) or not isinstance(item, numbers.Real):
                raise TypeError(f"{entry(name, index)}: expected numbers, got {show(item)}.")
            if isinstance(item, int) and not -(2**63) <= item < 2**64:
                raise TypeError(f"{entry(name, index)}: expected numbers of at most 64 bits, got {show(item)}.")
        if array.size:
            raise TypeError(f"{name}: expected numbers, got Python objects such as {show(array.flat[0])}: convert them to float.")
    raise TypeError(f"{name}: expected numbers, got {show(leaf)}.")


def in_data(name: str, leaf: Any, dtype: Any, place: Callable[[Any], Any]) -> Any:
    """Return an array of data where `place` puts it, in a precision or its own.

    Nothing is compiled for NumPy arrays.

    Integers of 64 bits which JAX would cut to 32 stay NumPy's: whether the cost may compute with them in 32 bits is known when it
    has been traced, see `overflow`.
    """
    array = number_array(name, leaf, boolean=True)
    if is_wide(array):
        return array
    return place(cast(name, array, dtype if is_floating(array.dtype) else None, exact=True))


def on_device(array: Any) -> Any:
    """Return an array as a JAX array; nothing is compiled for it."""
    return jax.device_put(array) if isinstance(array, np.ndarray) else array


def is_wide(array: Any) -> bool:
    """Return whether an array holds 64-bit integers, to be looked at, that JAX would now cut to 32 bits."""
    dtype = getattr(array, "dtype", None)
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iu" or jax.dtypes.canonicalize_dtype(dtype) == dtype:
        return False
    return isinstance(array, np.ndarray) or (not is_traced(array) and array.is_fully_addressable)


def cast(name: str, array: Any, dtype: Any, *, exact: bool = False) -> Any:
    """Return an array in a precision or its own, as far as the flags of JAX allow.

    With `exact` numbers that differ have to differ in that precision too, see `narrow`.
    """
    target = jax.dtypes.canonicalize_dtype(dtype or array.dtype)
    if isinstance(array, jax.Array) and array.dtype == target:
        return array
    if isinstance(array, jax.Array) and (is_traced(array) or not array.is_fully_addressable):
        return array.astype(target)
    array = array if is_split(array) else np.asarray(array)
    narrowed = map_pieces(functools.partial(_narrowed, name, target=target), array)
    if exact and target.itemsize < array.dtype.itemsize and array.dtype.itemsize >= 8:
        seen = host_rows(array, slice(0, None, -(-array.shape[0] // _COMPARED) or 1)) if is_split(array) else array
        column = narrow.merged(seen, narrowed if seen is array else None)
        if column is not None:
            raise ValueError(merging(name, seen, column))
    return narrowed


def _narrowed(name: str, array: np.ndarray, target: Any) -> np.ndarray:
    """Return an array in a precision that holds its numbers."""
    try:
        with np.errstate(over="raise"):
            return array.astype(target, copy=False)
    except FloatingPointError:
        largest = np.max(np.abs(array), where=np.isfinite(array), initial=0)
        raise ValueError(f"{name}: holds numbers of {largest:.3g}, beyond {target}: {_WIDER}.") from None


def as_dtype(name: str, array: Any, dtype: Any) -> Any:
    """Return rows in the dtype that was found for others like them, where it holds their numbers."""
    if array.dtype == dtype:
        return array
    array = np.asarray(array)
    if array.dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        if max(-low, high) > EXACT:
            cure = "pass a column of 32-bit integers or of floats, or dtype='float64'"
            raise ValueError(f"{name}: holds integers of 64 bits from {low} to {high}, of which 32 bits may lose some: {cure}.")
    return cast(name, array, dtype)


def merging(name: str, array: np.ndarray, column: int) -> str:
    """Return what to say of a column whose values merge in 32 bits."""
    where = f"{name}, column {column}" if array.ndim > 1 else name
    values = np.real(array[..., column] if array.ndim > 1 else array)
    values = values[np.isfinite(values)]
    got = f"from {float(values.min()):.10g} to {float(values.max()):.10g}"
    return f"{where}: holds numbers {got} that 32 bits can't tell apart: subtract an offset, or pass dtype='float64'."


def first(wrong: np.ndarray) -> tuple[int, ...] | None:
    """Return where in an array the first number is that is wrong; None where none is."""
    return tuple(map(int, np.unravel_index(np.argmax(wrong), wrong.shape))) if np.any(wrong) else None
