"""Second derivatives of the cost at any point and for any data of the same shapes."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd._compile.program import program_for
from jaxgd._derivatives import NoDerivativesError
from jaxgd._diagnosis import curvature
from jaxgd._diagnosis.curvature import Curvature
from jaxgd._diagnosis.probe import Probe, median_time, wide
from jaxgd._objective.evaluation import hessian, hessian_product
from jaxgd._problem import Problem


class SecondDerivatives:
    """The Hessian of the cost, or where that is too large products with it."""

    def __init__(self, given: Problem, probe: Probe, arrays: tuple[Any, ...], *, as_matrix: bool) -> None:
        self.probe, self.arrays, self.as_matrix, self.traced = probe, arrays, as_matrix, given.jit
        maker, vector = (hessian, ()) if as_matrix else (hessian_product, (probe.start.astype(probe.dtype),))
        self.extras = given.first()
        self.function = given.trace(maker, *arrays, *vector)

    @staticmethod
    def of(given: Problem, probe: Probe, arrays: tuple[Any, ...], *, as_matrix: bool) -> "SecondDerivatives | str":
        """Return the second derivatives at the start, or why JAX has none."""
        try:
            found = SecondDerivatives(given, probe, arrays, as_matrix=as_matrix)
            found.along(probe.start, probe.start)
        except NoDerivativesError as error:
            return str(error)
        return found

    def matrix(self, point: np.ndarray, *arrays: Any) -> np.ndarray:
        """Return the Hessian at a point, of data like those given."""
        return wide(self._called(point, *(arrays or self.arrays)))

    def along(self, point: np.ndarray, direction: np.ndarray) -> float:
        """Return the second derivative along a direction."""
        return float(direction @ self.product(point, direction))

    def product(self, point: np.ndarray, direction: np.ndarray, *arrays: Any) -> np.ndarray:
        """Return the product of the Hessian with a direction."""
        arrays = arrays or self.arrays
        if self.as_matrix:
            return self.matrix(point, *arrays) @ direction
        return wide(self._called(point, *arrays, direction.astype(self.probe.dtype)))

    def curvature(self, used: np.ndarray, *arrays: Any) -> Curvature:
        """Return the curvature at the start, of the parameters that are used."""
        start, eps = self.probe.start, float(np.max(self.probe.eps))
        if self.as_matrix:
            return curvature.of_matrix(self.matrix(start, *arrays), used, eps)
        return curvature.of_products(lambda direction: self.product(start, direction, *arrays), start.size)

    def seconds(self) -> float:
        """Return the time of one Hessian, or product, with that of the call."""
        return median_time(lambda: self.product(self.probe.start, self.probe.start))

    def _called(self, point: np.ndarray, *arguments: Any) -> Any:
        given = self.function, self.probe.tree(point), *self.extras, *arguments
        program: Callable[..., Any] = program_for(applied, *given) if self.traced else applied
        return jax.block_until_ready(program(*given))


def applied(function: Any, *arguments: Any) -> Any:
    """Return what a function makes of arguments."""
    return function(*arguments)
