"""fit(): which point is the best, what the history's costs are, and what a run says that ends above its start."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status

RNG = np.random.default_rng(3)
X = RNG.normal(size=(61, 2))
COUNTS = RNG.poisson(np.exp(X @ [0.6, -0.4] + 0.5)).astype(float)
DATA = X, COUNTS
HELD_OUT = X[:20] + 0.1, COUNTS[:20] + 1
START = np.array([0.5, -0.5, 0.4])


def rate(params: Any, rows: Any) -> Any:
    return jnp.sum(rows[0] * params[:2], axis=1) + params[2]


def poisson(params: Any, rows: Any) -> Any:
    return jnp.mean(jnp.exp(rate(params, rows)) - rows[1] * rate(params, rows))


def quartic(params: Any, rows: Any) -> Any:
    return jnp.mean((rate(params, rows) - rows[1] / 4) ** 4) + 0.01 * jnp.sum(params**2)


def absolute(params: Any, rows: Any) -> Any:
    return jnp.mean(jnp.abs(rate(params, rows) - rows[1]))


COSTS = (poisson, jaxgd.GradientDescent(0.01, momentum=0.9)), (quartic, jaxgd.Adam(0.3)), (absolute, jaxgd.GradientDescent(2.0))


def exact(cost: Any, params: Any, rows: Any = DATA) -> float:
    """The cost by JAX alone, in float64."""
    with jax.enable_x64(True):
        return float(cost(jnp.asarray(np.asarray(params), jnp.float64), jax.tree.map(jnp.asarray, rows)))


def run(cost: Any, method: Any, **options: Any) -> Any:
    defaults: dict[str, Any] = {"batch_size": 61, "n_epochs": 15, "key": 0, "dtype": "float64", "history": "params"}
    return jaxgd.fit(cost, options.pop("start", START), DATA, method=method, **(defaults | options))


def check_best(result: Any, cost: Any, known: Any, rows: Any = DATA, rtol: float = 1e-12) -> None:
    """The cost of the best point is its own, and none of those known is lower."""
    np.testing.assert_allclose(result.best.cost, exact(cost, result.best.params, rows), rtol=rtol)
    lowest = min(exact(cost, params, rows) for params in known)
    assert float(result.best.cost) <= lowest + rtol * abs(lowest)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cost", "method"), COSTS)
def test_where_a_batch_is_all_rows_each_cost_is_that_of_its_point(cost: Any, method: Any, dtype: str) -> None:
    rtol = 1e-12 if dtype == "float64" else 2e-6
    result = run(cost, method, dtype=dtype)
    points = np.asarray(result.history.params)
    assert result.n_evaluations == 16 and points.shape == (16, 3)
    np.testing.assert_allclose(result.history.cost, [exact(cost, params) for params in points], rtol=rtol)
    check_best(result, cost, points, rtol=rtol)
    assert float(result.cost) == result.history.cost[-1]
    plain = run(cost, method, dtype=dtype, history=None)
    assert (float(plain.best.cost), plain.code) == (float(result.best.cost), result.code)


def test_the_last_cost_of_a_history_is_that_of_the_last_iterate_where_the_mean_is_returned() -> None:
    result = run(*COSTS[0], average=0.5)
    np.testing.assert_allclose(result.history.cost, [exact(poisson, params) for params in result.history.params], rtol=1e-12)
    np.testing.assert_allclose(result.cost, exact(poisson, result.params), rtol=1e-12)
    check_best(result, poisson, [*result.history.params, result.params])


WALLED = {"bounds": (-0.55, 0.7), "fixed": [False, True, False]}


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(
    ("number", "options"), [(0, {}), (0, {"average": 0.3}), (0, {"jit": False}), (0, WALLED), (1, {}), (2, {})]
)
def test_of_several_batches_the_end_of_the_best_epoch_is_evaluated_over_all_rows(number: int, options: Any) -> None:
    cost, method = COSTS[number]
    result = run(cost, method, batch_size=8, **options)
    ends = np.asarray(result.history.params)
    epoch = int(np.argmin(result.history.cost[1:])) + 1
    check_best(result, cost, [START, result.params, ends[epoch]])
    np.testing.assert_allclose(result.start_cost, exact(cost, START), rtol=1e-12)
    np.testing.assert_allclose(result.history.cost[0], exact(cost, START), rtol=1e-12)
    assert result.n_evaluations == 8 * 15 + 1


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [8, 61])
@pytest.mark.parametrize("average", [None, 0.4])
def test_with_validation_data_the_start_and_the_returned_point_count(batch_size: int, average: Any) -> None:
    near = jaxgd.minimize(poisson, START, HELD_OUT, dtype="float64").params  # the best for the validation data
    for start in (START, near):
        result = run(*COSTS[0], batch_size=batch_size, validation=HELD_OUT, average=average, start=start)
        history = result.history
        np.testing.assert_allclose(history.validation_cost, [exact(poisson, p, HELD_OUT) for p in history.params], rtol=1e-12)
        check_best(result, poisson, [*history.params, result.params], HELD_OUT)
    np.testing.assert_array_equal(result.best.params, near)


def test_a_run_that_is_broken_off_and_one_of_no_update_know_their_best_point() -> None:
    stopped = run(*COSTS[0], batch_size=8, stop=jaxgd.stopping.UpdateTolerance(10.0))
    assert (stopped.n_steps, stopped.n_evaluations, stopped.status) == (0, 2, Status.UPDATE_TOLERANCE)
    np.testing.assert_array_equal(stopped.best.params, START)
    assert float(stopped.best.cost) == float(stopped.cost) == float(stopped.start_cost)
    held = run(*COSTS[0], batch_size=61, stop=jaxgd.stopping.UpdateTolerance(10.0), validation=HELD_OUT)
    np.testing.assert_allclose(held.best.cost, exact(poisson, START, HELD_OUT), rtol=1e-12)


def test_what_diverges_keeps_the_better_of_start_and_end_and_writes_no_row_of_the_broken_epoch() -> None:
    for batch_size in (8, 61):
        result = run(quartic, jaxgd.GradientDescent(30.0), batch_size=batch_size, dtype="float32")
        assert result.status is Status.DIVERGED
        np.testing.assert_array_equal(result.best.params, START.astype(np.float32))
        np.testing.assert_allclose(result.best.cost, exact(quartic, START), rtol=1e-6)
        assert len(result.history.cost) == result.n_epochs + 1
    assert np.isnan(result.history.cost[-1]) and np.all(np.isfinite(result.history.cost[:-1]))
    ends = []
    options: dict[str, Any] = {"batch_size": 8, "dtype": "float32", "callback": lambda progress: ends.append(progress.params)}
    result = run(quartic, jaxgd.GradientDescent(0.05, momentum=0.995), n_epochs=60, **options)
    assert result.status is Status.DIVERGED and result.n_epochs >= 1
    np.testing.assert_array_equal(result.history.params[1:], np.array(ends[: result.n_epochs]))


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"batch_size": 8}, {"batch_size": 61, "validation": HELD_OUT, "average": 0.5}])
def test_it_holds_inside_jit_and_vmap(more: dict[str, Any]) -> None:
    options: dict[str, Any] = {"n_epochs": 6, "dtype": None, "key": 1} | more
    rates = np.array([0.02, 0.6, 30.0])

    def one(learning_rate: Any) -> Any:
        return run(quartic, jaxgd.GradientDescent(learning_rate), **options)

    many = jax.vmap(one)(rates)
    inside = jax.jit(one)(rates[0])
    for k, learning_rate in enumerate(rates):
        alone: Any = one(learning_rate)
        results = [jax.tree.map(lambda leaf, k=k: leaf[k], many), *([inside] if k == 0 else [])]
        for result in results:
            assert int(result.code) == alone.code
            np.testing.assert_allclose(result.best.cost, alone.best.cost, rtol=1e-5)
            np.testing.assert_allclose(result.best.params, alone.best.params, rtol=1e-4)
            np.testing.assert_allclose(result.start_cost, alone.start_cost, rtol=1e-6)
            length = len(alone.history.cost)
            np.testing.assert_allclose(result.history.cost[:length], alone.history.cost, rtol=1e-4)
            assert np.all(np.isnan(result.history.cost[length:]))
    assert Status.DIVERGED in many.status and Status.MAX_EPOCHS in many.status


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_end_above_the_start_is_said(dtype: str) -> None:
    for batch_size in (8, 61):
        result = run(absolute, jaxgd.GradientDescent(40.0), batch_size=batch_size, n_epochs=3, dtype=dtype)
        assert result.status is Status.WORSE and not result.converged and "result.best" in str(result.status)
        assert float(result.best.cost) <= float(result.start_cost) < float(result.cost)
        assert "start" in str(result) and "best cost" in str(result)
    full = jaxgd.minimize(absolute, START, DATA, method=jaxgd.GradientDescent(40.0), max_steps=5, stop=(), dtype=dtype)
    assert full.status is Status.WORSE and float(full.start_cost) == float(full.best.cost)
    ended = run(absolute, jaxgd.GradientDescent(40.0), batch_size=8, stop=jaxgd.stopping.Patience(2), dtype=dtype)
    assert ended.status is Status.PATIENCE and "start" in str(ended)


def test_an_end_above_the_start_by_rounding_is_no_news() -> None:
    def flat(params: Any, rows: Any) -> Any:
        return jnp.mean(rows[1]) * 1e3 + 1e-9 * jnp.sum(params)

    for batch_size in (8, 61):
        result = run(flat, jaxgd.GradientDescent(-1e-30 + 1e-9), batch_size=batch_size, dtype="float32")
        assert result.status is Status.MAX_EPOCHS and "start" not in str(result)
    still = jaxgd.minimize(poisson, START, DATA, method=jaxgd.GradientDescent(1e-12), max_steps=5, stop=(), dtype="float32")
    assert still.status is Status.MAX_STEPS


def test_means_over_an_epoch_are_means_over_its_rows() -> None:
    rows = np.array([10.0, 10.0, 9.0])
    options: dict[str, Any] = {"batch_size": 2, "n_epochs": 1, "shuffle": False, "dtype": "float64", "history": "cost"}
    options |= {"method": jaxgd.GradientDescent(1e-12)}
    result: Any = jaxgd.fit(lambda p, y: jnp.mean(y) * (1 + p), 0.0, rows, **options)
    np.testing.assert_allclose(result.history.cost[1], 29 / 3, rtol=1e-9)
    for tolerance, status in ((9.6, Status.MAX_EPOCHS), (9.7, Status.GRADIENT_TOLERANCE)):  # 29 / 3 and not 9.5
        stop = jaxgd.stopping.GradientTolerance(tolerance)
        assert jaxgd.fit(lambda p, y: jnp.mean(y) * (1 + p), 0.0, rows, stop=stop, **options).status is status


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("n_rows", "batch_size"), [(1001, 100), (130, 1), (131, 2), (7, 5)])
def test_the_mean_cost_of_an_epoch_weighs_each_batch_by_its_rows(n_rows: int, batch_size: int) -> None:
    rows = np.random.default_rng(n_rows).normal(size=n_rows) ** 2
    options: dict[str, Any] = {"batch_size": batch_size, "n_epochs": 2, "key": 0, "dtype": "float64", "history": "cost"}
    result: Any = jaxgd.fit(lambda p, y: jnp.mean(y) + 0 * p, 0.0, rows, method=jaxgd.GradientDescent(1.0), **options)
    np.testing.assert_allclose(result.history.cost, rows.mean(), rtol=1e-13)
