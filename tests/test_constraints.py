"""Equations and inequalities: exact minima with their multipliers, honest ends, derivatives and covariances of closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status

INF = np.inf


def cost(x: Any, data: Any) -> Any:
    """A quadratic in two variables."""
    return data["g"] @ x + jnp.sum(data["w"] * x**2) / 2


def equality(x: Any, data: Any) -> Any:
    return data["a"] @ x - data["b"]


def inequality(x: Any, data: Any) -> Any:
    return {"rows": data["c"] @ x - data["e"]}


def program(g: Any = (0, 0), w: Any = (1, 1), a: Any = (0, 0), b: Any = 0, rows: Any = ()) -> dict[str, Any]:
    """A program of one equation and three inequalities (c, e); those that are not given are 0 = 0 and 0 >= -1."""
    table = np.array([*rows, *[(0, 0, -1)] * (3 - len(rows))], float)
    found = {"g": np.array(g), "w": np.array(w), "a": np.array(a), "b": np.array(b), "c": table[:, :2], "e": table[:, 2]}
    return {name: np.asarray(value, float) for name, value in found.items()}


def solve(data: Any, start: Any = (3.0, -2.0), **options: Any) -> Any:
    options = {"dtype": "float64", "equality": equality, "inequality": inequality} | options
    return jaxgd.minimize(cost, np.array(start), data, **options)


CASES = {  # the minimum, the multiplier of the equation, those of the inequalities, which of these are active
    "an equation": (program(a=(1, 1), b=2), [1, 1], 1, [0, 0, 0], "000"),
    "an inequality": (program(rows=[(1, 2, 5)]), [1, 2], 0, [1, 0, 0], "100"),
    "one that is not active": (program(rows=[(1, 0, -4)]), [0, 0], 0, [0, 0, 0], "000"),
    "a vertex": (program(g=(-1, -1), w=(0, 0), rows=[(-1, -2, -4), (-3, -1, -7)]), [2, 1], 0, [0.4, 0.2, 0], "110"),
    "both": (program(w=(1, 4), a=(1, 1), b=1, rows=[(0, 1, 0.5)]), [0.5, 0.5], 0.5, [1.5, 0, 0], "100"),
    "a saddle of the cost": (program(w=(1, -1), a=(0, 1), b=3), [0, 3], -3, [0, 0, 0], "000"),
    "large numbers": (program(w=(1e8, 1e8), a=(1e-6, 1e-6), b=2e-6), [1, 1], 1e14, [0, 0, 0], "000"),
    "tiny numbers": (program(w=(1e-8, 1e-8), a=(1e6, 1e6), b=2e6), [1, 1], 1e-14, [0, 0, 0], "000"),
}


@pytest.mark.parametrize("name", CASES)
def test_points_and_multipliers_are_exact(name: str) -> None:
    data, x, price, prices, active = CASES[name]
    result = solve(data)
    found = result.constraints
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.params, x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.multipliers["equality"], price, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.multipliers["inequality"]["rows"], prices, rtol=1e-9, atol=1e-12)
    assert "".join("01"[bool(one)] for one in found.active["inequality"]["rows"]) == active
    assert found.violation <= 1e-14 * max(1, float(np.abs(data["b"])))
    np.testing.assert_array_equal(found.values["equality"], equality(result.params, data))
    assert result.best.cost == result.cost and np.all(result.best.params == result.params)


DEPENDENT = program(a=(1, 1), b=2, rows=[(1, 1, 2), (2, 2, 4), (-1, -1, -2)])
DEGENERATE = program(g=(1, 1), w=(0, 0), rows=[(1, 0, 0), (0, 1, 0), (1, 1, 0)])


@pytest.mark.parametrize("data, x", [(DEPENDENT, [1, 1]), (DEGENERATE, [0, 0])], ids=["dependent", "degenerate"])
def test_dependent_constraints_and_degenerate_vertices_do_no_harm(data: Any, x: Any) -> None:
    result = solve(data)
    found = result.constraints
    assert result.converged
    np.testing.assert_allclose(result.params, x, atol=1e-8)
    gradient = found.multipliers["equality"] * data["a"] + found.multipliers["inequality"]["rows"] @ data["c"]
    np.testing.assert_allclose(data["g"] + data["w"] * result.params, gradient, atol=1e-7)


def test_contradictions_end_at_the_least_violation_and_falls_without_limit_are_told() -> None:
    result = solve(program(rows=[(1, 0, 1), (-1, 0, 1)]))
    assert result.status is Status.INFEASIBLE and not result.converged
    np.testing.assert_allclose(result.params[0], 0, atol=1e-6)
    np.testing.assert_allclose(result.constraints.violation, 1, atol=1e-6)
    assert "violation  1 (largest" in str(result) and result.best.cost == result.cost
    assert solve(program(g=(-1, 0), w=(0, 1), rows=[(1, 0, 0)])).status is Status.UNBOUNDED
    assert solve(DEPENDENT, max_steps=2).status is Status.MAX_STEPS


def test_the_summary_and_the_history_tell_of_the_constraints() -> None:
    text = str(solve(CASES["a vertex"][0]))
    assert text.startswith("Converged: the conditions of optimality hold")
    assert "active     inequality['rows'][0], inequality['rows'][1]" in text
    result = solve(CASES["an inequality"][0], history="params")
    np.testing.assert_array_equal(result.history.params[-1], result.params)
    assert len(result.history.cost) == result.n_steps + 1
    whole, part = result, solve(CASES["an inequality"][0], history="params", max_steps=3)
    again = solve(CASES["an inequality"][0], history="params", resume=part)
    assert again.constraints.violation == whole.constraints.violation
    jax.tree.map(np.testing.assert_array_equal, again.history, whole.history)


def test_the_minimum_has_the_derivatives_of_its_closed_form() -> None:
    def minimum(b: Any, e: Any) -> Any:
        data = program(w=(1, 4), a=(1, 1)) | {"b": b, "e": jnp.stack([e, -1.0 + 0 * e, -1.0 + 0 * e])}
        data["c"] = np.array([[0, 1], [0, 0], [0, 0]], float)
        result = solve(data, dtype=None)
        return jnp.append(result.params, result.cost)

    with jax.enable_x64(True):
        at_b, at_e = jax.jacobian(minimum, argnums=(0, 1))(1.0, 0.5)  # x = (b - e, e)
        np.testing.assert_allclose(at_b, [1, 0, 0.5], atol=1e-10)
        np.testing.assert_allclose(at_e, [-1, 1, 1.5], atol=1e-10)
        at_b, at_e = jax.jacobian(minimum, argnums=(0, 1))(1.0, -0.5)  # x = b (4, 1) / 5: the inequality is not active
        np.testing.assert_allclose(at_b, [0.8, 0.2, 0.8], atol=1e-10)
        np.testing.assert_allclose(at_e, [0, 0, 0], atol=1e-10)


@pytest.mark.slow
def test_second_derivatives_curved_constraints_and_bounds() -> None:
    def nearest(r: Any) -> Any:  # of a circle of radius r to (3, 4), above 0.7 in its first number
        result = jaxgd.minimize(
            lambda x: jnp.sum((x - jnp.array([3.0, 4.0])) ** 2), [1.0, 1.0], equality=lambda x: x @ x - r**2, bounds=(r / 4, None)
        )
        return result.params

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jacfwd(nearest)(2.0), [0.6, 0.8], atol=1e-9)
        np.testing.assert_allclose(jax.jacfwd(jax.jacrev(nearest))(2.0), [0, 0], atol=1e-9)
        outside = jaxgd.minimize(lambda x: x @ x, [3.0, 3.0], equality=lambda x: x[0] + x[1] - 1, bounds=(1, None))
        assert outside.status is Status.INFEASIBLE and np.all(abs(outside.params - 1) < 1e-5)


def test_many_programs_are_those_one_by_one() -> None:
    names = ["an inequality", "a vertex", "both"]
    tables = jax.tree.map(lambda *rows: np.stack(rows), *[CASES[name][0] for name in names])
    many = jaxgd.minimize_many(cost, np.array([3.0, -2.0]), tables, equality=equality, inequality=inequality, dtype="float64")
    for k, name in enumerate(names):
        np.testing.assert_allclose(many.params[k], CASES[name][1], atol=1e-12)
        np.testing.assert_allclose(many.constraints.multipliers["inequality"]["rows"][k], CASES[name][3], atol=1e-9)
    assert np.all(many.converged) and np.all(many.constraints.violation < 1e-12)


@pytest.mark.slow
def test_the_best_of_many_starts_fulfils_the_constraints() -> None:
    def double(x: Any) -> Any:
        return (x**2 - 4) ** 2 + x

    result = jaxgd.minimize(double, jaxgd.uniform(-3, 3), key=0, n_starts=8, inequality=lambda x: x, dtype="float64")
    low = np.max(np.roots([4, 0, -16, 1]).real)
    assert result.converged and abs(result.params - low) < 1e-9
    inside = jax.jit(jax.vmap(lambda t: jaxgd.minimize(double, 1.0, inequality=lambda x: x - t).params))(jnp.array([0.0, 2.5]))
    np.testing.assert_allclose(inside, np.array([low, 2.5]), rtol=1e-4)


def test_a_point_that_is_not_finite_is_stepped_back_from_or_told() -> None:
    def run(start: float) -> Any:
        return jaxgd.minimize(lambda x: x**2, start, inequality=lambda x: jnp.log(x), bounds=(-1.0, None), dtype="float64")

    result = run(0.3)  # from where Newton's first step leads below zero
    assert result.converged and abs(result.params - 1) < 1e-15
    for start in (-0.5, -1.0):
        assert run(start).status is Status.DIVERGED and run(start).n_steps == 0 and run(start).params == start


@pytest.mark.slow
def test_trees_fixed_parts_transforms_and_single_precision() -> None:
    def tree(p: Any) -> Any:
        return jnp.sum((p["a"] - 3) ** 2) + p["b"] ** 2

    def limits(p: Any) -> Any:
        return [4 - jnp.sum(p["a"]), (p["b"] - 1,)]

    start = {"a": np.array([1.0, 2.0]), "b": 3.0}
    for dtype, digits in (("float64", 1e-9), ("float32", 1e-4)):
        result = jaxgd.minimize(tree, start, inequality=limits, dtype=dtype)
        np.testing.assert_allclose(result.params["a"], [2, 2], atol=digits)
        np.testing.assert_allclose(jax.tree.leaves(result.constraints.multipliers), [2, 2], atol=10 * digits)
        assert result.converged and result.params["a"].dtype == dtype
        assert jax.tree.structure(result.constraints.multipliers["inequality"]) == jax.tree.structure(limits(start))
    part = jaxgd.minimize(tree, start, inequality=limits, fixed={"a": [True, False], "b": False}, dtype="float64")
    np.testing.assert_allclose(part.params["a"], [1, 3], atol=1e-9)
    moved = jaxgd.minimize(tree, start, inequality=limits, transform={"a": jaxgd.transforms.Positive(), "b": None}, dtype="float64")
    np.testing.assert_allclose(moved.params["a"], [2, 2], atol=1e-7)


def test_a_covariance_is_that_along_the_active_constraints() -> None:
    data = program(w=(1, 0.25), a=(1, 1), b=1)
    spread, row = np.diag([1.0, 4.0]), np.ones((1, 2))
    projected = spread - spread @ row.T @ row @ spread / (row @ spread @ row.T)

    def covariance(data: Any, x: Any) -> Any:
        found = jaxgd.covariance(cost, np.array(x), data, equality=equality, inequality=inequality, dtype="float64")
        assert found.valid
        return found.matrix

    np.testing.assert_allclose(covariance(data, [0.2, 0.8]), projected, atol=1e-12)
    np.testing.assert_allclose(covariance(program(w=(1, 0.25), rows=[(1, 1, 1)]), [0.2, 0.8]), projected, atol=1e-12)
    np.testing.assert_allclose(covariance(program(w=(1, 0.25), rows=[(1, 1, -1)]), [0.0, 0.0]), spread, atol=1e-12)
    np.testing.assert_allclose(covariance(program(w=(1, 0.25), rows=[(1, 0, 2)]), [2.0, 0.0]), np.diag([0, 4]), atol=1e-12)


@pytest.mark.slow
def test_a_covariance_on_a_circle_is_that_of_its_angle() -> None:
    def distance(x: Any) -> Any:  # on the circle 5 - 4 cos(angle)
        return (x[0] - 2) ** 2 + x[1] ** 2

    found = jaxgd.covariance(distance, [1.0, 0.0], equality=lambda x: x @ x - 1, dtype="float64")
    np.testing.assert_allclose(found.matrix, np.diag([0, 0.25]), atol=1e-12)
    left = lambda x: jnp.stack([x[0], x[1] / 2, 0.3 + 0 * x[0]])  # noqa: E731
    line = jaxgd.covariance(None, [0.2, 0.8], residuals=left, equality=lambda x: x[0] + x[1] - 1, dtype="float64")
    variance = (0.2**2 + 0.4**2 + 0.3**2) / 2  # three residuals, two parameters, one equation
    np.testing.assert_allclose(line.matrix, 0.8 * variance * np.array([[1, -1], [-1, 1]]), atol=1e-12)
