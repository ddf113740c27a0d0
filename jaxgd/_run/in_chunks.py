"""The cost over all rows of data that come chunk by chunk, added up by the host."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd._compile.program import program_for
from jaxgd._objective.additive import Additive
from jaxgd._objective.all_rows import counted_once, in_parts, largest_array, part_size
from jaxgd._run.objective import call
from jaxgd._trees import all_finite, at_least_float32, pytree, static
from jaxgd.data.feed import Feed


@pytree
class InChunks:
    """A function of the cost over all rows of a feed, found chunk by chunk. It runs as Python.

    It is the mean over the chunks, each weighted by its rows; or their sum, in which what does not depend on the rows counts once.

    Attributes:
        chunk: the function for a whole chunk, which returns a tuple.
        rest: the same for the smaller last one; None where there is none.
        once: the same for some rows, and `twice` for these rows twice; None for a mean.
        rows: these rows, once and twice.
        read: opens the feed.
        look: is shown every chunk, and what the function returned for it; None where nobody looks.
        n_rows: the rows of the feed.
        wanted: how many of what the function returns are added up.
        largest: how many numbers the largest array would have that the function computes for all rows together.
    """

    chunk: Any
    rest: Any
    once: Any
    twice: Any
    rows: Any
    read: Callable[[], Any]
    look: Callable[[Any, Any], None] | None
    n_rows: int = static()
    wanted: int = static(default=2)
    largest: int = static(default=0)

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, where it was traced."""
        return getattr(self.chunk, "shapes", None)

    def __call__(self, params: Any, *_: Any) -> tuple[Any, ...]:
        """Return what the function returns, over all rows; it needs no data."""
        total, n_chunks, is_sum = None, 0, self.once is not None
        with self.read() as pieces:
            for piece in pieces:
                found = call(self.rest if piece.is_rest else self.chunk, params, piece.data)[: self.wanted]
                if self.look is not None:
                    self.look(piece, found)
                total, n_chunks = _plus(total, found, 1.0 if is_sum else piece.n_rows / self.n_rows), n_chunks + 1
                jax.block_until_ready(total)  # a program that has not run keeps its rows in memory
                del piece, found
        if is_sum and n_chunks > 1:
            once, twice = (
                call(one, params, rows)[: self.wanted] for one, rows in zip((self.once, self.twice), self.rows, strict=True)
            )
            arguments = total, np.asarray(n_chunks, total[0].dtype), once, twice  # type: ignore[index]
            total = program_for(counted_once, *arguments)(*arguments)
        return (*total, None)  # type: ignore[misc]

    def first_lost(self, params: Any) -> tuple[Any, tuple[Any, ...], Any, int] | None:
        """Return the first chunk at which something is not finite: its function, what that returns, its rows, the first row."""
        first = 0
        with self.read() as pieces:
            for piece in pieces:
                function = self.rest if piece.is_rest else self.chunk
                found = call(function, params, piece.data)
                if not all_finite(*found[: self.wanted]):
                    return function, found, piece.data, first
                first += piece.n_rows
                del piece
        return None


def in_chunks(
    evaluation: Callable[[int], Any],
    found: Additive | None,
    feed: Feed,
    batch_size: int,
    params: Any,
    *,
    wanted: int = 2,
    look: Any = None,
) -> InChunks:
    """Return a function of the cost over all rows of a feed.

    `evaluation(size)` gives the function for `size` rows, and `found` says how it adds up over the rows. Where it does not, the
    result is the mean over the chunks.
    """
    cuts, sample = feed.cuts, feed.sample

    def of(size: int) -> Any:
        part = part_size(size, min(batch_size, size), largest_array(evaluation(size), sample, params))
        return evaluation(size) if part == size else in_parts(evaluation, size, part, found, wanted=wanted)

    left = cuts.rows_of(cuts.n_chunks - 1)
    once = twice = rows = None
    if found and found.is_sum:
        once, twice, rows = evaluation(found.sample), evaluation(2 * found.sample), _twice(sample, found)
    return InChunks(
        chunk=of(cuts.chunk_rows),
        rest=None if left == cuts.chunk_rows else of(left),
        once=once,
        twice=twice,
        rows=rows,
        read=feed.all_rows,
        look=look,
        n_rows=feed.n_rows,
        wanted=wanted,
        largest=getattr(evaluation(cuts.chunk_rows), "largest", 0) * cuts.n_chunks,
    )


@pytree
class InTuple:
    """A function whose result comes in a tuple."""

    function: Any

    @property
    def shapes(self) -> Any:
        """The shapes and dtypes of what the function returns, where it was traced."""
        shapes = getattr(self.function, "shapes", None)
        return shapes and (shapes,)

    @property
    def largest(self) -> int:
        """How many numbers the largest array has that the function computes, where it was traced."""
        return getattr(self.function, "largest", 0)

    def __call__(self, *arguments: Any) -> tuple[Any]:
        """Return the result in a tuple."""
        return (self.function(*arguments),)


@pytree
class First:
    """The first of what a function returns."""

    function: Any

    def __call__(self, *arguments: Any) -> Any:
        """Return it."""
        return self.function(*arguments)[0]


def _twice(sample: Any, found: Additive) -> Any:
    """Return some rows, and the same rows twice."""
    once = jax.tree.map(lambda leaf: leaf[: found.sample], sample)
    return once, jax.tree.map(lambda leaf: jax.numpy.concatenate([leaf, leaf]), once)


def _plus(total: Any, new: Any, weight: float) -> Any:
    """Return a sum with something more, as often as the weight says."""
    arguments = total, new, weight
    return program_for(_weighted_sum, *arguments)(*arguments)


def _weighted_sum(total: Any, new: Any, weight: Any) -> Any:
    new = jax.tree.map(lambda leaf: at_least_float32(leaf) * weight.astype(at_least_float32(leaf).dtype), new)
    return new if total is None else jax.tree.map(jax.numpy.add, total, new)
