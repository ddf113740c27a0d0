"""The residuals of a sum of squares that are not finite at the start."""

from typing import Any

import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxgd._checks.check import entry
from jaxgd._checks.check_arrays import first
from jaxgd._nonfinite import word
from jaxgd._objective.curvature import residuals_alone
from jaxgd._problem import Problem
from jaxgd._run.objective import call
from jaxgd.squares import SumOfSquares


def lost(given: Problem, arrays: tuple[Any, ...]) -> str:
    """Return, in words, the first residual that is not finite at the start.

    It is nothing where all are finite, and for a cost without residuals.
    """
    if not isinstance(given.cost, SumOfSquares):
        return ""
    residuals = call(given.measure(residuals_alone, *arrays), given.params, *arrays)
    for path, leaf in tree_flatten_with_path(residuals)[0]:
        array = np.asarray(leaf).astype(np.float64)
        found = ~np.isfinite(array)
        index = first(found)
        if index is not None:
            others = f", the first of {np.sum(found)} of {array.size}" if array.size > 1 else ""
            return f": {entry('residuals' + keystr(path), index)} is {word(array[index])}{others}"
    return ""
