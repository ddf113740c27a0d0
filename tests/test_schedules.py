from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd.schedules import Cosine, Exponential, InverseTime, PiecewiseConstant, Plateau, Schedule, WarmUp

SCHEDULES: list[tuple[Any, Any]] = [
    (InverseTime(5, 50), lambda t: 5 / (t + 50)),
    (Exponential(0.5, 0.9), lambda t: 0.5 * 0.9**t),
    (Exponential(0.5, 0.9, period=4), lambda t: 0.5 * 0.9 ** (t / 4)),
    (Cosine(0.3, 12, final=0.1), lambda t: 0.1 + 0.2 * (1 + np.cos(np.pi * min(t / 12, 1))) / 2),
    (PiecewiseConstant([3, 8], [1.0, 0.1, 0.01]), lambda t: 1.0 if t < 3 else 0.1 if t < 8 else 0.01),
    (WarmUp(InverseTime(5, 50), 4), lambda t: 0.1 * (t + 1) / 5 if t < 4 else 5 / (t - 4 + 50)),
    (Plateau(0.2), lambda t: 0.2),
    (WarmUp(0.2, 4), lambda t: 0.2 * min((t + 1) / 5, 1)),
    (WarmUp(lambda step: 1.0 / (step.astype(jnp.float32) + 1.0), 2), lambda t: [1 / 3, 2 / 3][t] if t < 2 else 1 / (t - 1)),
]


@pytest.mark.parametrize(("schedule", "formula"), SCHEDULES, ids=lambda value: type(value).__name__)
def test_the_rate_follows_the_formula_in_steps_and_in_epochs(schedule: Any, formula: Any) -> None:
    in_steps = [float(schedule(step)) for step in range(20)]
    np.testing.assert_allclose(in_steps, [formula(step) for step in range(20)], rtol=1e-6)  # float32
    if isinstance(schedule, WarmUp) and callable(schedule.schedule):
        return  # its unit is its own: see below
    by_epoch = jax.tree.unflatten(jax.tree.structure(schedule), jax.tree.leaves(schedule))
    object.__setattr__(by_epoch, "unit", "epoch")
    in_epochs = [float(by_epoch.bind(3)(step)) for step in range(20)]
    np.testing.assert_allclose(in_epochs, [formula(step // 3) for step in range(20)], rtol=1e-6)


def test_every_schedule_is_tested() -> None:
    ours = {schedule for schedule in Schedule.__subclasses__() if schedule.__module__ == "jaxgd.schedules"}
    assert {type(schedule) for schedule, _ in SCHEDULES} == ours


def test_a_warm_up_in_steps_around_a_schedule_in_epochs() -> None:
    schedule = WarmUp(PiecewiseConstant([1], [1.0, 0.5], unit="epoch"), 2).bind(4)
    np.testing.assert_allclose([float(schedule(step)) for step in range(8)], [1 / 3, 2 / 3, 1, 1, 1, 1, 0.5, 0.5], rtol=1e-6)


def test_minibatch_descent_with_a_schedule_in_epochs_follows_the_recurrence() -> None:
    data = np.array([1.0, 2.0, 4.0])
    result = jaxgd.fit(
        lambda v, batch: jnp.mean((v - batch) ** 2) / 2,
        0.0,
        data,
        batch_size=2,
        n_epochs=6,
        shuffle=False,
        method=jaxgd.GradientDescent(Exponential(0.5, 0.5, unit="epoch")),
        history="learning_rate",
        dtype="float64",
    )
    v = 0.0
    for epoch in range(6):
        for batch in (data[:2], data[2:]):
            v -= 0.5 * 0.5**epoch * np.mean(v - batch)
    np.testing.assert_allclose(result.params, v, rtol=1e-14)
    assert result.history is not None
    np.testing.assert_allclose(result.history.learning_rate, 0.5 * 0.5 ** np.arange(7), rtol=1e-14)


def test_numbers_of_a_schedule_compile_nothing_and_a_fresh_callable_neither(compilations: Any) -> None:
    def run(schedule: Any) -> float:
        method = jaxgd.GradientDescent(schedule)
        return float(jaxgd.minimize(lambda v: v**2, 1.0, method=method, max_steps=10, stop=(), dtype="float64").params)

    run(InverseTime(5, 50))
    run(lambda step: 0.1 / (1.0 + step.astype(jnp.float64)))
    with compilations() as compiled:
        slow = run(InverseTime(1, 50))
        fresh = run(lambda step: 0.1 / (1.0 + step.astype(jnp.float64)))
    assert not compiled
    np.testing.assert_allclose(slow, np.prod([1 - 2 / (t + 50) for t in range(10)]), rtol=1e-14)
    np.testing.assert_allclose(fresh, np.prod([1 - 0.2 / (1 + t) for t in range(10)]), rtol=1e-14)
    assert run(lambda step: 0.2 / (1.0 + step.astype(jnp.float64))) != fresh  # another constant is another schedule
