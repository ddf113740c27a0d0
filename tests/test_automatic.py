"""Minibatches without a learning rate: the race, what it costs, what it chooses, and what happens when the run goes wrong."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from jaxgd._tuning import halving
from jaxgd.methods import first_order
from jaxgd.schedules import Cosine, Exponential, InverseTime, WarmUp

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(160, 3))
DATA = (ROWS, ROWS @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * RNG.normal(size=160))
START = {"w": np.zeros(3), "b": 0.0}
RULES = [rule for _, rule in inspect.getmembers(first_order, inspect.isclass) if issubclass(rule, first_order.FirstOrderMethod)]
RULES.remove(first_order.FirstOrderMethod)


def plane(params: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2) / 2


def fit(**options: Any) -> jaxgd.Result:
    defaults: dict[str, Any] = {"batch_size": 16, "n_epochs": 60, "key": 0, "dtype": "float64"}
    return jaxgd.fit(options.pop("cost", plane), options.pop("start", START), options.pop("data", DATA), **(defaults | options))


LEAST = float(fit(method=jaxgd.GradientDescent(0.5), batch_size=160, n_epochs=300).cost)


def test_the_rounds_are_runs_of_adam_and_the_best_of_the_last_makes_the_run() -> None:
    result = fit(batch_size=160, n_epochs=3500)
    tried = result.tried
    assert list(tried.n_steps) == [50, 350] and tried.cost.shape == (2, 10)
    assert np.sum(np.isfinite(tried.cost), axis=1).tolist() == [10, 2]
    for part, steps in enumerate(tried.n_steps):
        for number in np.flatnonzero(np.isfinite(tried.cost[part]))[::2]:
            rate, relative = float(tried.learning_rate[number]), bool(tried.relative[number])
            alone = jaxgd.Adam(Cosine(rate, int(steps)), beta2=0.99, relative=relative)
            expected = fit(batch_size=160, n_epochs=int(steps), method=alone).cost
            np.testing.assert_allclose(tried.cost[part, number], expected, rtol=1e-9)
    best = np.argmin(tried.cost[-1])
    assert result.method.relative == tried.relative[best] and result.method.learning_rate.duration == 3500
    np.testing.assert_allclose(result.method.learning_rate.initial, tried.learning_rate[best], rtol=1e-15)
    assert result.n_evaluations - result.n_steps - 1 == tried.n_evaluations == 10 * 50 + 2 * 350


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_method_that_was_chosen_makes_the_same_run_without_a_race(dtype: str) -> None:
    result = fit(dtype=dtype, history="learning_rate")
    again = fit(dtype=dtype, history="learning_rate", method=result.method)
    assert again.method is None and again.tried is None
    for one, other in zip(jax.tree.leaves(result.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert result.history is not None and again.history is not None
    np.testing.assert_array_equal(result.history.learning_rate, again.history.learning_rate)
    assert result.cost < 1.01 * LEAST


@pytest.mark.parametrize("n_epochs", [1, 3, 19, 20, 49, 50, 199, 200, 1000])
def test_the_race_never_costs_more_than_the_run_and_a_third_of_a_long_one(n_epochs: int) -> None:
    result = fit(n_epochs=n_epochs)
    steps = 10 * n_epochs
    spent = result.n_evaluations - steps - 1
    assert spent <= (0.35 if steps >= 2000 else 1) * steps
    assert (spent == 0) == (steps < 24)
    if steps < 24:
        assert result.method.learning_rate.initial == 0.01


def test_other_numbers_compile_nothing(compilations: Any) -> None:
    fit()
    with compilations() as compiled:
        fit(n_epochs=80, key=3, data=(ROWS[::-1].copy(), DATA[1]), start={"w": np.ones(3), "b": 2.0})
        fit(cost=lambda params, rows: plane(params, rows))
    assert not compiled


def test_a_race_of_one_lane_at_a_time_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    side_by_side = fit()
    monkeypatch.setattr(halving, "_NUMBERS", 1)
    one_by_one = fit()
    np.testing.assert_allclose(one_by_one.tried.cost, side_by_side.tried.cost, rtol=1e-9)
    assert one_by_one.method == side_by_side.method


@pytest.mark.slow
def test_it_runs_inside_jit_and_vmap_and_without_tracing() -> None:
    expected = fit(n_epochs=10)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 2)
        several = jax.vmap(lambda key: fit(n_epochs=10, key=key))(keys)
        one = jax.jit(lambda key: fit(n_epochs=10, key=key).cost)(keys[1])
    np.testing.assert_allclose(several.cost[1], one, rtol=1e-12)
    assert np.all(np.asarray(several.cost) - LEAST < 0.001 * (plane(START, DATA) - LEAST))  # after a hundred updates
    assert several.tried.cost.shape == (2, 2, 8)
    eager = fit(n_epochs=10, jit=False)
    assert eager.method == expected.method
    np.testing.assert_allclose(eager.cost, expected.cost, rtol=1e-9)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(
    "options", [{"shuffle": "replacement"}, {"shuffle": False, "key": None}, {"batch_size": 160}, {"batch_size": 7}]
)
def test_any_order_of_rows_will_do(options: Any) -> None:
    assert fit(n_epochs=100, **options).cost < 1.1 * LEAST


def test_bounds_and_fixed_parameters_hold_in_the_race_too() -> None:
    def walled(params: Any, rows: Any) -> Any:
        return jnp.where(params["b"] > 0.2, jnp.nan, plane(params, rows))

    result = fit(cost=walled, bounds=({"w": None, "b": None}, {"w": None, "b": 0.2}), fixed={"w": [False, True, False], "b": False})
    assert result.params["b"] == 0.2 and result.params["w"][1] == 0 and abs(result.params["w"][0] - 1) < 0.3


@pytest.mark.slow
def test_scales_from_a_thousandth_to_a_thousand() -> None:
    scales = 10.0 ** np.arange(-3, 4)
    x = np.random.default_rng(1).normal(size=(640, 7)) * scales
    y = x @ (1 / scales) + 2 + 0.9 * np.random.default_rng(2).normal(size=640)
    least = np.mean((y - x @ np.linalg.lstsq(x, y - 2, rcond=None)[0] - 2) ** 2) / 2
    start = {"w": np.zeros(7), "b": 0.0}
    for dtype in ("float32", "float64"):
        result = fit(start=start, data=(x, y), batch_size=32, n_epochs=100, dtype=dtype)
        gap = (float(result.cost) - least) / (np.mean(y**2) / 2 - least)
        assert result.method.relative is True and gap < 1e-3


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_any_unit_of_the_data_in_single_precision(scale: float) -> None:
    values = (scale * (5 + np.random.default_rng(4).normal(size=101))).astype(np.float32)
    result = fit(cost=lambda p, rows: jnp.mean(jnp.abs(p - rows)), start=0.0, data=values, n_epochs=300, dtype="float32")
    np.testing.assert_allclose(result.params / scale, np.median(values) / scale, rtol=0.02)


@pytest.mark.slow
def test_a_decay_of_mixed_scales() -> None:
    time = np.linspace(0, 2000, 400)
    counts = 1000 * np.exp(-1.5e-3 * time) + 80 + 20 * np.random.default_rng(3).normal(size=400)

    def cost(p: Any, rows: Any) -> Any:
        t, y = rows
        return jnp.mean((p[0] * jnp.exp(-p[1] * t) + p[2] - y) ** 2)

    exact = jaxgd.minimize(cost, [500.0, 1e-3, 0.0], (time, counts), dtype="float64")
    result = fit(cost=cost, start=[500.0, 1e-3, 0.0], data=(time, counts), batch_size=32, n_epochs=200)
    assert exact.converged and result.cost < 1.001 * exact.cost


@pytest.mark.parametrize("key", [0, 1])
def test_a_short_run_on_raw_columns(key: int) -> None:
    """A few hundred updates: what is best for the first tens of them is far too slow for all."""
    x = np.random.default_rng(key).normal(size=(160, 3)) * [12, 18, 40] + [50, 130, 220]
    y = x @ [1.7, -2.2, 0.3] + 170 + 10 * np.random.default_rng(key + 10).normal(size=160)
    columns = np.c_[x, np.ones(160)]
    least = np.mean((y - columns @ np.linalg.lstsq(columns, y)[0]) ** 2) / 2
    gap = (float(fit(data=(x, y), n_epochs=50, key=key).cost) - least) / (np.mean(y**2) / 2 - least)
    assert gap < 1e-3


def edge(height: float) -> Any:
    """A cost with an edge that only a long run at a high rate comes to, and what lies beyond it."""
    beyond = np.float64(height)

    def cost(params: Any, rows: Any) -> Any:
        fall = -jnp.mean(rows[0][:, 0] ** 2) * params["b"]
        return jnp.where(params["b"] > 20, beyond, fall) + jnp.sum(params["w"] ** 2)

    return cost


cliff = edge(np.inf)


@pytest.mark.parametrize("height", [np.inf, 1e4, -1.0])
def test_a_run_that_goes_wrong_is_made_again_more_slowly(height: float) -> None:
    """One that diverged, one that ended above its start, and one that ended below, yet above what a candidate had reached."""
    result = fit(cost=edge(height), n_epochs=100)
    winner = result.tried.learning_rate[np.argmin(result.tried.cost[-1])]
    assert result.status is Status.MAX_EPOCHS and result.cost < -10 and np.min(result.tried.cost) < -10
    assert result.method.learning_rate.initial < 0.9 * winner
    assert result.n_evaluations > 2 * result.n_steps


def test_a_callback_that_ends_the_run_is_obeyed() -> None:
    seen: list[int] = []

    def stop(progress: Any) -> bool:
        seen.append(progress.epoch)
        return progress.epoch == 2

    result = fit(cost=cliff, n_epochs=100, callback=stop)
    assert result.status is Status.CALLBACK and seen == [1, 2]


def test_an_interrupt_in_a_slower_run_ends_them_all() -> None:
    firsts: list[float] = []

    def interrupt(progress: Any) -> None:
        if progress.epoch == 1:
            firsts.append(float(progress.params["b"]))
            if len(firsts) == 2:
                raise KeyboardInterrupt

    result = fit(cost=cliff, n_epochs=100, callback=interrupt)
    assert result.status is Status.INTERRUPTED and result.n_epochs == 1 and len(firsts) == 2
    assert float(result.params["b"]) == firsts[1] < firsts[0]


def test_the_best_of_the_slower_runs_is_returned() -> None:
    def plateau(params: Any, rows: Any) -> Any:  # beyond an edge the cost is high, and falls on
        return jnp.where(params["b"] > 10, 1e4, 0.0) - jnp.mean(rows[0][:, 0] ** 2) * params["b"] + jnp.sum(params["w"] ** 2)

    result = fit(cost=plateau, n_epochs=100, method=jaxgd.Adam(Cosine("auto", 1000)))
    first = result.tried.learning_rate[np.argmin(result.tried.cost[2])]
    attempts = [fit(cost=plateau, n_epochs=100, method=with_rate(result.method, first / 10 ** (k / 2))) for k in range(5)]
    ends = [float(attempt.cost) for attempt in attempts]
    sound = next(k for k, end in enumerate(ends) if end < 0)
    assert sound > 0 and ends[sound] > np.min(result.tried.cost)  # so that a slower run is tried, which is no better
    made = sound + 2
    np.testing.assert_allclose(result.cost, min(ends[:made]), rtol=1e-12)
    assert result.n_evaluations == result.tried.n_evaluations + made * (result.n_steps + 1)


def with_rate(method: Any, rate: float) -> Any:
    return dataclasses.replace(method, learning_rate=dataclasses.replace(method.learning_rate, initial=rate))


@jaxgd.pytree
class Root(jaxgd.schedules.Schedule):
    """A schedule without a number."""

    def rate(self, time: Any) -> Any:
        return 0.1 / jnp.sqrt(1 + time)


def test_a_schedule_without_numbers_and_a_cost_that_cannot_be_mapped() -> None:
    assert fit(method=jaxgd.GradientDescent(Root())).tried is None

    def called(params: Any, rows: Any) -> Any:
        one = jax.pure_callback(lambda: np.float32(1), jax.ShapeDtypeStruct((), np.float32))
        same = jax.pure_callback(lambda b: np.asarray(b, np.float32), one, jax.lax.stop_gradient(params["b"]))
        return plane(params, rows) + 0 * same

    result = fit(cost=called, n_epochs=10, dtype="float32")
    assert np.isfinite(result.tried.cost[-1]).any() and result.cost < 2 * LEAST + 0.01


@pytest.mark.slow
def test_a_start_at_the_minimum_is_no_failure() -> None:
    exact = jaxgd.minimize(plane, START, DATA, dtype="float64")
    result = fit(start=exact.params, n_epochs=20)
    assert result.n_evaluations <= 2 * result.n_steps + 1 and result.cost < 1.1 * exact.cost


def test_where_nothing_is_finite_that_is_said() -> None:
    result = fit(cost=lambda params, rows: jnp.nan * plane(params, rows))
    assert result.status is Status.DIVERGED and np.all(np.isinf(result.tried.cost))
    np.testing.assert_array_equal(result.params["w"], START["w"])


def test_patience_ends_the_run_and_keeps_the_best_epoch() -> None:
    result = fit(validation=DATA, stop=jaxgd.stopping.Patience(5), n_epochs=200, history="params", average=0.2)
    assert result.status is Status.PATIENCE and result.history is not None
    best = np.argmin(result.history.validation_cost[1:]) + 1
    np.testing.assert_array_equal(result.best.params["w"], result.history.params["w"][best])
    assert result.method.learning_rate.duration == 2000


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_can_leave_its_learning_rate_to_the_race(rule: Any) -> None:
    result = fit(method=rule("auto"), n_epochs=100)
    assert result.cost - LEAST < 0.01 * (plane(START, DATA) - LEAST)  # a constant rate leaves some noise
    assert result.method == rule(result.method.learning_rate) and not np.any(result.tried.relative)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(
    "schedule, largest",
    [
        (Cosine("auto", 600), lambda schedule: schedule.initial),
        (Exponential("auto", 0.5, 100), lambda schedule: schedule.initial),
        (InverseTime("auto", 50), lambda schedule: schedule.t0 / 50),
        (WarmUp("auto", 3), lambda schedule: schedule.schedule),
        (WarmUp(InverseTime("auto", 50), 3), lambda schedule: schedule.schedule.t0 / 50),
    ],
)
def test_the_first_number_of_a_schedule_can_be_sought(schedule: Any, largest: Any) -> None:
    result = fit(method=jaxgd.GradientDescent(schedule, momentum=0.5))
    best = result.tried.learning_rate[np.argmin(result.tried.cost[2])]
    np.testing.assert_allclose(largest(result.method.learning_rate), best, rtol=1e-14)
    assert type(result.method.learning_rate) is type(schedule) and result.cost < 1.1 * LEAST


def test_relative_steps_are_those_of_the_scaled_problem() -> None:
    """In the logarithm of a parameter, Adam's relative steps are plain ones, up to the square of a step."""
    rate, steps = 1e-5, 400
    plain = jaxgd.minimize(lambda u: 3 * jnp.exp(u) - u, 1.0, method=jaxgd.Adam(rate), max_steps=steps, stop=(), dtype="float64")
    relative = jaxgd.minimize(
        lambda x: 3 * x - jnp.log(x), np.exp(1.0), method=jaxgd.Adam(rate, relative=True), max_steps=steps, stop=(), dtype="float64"
    )
    np.testing.assert_allclose(np.log(relative.params), plain.params, atol=10 * rate)
    small = jaxgd.minimize(lambda x: x, 1e-9, method=jaxgd.Adam(0.1, relative=True), max_steps=1, stop=(), dtype="float64")
    np.testing.assert_allclose(small.params, 1e-9 - 1e-3, rtol=1e-6)


def test_another_sweep_compiles_nothing(compilations: Any) -> None:
    def sweep(cost: Any, data: Any) -> Any:
        options: dict[str, Any] = {"batch_size": 16, "n_epochs": 2, "key": 0, "dtype": "float64", "learning_rates": [0.01, 0.1]}
        return jaxgd.learning_rate_sweep(cost, START, data, **options)

    first = sweep(plane, DATA)
    with compilations() as compiled:
        again, other = sweep(lambda params, rows: plane(params, rows), DATA), sweep(plane, (ROWS, 2 * DATA[1]))
    assert not compiled
    np.testing.assert_array_equal(again.cost, first.cost)
    np.testing.assert_allclose(other.cost, 4 * first.cost, rtol=1e-12)


def test_a_sweep_moves_a_drawn_start_into_the_bounds_as_fit_does() -> None:
    options: dict[str, Any] = {"batch_size": 16, "n_epochs": 1, "key": 0, "dtype": "float64", "bounds": (-1, 1)}
    start = jaxgd.normal({"w": 3, "b": ()}, scale=100.0)
    sweep = jaxgd.learning_rate_sweep(plane, start, DATA, learning_rates=[0.1], **options)
    one = jaxgd.fit(plane, start, DATA, method=jaxgd.GradientDescent(0.1), **options)
    np.testing.assert_allclose(sweep.cost, [one.cost], rtol=1e-12)


@pytest.mark.slow
def test_a_sweep_is_the_grid_of_runs() -> None:
    rates = [0.003, 0.1, 1.0, 1e9]
    options: dict[str, Any] = {"batch_size": 16, "n_epochs": 5, "key": 0, "dtype": "float64"}
    sweep = jaxgd.learning_rate_sweep(plane, START, DATA, learning_rates=rates, **options)
    expected = [jaxgd.fit(plane, START, DATA, method=jaxgd.GradientDescent(rate), **options).cost for rate in rates[:3]]
    np.testing.assert_allclose(sweep.cost[:3], expected, rtol=1e-12)
    assert sweep.cost[3] > 1e9 and sweep.best == rates[int(np.argmin(expected))]
    adam = jaxgd.learning_rate_sweep(plane, START, DATA, method=jaxgd.Adam(Cosine("auto", 50)), **options)
    assert adam.learning_rate.shape == (12,)
    one = jaxgd.fit(plane, START, DATA, method=jaxgd.Adam(Cosine(float(adam.learning_rate[9]), 50)), **options)
    np.testing.assert_allclose(adam.cost[9], one.cost, rtol=1e-12)
