"""The columns of the data: where they are centred, how large they are, and what 32 bits leave of them.

A column far from zero makes parameters depend on each other: for an intercept and a slope the condition is about 4 (mean / std)**2,
and a first-order method takes about as many steps. Columns of different sizes do the same in the parameters' own units. Whether the
cost cares is found by trying: it is evaluated with the column centred, or all columns scaled, and its curvature compared.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks.check_trees import flattened
from jaxgd._nonfinite import in_data
from jaxgd._shards import host_rows
from jaxgd._text import several
from jaxgd._trees import is_floating

_ROWS = 2**13  # that are looked at
_WIDEST = 1024  # columns of an array, above which it is not looked at column by column
OFFSET = 10.0  # standard deviations from zero: a condition of 400, from which on first-order methods crawl
SIZES = 1e3  # between columns: a condition of a million in the parameters' own units
COARSE = 1e-4  # of the standard deviation, that rounding to 32 bits may be off; ten times as much is refused


class Column(NamedTuple):
    """A column of the data, or an array of one dimension.

    Attributes:
        name: such as "column 2 of data[0]".
        dtype: that of the data as they came.
        mean: its mean.
        std: its standard deviation.
        size: the root of the mean of its squares.
        rounding: the root mean square of what 32 bits change, where the run rounds to them, else 0.
    """

    name: str
    dtype: str
    mean: float
    std: float
    size: float
    rounding: float

    @property
    def constant(self) -> bool:
        """Whether all its values are the same, up to rounding."""
        return self.std <= 64 * float(np.finfo(np.float64).eps) * self.size

    @property
    def spread(self) -> float:
        """The size of the column once it is centred, where that is needed."""
        return self.std if self.offset > OFFSET else self.size

    @property
    def offset(self) -> float:
        """How many standard deviations its mean is from zero; 0 for a constant."""
        return 0.0 if self.constant or not np.isfinite(self.std) else abs(self.mean) / self.std


class Place(NamedTuple):
    """The place of a column: the number of its leaf, and the index in the last axis, None for an array of one dimension."""

    leaf: int
    column: int | None


def columns(raw: Any, arrays: Any) -> dict[Place, Column]:
    """Return the columns of data, as they came (`raw`) and as the run has them."""
    named = [(path, leaf) for path, leaf in flattened("data", raw)[0]]
    found: dict[Place, Column] = {}
    for number, ((path, came), array) in enumerate(zip(named, jax.tree.leaves(arrays), strict=True)):
        if array.ndim == 0 or array.size == 0 or not _is_real(array.dtype) or not getattr(array, "is_fully_addressable", True):
            continue
        width = 1 if array.ndim == 1 else array.shape[-1]
        if width <= _WIDEST:
            place = "data" + keystr(path)
            came = came if isinstance(came, np.ndarray | jax.Array) else np.asarray(came)
            found |= dict(_of_array(number, place, came, array, width))
    return found


def _of_array(number: int, name: str, came: Any, array: Any, width: int) -> Iterator[tuple[Place, Column]]:
    """Yield the columns of an array with their places."""
    values = host_rows(came, slice(0, None, -(-array.shape[0] // _ROWS))).astype(np.float64).reshape(-1, width)
    finite = np.isfinite(values)
    count = np.maximum(np.sum(finite, axis=0), 1)
    values = np.where(finite, values, 0)
    mean = np.sum(values, axis=0) / count
    spread = np.sqrt(np.sum(np.where(finite, values - mean, 0) ** 2, axis=0) / count)
    size = np.sqrt(np.sum(values**2, axis=0) / count)
    narrow = is_floating(array.dtype) and array.dtype.itemsize == 4
    change = np.sqrt(np.sum((values.astype(np.float32) - values) ** 2, axis=0) / count) if narrow else np.zeros(width)
    for k in np.flatnonzero(np.any(finite, axis=0)).tolist():
        where, place = (name, None) if array.ndim == 1 else (f"column {k} of {name}", k)
        numbers = (float(of_all[k]) for of_all in (mean, spread, size, change))
        yield Place(number, place), Column(where, str(came.dtype), *numbers)


def _is_real(dtype: Any) -> bool:
    return is_floating(dtype) or (jnp.issubdtype(dtype, jnp.integer))


def changed(arrays: Any, changes: dict[Place, tuple[float, float]]) -> Any:
    """Return data whose columns are shifted down by a number and then divided by another; integers are shifted alone."""
    leaves, structure = jax.tree.flatten(arrays)
    for number in {place.leaf for place in changes}:
        leaf = leaves[number]
        width = 1 if leaf.ndim == 1 else leaf.shape[-1]
        shift, scale = np.zeros(width), np.ones(width)
        for place, (down, by) in changes.items():
            if place.leaf == number:
                shift[place.column or 0], scale[place.column or 0] = down, by
        if leaf.ndim == 1:
            shift, scale = shift[0], scale[0]
        if is_floating(leaf.dtype):
            leaves[number] = (leaf - jnp.asarray(shift, leaf.dtype)) / jnp.asarray(scale, leaf.dtype)
        else:
            leaves[number] = leaf - jnp.asarray(np.round(shift), leaf.dtype)
    return structure.unflatten(leaves)


def facts(found: dict[Place, Column], arrays: Any, *, finite: bool) -> list[tuple[str, str]]:
    """Return what is worth knowing of the columns, and no reason to worry."""
    lost = in_data("data", arrays) if finite else None
    told = [] if lost is None else [("not finite", f"{lost}, which the cost masks")]
    leaves = tree_flatten_with_path(arrays)[0]
    integers = ["data" + keystr(path) for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.integer)]
    constant = [one.name for one in found.values() if one.constant]
    told += [("integers", several(integers))] if integers else []
    return told + ([("constant", several(constant))] if constant else [])
