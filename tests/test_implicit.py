"""Derivatives of a minimum, against Newton steps from it, whose derivatives are exact, and against closed forms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from jaxgd._objective import implicit
from tests.test_contracts import METHODS, name, posed

RANDOM = np.random.default_rng(3)
X, Y = RANDOM.normal(size=(12, 3)), RANDOM.normal(size=12)
LABELS = np.sign(RANDOM.normal(size=12))
MIX = RANDOM.normal(size=(3, 3)) / 3


def ridge(p: Any, t: Any) -> Any:
    return jnp.mean((X @ p - t["y"]) ** 2) + t["weight"] * jnp.sum(p**2)


def logistic(p: Any, t: Any) -> Any:
    return jnp.mean(jnp.logaddexp(0, -LABELS * (X @ p + t["y"] / 9))) + t["weight"] * jnp.sum(p**2)


def layer(p: Any, t: Any) -> Any:
    """The implicit layer p = tanh(MIX p + t)."""
    return jnp.sum((p - jnp.tanh(MIX @ p + t["y"][:3] * t["weight"])) ** 2)


COSTS = [ridge, logistic, layer]
AT = {"y": Y, "weight": np.float64(0.3)}
START = np.zeros(3)


def exact(cost: Callable[..., Any], minimum: Any, t: Any) -> Any:
    """The minimum by Newton steps from where it is known to lie: the derivatives of k steps are exact up to the k-th."""
    p = jax.lax.stop_gradient(minimum)
    for _ in range(3):
        p = p - jnp.linalg.solve(jax.hessian(cost)(p, t), jax.grad(cost)(p, t))
    return p


def close(found: Any, expected: Any, rtol: float = 1e-8) -> None:
    def compare(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.max(np.abs(b)), 1e-300))

    jax.tree.map(compare, found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.__name__)
def test_first_and_second_derivatives_forward_and_reverse(cost: Any) -> None:
    with jax.enable_x64(True):
        known = jaxgd.minimize(cost, START, AT).params

        def params(t: Any) -> Any:
            return jaxgd.minimize(lambda p: cost(p, t), START).params

        def expected(t: Any) -> Any:
            return exact(cost, known, t)

        for transform in (jax.jacfwd, jax.jacrev, lambda f: jax.jit(jax.jacrev(f)), lambda f: jax.jacfwd(jax.jit(f))):
            close(transform(params)(AT), transform(expected)(AT))
        second = jax.hessian(expected)(AT)
        for outer, inner in ((jax.jacfwd, jax.jacrev), (jax.jacrev, jax.jacfwd)):
            close(outer(inner(params))(AT), second)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_every_method_has_them(method: Any) -> None:
    with jax.enable_x64(True):

        def params(t: Any) -> Any:
            return jaxgd.minimize(
                posed(method, ridge), START, t, method=method, stop=jaxgd.stopping.GradientTolerance(1e-10)
            ).params

        known = params(AT)
        hessian = jax.hessian(ridge)(known, AT)
        close(jax.jacfwd(params)(AT), jax.jacfwd(lambda t: -jnp.linalg.solve(hessian, jax.grad(ridge)(known, t)))(AT))


def test_the_point_is_that_of_a_call_without_derivatives() -> None:
    def cost_and_params(y: Any) -> Any:
        result = jaxgd.minimize(logistic, START, {"y": y, "weight": 0.3})
        assert result.converged and str(result).startswith("Converged") and result.unmoved == ()
        return result.cost, result.params

    y = jnp.asarray(Y, jnp.float32)
    (cost, params), _ = jax.jvp(cost_and_params, (y,), (y,))
    plain = jaxgd.minimize(logistic, START, {"y": y, "weight": 0.3})
    assert cost == plain.cost and np.array_equal(params, plain.params)


def test_a_rule_that_is_not_compiled_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With respect to a number of Python, too."""
    traced: list[Any] = []
    tangents = implicit._tangents
    monkeypatch.setattr(implicit, "_tangents", lambda *arguments: traced.append(arguments) or tangents(*arguments))

    def slope(d: float) -> Any:
        minimum = jax.grad(lambda d: jaxgd.minimize(lambda x: x**4 / 4 - d * x, 1.0, method=jaxgd.SpectralGradient()).params)
        return minimum(d)

    close((slope(1.0), slope(8.0), slope(27.0)), (1 / 3, 1 / 12, 1 / 27), rtol=1e-4)
    assert len(traced) == 1


def test_second_derivatives_that_the_user_gave_tell_programs_apart() -> None:
    """The minimum of x**3 - d * x moves by one over its curvature, of which the structure of the cost says nothing here."""

    def slopes(factor: float) -> Any:
        @jax.custom_jvp
        def slope(x: Any) -> Any:
            return 3 * x**2

        @jax.custom_jvp
        def cube(x: Any) -> Any:
            return x**3

        slope.defjvp(lambda x, dx: (slope(x[0]), factor * x[0] * dx[0]))
        cube.defjvp(lambda x, dx: (cube(x[0]), slope(x[0]) * dx[0]))
        minimum = lambda d: jaxgd.minimize(lambda x: cube(x) - d * x, 1.0, method=jaxgd.SpectralGradient()).params  # noqa: E731
        return [float(jax.grad(minimum)(d)) for d in (3.0, 12.0)]

    close(slopes(6.0), [1 / 6, 1 / 12], rtol=1e-4)
    close(slopes(12.0), [1 / 12, 1 / 24], rtol=1e-4)


@pytest.mark.slow
def test_cost_gradient_best_and_aux() -> None:
    with jax.enable_x64(True):

        def found(t: Any) -> Any:
            result = jaxgd.minimize(lambda p: (ridge(p, t), {"sum": jnp.sum(p), "rows": 12}), START, has_aux=True)
            return result.params, result.cost, result.gradient, result.aux["sum"], result.best.params, result.best.cost

        def expected(t: Any) -> Any:
            p = exact(ridge, START, t)
            return p, ridge(p, t), 0 * p, jnp.sum(p), p, ridge(p, t)

        np.testing.assert_allclose(jax.jacfwd(found)(AT)[2]["y"], 0, atol=1e-12)
        for k in (0, 1, 3, 4, 5):
            close(jax.jacrev(found)(AT)[k], jax.jacfwd(expected)(AT)[k])


def test_bounds_and_fixed_values_are_followed() -> None:
    def params(t: Any) -> Any:
        p = {"x": jnp.array([0.6, 0.5, 0.4]), "held": t["held"]}
        bounds = {"x": t["low"], "held": None}, {"x": t["high"], "held": None}
        cost = lambda p: jnp.sum((p["x"] - t["d"]) ** 2) + jnp.sum(p["x"]) ** 2 / 2 + p["held"] * p["x"][1]  # noqa: E731
        return jaxgd.minimize(cost, p, bounds=bounds, fixed={"x": False, "held": True}).params

    with jax.enable_x64(True):
        low, high = np.array([0.5, -9.0, 0.0]), np.array([9.0, 9.0, 0.5])
        t = {"d": np.array([-1.0, 0.3, 2.0]), "low": low, "high": high, "held": np.float64(0.2)}
        assert np.array_equal(params(t)["x"][::2], [0.5, 0.5])
        for transform in (jax.jacfwd, jax.jacrev):
            found = transform(params)(t)
            rows = np.array([[0, 0, 0], [-1 / 3, 0, -1 / 3], [0, 0, 0]])
            close(found["x"]["d"], np.diag([0, 2 / 3, 0]))
            close(found["x"]["low"], np.diag([1.0, 0, 0]) + rows * [1, 0, 0])
            close(found["x"]["high"], np.diag([0, 0, 1.0]) + rows * [0, 0, 1])
            close(found["x"]["held"], np.array([0, -1 / 3, 0]))
            assert found["held"]["held"] == 1 and not np.any(found["held"]["d"])


@pytest.mark.slow
def test_many_parameters_by_conjugate_gradients() -> None:
    n = 300
    with jax.enable_x64(True):
        scales = np.geomspace(1, 1e3, n)

        def cost(p: Any, t: Any) -> Any:
            return jnp.sum(scales * (p - t["d"]) ** 2) + t["w"] * jnp.sum(p) ** 2

        def params(t: Any) -> Any:
            return jaxgd.minimize(cost, jnp.zeros(n), t).params

        def expected(t: Any) -> Any:
            return jnp.linalg.solve(jnp.diag(scales) + t["w"], scales * t["d"])

        t = {"d": RANDOM.normal(size=n), "w": np.float64(0.5)}
        probe = lambda f: lambda t: jnp.sum(jnp.sin(f(t)))  # noqa: E731
        close(jax.jacfwd(params)(t)["w"], jax.jacfwd(expected)(t)["w"], 1e-7)
        close(jax.grad(probe(params))(t), jax.grad(probe(expected))(t), 1e-7)
        second = jax.grad(lambda w: jax.grad(lambda w: probe(params)(t | {"w": w}))(w))(0.5)
        close(second, jax.grad(lambda w: jax.grad(lambda w: probe(expected)(t | {"w": w}))(w))(0.5), 1e-7)


def test_start_and_method_have_no_derivative() -> None:
    def params(start: Any, rate: Any) -> Any:
        return jaxgd.minimize(lambda p: (p - 1) ** 4, start, method=jaxgd.GradientDescent(rate), max_steps=20).params

    assert jax.grad(params, (0, 1))(0.5, 0.1) == (0, 0)


@pytest.mark.parametrize("d", [0.3, 2.0])
def test_a_minimum_without_a_rest_moves_with_it(d: float) -> None:
    """The least cost is 0, so that a differentiated loop would stop before it has seen the derivative."""
    for transform in (jax.jacfwd, jax.jacrev):
        assert transform(lambda d: jaxgd.minimize(lambda x: (x - d) ** 2, 0.0).params)(d) == 1
        assert transform(lambda d: jaxgd.minimize(lambda x: (x - d) ** 2, d).params)(d) == 1


def test_before_convergence_the_rule_holds_at_the_point() -> None:
    def params(d: Any) -> Any:
        result = jaxgd.minimize(lambda x: jnp.exp(x) - d * x, 0.0, method=jaxgd.GradientDescent(0.1), max_steps=3)
        assert result.status is Status.MAX_STEPS
        return result.params

    value, slope = jax.value_and_grad(params)(3.0)
    np.testing.assert_allclose(slope, np.exp(-value), rtol=1e-6)


def test_a_saddle_gives_nan_and_a_flat_direction_nothing() -> None:
    def saddle(d: Any) -> Any:
        return jaxgd.minimize(
            lambda p: p[0] ** 2 - p[1] ** 2 + d * jnp.sum(p**3), [0.0, 0.0], method=jaxgd.GradientDescent(0.1)
        ).params

    assert np.all(np.isnan(jax.jacrev(saddle)(1.0))) and np.all(np.isnan(jax.jacfwd(saddle)(1.0)))

    def flat(d: Any) -> Any:
        return jaxgd.minimize(lambda p: (p["a"] + p["b"] - d) ** 2, {"a": 0.0, "b": 0.0, "unused": 1.0}).params

    for transform in (jax.jacrev, jax.jacfwd):
        found = transform(flat)(1.0)
        np.testing.assert_allclose([found["a"], found["b"], found["unused"]], [0.5, 0.5, 0], atol=1e-6)


def test_costs_with_other_rules_are_not_confused() -> None:
    def made(factor: float) -> Callable[..., Any]:
        """The sine, with a second derivative that is `factor` times its own."""

        @jax.custom_jvp
        def cosine(x: Any) -> Any:
            return jnp.cos(x)

        cosine.defjvps(lambda dx, _, x: -factor * jnp.sin(x) * dx)

        @jax.custom_jvp
        def sine(x: Any) -> Any:
            return jnp.sin(x)

        sine.defjvps(lambda dx, _, x: cosine(x) * dx)
        return lambda d: jaxgd.minimize(lambda x: sine(x) + d * x, -1.5, method=jaxgd.GradientDescent(0.3)).params

    for factor in (1.0, 2.0, 4.0):
        for grad in (jax.grad(made(factor)), jax.jacfwd(made(factor)), jax.jit(jax.grad(made(factor)))):
            np.testing.assert_allclose(grad(0.2), -1 / (factor * np.sin(np.arccos(-0.2))), rtol=1e-4)


def test_costs_that_refuse_forward_mode() -> None:
    @jax.custom_vjp
    def square(x: Any) -> Any:
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, d: (2 * square_root_of_square(x) * d,))

    @jax.custom_vjp
    def square_root_of_square(x: Any) -> Any:
        return x

    square_root_of_square.defvjp(lambda x: (x, None), lambda _, d: (d,))

    def params(t: Any) -> Any:
        return jaxgd.minimize(lambda p: jnp.sum(square(p - t)) + jnp.sum(p**2), jnp.zeros(2)).params

    np.testing.assert_allclose(jax.jacrev(params)(jnp.array([1.0, 2.0])), np.eye(2) / 2, rtol=1e-6)


@pytest.mark.slow
def test_many_starts_and_integers_and_half_precision() -> None:
    counts = np.array([3, 1, 4])

    def of_many(d: Any) -> Any:
        return jaxgd.minimize(lambda v: v**4 - 5 * v**2 - d * v, jaxgd.normal(scale=2.0), key=0, n_starts=4).params

    v, slope = jax.value_and_grad(of_many)(3.0)
    np.testing.assert_allclose(slope, 1 / (12 * v**2 - 10), rtol=1e-4)

    def of_counts(d: Any) -> Any:
        return jaxgd.minimize(lambda rate, n: jnp.sum(rate * d - n.astype(rate.dtype) * jnp.log(rate)), 1.0, counts).params

    np.testing.assert_allclose(jax.grad(of_counts)(2.0), -8 / 3 / 4, rtol=1e-5)

    def of_half(d: Any) -> Any:
        return jaxgd.minimize(lambda p: (p.astype(jnp.float32) - d) ** 2, jnp.zeros((), jnp.bfloat16)).params.astype(jnp.float32)

    assert jax.grad(of_half)(2.0) == 1 and jax.jacfwd(of_half)(2.0) == 1


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("batch_size", [4, 5, 12])
def test_fit_has_those_of_the_cost_over_all_rows(batch_size: int) -> None:
    """They are those at the point that is returned."""

    def cost(p: Any, rows: Any, t: Any) -> Any:
        x, y = rows
        return jnp.mean((x @ p - y * t["scale"]) ** 2) + t["weight"] * jnp.sum(p**2)

    with jax.enable_x64(True):
        t = {"scale": 1.5, "weight": 0.1}
        settings: dict[str, Any] = {"batch_size": batch_size, "n_epochs": 3, "key": 1, "method": jaxgd.Adam(0.1)}

        def params(t: Any, rows: Any) -> Any:
            return jaxgd.fit(lambda p, batch: cost(p, batch, t), START, rows, **settings).params

        def expected(t: Any, rows: Any) -> Any:
            at = jax.lax.stop_gradient(params(t, rows))
            hessian = jax.lax.stop_gradient(jax.hessian(cost)(at, rows, t))
            return at - jnp.linalg.solve(hessian, jax.grad(cost)(at, rows, t))

        for transform in (jax.jacfwd, jax.jacrev):
            close(transform(params, (0, 1))(t, (X, Y)), transform(expected, (0, 1))(t, (X, Y)))
        close(jax.jit(jax.jacrev(params))(t, (X, Y)), jax.jacrev(expected)(t, (X, Y)))


def test_the_best_point_on_validation_data() -> None:
    """The rows twice as validation data, so that the best point is the minimum."""
    x, y = X[:9], Y[:9]

    def cost(p: Any, rows: Any, weight: Any) -> Any:
        return jnp.mean((rows[0] @ p - rows[1]) ** 2) + weight * jnp.sum(p**2)

    def best(weight: Any) -> Any:
        twice = np.concatenate([x, x]), np.concatenate([y, y])
        settings: dict[str, Any] = {"batch_size": 9, "n_epochs": 400, "method": jaxgd.GradientDescent(0.2), "validation": twice}
        found = jaxgd.fit(lambda p, rows: cost(p, rows, weight), START, (x, y), **settings).best
        return found.params, found.cost

    def expected(weight: Any) -> Any:
        p = jnp.linalg.solve(x.T @ x / 9 + weight * jnp.eye(3), x.T @ y / 9)
        return p, cost(p, (x, y), weight)

    with jax.enable_x64(True):
        close(best(0.3), expected(0.3))
        close(jax.jacrev(best)(0.3), jax.jacrev(expected)(0.3))
