"""The printed numbers of the reference tutorials, from a scalar cost alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd.stopping import CostTolerance, UpdateTolerance
from tests import reference
from tests.problems import X, Y, line, quartic, square

EXACT = 1e-12  # relative; the runs agree with NumPy to a few roundings


@pytest.mark.parametrize(
    ("rate", "max_steps", "updates", "value"),
    [
        (0.2, 50, 30, 2.210739197207331e-06),
        (0.8, 50, 33, -4.77519666596786e-07),
        (0.005, 50, 50, 6.050060671375367),
        (0.005, 100, 100, 3.660323412732294),
        (0.005, 1000, 1000, 0.0004317124741065828),
        (0.005, 2000, 1146, 9.952518849647663e-05),
    ],
)
def test_square(rate: float, max_steps: int, updates: int, value: float) -> None:
    result = jaxgd.gradient_descent(square, start=10.0, learning_rate=rate, max_steps=max_steps)
    assert result.n_steps == updates
    assert result.n_evaluations == updates + 1
    assert result.converged == (updates < max_steps)
    np.testing.assert_allclose(result.params, value, rtol=EXACT)
    np.testing.assert_allclose(result.cost, value**2, rtol=1e-11)
    np.testing.assert_allclose(result.gradient, 2 * value, rtol=EXACT)


@pytest.mark.parametrize(
    ("rate", "value", "agreement"),
    [(0.1, 1.285401330315467, EXACT), (0.2, -1.4207567437458342, 1e-8)],  # at 0.2 it bounces and magnifies rounding
)
def test_quartic(rate: float, value: float, agreement: float) -> None:
    result = jaxgd.gradient_descent(quartic, start=0.0, learning_rate=rate)
    assert result.n_steps == 50
    np.testing.assert_allclose(result.params, value, rtol=agreement)


def test_logarithm() -> None:
    result = jaxgd.gradient_descent(lambda v: v - jnp.log(v), start=2.5, learning_rate=0.5)
    assert result.n_steps == 24
    np.testing.assert_allclose(result.params, 1.0000011077232125, rtol=EXACT)


def test_two_variables() -> None:
    result = jaxgd.gradient_descent(lambda v: v[0] ** 2 + v[1] ** 4, start=[1.0, 1.0], learning_rate=0.2, tolerance=1e-8)
    assert result.n_steps == 50
    np.testing.assert_allclose(result.params, [8.08281277e-12, 9.75207120e-02], rtol=1e-8)  # printed to nine digits
    expected, _ = reference.gradient_descent(lambda v: np.array([2 * v[0], 4 * v[1] ** 3]), [1, 1], 0.2, 50, 1e-8)
    np.testing.assert_allclose(result.params, expected, rtol=EXACT)


def test_regression_with_all_rows() -> None:
    result = jaxgd.gradient_descent(line, [0.5, 0.5], (X, Y), learning_rate=0.0008, max_steps=100_000)
    assert result.n_steps == 35_317
    np.testing.assert_allclose(result.params, [5.62822349, 0.54012867], rtol=1e-8)  # printed to nine digits
    expected, steps = reference.gradient_descent(lambda b: reference.line_gradient(b, X, Y), [0.5, 0.5], 0.0008, 100_000, 1e-6)
    assert steps == result.n_steps
    np.testing.assert_allclose(result.params, expected, rtol=EXACT)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 6])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_minibatches_in_order(batch_size: int, momentum: float) -> None:
    result = jaxgd.sgd(
        line,
        [0.5, 0.5],
        (X, Y),
        learning_rate=0.0001,
        momentum=momentum,
        batch_size=batch_size,
        n_epochs=1000,
        tolerance=1e-300,
        shuffle=False,
    )
    expected = reference.minibatch_descent(reference.line_gradient, [0.5, 0.5], (X, Y), 0.0001, batch_size, 1000, momentum)
    assert result.n_epochs == 1000
    assert result.n_steps == 1000 * -(-6 // batch_size)
    np.testing.assert_allclose(result.params, expected, rtol=EXACT)
    np.testing.assert_allclose(result.cost, np.mean((expected[0] + expected[1] * X - Y) ** 2) / 2, rtol=EXACT)


def test_a_learning_rate_for_each_variable() -> None:
    rates = np.array([0.0008, 0.0004])
    result = jaxgd.gradient_descent(line, [0.5, 0.5], (X, Y), learning_rate=rates, max_steps=500)
    expected, _ = reference.gradient_descent(lambda b: reference.line_gradient(b, X, Y), [0.5, 0.5], rates, 500, 1e-6)
    np.testing.assert_allclose(result.params, expected, rtol=EXACT)


def test_the_average_of_the_iterates_lands_on_the_optimum() -> None:
    options: dict[str, Any] = {"batch_size": 3, "n_epochs": 200_000, "dtype": "float64"}
    options["method"] = jaxgd.GradientDescent(0.0004)
    scattered = [jaxgd.fit(line, [0.5, 0.5], (X, Y), key=key, **options).params for key in range(5)]
    assert np.max(np.abs(np.asarray(scattered) - [5 + 19 / 30, 0.54])) > 0.02
    # The mean of the iterates is off by a term of the order of the rate: 0.008 at 0.0004, and 0.016 at twice that.
    averaged = jaxgd.fit(line, [0.5, 0.5], (X, Y), average=0.9, key=0, **options)
    np.testing.assert_allclose(averaged.params, [5.63333, 0.54], atol=0.01)


def test_keras_example() -> None:
    result = jaxgd.minimize(
        lambda v: 2 + v**2, 2.5, method=jaxgd.GradientDescent(0.1, momentum=0.9), max_steps=100, stop=(), dtype="float32"
    )
    assert result.n_steps == 100
    np.testing.assert_allclose(result.params, -0.007128528, rtol=1e-5)  # float32, rounded a hundred times
    np.testing.assert_allclose(result.cost, 2.0000508, rtol=1e-7)


def test_a_random_start_of_a_size() -> None:
    def cost(v: jax.Array) -> jax.Array:
        return jnp.sum(v**2)

    first, same, other = (jaxgd.gradient_descent(cost, size=3, key=key, max_steps=1, history="params") for key in (0, 0, 1))
    assert first.history is not None and same.history is not None and other.history is not None
    assert first.params.shape == (3,)
    np.testing.assert_array_equal(first.history.params, same.history.params)
    assert np.all(first.history.params[0] != other.history.params[0])
    np.testing.assert_allclose(first.history.params[1], 0.8 * first.history.params[0], rtol=EXACT)


def test_histories_of_every_momentum_and_rate() -> None:
    for momentum in (0.0, 0.5, 0.9):
        for rate in (0.05, 0.2, 0.5, 0.8):
            result = jaxgd.minimize(
                lambda w: jnp.sum(w**2),
                [4.0, 3.0],
                method=jaxgd.GradientDescent(rate, momentum),
                stop=CostTolerance(-1.0),
                max_steps=5,
                history="params",
                dtype="float64",
            )
            points, costs = reference.history_descent(lambda w: np.sum(w**2), lambda w: 2 * w, [4, 3], rate, momentum, -1, 5)
            assert result.history is not None
            np.testing.assert_allclose(result.history.params, points, rtol=EXACT, atol=1e-15)
            np.testing.assert_allclose(result.history.cost, costs, rtol=EXACT, atol=1e-15)


def _digits() -> Any:
    """Digits 0 and 1, split as the tutorial does, with a column of ones."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(n_class=2, return_X_y=True)
    table = np.hstack([np.ones((len(images), 1)), images])
    return train_test_split(table, labels.astype(float), test_size=0.2, random_state=10)


def _half_sum_of_squares(w: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, y = data
    return jnp.sum((y - x @ w) ** 2) / 2


def _errors(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    return 100 * float(np.mean((x @ np.asarray(w) >= 0.5) != y))


def test_digits_with_all_rows() -> None:
    x_train, x_test, y_train, y_test = _digits()
    start = np.random.RandomState(19).uniform(-1, 1, 65) * 1e-6
    result = jaxgd.minimize(
        _half_sum_of_squares,
        start,
        (x_train, y_train),
        method=jaxgd.GradientDescent(1e-6, 0.7),
        stop=CostTolerance(0.1),
        max_steps=100,
        dtype="float64",
        history="cost",
    )
    assert result.n_steps == 12
    assert result.status is jaxgd.Status.COST_TOLERANCE
    np.testing.assert_allclose(result.cost, 2.998829961744539, rtol=EXACT)
    assert result.history is not None and result.history.cost.shape == (13,)
    assert round(_errors(result.params, x_train, y_train), 2) == 0.69
    assert round(_errors(result.params, x_test, y_test), 2) == 1.39


@pytest.mark.parametrize(
    ("momentum", "updates", "cost", "error"),
    [(0.0, 52, 2.123458806369412, 0.35), (0.5, 45, 1.8676248825260537, 0.35), (0.9, 51, 1.5884866777576963, 0.0)],
)
def test_digits_with_each_momentum(momentum: float, updates: int, cost: float, error: float) -> None:
    x_train, x_test, y_train, y_test = _digits()
    result = jaxgd.minimize(
        _half_sum_of_squares,
        np.random.RandomState(11).uniform(-1, 1, 65) * 1e-6,
        (x_train, y_train),
        method=jaxgd.GradientDescent(1e-6, momentum),
        stop=CostTolerance(0.01),
        max_steps=100,
        dtype="float64",
    )
    assert result.n_steps == updates
    np.testing.assert_allclose(result.cost, cost, rtol=EXACT)
    assert round(_errors(result.params, x_train, y_train), 2) == error
    assert round(_errors(result.params, x_test, y_test), 2) == 1.39


def test_digits_row_by_row() -> None:
    x_train, x_test, y_train, y_test = _digits()
    result = jaxgd.fit(
        _half_sum_of_squares,
        np.random.RandomState(19).uniform(-1, 1, 65) * 1e-6,
        (x_train, y_train),
        batch_size=1,
        n_epochs=100,
        key=0,
        validation=(x_train, y_train),
        method=jaxgd.GradientDescent(1e-6, 0.7),
        stop=CostTolerance(0.1),
        dtype="float64",
    )
    # The tutorial stops after 9 epochs, with other orders of the rows.
    assert result.status is jaxgd.Status.COST_TOLERANCE
    assert 7 <= result.n_epochs <= 11
    assert round(_errors(result.params, x_train, y_train), 2) == 0.35
    assert round(_errors(result.params, x_test, y_test), 2) == 1.39


def test_least_squares_matches_the_closed_form_and_a_large_rate_diverges() -> None:
    rng = np.random.default_rng(42)
    x = 2 * rng.random(100)
    y = 4 + 3 * x + rng.standard_normal(100)
    table = np.stack([np.ones(100), x], axis=1)
    expected = np.linalg.solve(table.T @ table, table.T @ y)

    def cost(theta: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.mean((data[0] @ theta - data[1]) ** 2)

    start = rng.standard_normal(2)
    good = jaxgd.minimize(cost, start, (table, y), method=jaxgd.GradientDescent(0.1), stop=(), max_steps=1000, dtype="float64")
    np.testing.assert_allclose(good.params, expected, rtol=1e-8)
    slow = jaxgd.minimize(cost, start, (table, y), method=jaxgd.GradientDescent(0.01), stop=(), max_steps=20, dtype="float64")
    assert slow.status is jaxgd.Status.MAX_STEPS
    bad = jaxgd.minimize(cost, start, (table, y), method=jaxgd.GradientDescent(0.5), stop=(), max_steps=10_000, dtype="float64")
    assert bad.status is jaxgd.Status.DIVERGED
    assert np.all(np.isfinite(bad.params)) and np.isfinite(bad.cost)
    assert bad.best.cost <= cost(jnp.asarray(start), (jnp.asarray(table), jnp.asarray(y))) * (
        1 + 1e-6
    )  # in float32 where x64 is off
    drawn = jaxgd.fit(
        cost,
        start,
        (table, y),
        batch_size=1,
        n_epochs=50,
        key=0,
        shuffle="replacement",
        method=jaxgd.GradientDescent(jaxgd.schedules.InverseTime(5, 50)),
        dtype="float64",
    )
    # 5000 draws of noise 1 at rates that end at 1/1000: the scatter is about 0.05.
    np.testing.assert_allclose(drawn.params, expected, atol=0.2)


def test_classification_records_the_mean_minibatch_cost() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat([[-3.0, 0.0], [3.0, 2.0]], 200, axis=0)
    x = np.hstack([centres + rng.standard_normal((400, 2)), np.ones((400, 1))])
    y = np.repeat([0.0, 1.0], 200)

    def cost(w: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.sum((jax.nn.sigmoid(batch[0] @ w) - batch[1]) ** 2)

    def batch_cost(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
        return float(np.sum((1 / (1 + np.exp(-(x @ w))) - y) ** 2))

    result = jaxgd.fit(
        cost,
        jaxgd.normal(3),
        (x, y),
        batch_size=32,
        n_epochs=100,
        key=0,
        shuffle=False,
        method=jaxgd.GradientDescent(0.01),
        history="params",
        dtype="float64",
    )
    assert result.history is not None and result.history.cost.shape == (101,)
    w, costs = result.history.params[0], []
    for first in range(0, 400, 32):
        rows = slice(first, first + 32)
        costs.append(batch_cost(w, x[rows], y[rows]))
        p = 1 / (1 + np.exp(-(x[rows] @ w)))
        w = w - 0.01 * x[rows].T @ (2 * (p - y[rows]) * p * (1 - p))
    sizes = [32] * 12 + [16]  # an epoch's mean is over its rows
    np.testing.assert_allclose(result.history.cost[1], np.average(costs, weights=sizes), rtol=EXACT)
    np.testing.assert_allclose(result.history.params[1], w, rtol=EXACT)
    assert np.mean((x @ np.asarray(result.params) > 0) != y) < 0.02


def test_update_tolerance_ends_the_run_and_not_only_the_epoch() -> None:
    result = jaxgd.sgd(lambda v, batch: jnp.mean((v - batch) ** 2), 1.0, [0.0, 0.0, 0.0], learning_rate=0.25, key=0, tolerance=1e-3)
    # The updates are -0.5 * 0.5**k: the tenth is the first within 1e-3.
    assert (result.n_steps, result.n_epochs) == (9, 3)
    assert result.status is jaxgd.Status.UPDATE_TOLERANCE
    assert float(result.params) == 0.5**9
    same = jaxgd.minimize(lambda v: v**2, 1.0, method=jaxgd.GradientDescent(0.25), stop=UpdateTolerance(1e-3), dtype="float64")
    assert same.n_steps == 9
