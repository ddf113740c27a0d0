"""How runs end badly: what is not finite, wherever it comes from, and an interrupt; the last and the best finite point survive."""

import os
import signal
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from jaxgd.methods.protocol import Point, Problem, Step
from tests.problems import X, Y, line, quartic, rosenbrock, square

DESCENT = jaxgd.GradientDescent(0.25)  # halves the parameter of `square` each step


def finite(*trees: Any) -> bool:
    return all(bool(np.all(np.isfinite(np.asarray(leaf).astype(float)))) for leaf in jax.tree.leaves(trees))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("jit", [True, False])
def test_a_value_that_is_not_finite_ends_the_run_in_that_step(bad: float, jit: bool) -> None:
    result = jaxgd.minimize(
        lambda v: jnp.where(v < 0.2, bad, v**2), 1.0, method=DESCENT, history="params", dtype="float64", jit=jit
    )
    assert result.status is Status.DIVERGED and not result.converged
    # 1, 1/2, 1/4 are finite; at 1/8 the cost is not.
    assert (float(result.params), float(result.cost), float(result.gradient)) == (0.25, 0.0625, 0.5)
    assert (result.n_steps, result.n_evaluations) == (2, 4)
    assert float(result.best.params) == 0.25
    assert result.history is not None
    np.testing.assert_array_equal(result.history.params, [1, 0.5, 0.25])


@jaxgd.pytree
class Bold:
    """Plain descent of rate 1, which accepts every point although it says that it steps back."""

    steps_back = True

    def init(self, params: Any) -> tuple[()]:
        return ()

    def step(self, point: Point, state: tuple[()], problem: Problem) -> Step:
        return Step(jax.tree.map(jnp.negative, point.gradient), state)


def test_a_method_that_accepts_every_point_keeps_the_last_finite_one() -> None:
    result = jaxgd.minimize(lambda v: v**4, 2.0, method=Bold(), stop=(), dtype="float32")
    # 2, -30, about 1e5, about -5e15, whose fourth power is 8e62
    assert result.status is Status.DIVERGED and result.n_steps == 2
    np.testing.assert_array_equal(result.params, np.float32(-30 + 4 * 30.0**3))


def test_a_gradient_that_is_not_finite_ends_the_run() -> None:
    # The square root has an infinite slope at 0, which the third step reaches exactly.
    result = jaxgd.minimize(
        lambda v: jnp.sqrt(v),
        4.0,
        method=jaxgd.GradientDescent(jaxgd.schedules.PiecewiseConstant([1], [12.0, 2.0])),
        dtype="float64",
    )
    assert result.status is Status.DIVERGED
    assert (float(result.params), result.n_steps) == (1.0, 1)


def test_a_parameter_that_overflows_ends_the_run() -> None:
    # The cost does not see the second parameter grow: its gradient is constant, the steps are huge.
    result = jaxgd.minimize(
        lambda v: v[0] ** 2 - 1e30 * jnp.tanh(v[1] * 1e-30),
        [1.0, 0.0],
        method=jaxgd.GradientDescent(3e38 / 4),
        stop=(),
        dtype="float32",
        max_steps=50,
    )
    assert result.status is Status.DIVERGED
    assert finite(result.params, result.best)


def test_not_finite_at_the_start() -> None:
    value = jaxgd.minimize(lambda v: jnp.log(v), -1.0, method=DESCENT)
    assert (value.status, value.n_steps, value.n_evaluations, float(value.params)) == (Status.DIVERGED, 0, 1, -1.0)
    assert np.isnan(value.cost) and np.isnan(value.best.cost)
    slope = jaxgd.minimize(lambda v: jnp.sqrt(v), 0.0, method=DESCENT)
    assert (slope.status, slope.n_steps, float(slope.cost)) == (Status.DIVERGED, 0, 0.0)
    data = jaxgd.minimize(line, [0.5, 0.5], (X, np.where(Y == 14, np.nan, Y)), method=DESCENT)
    assert (data.status, data.n_steps) == (Status.NONFINITE_DATA, 0)
    default = jaxgd.minimize(lambda v: jnp.log(v), -1.0)
    assert default.status is Status.DIVERGED


@pytest.mark.parametrize("jit", [True, False])
def test_not_finite_data_end_a_fit_at_their_batch(jit: bool) -> None:
    spoilt = Y.copy()
    spoilt[4] = np.nan
    options: dict[str, Any] = {
        "batch_size": 1,
        "n_epochs": 3,
        "shuffle": False,
        "method": jaxgd.GradientDescent(1e-4),
        "dtype": "float64",
    }
    result = jaxgd.fit(line, [0.5, 0.5], (X, spoilt), jit=jit, **options)
    assert result.status is Status.NONFINITE_DATA
    # The four batches before are finite, and the point after the fourth is not evaluated to a finite cost.
    assert (result.n_steps, result.n_epochs) == (3, 0)
    clean = jaxgd.fit(line, [0.5, 0.5], (X[:3], Y[:3]), **{**options, "n_epochs": 1})
    np.testing.assert_allclose(result.params, clean.params, rtol=1e-14)
    assert finite(result.params, result.best.params) and np.isnan(result.cost) and np.isnan(result.best.cost)


def test_a_rate_too_large_diverges_with_a_finite_best_point() -> None:
    for method in (jaxgd.GradientDescent(0.01), jaxgd.GradientDescent(1.0, 0.9)):
        result = jaxgd.fit(line, [0.5, 0.5], (X, Y), batch_size=2, n_epochs=500, key=0, method=method)
        assert result.status is Status.DIVERGED
        assert finite(result.params, result.best, result.cost, result.gradient)
        assert result.best.cost <= min(result.cost, result.start_cost)
        np.testing.assert_allclose(result.best.cost, line(result.best.params, (X, Y)), rtol=1e-6)
        assert result.n_epochs < 500
    full = jaxgd.minimize(line, [0.5, 0.5], (X, Y), method=jaxgd.GradientDescent(0.01))
    assert full.status is Status.DIVERGED
    assert finite(full.params, full.cost, full.gradient)
    np.testing.assert_array_equal(full.best.params, np.array([0.5, 0.5], np.asarray(full.params).dtype))


def test_the_best_point_is_never_lost() -> None:
    # At rate 0.2 the quartic bounces from side to side: the best point is not the last.
    result = jaxgd.minimize(
        quartic, 0.0, method=jaxgd.GradientDescent(0.2), max_steps=7, stop=(), history="params", dtype="float64"
    )
    assert result.history is not None
    assert float(result.best.cost) == result.history.cost.min() < float(result.cost)
    assert float(result.best.params) == result.history.params[np.argmin(result.history.cost)]


def test_a_saddle_is_stationary_for_a_rule_that_knows_the_gradient_alone() -> None:
    result = jaxgd.minimize(lambda x: x[0] ** 2 - x[1] ** 2, [1.0, 0.0], method=DESCENT, dtype="float64")
    assert result.converged
    np.testing.assert_allclose(result.params, 0, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1.0, 1e30, 1e150])
def test_huge_and_tiny_costs_take_the_same_steps(scale: float) -> None:
    result = jaxgd.minimize(lambda v: scale * v**2, 1.0, method=jaxgd.GradientDescent(0.25 / scale), dtype="float64")
    # Steps down to the rounding of a parameter that was 1: 2**-104 = 4 eps**2, and two more points in a row.
    assert (result.n_steps, result.converged) == (104, True)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_huge_and_tiny_costs_in_single_precision(scale: float) -> None:
    result = jaxgd.minimize(lambda v: jnp.float32(scale) * v**2, 1.0, method=jaxgd.GradientDescent(0.25 / scale), dtype="float32")
    assert result.converged and abs(result.params) < 1e-4  # at 1e-30 the square of a slope soon underflows


def test_an_interrupt_returns_the_point_reached() -> None:
    def interrupt(progress: jaxgd.Progress) -> None:
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    result = jaxgd.minimize(square, 1.0, method=DESCENT, callback=interrupt, dtype="float64")
    assert result.status is Status.INTERRUPTED
    assert result.n_steps in (5, 6)  # the interpreter delivers a signal at its own leisure
    assert float(result.params) == 0.5**result.n_steps
    fitted = jaxgd.fit(
        lambda v, b: jnp.mean((v - b) ** 2),
        1.0,
        [0.0],
        batch_size=1,
        n_epochs=50,
        callback=interrupt,
        method=DESCENT,
        dtype="float64",
    )
    assert fitted.status is Status.INTERRUPTED and fitted.n_epochs in (5, 6)


def test_an_interrupt_before_anything_is_computed_is_raised() -> None:
    def cost(v: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jaxgd.minimize(cost, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start", [100.0, -1e4, 3e8])
def test_a_far_start_does_not_loosen_convergence(dtype: str, start: float) -> None:
    result = jaxgd.minimize(quartic, start, dtype=dtype)
    assert result.converged
    minimum = min([-1.4017712478412978, 1.7139394361853717], key=lambda v: abs(v - float(result.params)))
    np.testing.assert_allclose(result.params, minimum, rtol=1e-6)
    banana = jaxgd.minimize(rosenbrock, [10.0, 10.0], dtype=dtype)
    assert banana.converged
    np.testing.assert_allclose(banana.params, 1, rtol=1e-3 if dtype == "float32" else 1e-9)  # the valley's condition is 2500
    slow = jaxgd.minimize(line, [100.0, 100.0], (X, Y), method=jaxgd.GradientDescent(0.0008), max_steps=20_000, dtype=dtype)
    assert not slow.converged and abs(slow.params[0] - 5.6333) > 0.1


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_convergence_does_not_depend_on_the_unit_of_the_parameters(dtype: str, unit: float) -> None:
    result = jaxgd.minimize(lambda v: quartic(v / unit), 4.0 * unit, dtype=dtype)
    assert result.converged
    np.testing.assert_allclose(result.params / unit, 1.7139394361853717, rtol=1e-6 if dtype == "float32" else 1e-12)


@pytest.mark.slow
def test_a_method_that_searches_steps_back_from_what_is_not_finite() -> None:
    # The valley of the first lies where the gradient is NaN; of the second, beyond a cost of minus infinity.
    walled = jaxgd.minimize(lambda v: v**2 + 0 * jnp.sqrt(jnp.maximum(v - 2, 0)), 5.0, dtype="float64")
    assert walled.status is Status.DIVERGED and finite(walled.params, walled.cost, walled.gradient, walled.best)
    np.testing.assert_allclose(walled.params, 2, rtol=1e-12)
    pit = jaxgd.minimize(lambda v: jnp.where(v < 0, -jnp.inf, jnp.log(jnp.maximum(v, 1e-300)) ** 2), 5.0, dtype="float64")
    assert pit.converged
    np.testing.assert_allclose(pit.params, 1, rtol=1e-9)
    unbounded = jaxgd.minimize(lambda v: -jnp.exp(v), 1.0, dtype="float64")
    # Newton's step is 1 whatever the height; the run ends where the square of the cost overflows.
    assert unbounded.status is Status.UNBOUNDED and unbounded.cost < -1e150 and finite(unbounded.params, unbounded.cost)
    steep = jaxgd.minimize(lambda v: jnp.float32(1e20) * (v - 3) ** 2, 0.0, dtype="float32")  # the square of its slope overflows
    assert steep.converged and float(steep.params) == 3
    constant = jaxgd.minimize(lambda v: 3.0, 1.0)
    assert constant.converged and constant.n_steps == 0


def test_an_interrupt_keeps_the_history_as_long_as_the_run() -> None:
    descent = jaxgd.GradientDescent(1e-9)
    options: dict[str, Any] = {"stop": (), "history": "cost"}
    jaxgd.minimize(square, 1.0, method=descent, max_steps=2, **options)  # an interrupt while the program is compiled is raised
    alarm = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    alarm.start()
    result = jaxgd.minimize(square, 1.0, method=descent, max_steps=50_000_000, **options)
    alarm.join()
    assert result.status is Status.INTERRUPTED and result.n_steps > 0
    assert result.history is not None and result.history.cost.shape == (result.n_steps + 1,)
    assert result.history.cost[-1] == result.cost


@pytest.mark.slow
def test_an_interrupt_among_many_starts_keeps_what_each_has_reached() -> None:
    def run(max_steps: int) -> jaxgd.Result:
        options: dict[str, Any] = {"method": jaxgd.GradientDescent(1e-9), "stop": (), "key": 0, "n_starts": 20}
        return jaxgd.minimize(lambda v: jnp.sum(v**2), jaxgd.normal(2), max_steps=max_steps, **options)

    run(2)  # an interrupt while the program is compiled is raised
    alarm = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    alarm.start()
    result = run(100_000_000)
    alarm.join()
    reached = result.starts.n_evaluations > 0
    assert result.status is Status.INTERRUPTED and 0 < np.sum(reached) < 20
    assert set(result.starts.status[reached]) == {Status.INTERRUPTED} and np.all(np.isinf(result.starts.cost[~reached]))
    assert result.cost == np.min(result.starts.cost)


def test_the_number_of_steps_is_that_of_the_returned_point_wherever_a_divergence_is_noticed() -> None:
    options: dict[str, Any] = {"batch_size": 6, "shuffle": False, "method": jaxgd.GradientDescent(1e7), "dtype": "float32"}
    runs = [
        jaxgd.fit(lambda v, b: jnp.mean((v - b) ** 2), 1e3, np.arange(6.0), n_epochs=epochs, **options) for epochs in range(2, 7)
    ]
    diverged = [run for run in runs if run.status is Status.DIVERGED]
    assert len(diverged) >= 2
    assert len({(run.n_steps, float(run.params)) for run in diverged}) == 1


@pytest.mark.slow
def test_a_clean_run_makes_no_nan_on_the_way() -> None:
    with jax.debug_nans(True):
        for method in (None, jaxgd.Adam(0.1)):
            run = jaxgd.minimize(line, [0.5, 0.5], (X, Y), method=method, max_steps=10, history="params")
            assert run.history is not None and finite(run.history.params)
        assert finite(jaxgd.fit(line, [0.5, 0.5], (X, Y), batch_size=4, n_epochs=2, key=0, average=0.5, history="params").params)
