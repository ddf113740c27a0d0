"""The trust region: it says CONVERGED of minima alone, whatever the sizes, offsets and starts, and moves where the cost says so."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from jaxgd.methods._subproblem import least_in_box

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
T = np.linspace(-1, 1, 25)


def bowl(x: Any, data: Any) -> Any:
    """Two variables of any size, with a product, a fourth power and an offset."""
    target, size, offset, quartic = data
    y = x / size - target
    return offset + jnp.sum(y**2) + y[0] * y[1] / 2 + quartic * jnp.sum(y**4)


@pytest.mark.sweep(keep=1)
@DTYPES
@pytest.mark.parametrize("start", [[0.0, 0.0], [1e-9, 1e-9], [2.0, 1e-12], [0.0, 1e6]])
@pytest.mark.parametrize("size", [1.0, np.array([1e-7, 1e3])], ids=["alike", "unlike"])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_tiny_and_zero_starts_reach_the_minimum(dtype: str, start: Any, size: Any, offset: float) -> None:
    size = np.broadcast_to(size, 2)
    data = np.array([3.0, -2.0]), size, np.array(offset), np.array(1.0)
    result = jaxgd.minimize(bowl, np.array(start) * size, data, dtype=dtype)
    assert result.status is Status.CONVERGED
    # A gain of eps**1.5 of the cost ends a run: beside the offset, in single precision, a step of 1e-3.
    np.testing.assert_allclose(result.params / size, [3, -2], rtol=2e-3 if dtype == "float32" else 1e-7)


@pytest.mark.sweep(keep=1)
@DTYPES
@pytest.mark.parametrize("size", [1.0, np.array([1e9, 1e-3])], ids=["alike", "unlike"])
def test_a_variable_at_its_bound_does_not_loosen_the_end(dtype: str, size: Any) -> None:
    size = np.broadcast_to(size, 2)
    data = np.array([1.3, 0.7]), size, np.array(1.0), np.array(1.0)
    bounds = (None, np.array([0.9, np.inf]) * size)
    far, near = (jaxgd.minimize(bowl, np.array(y) * size, data, bounds=bounds, dtype=dtype) for y in ([0.9, -1e9], [0.9, 0.5]))
    assert far.status is Status.CONVERGED and near.status is Status.CONVERGED
    np.testing.assert_allclose(far.params / size, near.params / size, rtol=1e-3 if dtype == "float32" else 1e-7)


def least_squares(x: Any, data: Any) -> Any:
    return jnp.sum((data[0] @ x - data[1]) ** 2) / 2


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("rows, columns", [(60, 40), (30, 40)])
def test_active_sets_do_not_jam(rows: int, columns: int) -> None:
    import scipy.optimize

    evaluations, stalled = [], 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        data = np.abs(rng.normal(size=(rows, columns))), rng.normal(size=rows)
        result = jaxgd.minimize(least_squares, np.ones(columns), data, bounds=(0.0, None), dtype="float64")
        stalled += result.status is Status.STALLED  # by chance of rounding, where columns are more than rows
        assert result.converged or result.status is Status.STALLED
        np.testing.assert_allclose(result.cost, scipy.optimize.nnls(*data)[1] ** 2 / 2, rtol=1e-12)
        evaluations.append(result.n_evaluations)
    assert np.median(evaluations) <= 15 and stalled <= 2 * (columns > rows)


@pytest.mark.sweep(keep=1)
@DTYPES
def test_bounds_on_both_sides_of_columns_of_many_sizes(dtype: str) -> None:
    import scipy.optimize

    rng = np.random.default_rng(3)
    sizes = 10.0 ** rng.uniform(-2, 2, 40)
    matrix, target = rng.normal(size=(60, 40)) * sizes, rng.normal(size=60)
    start = np.float32(np.where(rng.random(40) < 0.5, -1, 1) / sizes / 20)  # on the bounds
    result = jaxgd.minimize(least_squares, start, (matrix, target), bounds=(-abs(start), abs(start)), dtype=dtype)
    best = scipy.optimize.lsq_linear(matrix, target, (-abs(start), abs(start)), tol=1e-14)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.cost, best.cost, rtol=1e-12 if dtype == "float64" else 1e-5)


def test_the_least_in_a_box_is_stationary() -> None:
    with jax.enable_x64(True):
        solve = jax.jit(least_in_box)
        for seed in range(10):
            rng = np.random.default_rng(seed)
            root = rng.normal(size=(12, 12)) * 10.0 ** rng.uniform(-3, 3, 12)
            matrix, slopes = root.T @ root, 10 * rng.normal(size=12) @ root
            low, high = -rng.random(12), rng.random(12)
            step, fall = map(np.asarray, solve(matrix, slopes, low, high))
            rest = slopes + matrix @ step
            wrong = np.where(step == low, np.minimum(rest, 0), np.where(step == high, np.maximum(rest, 0), rest))
            assert np.all(np.abs(wrong) <= 1e-9 * (np.abs(matrix) @ np.abs(step) + np.abs(slopes)))
            np.testing.assert_allclose(fall, -(slopes @ step + step @ matrix @ step / 2))


def collinear(w: Any, data: Any) -> Any:
    x, y, kind = data
    product = jnp.matmul(x, w, precision="highest")  # a GPU would round what it multiplies
    r = product - y
    return jnp.where(kind > 0, jnp.mean(jnp.logaddexp(0, -jnp.sign(y) * product)), jnp.mean(r**2))


@pytest.mark.sweep(keep=1)
@DTYPES
@pytest.mark.parametrize("kind", [0.0, 1.0], ids=["squares", "logistic"])
@pytest.mark.parametrize("start", [0.0, 1.0, np.array([3.0, -1.0, 2.0, 0.5, 7.0])], ids=["zeros", "ones", "others"])
def test_flat_directions_are_left_alone(dtype: str, kind: float, start: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 3))
    x = np.column_stack([x, x[:, 0] - 2 * x[:, 1], x[:, 1] + x[:, 2]])
    y = x @ np.array([1, -2, 0.5, 0, 1]) + 3 * rng.normal(size=50)
    start = np.broadcast_to(start, 5)
    result = jaxgd.minimize(collinear, start, (x, y, kind), dtype=dtype)
    null = np.linalg.svd(x)[2][3:]
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(null @ (result.params - start), 0, atol=1e-4 if dtype == "float32" else 1e-10)


def peak(p: Any, data: Any) -> Any:
    """A Lorentzian line on a slope."""
    t, y, origin = data
    u = (t - p[1]) / p[2]
    return jnp.sum((p[0] / (1 + u**2) + p[3] + p[4] * (t - origin) - y) ** 2)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_a_peak_far_from_zero_is_found_from_within_a_width(offset: float) -> None:
    rng = np.random.default_rng(2)
    t = offset + np.linspace(-8, 8, 80)
    y = 0.3 / (1 + (t - offset) ** 2) + 2 + 0.05 * (t - offset) + 0.01 * rng.normal(size=80)
    ends = []
    for _ in range(15):
        start = [0.3 * rng.uniform(0.5, 2), offset + rng.uniform(-0.8, 0.8), rng.uniform(0.6, 1.6), rng.uniform(1.5, 2.5), 0.0]
        ends.append(jaxgd.minimize(peak, start, (t, y, offset), dtype="float64"))
    assert {end.status for end in ends} == {Status.CONVERGED}
    np.testing.assert_allclose([end.cost for end in ends], ends[0].cost, rtol=1e-9)
    assert np.median([end.n_evaluations for end in ends]) <= 15


@pytest.mark.sweep(keep=2)
@DTYPES
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS()], ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_a_cost_that_falls_without_limit_is_unbounded(dtype: str, power: float, method: Any) -> None:
    def falling(x: Any, power: Any) -> Any:
        return x[0] - jnp.abs(x[0] + 2 * x[1]) ** power + x[1] ** 2 / 100

    bounds = ([None, -1.0], [None, 1.0]) if power == 1 else None
    result = jaxgd.minimize(falling, [-0.5, 0.2], power, bounds=bounds, method=method, dtype=dtype)
    assert result.status is Status.UNBOUNDED and not result.converged
    assert result.cost == result.best.cost and np.all(np.isfinite(result.params))


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_likelihood_that_collapses_has_not_converged(dtype: str) -> None:
    def mixture(p: Any, data: Any) -> Any:  # its second part shrinks onto the third observation
        wide = jnp.exp(-(data**2) / 2)
        return -jnp.sum(jnp.log(wide + jnp.exp(-(((data - p[0]) / p[1]) ** 2) / 2) / p[1]))

    result = jaxgd.minimize(mixture, [0.7, 0.05], np.array([-1.0, 0.2, 0.7, 2.0]), dtype=dtype)
    assert not result.converged and result.params[1] < 1e-6


@pytest.mark.parametrize("start", [[8.0, 8.0, 8.0], [-4.0, 50.0, 900.0], [1.0, 1e3, 1.0]])
def test_curved_valleys_take_no_more_than_twice_the_steps_of_others(start: list[float]) -> None:
    import scipy.optimize

    def valley(x: Any) -> Any:
        return jnp.sum(50 * (x[1:] - x[:-1] ** 2) ** 2 + (2 - x[:-1]) ** 2)

    result = jaxgd.minimize(valley, start, dtype="float64")
    with jax.enable_x64(True):
        both, curved = jax.jit(jax.value_and_grad(valley)), jax.jit(jax.hessian(valley))
        exact = scipy.optimize.minimize(
            lambda x: [np.asarray(part) for part in both(x)],
            start,
            jac=True,
            hess=lambda x: np.asarray(curved(x)),
            method="trust-exact",
            options={"maxiter": 5000},
        )
    assert result.converged and result.cost <= exact.fun + 1e-9 and result.n_evaluations <= 2 * exact.nfev


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("softness", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("kind", ["huber", "root", "logcosh"])
def test_smoothed_kinks_are_left_from_zero(dtype: str, softness: float, kind: str) -> None:
    def robust(p: Any, data: Any) -> Any:
        x, y, eps, which = data
        r = p[0] + p[1] * x - y
        size = jnp.abs(r)
        huber = jnp.where(size < eps, r**2 / (2 * eps), size - eps / 2)
        return jnp.mean(
            jnp.select([which == 0, which == 1], [huber, jnp.sqrt(r**2 + eps**2)], size + eps * jnp.log1p(jnp.exp(-2 * size / eps)))
        )

    evaluations, excesses = [], []
    for seed in range(4, 13):  # roundings decide how long a single run takes, and whether it gets stuck
        y = -3 + 1.5 * T + 0.2 * np.random.default_rng(seed).normal(size=25)
        y[7] += 9
        data = T, y, softness, float(["huber", "root", "logcosh"].index(kind))
        zero = jaxgd.minimize(robust, np.zeros(2), data, dtype=dtype)
        near = jaxgd.minimize(robust, [-3.0, 1.5], data, dtype="float64")
        excesses.append(float(zero.cost) / float(near.cost) - 1)
        evaluations.append(int(zero.n_evaluations))
    assert np.median(evaluations) < 80 and np.median(excesses) < 1e-4
    assert sorted(excesses)[-2] < (1e-4 if dtype == "float64" else 5e-3)
