"""A cost of large batches, found in parts of a few rows, one after the other, with the memory of one part."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._objective.extras import Carried
from jaxgd._trees import at_least_float32, is_traced, pytree, static
from jaxgd.data.layout import TOGETHER, Layout


@pytree
class Accumulated:
    """A cost that is the mean over the rows of a batch, with its gradient, found in parts.

    The parts have `size` rows each, and a rest has fewer. A key is folded with the number of the part, and a state is carried from
    part to part.
    """

    part: Any
    rest: Any  # None where the parts divide evenly
    size: int = static()
    count: int = static()  # of whole parts
    left: int = static()  # rows of the rest
    layout: Layout = static(default=TOGETHER)

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, where it was traced."""
        return getattr(self.part if self.count else self.rest, "shapes", None)

    @property
    def largest(self) -> int:
        """How many numbers the largest array has that the function computes, where it was traced."""
        return getattr(self.part if self.count else self.rest, "largest", 0)

    def __call__(self, params: Any, *arguments: Any) -> tuple[Any, Any, Any]:
        """Return the cost, its gradient, and the rest that the last part returned."""
        *given, data = arguments
        n_rows = self.count * self.size + self.left

        def evaluate(function: Any, number: Any, size: int, given: list[Any]) -> tuple[Any, Any, list[Any]]:
            rows = self.layout.part(data, number * self.size, size)
            cost, gradient, aux = function(params, *(_numbered(one, number) for one in given), rows)
            weighted = jax.tree.map(lambda new: at_least_float32(new) * (size / n_rows), (cost, gradient))
            return weighted, aux, _carried(given, aux)

        def plus(number: Any, carry: Any) -> Any:
            total, _, given = carry
            one, aux, given = evaluate(self.part, number, self.size, given)
            return jax.tree.map(jnp.add, total, one), aux, given

        first = (self.part, self.size) if self.count else (self.rest, self.left)
        carry = evaluate(first[0], np.int32(0), first[1], given)
        if self.count > 1 and is_traced(carry):
            carry = lax.fori_loop(np.int32(1), np.int32(self.count), plus, carry)
        elif self.count > 1:
            for number in range(1, self.count):
                carry = plus(np.int32(number), carry)
        if self.count and self.left:
            total, _, given = carry
            one, aux, given = evaluate(self.rest, np.int32(self.count), self.left, given)
            carry = jax.tree.map(jnp.add, total, one), aux, given
        (cost, gradient), aux, _ = carry
        return cost, jax.tree.map(lambda g, x: g.astype(x.dtype), gradient, params), aux


def accumulated(of_size: Any, size: int, n_rows: int, layout: Layout = TOGETHER) -> Any:
    """Return a cost with its gradient for a batch, found in parts of `size` rows.

    `of_size` gives that for a number of rows.
    """
    count, left = divmod(n_rows, size)
    if count + (left > 0) == 1:
        return of_size(n_rows)
    return Accumulated(of_size(size) if count else None, of_size(left) if left else None, size, count, left, layout)


def _numbered(given: dict[str, Any], number: Any) -> dict[str, Any]:
    """Return the extras of a part of a batch: a key of its own."""
    return given | {"key": jax.random.fold_in(given["key"], number)} if "key" in given else given


def _carried(given: list[Any], aux: Any) -> list[Any]:
    """Return the extras of the next part."""
    return [one | {"state": aux.state} for one in given] if isinstance(aux, Carried) else given
