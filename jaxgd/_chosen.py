"""The method of a run of `minimize`, and what it may ask of the cost."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxgd._chunked import ChunkedCost
from jaxgd._constrained import DENSE, MATRIX_FREE, Functions
from jaxgd._derivatives import NoDerivativesError, affords_matrix
from jaxgd._objective.curvature import backward_squares, forward_squares, linearised_squares
from jaxgd._objective.evaluation import hessian, hessian_product
from jaxgd._objective.penalised import Penalties
from jaxgd._problem import Problem
from jaxgd._run.objective import Objective
from jaxgd._trees import pack
from jaxgd.methods.adapters import check_takes_penalty
from jaxgd.methods.augmented_lagrangian import AugmentedLagrangian
from jaxgd.methods.gauss_newton import GaussNewton
from jaxgd.methods.interior_point import InteriorPoint
from jaxgd.methods.levenberg_marquardt import LevenbergMarquardt
from jaxgd.methods.protocol import Method
from jaxgd.methods.proximal_gradient import ProximalGradient
from jaxgd.methods.proximal_newton import ProximalNewton
from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.methods.trust_region import TrustRegion
from jaxgd.squares import SumOfSquares

_DENSE = 500  # parameters, above which matrices of them and of constraints cost more than they bring
_CURE = "leave the method out, or pass LBFGS(), which needs the gradient alone"


def with_method(
    given: Problem,
    evaluate: Any,
    trace: Callable[..., Any],
    arrays: tuple[Any, ...],
    method: Any,
    stop: Any,
    constraints: Functions | None = None,
) -> tuple[Objective, Method, Any, Any]:
    """Return what the run may ask of the cost, the method and the rules.

    The last is again the method, where it replaces the default for want of second derivatives.
    """
    squares = isinstance(given.cost, SumOfSquares) and not isinstance(trace, ChunkedCost)
    prepared = functools.partial(given.prepared, stop=stop, steps_per_epoch=1, all_rows=True)
    if constraints is not None:
        if given.penalty is not None:
            raise ValueError("penalty: expected None beside equality or inequality, got a penalty.")
        size = sum(leaf.size for leaf in jax.tree.leaves(given.params))
        chosen = method or (InteriorPoint() if size <= _DENSE else AugmentedLagrangian())
        dense = chosen.traits.requires == "constraints"
        makers = DENSE if dense else MATRIX_FREE
        functions = constraints.traced(given.params, given.frozen, arrays, makers, types=given.types, change=given.change)
        adapted, rules = prepared(chosen.sized(*functions.numbers))
        second = _second_derivatives(given, trace, arrays, chosen) if dense else None
        return Objective(evaluate, hessian=second, constraints=functions), adapted, rules, None
    chosen = default_method(given.params, evaluate, given.penalty, squares=squares, jit=given.jit) if method is None else method
    adapted, rules = prepared(chosen)
    check_takes_penalty(adapted, given.penalty)
    requires = adapted.traits.requires
    if adapted.traits.evaluates and (not given.jit or isinstance(trace, ChunkedCost)):
        got = "jit=False" if not given.jit else "data that come in chunks"
        raise ValueError(f"method: {type(method).__name__} needs a cost that is compiled, got {got}: {_CURE}.")
    if requires == "gradient":
        return Objective(evaluate), adapted, rules, None
    if requires in ("residuals", "products"):
        _check_squares(given, method, squares=squares, jit=given.jit or requires == "residuals")
        objective = _products(given, trace, arrays) if requires == "products" else _linearised(given, trace, arrays)
        return objective._replace(evaluate=evaluate), adapted, rules, None
    second = _second_derivatives(given, trace, arrays, method)
    if second is not None:
        return Objective(evaluate, hessian=second), adapted, rules, None
    instead = LBFGS() if given.penalty is None else ProximalGradient()
    return Objective(evaluate), *prepared(instead), instead


def _check_squares(given: Problem, method: Any, *, squares: bool, jit: bool) -> None:
    """Check that a method that needs residuals has some."""
    name = type(method).__name__
    if not squares:
        cure = "pass the cost as jaxgd.SumOfSquares(residuals), or call jaxgd.least_squares"
        got = "data that come in chunks" if isinstance(given.cost, SumOfSquares) else "a cost without"
        raise ValueError(f"method: {name} needs residuals of all rows, got {got}: {cure if got.endswith('out') else _CURE}.")
    if not jit:
        raise ValueError(f"method: {name} needs a cost that is compiled, got jit=False: {_CURE}.")


def _linearised(given: Problem, trace: Callable[..., Any], arrays: tuple[Any, ...]) -> Objective:
    """Return the residuals with their Jacobian, and the Hessian if there is one."""
    linearised = trace(linearised_squares, *arrays)
    try:
        return Objective(linearised, hessian=_tried(given, trace(hessian, *arrays), arrays), linearised=linearised)
    except NoDerivativesError:
        return Objective(linearised, linearised=linearised)


def _products(given: Problem, trace: Callable[..., Any], arrays: tuple[Any, ...]) -> Objective:
    """Return products with the Jacobian of the residuals, and with the Hessian if there is one."""
    x = pack(given.params)
    forward = trace(forward_squares, *arrays, x)
    backward = trace(backward_squares, *arrays, jax.ShapeDtypeStruct(forward.shapes.shape, forward.shapes.dtype))  # type: ignore
    try:
        return Objective(forward, products=(forward, backward, trace(hessian_product, *arrays, x)))
    except NoDerivativesError:
        return Objective(forward, products=(forward, backward))


def _second_derivatives(given: Problem, trace: Callable[..., Any], arrays: tuple[Any, ...], method: Any) -> Any:
    """Return the Hessian; None where there is none and no chosen method needs it."""
    try:
        return _tried(given, trace(hessian, *arrays), arrays)
    except NoDerivativesError as error:
        if method is None:
            return None
        message = f"method: {type(method).__name__} needs second derivatives, and the cost has none: {error}. The cure: {_CURE}."
        raise TypeError(message) from error


def _tried(given: Problem, second: Any, arrays: tuple[Any, ...]) -> Any:
    """Return second derivatives, called once where they run as Python, to see whether there are any."""
    if not given.jit:
        second(given.params, *given.first(), *arrays)
    return second


def default_method(params: Any, evaluate: Any, penalty: Penalties | None = None, *, squares: bool = False, jit: bool = True) -> Any:
    """Return the method for these free parameters, this cost with its gradient, and a penalty; `squares` are known residuals."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    affords = affords_matrix(size, getattr(evaluate, "largest", 0))
    if penalty is not None:
        return _default(ProximalNewton if affords and penalty.is_separable else ProximalGradient)
    if affords:
        return _default(LevenbergMarquardt if squares else TrustRegion)
    return _default(GaussNewton if squares and jit else LBFGS)


@functools.cache
def _default(method: type) -> Any:
    """Return a method as its class makes it, the same object in every call."""
    return method()
