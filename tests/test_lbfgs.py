"""L-BFGS: it says CONVERGED where no variable has anything left to gain, in any units."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from tests.test_trust_region import bowl

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
MATRIX = np.random.default_rng(0).normal(size=(50, 40))


def run(cost: Any, start: Any, data: Any = None, **options: Any) -> Any:
    args = () if data is None else (data,)
    return jaxgd.minimize(cost, start, *args, method=jaxgd.LBFGS(), **options)


@pytest.mark.sweep(keep=2)
@DTYPES
@pytest.mark.parametrize("start", [[0.0, 0.0], [1e-9, 1e-9], [2.0, 1e-12], [0.0, 1e6]])
@pytest.mark.parametrize("size", [1.0, np.array([1e-7, 1e3])], ids=["alike", "unlike"])
def test_an_end_is_never_called_converged_far_from_the_minimum(dtype: str, start: Any, size: Any) -> None:
    size = np.broadcast_to(size, 2)
    for offset in (0.0, 1e6):
        result = run(bowl, np.array(start) * size, (np.array([3.0, -2.0]), size, np.array(offset), np.array(1.0)), dtype=dtype)
        y = np.asarray(result.params, np.float64) / size - [3, -2]
        excess, eps = y @ y + y[0] * y[1] / 2 + np.sum(y**4), np.finfo(dtype).eps
        assert excess <= 16 * eps * (offset + eps) if result.converged else offset > 0 and result.status is Status.STALLED


def diagonal(v: Any, data: Any) -> Any:
    return jnp.sum(data[0] * (v - data[1]) ** 2)


def dense(v: Any, data: Any) -> Any:
    return jnp.sum((data[0] @ (v - data[1])) ** 2)


@pytest.mark.sweep(keep=1)
@DTYPES
@pytest.mark.parametrize("weights, cost", [(np.logspace(0, 3, 40), diagonal), (MATRIX, dense)], ids=["diagonal", "dense"])
def test_a_minimum_of_cost_zero_at_zero_is_found_like_any_other(dtype: str, weights: Any, cost: Any) -> None:
    zero, one = (run(cost, 2 * np.ones(40), (weights, np.full(40, place)), dtype=dtype) for place in (0.0, 1.0))
    assert zero.status is Status.CONVERGED and one.status is Status.CONVERGED
    assert zero.n_evaluations <= 2.5 * one.n_evaluations  # twice as many digits, and probes to see the end
    np.testing.assert_allclose(zero.params, 0, atol=1e-8)


@pytest.mark.sweep(keep=1)
@DTYPES
@pytest.mark.parametrize("widths", [1e6, 1e-6])
def test_a_parameter_that_the_pairs_do_not_show_is_doubted(dtype: str, widths: float) -> None:
    def dip(p: Any, data: Any) -> Any:
        return jnp.sum((p[2] - p[0] * jnp.exp(-0.5 * (data[0] / p[1]) ** 2) - data[1]) ** 2) / 2

    t = widths * np.linspace(-6, 6, 80)
    y = 1 - 0.01 * np.exp(-0.5 * (t / widths) ** 2)
    result = run(dip, [0.02, 1.5 * widths, 0.9], (t, y), dtype=dtype)
    close = np.abs(np.abs(result.params) / [0.01, widths, 1] - 1) < (1e-2 if dtype == "float32" else 1e-4)
    assert np.all(close) or not result.converged
    assert result.converged or dtype == "float32"


@DTYPES
def test_a_variable_at_its_bound_does_not_hide_what_another_has_to_gain(dtype: str) -> None:
    size = np.array([1e6, 1e-3])
    data = np.array([1.3, 0.7]), size, np.array(1.0), np.array(1.0)
    bounds = (None, np.array([0.9, np.inf]) * size)
    far, near = (run(bowl, np.array(y) * size, data, bounds=bounds, dtype=dtype) for y in ([0.9, -1e3], [0.9, 0.5]))
    assert far.status is Status.CONVERGED and near.status is Status.CONVERGED
    np.testing.assert_allclose(far.params / size, near.params / size, rtol=1e-3 if dtype == "float32" else 1e-6)


@DTYPES
def test_a_kink_away_from_the_minimum_is_none(dtype: str) -> None:
    def corner(z: Any) -> Any:
        return jnp.abs(z[0] - 1) + 3 * jnp.abs(z[0] + z[1])

    for start in ([0.4, 0.3], [0.0, 0.0], [3.0, -3.0]):
        result = run(corner, start, dtype=dtype)
        assert result.status is Status.STALLED or result.cost <= 4 * np.finfo(dtype).eps


@DTYPES
@pytest.mark.parametrize("start", [[1.0, 3.0], [0.3, 0.7], [-5e5, 2.0]])
def test_a_direction_that_the_cost_does_not_determine_is_left_alone(dtype: str, start: list[float]) -> None:
    result = run(lambda v: (v[0] - v[1]) ** 2, start, dtype=dtype)
    assert result.converged
    np.testing.assert_allclose(result.params, np.mean(start), rtol=4 * float(np.finfo(dtype).eps))
