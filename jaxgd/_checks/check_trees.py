"""The checks of trees: a start, data, and what has to resemble the parameters."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, GetAttrKey, SequenceKey, keystr, tree_flatten_with_path

from jaxgd._checks import check, check_arrays
from jaxgd._checks.check import show
from jaxgd._checks.check_arrays import is_array_like, number_array
from jaxgd._trees import is_floating, is_leaf, is_number, is_parameter, is_traced

_SMALL = 4096  # numbers
_Role = Literal["free", "fixed", "setting"]


def layout(tree: Any) -> str:
    """Return the structure of a tree, with a star for each array.

    >>> layout({"a": 1.0, "b": (2.0, 3.0)}), layout(1.0)
    ("{'a': *, 'b': (*, *)}", 'one array')
    """
    text = str(jax.tree.structure(tree)).removeprefix("PyTreeDef(").removesuffix(")")
    return "one array" if text == "*" else text


def parameters(name: str, start: Any, dtype: Any = None, fixed: Any = None) -> Any:
    """Check a start and return it as a pytree: parameters as floating arrays, everything else as it came.

    Parameters are all numbers, and lists and arrays of them; integers become floats. What is `fixed` as a whole and holds no
    floating numbers is none, and comes back as it is, whatever it is; so do truth values, functions and random keys, fixed or not.
    Floating arrays come back in `dtype`, or in their own where it is None.
    """
    named, structure = flattened(name, start)
    roles = _roles(fixed, start, named, structure)
    leaves = [_start_leaf(name + keystr(path), leaf, dtype, role) for (path, leaf), role in zip(named, roles, strict=True)]
    for (path, _), leaf in zip(named, leaves, strict=True):
        if is_parameter(leaf) and (isinstance(leaf, np.ndarray) or (not is_traced(leaf) and leaf.is_fully_addressable)):
            array = np.asarray(leaf)
            index = check_arrays.first(~np.isfinite(array))
            if index is not None:
                raise ValueError(f"{check.entry(name + keystr(path), index)}: expected a finite number, got {array[index]!s}.")
    if not any(is_parameter(leaf) and leaf.size for leaf in leaves):
        if "fixed" in roles:
            raise ValueError(ALL_FIXED)
        for (path, _), leaf in zip(named, leaves, strict=True):
            if not is_parameter(leaf):
                check_arrays.refuse(name + keystr(path), leaf)
        raise ValueError(f"{name}: expected at least one number, got {show(start)}.")
    return structure.unflatten(leaves)


ALL_FIXED = "fixed: expected at least one parameter that is free, got True for all."


def _roles(fixed: Any, start: Any, named: list[Any], structure: Any) -> list[_Role]:
    """Return whether the argument `fixed` holds all of each leaf, by its place. Errors in it are found later."""
    masks = [False] * len(named) if fixed is None else values_for("fixed", fixed, structure.unflatten([0] * len(named)))
    roles: list[_Role] = []
    for (path, leaf), mask in zip(named, masks, strict=True):
        held = mask is True or (is_array_like(mask) and np.size(mask) > 0 and check.all_true(mask))
        roles.append("setting" if _is_in_layer(start, path, leaf) else "fixed" if held else "free")
    return roles


def _is_in_layer(start: Any, path: tuple[Any, ...], leaf: Any) -> bool:
    """Return whether a leaf is a plain number or a name in an Equinox layer, such as a dropout rate."""
    if not (isinstance(leaf, bool | int | float | str) and path and isinstance(path[-1], GetAttrKey)):
        return False
    node = start
    for key in path[:-1]:
        if isinstance(key, GetAttrKey):
            node = getattr(node, key.name)
        elif isinstance(key, SequenceKey | DictKey):
            node = node[key.idx if isinstance(key, SequenceKey) else key.key]
        else:
            return False
    return type(node).__module__.partition(".")[0] == "equinox"


def _start_leaf(name: str, leaf: Any, dtype: Any, role: _Role) -> Any:
    """Return one leaf of a start: a floating array, or, where it is no parameter, what it came as.

    A NumPy array stays one where it is small: a program takes it in faster than it is put on a device beforehand.
    """
    if is_key(leaf) or _is_setting(leaf, role):
        return leaf
    array = number_array(name, leaf, boolean=True)
    if is_floating(array.dtype):
        array = check_arrays.cast(name, array, dtype)
    elif array.dtype == bool or role == "fixed":
        return array
    elif jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected real numbers, got complex ones: use the real and the imaginary parts as parameters.")
    else:
        array = check_arrays.cast(name, array, dtype or jnp.result_type(float))
    return jax.device_put(array) if isinstance(array, np.ndarray) and array.size > _SMALL else array


def _is_setting(leaf: Any, role: _Role) -> bool:
    """Return whether a leaf of a start is neither a parameter nor an array.

    Such leaves are functions, truth values, and whatever else is fixed.
    """
    if isinstance(leaf, bool | np.bool_) or role == "setting" or (role == "fixed" and isinstance(leaf, np.integer)):
        return True
    return not is_array_like(leaf) and (callable(leaf) or (role == "fixed" and not isinstance(leaf, float)))


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is a random key of either style, or a counter beside one."""
    return isinstance(leaf, jax.Array) and (jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or leaf.dtype == jnp.uint32)


def data_arrays(name: str, data: Any, dtype: Any = None, place: Callable[[Any], Any] = check_arrays.on_device) -> Any:
    """Check data and return them as a pytree of arrays: lists of numbers and what NumPy takes become arrays.

    Floating arrays come back in `dtype`, or in their own where it is None; see `check_arrays.in_data` for integers of 64 bits.
    `place` puts an array on a device.
    """
    named, structure = flattened(name, data)
    if not named:
        raise ValueError(f"{name}: expected a pytree of arrays, got {show(data)}.")
    return structure.unflatten([check_arrays.in_data(name + keystr(path), leaf, dtype, place) for path, leaf in named])


def drawn(name: str, start: Any, fixed: Any = None, count: int | None = None) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Check one of many random starts while it is traced. Return its arrays, and how to put those of all starts in their places.

    With a `count` it is all of them, made by a method `many`, and the arrays have to have a leading axis.
    """
    named, structure = flattened(name, start)
    roles = _roles(fixed, start, named, structure)
    settings = {place: leaf for place, ((_, leaf), role) in enumerate(zip(named, roles, strict=True)) if _is_setting(leaf, role)}
    arrays = [
        leaf if is_key(leaf) else number_array(name + keystr(path), leaf, boolean=True)
        for place, (path, leaf) in enumerate(named)
        if place not in settings
    ]

    for array in arrays:
        if count is not None and array.shape[:1] != (count,):
            expected = f"many(key, {count}) to return arrays with a leading axis of {count}"
            raise ValueError(f"{name}: expected {expected}, got shape {array.shape}.")

    def joined(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        return structure.unflatten([settings[place] if place in settings else next(rest) for place in range(len(named))])

    return arrays, joined


def flattened(name: str, tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Return the leaves of a tree with their paths, lists of numbers among them, and its structure."""
    try:
        return tree_flatten_with_path(tree, is_leaf=is_array_like)
    except ValueError:  # JAX sorts the keys of a dict
        raise ValueError(f"{name}: expected dictionaries with keys that can be sorted, got {show(tree)}.") from None


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


def schedule(name: str, value: Any, params: Any) -> None:
    """Check what a function step -> rate returns: a number, or a pytree of rates like params."""

    def rates(step: Any) -> Any:
        found = value(step)
        leaves = jax.tree.leaves(found)
        if not leaves or not all(is_number(leaf) or _is_real(leaf) for leaf in leaves):
            raise check.Refused(f"{name}: expected a function step -> rate, it returned {show(found)}.")
        return jax.tree.map(jnp.asarray, found)

    rate = jax.eval_shape(rates, jax.ShapeDtypeStruct((), jnp.int32))
    per_variable(name, jax.tree.map(lambda leaf: np.ones(leaf.shape), rate), params)


def _is_real(leaf: Any) -> bool:
    kinds = jnp.floating, jnp.integer
    return isinstance(leaf, jax.Array | np.ndarray) and any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def per_variable(name: str, value: Any, params: Any) -> None:
    """Check a positive hyperparameter: one number, or a number or an array for each parameter."""
    if is_number(value):
        return check.positive(name, value)
    for one, (path, leaf) in zip(rates_for(name, value, params), tree_flatten_with_path(params)[0], strict=True):
        where = name + keystr(path)
        check.positive(where, one, several=True)
        shape = np.shape(one)
        fits = len(shape) <= len(leaf.shape) and all(n in (1, m) for n, m in zip(shape[::-1], leaf.shape[::-1], strict=False))
        if not fits:
            raise ValueError(f"{where}: expected the shape {leaf.shape} of the parameters, got shape {shape}.")
    return None


def rates_for(name: str, value: Any, params: Any) -> list[Any]:
    """Return the value for each of the parameters, from a pytree like them. Values that belong to None are left out."""
    leaves, structure = _with_none(params)
    try:
        values = structure.flatten_up_to(value)
    except (ValueError, TypeError):
        values = []
    wanted = [one for one, leaf in zip(values, leaves, strict=False) if leaf is not None]
    if not values or not all(is_leaf(one) or is_array_like(one) for one in wanted):
        raise ValueError(f"{name}: expected a number, or a pytree like the parameters ({layout(params)}), got {show(value)}.")
    return wanted


def like_parameters(name: str, value: Any, params: Any, convert: Callable[[str, Any, Any], Any]) -> Any:
    """Check a pytree like the parameters or their branches, and return it converted leaf by leaf.

    `convert(name, value, parameter)` gets each value, a number, an array, a list of numbers or None, with the parameter it is for.
    """
    named, structure = tree_flatten_with_path(params)
    values = values_for(name, value, params)
    converted = [convert(name + keystr(path), one, leaf) for one, (path, leaf) in zip(values, named, strict=True)]
    return structure.unflatten(converted)


def values_for(name: str, value: Any, params: Any, is_value: Callable[[Any], bool] | None = None) -> list[Any]:
    """Return the value for each of the parameters, from a pytree like them or like their branches.

    None among them is passed over. `is_value` says of a node of the pytree whether it is one value: None, or what stands for an
    array, unless it is given.
    """
    is_value = is_value or _is_value
    leaves, structure = _with_none(params)
    try:
        full = jax.tree.broadcast(value, structure.unflatten([0] * len(leaves)), is_leaf=is_value)
    except ValueError:
        expected = f"one value, or a pytree like the parameters ({layout(params)})"
        raise ValueError(f"{name}: expected {expected}, got {show(value)}.") from None
    values = jax.tree.leaves(full, is_leaf=is_value)
    return [one for one, leaf in zip(values, leaves, strict=True) if leaf is not None]


def _with_none(params: Any) -> tuple[list[Any], Any]:
    """Return the leaves of a tree in which None is one, and its structure."""
    return jax.tree.flatten(params, is_leaf=lambda node: node is None)


def _is_value(node: Any) -> bool:
    if isinstance(node, list):
        return bool(node) and (is_array_like(node) or all(item is None or is_number(item) for item in node))
    return node is None or is_array_like(node)


def fitting(name: str, array: np.ndarray, like: Any) -> np.ndarray:
    """Check that an array has the shape of a parameter or broadcasts to it; return it in that shape."""
    try:
        return np.array(np.broadcast_to(array, like.shape))
    except ValueError:
        raise ValueError(f"{name}: expected the shape {like.shape} of the parameters, got shape {array.shape}.") from None
