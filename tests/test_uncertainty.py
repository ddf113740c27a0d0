"""Covariances against closed forms, SciPy's curve_fit, iminuit's HESSE and NIST's certified standard deviations."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxgd
from jaxgd import CovarianceStatus, covariance
from tests.problems import X, Y

DECAY_X = np.linspace(0, 4, 12)
DECAY_Y = np.array([2.95, 2.21, 1.83, 1.38, 1.24, 0.98, 0.91, 0.75, 0.72, 0.63, 0.60, 0.58])
SIGMA = 0.03 + 0.01 * DECAY_X
DECAY = (DECAY_X, DECAY_Y, SIGMA)
DESIGN = np.stack([np.ones(len(X)), X], axis=1)
LINE = np.linalg.solve(DESIGN.T @ DESIGN, DESIGN.T @ Y)
VARIANCE = np.sum((DESIGN @ LINE - Y) ** 2) / (len(X) - 2)
LINEAR = VARIANCE * np.linalg.inv(DESIGN.T @ DESIGN)
ANY: Any = None


def line_residuals(v: Any, data: Any) -> Any:
    x, y = data
    return v[0] + v[1] * x - y


def half_squares(v: Any, data: Any) -> Any:
    return jnp.sum(line_residuals(v, data) ** 2) / 2


def decay(x: Any, a: Any, k: Any, b: Any, xp: Any = np) -> Any:
    return a * xp.exp(-k * x) + b


def decay_residuals(v: Any, data: Any) -> Any:
    x, y, sigma = data
    return (decay(x, *v, xp=jnp) - y) / sigma


def chi_square(v: Any, data: Any) -> Any:
    return jnp.sum(decay_residuals(v, data) ** 2)


def wide(cost: Any, params: Any, *data: Any, **options: Any) -> jaxgd.Covariance:
    return covariance(cost, params, *data, dtype="float64", **options)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("jit", [True, False])
def test_a_straight_line_has_the_covariance_of_the_textbooks(jit: bool) -> None:
    by_cost = wide(half_squares, LINE, (X, Y), n_observations=len(X), jit=jit)
    by_residuals = wide(ANY, LINE, (X, Y), residuals=line_residuals, jit=jit)
    for found in (by_cost, by_residuals):
        np.testing.assert_allclose(found.matrix, LINEAR, rtol=1e-12)
        np.testing.assert_allclose(found.standard_errors, np.sqrt(np.diag(LINEAR)), rtol=1e-12)
        np.testing.assert_allclose(found.correlation[0, 1], LINEAR[0, 1] / np.sqrt(LINEAR[0, 0] * LINEAR[1, 1]), rtol=1e-12)
        np.testing.assert_array_equal(np.diag(found.correlation), 1)
        np.testing.assert_allclose(found.factor, VARIANCE, rtol=1e-12)
        assert found.valid is True and found.status is CovarianceStatus.POSITIVE_DEFINITE


def test_the_scale_is_the_rise_of_the_cost_at_one_standard_error() -> None:
    for scale in (None, 0.5, 1, 3.0):
        np.testing.assert_allclose(wide(lambda v: 2 * v**2, 0.0, scale=scale).matrix, [[2 * (scale or 0.5) / 4]], rtol=1e-15)
        error = wide(lambda v: 2 * v**2, 0.0, scale=scale).standard_errors
        np.testing.assert_allclose(2 * error**2, scale or 0.5, rtol=1e-15)


@pytest.mark.parametrize("absolute", [True, False])
def test_curve_fit_agrees(absolute: bool) -> None:
    options: dict[str, Any] = {"sigma": SIGMA, "absolute_sigma": absolute, "xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}
    params, expected = scipy.optimize.curve_fit(decay, DECAY_X, DECAY_Y, [2.5, 1.0, 0.5], **options)
    found = wide(ANY, params, DECAY, residuals=decay_residuals, scale=0.5 if absolute else None)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-6)  # its Jacobian is of finite differences


def test_hesse_agrees() -> None:
    """The numbers are those that iminuit 2.33.0 printed (strategy 2, tol 1e-6), whose derivatives are of finite differences."""
    fitted = jaxgd.minimize(chi_square, [2.5, 1.0, 0.5], DECAY, dtype="float64")
    found = wide(chi_square, fitted.params, DECAY, scale=1)
    np.testing.assert_allclose(fitted.params, [2.406558126270542, 0.8965799027170305, 0.5264389829289877], rtol=1e-6)
    errors = [0.04486373354127324, 0.0445447972186986, 0.043094447498630145]
    off_diagonal = [-0.00104164330558902, -0.00153940432786864, 0.00165579822225892]
    np.testing.assert_allclose(found.standard_errors, errors, rtol=2e-4)
    np.testing.assert_allclose(found.matrix[np.triu_indices(3, 1)], off_diagonal, rtol=5e-4)


def test_a_poisson_likelihood_has_its_fisher_information_and_hesses_errors() -> None:
    counts, t = np.array([3, 7, 12, 9, 20, 17, 31, 28]), np.arange(8.0)

    def negative_log_likelihood(v: Any, data: Any) -> Any:
        counts, t = data
        log_mean = v["level"] + v["rate"] * t
        return jnp.sum(jnp.exp(log_mean) - counts * log_mean)

    fitted = jaxgd.minimize(negative_log_likelihood, {"level": 1.0, "rate": 0.3}, (1.0 * counts, t), dtype="float64")
    found = wide(negative_log_likelihood, fitted.params, (1.0 * counts, t))
    mean = np.exp(fitted.params["level"] + fitted.params["rate"] * t)
    design = np.stack([np.ones(8), t], axis=1)
    np.testing.assert_allclose(found.matrix, np.linalg.inv(design.T @ (mean[:, None] * design)), rtol=1e-11)
    assert found.names == ("params['level']", "params['rate']")
    # printed by iminuit 2.33.0, errordef 0.5
    np.testing.assert_allclose(found.standard_errors["level"], 0.22269764404613082, rtol=2e-4)
    np.testing.assert_allclose(found.standard_errors["rate"], 0.04287596813327308, rtol=2e-4)


@pytest.mark.parametrize("jit", [True, False])
def test_a_handbooks_certified_standard_deviations(jit: bool) -> None:
    """NIST's Misra1a: parameters of 2e2 and 5e-4, all eleven digits."""
    x = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
    y = np.array([10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78])
    certified = [2.3894212918e02, 5.5015643181e-04]
    found = wide(ANY, certified, residuals=lambda v: v[0] * (1 - jnp.exp(-v[1] * x)) - y, jit=jit)
    np.testing.assert_allclose(found.standard_errors, [2.7070075241, 7.2668688436e-06], rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(found.factor), 1.0187876330e-01, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-3)])
def test_badly_scaled_parameters_keep_their_digits(dtype: str, rtol: float) -> None:
    units = np.array([1e-6, 1e6])
    data = (X - 25.0, Y)
    shifted = np.array([[1.0, 25.0], [0.0, 1.0]])  # the line about x = 25
    expected = shifted @ LINEAR @ shifted.T * units[:, None] * units
    params = shifted @ LINE * units
    for found in (
        covariance(ANY, params, data, residuals=lambda v, d: line_residuals(v / units.astype(v.dtype), d), dtype=dtype),
        covariance(lambda v, d: half_squares(v / units.astype(v.dtype), d), params, data, n_observations=len(X), dtype=dtype),
    ):
        np.testing.assert_allclose(found.matrix, expected, rtol=rtol, atol=0)
        assert found.valid and found.matrix.dtype == dtype


def test_nearly_parallel_columns_keep_digits_in_qr_that_their_squares_lose() -> None:
    t = np.arange(1.0, 9.0)
    design = np.stack([np.ones(8), 1 + 1e-9 * t], axis=1)
    found = wide(ANY, np.zeros(2), residuals=lambda v: design @ v - t, scale=0.5)
    slope = np.sqrt(1 / np.sum((t - t.mean()) ** 2)) / 1e-9
    assert found.valid
    np.testing.assert_allclose(found.standard_errors[1], slope, rtol=1e-6)  # the columns hold seven digits of the slope
    assert wide(lambda v: jnp.sum((design @ v - t) ** 2) / 2, np.zeros(2)).status is CovarianceStatus.SINGULAR


def test_fixed_parameters_have_no_uncertainty_and_are_not_counted() -> None:
    start = {"line": LINE, "other": 3.0}

    def residuals(p: Any, data: Any) -> Any:
        return p["other"] * line_residuals(p["line"], data)

    fixed = {"line": np.array([True, False]), "other": True}
    variance = 9 * np.sum((DESIGN @ LINE - Y) ** 2) / (len(X) - 1)
    expected = np.sqrt(variance / (9 * np.sum(X**2)))
    for options in ({"residuals": residuals}, {"n_observations": len(X)}):
        found = wide(lambda p, data: jnp.sum(residuals(p, data) ** 2) / 2, start, (X, Y), fixed=fixed, **options)
        np.testing.assert_allclose(found.standard_errors["line"], [0, expected], rtol=1e-12)
        assert found.standard_errors["other"] == 0 and found.valid
        np.testing.assert_array_equal(found.correlation, np.diag([0, 1, 0]))
        np.testing.assert_allclose(found.matrix, np.diag([0, expected**2, 0]), rtol=1e-12)
        assert found.names == ("params['line'][0]", "params['line'][1]", "params['other']")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_a_bound_holds_back_has_no_uncertainty(dtype: str) -> None:
    slope = 0.1
    bounds = ([-np.inf, 0.0], [np.inf, slope])
    offset = np.mean(Y - slope * X)
    expected = np.sqrt(np.sum((Y - offset - slope * X) ** 2) / (len(X) - 1) / len(X))
    ways: list[dict[str, Any]] = [{"residuals": line_residuals}, {"n_observations": len(X)}]
    for options in ways:
        found = covariance(half_squares, np.array([offset, slope]), (X, Y), bounds=bounds, dtype=dtype, **options)
        np.testing.assert_allclose(found.standard_errors, [expected, 0], rtol=1e-5 if dtype == "float32" else 1e-12)
        assert found.valid and "(held)" in str(found)
    inside = wide(half_squares, LINE, (X, Y), bounds=(None, [LINE[0] + 1, LINE[1] + 1e-9]), n_observations=len(X))
    np.testing.assert_allclose(inside.matrix, LINEAR, rtol=1e-12)
    inward = wide(lambda v: jnp.sum((v - 1) ** 2) / 2, np.zeros(2), bounds=([0, None], None))
    np.testing.assert_array_equal(inward.matrix, np.eye(2))  # the cost falls into the box, so that the bound holds nothing
    pinned = wide(lambda v: jnp.sum(v**2) / 2, np.zeros(2), bounds=([0, None], [0, None]))
    np.testing.assert_array_equal(pinned.matrix, np.diag([0.0, 1.0]))


@pytest.mark.parametrize(
    "cost",
    [lambda v: v[0] * v[1], lambda v: v[0] ** 2 - v[1] ** 2, lambda v: -jnp.sum(v**2), lambda v: v[0] ** 2 - 1e-9 * v[1] ** 2],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_no_minimum_has_no_covariance(cost: Any, dtype: str) -> None:
    found = covariance(cost, np.zeros(2), dtype=dtype)
    assert found.status is CovarianceStatus.NOT_POSITIVE_DEFINITE and found.valid is False
    assert np.all(np.isnan(found.standard_errors)) and np.all(np.isnan(found.matrix)) and np.all(np.isnan(found.correlation))
    assert str(found).startswith("Not positive definite: the cost falls along some direction")


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_only_appears_as_a_sum_is_not_determined_and_named(dtype: str) -> None:
    x = np.linspace(0.1, 1.7, 9)

    def residuals(p: Any, x: Any) -> Any:
        return {"rows": (p["a"] + p["b"][1]) * jnp.sin(x) + p["b"][0] * x, "one": p["c"] * 3}

    params = {"a": 1.0, "b": np.array([2.0, -1.0]), "c": 0.5, "unused": 1.0}
    known = {"a": 1.0, "b": np.array([2.0, 0.0]), "c": 0.5, "unused": 1.0}
    held = {"a": False, "b": np.array([False, True]), "c": False, "unused": True}

    def cost(p: Any, x: Any) -> Any:
        return sum(jnp.sum(r**2) for r in residuals(p, x).values()) / 2

    for options in ({}, {"residuals": residuals, "scale": 0.5}):
        found = covariance(cost, params, x, dtype=dtype, **options)
        expected = covariance(cost, known, x, dtype=dtype, fixed=held, **options)
        assert found.status is CovarianceStatus.SINGULAR and not found.valid and expected.valid
        assert "not determined  params['a'], params['b'][1], params['unused']" in str(found)
        errors = found.standard_errors
        assert np.isnan(errors["a"]) and np.isnan(errors["b"][1]) and np.isnan(errors["unused"])
        rtol = 1e-4 if dtype == "float32" else 1e-11
        for name, at in (("b", 0), ("c", ...)):
            np.testing.assert_allclose(errors[name][at], expected.standard_errors[name][at], rtol=rtol)


def test_too_few_observations_and_what_is_not_finite_are_told() -> None:
    none = wide(ANY, LINE, (X[:2], Y[:2]), residuals=line_residuals)
    assert none.status is CovarianceStatus.NO_FREEDOM and np.all(np.isnan(none.standard_errors))
    assert wide(ANY, LINE, (X[:2], Y[:2]), residuals=line_residuals, scale=0.5).valid
    assert wide(ANY, LINE, (X[:1], Y[:1]), residuals=line_residuals, scale=0.5).status is CovarianceStatus.SINGULAR
    for found in (wide(lambda v: jnp.sum(jnp.sqrt(v)), np.zeros(2)), wide(ANY, 0.0, residuals=lambda v: jnp.log(v)[None])):
        assert found.status is CovarianceStatus.NOT_FINITE and np.all(np.isnan(found.matrix))


def test_a_covariance_is_a_pytree_that_can_be_pickled_and_read() -> None:
    found = wide(half_squares, LINE, (X, Y), n_observations=len(X))
    again = pickle.loads(pickle.dumps(found))
    assert jax.tree.structure(again) == jax.tree.structure(found)
    jax.tree.map(np.testing.assert_array_equal, again, found)
    assert (
        str(again)
        == str(found)
        == (
            "Valid: the curvature is positive definite.\n"
            "  params[0]   5.6 ± 5.9\n"
            "  params[1]  0.54 ± 0.17\n"
            "  correlation\n"
            "  params[0]   1.0000 -0.8690\n"
            "  params[1]  -0.8690  1.0000"
        )
    )
    assert all(status.value.endswith(".") and list(CovarianceStatus)[status.code] is status for status in CovarianceStatus)


def test_many_at_once_and_a_single_compilation(compilations: Any) -> None:
    def one(k: Any, cost: Any = lambda v, k: jnp.sum(k * v**2)) -> jaxgd.Covariance:
        return covariance(cost, jnp.zeros(2), k)

    found = jax.jit(jax.vmap(one))(jnp.array([1.0, 2.0, -1.0]))
    np.testing.assert_allclose(found.standard_errors[:2], [[0.5**0.5] * 2, [0.5, 0.5]], rtol=1e-6)
    assert found.valid.tolist() == [True, True, False] and found.status[2] is CovarianceStatus.NOT_POSITIVE_DEFINITE
    covariance(lambda v: 3 * jnp.sum(v**2), np.zeros(2), scale=0.7)
    with compilations() as names:
        covariance(lambda v: 3 * jnp.sum(v**2), np.ones(2), scale=0.9)
    assert names == []


def test_functions_may_be_jitted_or_return_more() -> None:
    expected = wide(half_squares, LINE, (X, Y)).matrix
    found = wide(jax.jit(lambda v, data: (half_squares(v, data), v)), LINE, (X, Y), has_aux=True)
    np.testing.assert_array_equal(found.matrix, expected)
    found = wide(ANY, LINE, (X, Y), residuals=jax.jit(lambda v, data: (line_residuals(v, data), v)), scale=0.5, has_aux=True)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-12)
