"""The cost over all rows of data that come chunk by chunk, in the forms that `minimize` asks for."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _nonfinite
from jaxgd._checks import check
from jaxgd._objective.additive import additivity
from jaxgd._objective.evaluation import hessian, value_and_gradient
from jaxgd._problem import Problem
from jaxgd._run.in_chunks import First, InTuple, in_chunks
from jaxgd._run.objective import call
from jaxgd.data.feed import Feed, check_constant, rows_like

_NOT_ADDITIVE = (
    "data: the cost is neither a mean nor a sum over the rows, so that it can't be added up over chunks of them. "
    "Load the data into memory, or use fit."
)


class ChunkedCost:
    """A cost over all rows of a feed, in the forms that a run asks for.

    The cost has to be a mean or a sum over the rows. That is tried on a sample, and on the first chunk whose numbers are not all
    finite, if the cost masks these.
    """

    def __init__(self, given: Problem, feed: Feed) -> None:
        given.settle(feed, sample=lambda sample: sample)
        feed.cut(None)
        self.given, self.feed, self.sound = given, feed, False
        self.evaluation = functools.cache(functools.partial(self._of_size, value_and_gradient))
        self.found = self._additivity(feed.sample)
        if self.found is None:
            count = jax.tree.leaves(feed.sample)[0].shape[0]
            if np.isfinite(np.asarray(call(self.evaluation(count), given.params, feed.sample)[0])):
                raise ValueError(_NOT_ADDITIVE)
            self.found = self._additivity(jax.tree.map(_nonfinite.filled, feed.sample))  # the run ends at its start

    def __call__(self, make: Callable[..., Any], *_: Any) -> Any:
        """Return the function; it needs no data."""
        if make is hessian:
            of_size = functools.cache(functools.partial(self._of_size, make))
            return First(in_chunks(of_size, self.found, self.feed, 1, self.given.params, wanted=1))
        return in_chunks(self.evaluation, self.found, self.feed, 1, self.given.params, look=self._look)

    def _additivity(self, data: Any) -> Any:
        return additivity(self.evaluation, data, self.given.params, self.given.box, self.feed.cuts.chunk_rows)

    def _look(self, piece: Any, evaluation: Any) -> None:
        """Try the cost, in the first pass, on the first chunk in which it masks numbers that are not finite."""
        if self.sound or not np.isfinite(np.asarray(evaluation[0])) or _nonfinite.in_data("data", piece.data) is None:
            self.sound |= piece.is_last
            return
        self.sound = True
        if self._additivity(piece.data) != self.found:
            raise ValueError(_NOT_ADDITIVE)

    def _of_size(self, make: Callable[..., Any], size: int) -> Any:
        function = self.given.bound(self.given.trace(make, rows_like(self.feed.sample, size)))
        check_constant(self.feed, function)
        return InTuple(function) if make is hessian else function


def check_chunked(**arguments: tuple[Any, Any]) -> None:
    """Check arguments that data in chunks do not go with, each with its default."""
    for name, (value, default) in arguments.items():
        if value is not default and value != default:
            raise ValueError(f"{name}: expected {default} for data that come in chunks, got {check.show(value)}.")
