"""A run that goes on where another ended has the bits of one run without a pause; another call is refused."""

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Adam, GradientDescent, Result, Status, schedules, stopping
from tests.problems import X, Y, line, rosenbrock

START = np.array([-1.2, 1.0, 0.3])
METHODS = [
    jaxgd.TrustRegion(),
    jaxgd.LBFGS(),
    jaxgd.SpectralGradient(),
    Adam(schedules.Cosine(0.05, 40)),
    GradientDescent(1e-3, 0.9, nesterov=True),
]
FIT: dict[str, Any] = {"batch_size": 4, "key": 1, "method": Adam(schedules.Cosine(0.1, 20)), "history": ("params", "learning_rate")}
FIT |= {"validation": (X[:3], Y[:3]), "stop": stopping.Patience(40), "dtype": "float32"}


def same(one: Result, other: Result) -> bool:
    """Whether two results are the same to the last bit, their states, histories and counts too."""
    bits = [[(np.asarray(leaf).dtype, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(run)] for run in (one, other)]
    return jax.tree.structure(one) == jax.tree.structure(other) and bits[0] == bits[1] and one.status is other.status


def minimize(max_steps: int, **options: Any) -> Result:
    return jaxgd.minimize(rosenbrock, START, max_steps=max_steps, stop=(), history=("params", "gradient_norm"), **options)


def fit(n_epochs: int, **options: Any) -> Result:
    return jaxgd.fit(line, [0.5, 0.5], (X, Y), n_epochs=n_epochs, **(FIT | options))


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_fifth_step_of_minimize(method: Any, dtype: str) -> None:
    options = {"method": method, "dtype": dtype}
    whole, run = minimize(30, **options), minimize(5, **options)
    for steps in (10, 15, 20, 25, 30):
        run = minimize(steps, resume=pickle.loads(pickle.dumps(run)), **options)
    assert same(run, whole) and run.history is not None and len(run.history.cost) == run.n_steps + 1


def test_every_second_step_of_least_squares() -> None:
    x = np.linspace(0, 4, 50)
    y = 2.5 * np.exp(-1.3 * x) + 0.1 * np.cos(9 * x)

    def least_squares(max_steps: int, scale: float = 0.2, factor: float = 1.0, **options: Any) -> Result:
        def residuals(p: Any, y: Any) -> Any:
            return factor * (p[0] * jnp.exp(-p[1] * jnp.asarray(x)) - y)

        options |= {"max_steps": max_steps, "loss": "huber", "loss_scale": scale, "dtype": "float64", "history": "params"}
        return jaxgd.least_squares(residuals, [1.0, 1.0], y, **options)

    whole, run = least_squares(20), least_squares(2)
    assert whole.converged and run.status is Status.MAX_STEPS
    for steps in (4, 6, 8, 20):
        run = least_squares(steps, resume=pickle.loads(pickle.dumps(run)))
    assert same(run, whole)
    for other in ({"scale": 0.3}, {"factor": 2.0}):
        with pytest.raises(ValueError, match="resume: cost differs from that of the run to go on with"):
            least_squares(20, resume=least_squares(2), **other)


WAYS: dict[str, dict[str, Any]] = {
    "batches": {},
    "all rows": {"batch_size": 6},
    "replacement": {"shuffle": "replacement"},
    "eager": {"jit": False},
    "momentum, plain": {"method": GradientDescent(1e-3, 0.9), "history": None, "validation": None, "stop": None},
}


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("way", WAYS)
def test_every_epoch_of_fit(way: str) -> None:
    options = WAYS[way]
    run = fit(1, **options)
    for epochs in range(2, 11):
        run = fit(epochs, resume=run, **options)
    assert same(run, fit(10, **options))


@pytest.mark.slow
def test_the_average_is_that_of_the_call_that_goes_on() -> None:
    whole, early, late = fit(12, average=0.5), fit(5, average=0.5), fit(10, average=0.5)
    assert same(fit(12, average=0.5, resume=early), whole)
    with pytest.raises(ValueError, match=r"average: the mean of this call has 8 iterates .* averaged 10"):
        fit(12, average=0.5, resume=late)
    assert same(fit(10, average=0.5, resume=late), late)


@pytest.mark.slow
def test_a_run_that_was_broken_off_goes_on() -> None:
    seen = []

    def watch(progress: jaxgd.Progress) -> bool:
        seen.append(progress.epoch)
        return progress.epoch == 4

    broken = fit(10, callback=watch)
    assert (
        broken.status is Status.CALLBACK
        and same(fit(10, callback=watch, resume=broken), fit(10))
        and seen[4:] == [5, 6, 7, 8, 9, 10]
    )

    def interrupt(progress: jaxgd.Progress) -> None:
        if progress.step == 7:
            raise KeyboardInterrupt

    broken = minimize(30, method=METHODS[0], callback=interrupt)
    assert broken.status is Status.INTERRUPTED and same(
        minimize(30, method=METHODS[0], resume=broken), minimize(30, method=METHODS[0])
    )


def test_a_run_that_has_ended_stays_as_it_is() -> None:
    ended = jaxgd.minimize(rosenbrock, START)
    assert ended.converged and same(jaxgd.minimize(rosenbrock, START, resume=ended), ended)
    stopped = fit(30, stop=stopping.Patience(1))
    assert stopped.status is Status.PATIENCE and same(fit(50, stop=stopping.Patience(1), resume=stopped), stopped)
    with pytest.raises(ValueError, match="n_epochs: expected at least the 10 that the run to go on with has begun, got 9"):
        fit(9, resume=fit(10))
    with pytest.raises(ValueError, match="max_steps: expected at least the 10 that the run to go on with has begun, got 9"):
        minimize(9, method=METHODS[3], resume=minimize(10, method=METHODS[3]))


def test_functions_that_are_not_traced_are_known_by_their_numbers() -> None:
    options: dict[str, Any] = {"method": Adam(0.1), "stop": (), "jit": False}
    some = jaxgd.minimize(lambda x: (x - 1.0) ** 2, 0.0, max_steps=3, **options)
    with pytest.raises(ValueError, match="resume: cost differs"):
        jaxgd.minimize(lambda x: (x - 2.0) ** 2, 0.0, max_steps=6, resume=some, **options)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="on an accelerator a result knows them by their shapes")
def test_large_data_are_known_by_samples_and_traced_ones_are_refused() -> None:
    def run(x: Any, n_epochs: int, **options: Any) -> Result:
        plan: dict[str, Any] = {"batch_size": 10_000, "n_epochs": n_epochs, "key": 0, "method": Adam(0.1)}
        return jaxgd.fit(line, np.full(2, 0.5, np.float32), (x, x), **plan, **options)

    large = np.linspace(0, 1, 30_000, dtype=np.float32)
    some = pickle.loads(pickle.dumps(run(large, 2)))
    assert same(run(large, 3, resume=some), run(large, 3))
    with pytest.raises(ValueError, match="resume: data differs"):
        run(2 * large, 3, resume=some)
    with pytest.raises(ValueError, match="resume: expected none inside"):
        jax.jit(lambda x: run(x, 3, resume=some).params)(large)


def test_the_state_of_a_cost_ends_with_the_last_point_of_a_run_that_diverged() -> None:
    def cost(x: Any, state: Any) -> Any:
        return jnp.sum(x**4), state + 1

    run = jaxgd.minimize(cost, np.ones(2, np.float32), method=GradientDescent(10.0), stop=(), cost_state=0)
    assert run.status is Status.DIVERGED and int(run.cost_state) == run.n_steps + 1


def test_a_search_for_a_rate_is_not_repeated(traces: Any) -> None:
    options: dict[str, Any] = {"method": None, "history": None, "validation": None}
    some = fit(30, **options)
    more = fit(40, resume=some, **options)
    assert same(fit(30, resume=some, **options), some)
    assert (
        more.method.learning_rate.initial == some.method.learning_rate.initial
        and more.n_epochs == 40
        and np.array_equal(more.tried.cost, some.tried.cost)
    )


def changed(**options: Any) -> Callable[[Result], Any]:
    return lambda run: fit(10, resume=run, **options)


def other_cost(b: Any, data: Any) -> Any:
    return line(b, data) * 2.0


OTHERS: dict[str, Callable[[Result], Any]] = {
    "cost differs": lambda run: jaxgd.fit(other_cost, [0.5, 0.5], (X, Y), n_epochs=10, resume=run, **FIT),
    r"start differs .*expected float32\[2\], got float32\[3\]": lambda run: jaxgd.fit(
        line, [0.5] * 3, (X, Y), n_epochs=10, resume=run, **FIT
    ),
    "start differs": lambda run: jaxgd.fit(line, [0.5, 1.0], (X, Y), n_epochs=10, resume=run, **FIT),
    "data differs": lambda run: jaxgd.fit(line, [0.5, 0.5], (X, 2 * Y), n_epochs=10, resume=run, **FIT),
    "start differs .*expected float32.*got float64": changed(dtype="float64"),
    "method differs .*expected Adam.*got GradientDescent": changed(method=GradientDescent(0.1), history=None),
    "method differs": changed(method=Adam(schedules.Cosine(0.2, 20))),
    "key differs .*expected 1, got 2": changed(key=2),
    "batch_size differs .*expected 4, got 3": changed(batch_size=3),
    "shuffle differs .*expected True, got 'replacement'": changed(shuffle="replacement"),
    "validation differs": changed(validation=(X[:2], Y[:2])),
    "stop differs": changed(stop=stopping.Patience(41)),
    "history differs": changed(history="params"),
    "bounds differs": changed(bounds=(None, 10.0)),
    "fixed differs": changed(fixed=[True, False]),
    "average differs": changed(average=0.5),
}


@pytest.fixture(scope="module")
def saved() -> Result:
    return fit(5)


@pytest.mark.parametrize("message", OTHERS)
def test_another_call_is_refused(message: str, saved: Result) -> None:
    with pytest.raises(ValueError, match=f"^resume: {message}"):
        OTHERS[message](pickle.loads(pickle.dumps(saved)))


def test_another_version_is_refused_unless_forced(saved: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = pickle.loads(pickle.dumps(saved))
    elsewhere.saved.call.place["version of JAX"] = "0.4.1"
    with pytest.raises(ValueError, match=r"resume: .*version of JAX: 0.4.1 then.*force=True"):
        fit(10, resume=elsewhere)
    assert same(fit(10, resume=jaxgd.Resume(elsewhere, force=True)), fit(10))


def test_a_cost_that_closes_over_numbers_is_known_by_them() -> None:
    def run(shift: float, **options: Any) -> Result:
        return jaxgd.minimize(lambda x: (x - shift) ** 4, 0.0, max_steps=3, **options)

    some = run(1.0)
    assert same(run(1.0, resume=some), some)
    with pytest.raises(ValueError, match="resume: cost differs"):
        run(2.0, resume=some)


@pytest.mark.parametrize("wrong", [3, "there", {"params": 1.0}], ids=str)
def test_what_is_no_run(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"resume: expected a (Result|directory)"):
        fit(10, resume=wrong)


def test_a_result_that_jax_has_rebuilt_and_a_run_inside_a_program(saved: Result) -> None:
    with pytest.raises(ValueError, match="resume: expected the Result of one call"):
        fit(10, resume=jax.tree.map(lambda leaf: leaf, saved))
    with pytest.raises(ValueError, match="resume: expected none inside"):
        jax.jit(lambda b: jaxgd.minimize(line, b, (X, Y), resume=saved).params)(jnp.zeros(2))
    with pytest.raises(ValueError, match="n_starts: expected 1 together with resume"):
        jaxgd.minimize(lambda x: x**2, jaxgd.normal(()), key=0, n_starts=3, resume=saved)
