"""least_squares(), with the arguments and the result of scipy.optimize.least_squares."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _minimize as own
from jaxgd.bounds import at_active_bound
from jaxgd.compat._functions import traced
from jaxgd.compat._minimize import as_callback
from jaxgd.compat._squares import Loss, at, derivative_of, residuals_of, sum_of_squares
from jaxgd.result import Result, Status
from jaxgd.squares import LOSSES


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = "2-point",
    bounds: Any = (-np.inf, np.inf),
    method: str = "trf",
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
    x_scale: Any = None,
    loss: Any = "linear",
    f_scale: float = 1.0,
    diff_step: Any = None,
    tr_solver: Any = None,
    tr_options: Any = None,
    jac_sparsity: Any = None,
    max_nfev: int | None = None,
    verbose: int = 0,
    args: Any = (),
    kwargs: dict[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    workers: Any = None,
) -> Any:
    """Minimise the sum of squares of residuals: `jaxgd.minimize` with the arguments of `scipy.optimize.least_squares`.

        cost = 1/2 * sum of f_scale**2 * loss((residual / f_scale)**2)

    It computes in 64 bits. Derivatives are exact where JAX can trace `fun`, see `jaxgd.compat.minimize`.

    Args:
        fun: fun(x, *args, **kwargs), the residuals, (m,).
        x0: the start, (n,).
        jac: the derivatives, jac(x, *args, **kwargs), (m, n), which are used where they are given; names leave them to JAX.
        bounds: `scipy.optimize.Bounds`, or a pair (lower, upper) of numbers or arrays.
        method: "trf", "dogbox" or "lm", which are the same method here; "lm" takes no bounds and no other loss.
        ftol: without a meaning here, as are the next two: the run ends at the precision of the numbers.
        xtol: see `ftol`.
        gtol: see `ftol`.
        x_scale: without a meaning here: steps are relative to the sizes of the variables.
        loss: "linear", "soft_l1", "huber", "cauchy", "arctan", or a function of the squared residuals, (m,), whose first row is the
            loss of each.
        f_scale: the size of a residual from which on it counts less, > 0.
        diff_step: without a meaning here, as are the next three.
        tr_solver: see `diff_step`.
        tr_options: see `diff_step`.
        jac_sparsity: see `diff_step`.
        max_nfev: evaluations at most.
        verbose: whether to print how the run ended.
        args: further arguments, a tuple, or one that is no tuple.
        kwargs: further arguments by name.
        callback: as in `jaxgd.compat.minimize`.
        workers: without a meaning here.

    Returns:
        `scipy.optimize.OptimizeResult` with x, cost, fun (the residuals), jac (weighted by the loss, as in SciPy), grad,
        optimality, active_mask, nfev, njev, status, success and message.

    Raises:
        TypeError, ValueError: for a bad argument. Errors inside `fun` are those of `fun`.

    >>> import numpy as np
    >>> from jaxgd.compat import least_squares
    >>> res = least_squares(lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), [2, 2], bounds=([-np.inf, 1.5], np.inf))
    >>> res.success, res.x.round(6).tolist(), res.active_mask.tolist()
    (True, [1.224371, 1.5], [0, -1])
    """
    del ftol, xtol, gtol, x_scale, diff_step, tr_solver, tr_options, jac_sparsity, workers
    if method not in ("trf", "dogbox", "lm"):
        raise ValueError("`method` must be 'trf', 'dogbox' or 'lm'.")
    if not (callable(loss) or loss in LOSSES):
        raise ValueError(f"`loss` must be one of {list(LOSSES)} or a callable.")
    start = np.atleast_1d(np.asarray(x0)).astype(np.float64)
    if start.ndim > 1:
        raise ValueError("`x0` must have at most 1 dimension.")
    sides = _sides(bounds, start)
    if method == "lm" and (sides is not None or loss != "linear"):
        raise ValueError("Method 'lm' supports neither bounds nor another loss than 'linear'. Use 'trf' or 'dogbox'.")
    further, by_name = args if isinstance(args, tuple) else (args,), kwargs or {}
    given: list[Any] = [(lambda x, one=one: one(x, *further, **by_name)) if callable(one) else None for one in (fun, jac)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        residuals = residuals_of(given[0], given[1], start, sides)
        rho = _loss(loss, np.square(residuals.function(start)))
        watch = None if callback is None else as_callback(callback)
        settings: dict[str, Any] = {"bounds": sides, "max_steps": max_nfev, "callback": watch, "dtype": "float64"}
        cost = sum_of_squares(residuals, rho if callable(loss) else loss, float(f_scale))
        result = own.minimize(cost, start, jit=residuals.is_traced, **settings)
        values, matrix = at(residuals, np.array(result.params))
        weights = _weights(rho, np.square(values / f_scale))
    found = _as_scipy_has_it(result, sides, values, weights[:, None] * matrix)
    if verbose:
        print(
            f"{found.message}\nFunction evaluations {found.nfev}, final cost {found.cost:.4e}, optimality {found.optimality:.2e}."
        )
    return found


def _sides(bounds: Any, start: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the checked bounds; None where there are none."""
    pair = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else tuple(bounds)
    if len(pair) != 2:
        raise ValueError("`bounds` must contain 2 elements.")
    try:
        low, high = (np.broadcast_to(np.asarray(side, np.float64), start.shape) for side in pair)
    except ValueError:
        raise ValueError("Inconsistent shapes between bounds and `x0`.") from None
    if np.any(low >= high):
        raise ValueError("Each lower bound must be strictly less than each upper bound.")
    if np.any((start < low) | (start > high)):
        raise ValueError("Initial guess is outside of provided bounds")
    return None if np.all(np.isinf(low) & np.isinf(high)) else (low, high)


def _loss(loss: Any, squares: np.ndarray) -> Loss:
    """Return a loss as JAX takes it; a function of the script's returns it with its derivatives."""
    if not callable(loss):
        return LOSSES[loss]
    function: Any = loss
    found = traced(lambda z: function(z)[0], (), squares)
    if found is None:
        raise TypeError("loss: JAX can't trace it: write it with jax.numpy, without Python's math, float, if and while.")
    return found


def _weights(loss: Loss, squares: np.ndarray) -> np.ndarray:
    """Return the weights of the rows of the Jacobian J with which J'J has the curvature of the losses.

    It is at least a rounding.
    """
    first = derivative_of(loss)
    curvature = np.array(first(squares) + 2 * squares * derivative_of(first)(squares))
    return np.sqrt(np.maximum(curvature, np.finfo(np.float64).eps))


def _as_scipy_has_it(result: Result, sides: Any, values: np.ndarray, matrix: np.ndarray) -> Any:
    """Return the result in the form of SciPy."""
    from scipy.optimize import OptimizeResult

    x, gradient = np.array(result.params), np.array(result.gradient)
    low, high = sides or (np.full_like(x, -np.inf), np.full_like(x, np.inf))
    held = np.array(at_active_bound(x, gradient, low, high))  # type: ignore[arg-type]
    return OptimizeResult(
        x=x,
        cost=float(result.cost),
        fun=values,
        jac=matrix,
        grad=gradient,
        optimality=float(np.max(np.where(held, 0, np.abs(gradient)))),
        active_mask=np.where(x <= low, -1, np.where(x >= high, 1, 0)),
        nfev=int(result.n_evaluations),
        njev=int(result.n_evaluations),
        status=1
        if result.converged
        else 0
        if result.status is Status.MAX_STEPS
        else -2
        if result.status is Status.CALLBACK
        else -1,
        success=bool(result.converged),
        message=str(result.status),
    )
