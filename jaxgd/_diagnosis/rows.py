"""How a cost adds up over the rows of its data, which `fit` wants to be a mean."""

import functools
from typing import Any

import jax

from jaxgd._diagnosis.findings import Finding
from jaxgd._objective.additive import NEITHER, adds_up
from jaxgd._objective.evaluation import value_and_gradient
from jaxgd._problem import Problem
from jaxgd.data.feed import rows_like

_TEXTS = {
    "sum": ("sum_over_rows", "The cost is a sum over its rows: gradients and rates change with the size of a batch"),
    NEITHER: ("not_additive", "The cost is neither a mean nor a sum over its rows: costs of batches are not those of all rows"),
}
_CURE = "return the mean over the rows, as in jnp.mean"


def n_rows(arrays: Any) -> int | None:
    """Return the number of rows of data; None where their arrays have none in common."""
    leaves = jax.tree.leaves(arrays)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    return lengths.pop() if len(lengths) == 1 else None


def over_rows(given: Problem, arrays: Any) -> str | None:
    """Return how the cost adds up over its rows: "mean", "sum" or "neither", or None where that is unknown."""
    random = given.extras is not None and "key" in given.extras.names
    if n_rows(arrays) is None or random or given.types is not None:  # 16 bits are too few to see sums agree
        return None
    evaluation = functools.cache(lambda size: given.measure(value_and_gradient, rows_like(arrays, size)))
    return adds_up(evaluation, arrays, given.params, given.box)


def findings(kind: str | None) -> list[Finding]:
    """Return what is to be said of a cost whose rows come in batches."""
    return [Finding(*_TEXTS[kind], _CURE)] if kind in _TEXTS else []
