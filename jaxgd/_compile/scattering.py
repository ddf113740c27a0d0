"""Scattering as a loop: for native functions, which have no other way to write into an array at computed places."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

COMBINED: dict[str, Any] = {"scatter": lambda old, new: new, "scatter-add": lax.add, "scatter_add": lax.add}
"""How what is written there is combined with what was there, by the names of the operations."""


def scattered(eqn: Any, operand: jax.Array, indices: jax.Array, updates: jax.Array) -> jax.Array:
    """Return an array with windows of others written into it, one after the other.

    What would lie outside is left out, or moved to the edge, as the mode of the operation says.
    """
    numbers, mode = eqn.params["dimension_numbers"], eqn.params["mode"]
    axes = [axis for axis in range(updates.ndim) if axis not in numbers.update_window_dims]
    windows = iter(updates.shape[axis] for axis in numbers.update_window_dims)
    single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = tuple(1 if axis in single else next(windows) for axis in range(operand.ndim))
    if indices.dtype.itemsize < 4:
        indices = lax.convert_element_type(indices, np.int32)
    count = math.prod(indices.shape[:-1])
    rows = lax.reshape(lax.transpose(updates, (*axes, *numbers.update_window_dims)), (count, *window))
    columns = [_column(numbers, indices, axis) for axis in range(operand.ndim)]
    drops = mode == lax.GatherScatterMode.FILL_OR_DROP
    limits = [indices.dtype.type(size - length) for size, length in zip(operand.shape, window, strict=True)]
    zero = indices.dtype.type(0)

    def turn(k: Any, found: jax.Array) -> jax.Array:
        asked = [zero if column is None else lax.dynamic_index_in_dim(column, k, keepdims=False) for column in columns]
        place = [lax.clamp(zero, at, limit) for at, limit in zip(asked, limits, strict=True)]
        row = lax.dynamic_index_in_dim(rows, k, keepdims=False)
        old = lax.dynamic_slice(found, place, window)
        new = COMBINED[eqn.primitive.name](old, row)
        if drops:
            inside = [lax.eq(at, nearest) for at, nearest in zip(asked, place, strict=True)]
            new = jnp.where(functools.reduce(lax.bitwise_and, inside), new, old)
        return lax.dynamic_update_slice(found, new, place)

    return lax.fori_loop(0, count, turn, operand)


def _column(numbers: Any, indices: jax.Array, axis: int) -> Any:
    """Return the places of the windows along an axis, in their order; None where all are zero."""
    several = indices.shape[:-1]
    if axis in numbers.scatter_dims_to_operand_dims:
        found = indices[..., numbers.scatter_dims_to_operand_dims.index(axis)]
    elif axis in numbers.operand_batching_dims:
        along = numbers.scatter_indices_batching_dims[numbers.operand_batching_dims.index(axis)]
        found = lax.broadcasted_iota(indices.dtype, several, along)
    else:
        return None
    return lax.reshape(found, (math.prod(several),))
