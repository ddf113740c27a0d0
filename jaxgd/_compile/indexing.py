"""Gather and scatter as loops, for native functions.

The compiler can't scatter in a native function, nor gather from a large array that it would have to transpose. Here a window of the
array is read or written at each index, one after the other. A window that would not lie inside the array is left out, or moved to
the edge, as the mode of the operation says.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

COMBINED: dict[str, Any] = {"scatter": lambda old, new: new, "scatter-add": lax.add, "scatter_add": lax.add}
"""How an update is combined with the old values, by the names of the operations."""


class _Places(NamedTuple):
    """The places of windows in an array.

    Attributes:
        columns: the first index of each window along each axis, (number,); None for an axis along which all are zero.
        limits: the largest first index along each axis for which a window lies inside.
        window: the shape of a window.
        number: the number of windows.
    """

    columns: list[Any]
    limits: list[Any]
    window: tuple[int, ...]
    number: int

    @staticmethod
    def of(indices: jax.Array, shape: Any, window: Any, along: Any, batching: Any) -> "_Places":
        """Return the places that indices stand for.

        They are indices `along` some axes of the array. `batching` has pairs of axes of the array and of the indices themselves,
        along which each row of indices belongs to one row of the array.
        """
        if indices.dtype.itemsize < 4:
            indices = lax.convert_element_type(indices, np.int32)
        several, count = indices.shape[:-1], math.prod(indices.shape[:-1])
        found = dict(zip(along, (indices[..., k] for k in range(len(along))), strict=True))
        found |= {axis: lax.broadcasted_iota(indices.dtype, several, own) for axis, own in zip(*batching, strict=True)}
        columns = [lax.reshape(found[axis], (count,)) if axis in found else None for axis in range(len(shape))]
        limits = [indices.dtype.type(size - length) for size, length in zip(shape, window, strict=True)]
        return _Places(columns, limits, tuple(window), count)

    def at(self, k: Any) -> tuple[list[Any], Any]:
        """Return the first indices of a window, moved so that it lies inside, and whether it did before."""
        zero = self.limits[0].dtype.type(0)
        asked = [zero if column is None else lax.dynamic_index_in_dim(column, k, keepdims=False) for column in self.columns]
        place = [lax.clamp(zero, at, limit) for at, limit in zip(asked, self.limits, strict=True)]
        return place, functools.reduce(lax.bitwise_and, map(lax.eq, asked, place))


def scattered(eqn: Any, operand: jax.Array, indices: jax.Array, updates: jax.Array) -> jax.Array:
    """Return what a scatter computes: an array with windows of it updated."""
    numbers, drops = eqn.params["dimension_numbers"], _drops(eqn)
    axes = [axis for axis in range(updates.ndim) if axis not in numbers.update_window_dims]
    lengths = iter(updates.shape[axis] for axis in numbers.update_window_dims)
    single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = [1 if axis in single else next(lengths) for axis in range(operand.ndim)]
    batching = numbers.operand_batching_dims, numbers.scatter_indices_batching_dims
    places = _Places.of(indices, operand.shape, window, numbers.scatter_dims_to_operand_dims, batching)
    rows = lax.reshape(lax.transpose(updates, (*axes, *numbers.update_window_dims)), (places.number, *window))

    def turn(k: Any, found: jax.Array) -> jax.Array:
        place, inside = places.at(k)
        old = lax.dynamic_slice(found, place, window)
        new = COMBINED[eqn.primitive.name](old, lax.dynamic_index_in_dim(rows, k, keepdims=False))
        return lax.dynamic_update_slice(found, jnp.where(inside, new, old) if drops else new, place)

    return lax.fori_loop(0, places.number, turn, operand)


def gathered(eqn: Any, operand: jax.Array, indices: jax.Array) -> jax.Array:
    """Return what a gather computes: windows of an array."""
    numbers, window, fills = eqn.params["dimension_numbers"], eqn.params["slice_sizes"], _drops(eqn)
    batching = numbers.operand_batching_dims, numbers.start_indices_batching_dims
    places = _Places.of(indices, operand.shape, window, numbers.start_index_map, batching)
    other = operand.dtype.type(_filling(eqn.params["fill_value"], operand.dtype))

    def turn(k: Any, found: jax.Array) -> jax.Array:
        place, inside = places.at(k)
        row = lax.dynamic_slice(operand, place, window)
        return lax.dynamic_update_index_in_dim(found, jnp.where(inside, row, other) if fills else row, k, 0)

    rows = lax.fori_loop(0, places.number, turn, jnp.zeros((places.number, *window), operand.dtype))
    single = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    lengths = [length for axis, length in enumerate(window) if axis not in single]
    several = indices.shape[:-1]
    axes = iter(range(len(several)))
    order = [
        len(several) + numbers.offset_dims.index(axis) if axis in numbers.offset_dims else next(axes)
        for axis in range(len(several) + len(lengths))
    ]
    return lax.transpose(lax.reshape(rows, (*several, *lengths)), order)


def _drops(eqn: Any) -> bool:
    """Return whether windows that don't lie inside are left out."""
    return eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP


def _filling(value: Any, dtype: Any) -> Any:
    """Return the number that fills a window outside: JAX's own choice unless a value is given."""
    if value is not None:
        return value
    if dtype.kind == "f":
        return np.nan
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max
