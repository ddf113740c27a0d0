"""Sums of squares of residuals, weighted and robust, as costs, and what is known of them at a point."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile.closures import fresh
from jaxgd._compile.program import apply, program_for, trace
from jaxgd._products import matmul
from jaxgd.compat._functions import as_it_is, differences, traced, with_derivative
from jaxgd.squares import SumOfSquares

Loss = Callable[[Any], Any]


class Residuals(NamedTuple):
    """The residuals as functions of the parameters.

    Attributes:
        function: the residuals, (m,).
        jacobian: their derivatives, (m, n); None where JAX finds them.
        is_traced: whether JAX traces them.
    """

    function: Callable[..., Any]
    jacobian: Any
    is_traced: bool


def residuals_of(
    model: Any, jac: Any, start: np.ndarray, sides: Any, whiten: Callable[[Any], Any] = lambda values: values, data: Any = 0.0
) -> Residuals:
    """Return the residuals of a model, less the data and whitened, traced if it and its derivatives can be."""
    given = [model, jac if callable(jac) else None]
    made = [traced(one, (), start) if one else None for one in given]
    is_traced = all(one is None or other is not None for one, other in zip(given, made, strict=True))
    if not is_traced:
        made = [as_it_is(one, ()) if one else None for one in given]
    values, slopes = made
    if slopes is None and not is_traced:
        slopes = differences(values, *sides or (-np.inf, np.inf))
    jacobian = None if slopes is None else lambda p: whiten(slopes(p).reshape(-1, p.size))
    return Residuals(lambda p: whiten(jnp.ravel(values(p)) - data), jacobian, is_traced)  # type: ignore[misc]


def sum_of_squares(residuals: Residuals, loss: Any = "linear", scale: float = 1.0) -> SumOfSquares:
    """Return half the sum of the losses of squared residuals, as a cost.

    Where the residuals are not traced it has no second derivatives, and the curvature is that of Gauss and Newton.
    """
    function: Any = residuals.function
    if residuals.jacobian is not None:
        function = with_derivative(function, lambda p, change: matmul(residuals.jacobian(p), change))
    return SumOfSquares(function, loss, 1.0 if isinstance(loss, str) and loss == "linear" else scale)


def derivative_of(loss: Loss) -> Loss:
    """Return the derivative of a loss, number by number."""
    return jax.grad(lambda z: jnp.sum(loss(z)))


def at(residuals: Residuals, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the residuals and their derivatives at a point."""

    def both(p: Any) -> Any:
        return residuals.function(p), (residuals.jacobian or jax.jacfwd(residuals.function))(p)

    if not residuals.is_traced:
        values, matrix = both(p)
    else:
        with fresh(both):
            function = trace(both, p)
        values, matrix = program_for(apply, function, p)(function, p)
    return np.array(values), np.array(matrix)
