"""The examples of SciPy's documentation with one import changed: its printed digits, and its results on the same data."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from scipy.optimize import OptimizeResult, OptimizeWarning

from jaxgd.compat import curve_fit, least_squares, minimize
from jaxgd.compat._arrays import TracedArray, unwrapped

Bounds: Any = scipy.optimize.Bounds  # whose annotations know numbers alone
LinearConstraint: Any = scipy.optimize.LinearConstraint
NonlinearConstraint: Any = scipy.optimize.NonlinearConstraint
X0 = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
X = np.linspace(0, 4, 50)


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """Scripts run under JAX's own rules."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# The tutorial's functions, as it has them


def rosen(x: Any) -> Any:
    return sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0)


def rosen_der(x: Any) -> Any:
    xm, xm_m1, xm_p1 = x[1:-1], x[:-2], x[2:]
    der = np.zeros_like(x)
    der[1:-1] = 200 * (xm - xm_m1**2) - 400 * (xm_p1 - xm**2) * xm - 2 * (1 - xm)
    der[0] = -400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0])
    der[-1] = 200 * (x[-1] - x[-2] ** 2)
    return der


def rosen_hess(x: Any) -> Any:
    x = np.asarray(x)
    matrix = np.diag(-400 * x[:-1], 1) - np.diag(400 * x[:-1], -1)
    diagonal = np.zeros_like(x)
    diagonal[0] = 1200 * x[0] ** 2 - 400 * x[1] + 2
    diagonal[-1] = 200
    diagonal[1:-1] = 202 + 1200 * x[1:-1] ** 2 - 400 * x[2:]
    return matrix + np.diag(diagonal)


def rosen_hess_p(x: Any, p: Any) -> Any:
    x = np.asarray(x)
    product = np.zeros_like(x)
    product[0] = (1200 * x[0] ** 2 - 400 * x[1] + 2) * p[0] - 400 * x[0] * p[1]
    product[1:-1] = -400 * x[:-2] * p[:-2] + (202 + 1200 * x[1:-1] ** 2 - 400 * x[2:]) * p[1:-1] - 400 * x[1:-1] * p[2:]
    product[-1] = -400 * x[-2] * p[-2] + 200 * p[-1]
    return product


def opaque_rosen(x: Any) -> float:
    """The same in Python's numbers, which JAX can't trace."""
    return math.fsum(100 * (float(b) - float(a) ** 2) ** 2 + (1 - float(a)) ** 2 for a, b in itertools.pairwise(x))


CALLS: list[dict[str, Any]] = [
    {"method": "nelder-mead", "options": {"xatol": 1e-8, "disp": True}},
    {"method": "powell", "options": {"xtol": 1e-8, "disp": True}},
    {"method": "BFGS", "jac": rosen_der, "options": {"disp": True}},
    {"method": "Newton-CG", "jac": rosen_der, "hess": rosen_hess, "options": {"xtol": 1e-8, "disp": True}},
    {"method": "Newton-CG", "jac": rosen_der, "hessp": rosen_hess_p, "options": {"xtol": 1e-8, "disp": True}},
    {"method": "trust-ncg", "jac": rosen_der, "hessp": rosen_hess_p, "options": {"gtol": 1e-8, "disp": True}},
    {"method": "trust-krylov", "jac": rosen_der, "hess": rosen_hess, "options": {"gtol": 1e-8, "disp": True}},
    {"method": "trust-exact", "jac": rosen_der, "hess": rosen_hess, "options": {"gtol": 1e-8, "disp": True}},
    {"method": "CG"},
    {"method": "L-BFGS-B", "options": {"maxcor": 5}},
    {"method": "TNC", "bounds": [(0, 2)] * 5},
    {"tol": 1e-10},
]


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.get('method')}-{'-'.join(call)}")
def test_the_tutorials_valley_by_every_method(call: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    res = minimize(rosen, X0, **call)
    assert isinstance(res, OptimizeResult) and str(res.x) == "[1. 1. 1. 1. 1.]" and res.x.dtype == np.float64
    assert res.success and res.status == 0 and res.message == "Optimization terminated successfully." and res.fun < 1e-15
    assert 0 < res.nit < res.nfev == res.njev < 100
    shown = capsys.readouterr().out
    assert shown.startswith(res.message + "\n         Current function value: 0.000000\n") == ("disp" in call.get("options", ()))
    for name in {"hess", "hess_inv"} & res.keys():
        matrix = res[name] if name == "hess" else np.linalg.inv(res[name])
        np.testing.assert_allclose(matrix, rosen_hess(np.ones(5)), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_scipys_own_functions_and_those_that_cannot_be_traced() -> None:
    """By exact derivatives, by those that are given, and by differences; second ones, too."""
    own = minimize(scipy.optimize.rosen, X0, method="Nelder-Mead", tol=1e-6)
    assert str(own.x) == "[1. 1. 1. 1. 1.]" and own.nhev > 0
    cases: Any = (({}, 1e-5), ({"jac": rosen_der}, 1e-12), ({"jac": rosen_der, "hess": rosen_hess}, 1e-12))
    for derivatives, error in cases:
        res = minimize(opaque_rosen, X0, method="trust-exact" if "hess" in derivatives else None, **derivatives)
        assert res.success and np.max(np.abs(res.x - 1)) < error, derivatives
    bounds = [(None, 1), (None, 0.8), (None, None), (0, 1), (None, 1)]
    walled, exact = (minimize(fun, X0.clip(None, 0.8), bounds=bounds) for fun in (opaque_rosen, rosen))
    np.testing.assert_allclose(walled.x, exact.x, atol=1e-5)


def test_arguments_values_with_gradients_and_callbacks() -> None:
    seen: list[Any] = []

    def square(x: Any, a: Any, b: Any) -> Any:
        return np.sum((x - a) ** 2) + b, 2 * (x - a)

    def watch(intermediate_result: OptimizeResult) -> None:
        seen.append(intermediate_result)
        if len(seen) == 2:
            raise StopIteration

    center = np.array([2.0, 3.0])
    res = minimize(square, [0, 0], (center, 1.0), jac=True, options={"return_all": True})
    assert str(res.x) == "[2. 3.]" and res.fun == 1 and np.array_equal(res.allvecs[0], [0, 0]) and len(res.allvecs) == res.nit + 1
    single = minimize(lambda x, a: (x[0] - a) ** 2, 0, 2.0)
    assert str(single.x) == "[2.]"
    stopped = minimize(rosen, X0, method="trust-exact", callback=watch)
    assert not stopped.success and stopped.status == 99 and stopped.nit == 2 and seen[-1].fun == stopped.fun


def test_what_the_user_gives_is_used_and_what_he_raises_comes_through() -> None:
    """A gradient of another cost has its own zero."""
    other = minimize(lambda x: jnp.sum(x**2), [3.0], jac=lambda x: 2 * (x - 1), method="L-BFGS-B", options={"maxiter": 1})
    assert other.jac == 2 * (other.x - 1) and other.status == 1

    def broken(x: Any) -> Any:
        raise ZeroDivisionError("of the script")

    with pytest.raises(ZeroDivisionError, match="of the script"):
        minimize(broken, X0)


def test_warnings_are_those_of_scipy() -> None:
    with pytest.warns(OptimizeWarning) as seen:
        res = minimize(lambda x: np.sum((x - 1) ** 4), [3.0], bounds=[(0, 2)], options={"foo": 1, "maxiter": 2})
    assert not res.success
    messages = ["Initial guess is not within the specified bounds", "Unknown solver options: foo"]
    assert [str(one.message) for one in seen] == messages and {one.filename for one in seen} == {__file__}


def run_minimize(fun: Any = rosen, x0: Any = X0, **options: Any) -> Any:
    return lambda: minimize(fun, x0, **options)


def run_fit(f: Any = lambda x, a: a * x, ydata: Any = X, **options: Any) -> Any:
    return lambda: curve_fit(f, X, ydata, **options)


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (run_minimize(method="foo"), ValueError, "Unknown solver foo"),
    (run_minimize(method=lambda fun, x0: None), TypeError, "method: expected a name, got a function: call scipy.optimize"),
    (run_minimize(x0=np.ones((2, 2))), ValueError, "'x0' must only have one dimension."),
    (run_minimize(bounds=[(0, 1)]), ValueError, r"bounds: expected a pair \(low, high\) for each of the 5 variables, got"),
    (run_minimize(bounds=[(2, 1)] * 5), ValueError, "An upper bound is less than the corresponding lower bound."),
    (run_minimize(lambda x: x), ValueError, "The user-provided objective function must return a scalar value."),
    (
        run_minimize(constraints={"type": "le", "fun": rosen}),
        ValueError,
        r"constraints\[0\]: expected the type 'eq' or 'ineq'",
    ),
    (
        run_minimize(constraints=3),
        TypeError,
        r"constraints\[0\]: expected a dict, a LinearConstraint or a NonlinearConstraint",
    ),
    (run_minimize(constraints={"type": "eq", "fun": opaque_rosen}), TypeError, r"constraints\[0\]\['fun'\]: JAX can't trace it: w"),
    (run_minimize(opaque_rosen, constraints={"type": "eq", "fun": rosen}), TypeError, "fun: JAX can't trace it, which constraints"),
    (run_fit(method="lm", bounds=(0, 1)), ValueError, "Method 'lm' only works for unconstrained problems"),
    (run_fit(method="foo"), ValueError, "method: expected 'lm', 'trf', 'dogbox' or None, got 'foo'"),
    (run_fit(ydata=X * np.nan), ValueError, "array must not contain infs or NaNs"),
    (run_fit(ydata=X * np.nan, nan_policy="raise"), ValueError, "The input contains nan values"),
    (run_fit(nan_policy="propagate"), ValueError, "nan_policy: expected None, 'raise' or 'omit', got 'propagate'"),
    (run_fit(sigma=np.ones(3)), ValueError, "`sigma` has incorrect shape."),
    (run_fit(sigma=-np.eye(50)), ValueError, "`sigma` must be positive definite."),
    (run_fit(p0=np.ones(51), f=lambda x, *p: x), TypeError, "The number of func parameters=51 must not exceed the number of data"),
    (run_fit(lambda x: x), ValueError, "Unable to determine number of fit parameters."),
    (run_fit(p0=[3.0], bounds=(0, 1)), ValueError, "Initial guess is outside of provided bounds"),
    (run_fit(loss="huber"), ValueError, "loss: expected 'linear', got 'huber'"),
    (lambda: least_squares(np.sin, 1.0, method="foo"), ValueError, "`method` must be 'trf', 'dogbox' or 'lm'."),
    (lambda: least_squares(np.sin, 1.0, loss="foo"), ValueError, "`loss` must be one of"),
    (lambda: least_squares(np.sin, 1.0, loss="huber", method="lm"), ValueError, "Method 'lm' supports neither bounds nor"),
    (lambda: least_squares(np.sin, 1.0, bounds=(2, 3)), ValueError, "Initial guess is outside of provided bounds"),
    (run_fit(foo=1), TypeError, "got an unexpected keyword argument 'foo'"),
    (run_fit(lambda x, a: jnp.exp(a * x) + x, maxfev=1), RuntimeError, "Optimal parameters not found: Not converged: the maximum"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=lambda value: value if isinstance(value, str) else "")
def test_errors(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{message}" if "keyword" not in message else message):
        call()


# Constraints


@pytest.mark.slow
def test_the_tutorials_constraints_by_trust_constr_and_by_slsqp() -> None:
    """The minimiser to the digits that the two methods of SciPy print, which agree in five."""
    bounds, x0 = Bounds([0, -0.5], [1.0, 2.0]), np.array([0.5, 0])
    linear = LinearConstraint([[1, 2], [2, 1]], [-np.inf, 1], [1, 1])
    curved = NonlinearConstraint(
        lambda x: [x[0] ** 2 + x[1], x[0] ** 2 - x[1]],
        -np.inf,
        1,
        jac=lambda x: [[2 * x[0], 1], [2 * x[0], -1]],
        hess=lambda x, v: v[0] * np.array([[2, 0], [0, 0]]) + v[1] * np.array([[2, 0], [0, 0]]),
    )
    settings: dict[str, Any] = {"jac": scipy.optimize.rosen_der, "bounds": bounds}
    first = minimize(
        scipy.optimize.rosen,
        x0,
        method="trust-constr",
        hess=scipy.optimize.rosen_hess,
        constraints=[linear, curved],
        options={"verbose": 1},
        **settings,
    )
    np.testing.assert_allclose(first.x, [0.41494531, 0.17010937], atol=3e-6)
    above = {
        "type": "ineq",
        "fun": lambda x: np.array([1 - x[0] - 2 * x[1], 1 - x[0] ** 2 - x[1], 1 - x[0] ** 2 + x[1]]),
        "jac": lambda x: np.array([[-1.0, -2.0], [-2 * x[0], -1.0], [-2 * x[0], 1.0]]),
    }
    equal = {"type": "eq", "fun": lambda x: np.array([2 * x[0] + x[1] - 1]), "jac": lambda x: np.array([2.0, 1.0])}
    options = {"ftol": 1e-9, "disp": False}
    second = minimize(scipy.optimize.rosen, x0, method="SLSQP", constraints=[equal, above], options=options, **settings)
    np.testing.assert_allclose(second.x, [0.41494475, 0.1701105], atol=3e-6)
    assert first.success and second.success and max(first.maxcv, second.maxcv) < 1e-12
    np.testing.assert_allclose(first.x, second.x, atol=1e-8)
    assert round(second.fun, 6) == 0.342718


@pytest.mark.slow
def test_the_reference_pages_example_with_constraints_and_bounds() -> None:
    constraints = (
        {"type": "ineq", "fun": lambda x: x[0] - 2 * x[1] + 2},
        {"type": "ineq", "fun": lambda x: -x[0] - 2 * x[1] + 6},
        {"type": "ineq", "fun": lambda x: -x[0] + 2 * x[1] + 2},
    )
    for method in ("SLSQP", "COBYLA", None):
        res = minimize(
            lambda x: (x[0] - 1) ** 2 + (x[1] - 2.5) ** 2,
            (2, 0),
            method=method,
            bounds=((0, None), (0, None)),
            constraints=constraints,
        )
        np.testing.assert_allclose(res.x, [1.4, 1.7], atol=1e-7)
        np.testing.assert_allclose(res.multipliers["inequality"], [0.8, 0, 0], atol=1e-6)
    with pytest.warns(RuntimeWarning, match="^Method BFGS cannot handle constraints in SciPy"):
        minimize(lambda x: (x[0] - 1) ** 2 + x[1] ** 2, (2, 0), method="BFGS", constraints=constraints[:1])


# curve_fit


def func(x: Any, a: Any, b: Any, c: Any) -> Any:
    return a * np.exp(-b * x) + c


Y = func(X, 2.5, 1.3, 0.5) + 0.2 * np.random.default_rng(0).normal(size=50)
COVARIANCE = 0.04 * (np.eye(50) + 0.3)


def slopes(x: Any, a: Any, b: Any, c: Any) -> Any:
    return np.column_stack([np.exp(-b * x), -a * x * np.exp(-b * x), np.ones_like(x)])


def opaque_func(x: Any, a: Any, b: Any, c: Any) -> Any:
    return np.array([a * math.exp(-b * one) + c for one in x])


FITS: list[tuple[Any, dict[str, Any]]] = [
    (func, {}),
    (func, {"bounds": (0, [3.0, 1.0, 0.5])}),
    (func, {"sigma": np.linspace(0.1, 1, 50)}),
    (func, {"sigma": np.linspace(0.1, 1, 50), "absolute_sigma": True, "p0": [2, 1, 0.3]}),
    (func, {"sigma": 0.2, "absolute_sigma": True}),
    (func, {"sigma": COVARIANCE, "absolute_sigma": True}),
    (func, {"jac": slopes}),
    (opaque_func, {}),
    (opaque_func, {"jac": slopes, "bounds": Bounds([0, 0, 0], [3, 1, 0.5])}),
    (opaque_func, {"sigma": COVARIANCE}),
]


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize(("f", "options"), FITS, ids=lambda value: getattr(value, "__name__", None) or "-".join(value))
def test_the_documented_fit_as_scipy_does_it(f: Any, options: dict[str, Any]) -> None:
    popt, pcov = curve_fit(f, X, Y, **options)
    precise = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-13)
    expected, covariance = scipy.optimize.curve_fit(f, X, Y, **options, **precise)
    np.testing.assert_allclose(popt, expected, rtol=1e-6)
    np.testing.assert_allclose(pcov, covariance, rtol=1e-4)


@pytest.mark.slow
def test_nan_full_output_and_parameters_that_are_not_determined() -> None:
    data, keep = np.where(np.arange(50) == 7, np.nan, Y), np.arange(50) != 7
    popt, _, info, message, code = curve_fit(func, X, data, nan_policy="omit", full_output=True)
    np.testing.assert_allclose(popt, curve_fit(func, X[keep], Y[keep])[0], rtol=1e-9)
    np.testing.assert_allclose(info["fvec"], (func(X, *popt) - Y)[keep], rtol=1e-9)
    assert info["nfev"] < 30 and message.startswith("Converged") and code == 1
    with pytest.warns(OptimizeWarning, match="^Covariance of the parameters could not be estimated$"):
        _, pcov = curve_fit(lambda x, a, b, c, d: a * d * np.exp(-b * x) + c, X, Y)
    assert np.all(np.isinf(pcov))


def test_arrays_of_a_script_keep_their_meaning_in_32_bits() -> None:
    """JAX keeps what it has made of an array in 64 bits, as long as something uses that."""
    x, y = X.copy(), Y.copy()

    def slope() -> Any:
        return jax.grad(lambda p: jnp.sum((p * x - y) ** 2))(1.0)

    before, _ = slope(), curve_fit(func, x, y)
    assert slope() == before and before.dtype == np.float32


# least_squares


def exponential(p: Any, t: Any, y: Any) -> Any:
    return p[0] + p[1] * np.exp(p[2] * t) - y


def opaque_exponential(p: Any, t: Any, y: Any) -> Any:
    return [p[0] + p[1] * math.exp(p[2] * a) - b for a, b in zip(t, y, strict=True)]


def soft_l1(z: Any) -> Any:
    return np.array([2 * ((1 + z) ** 0.5 - 1), (1 + z) ** -0.5, -0.5 * (1 + z) ** -1.5])


T = np.linspace(0, 10, 15)
OUTLIERS = 0.5 + 2 * np.exp(-T) + np.where(np.arange(15) % 5 == 3, 1.0, 0.05) * np.cos(9 * T)
ROBUST: list[tuple[Any, dict[str, Any]]] = [
    *((exponential, {"loss": loss}) for loss in ("soft_l1", "huber", "cauchy", "arctan", soft_l1)),
    (opaque_exponential, {"loss": "soft_l1"}),
    (exponential, {"bounds": ([0, 0, -0.5], [3, 3, 0])}),
]


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize(
    ("fun", "options"), ROBUST, ids=lambda value: getattr(value, "__name__", None) or "-".join(map(str, value.items()))[:20]
)
def test_robust_fits_as_scipy_does_them(fun: Any, options: dict[str, Any]) -> None:
    settings: dict[str, Any] = options | {"f_scale": 0.1, "args": (T, OUTLIERS)}
    start = [1.0, 1.0, -0.25]
    res = least_squares(fun, start, **settings)
    expected = scipy.optimize.least_squares(fun, start, **settings, **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-13))
    assert res.success and expected.success and res.optimality < 1e-9 and res.nfev < 100
    assert list(res.active_mask) == list(expected.active_mask)
    if options.get("loss") == "arctan":  # a concave loss has several minima, and this one is lower
        assert res.cost < 0.6 * expected.cost
        return
    for name, rtol in {"x": 1e-6, "cost": 1e-10, "fun": 1e-6, "jac": 1e-5}.items():
        np.testing.assert_allclose(res[name], expected[name], rtol=rtol, atol=1e-7)


# Code written with NumPy

EXPRESSIONS: dict[str, Any] = {
    "assignment": rosen_der,
    "objects": lambda x: np.exp(np.asarray(x)) @ np.arange(5.0),
    "a list": lambda x: np.array([x[0], 2.0, x[1] * x[2]]),
    "in place": lambda x: [x := x + 0, x.__iadd__(2), x.__setitem__(0, 7.0), np.sum(x)][-1],
    "linear algebra": lambda x: np.linalg.norm(np.dot(2 * np.eye(5), x) - 1),
    "special functions": lambda x: scipy.special.gammaln(x).sum() + np.sum(scipy.special.erf(x)),
    "choices": lambda x: np.mean(np.where(x > 1, x, np.exp(-x))) + np.maximum(x, 1).sum() + abs(x - 1).max(),
    "lists of numbers": lambda x: np.concatenate([x, [1.0, 2.0]]) + np.interp(x[0], [0, 1, 2], [1, 2, 5]),
    "powers": lambda x: 2.0**x + np.cumsum(x)[-1] + np.clip(x, 0, 1) + x[::-1] + x.reshape(5, 1).T[0],
}


def called(function: Any) -> Any:
    with jax.enable_x64(True):
        return jax.jit(lambda x: jnp.asarray(unwrapped(function(TracedArray(x)))))(X0)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_code_of_numpy_is_traced_to_its_numbers(name: str) -> None:
    np.testing.assert_allclose(called(EXPRESSIONS[name]), np.asarray(EXPRESSIONS[name](X0.copy()), float), rtol=1e-12)


def test_an_assignment_to_a_view_is_not_traced() -> None:
    def doubles(x: Any) -> Any:
        x[1:] *= 2
        return x

    def through_a_view(x: Any) -> Any:
        part = x[1:]
        part *= 2
        return np.sum(x)

    def below_a_view(x: Any) -> Any:
        part = x[1:]
        x[1] = 5
        return np.sum(part)

    for function in (doubles, through_a_view, below_a_view):
        with pytest.raises(TypeError, match="another array has a part"):
            called(function)
