"""least_squares, curve_fit and the cost SumOfSquares: their minima, their errors, and the methods that know residuals."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxgd
from jaxgd._chosen import default_method
from tests.more_garbow_hillstrom import PROBLEMS, Problem, brown_and_dennis, rosenbrock, starts

X = np.linspace(0, 4, 50)
START = {"height": 1.0, "rate": 1.0, "level": 1.0}
UNSOLVED = {("jennrich_and_sampson", 10.0), ("osborne_2", 10.0)}  # they end where the model vanishes, as MINPACK does


def decay(p: Any, x: Any) -> Any:
    return p["height"] * jnp.exp(-p["rate"] * x) + p["level"]


def residuals(p: Any, y: Any) -> Any:
    return decay(p, jnp.asarray(X, y.dtype)) - y


def noisy(seed: int, outliers: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y = 2.5 * np.exp(-1.3 * X) + 0.5 + 0.1 * rng.normal(size=X.size)
    y[rng.choice(X.size, outliers, replace=False)] += 3 * rng.random(outliers)
    return y


def vector(params: Any) -> np.ndarray:
    return np.array([params["height"], params["level"], params["rate"]])  # as JAX orders them


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_problems_of_more_garbow_and_hillstrom_are_solved(problem: Problem) -> None:
    for factor in (1.0, 10.0):
        result = jaxgd.least_squares(problem.residuals, starts(problem, factor), dtype="float64")
        ends = [abs(2 * result.cost - value) <= 1e-6 * abs(value) + 1e-12 for value in problem.minima]
        assert any(ends) or (problem.name, factor) in UNSOLVED


def test_the_exact_curvature_takes_over_where_residuals_are_large() -> None:
    result = jaxgd.least_squares(brown_and_dennis.residuals, brown_and_dennis.start, dtype="float64")
    assert result.converged and result.n_evaluations <= 12  # MINPACK takes 254
    np.testing.assert_allclose(2 * result.cost, brown_and_dennis.minima[0], rtol=1e-13)


def test_a_linear_problem_takes_one_step_whatever_its_units() -> None:
    units = np.array([1e-8, 1.0, 1e8])
    matrix, y = np.vander(np.linspace(1, 2, 9), 3) * units, np.arange(9.0) ** 3 + 5
    result = jaxgd.least_squares(lambda v: matrix @ v - y, 1 / units, method=jaxgd.LevenbergMarquardt(radius=1e6), dtype="float64")
    assert result.converged and result.n_steps <= 2
    np.testing.assert_allclose(result.params, np.linalg.lstsq(matrix / units, y)[0] / units, rtol=1e-9)


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
def test_losses_have_the_minima_of_scipy(loss: str) -> None:
    options: dict[str, Any] = {} if loss == "linear" else {"loss": loss, "loss_scale": 0.2}
    for seed in range(10):
        y = noisy(seed, outliers=6)
        ours = jaxgd.least_squares(residuals, START, y, dtype="float64", **options)

        def theirs(v: Any, y: Any = y) -> Any:
            return v[0] * np.exp(-v[2] * X) + v[1] - y

        found: Any = scipy.optimize.least_squares(
            theirs, np.ones(3), loss=loss, f_scale=options.get("loss_scale", 1.0), xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        assert ours.converged
        np.testing.assert_allclose(ours.cost, found.cost, rtol=1e-12)
        np.testing.assert_allclose(vector(ours.params), found.x, rtol=1e-6)


def test_a_loss_of_the_users_own_is_one_by_name() -> None:
    def cauchy(z: Any) -> Any:
        return jnp.log1p(z)

    y = noisy(0, outliers=6)
    own, named = (
        jaxgd.least_squares(residuals, START, y, loss=loss, loss_scale=0.2, dtype="float64") for loss in (cauchy, "cauchy")
    )
    assert own.cost == named.cost and np.array_equal(vector(own.params), vector(named.params))


def test_the_weights_give_the_slope_and_the_curvature_of_the_loss() -> None:
    r = jnp.array([0.0, 0.3, -0.7, 4.0, -50.0])
    for loss in ("linear", "soft_l1", "huber", "cauchy", "arctan"):
        cost = jaxgd.SumOfSquares(lambda r: r, loss, 1.0 if loss == "linear" else 0.8)
        weighted, weights = cost.weighted(r)
        np.testing.assert_allclose(weighted * weights, jax.grad(cost)(r), rtol=1e-5, atol=1e-7)
        curvature = jnp.diagonal(jax.hessian(cost)(r))
        np.testing.assert_allclose(weights**2, jnp.where(curvature > 2e-3, curvature, weights**2), rtol=1e-4)


@pytest.mark.slow
def test_it_goes_where_minimize_goes() -> None:
    """Bounds, fixed numbers, transforms, pytrees of residuals, aux, eager runs and derivatives."""

    def both(v: Any) -> Any:
        return {"valley": 10 * (v[1] - v[0] ** 2), "line": 1 - v[0]}

    bounded = jaxgd.least_squares(both, [-1.2, 0.2], bounds=([-2, -2], [0.5, 2]))
    np.testing.assert_allclose(bounded.params, [0.5, 0.25], rtol=1e-6)
    partly = jaxgd.least_squares(both, np.array([-1.2, 0.2]), fixed=np.array([True, False]))
    np.testing.assert_allclose(partly.params, [-1.2, 1.44], rtol=1e-6)
    positive = jaxgd.least_squares(both, [0.5, 0.2], transform=jaxgd.transforms.Positive())
    np.testing.assert_allclose(positive.params, [1, 1], rtol=1e-5)
    told = jaxgd.least_squares(lambda v: (both(v), v[0]), [-1.2, 1.0], has_aux=True)
    assert told.aux == told.params[0] and told.converged
    with jax.enable_x64(True):
        eager = jaxgd.least_squares(rosenbrock.residuals, rosenbrock.start, jit=False)
        compiled = jaxgd.least_squares(rosenbrock.residuals, rosenbrock.start)
        assert (eager.n_steps, eager.n_evaluations, eager.status) == (compiled.n_steps, compiled.n_evaluations, compiled.status)
        np.testing.assert_allclose(eager.params, compiled.params, rtol=1e-12)


def test_derivatives_are_those_of_the_minimum() -> None:
    matrix, y = np.vander(np.linspace(1, 2, 7), 3), jnp.arange(7.0)
    with jax.enable_x64(True):
        moved = jax.jacrev(lambda y: jaxgd.least_squares(lambda v: jnp.asarray(matrix) @ v - y, np.zeros(3)).params)
        np.testing.assert_allclose(moved(y.astype(float)), np.linalg.pinv(matrix), rtol=1e-8, atol=1e-10)


def test_many_fits_are_those_alone() -> None:
    tables = np.stack([noisy(seed) for seed in range(40)])
    cost = jaxgd.SumOfSquares(residuals)
    many = jaxgd.minimize_many(cost, START, tables, dtype="float64")
    assert np.all(many.converged)
    for k in (0, 17):
        alone = jaxgd.minimize(cost, START, tables[k], dtype="float64")
        np.testing.assert_allclose([leaf[k] for leaf in jax.tree.leaves(many.params)], jax.tree.leaves(alone.params), rtol=1e-9)


class TestManyParameters:
    def test_the_default_needs_no_matrix(self) -> None:
        large, small = np.ones(201), np.ones(200)
        assert type(default_method(large, None, squares=True)) is jaxgd.GaussNewton
        assert type(default_method(small, None, squares=True)) is jaxgd.LevenbergMarquardt
        assert type(default_method(large, None, squares=True, jit=False)) is jaxgd.LBFGS
        assert type(default_method(small, None)) is jaxgd.TrustRegion

    def test_linear_residuals_of_very_different_units(self) -> None:
        rng = np.random.default_rng(0)
        units = np.exp(3 * rng.normal(size=250))
        matrix, y = rng.normal(size=(700, 250)) * units, rng.normal(size=700)
        result = jaxgd.least_squares(lambda v: matrix @ v - y, np.zeros(250), dtype="float64")
        assert result.converged and result.n_evaluations <= 12
        np.testing.assert_allclose(result.params * units, np.linalg.lstsq(matrix / units, y)[0], rtol=1e-6, atol=1e-8)

    def test_nonlinear_residuals_and_bounds(self) -> None:
        def tridiagonal(v: Any) -> Any:
            around = jnp.pad(v, 1)
            return (3 - 2 * v) * v - around[:-2] - 2 * around[2:] + 1

        start = -np.ones(300)
        result = jaxgd.least_squares(tridiagonal, start, dtype="float64")
        assert result.converged and result.cost < 1e-25 and result.n_evaluations < 20
        bounded = jaxgd.least_squares(tridiagonal, start, bounds=(-1.5, -0.6), dtype="float64")
        other = jaxgd.minimize(jaxgd.SumOfSquares(tridiagonal), start, bounds=(-1.5, -0.6), method=jaxgd.LBFGS(), dtype="float64")
        assert bounded.converged
        np.testing.assert_allclose(bounded.cost, other.cost, rtol=1e-10)


class TestErrors:
    def test_curve_fit_has_those_of_scipy(self) -> None:
        y, sigma = noisy(1), 0.1 + 0.02 * X
        matrix = sigma[:, None] * sigma * np.exp(-np.abs(X[:, None] - X))
        cases: list[dict[str, Any]] = [{"sigma": sigma}, {"sigma": sigma, "absolute_sigma": True}]
        for options in (*cases, {"sigma": matrix, "absolute_sigma": True}):
            found, covariance = jaxgd.curve_fit(decay, X, y, START, dtype="float64", **options)

            def model(x: Any, height: Any, level: Any, rate: Any) -> Any:
                return height * np.exp(-rate * x) + level

            params, expected = scipy.optimize.curve_fit(model, X, y, [1, 1, 1], xtol=1e-14, ftol=1e-14, **options)
            np.testing.assert_allclose(vector(found.params), params, rtol=1e-6)
            np.testing.assert_allclose(covariance.matrix, expected, rtol=1e-4)

    def test_a_robust_loss_has_the_sandwich(self) -> None:
        with jax.enable_x64(True):
            y = jnp.asarray(noisy(2, outliers=5))
            cost = jaxgd.SumOfSquares(residuals, "huber", 0.2)
            result = jaxgd.minimize(cost, START, y)
            found = result.covariance()
            jacobian = jnp.stack(jax.tree.leaves(jax.jacfwd(residuals)(result.params, y)), axis=1)
            slopes = (
                jax.grad(lambda r: jaxgd.SumOfSquares(lambda r: r, "huber", 0.2)(r))(residuals(result.params, y))[:, None]
                * jacobian
            )
            [hessian] = [
                jax.hessian(lambda v: cost(dict(zip(sorted(START), v, strict=True)), y))(jnp.asarray(vector(result.params)))
            ]
            inverse = jnp.linalg.inv(hessian)
            expected = inverse @ slopes.T @ slopes @ inverse * (X.size / (X.size - 3))
            assert found.valid
            np.testing.assert_allclose(found.matrix, expected, rtol=1e-8)

    def test_a_result_knows_its_cost_until_it_is_pickled(self) -> None:
        y = noisy(3)
        result = jaxgd.least_squares(residuals, START, y, dtype="float64")
        expected = jaxgd.covariance(None, result.params, y, residuals=residuals, dtype="float64")
        np.testing.assert_array_equal(result.covariance().matrix, expected.matrix)
        with pytest.raises(ValueError, match="does not know its cost"):
            pickle.loads(pickle.dumps(result)).covariance()


def test_gauss_newton_passes_a_variable_that_loses_its_slope() -> None:
    result = jaxgd.least_squares(lambda x: jnp.diff(x**2) - 1, jnp.linspace(1, 2, 300), method=jaxgd.GaussNewton(), dtype="float64")
    assert result.converged and result.cost < 1e-20  # one variable comes near zero, where x**2 has no slope
