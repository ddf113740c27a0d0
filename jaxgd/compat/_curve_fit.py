"""curve_fit(), with the arguments and the results of scipy.optimize.curve_fit."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.scipy.linalg
import numpy as np

from jaxgd import _minimize as own
from jaxgd.compat._squares import at, residuals_of, sum_of_squares
from jaxgd.result import Result, Status

_METHODS = ("lm", "trf", "dogbox")
_STEPS = ("maxfev", "max_nfev")
_WITHOUT_MEANING = frozenset(
    "ftol xtol gtol x_scale loss f_scale diff_step tr_solver tr_options jac_sparsity verbose epsfcn factor diag col_deriv workers "
    "callback".split()
)


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: Any = (-np.inf, np.inf),
    method: str | None = None,
    jac: Any = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    **kwargs: Any,
) -> Any:
    """Fit a function to data by least squares: `jaxgd.minimize` with the arguments of `scipy.optimize.curve_fit`, in 64 bits.

    Derivatives are exact where JAX can trace `f`, be it written with `jax.numpy` or with NumPy, see `jaxgd.compat.minimize`; else
    they are `jac`, or central differences.

    Args:
        f: the model, f(xdata, *params), of the shape of ydata.
        xdata: where the data were measured; passed on as it is, lists and tuples as arrays.
        ydata: the data, (m,).
        p0: the start, (n,); None is one for each parameter of f, or a point within the bounds.
        sigma: standard deviations of the data, one number or (m,), or their covariance matrix, (m, m).
        absolute_sigma: whether `sigma` has the units of the data; else it tells proportions only, and the covariance is scaled by
            the sum of squares over m - n.
        check_finite: whether data that are not finite are an error; None is True, unless there is a `nan_policy`.
        bounds: `scipy.optimize.Bounds`, or a pair (lower, upper) of numbers or arrays.
        method: "lm", which takes no bounds, "trf" or "dogbox": they are the same method here.
        jac: the derivatives of the model, jac(xdata, *params), (m, n), which are used where they are given. Names of differences
            leave them to JAX.
        full_output: whether to return also a dict with "nfev" and the residuals "fvec", a message, and a number 1 to 4.
        nan_policy: "raise" or "omit" NaN in the data, where they are not checked.
        kwargs: "maxfev" and "max_nfev" bound the evaluations; SciPy's other options are accepted and have no meaning here.

    Returns:
        The parameters, (n,), and their covariance matrix, (n, n): the inverse of J'J with the derivatives J of the weighted
        residuals. It is infinite, with an `OptimizeWarning`, where the data do not determine the parameters.

    Raises:
        ValueError: for bad arguments and data.
        TypeError: for more parameters than data with the method "lm".
        RuntimeError: if no minimum is found.

    The run ends at the precision of the numbers, so that no tolerance is needed. A loss that is not the sum of squares is refused.

    >>> import numpy as np
    >>> from jaxgd.compat import curve_fit
    >>> x = np.linspace(0, 4, 50)
    >>> y = 2.5 * np.exp(-1.3 * x) + 0.5
    >>> popt, pcov = curve_fit(lambda x, a, b, c: a * np.exp(-b * x) + c, x, y)
    >>> popt.round(6).tolist(), pcov.shape
    ([2.5, 1.3, 0.5], (3, 3))
    """
    _check_options(kwargs)
    start, sides = _start(f, p0, bounds)
    if method not in (None, *_METHODS):
        raise ValueError(f"method: expected 'lm', 'trf', 'dogbox' or None, got {method!r}.")
    if method == "lm" and sides is not None:
        raise ValueError("Method 'lm' only works for unconstrained problems. Use 'trf' or 'dogbox'.")
    xdata, ydata, sigma = _data(xdata, ydata, sigma, check_finite, nan_policy)
    if method in (None, "lm") and sides is None and start.size > ydata.size:
        raise TypeError(f"The number of func parameters={start.size} must not exceed the number of data points={ydata.size}")
    steps = [int(kwargs[name]) for name in _STEPS if kwargs.get(name)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        slopes = (lambda p: jac(xdata, *p)) if callable(jac) else None
        residuals = residuals_of(lambda p: f(xdata, *p), slopes, start, sides, _whitening(sigma, ydata.size), ydata)
        settings: dict[str, Any] = {"bounds": sides, "max_steps": min(steps, default=None), "dtype": "float64"}
        result = own.minimize(sum_of_squares(residuals), start, jit=residuals.is_traced, **settings)
        _check_end(result)
        values, matrix = at(residuals, np.array(result.params))
    covariance = _covariance(values, matrix, absolute_sigma=absolute_sigma)
    if not full_output:
        return np.array(result.params), covariance
    info = {"nfev": int(result.n_evaluations), "fvec": values}
    return np.array(result.params), covariance, info, str(result.status), 1 if result.converged else 4


def _check_options(options: dict[str, Any]) -> None:
    """Check the options that are passed on to a method in SciPy."""
    if "args" in options:
        raise ValueError("'args' is not a supported keyword argument.")
    if options.get("loss", "linear") != "linear":
        raise ValueError(f"loss: expected 'linear', got {options['loss']!r}: write the loss as a cost for jaxgd.minimize.")
    unknown = [name for name in options if name not in (*_STEPS, *_WITHOUT_MEANING)]
    if unknown:
        raise TypeError(f"curve_fit() got an unexpected keyword argument {unknown[0]!r}")


def _start(f: Any, p0: Any, bounds: Any) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Return the start, and the bounds; None where there are none."""
    if p0 is None:
        size = len(inspect.signature(f).parameters) - 1
        if size < 1:
            raise ValueError("Unable to determine number of fit parameters.")
    else:
        p0 = np.atleast_1d(np.asarray(p0, np.float64))
        size = p0.size
    pair = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else tuple(bounds)
    if len(pair) != 2:
        raise ValueError("`bounds` must contain 2 elements.")
    try:
        low, high = (np.broadcast_to(np.asarray(side, np.float64), (size,)) for side in pair)
    except ValueError:
        raise ValueError("Inconsistent shapes between bounds and `x0`.") from None
    if np.any(low >= high):
        raise ValueError("Each lower bound must be strictly less than each upper bound.")
    if p0 is None:
        p0, has_low, has_high = np.ones(size), np.isfinite(low), np.isfinite(high)
        p0[has_low], p0[has_high] = low[has_low] + 1, high[has_high] - 1
        both = has_low & has_high
        p0[both] = (low[both] + high[both]) / 2
    if np.any((p0 < low) | (p0 > high)):
        raise ValueError("Initial guess is outside of provided bounds")
    return p0, None if np.all(np.isinf(low) & np.isinf(high)) else (low, high)


def _data(xdata: Any, ydata: Any, sigma: Any, check_finite: bool | None, nan_policy: str | None) -> tuple[Any, np.ndarray, Any]:
    """Return the checked data, and their standard deviations or covariances."""
    if nan_policy not in (None, "raise", "omit"):
        raise ValueError(f"nan_policy: expected None, 'raise' or 'omit', got {nan_policy!r}.")
    convert = np.asarray_chkfinite if (nan_policy is None if check_finite is None else check_finite) else np.asarray
    ydata = convert(ydata, np.float64)
    xdata = convert(xdata, np.float64) if isinstance(xdata, list | tuple | np.ndarray) else xdata
    sigma = None if sigma is None else np.asarray(sigma, np.float64)
    if ydata.size == 0:
        raise ValueError("`ydata` must not be empty!")
    if nan_policy is None or convert is np.asarray_chkfinite:
        return xdata, ydata, sigma
    bad = np.isnan(ydata)
    if isinstance(xdata, np.ndarray):
        bad = bad | np.any(np.isnan(xdata), axis=tuple(range(xdata.ndim - 1)))
    if nan_policy == "raise" and np.any(bad):
        raise ValueError("The input contains nan values")
    if sigma is not None and sigma.size > 1:
        sigma = sigma[~bad] if sigma.ndim == 1 else sigma[np.ix_(~bad, ~bad)]
    return xdata[..., ~bad] if isinstance(xdata, np.ndarray) else xdata, ydata[~bad], sigma


def _whitening(sigma: Any, size: int) -> Callable[[Any], Any]:
    """Return the function that divides vectors, or the columns of matrices, by the standard deviations of the data."""
    if sigma is None:
        return lambda values: values
    if sigma.size == 1 or sigma.shape == (size,):
        return lambda values: values / (sigma.reshape(-1, 1) if values.ndim == 2 else sigma.reshape(-1))
    if sigma.shape != (size, size):
        raise ValueError("`sigma` has incorrect shape.")
    try:
        factor = np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError as error:
        raise ValueError("`sigma` must be positive definite.") from error
    return lambda values: jax.scipy.linalg.solve_triangular(factor, values, lower=True)


def _check_end(result: Result) -> None:
    """Check that a minimum was found."""
    if result.status is Status.STALLED:
        from scipy.optimize import OptimizeWarning

        warnings.warn(str(result.status), OptimizeWarning, stacklevel=3)
    elif not result.converged:
        raise RuntimeError(f"Optimal parameters not found: {result.status}")


def _covariance(values: np.ndarray, matrix: np.ndarray, *, absolute_sigma: bool) -> np.ndarray:
    """Return the inverse of J'J, scaled by the variance of the residuals unless that is known."""
    size, count = matrix.shape
    _, singular, rows = np.linalg.svd(matrix, full_matrices=False)
    threshold = np.finfo(np.float64).eps * max(size, count) * singular[0]
    if np.all(singular > threshold) and size >= count and (absolute_sigma or size > count):
        scale = 1.0 if absolute_sigma else np.sum(values**2) / (size - count)
        return (rows.T / singular**2) @ rows * scale
    from scipy.optimize import OptimizeWarning

    warnings.warn("Covariance of the parameters could not be estimated", OptimizeWarning, stacklevel=3)
    return np.full((count, count), np.inf)
