"""Penalties in minibatches, in first-order steps, and the derivatives of minima that have one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import L1, ElasticNet, GroupLasso, Status
from jaxgd.methods.rule import FirstOrderMethod
from tests.test_penalties import HEIGHTS, LABELS, ROWS, START, lasso, logistic, squares

DATA = (ROWS, HEIGHTS)
RULES = [
    jaxgd.GradientDescent(0.3, momentum=0.5),
    jaxgd.GradientDescent({"w": 0.3, "b": 0.1}),
    jaxgd.Adam(0.1, amsgrad=True),
    jaxgd.Adam(0.1, relative=True, nesterov=True),
    jaxgd.Adagrad(0.5),
    jaxgd.Adadelta(),
    jaxgd.RMSProp(0.05, momentum=0.5),
    jaxgd.GradientDescent(0.3, momentum=0.9, nesterov=True),
]


def soft(x: Any, by: Any) -> Any:
    return np.sign(x) * np.maximum(np.abs(x) - by, 0)


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
def test_the_steps_of_a_rule_are_what_its_update_multiplies_a_lasting_gradient_by(rule: FirstOrderMethod) -> None:
    """So that the fixed point of update and proximal operator is the minimum, whatever is remembered."""
    rule = rule.bind(1)
    params, gradient = ({"w": jnp.linspace(-scale, scale, 8), "b": jnp.asarray(scale)} for scale in (0.7, 2.0))

    def body(_: Any, state: Any) -> Any:
        return rule.update(gradient, state, params)[1]

    before = jax.lax.fori_loop(0, 300, body, rule.init(params))
    update, after = rule.update(gradient, before, params)
    steps = rule.steps(params, before, after)
    for name in ("w", "b"):
        np.testing.assert_allclose(update[name], -steps[name] * gradient[name], rtol=1e-4)


def test_a_step_of_gradient_descent_is_the_proximal_one_to_the_bit_of_its_zeros() -> None:
    slope = jax.grad(squares)(jax.tree.map(jnp.asarray, START), DATA)
    for verb, options in (("minimize", {"max_steps": 1, "stop": ()}), ("fit", {"n_epochs": 1, "batch_size": 60, "shuffle": False})):
        result = getattr(jaxgd, verb)(squares, START, DATA, penalty=lasso(0.5), method=jaxgd.GradientDescent(0.2), **options)
        np.testing.assert_allclose(result.params["w"], soft(-0.2 * slope["w"], 0.1), rtol=1e-5)
        np.testing.assert_array_equal(result.params["w"] == 0, np.abs(slope["w"]) <= 0.5)
        np.testing.assert_allclose(result.params["b"], -0.2 * slope["b"], rtol=1e-6)
        np.testing.assert_allclose(result.cost, squares(result.params, DATA) + 0.5 * np.sum(np.abs(result.params["w"])), rtol=1e-6)


@pytest.mark.slow
def test_first_order_methods_reach_the_minimum_in_steps_of_all_rows_and_in_minibatches() -> None:
    best = jaxgd.minimize(logistic, START, (ROWS, LABELS), penalty=lasso(0.05), dtype="float64")
    plain = jaxgd.minimize(logistic, START, (ROWS, LABELS), penalty=lasso(0.05), method=jaxgd.GradientDescent(1.0), dtype="float64")
    heavy = jaxgd.GradientDescent(0.3, momentum=0.9)
    heavy = jaxgd.minimize(logistic, START, (ROWS, LABELS), penalty=lasso(0.05), method=heavy, dtype="float64")
    assert plain.status is heavy.status is Status.CONVERGED
    np.testing.assert_allclose(heavy.params["w"], best.params["w"], atol=1e-9)
    np.testing.assert_allclose(plain.params["w"], best.params["w"], atol=1e-9)
    found = jaxgd.fit(logistic, START, (ROWS, LABELS), penalty=lasso(0.05), batch_size=20, n_epochs=300, key=0, dtype="float64")
    assert found.method is not None and 0 <= found.cost - best.cost < 1e-5
    np.testing.assert_array_equal(found.params["w"] == 0, best.params["w"] == 0)
    again = jaxgd.fit(
        logistic,
        START,
        (ROWS, LABELS),
        penalty=lasso(0.05),
        batch_size=20,
        n_epochs=300,
        key=0,
        dtype="float64",
        method=found.method,
    )
    np.testing.assert_array_equal(again.params["w"], found.params["w"])


def difference(function: Any, x: Any, along: Any, step: float) -> Any:
    return jax.tree.map(lambda a, b: (a - b) / (2 * step), function(x + step * along), function(x - step * along))


PENALTIES = {"l1": L1, "net": lambda w: ElasticNet(w, 0.6), "group": lambda w: GroupLasso(w, groups=[0, 0, 1, 1, 2, 2, 3, 3])}


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_minima_have_derivatives_with_respect_to_data_and_weights(penalty: Any) -> None:
    with jax.enable_x64(True):

        def found(theta: Any) -> Any:
            result = jaxgd.minimize(squares, START, (ROWS, HEIGHTS + theta[1:]), penalty={"w": penalty(theta[0]), "b": None})
            return {"w": result.params["w"], "b": result.params["b"], "cost": result.cost, "slope": result.gradient}

        theta = jnp.zeros(61).at[0].set(0.1)
        jacobian = jax.jit(jax.jacfwd(found))(theta)
        for along in (jnp.zeros(61).at[0].set(1.0), jnp.zeros(61).at[4].set(1.0)):
            expected = difference(jax.jit(found), theta, along, 1e-5)
            for name in ("w", "b", "cost"):
                np.testing.assert_allclose(jacobian[name] @ along, expected[name], atol=2e-8)
            np.testing.assert_allclose(jacobian["slope"]["w"] @ along, 0, atol=1e-9)


@pytest.mark.slow
def test_the_derivative_of_a_minimum_in_closed_form_with_a_bound_and_a_second_one() -> None:
    with jax.enable_x64(True):
        target = jnp.array([3.0, -0.5, 4.0])

        def found(weight: Any, high: Any) -> Any:
            cost = lambda x: jnp.sum((x - target) ** 4) / 4  # noqa: E731
            return jaxgd.minimize(cost, jnp.zeros(3), penalty=L1(weight), bounds=(None, [jnp.inf, jnp.inf, high])).params

        # (x - 3)**3 = -weight, so that dx/dweight = -1 / (3 (x - 3)**2) = -weight**(-2/3) / 3
        first, second = jax.jit(jax.jacrev(found, argnums=(0, 1)))(1.0, 2.0)
        np.testing.assert_allclose(first, [-1 / 3, 0, 0], atol=1e-7)
        np.testing.assert_allclose(second, [0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(jax.jit(jax.jacfwd(jax.jacrev(found)))(1.0, 2.0), [2 / 9, 0, 0], atol=1e-6)


@pytest.mark.slow
def test_fits_have_derivatives_with_respect_to_the_weight() -> None:
    def found(verb: Any, **options: Any) -> Any:
        return jax.grad(lambda weight: verb(squares, START, DATA, penalty=lasso(weight), **options).params["w"][0])(0.1)

    exact = found(jaxgd.minimize)
    steps = {"batch_size": 60, "n_epochs": 300, "method": jaxgd.GradientDescent(0.5), "shuffle": False}
    np.testing.assert_allclose(found(jaxgd.fit, **steps), exact, rtol=1e-3)
    unrolled = found(jaxgd.minimize, implicit=False, max_steps=300, method=jaxgd.GradientDescent(0.5))
    np.testing.assert_allclose(unrolled, exact, rtol=1e-3)
