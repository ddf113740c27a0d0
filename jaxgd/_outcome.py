"""The end of a call: its result as it leaves, with what is kept beside it."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxgd._compile.closures import WIDE
from jaxgd._marks import Beside, gain, marks
from jaxgd._problem import Problem
from jaxgd._trees import in_64_bits, is_traced, with_fields
from jaxgd.data.stream import StreamError
from jaxgd.result import Result


def export(tree: Any) -> Any:
    """Return what leaves a call: arrays of 64 bits as NumPy arrays where JAX, without its 64-bit flag, would cut them to 32."""
    if in_64_bits():
        return tree
    leaves, structure = jax.tree.flatten(tree)
    wide = {id(leaf): leaf for leaf in leaves if isinstance(leaf, jax.Array) and leaf.dtype in WIDE}
    if not wide or is_traced(leaves):
        return tree
    alone = jax.process_count() == 1
    left = {number: np.asarray(leaf) for number, leaf in wide.items() if alone or leaf.is_fully_addressable}
    exported = structure.unflatten([left.get(id(leaf), leaf) for leaf in leaves])  # what stands in several places leaves once
    return with_fields(exported, cause=tree.cause, saved=tree.saved) if isinstance(tree, Result) else exported


@contextlib.contextmanager
def completed(given: Problem, began: float) -> Iterator[None]:
    """Complete the result that an error in a stream brings along."""
    try:
        yield
    except StreamError as error:
        if error.result is not None:
            error.result = told(given.complete(error.result), began, given.beside())
        raise


def told(result: Any, began: float, beside: Beside, fitted: Any = None) -> Any:
    """Return a result as it leaves a call: how long ago that began, and what is kept beside; a traced one has the marks at once."""
    result = export(result)
    if not is_traced(result.code):
        return with_fields(result, seconds=time.perf_counter() - began, beside=beside, fitted=fitted)
    found = marks(result.params, result.gradient, result.n_steps, beside)
    return with_fields(result, marks=found, gain=gain(beside, result.state))
