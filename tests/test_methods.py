import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgd
from jaxgd.methods import first_order
from jaxgd.schedules import Cosine
from tests.problems import mixed_scales, nested, rosenbrock

STEPS = 200
START = np.array([-1.2, 1.0, 0.5])


def bowl(v: Any) -> Any:
    """Smooth, and so far from its minimum that no rule comes to bounce there: one rounding more or less stays one."""
    return jnp.sum(jnp.sqrt(1 + (v - 9.0) ** 2)) + jnp.sum(v[1:] * v[:-1]) / 8


# Every rule beside its Optax counterpart, in the conventions that the rule's docstring states.
COUNTERPARTS: list[tuple[Any, optax.GradientTransformation]] = [
    (jaxgd.GradientDescent(1e-4), optax.sgd(1e-4)),
    (jaxgd.GradientDescent(1e-4, 0.9), optax.sgd(1e-4, 0.9)),
    (jaxgd.GradientDescent(1e-4, 0.9, nesterov=True), optax.sgd(1e-4, 0.9, nesterov=True)),
    (jaxgd.Adagrad(0.1), optax.adagrad(0.1, initial_accumulator_value=0.1, eps=1e-7)),
    (jaxgd.Adagrad(0.1, initial_accumulator=0.0, epsilon=1e-3), optax.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-3)),
    (jaxgd.Adadelta(1.0), optax.adadelta(1.0, rho=0.95, eps=1e-6)),
    (jaxgd.Adadelta(0.5, rho=0.9, epsilon=1e-4), optax.adadelta(0.5, rho=0.9, eps=1e-4)),
    (jaxgd.RMSProp(0.01), optax.rmsprop(0.01, decay=0.9, eps=1e-8, eps_in_sqrt=True)),
    (jaxgd.RMSProp(0.001, momentum=0.5), optax.rmsprop(0.001, momentum=0.5, eps_in_sqrt=True)),
    # The variance of gradients that hardly change is all rounding: epsilon has to be above it.
    (jaxgd.RMSProp(0.01, epsilon=1.0, centered=True), optax.rmsprop(0.01, eps=1.0, centered=True, eps_in_sqrt=True)),
    (jaxgd.Adam(0.01), optax.adam(0.01)),
    (jaxgd.Adam(0.01, beta1=0.8, beta2=0.99, epsilon=1e-4), optax.adam(0.01, b1=0.8, b2=0.99, eps=1e-4)),
    (jaxgd.Adam(0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
    (jaxgd.Adam(0.01, amsgrad=True), optax.amsgrad(0.01)),
    (jaxgd.Adam(0.01, nesterov=True), optax.nadam(0.01)),
    (jaxgd.Adam(0.01, nesterov=True, weight_decay=0.1), optax.nadamw(0.01, weight_decay=0.1)),
]
RULES = [rule for _, rule in inspect.getmembers(first_order, inspect.isclass) if issubclass(rule, first_order.FirstOrderMethod)]
RULES.remove(first_order.FirstOrderMethod)


def optax_loop(transformation: Any, cost: Any, start: Any, steps: int) -> Any:
    """The loop that Optax leaves to its users, in float64."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = jax.tree.map(jnp.asarray, start)
        state = transformation.init(params)

        @jax.jit
        def step(params: Any, state: Any) -> Any:
            updates, state = transformation.update(jax.grad(cost)(params), state, params)
            return optax.apply_updates(params, updates), state

        for _ in range(steps):
            params, state = step(params, state)
        return jax.tree.map(np.asarray, params)


@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize(
    ("method", "counterpart"),
    COUNTERPARTS,
    ids=lambda value: str(value)[:60] if isinstance(value, first_order.FirstOrderMethod) else "",
)
def test_trajectory_is_that_of_optax(method: Any, counterpart: Any) -> None:
    result = jaxgd.minimize(bowl, START, method=method, stop=(), max_steps=STEPS, dtype="float64")
    assert result.n_steps == STEPS
    np.testing.assert_allclose(result.params, optax_loop(counterpart, bowl, START, STEPS), rtol=1e-12)


def test_every_rule_has_a_counterpart() -> None:
    assert {type(method) for method, _ in COUNTERPARTS} == set(RULES)
    assert {type(method).__name__ for method, _ in COUNTERPARTS} <= set(jaxgd.__all__)


@pytest.mark.parametrize("transformation", [optax.adam(0.01), optax.chain(optax.clip(1.0), optax.sgd(0.01)), optax.lion(0.01)])
def test_an_optax_transformation_as_it_is(transformation: Any) -> None:
    with jax.numpy_dtype_promotion("standard"):
        result = jaxgd.minimize(rosenbrock, START, method=transformation, stop=(), max_steps=STEPS, dtype="float64")
    np.testing.assert_allclose(result.params, optax_loop(transformation, rosenbrock, START, STEPS), rtol=1e-12)


@pytest.mark.parametrize("transformation", [optax.lbfgs(), optax.polyak_sgd()])
def test_an_optax_transformation_that_asks_for_the_cost(transformation: Any) -> None:
    with jax.numpy_dtype_promotion("standard"):
        result = jaxgd.minimize(lambda x: jnp.sum((x - 1) ** 2), START, method=transformation, max_steps=5000, dtype="float64")
    np.testing.assert_allclose(result.params, 1, atol=1e-8)  # Polyak's rule has an epsilon in the way


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("rule", RULES)
def test_contract_of_a_rule(rule: Any, compilations: Any) -> None:
    """What holds for every first-order rule, a new one included."""
    method = rule(0.01)
    assert len(jax.tree.leaves(method)) >= 1 and hash(jax.tree.structure(method)) == hash(jax.tree.structure(rule(0.02)))
    assert "Args:" in (rule.__doc__ or "")
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"{rule.__name__}: learning_rate: expected a finite number > 0"):
            rule(bad)

    params = {"a": jnp.ones(3, jnp.bfloat16), "b": (jnp.zeros(()), jnp.ones((2, 2)))}
    gradient = jax.tree.map(jnp.ones_like, params)
    state = method.init(params)
    updates, state = method.update(gradient, state, params)
    updates, state = method.update(gradient, state, params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), updates) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), params
    )
    assert all(np.all(np.asarray(leaf).astype(float) < 0) for leaf in jax.tree.leaves(updates))

    runs: list[Any] = []
    for rate in (0.01, np.float64(0.02), jnp.asarray(0.02)):
        with compilations() as compiled:
            runs.append(jaxgd.minimize(nested, NESTED, method=rule(rate), stop=(), max_steps=20))
        assert not compiled or rate == 0.01  # another rate compiles nothing
    first, second, third = (jax.tree.leaves(run.params) for run in runs)
    assert all(np.all(a != b) for a, b in zip(first, second, strict=True))
    jax.tree.map(np.testing.assert_array_equal, second, third)

    decaying = jaxgd.minimize(nested, NESTED, method=rule(Cosine(0.02, 10)), stop=(), max_steps=20, history="learning_rate")
    assert decaying.history is not None
    np.testing.assert_allclose(decaying.history.learning_rate[[0, 5, 10, 20]], [0.02, 0.01, 0, 0], rtol=1e-6, atol=1e-9)
    tree_of_rates = jax.tree.map(lambda leaf: np.full(np.shape(leaf), 0.02), NESTED)
    rated = jaxgd.minimize(nested, NESTED, method=rule(tree_of_rates), stop=(), max_steps=20)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(rated.params), second)


NESTED = {"scalar": 0.0, "pair": (np.zeros(2), {"deep": np.zeros((2, 2))})}


def test_half_precision_is_remembered_in_single() -> None:
    # In bfloat16 a second moment decaying by 0.999 would never fall: 1 - 0.999 is below half a unit of its eight bits.
    method = jaxgd.Adam(0.1)
    state = method.init(jnp.zeros(2, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.memory)} == {jnp.dtype(jnp.float32)}
    result = jaxgd.minimize(
        lambda p: jnp.sum((p["half"] - 3) ** 2).astype(jnp.float32) + p["full"] ** 2, HALF, method=method, max_steps=400
    )
    assert result.params["half"].dtype == jnp.bfloat16
    np.testing.assert_allclose(result.params["half"].astype(jnp.float32), 3, atol=0.04)  # a unit of bfloat16 at 3 is 0.016


HALF = {"half": jnp.zeros(2, jnp.bfloat16), "full": jnp.ones((), jnp.float32)}


@pytest.mark.slow
def test_spectral_gradient_handles_scales_and_steps_back_from_what_is_not_finite() -> None:
    scaled = [
        jaxgd.minimize(lambda x, unit=unit: unit * mixed_scales(x), np.zeros(3), dtype="float64").params
        for unit in (1e-6, 1.0, 1e6)
    ]
    np.testing.assert_allclose(scaled[0], scaled[1], rtol=1e-6)
    np.testing.assert_allclose(scaled[2], scaled[1], rtol=1e-6)
    steep = jaxgd.minimize(
        lambda v: v - jnp.log(v), 1e-3, dtype="float64"
    )  # the first step overshoots into log of a negative number
    assert steep.converged
    np.testing.assert_allclose(steep.params, 1, rtol=1e-6)
    kink = jaxgd.minimize(jnp.abs, 1.7, dtype="float64")
    assert not kink.converged  # the gradient is never small
    assert abs(kink.params) < 1e-10
