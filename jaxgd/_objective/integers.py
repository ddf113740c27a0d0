"""Columns of 64-bit integers on their way to the device, where JAX, without its 64-bit flag, has 32 bits for them.

They stay integers where the cost indexes with them, compares them, or computes what fits, and become floats where arithmetic could
overflow, if float32 holds them exactly: `x**2` is then what NumPy makes of it, to rounding. Other columns are refused.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks import narrow
from jaxgd._checks.check_arrays import EXACT, is_wide, merging, on_device
from jaxgd._objective.overflow import Range, follow, hull, range_of


class _Column(NamedTuple):
    """A leaf of the data, beside the same leaf of others like them: their names, whether they are to be cut, and their range."""

    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    wide: bool
    range: Range | None


def settled(tables: dict[str, Any], traced: Any, n_rows: int | None = None) -> tuple[tuple[Any, ...], str]:
    """Return data on the device in 32 bits, and the first column that has become floats.

    Its name is '' where there is none. `tables` are named as in errors. The last argument of the traced cost is the first of
    them, or a part of its rows. `n_rows` are those that the cost gets at most, all of them where it is None.
    """
    columns = _columns(tables)
    found = follow(getattr(traced, "function", traced), [column.range for column in columns], n_rows or _rows(columns))
    for k, column in enumerate(columns):
        if column.wide and column.range is not None:
            _check(column, column.range, overflows=k in found.overflowing, rounded=k in found.rounded)
    parts = [_settled(column, as_float=k in found.overflowing) for k, column in enumerate(columns)]
    sides = zip(tables.values(), zip(*parts, strict=True), strict=True)
    arrays = tuple(jax.tree.unflatten(jax.tree.structure(table), leaves) for table, leaves in sides)
    return arrays, columns[min(found.overflowing)].names[0] if found.overflowing else ""


def mixed(name: str) -> str:
    """Return what to say of a column that would have to be both integers and floats."""
    needs = "the cost needs integers here, and computes with them what could overflow in 32 bits"
    return f"{name}: {needs}: pass another column of floats to compute with, or dtype='float64'."


def _columns(tables: dict[str, Any]) -> list[_Column]:
    """Return the leaves of all tables side by side."""
    named = [[(name + keystr(path), leaf) for path, leaf in tree_flatten_with_path(table)[0]] for name, table in tables.items()]
    columns = []
    for k, parts in enumerate(zip(*named, strict=True)):
        names, leaves = zip(*parts, strict=True)
        wide = any(map(is_wide, leaves))
        ranges = [one for leaf in leaves if (one := range_of(leaf, k if wide else None)) is not None]
        columns.append(_Column(names, leaves, wide, hull(*ranges) if len(ranges) == len(leaves) else None))
    return columns


def _rows(columns: list[_Column]) -> int:
    """Return the largest number of rows."""
    return max(np.shape(leaf)[0] if np.shape(leaf) else 1 for column in columns for leaf in column.leaves)


def _check(column: _Column, limits: Range, *, overflows: bool, rounded: bool) -> None:
    """Check that a column can be what the cost makes of it: floats where arithmetic overflows, or where the cost converts it."""
    largest = max(-limits.low, limits.high)
    if overflows and largest > EXACT:
        why = f"the cost computes with these integers of 64 bits, as large as {largest}, and in 32 bits that could overflow"
        raise ValueError(f"{column.names[0]}: {why}: pass a column of floats, or dtype='float64'.")
    if rounded and not overflows:
        for name, leaf in zip(column.names, map(np.asarray, column.leaves), strict=True):
            place = narrow.merged(leaf)
            if place is not None:
                raise ValueError(merging(name, leaf, place))


def _settled(column: _Column, *, as_float: bool) -> tuple[Any, ...]:
    """Return the leaves of a column on the device."""
    if as_float:
        return tuple(on_device(np.asarray(leaf, np.float32)) for leaf in column.leaves)
    return tuple(map(on_device, column.leaves))
