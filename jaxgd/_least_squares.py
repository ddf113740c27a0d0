"""least_squares(): residuals, whose squares are summed, and curve_fit(), a model of data."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._checks.check import Refused
from jaxgd._minimize import minimize
from jaxgd._run.progress import Callback
from jaxgd._trees import is_traced
from jaxgd.checkpoint import Checkpoint
from jaxgd.result import Result
from jaxgd.squares import SumOfSquares
from jaxgd.uncertainty import Covariance, covariance


def least_squares(
    residuals: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
    loss: Any = "linear",
    loss_scale: Any = 1.0,
    method: Any = None,
    bounds: Any = None,
    fixed: Any = None,
    transform: Any = None,
    stop: Any = None,
    max_steps: int | None = None,
    key: Any = None,
    n_starts: int = 1,
    dtype: Any = None,
    history: Any = None,
    has_aux: bool = False,
    callback: Callback | Sequence[Callback] | None = None,
    progress: bool | str = False,
    resume: Any = None,
    checkpoint: Checkpoint | None = None,
    jit: bool = True,
    implicit: bool = True,
) -> Result:
    """Minimise half a sum of squares of residuals, or of a robust loss of them.

        cost = sum(s**2 * rho((r / s)**2)) / 2,    rho(z) = z by default

    It is `minimize(SumOfSquares(residuals, loss, loss_scale), start, data, ...)`: everything that `minimize` can do with a cost,
    it can do with this one. Methods that know the residuals need fewer steps.

    Args:
        residuals: residuals(params), or residuals(params, data) where data are given, written with `jax.numpy`: returns an array of
            residuals of any shape, or a pytree of them, or with `has_aux` a pair of these and anything.
        start: as in `minimize`.
        data: as in `minimize`.
        loss: "linear", "soft_l1", "huber", "cauchy" or "arctan", or a function rho(z) of an array z >= 0, element by element, with
            rho(0) = 0 and rho'(0) = 1; see `SumOfSquares`.
        loss_scale: s, > 0: residuals beyond it are taken for outliers. It has no meaning for the loss "linear".
        method: None is `LevenbergMarquardt()` for up to 200 free parameters, and `GaussNewton()` for more; all others serve too.
        bounds: as in `minimize`.
        fixed: as in `minimize`.
        transform: as in `minimize`.
        stop: as in `minimize`.
        max_steps: as in `minimize`.
        key: the random key of a random start: a key of `jax.random`, or an integer.
        n_starts: as in `minimize`.
        dtype: as in `minimize`.
        history: as in `minimize`.
        has_aux: whether the function returns a pair (residuals, aux); the aux of the returned point is `result.aux`.
        callback: as in `minimize`.
        progress: as in `minimize`.
        resume: as in `minimize`.
        checkpoint: as in `minimize`.
        jit: as in `minimize`.
        implicit: as in `minimize`.

    Returns:
        A `Result`. Its cost is the half sum. `result.covariance()` gives the standard errors: those of residuals of one unknown
        variance, or with a robust loss those of an M-estimate (the sandwich).

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    Derivatives are those of a minimum, as in `minimize`. Many such fits are `minimize_many(SumOfSquares(residuals), ...)`.

    J. E. Dennis, R. B. Schnabel, Numerical methods for unconstrained optimization and nonlinear equations (1983), chapter 10.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.linspace(0, 3, 30)
    >>> y = 2 * np.exp(-x) + 0.5
    >>> def residuals(p, data):
    ...     x, y = data
    ...     return p["height"] * jnp.exp(-p["rate"] * x) + p["level"] - y
    >>> result = jaxgd.least_squares(residuals, {"height": 1.0, "rate": 0.3, "level": 0.0}, (x, y))
    >>> result.converged, round(float(result.params["rate"]), 3)
    (True, 1.0)
    """
    cost = SumOfSquares(residuals, loss, loss_scale, has_aux)
    return minimize(
        cost,
        start,
        data,
        method=method,
        bounds=bounds,
        fixed=fixed,
        transform=transform,
        stop=stop,
        max_steps=max_steps,
        key=key,
        n_starts=n_starts,
        dtype=dtype,
        history=history,
        has_aux=has_aux,
        callback=callback,
        progress=progress,
        resume=resume,
        checkpoint=checkpoint,
        jit=jit,
        implicit=implicit,
    )


class CurveFit(NamedTuple):
    """The end of a fit of a curve, a pair.

    Attributes:
        result: the `Result`.
        covariance: the `Covariance` of the parameters.

    >>> import jaxgd, numpy as np
    >>> result, covariance = jaxgd.curve_fit(lambda a, x: a * x, np.arange(1.0, 4.0), np.array([2.1, 3.9, 6.0]), 1.0)
    >>> round(float(result.params), 3), round(float(covariance.standard_errors), 3)
    (1.993, 0.026)
    """

    result: Result
    covariance: Covariance


def curve_fit(
    model: Callable[[Any, Any], Any],
    x: Any,
    y: Any,
    start: Any,
    *,
    sigma: Any = None,
    absolute_sigma: bool = False,
    **options: Any,
) -> CurveFit:
    """Fit a model of y to data by least squares, and find the uncertainties of its parameters.

        residuals = (model(params, x) - y) / sigma

    Args:
        model: model(params, x), written with `jax.numpy`: returns an array of the shape of y.
        x: where the model is to be evaluated: any pytree of arrays.
        y: the data, an array.
        start: where to begin, as in `minimize`: a pytree of numbers or arrays.
        sigma: the standard deviations of y, > 0: a number or an array of its shape; or for y of one dimension the matrix of their
            covariance. None is 1 for all.
        absolute_sigma: whether sigma is known in the units of y. Otherwise its scale is unknown, and the residuals tell it.
        options: those of `least_squares`, such as `bounds`, `loss` or `dtype`.

    Returns:
        A pair (result, covariance). `result.params` are the parameters, `covariance.standard_errors` their standard errors.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    P. R. Bevington, D. K. Robinson, Data reduction and error analysis for the physical sciences (2003).

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.array([0.0, 1.0, 2.0, 3.0])
    >>> line = lambda p, x: p["offset"] + p["slope"] * x
    >>> start = {"offset": 0.0, "slope": 0.0}
    >>> result, covariance = jaxgd.curve_fit(line, x, np.array([1.0, 2.0, 4.0, 5.0]), start, dtype="float64")
    >>> print(result.summary(covariance))  # doctest: +ELLIPSIS
    Converged: ...
      params['offset']  0.90 ± 0.26
      params['slope']   1.40 ± 0.14
    """
    check.function("model", model, ("params", "x"), "a function that can be called as model(params, x)")
    check.flag("absolute_sigma", absolute_sigma)
    if absolute_sigma and sigma is None:
        raise ValueError("absolute_sigma: expected False where no sigma is given, got True.")
    if "has_aux" in options:
        raise TypeError("has_aux: curve_fit takes a model that returns an array alone; call least_squares.")
    check.real("y", y, "an array of numbers")
    y = y if isinstance(y, jax.Array | np.ndarray) else np.asarray(y)
    data = {"x": x, "y": y}
    if sigma is not None:
        data["sigma"] = _deviations(sigma, y)
    fit = _Residuals(model)
    result = least_squares(fit, start, data, **options)
    same: dict[str, Any] = {name: options[name] for name in ("bounds", "fixed", "transform", "dtype", "jit") if name in options}
    cost = SumOfSquares(fit, options.get("loss", "linear"), options.get("loss_scale", 1.0))
    return CurveFit(result, covariance(cost, result.params, data, scale=0.5 if absolute_sigma else None, **same))


@dataclasses.dataclass(frozen=True)
class _Residuals:
    """The residuals of a model, a function of its parameters and the data."""

    model: Callable[[Any, Any], Any]

    def __call__(self, params: Any, data: Any) -> jax.Array:
        y, predicted = data["y"], jnp.asarray(self.model(params, data["x"]))
        if predicted.shape != y.shape:
            raise Refused(f"model: it must return an array of the shape of y, {y.shape}, it returned one of {predicted.shape}.")
        residuals, sigma = predicted - y, data.get("sigma")
        if sigma is None:
            return residuals
        if sigma.ndim == y.ndim + 1:
            return jax.scipy.linalg.solve_triangular(sigma, residuals, lower=True)
        return residuals / sigma


def _deviations(sigma: Any, y: Any) -> Any:
    """Return standard deviations of the shape of y, or the factor of Cholesky of their covariance."""
    if is_traced(sigma):
        return jnp.linalg.cholesky(sigma) if sigma.ndim == y.ndim + 1 else jnp.broadcast_to(sigma, y.shape)
    array: Any = check.real("sigma", sigma)
    if np.ndim(y) == 1 and array.shape == (len(y), len(y)):
        try:
            return np.linalg.cholesky(array.astype(np.float64))
        except np.linalg.LinAlgError:
            raise ValueError("sigma: expected a positive definite matrix of covariance, got one that is not.") from None
    check.positive("sigma", array, several=True)
    if array.shape not in ((), np.shape(y)):
        matrix = f", or the matrix of covariance, {(len(y), len(y))}" if np.ndim(y) == 1 else ""
        raise ValueError(f"sigma: expected a number or an array of the shape of y, {np.shape(y)}{matrix}, got shape {array.shape}.")
    return np.broadcast_to(array, np.shape(y))
