"""Runs whose steps are differentiated, against closed forms, and against loops written out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from tests.test_implicit import START, X, Y, close

T = {"y": Y, "weight": np.float64(0.1)}


def cost(p: Any, rows: Any, weight: Any) -> Any:
    x, y = rows
    return jnp.mean((x @ p - y) ** 2) + weight * jnp.sum(p**2)


def test_gradient_descent_on_a_parabola() -> None:
    """x after k steps is d + (1 - 2 r)^k (start - d)."""
    k = 7

    def params(start: Any, d: Any, r: Any) -> Any:
        descent = jaxgd.GradientDescent(r)
        result = jaxgd.minimize(lambda x: (x - d) ** 2, start, method=descent, max_steps=k, implicit=False)
        return result.params

    def expected(start: Any, d: Any, r: Any) -> Any:
        return d + (1 - 2 * r) ** k * (start - d)

    with jax.enable_x64(True):
        at = 3.0, 1.0, 0.1
        close(params(*at), expected(*at), 1e-14)
        for transform in (jax.grad, jax.jacfwd, lambda f, n: jax.jit(jax.grad(f, n))):
            close(transform(params, (0, 1, 2))(*at), jax.grad(expected, (0, 1, 2))(*at), 1e-13)
        close(jax.hessian(params)(*at), jax.hessian(expected)(*at), 1e-13)


@pytest.mark.parametrize("batch_size", [4, 5])
def test_batches_of_rows_in_order(batch_size: int) -> None:
    def params(start: Any, t: Any, rate: Any) -> Any:
        return jaxgd.fit(
            lambda p, rows: cost(p, rows, t["weight"]),
            start,
            (X, t["y"]),
            batch_size=batch_size,
            n_epochs=3,
            shuffle=False,
            method=jaxgd.GradientDescent(rate, momentum=0.5),
            implicit=False,
        ).params

    def expected(start: Any, t: Any, rate: Any) -> Any:
        p, update = start, 0 * start
        for _ in range(3):
            for first in range(0, len(X), batch_size):
                rows = X[first : first + batch_size], t["y"][first : first + batch_size]
                update = 0.5 * update - rate * jax.grad(cost)(p, rows, t["weight"])
                p = p + update
        return p

    with jax.enable_x64(True):
        close(params(START, T, 0.05), expected(START, T, 0.05), 1e-13)
        known = jax.jacrev(expected, (0, 1, 2))(START, T, 0.05)
        close(jax.jacrev(params, (0, 1, 2))(START, T, 0.05), known, 1e-12)
        close(jax.jit(jax.jacfwd(params, (0, 1, 2)))(START, T, 0.05), known, 1e-12)


def test_a_plain_call_and_the_numbers_of_a_run() -> None:
    settings: dict[str, Any] = {"batch_size": 5, "n_epochs": 4, "key": 0, "method": jaxgd.Adam(0.1)}

    def fitted(rows: Any, **options: Any) -> Any:
        return jaxgd.fit(lambda p, rows: cost(p, rows, 0.1), START, rows, history="params", **settings, **options)

    with jax.enable_x64(True):
        plain, unrolled = fitted((X, Y)), fitted((X, Y), implicit=False)
        assert (plain.code, plain.n_steps, plain.n_evaluations) == (unrolled.code, unrolled.n_steps, unrolled.n_evaluations)
        close(unrolled.history.params, plain.history.params, 1e-13)
        close((unrolled.params, unrolled.cost, unrolled.best.cost), (plain.params, plain.cost, plain.best.cost), 1e-13)

        def final(y: Any) -> Any:
            result = fitted((X, y), implicit=False)
            return result.cost, result.params

        (value, params), (change, moved) = jax.jvp(final, (Y,), (np.ones(12),))
        close((value, params), (unrolled.cost, unrolled.params), 1e-13)
        by_hand = jax.jvp(lambda p, y: cost(p, (X, y), 0.1), (params, Y), (moved, np.ones(12)))
        close((value, change), by_hand, 1e-12)


def test_the_number_of_steps_has_to_be_given() -> None:
    with pytest.raises(ValueError, match=r"^max_steps: expected the number of steps with implicit=False, got None\.$"):
        jaxgd.minimize(lambda x: x**2, 1.0, method=jaxgd.Adam(0.1), implicit=False)


def test_a_search_for_a_rate_is_no_run_of_so_many_steps() -> None:
    with pytest.raises(ValueError, match=r"^method: expected one with a learning rate, .* got Adam"):
        jaxgd.fit(
            lambda p, y: jnp.mean((p - y) ** 2), 0.0, Y, batch_size=4, n_epochs=2, key=0, method=jaxgd.Adam("auto"), implicit=False
        )


def test_a_run_that_is_not_finite_says_so() -> None:
    result = jaxgd.minimize(lambda x: x**4, 9.0, method=jaxgd.GradientDescent(9.0), max_steps=20, implicit=False)
    assert result.status is Status.DIVERGED and np.isfinite(result.params)


def test_rules_of_the_cost_are_not_confused() -> None:
    """Two costs whose first derivatives are the same, and whose second ones are not."""

    def made(factor: float) -> Any:
        @jax.custom_jvp
        def identity(x: Any) -> Any:
            return x * 1.0

        identity.defjvps(lambda dx, _, x: factor * dx)

        @jax.custom_jvp
        def square(x: Any) -> Any:
            return x**2 / 2

        square.defjvps(lambda dx, _, x: identity(x) * dx)
        descent = jaxgd.GradientDescent(0.25)
        return lambda start: jaxgd.minimize(square, start, method=descent, max_steps=3, implicit=False).params

    for factor in (1.0, 2.0, 3.0):
        for grad in (jax.grad(made(factor)), jax.jit(jax.grad(made(factor)))):
            assert grad(1.0) == (1 - 0.25 * factor) ** 3


def broken(name: str, **options: Any) -> Any:
    given = {"method": jaxgd.Adam(0.1), "max_steps": 3} | options
    return pytest.param(name, given, id=", ".join(options))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        broken("max_steps", max_steps=None),
        broken("method", method=None),
        broken("method", method=jaxgd.LBFGS()),
        broken("stop", stop=jaxgd.stopping.GradientTolerance(1e-3)),
        broken("callback", callback=lambda progress: None),
        broken("progress", progress=True),
        broken("n_starts", n_starts=3, key=0),
        broken("jit", jit=False),
        broken("implicit", implicit=None),
    ],
)
def test_bad_arguments(name: str, options: dict[str, Any]) -> None:
    start: Any = jaxgd.normal(()) if "n_starts" in options else 1.0
    settings: dict[str, Any] = {"implicit": False} | options
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        jaxgd.minimize(lambda x: x**2, start, **settings)
