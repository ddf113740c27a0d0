"""What training needs: dropped steps, averages, plateaus, gradients of several batches to a step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgd
from jaxgd import Adam, ExponentialAverage, GradientDescent, Result, Status, schedules
from jaxgd.callbacks import Every
from tests.problems import X, Y, line
from tests.test_extras import both
from tests.test_resume import same

ROWS = (np.tile(X, 50), np.tile(Y, 50) + np.arange(300) % 7)
HELD_OUT = (X[:3], Y[:3])


def fit(**options: Any) -> Result:
    default: dict[str, Any] = {"batch_size": 41, "n_epochs": 4, "key": 1, "method": Adam(0.05), "dtype": "float64"}
    return jaxgd.fit(line, [0.5, 0.5], ROWS, **(default | options))


def with_gaps(x: Any, batch: Any) -> Any:
    """A cost that is NaN in batches that hold a negative number, or has a gradient that is."""
    return jnp.mean((x - jnp.sqrt(batch)) ** 2)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("n_rows", [12, 200], ids=["few batches", "many batches"])
@pytest.mark.parametrize("method", [GradientDescent(0.1, 0.9), Adam(0.1)], ids=lambda method: type(method).__name__)
def test_a_dropped_step_is_as_if_its_batch_had_not_come(method: Any, n_rows: int) -> None:
    data = np.linspace(1, 4, n_rows)
    broken = np.insert(data, [2, n_rows // 2], [-1.0, -2.0])
    options: dict[str, Any] = {
        "batch_size": 1,
        "n_epochs": 1,
        "shuffle": False,
        "method": method,
        "history": "cost",
        "dtype": "float64",
    }
    run: Any = jaxgd.fit(with_gaps, 1.0, broken, on_nonfinite="skip", stop=jaxgd.stopping.GradientTolerance(1e-30), **options)
    plain: Any = jaxgd.fit(with_gaps, 1.0, data, stop=jaxgd.stopping.GradientTolerance(1e-30), **options)
    assert (run.n_skipped, run.n_steps, plain.n_skipped) == (2, n_rows, None)
    np.testing.assert_allclose(run.state.trial, plain.state.trial, rtol=1e-14)
    np.testing.assert_allclose(run.state.epoch_cost, plain.state.epoch_cost, rtol=1e-14)
    assert jaxgd.fit(with_gaps, 1.0, broken, **options).status is Status.DIVERGED
    np.testing.assert_allclose(
        jaxgd.fit(with_gaps, 1.0, broken, on_nonfinite="skip", jit=False, **options).state.trial, plain.state.trial
    )


def test_nothing_finite_is_dropped_to_the_end() -> None:
    run = jaxgd.fit(with_gaps, 1.0, -np.ones(6), batch_size=2, n_epochs=3, key=0, method=Adam(0.1), on_nonfinite="skip")
    assert (run.n_skipped, run.n_steps, float(run.params)) == (9, 0, 1.0) and run.status.nonfinite
    run = jaxgd.fit(with_gaps, 1.0, -np.ones(6), batch_size=6, n_epochs=3, key=0, method=Adam(0.1), on_nonfinite="skip")
    assert (run.n_skipped, run.n_steps) == (3, 0)


@pytest.mark.slow
def test_dropped_steps_count_for_no_rule() -> None:
    """Of an epoch of which every step was dropped nothing is known, and a mean gradient is one of those that were not."""

    def broken(b: Any, rows: Any, training: bool) -> Any:
        return line(b, rows) * (jnp.nan if training else 1.0)

    options: dict[str, Any] = {"batch_size": 60, "n_epochs": 6, "key": 0, "method": Adam(0.1), "on_nonfinite": "skip"}
    for rule in (jaxgd.stopping.GradientTolerance(1e-3), jaxgd.stopping.CostTolerance(1e-3), jaxgd.stopping.Patience(2)):
        run = jaxgd.fit(broken, [0.5, 0.5], ROWS, stop=rule, **options)
        assert run.n_epochs == 6 and not run.converged
    options["batch_size"] = 300
    assert jaxgd.fit(broken, [0.5, 0.5], ROWS, stop=jaxgd.stopping.CostTolerance(1e-3), **options).n_epochs == 6

    def sometimes(b: Any, rows: Any, key: Any, training: bool) -> Any:
        return jnp.where(jax.random.bernoulli(key, 0.2) & training, jnp.nan, line(b, rows))

    run = jaxgd.fit(sometimes, [0.5, 0.5], ROWS, batch_size=60, n_epochs=30, key=0, on_nonfinite="skip")
    assert run.status is Status.MAX_EPOCHS and run.n_skipped > 10 and run.n_steps > 100


def test_a_row_that_is_not_finite_is_dropped_with_its_batch() -> None:
    run = jaxgd.fit(
        line, [0.5, 0.5], (X, np.where(X == 15, np.nan, Y)), batch_size=2, n_epochs=5, key=0, method=Adam(0.1), on_nonfinite="skip"
    )
    assert run.status is Status.MAX_EPOCHS and run.n_skipped == 5 and np.isnan(run.cost) and np.all(np.isfinite(run.params))


def test_the_exponential_average_is_returned_validated_and_chosen() -> None:
    seen: list[np.ndarray] = []
    options: dict[str, Any] = {"validation": HELD_OUT, "history": ("params", "learning_rate")}
    run: Any = fit(average=ExponentialAverage(0.8), **options, callback=Every(lambda p: seen.append(np.asarray(p.params)), steps=1))
    powers = 0.8 ** np.arange(len(seen))[::-1]
    mean = (powers[:, None] * np.array(seen)).sum(0) / powers.sum()
    np.testing.assert_allclose(run.params, mean, rtol=1e-12)
    np.testing.assert_array_equal(run.state.trial, fit(**options).state.trial)
    np.testing.assert_allclose(run.history.validation_cost[-1], line(mean, HELD_OUT), rtol=1e-6)
    best = int(np.argmin(run.history.validation_cost))
    powers = powers[-8 * best :][::1] if best else powers
    assert best == 0 or np.isclose(float(line(run.best.params, HELD_OUT)), run.history.validation_cost[best], rtol=1e-6)
    stopped = fit(average=ExponentialAverage(0.8), **options, callback=lambda p: p.epoch == 2)
    assert same(fit(average=ExponentialAverage(0.8), **options, resume=stopped), fit(average=ExponentialAverage(0.8), **options))


@pytest.mark.slow
def test_plateau_scales_another_schedule_by_the_validation_cost() -> None:
    plateau = schedules.Plateau(schedules.Exponential(0.4, 0.999), 0.5, patience=2, threshold=0.01, least=0.02)
    run: Any = fit(method=GradientDescent(1e-3), n_epochs=1)
    options: dict[str, Any] = {"method": Adam(plateau), "validation": HELD_OUT, "n_epochs": 30, "history": "learning_rate"}
    run = fit(**options)
    rates, costs = run.history.learning_rate, run.history.validation_cost[1:]
    scale, lowest, waited, expected = 1.0, np.inf, 0, [0.4]
    for epoch, cost in enumerate(costs, start=1):
        fell = cost < lowest - (0.01 * abs(lowest) if np.isfinite(lowest) else 0)
        lowest, waited = (cost, 0) if fell else (lowest, waited + 1)
        if waited >= 2:
            scale, waited = scale / 2, 0
        expected.append(max(0.4 * 0.999 ** (8 * epoch) * scale, 0.02))
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert scale < 0.5
    stopped = fit(**options, callback=Every(lambda p: p.step == 100, steps=20))
    assert same(fit(**options, resume=stopped), run)
    moved: Any = jaxgd.minimize(
        lambda x: jnp.abs(x), 1.0, method=GradientDescent(schedules.Plateau(0.3, 0.5, patience=1)), stop=(), max_steps=20
    )
    assert abs(float(moved.params)) < 0.01
    auto = fit(method=Adam(schedules.Plateau("auto", 0.5)), n_epochs=10)
    assert auto.status is Status.MAX_EPOCHS and auto.method.learning_rate.schedule > 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 7, 41, 60])
def test_gradients_of_several_batches_to_a_step(size: int) -> None:
    run, plain = fit(batch_size=size, accumulate=5), fit(batch_size=5 * size)
    assert run.n_steps == plain.n_steps
    np.testing.assert_allclose(run.params, plain.params, rtol=1e-12)
    np.testing.assert_allclose(fit(batch_size=size, accumulate=5, jit=False).params, plain.params, rtol=1e-12)


@pytest.mark.slow
def test_accumulated_costs_with_a_key_and_a_state() -> None:
    rows = (np.random.default_rng(0).normal(size=(60, 4)), np.ones(60))
    start = {"w": np.full(4, 0.5), "b": 0.0}
    options: dict[str, Any] = {"batch_size": 6, "accumulate": 4, "n_epochs": 2, "key": 0, "method": Adam(0.1), "dtype": "float64"}
    state = {"mean": np.zeros(4), "count": np.int32(0)}
    run = jaxgd.fit(both, start, rows, cost_state=state, **options)
    assert int(run.cost_state["count"]) == 20 and run.n_steps == 6


WRONG: dict[str, Any] = {
    "on_nonfinite: expected 'stop' or 'skip', got 'drop'": lambda: fit(on_nonfinite="drop"),
    "accumulate: expected an integer of at least 1, got 0": lambda: fit(accumulate=0),
    r"ExponentialAverage: decay: expected a number in \[0, 1\), got 1.0": lambda: ExponentialAverage(1.0),
    "ExponentialAverage: decay: expected a number below 1 in float32 too": lambda: fit(
        average=ExponentialAverage(1 - 1e-9), dtype="float32"
    ),
    r"average: expected a number in \(0, 1\], got 2": lambda: fit(average=2),
    r"Plateau: factor: expected a number in \[0, 1\)": lambda: schedules.Plateau(0.1, 1.5),
    "Plateau: schedule: expected a number or another schedule": lambda: schedules.Plateau(
        schedules.WarmUp(schedules.Plateau(0.1), 3)
    ),
    "Plateau: least: expected at most the rate, 0.1, got 1.0": lambda: schedules.Plateau(0.1, least=1.0),
    "Plateau: patience: expected an integer of at least 1": lambda: schedules.Plateau(0.1, patience=0),
    "method: a Plateau follows the cost in methods of jaxgd alone": lambda: fit(
        method=optax.chain(optax.clip(1.0), optax.sgd(schedules.WarmUp(schedules.Plateau(0.1), 3)))
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        WRONG[message]()
