"""The cost at many points of one or two parameters, to draw it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd import _problem
from jaxgd._checks import check_cost, check_trees
from jaxgd._compile.program import compiled
from jaxgd._frozen import Fixed
from jaxgd._minimize import minimize
from jaxgd._objective.evaluation import trace_objective, value
from jaxgd._trees import is_parameter, parameters_of, unpack, working_dtype
from jaxgd.result import Result, Status

_TOGETHER = 2**22  # numbers of the largest array of the cost, for all points that are looked at together
_IN_ALL = 2**31  # the same for all points of a surface, about two seconds
_EAGERLY = 1000  # points of a surface whose cost can't be traced


class Costs:
    """A cost, to be called with many points at once, in the precision of a run.

    The points are looked at side by side by `jax.vmap`, as many as a limited memory allows; one by one where the cost holds what
    can't be mapped, and in a Python loop where it can't be traced.
    """

    def __init__(self, cost: Callable[..., Any], data: Any, result: Result) -> None:
        check_cost.signature(cost, ("params",) if data is None else ("params", "data"))
        self.cost, self.data, self.result = cost, data, result
        leaves = jax.tree.leaves(parameters_of(result.params))
        self.dtype = "float64" if any(leaf.dtype == np.float64 for leaf in leaves) else None
        self.has_aux = result.aux is not None
        with _problem.precision(self.dtype) as to:
            self.held = Fixed.of(None, result.params)  # functions and the like
            self.like = jax.tree.map(jnp.asarray, self.held.free(result.params) if self.held else result.params)
            self.arrays: tuple[Any, ...] = () if data is None else (check_trees.data_arrays("data", data, to),)
            try:
                self.evaluate = self._value(jit=True)
                self.traced = True
            except TypeError:  # an error of another kind comes again, from the cost as it is
                self.evaluate = self._value(jit=False)
                self.traced = False

    def _value(self, *, jit: bool) -> Any:
        make = functools.partial(trace_objective, self.cost, self.like, value, has_aux=self.has_aux, fixed=self.held)
        self.arrays = _problem.settled(make, *self.arrays, jit=jit)
        return make(*self.arrays, jit=jit)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The costs, (n,) in 64 bits, at points (n, k) in the order of the parameters' leaves."""
        with _problem.precision(self.dtype):
            vectors = jnp.asarray(points, working_dtype(self.like))
            if not self.traced:
                return np.array([float(self.evaluate(unpack(vector, self.like), *self.arrays)) for vector in vectors])
            arguments = self.evaluate, vectors, self.like, self.arrays
            try:
                found = compiled(_together, *arguments)(*arguments)
            except NotImplementedError:
                found = compiled(_one_by_one, *arguments)(*arguments)
            return np.asarray(found).astype(np.float64)

    @property
    def most(self) -> int:
        """At how many points it can be looked at in about two seconds."""
        return max(_EAGERLY, _IN_ALL // max(1, self.evaluate.largest)) if self.traced else _EAGERLY

    def minimum(self) -> np.ndarray | None:
        """The minimum next to the best point of the run, found by `minimize`; None where it is not sure to be one."""
        options: dict[str, Any] = {"dtype": self.dtype, "has_aux": self.has_aux, "jit": self.traced}
        params = self.result.best.params
        rest = jax.tree.map(lambda leaf: not is_parameter(leaf), params) if self.held else None
        found = minimize(self.cost, params, self.data, fixed=rest, **options)
        sure = found.converged or found.status is Status.STALLED
        return flat(found.params) if sure else None


def _together(evaluate: Any, vectors: Any, like: Any, arrays: Any) -> Any:
    most = max(1, min(vectors.shape[0], _TOGETHER // max(1, evaluate.largest)))
    return lax.map(lambda vector: evaluate(unpack(vector, like), *arrays), vectors, batch_size=most)


def _one_by_one(evaluate: Any, vectors: Any, like: Any, arrays: Any) -> Any:
    return lax.map(lambda vector: evaluate(unpack(vector, like), *arrays), vectors)


def flat(params: Any) -> np.ndarray:
    """All numbers of a pytree, in 64 bits."""
    return np.concatenate([np.ravel(np.asarray(leaf)).astype(np.float64) for leaf in jax.tree.leaves(parameters_of(params))])
