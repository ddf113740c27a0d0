"""The functions of a script as JAX needs them: traced where they can be, else called as they are, with derivatives beside them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile.closures import fresh
from jaxgd._compile.program import apply, program_for, trace
from jaxgd._products import matmul, vdot
from jaxgd.compat._arrays import TracedArray, unwrapped

_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)  # of central differences, relative to the sizes of the variables
_TINY = float(np.finfo(np.float64).tiny)
_AGREE = 1e-9  # relative, up to which a function that was traced has to have the numbers of NumPy


class Cost(NamedTuple):
    """A cost as a function of an array, and what is known of it.

    Attributes:
        function: it, with the derivatives that a script gives.
        is_traced: whether it is traced by JAX, or called with arrays of NumPy, step by step.
        has_gradient: whether its gradient is exact, and not one by differences.
        has_hessian: whether second derivatives are.
    """

    function: Callable[..., Any]
    is_traced: bool
    has_gradient: bool
    has_hessian: bool


def cost_of(
    fun: Any, x0: np.ndarray, args: tuple[Any, ...], jac: Any, hess: Any = None, hessp: Any = None, box: Any = None
) -> Cost:
    """Return the cost of a script, `box` being the lower and upper bounds that differences keep to."""
    slope = jac if callable(jac) else None
    curvature, product = (one if callable(one) else None for one in (hess, hessp))
    if jac is True:
        both = _last_remembered(fun)
        fun, slope = (lambda *given: both(*given)[0]), (lambda *given: both(*given)[1])
    given = [(fun, (x0,)), (slope, (x0,)), (curvature, (x0,)), (product, (x0, np.ones_like(x0)))]
    made = [traced(function, args, *at) if function else None for function, at in given]
    is_traced = all(function is None or one is not None for (function, _), one in zip(given, made, strict=True))
    if not is_traced:
        made = [as_it_is(function, args) if function else None for function, _ in given]
    value, slope, curvature, product = made
    if slope is None and not is_traced:
        slope = differences(scalar(value), *box or (-np.inf, np.inf))
    if product is None and curvature is not None:
        matrix = curvature if is_traced else lambda x: hess(np.array(x), *args)  # which may be a sparse matrix or an operator
        product = lambda x, direction: matmul(matrix(x), direction) if is_traced else matrix(x) @ np.array(direction)  # noqa: E731
    has_gradient = is_traced or callable(jac) or jac is True
    function = with_derivatives(scalar(value), slope, product)
    return Cost(function, is_traced, has_gradient, is_traced or product is not None)


def traced(function: Any, args: tuple[Any, ...], *like: np.ndarray) -> Callable[..., Any] | None:
    """Return a function that JAX can trace, with results of 64 bits; None if it can't be traced.

    Code that is written with NumPy is called with a `TracedArray`, and believed if it has the numbers then that NumPy has.
    """
    for wrap in (None, TracedArray):

        def one(*arrays: Any, wrap: Any = wrap) -> jax.Array:
            returned = function(*(map(wrap, arrays) if wrap else arrays), *args)
            return jnp.asarray(_joined(unwrapped(returned)), jnp.float64)

        try:
            with fresh(one):
                found = trace(one, *like)
        except Exception:
            continue
        if wrap is None or _agrees(program_for(apply, found, *like)(found, *like), as_it_is(function, args)(*like)):
            return one
    return None


def as_it_is(function: Any, args: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a function that is called with arrays of NumPy."""

    def one(*arrays: Any) -> np.ndarray:
        return np.asarray(function(*[np.array(array, np.float64) for array in arrays], *args), np.float64)

    return one


def scalar(value: Any) -> Callable[..., Any]:
    """Return a cost that returns a number, as a function that may return an array of one, too."""

    def one(x: Any) -> Any:
        found = value(x)
        if found.size != 1:
            raise ValueError("The user-provided objective function must return a scalar value.")
        return found.reshape(())

    return one


def _joined(returned: Any) -> Any:
    """Return lists of arrays, such as the rows of a matrix, as one array."""
    if not isinstance(returned, list | tuple):
        return returned
    return jnp.stack([jnp.asarray(_joined(one), jnp.float64) for one in returned])


def _agrees(found: Any, expected: Any) -> bool:
    size = np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
    return found.shape == expected.shape and np.allclose(found, expected, rtol=_AGREE, atol=_AGREE * size, equal_nan=True)


def _last_remembered(fun: Any) -> Callable[..., Any]:
    """Return a function of value and gradient that is called once for both where it gets arrays of NumPy."""
    last: list[Any] = [None, None]

    def both(x: Any, *args: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return fun(x, *args)
        if last[0] is None or not np.array_equal(last[0], x):
            last[:] = x.copy(), fun(x, *args)
        return last[1]

    return both


def differences(function: Any, low: Any, high: Any) -> Callable[..., Any]:
    """Return the derivatives by central differences, along the last axis, whose points lie within the bounds."""

    def derivatives(x: Any) -> np.ndarray:
        x = np.array(x, np.float64)
        step = _STEP * np.maximum(np.abs(x), 1)
        upper, lower, found = np.minimum(x + step, high), np.maximum(x - step, low), []
        for k in range(x.size):
            above, below = (function(np.where(np.arange(x.size) == k, end, x)) for end in (upper, lower))
            found.append((above - below) / max(upper[k] - lower[k], _TINY))
        return np.stack(found, axis=-1)

    return derivatives


def with_derivative(function: Any, derivative: Any) -> Callable[..., Any]:
    """Return a function whose derivative along a direction is `derivative(x, direction)`."""
    made: Any = jax.custom_jvp(lambda x: jnp.asarray(function(x)))
    made.defjvp(lambda at, change: (made(*at), jnp.asarray(derivative(at[0], change[0]))))
    return made


def with_derivatives(value: Any, slope: Any, product: Any) -> Callable[..., Any]:
    """Return a function with a gradient, and products with its Hessian, beside it; None is left to JAX."""
    if slope is None:
        return value
    gradient = slope if product is None else with_derivative(slope, product)
    return with_derivative(value, lambda x, change: vdot(gradient(x), change))
