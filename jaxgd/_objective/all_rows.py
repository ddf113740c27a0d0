"""The cost over all rows of large data, a part of the rows at a time, so that it takes no more memory than a batch does."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._objective.additive import Additive, additivity
from jaxgd._shards import is_spread
from jaxgd._trees import at_least_float32, pytree, static, working_dtype
from jaxgd.data.layout import TOGETHER, Layout, layout_of

_TOGETHER = 2**25  # bytes of the largest array that the cost computes, up to which all rows are looked at together
_PART = 2**22  # the same of a part of the rows
_MOST = 2**30  # the same where the cost can't be found in parts


@pytree
class InParts:
    """A cost with its gradient over all rows, found in parts of `size` rows and a smaller rest.

    It is the mean over the parts, each weighted by its rows; or their sum, in which what does not depend on the rows counts once.
    That is found from some rows and the same rows twice: `once` and `twice` are the cost with its gradient for as many.
    Beside its value the cost returns nothing.
    """

    part: Any
    rest: Any  # None where the parts divide evenly
    once: Any  # None for a mean
    twice: Any
    size: int = static()
    sample: int = static()
    wanted: int = static(default=2)  # how many of what the cost returns are added up
    layout: Layout = static(default=TOGETHER)

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, where it was traced."""
        return getattr(self.part, "shapes", None)

    def __call__(self, params: Any, data: Any) -> tuple[Any, ...]:
        return (*self._over_all(params, data, self.wanted), None)

    def cost(self, params: Any, data: Any) -> Any:
        """Return the cost alone."""
        return self._over_all(params, data, 1)[0]

    def _over_all(self, params: Any, data: Any, count: int) -> tuple[Any, ...]:
        """Return the first `count` of what the cost returns, over all rows."""
        n_rows = jax.tree.leaves(data)[0].shape[0]
        n_parts, left = divmod(n_rows, self.size)
        is_sum = self.once is not None

        def part(function: Any, first: Any, size: int) -> Any:
            rows = self.layout.part(data, first, size)
            weight = 1.0 if is_sum else size / n_rows
            return jax.tree.map(lambda new: at_least_float32(new) * weight, function(params, rows)[:count])

        def plus(k: Any, total: Any) -> Any:
            return jax.tree.map(jnp.add, total, part(self.part, k * self.size, self.size))

        if self.shapes is not None:
            zeros = jax.tree.map(lambda leaf: at_least_float32(jnp.zeros(leaf.shape, leaf.dtype)), self.shapes[:count])
            total = lax.fori_loop(0, n_parts, plus, zeros)
        else:
            total = functools.reduce(lambda total, k: plus(k, total), range(1, n_parts), part(self.part, 0, self.size))
        if left:
            total = jax.tree.map(jnp.add, total, part(self.rest, n_parts * self.size, left))
        if not is_sum:
            return total
        rows = self.layout.pick(data, np.arange(self.sample))
        doubled = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), rows)
        once, twice = self.once(params, rows)[:count], self.twice(params, doubled)[:count]
        return counted_once(total, n_parts + (left > 0), once, twice)


def counted_once(total: Any, n_parts: Any, once: Any, twice: Any) -> Any:
    """Return a sum over parts of the rows, in which what does not depend on the rows counts once.

    `once` is the function of some rows, `twice` that of these rows twice: their difference from additivity is what counts.
    """
    again = n_parts - 1.0
    return jax.tree.map(lambda t, one, two: t - again * (2 * at_least_float32(one) - at_least_float32(two)), total, once, twice)


@pytree
class CostAlone:
    """The cost without the gradient, of a function that returns both first; what is not used is not computed either."""

    function: Any

    def __call__(self, params: Any, data: Any) -> Any:
        """Return the cost."""
        one = self.function
        return one.cost(params, data) if isinstance(one, InParts) else one(params, data)[0]


def over_all_rows(
    evaluation: Callable[[int], Any], data: Any, batch_size: int, params: Any, bounds: Any, *, in_one_piece: bool
) -> tuple[Any, int]:
    """Return the cost with its gradient over all rows, and 0 or the number of parts averaged over.

    `evaluation(size)` gives the cost with its gradient for `size` rows. They are looked at together where the largest array of
    the cost is small. Otherwise a cost that is a mean or a sum over the rows is found in parts; another one too if it has to
    be.
    """
    n_rows = jax.tree.leaves(data)[0].shape[0]
    together = evaluation(n_rows)
    data, layout = layout_of("data", data)
    count = layout.n_shards
    n_bytes = -(-largest_array(together, data, params) // count)  # on a device
    size = count * part_size(n_rows // count, max(1, batch_size // count), n_bytes)
    unknown = count == 1 and any(map(is_spread, jax.tree.leaves(data)))  # where parts of the rows are
    if size == n_rows or in_one_piece or unknown:
        return together, 0
    found = additivity(evaluation, data, params, bounds, size)
    if found is None and n_bytes <= _MOST:
        return together, 0
    parts = in_parts(evaluation, n_rows, size, found, layout)
    return parts, 0 if found else -(-n_rows // size)


def in_parts(
    evaluation: Callable[[int], Any], n_rows: int, size: int, found: Additive | None, layout: Layout = TOGETHER, wanted: int = 2
) -> InParts:
    """Return a function of the cost for some rows, found in parts of `size` rows.

    `found` says how it adds up over them.
    """
    once, twice = (evaluation(found.sample), evaluation(2 * found.sample)) if found and found.is_sum else (None, None)
    rest = evaluation(n_rows % size) if n_rows % size else None
    return InParts(evaluation(size), rest, once, twice, size, found.sample if found else 0, wanted, layout)


def cost_over_all_rows(
    value: Any, evaluation: Callable[[int], Any], data: Any, batch_size: int, params: Any, bounds: Any
) -> tuple[Any, int]:
    """`over_all_rows` for the cost alone; `value` is that of all rows together."""
    if largest_array(value, data, params) <= _TOGETHER:
        return value, 0
    found, n_parts = over_all_rows(evaluation, data, batch_size, params, bounds, in_one_piece=False)
    return (CostAlone(found) if isinstance(found, InParts) else value), n_parts


def largest_array(evaluate: Any, data: Any, params: Any) -> int:
    """Return the bytes of the largest array of at least a row that a cost computes.

    Those of the data for a cost that was not traced.
    """
    numbers = getattr(evaluate, "largest", 0) or max(leaf.size for leaf in jax.tree.leaves(data))
    if numbers <= max((leaf.size for leaf in jax.tree.leaves(params)), default=0):
        return 0  # it is no larger for more rows
    return numbers * working_dtype(params).itemsize


def part_size(n_rows: int, batch_size: int, n_bytes: int) -> int:
    """Return how many rows to look at together, given the bytes of the largest array for all. no fewer than a batch."""
    if n_bytes <= _TOGETHER or batch_size >= n_rows:
        return n_rows
    n_parts = -(-n_bytes // _PART)
    if n_rows <= n_parts * batch_size:
        return batch_size
    most = min(2 * n_parts, n_rows // batch_size)
    even = (n_rows // count for count in range(n_parts, most + 1) if n_rows % count == 0)
    return next(even, -(-n_rows // n_parts))
