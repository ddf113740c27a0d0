"""Whole calls inside `jit`, `vmap`, `grad`, `jvp`, `scan`, `eval_shape` and `checkpoint`: as plain calls, or an error."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from tests.test_contracts import METHODS, SEARCHES, name, posed

X = np.linspace(-1, 1, 12, dtype=np.float32)
Y = np.stack([2 * X + 0.3, np.cos(3 * X)])
START = {"a": np.float32(0.5), "b": np.ones(2, np.float32)}


def cost(p: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((p["a"] * x + p["b"][0] - y) ** 2) + 0.1 * jnp.sum(p["b"] ** 2)


def minimized(y: Any, start: Any = START, **options: Any) -> Any:
    settings: dict[str, Any] = {"max_steps": 60} | options
    own = posed(settings.get("method"), lambda p: cost(p, (X, y)))
    return jaxgd.minimize(own, start, **settings).params


def fitted(y: Any, start: Any = START, **options: Any) -> Any:
    settings: dict[str, Any] = {"batch_size": 5, "n_epochs": 3, "key": 0} | options
    return jaxgd.fit(cost, start, (X, y), **settings).params


def many_minimized(table: Any, start: Any = START, shared: Any = X, **options: Any) -> Any:
    settings: dict[str, Any] = {"max_steps": 60} | options
    own = posed(settings.get("method"), lambda p, y, x: cost(p, (x, y)))
    return jaxgd.minimize_many(own, start, table, shared=shared, **settings).params


CALLS = [(minimized, method) for method in METHODS] + [(fitted, method) for method in METHODS if method not in SEARCHES]


def close(found: Any, expected: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), found, expected)


def stacked(*rows: Any) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def tangent(at: Any, change: Any) -> Any:
    """How the minimum moves with y, written out."""
    y = jnp.asarray(change)
    hessian = jnp.array([[2 * np.mean(X**2), 0, 0], [0, 2.2, 0], [0, 0, 0.2]])  # the mean of X is zero
    moved = jnp.linalg.solve(hessian, jnp.stack([2 * jnp.mean(X * y), 2 * jnp.mean(y), jnp.zeros(())]))
    return {"a": moved[0], "b": moved[1:]}


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("call", "method"), CALLS, ids=lambda value: getattr(value, "__name__", None) or name(value))
def test_every_transformation_of_every_method(call: Callable[..., Any], method: Any) -> None:
    def run(y: Any, start: Any = START) -> Any:
        return call(y, start, method=method)

    plain = [run(y) for y in Y]
    close(jax.jit(run)(Y[0]), plain[0])
    close(jax.vmap(run)(Y), stacked(*plain))
    assert jax.tree.map(jnp.shape, jax.eval_shape(run, Y[0])) == {"a": (), "b": (2,)}
    close(jax.jvp(run, (Y[0],), (Y[1],)), (plain[0], tangent(plain[0], Y[1])))
    for wrapped in (run, jax.checkpoint(run), jax.jit(run)):
        slope = jax.grad(lambda y, wrapped=wrapped: wrapped(y)["a"] + wrapped(y)["b"][0])(Y[0])
        close(jnp.sum(slope * Y[1]), tangent(plain[0], Y[1])["a"] + tangent(plain[0], Y[1])["b"][0])

    def step(start: Any, y: Any) -> tuple[Any, Any]:
        return (run(y, start),) * 2

    _, ends = jax.lax.scan(step, START, Y)
    close(jax.tree.map(lambda leaf: leaf[1], ends), run(Y[1], plain[0]))


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_every_transformation_of_many_fits(method: Any) -> None:
    tables, weights = np.stack([Y, Y[::-1]]), np.array([1, 3], np.float32)
    moved = stacked(*(tangent(None, y) for y in tables[1]))

    def run(table: Any, start: Any = START) -> Any:
        return many_minimized(table, start, method=method)

    def weighted(call: Callable[..., Any]) -> Callable[..., Any]:
        def total(table: Any) -> Any:
            found = call(table)
            return jnp.sum(weights * (found["a"] + found["b"][:, 0])), found

        return jax.value_and_grad(total, has_aux=True)

    plain = [run(table) for table in tables]
    close(plain[0], stacked(*(minimized(y, method=method) for y in tables[0])))
    close(jax.jit(jax.vmap(run))(tables), stacked(*plain))
    assert jax.tree.map(jnp.shape, jax.eval_shape(run, tables[0])) == {"a": (2,), "b": (2, 2)}
    close(jax.jvp(run, (tables[0],), (tables[1],)), (plain[0], moved))
    for derived in (weighted(run), jax.jit(weighted(jax.checkpoint(run)))):
        (_, found), slopes = derived(tables[0])
        close(found, plain[0])
        close(jnp.sum(slopes * tables[1], axis=1), weights * (moved["a"] + moved["b"][:, 0]))

    def step(start: Any, table: Any) -> tuple[Any, Any]:
        return (run(table, start),) * 2

    _, ends = jax.lax.scan(step, stacked(START, START), tables)
    close(jax.tree.map(lambda leaf: leaf[1], ends), run(tables[1], plain[0]))


@pytest.mark.slow
def test_maps_over_all_that_a_call_takes() -> None:
    """Start, key, learning rate, bounds, fixed values and hyperparameters, one program for each."""
    lows, rates = np.array([-9.0, 0.6], np.float32), np.array([0.1, 0.2], np.float32)
    starts = jax.tree.map(lambda leaf: np.stack([leaf, leaf + 1]), START)
    keys = jax.random.split(jax.random.key(0), 2)
    calls: list[tuple[Callable[..., Any], Any]] = [
        (lambda start: minimized(Y[0], start), starts),
        (lambda low: minimized(Y[0], bounds=(low, None), start={"a": 2.0, "b": [2.0, 2.0]}), lows),
        (lambda start: minimized(Y[0], start, fixed={"a": False, "b": [True, False]}), starts),
        (lambda rate: minimized(Y[0], method=jaxgd.GradientDescent(rate, momentum=rate)), rates),
        (lambda key: fitted(Y[0], method=jaxgd.Adam(0.1), key=key), keys),
        (lambda key: minimized(Y[0], start=jaxgd.normal({"a": (), "b": 2}), key=key), keys),
        (lambda rate: fitted(Y[0], method=jaxgd.Adam(rate), average=0.5), rates),
    ]
    for call, values in calls:
        plain = [call(jax.tree.map(lambda leaf, k=k: leaf[k], values)) for k in range(2)]
        close(jax.vmap(call)(values), stacked(*plain))
        close(jax.jit(call)(jax.tree.map(lambda leaf: leaf[1], values)), plain[1])


@pytest.mark.slow
def test_maps_over_all_that_many_fits_take() -> None:
    """What is shared, starts, bounds, fixed values, rates and keys, the same for all fits or with a row for each."""
    rates, lows = np.array([[0.1, 0.2], [0.05, 0.3]], np.float32), np.array([[-9, 0.6], [1, -3]], np.float32)
    starts = stacked(START, jax.tree.map(lambda leaf: leaf + 1, START))
    each, wide = stacked(starts, jax.tree.map(lambda leaf: leaf - 2, starts)), {"a": 2.0, "b": np.ones(2, np.float32)}
    quick = {"method": jaxgd.GradientDescent(0.5)}  # compiled sooner than the default
    calls: list[tuple[Callable[..., Any], Any]] = [
        (lambda x: many_minimized(Y, shared=x, **quick), np.stack([X, 2 * X])),
        (lambda start: many_minimized(Y, start, **quick), starts),
        (lambda low: many_minimized(Y, wide, bounds=({"a": low, "b": None}, None), **quick), lows[:, 1]),
        (lambda low: many_minimized(Y, wide, bounds=({"a": low, "b": None}, None), **quick), lows),
        (lambda start: many_minimized(Y, start, fixed={"a": False, "b": [True, False]}, **quick), each),
        (lambda rate: many_minimized(Y, method=jaxgd.GradientDescent(rate, momentum=0.1)), rates),
        (lambda key: many_minimized(Y, jaxgd.normal({"a": (), "b": 2}), key=key, **quick), jax.random.split(jax.random.key(0), 2)),
    ]
    for call, values in calls:
        plain = [call(jax.tree.map(lambda leaf, k=k: leaf[k], values)) for k in range(2)]
        close(jax.jit(jax.vmap(call))(values), stacked(*plain))


def test_a_bound_of_each_of_many_fits_may_be_traced() -> None:
    """The other bounds are arrays of NumPy; a fit that its bound holds back moves with that."""

    def params(low: Any) -> Any:
        settings: dict[str, Any] = {"bounds": ({"a": low, "b": None}, None), "method": jaxgd.GradientDescent(0.5)}
        return many_minimized(Y, {"a": 4.0, "b": np.ones(2, np.float32)}, **settings)["a"]

    slopes, found = jax.jit(lambda low: (jax.jacfwd(params)(low), params(low)))(np.array([3, -3], np.float32))
    close((slopes, found), (np.diag([1.0, 0.0]), params(np.array([3, -3], np.float32))))
    assert found[0] == 3 and found[1] < 1


def test_64_bits_inside_a_program_of_32() -> None:
    def run(y: Any) -> Any:
        return jaxgd.minimize(cost, START, (X, y), dtype="float64").params

    for transform in (
        jax.jit,
        lambda f: jax.grad(lambda y: jax.jit(f)(y)["a"]),
        jax.checkpoint,
        lambda f: lambda y: jax.eval_shape(f, y),
    ):
        with pytest.raises(ValueError, match=r"^dtype: expected None or 'float32' inside jax.jit .* got 'float64'"):
            transform(run)(Y[0])
        with pytest.raises(ValueError, match=r"^dtype: expected None or 'float32' inside jax.jit"):
            transform(lambda y: many_minimized(y[None], dtype="float64"))(Y[0])
    assert run(Y[0])["a"].dtype == np.float64  # a derivative that is not compiled may have them
    close(jax.jvp(run, (Y[0],), (Y[1],))[1], tangent(None, Y[1]))
    with jax.enable_x64(True):
        assert jax.jit(run)(Y[0])["a"].dtype == np.float64


def test_data_in_chunks_have_no_derivatives() -> None:
    chunks = jaxgd.data.Chunks((X, Y[0]))

    def minimum(weight: Any) -> Any:
        return jaxgd.minimize(lambda p, rows: weight * cost(p, rows), START, chunks).cost

    def end(weight: Any) -> Any:
        settings: dict[str, Any] = {"batch_size": 4, "n_epochs": 1, "key": 0, "method": jaxgd.Adam(0.1)}
        return jaxgd.fit(lambda p, rows: weight * cost(p, rows), START, chunks, **settings).cost

    for call in (minimum, end):
        for transform in (jax.grad, jax.jit, lambda f: lambda x: jax.jvp(f, (x,), (x,))):
            with pytest.raises(ValueError, match=r"^data: expected arrays inside .* got "):
                transform(call)(1.0)
