"""What the host does between segments changes no bit of the numbers."""

from typing import Any

import jax
import numpy as np
import pytest

import jaxgd
from jaxgd import Progress, Status
from jaxgd._run import driver
from tests.problems import X, Y, line, rosenbrock

MINIMIZE: dict[str, Any] = {"method": jaxgd.Adam(0.05), "max_steps": 300}
FIT: dict[str, Any] = {"batch_size": 4, "n_epochs": 60, "key": 1, "method": jaxgd.Adam(0.05), "average": 0.3}
FIT |= {"validation": (X[:3], Y[:3]), "stop": jaxgd.stopping.Patience(40)}

WAYS: dict[str, dict[str, Any]] = {
    "callback": {"callback": lambda progress: None},
    "progress bar": {"progress": True},
    "often": {"callback": jaxgd.callbacks.Every(lambda progress: None, steps=3), "progress": "lines"},
    "history": {"history": ("params", "gradient_norm", "learning_rate")},
    "all": {"callback": lambda progress: False, "progress": True, "history": "params"},
}


def bits(result: jaxgd.Result) -> list[Any]:
    """All numbers of a result, and of the state that it ended in, but not of what was recorded."""
    fields = (result.params, result.cost, result.gradient, result.best, result.n_steps, result.n_epochs, result.code)
    fields += (result.state.trial, result.state.method, result.state.rules)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fields)]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_are_those_of_the_plain_run(way: str, dtype: str) -> None:
    def minimize(**options: Any) -> jaxgd.Result:
        return jaxgd.minimize(rosenbrock, np.array([-1.2, 1.0, 0.3]), dtype=dtype, **MINIMIZE, **options)

    def fit(**options: Any) -> jaxgd.Result:
        return jaxgd.fit(line, [0.5, 0.5], (X, Y), dtype=dtype, **FIT, **options)

    assert bits(minimize(**WAYS[way])) == bits(minimize())
    assert bits(fit(**WAYS[way])) == bits(fit())
    assert bits(minimize()) == bits(minimize()) and bits(fit()) == bits(fit())


@pytest.mark.slow
@pytest.mark.parametrize("method", [jaxgd.TrustRegion(), jaxgd.LBFGS(), jaxgd.SpectralGradient()], ids=lambda m: type(m).__name__)
def test_the_bits_of_a_method_that_searches(method: Any) -> None:
    def minimize(**options: Any) -> jaxgd.Result:
        bounds = (None, [None, None, 0.5])
        return jaxgd.minimize(rosenbrock, np.array([-1.2, 1.0, 0.3]), method=method, bounds=bounds, max_steps=40, **options)

    plain = bits(minimize())
    for way in ({"callback": lambda progress: None}, {"history": ("params", "gradient_norm")}):
        assert bits(minimize(**way)) == plain


def test_cutting_the_run_into_segments_of_any_length_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bits(jaxgd.fit(line, [0.5, 0.5], (X, Y), **FIT))
    for length in (1, 7, 59):
        monkeypatch.setattr(driver.SegmentLength, "ticks", lambda self, length=length: length)
        assert bits(jaxgd.fit(line, [0.5, 0.5], (X, Y), **FIT)) == whole


def test_a_history_longer_than_its_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    short = jaxgd.minimize(rosenbrock, np.zeros(2), history="params", **MINIMIZE)
    monkeypatch.setattr(driver, "_capacity", lambda row: 16)
    cut = jaxgd.minimize(rosenbrock, np.zeros(2), history="params", **MINIMIZE)
    assert short.history is not None and short.history.params.shape == (301, 2)
    jax.tree.map(np.testing.assert_array_equal, short.history, cut.history)


def test_a_method_that_rejects_points_records_the_accepted_ones() -> None:
    plain = jaxgd.minimize(rosenbrock, np.array([-1.2, 1.0]), history="params", dtype="float64")
    stepped = jaxgd.minimize(rosenbrock, np.array([-1.2, 1.0]), history="params", dtype="float64", callback=lambda progress: None)
    assert plain.n_evaluations > plain.n_steps + 1
    assert plain.history is not None and plain.history.cost.shape == (plain.n_steps + 1,)
    jax.tree.map(np.testing.assert_array_equal, plain.history, stepped.history)
    np.testing.assert_allclose(plain.history.cost, [rosenbrock(x) for x in plain.history.params], rtol=1e-5, atol=1e-6)


def test_a_callback_sees_every_step_and_stops_the_run() -> None:
    seen: list[Progress] = []

    def callback(progress: Progress) -> bool:
        seen.append(progress)
        return progress.step == 4

    result = jaxgd.minimize(lambda v: v**2, 1.0, method=jaxgd.GradientDescent(0.25), callback=callback, dtype="float64")
    assert result.status is Status.CALLBACK and not result.converged
    assert [progress.step for progress in seen] == [progress.epoch for progress in seen] == [1, 2, 3, 4]
    assert [float(progress.params) for progress in seen] == [0.5, 0.25, 0.125, 0.0625]
    assert [float(progress.cost) for progress in seen] == [0.25, 0.0625, 0.015625, 0.00390625]
    assert (result.n_steps, float(result.params), float(result.cost)) == (4, 0.0625, 0.00390625)


def test_a_callback_sees_every_epoch() -> None:
    seen: list[Progress] = []

    def callback(progress: Progress) -> bool:
        seen.append(progress)
        return progress.epoch == 3

    result = jaxgd.fit(line, [0.5, 0.5], (X, Y), callback=callback, history="params", **FIT)
    assert result.status is Status.CALLBACK and result.n_epochs == 3 and result.n_steps == 6
    assert [(progress.epoch, progress.step) for progress in seen] == [(1, 2), (2, 4), (3, 6)]
    assert result.history is not None
    np.testing.assert_array_equal([progress.params for progress in seen], result.history.params[1:])
    np.testing.assert_array_equal([progress.cost for progress in seen], result.history.cost[1:])
    np.testing.assert_array_equal([progress.validation_cost for progress in seen], result.history.validation_cost[1:])
    np.testing.assert_array_equal(seen[-1].best.params, result.best.params)


def test_an_error_in_a_callback_is_the_users() -> None:
    def callback(progress: Progress) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        jaxgd.minimize(rosenbrock, np.zeros(2), callback=callback)


def test_the_bar_counts_to_the_end_and_shows_the_cost(capsys: pytest.CaptureFixture[str]) -> None:
    jaxgd.fit(line, [0.5, 0.5], (X, Y), progress=True, **FIT)
    text = capsys.readouterr().err
    assert "60/60" in text and "epoch" in text and "cost=" in text and "validation=" in text
    jaxgd.minimize(rosenbrock, np.zeros(2), progress=True, **MINIMIZE)
    text = capsys.readouterr().err
    assert "300/300" in text and "step" in text and "cost=" in text


@pytest.mark.slow
def test_without_jit_python_may_look_at_values_and_the_numbers_are_the_same() -> None:
    def branching(v: Any) -> Any:
        return v**2 if v > 0 else 3 * v**2

    def traced(v: Any) -> Any:
        return jax.numpy.where(v > 0, v**2, 3 * v**2)

    for method in (jaxgd.GradientDescent(0.4, 0.5), jaxgd.Adam(0.3), None):
        options: dict[str, Any] = {"method": method, "max_steps": 40, "history": "params", "dtype": "float64"}
        eager, compiled = jaxgd.minimize(branching, 2.0, jit=False, **options), jaxgd.minimize(traced, 2.0, **options)
        assert (eager.n_steps, eager.status) == (compiled.n_steps, compiled.status)
        assert eager.history is not None and compiled.history is not None
        np.testing.assert_allclose(eager.history.params, compiled.history.params, rtol=1e-12, atol=1e-30)
    options = {**FIT, "n_epochs": 5, "history": "params", "dtype": "float64"}
    eager, compiled = jaxgd.fit(line, [0.5, 0.5], (X, Y), jit=False, **options), jaxgd.fit(line, [0.5, 0.5], (X, Y), **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), eager.history, compiled.history)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), eager.params, compiled.params)
    assert (eager.n_steps, eager.n_evaluations) == (compiled.n_steps, compiled.n_evaluations)


@pytest.mark.parametrize("answer", [None, 17, 0.5, "stop", np.ones(3), np.bool_(False), [True]])
def test_only_true_stops_a_run(answer: Any) -> None:
    result = jaxgd.minimize(rosenbrock, np.zeros(2), callback=lambda progress: answer, max_steps=3)
    assert result.status is Status.MAX_STEPS
    for yes in (True, np.bool_(True), jax.numpy.asarray(True)):
        assert (
            jaxgd.minimize(rosenbrock, np.zeros(2), callback=lambda progress, yes=yes: yes, max_steps=3).status is Status.CALLBACK
        )
