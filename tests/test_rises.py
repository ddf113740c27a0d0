"""A covariance whose cost does not rise, one standard error away, as its curvature promises says so; condition numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgd import CovarianceStatus, covariance, minimize

NOT_QUADRATIC, VALID = CovarianceStatus.NOT_QUADRATIC, CovarianceStatus.POSITIVE_DEFINITE


def degenerate(v: Any) -> Any:
    return v[0] ** 6 + v[1] ** 4


def half_degenerate(v: Any) -> Any:
    return jnp.cosh(v[0]) + v[1] ** 8


def kink(v: Any) -> Any:
    return jnp.abs(v[0]) ** 1.5 + v[1] ** 2


def with_a_domain(v: Any) -> Any:
    return v[0] - jnp.log(v[0] - 0.5) + v[1] ** 2


def broken_beyond(v: Any) -> Any:
    return jnp.where(jnp.abs(v[0]) > 0.5, jnp.nan, v[0] ** 2) + v[1] ** 2


def valley(v: Any) -> Any:
    return 100 * (v[1] - v[0] ** 2) ** 2 + (1 - v[0]) ** 2


def narrow(v: Any) -> Any:
    return 1e5 * valley(v)


def slanted(v: Any) -> Any:
    return 3 * v[0] ** 2 + 1e-4 * v[0] * v[1] + 1e-8 * v[1] ** 2


def growing(v: Any) -> Any:
    return 50 * jnp.sum(jnp.exp(v) - v)


COSTS: list[tuple[Any, Any, CovarianceStatus]] = [
    (degenerate, [1e-2, 1e-2], NOT_QUADRATIC),
    (degenerate, [1e-6, 1e-6], NOT_QUADRATIC),
    (half_degenerate, [0.0, 0.1], NOT_QUADRATIC),
    (kink, [0.01, 0.0], NOT_QUADRATIC),
    (with_a_domain, [1.5, 0.0], NOT_QUADRATIC),
    (broken_beyond, [0.0, 0.0], NOT_QUADRATIC),
    (valley, [1.0, 1.0], NOT_QUADRATIC),
    (narrow, [1.0, 1.0], VALID),
    (slanted, [0.0, 0.0], VALID),
    (slanted, [0.3, -3.0], VALID),  # not quite the minimum, which is another question
    (growing, [0.0, 0.0], VALID),
]


@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cost", "params", "status"), COSTS)
def test_the_rise_at_one_standard_error_is_looked_at(cost: Any, params: Any, status: Any, dtype: str) -> None:
    found = covariance(cost, params, dtype=dtype)
    assert found.status is status and found.valid is (status is VALID)
    curvature = jax.hessian(cost)(jnp.asarray(params))
    np.testing.assert_allclose(found.matrix, np.linalg.inv(curvature), rtol=1e-3)  # the numbers are there, either way


@pytest.mark.slow
def test_where_a_run_ends_at_a_degenerate_minimum() -> None:
    for dtype in ("float32", "float64"):
        end = minimize(degenerate, [1.0, 1.0], dtype=dtype).params
        assert covariance(degenerate, end, dtype=dtype).status in (NOT_QUADRATIC, CovarianceStatus.SINGULAR)
    text = str(covariance(degenerate, [1e-2, 1e-2]))
    assert text.startswith("Not quadratic: one standard error away the cost does not rise") and "±" in text


@pytest.mark.slow
def test_a_scale_and_residuals_have_promises_of_their_own() -> None:
    x = np.linspace(0, 1, 7)

    def growth(v: Any) -> Any:
        return jnp.exp(v[0] * jnp.asarray(x, v.dtype)) - jnp.asarray(np.exp(x) + 0.1 * np.cos(9 * x), v.dtype)

    def half(v: Any) -> Any:
        return jnp.sum(growth(v) ** 2) / 2

    several: list[dict[str, Any]] = [{}, {"jit": False}]
    for options in several:
        assert covariance(None, [1.0], residuals=growth, **options).status is VALID  # s² is small
        assert covariance(None, [1.0], residuals=growth, scale=8.0, **options).status is NOT_QUADRATIC
        assert covariance(half, [1.0], n_observations=7, **options).status is VALID
        assert covariance(half, [1.0], scale=8.0, **options).status is NOT_QUADRATIC
    assert covariance(degenerate, [1e-2, 1e-2], jit=False).status is NOT_QUADRATIC
    assert covariance(lambda v: (v[0] - 2) ** 2 + v[1] ** 2, [2.0, 0.0], scale=1e6).status is VALID


@pytest.mark.slow
def test_no_point_beyond_the_bounds_is_evaluated() -> None:
    def walled(v: Any) -> Any:
        return jnp.where(jnp.any(v < 0), jnp.nan, jnp.sum((v - 0.2) ** 2))

    for jit in (True, False):
        assert covariance(walled, [0.2, 0.2], jit=jit).status is NOT_QUADRATIC
        assert covariance(walled, [0.2, 0.2], bounds=(0, None), jit=jit).status is VALID  # cut
        assert covariance(walled, [0.0, 0.2], bounds=([0.0, 0.0], [0.0, None]), jit=jit).status is VALID  # held
        assert covariance(walled, [0.2, 0.2], bounds=(0, 0.2001), jit=jit).status is VALID  # one way alone
    assert covariance(lambda v: walled(v) + 1e3 * (v[0] - 0.2) ** 4, [0.2, 0.2], bounds=(0, None)).status is NOT_QUADRATIC


def test_it_is_told_in_outer_programs_and_beside_fixed_parameters() -> None:
    def code(power: Any) -> Any:
        return covariance(lambda v: jnp.abs(v[0]) ** power + v[1] ** 2, jnp.asarray([1e-2, 0.0])).code

    codes = jax.vmap(code)(jnp.asarray([2.0, 6.0]))
    assert codes.tolist() == [VALID.code, NOT_QUADRATIC.code] and int(jax.jit(code)(4.0)) == NOT_QUADRATIC.code
    fixed = np.array([True, False])
    assert covariance(lambda v: degenerate(v) + v[1] ** 2 / 100, [1e-2, 0.0], fixed=fixed).status is NOT_QUADRATIC
    assert covariance(lambda v: v[0] ** 6 + 9 * v[1] ** 2, [1e-2, 0.0], fixed=fixed).status is VALID


def test_the_condition_is_that_of_the_curvature_in_the_parameters_own_units() -> None:
    for correlation, size in ((0.0, 1.0), (0.6, 1e-3), (1 - 1e-4, 1e5)):
        matrix = np.array([[1, correlation * size], [correlation * size, size**2]])
        found = covariance(lambda v, matrix=matrix: v @ jnp.asarray(matrix) @ v / 2, [0.0, 0.0], dtype="float64")
        np.testing.assert_allclose(found.condition, (1 + correlation) / (1 - correlation), rtol=1e-9)
        assert "condition" not in str(found)
        factors = np.linalg.cholesky(matrix).T
        again = covariance(None, [0.0, 0.0], residuals=lambda v, f=factors: f @ v, scale=0.5, dtype="float64")
        np.testing.assert_allclose(again.condition, found.condition, rtol=1e-7)
    near = covariance(lambda v: (v[0] + v[1]) ** 2 + 1e-4 * (v[0] - v[1]) ** 2, [0.0, 0.0])
    assert near.valid and "condition" in str(near)
    flat = covariance(lambda v: (v[0] + v[1]) ** 2, [0.0, 0.0])
    assert flat.status is CovarianceStatus.SINGULAR and flat.condition > 1e6
