"""fit(): what a method answers is obeyed, evaluations are counted once, and a search that comes to nothing ends the run."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from jaxgd.methods.protocol import Point, Problem, Step
from tests.problems import X, Y, line

START = np.array([0.5, 0.5])
OPTIONS: dict[str, Any] = {"n_epochs": 4, "shuffle": False, "dtype": "float64"}


@jaxgd.pytree
class Counting:
    """Plain descent that ends itself after a number of evaluations."""

    steps_back = False
    last: Any
    rate: Any = 1e-4

    def init(self, params: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        done = state + 1 >= self.last.astype(jnp.int32)
        update = jax.tree.map(lambda g: -self.rate.astype(g.dtype) * g, point.gradient)
        return Step(update, state + 1, code=jnp.where(done, Status.CONVERGED.code, 0))


@jaxgd.pytree
class Bouncing:
    """A step of alternating length that takes back every second point, and looks at what it came from."""

    steps_back = False

    def init(self, params: Any) -> Any:
        return jnp.zeros((), jnp.int32), jnp.zeros((), jax.tree.leaves(params)[0].dtype)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        count, _ = state
        accepted = count % 2 == 0
        base = problem.current.cost.astype(point.cost.dtype)
        slope = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), point.gradient, problem.current.gradient)
        update = jax.tree.map(lambda g: -jnp.where(count % 2 == 0, 1e-5, 1e-4).astype(g.dtype) * g, slope)
        return Step(update, (count + 1, base), accepted=accepted)


def error_of(params: Any) -> Any:
    """The cost of `line` over all rows, by NumPy."""
    return np.mean((params[0] + params[1] * X - Y) ** 2) / 2


def reference(batch_size: int, n_batches: int) -> tuple[np.ndarray, int, list[float]]:
    """What `Bouncing` does, by NumPy: the current point, how many were accepted, and the costs of the batches."""
    current, asked, accepted, costs = START, START, 0, []
    slope = np.zeros(2)
    for k in range(n_batches):
        rows = slice(k * batch_size % 6, k * batch_size % 6 + batch_size)
        error = asked[0] + asked[1] * X[rows] - Y[rows]
        costs.append(np.mean(error**2) / 2)
        if k % 2 == 0:
            current, accepted, slope = asked, accepted + 1, np.array([np.mean(error), np.mean(error * X[rows])])
        asked = current - (1e-5 if k % 2 == 0 else 1e-4) * slope
    return current, accepted, costs


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(("batch_size", "last", "n_epochs", "n_steps"), [(2, 5, 1, 4), (2, 3, 0, 2), (2, 1, 0, 0), (6, 3, 2, 2)])
def test_a_method_that_ends_itself_ends_the_run(batch_size: int, last: int, n_epochs: int, n_steps: int, jit: bool) -> None:
    result = jaxgd.fit(line, START, (X, Y), batch_size=batch_size, method=Counting(last), jit=jit, **OPTIONS)
    assert result.status is Status.CONVERGED and (result.n_epochs, result.n_steps) == (n_epochs, n_steps)
    assert result.n_evaluations == last + 1  # and the one over all rows
    plain = START
    for k in range(n_steps):
        rows = slice(k * batch_size % 6, k * batch_size % 6 + batch_size)
        error = plain[0] + plain[1] * X[rows] - Y[rows]
        plain = plain - 1e-4 * np.array([np.mean(error), np.mean(error * X[rows])])
    np.testing.assert_allclose(result.params, plain, rtol=1e-12)
    np.testing.assert_allclose(result.cost, error_of(plain), rtol=1e-12)


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(("batch_size", "n_epochs"), [(2, 3), (6, 4), (3, 3)])
def test_a_point_that_a_method_rejects_is_left_again(batch_size: int, n_epochs: int, jit: bool) -> None:
    options = OPTIONS | {"n_epochs": n_epochs, "jit": jit, "history": "params"}
    result: Any = jaxgd.fit(line, START, (X, Y), batch_size=batch_size, method=Bouncing(), **options)
    n_batches = n_epochs * 6 // batch_size
    params, accepted, costs = reference(batch_size, n_batches)
    np.testing.assert_allclose(result.params, params, rtol=1e-12)
    np.testing.assert_allclose(result.cost, error_of(params), rtol=1e-12)
    assert (result.n_steps, result.n_evaluations, result.n_epochs) == (accepted - 1, n_batches + 1, n_epochs)
    np.testing.assert_array_equal(result.history.params[-1], result.params)
    if batch_size < 6:
        np.testing.assert_allclose(result.history.cost[1:], np.reshape(costs, (n_epochs, -1)).mean(axis=1), rtol=1e-12)


def test_a_method_that_steps_back_is_refused_as_before() -> None:
    with pytest.raises(ValueError, match="compares the costs of steps"):
        jaxgd.fit(line, START, (X, Y), batch_size=2, method=jaxgd.LBFGS(), **OPTIONS)


@jaxgd.pytree
class Seen(jaxgd.stopping.StoppingRule):
    """A rule of one's own that counts what it sees."""

    limit: Any

    def init(self, params: Any, dtype: Any) -> Any:
        return jnp.zeros((), jnp.int32)

    def check(self, observation: Any, state: Any) -> Any:
        return state + 1 >= self.limit.astype(jnp.int32), state + 1


@jaxgd.pytree
class SeenUpdate(Seen):
    """The same for updates, which reports the same status."""

    watches = "update"


@pytest.mark.parametrize(("rules", "evaluations"), [((100, 4), 4), ((100, 1), 1), ((2, 100), 6), ((1, 100), 3)])
def test_rules_with_one_status_count_each_evaluation_once(rules: Any, evaluations: int) -> None:
    progress, update = rules
    stop = Seen(progress), SeenUpdate(update), SeenUpdate(100.0)
    result = jaxgd.fit(line, START, (X, Y), batch_size=2, method=jaxgd.GradientDescent(1e-4), stop=stop, **OPTIONS)
    assert result.status is Status.RULE and result.n_evaluations == evaluations + 1
    assert result.n_steps == (evaluations if progress < 100 else evaluations - 1)


ROWS = np.random.default_rng(0).normal(size=(160, 3))
TABLE = ROWS, ROWS @ [1.0, -2.0, 0.5] + 0.3
PLANE = {"w": np.zeros(3), "b": 0.0}


def plane(params: Any, rows: Any) -> Any:
    return jnp.mean((jnp.sum(rows[0] * params["w"], axis=1) + params["b"] - rows[1]) ** 2)


BROKEN = {
    "never finite": lambda p, rows: jnp.nan * plane(p, rows),
    "finite at the start alone": lambda p, rows: jnp.where(jnp.sum(p["w"] ** 2) == 0, plane(p, rows), jnp.inf + plane(p, rows)),
    "a gradient that is none": lambda p, rows: plane(p, rows) + jnp.sqrt(jnp.sum(p["w"] ** 2)),
}


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("method", [None, jaxgd.GradientDescent("auto")])
@pytest.mark.parametrize("name", BROKEN)
def test_a_search_in_which_nothing_is_finite_ends_the_run_at_once(name: str, method: Any) -> None:
    seen: list[Any] = []
    options: dict[str, Any] = {"batch_size": 32, "n_epochs": 30, "key": 0, "dtype": "float32", "history": "params"}
    result: Any = jaxgd.fit(BROKEN[name], PLANE, TABLE, method=method, callback=seen.append, **options)
    assert result.status is Status.DIVERGED and np.all(np.isinf(result.tried.cost)) and result.method is None
    assert (result.n_steps, result.n_epochs, len(seen), len(result.history.cost)) == (0, 0, 0, 1)
    assert result.n_evaluations == result.tried.n_evaluations + 1
    for params in (result.params, result.best.params):
        jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(np.float32, PLANE))
    start = np.mean(TABLE[1] ** 2) if name != "never finite" else np.nan
    np.testing.assert_allclose([result.cost, result.best.cost, result.start_cost], start, rtol=1e-6)


@pytest.mark.slow
def test_a_search_inside_an_outer_program_that_comes_to_nothing_ends_there_too() -> None:
    def ended(scale: Any) -> Any:
        options: dict[str, Any] = {"batch_size": 32, "n_epochs": 10, "key": 0}
        return jaxgd.fit(lambda p, rows: scale * plane(p, rows), PLANE, TABLE, **options)

    results = jax.vmap(ended)(jnp.array([1.0, jnp.nan]))
    assert list(results.status) == [Status.MAX_EPOCHS, Status.DIVERGED]
    assert results.n_epochs.tolist() == [10, 0] and not np.any(results.params["w"][1])


def test_the_best_of_a_run_that_was_made_again_is_the_best_of_all_attempts() -> None:
    def cliff(params: Any, rows: Any) -> Any:
        return jnp.where(jnp.abs(params) > 1.5, 40.0, 0.0) + jnp.mean((params - 1 - rows) ** 2)

    rows = np.random.default_rng(1).normal(size=100)
    result = jaxgd.fit(cliff, 0.0, rows, batch_size=10, n_epochs=50, key=0, dtype="float64")
    assert float(result.best.cost) <= min(float(result.cost), float(result.start_cost))
    np.testing.assert_allclose(result.best.cost, cliff(result.best.params, rows), rtol=1e-6)
