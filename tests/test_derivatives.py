"""Second derivatives in reverse mode where JAX refuses forward mode, and words where it refuses both."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.ode import odeint

import jaxgd
from jaxgd import Status

TIMES = np.linspace(0.0, 1.0, 4)
START = np.array([0.5, 0.25], np.float32)


def with_rule(function: Any, derivative: Any) -> Any:
    """A function of an array, elementwise, with the derivative that a rule gives."""
    ruled = jax.custom_vjp(function)
    ruled.defvjp(lambda x: (ruled(x), x), lambda x, g: (derivative(x) * g,))
    return ruled


def waiting(x: Any) -> Any:
    """Twice a number, from a loop whose length is not known beforehand."""
    return jax.lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, 2 * c[1]), (0, x))[1]


def by_callback(x: Any) -> Any:
    return jax.pure_callback(lambda x: 2 * np.asarray(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


cube = with_rule(lambda x: x**3, lambda x: 3 * x**2)
square = with_rule(lambda x: x**2, lambda x: 2 * x)
waiting_square = with_rule(lambda x: x**2, waiting)
callback_square = with_rule(lambda x: x**2, by_callback)
simulated = with_rule(lambda x: by_callback(x) * x / 2, lambda x: 2 * x)  # the callback is in the value alone


def decay(v: Any) -> Any:
    """The fit of y' = -k y, by the adjoint of a solver."""
    y = odeint(lambda y, t, k: -k * y, v[1].astype(v.dtype), jnp.asarray(TIMES, v.dtype), v[0])
    return jnp.sum((y - 3 * jnp.exp(-2 * jnp.asarray(TIMES, v.dtype))) ** 2) / 2


TWICE: dict[str, tuple[Any, Any, Any]] = {  # costs, their minima and the second derivatives there
    "all of it": (lambda v: jnp.sum(square(v - 1) * jnp.asarray([1, 3], v.dtype)), [1, 1], [[2, 0], [0, 6]]),
    "a part": (lambda v: (cube(v[0]) - 8) ** 2 / 2 + (v[1] - v[0]) ** 2, [2, 2], [[146, -2], [-2, 2]]),
    "in a loop": (
        lambda v: (
            jax.lax.scan(lambda total, x: (total + square(x - 2), None), jnp.zeros((), v.dtype), v)[0] + (v[0] * v[1] - 4) ** 2
        ),
        [2, 2],
        [[10, 8], [8, 10]],
    ),
    "a callback in the value": (lambda v: jnp.sum(simulated(v - 1)), [1, 1], [[2, 0], [0, 2]]),
}
ONCE: dict[str, tuple[Callable[..., Any], str]] = {
    "loop": (lambda v: jnp.sum(waiting_square(v - 1)), "Reverse-mode differentiation does not work"),
    "callback": (lambda v: jnp.sum(callback_square(v - 1)), "callbacks do not support JVP"),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", TWICE)
def test_second_derivatives_of_a_cost_with_a_rule_are_exact(way: str) -> None:
    cost, minimum, curvature = TWICE[way]
    result = jaxgd.minimize(cost, START)
    assert result.converged and result.method is None
    np.testing.assert_allclose(result.params, minimum, rtol=1e-4)
    for jit in (True, False):
        found = jaxgd.covariance(cost, np.asarray(minimum, np.float32), jit=jit)
        assert found.valid
        np.testing.assert_allclose(np.linalg.inv(found.matrix), curvature, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_adjoint_of_a_solver_serves_in_both_precisions() -> None:
    result = jaxgd.minimize(decay, [1.0, 2.0], dtype="float64")
    assert result.status in (Status.CONVERGED, Status.STALLED)  # a gradient that is exact to the solver's tolerance alone
    np.testing.assert_allclose(result.params, [2, 3], rtol=1e-6)
    assert jaxgd.covariance(decay, [2.0, 3.0]).valid
    found = jaxgd.covariance(decay, [2.0, 3.0], dtype="float64")
    jacobian = np.stack([-3 * TIMES * np.exp(-2 * TIMES), np.exp(-2 * TIMES)], axis=1)
    np.testing.assert_allclose(found.matrix, np.linalg.inv(jacobian.T @ jacobian), rtol=1e-5)


def test_residuals_with_a_rule_have_a_jacobian() -> None:
    found = jaxgd.covariance(None, [1.0, 2.0], scale=0.5, residuals=lambda v: cube(v[:, None] * jnp.ones(3, v.dtype)))
    np.testing.assert_allclose(found.matrix, np.diag([1 / 27, 1 / 432]), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("way", ONCE)
def test_a_cost_with_first_derivatives_alone_gets_another_method_and_says_so(way: str) -> None:
    cost, cause = ONCE[way]
    several: list[dict[str, Any]] = [{}, {"jit": False}, {"fixed": np.array([False, True])}, {"n_starts": 2, "key": 0}]
    for options in several:
        start = jaxgd.normal(2) if "key" in options else START
        result = jaxgd.minimize(cost, start, **options)
        free = np.array([True, "fixed" not in options])
        assert result.converged and isinstance(result.method, jaxgd.LBFGS)
        np.testing.assert_allclose(result.params, np.where(free, 1, START), rtol=1e-4)
        assert "LBFGS(memory=10), since the cost has no second derivatives" in str(result)
    for jit in (True, False):
        with pytest.raises(TypeError, match=rf"^method: TrustRegion needs second derivatives, .*{cause}.*LBFGS\(\)"):
            jaxgd.minimize(cost, START, method=jaxgd.TrustRegion(), jit=jit)
        with pytest.raises(TypeError, match=f"^cost: its second derivatives, .*{cause}.*residuals="):
            jaxgd.covariance(cost, START, jit=jit)


@pytest.mark.parametrize("jit", [True, False])
def test_a_cost_without_a_gradient_is_told_the_cause(jit: bool) -> None:
    for method in (None, jaxgd.LBFGS(), jaxgd.TrustRegion()):
        with pytest.raises(TypeError, match=r"^cost: it can't be differentiated: a loop whose length .*lax\.scan"):
            jaxgd.minimize(lambda v: jnp.sum(waiting(v) ** 2), START, method=method, jit=jit)
        with pytest.raises(TypeError, match=r"^cost: it can't be differentiated: a callback .*custom_vjp"):
            jaxgd.minimize(lambda v: jnp.sum(by_callback(v) ** 2), START, method=method, jit=jit)
    found = jaxgd.covariance(None, START, residuals=waiting, scale=0.5, jit=jit)  # first derivatives in forward mode
    np.testing.assert_allclose(found.matrix, np.eye(2) / 4, rtol=1e-5)
