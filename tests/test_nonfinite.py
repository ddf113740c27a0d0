"""A run that numbers which are not finite have ended says where they were: in the data, in the validation data, at the start."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=40), RANDOM.normal(size=40)
DESCENT = jaxgd.GradientDescent(0.1)


def spoilt(column: Any, place: Any, value: float) -> Any:
    column = np.array(column)
    column[place] = value
    return column


def line(params: Any, rows: Any) -> Any:
    return jnp.mean((params["a"] * rows["x"] + params["b"] - rows["y"]) ** 2)


def matrix(params: Any, rows: Any) -> Any:
    return jnp.mean((rows["X"] @ jnp.stack([params["a"], params["b"]]) - rows["y"]) ** 2)


START = {"a": 0.5, "b": 0.0}
COLUMNS = np.stack([X, Y], axis=1)
# A cost, its data, and the place that is named.
DATA: dict[str, tuple[Any, Any, str]] = {
    "a row": (line, {"x": spoilt(X, 23, np.nan), "y": Y}, "data['x'], row 23, is NaN; the cost is NaN at the start"),
    "infinity": (line, {"x": X, "y": spoilt(Y, 7, -np.inf)}, "data['y'], row 7, is -inf; the cost is inf at the start"),
    "an entry": (matrix, {"X": spoilt(COLUMNS, (39, 1), np.nan), "y": Y}, "data['X'], row 39, column 1, is NaN; the cost is NaN"),
    "a column": (
        matrix,
        {"X": spoilt(COLUMNS, (slice(None), 0), np.nan), "y": Y},
        "data['X'], row 0, column 0, is NaN (the first of 40 such values there); the cost is NaN at the start",
    ),
}


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("name", DATA)
def test_the_data_are_named(name: str, jit: bool) -> None:
    cost, data, cause = DATA[name]
    runs = [
        jaxgd.minimize(cost, START, data, method=DESCENT, jit=jit),
        jaxgd.fit(cost, START, data, batch_size=10, n_epochs=3, key=0, method=DESCENT, jit=jit),
    ]
    if jit and name == "a row":
        runs += [jaxgd.minimize(cost, START, data, method=method) for method in (jaxgd.LBFGS(), None)]
        runs.append(jaxgd.minimize(cost, START, data, method=DESCENT, fixed={"a": False, "b": True}, dtype="float64"))
        runs.append(jaxgd.fit(cost, START, data, batch_size=40, n_epochs=3, method=DESCENT))
        draw = lambda key: {"a": jax.random.normal(key), "b": 0.0}  # noqa: E731
        runs.append(jaxgd.minimize(cost, draw, data, method=DESCENT, n_starts=2, key=0))
    for run in runs:
        assert run.status is Status.NONFINITE_DATA and not run.converged and "data" in str(run.status)
        assert str(run.cause).startswith(cause) and cause in str(run) and cause.replace("'", "&#x27;") in str(run._repr_html_())
        assert pickle.loads(pickle.dumps(run)).cause == run.cause


@pytest.mark.slow
def test_data_that_the_cost_masks_are_not_blamed() -> None:
    data = {"x": spoilt(X, 3, np.nan), "y": Y}

    def masked(params: Any, rows: Any) -> Any:
        known = jnp.isfinite(rows["x"])
        residuals = params["a"] * jnp.where(known, rows["x"], 0) + params["b"] - rows["y"]
        return jnp.sum(jnp.where(known, residuals**2, 0)) / jnp.sum(known).astype(residuals.dtype)

    whole = jaxgd.minimize(masked, START, data)
    assert whole.converged and whole.cause is None and "cause" not in str(whole)
    wild = jaxgd.minimize(masked, START, data, method=jaxgd.GradientDescent(1e3), stop=())
    assert wild.status is Status.DIVERGED and wild.n_steps > 0 and wild.cause is None
    root = lambda params, rows: masked(params, rows) + jnp.sqrt(params["b"])  # noqa: E731
    start = jaxgd.minimize(root, START, data, method=DESCENT)
    assert start.status is Status.DIVERGED
    assert start.cause == "the gradient with respect to params['b'] is inf at the start, where the cost is finite"

    def too_late(params: Any, rows: Any) -> Any:
        return jnp.nanmean((params["a"] * rows["x"] + params["b"] - rows["y"]) ** 2)

    late = jaxgd.minimize(too_late, START, data, method=DESCENT)
    assert late.status is Status.NONFINITE_DATA
    assert late.cause == (
        "data['x'], row 3, is NaN; the gradient with respect to params['a'] is NaN at the start, where the cost is finite; "
        "a cost that masks it has to do so before it computes with it"
    )


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_start_is_named(dtype: str) -> None:
    def distance(params: Any) -> Any:
        return jnp.linalg.norm(params["w"]) + params["z"] ** 2

    cases = [
        (
            distance,
            {"w": np.zeros((2, 2)), "z": 1.0},
            {},
            "the gradient with respect to params['w'][0,0] is NaN at the start, where",
        ),
        (lambda p: jnp.log(p), -1.0, {}, "the cost is NaN at the start"),
        (lambda p: jnp.exp(p), 1e4, {}, "the cost is inf at the start"),
        (
            lambda p: jnp.sqrt(p[1]) + p[0] ** 2 + p[2] ** 2,
            [1.0, 0.0, 2.0],
            {"fixed": [True, False, False]},
            "the gradient with respect to params[1] is inf at the start, where the cost is finite",
        ),
    ]
    for cost, start, options, cause in cases:
        result = jaxgd.minimize(cost, start, method=DESCENT, dtype=dtype, **options)
        assert result.status is Status.DIVERGED and result.n_steps == 0 and str(result.cause).startswith(cause)
    rooted = lambda p, rows: jnp.mean((jnp.sqrt(p) - rows) ** 2)  # noqa: E731
    fitted = jaxgd.fit(rooted, 0.0, X, batch_size=8, n_epochs=2, key=0, method=DESCENT, dtype=dtype)
    assert fitted.status is Status.DIVERGED and str(fitted.cause).startswith("the gradient with respect to params is ")


def test_the_validation_data_are_named() -> None:
    options: dict[str, Any] = {"batch_size": 10, "n_epochs": 3, "key": 0, "method": DESCENT}
    good = {"x": X, "y": Y}
    run = jaxgd.fit(line, START, good, validation=good, **options)
    assert run.cause is None
    run = jaxgd.fit(line, START, good, validation={"x": spoilt(X, 5, np.nan), "y": Y}, **options)
    assert run.status is Status.MAX_EPOCHS and run.cause == "validation['x'], row 5, is NaN" and run.cause in str(run)


def test_it_is_no_leaf_and_nothing_while_traced() -> None:
    data = {"x": spoilt(X, 23, np.nan), "y": Y}
    result = jaxgd.minimize(line, START, data, method=DESCENT)
    assert jax.tree.map(lambda leaf: leaf, result).cause is None
    inside = jax.jit(lambda x: jaxgd.minimize(line, START, {"x": x, "y": Y.astype(np.float32)}, method=DESCENT))(
        data["x"].astype(np.float32)
    )
    assert inside.status is Status.DIVERGED and inside.cause is None


def test_a_good_run_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("jaxgd._nonfinite.in_data", never)
    monkeypatch.setattr("jaxgd._nonfinite.diagnosed", never)
    assert jaxgd.minimize(line, START, {"x": X, "y": Y}, method=DESCENT).converged
    jaxgd.fit(line, START, {"x": X, "y": Y}, batch_size=10, n_epochs=3, key=0, method=DESCENT, validation={"x": X, "y": Y})
