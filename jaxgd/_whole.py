"""The cost over all rows of large data, a part of the rows at a time, so that it takes no more memory than a batch does."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._trees import is_traced, pytree, static, wide

_ROWS = 2**16  # about as many in a part
_MANY = 2**17  # so many are looked at together


@pytree
class InParts:
    """A cost with its gradient over all rows: the mean over parts of `size` rows and a smaller rest, each weighted by its rows.

    For a cost that is a mean over rows it is the cost of all rows, up to rounding. Beside its value the cost returns nothing.
    """

    part: Any
    rest: Any  # None where the parts divide evenly
    size: int = static()

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, where it was traced."""
        return getattr(self.part, "shapes", None)

    def __call__(self, params: Any, data: Any) -> tuple[Any, Any, Any]:
        n_rows = jax.tree.leaves(data)[0].shape[0]
        n_parts, left = divmod(n_rows, self.size)

        def weighted(function: Any, first: Any, size: int) -> Any:
            rows = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, first, size), data)
            return jax.tree.map(lambda new: wide(new) * (size / n_rows), function(params, rows)[:2])

        def plus(k: Any, total: Any) -> Any:
            return jax.tree.map(jnp.add, total, weighted(self.part, k * self.size, self.size))

        if self.shapes is not None:
            zeros = jax.tree.map(lambda leaf: wide(jnp.zeros(leaf.shape, leaf.dtype)), self.shapes[:2])
            total = lax.fori_loop(0, n_parts, plus, zeros)
        else:
            total = functools.reduce(lambda total, k: plus(k, total), range(1, n_parts), weighted(self.part, 0, self.size))
        if left:
            total = jax.tree.map(jnp.add, total, weighted(self.rest, n_parts * self.size, left))
        cost, gradient = total
        return cost, jax.tree.map(lambda g, x: g.astype(x.dtype), gradient, params), None


def part_size(data: Any, n_rows: int, batch_size: int) -> int:
    """How many rows to look at together: all of them, unless they are many more than a batch, and on one device."""
    if n_rows <= _MANY or batch_size == n_rows or is_traced(data):
        return n_rows
    if any(len(leaf.sharding.device_set) > 1 for leaf in jax.tree.leaves(data) if isinstance(leaf, jax.Array)):
        return n_rows
    if batch_size >= _ROWS // 2:
        return batch_size
    even = (n_rows // parts for parts in range(-(-n_rows // (2 * _ROWS)), 2 * n_rows // _ROWS + 1) if n_rows % parts == 0)
    return min(even, key=lambda size: abs(size - _ROWS), default=_ROWS)
