"""The problems of Hock and Schittkowski from their standard starts, and others that are large, infeasible or degenerate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from tests.constrained_problems import PROBLEMS, Problem

OTHER_MINIMA = {2, 20, 55, 57, 97}  # from their starts the runs end at minima that are not the lowest
WITHOUT_MULTIPLIERS = {13}  # its minimum has none


def solve(problem: Problem, **options: Any) -> jaxgd.Result:
    """The run from the standard start; without constraints an empty one makes the method the same."""
    arguments: dict[str, Any] = problem.arguments | {"dtype": "float64"} | options
    if problem.equality is None and problem.inequality is None:
        arguments["inequality"] = lambda x: jnp.zeros((0,), x.dtype)
    return jaxgd.minimize(problem.cost, problem.start, **arguments)


def violation(problem: Problem, x: Any) -> float:
    """The largest violation of constraints and bounds."""
    found = [np.maximum(problem.low - x, 0), np.maximum(x - problem.high, 0)]
    with jax.enable_x64(True):
        found += [] if problem.equality is None else [np.abs(problem.equality(jnp.asarray(x)))]
        found += [] if problem.inequality is None else [np.maximum(-problem.inequality(jnp.asarray(x)), 0)]
    return max(float(np.max(one, initial=0)) for one in found)


def unbalanced(problem: Problem, result: jaxgd.Result) -> float:
    """The largest part of the gradient of the cost that neither constraints nor bounds explain, relative to that gradient."""
    x, prices = jnp.asarray(result.params), result.constraints.multipliers
    slope = jax.grad(problem.cost)(x)
    rest = slope
    for name, function in (("equality", problem.equality), ("inequality", problem.inequality)):
        if function is not None:
            rest = rest - jax.vjp(function, x)[1](jnp.asarray(prices[name]))[0]
    rest = np.where((x <= problem.low) & (rest > 0) | (x >= problem.high) & (rest < 0) | (problem.low == problem.high), 0, rest)
    return float(np.max(np.abs(rest)) / max(1, float(jnp.max(jnp.abs(slope)))))


@pytest.mark.parametrize("number", [pytest.param(number, marks=[] if number == 71 else [pytest.mark.slow]) for number in PROBLEMS])
def test_hock_schittkowski(number: int) -> None:
    problem = PROBLEMS[number]
    result = solve(problem)
    if number in WITHOUT_MULTIPLIERS:  # a violation of 1e-8 lowers the cost by 5e-3, and the multipliers grow without limit
        assert result.status is Status.STALLED
        assert violation(problem, result.params) <= 1e-7 and abs(result.cost - problem.minimum) < 1e-2
        return
    assert result.status is Status.CONVERGED and violation(problem, result.params) <= 1e-9 * max(1, np.max(np.abs(result.params)))
    with jax.enable_x64(True):
        assert unbalanced(problem, result) < 1e-6
    is_lowest = float(result.cost) - problem.minimum <= 1e-5 * max(1, abs(problem.minimum))
    assert is_lowest == (number not in OTHER_MINIMA)


@pytest.mark.slow
def test_a_minimum_of_zero_is_told_from_every_start() -> None:
    """In the units of a flat start, a rounding of the variables changes the gradient by more than the tolerance."""
    problem = PROBLEMS[25]
    with jax.enable_x64(True):
        around = problem.start * jax.random.uniform(jax.random.key(0), (32, 3), minval=0.9, maxval=1.0)
        ends = jax.vmap(lambda start: solve(problem._replace(start=start)))(around)
        assert np.all(ends.converged) and np.max(ends.cost) < 1e-26


CONTRADICTIONS = {
    "equation": ([2.0, 1.0], lambda x: x @ x + 1, None, 1),
    "curves": ([3.0, 3.0], lambda x: jnp.stack([x[0] * x[1] - 1, x[0] + x[1] - 1]), None, 0.5344),
    "circle": ([0.0, 0.0], None, lambda x: jnp.stack([1 - x @ x, x[0] - 3]), 1.7104),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_end_where_the_violation_has_no_slope(name: str) -> None:
    start, equality, inequality, worst = CONTRADICTIONS[name]
    result = jaxgd.minimize(lambda x: x[0] + x[1] ** 2, start, equality=equality, inequality=inequality, dtype="float64")
    assert result.status is Status.INFEASIBLE
    np.testing.assert_allclose(result.constraints.violation, worst, rtol=1e-3)


@pytest.mark.slow
def test_complementarity_and_saddles() -> None:
    def corner(x: Any) -> Any:
        return jnp.sum((x - 1) ** 2)

    result = jaxgd.minimize(corner, [2.0, 2.0], equality=lambda x: x[0] * x[1], bounds=(0, None), dtype="float64")
    assert result.converged and abs(float(result.cost) - 1) < 1e-8
    middle = jaxgd.minimize(lambda x: x[0], [0.0, 0.0], equality=lambda x: x @ x - 1, dtype="float64")  # no slope at the start
    np.testing.assert_allclose(middle.params, [-1, 0], atol=1e-9)
    saddle = jaxgd.minimize(lambda x: x[1] ** 2 - x[0] ** 2, [0.0, 0.0], inequality=lambda x: 4 - x @ x, dtype="float64")
    assert saddle.converged and abs(float(saddle.cost) + 4) < 1e-9
    blocked = jaxgd.minimize(  # of A. Wächter, L. Biegler, Math. Program. 88 (2000), at which many interior point methods fail
        lambda x: x[0], [-2.0, 3.0, 1.0], equality=lambda x: jnp.stack([x[0] ** 2 - x[1] - 1, x[0] - x[2] - 0.5]),
        bounds=([-np.inf, 0, 0], None), dtype="float64",
    )  # fmt: skip
    np.testing.assert_allclose(blocked.params, [1, 0, 0.5], atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hundreds_of_variables(dtype: str) -> None:
    rng = np.random.default_rng(0)
    table, prices = rng.normal(size=(60, 100)), np.abs(rng.normal(size=60))
    limits, slope = table @ np.ones(100) - 1, table.T @ prices  # at a vertex x of table @ x = limits the cost is prices @ limits
    result = jaxgd.minimize(
        lambda x, data: data[0] @ x,
        np.zeros(100),
        (slope, table, limits),
        inequality=lambda x, data: data[1] @ x - data[2],
        dtype=dtype,
    )
    digits = 1e-9 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(result.cost, prices @ limits, rtol=digits)
    np.testing.assert_allclose(result.constraints.multipliers["inequality"], prices, rtol=30 * digits, atol=30 * digits)

    def motion(z: Any) -> Any:  # a cart from rest to rest in unit time, in steps
        x, v, u = z.reshape(3, -1)
        h = 1 / len(x)
        steps = jnp.diff(x) - h * v[:-1], jnp.diff(v) - h * u[:-1]
        return jnp.concatenate([*steps, x[:1], v[:1], x[-1:] - 1, v[-1:]])

    cart = jaxgd.minimize(lambda z: jnp.mean(z.reshape(3, -1)[2] ** 2), np.zeros(300), equality=motion, dtype=dtype)
    assert cart.converged and abs(float(cart.cost) - 12) < 0.5  # the integral of u**2 is 12 in the limit of small steps
