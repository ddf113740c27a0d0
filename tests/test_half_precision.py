"""Parameters of 16 bits: moved in float32, seen by the cost in their own type."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgd

NARROW = [jnp.bfloat16, jnp.float16]
ROWS = np.random.default_rng(0).normal(size=64).astype(np.float32)


def far(params: Any) -> Any:
    return jnp.sum((params.astype(jnp.float32) - 300) ** 2)


def near(params: Any, rows: Any) -> Any:
    return jnp.mean((params["x"].astype(jnp.float32) - 300 - rows) ** 2) + jnp.sum(params["y"] ** 2)


METHODS = jaxgd.Adam(0.1), jaxgd.RMSProp(0.1), optax.adam(0.1)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("method", METHODS, ids=["Adam", "RMSProp", "optax"])
def test_small_steps_pass_a_large_number(method: Any, dtype: Any) -> None:
    with jax.numpy_dtype_promotion("standard"):
        result: Any = jaxgd.minimize(far, jnp.full(2, 255, dtype), method=method, max_steps=900, history="params")
    assert result.params.dtype == result.best.params.dtype == result.gradient.dtype == result.history.params.dtype == dtype
    np.testing.assert_allclose(result.params.astype(jnp.float32), 300, atol=2)
    assert float(result.cost) == float(far(result.params)) and float(result.best.cost) == float(far(result.best.params))
    held = [leaf.dtype for leaf in jax.tree.leaves(result.state.method) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert held and set(held) == {jnp.dtype(jnp.float32)}


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", NARROW)
def test_in_minibatches(dtype: Any) -> None:
    start = {"x": jnp.asarray(255, dtype), "y": np.ones(2, np.float32)}
    views: list[Any] = []
    options: dict[str, Any] = {"batch_size": 16, "n_epochs": 300, "key": 0, "method": jaxgd.Adam(0.1), "callback": views.append}
    result: Any = jaxgd.fit(near, start, ROWS, validation=ROWS[:7], history="params", average=0.1, **options)
    assert views[0].params["x"].dtype == views[0].best.params["x"].dtype == dtype
    for params in (result.params, result.best.params, result.history.params, result.gradient):
        assert params["x"].dtype == dtype and params["y"].dtype == jnp.float32
    np.testing.assert_allclose(result.params["x"].astype(jnp.float32), 300, atol=2)
    np.testing.assert_allclose(result.cost, near(result.params, jnp.asarray(ROWS)), rtol=1e-6)
    np.testing.assert_allclose(result.best.cost, near(result.best.params, jnp.asarray(ROWS[:7])), rtol=1e-6)
    end = jaxgd.fit(near, start, ROWS, batch_size=16, n_epochs=30, key=0)
    assert end.params["x"].dtype == dtype


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NARROW)
def test_every_method_bounds_and_fixed_parameters(dtype: Any) -> None:
    start = {"a": jnp.zeros(2, dtype), "b": jnp.asarray(0.1, dtype)}

    def cost(params: Any) -> Any:
        a = params["a"].astype(jnp.float32)
        return jnp.sum((a - jnp.array([0.5, 3.0], jnp.float32)) ** 2) + params["b"].astype(jnp.float32)

    bounds, fixed = ({"a": None, "b": None}, {"a": 2.3, "b": None}), {"a": False, "b": True}
    for method in (None, jaxgd.SpectralGradient(), jaxgd.GradientDescent(0.2)):
        result = jaxgd.minimize(cost, start, method=method, bounds=bounds, fixed=fixed)
        below = np.asarray(jnp.asarray(2.3, dtype).astype(jnp.float32))
        below = below if below <= 2.3 else np.nextafter(np.asarray(jnp.asarray(2.3, dtype)), np.asarray(jnp.asarray(0, dtype)))
        np.testing.assert_array_equal(result.params["a"].astype(jnp.float32), [0.5, np.float32(below)])
        assert result.params["b"] == start["b"] and result.params["b"].dtype == dtype


@pytest.mark.slow
def test_many_starts_jit_and_vmap() -> None:
    drawn = jaxgd.minimize(far, lambda key: jax.random.normal(key, (2,), jnp.bfloat16), key=0, n_starts=3, method=jaxgd.Adam(1.0))
    assert drawn.params.dtype == drawn.starts.params.dtype == jnp.bfloat16 and drawn.starts.params.shape == (3, 2)
    starts = jnp.array([[1, 2], [3, 255]], jnp.bfloat16)
    mapped = jax.vmap(lambda start: jaxgd.minimize(far, start, method=jaxgd.Adam(1.0), max_steps=800).params)(starts)
    assert mapped.dtype == jnp.bfloat16
    np.testing.assert_allclose(mapped.astype(jnp.float32), 300, atol=2)


def test_another_number_compiles_nothing(compilations: Any) -> None:
    def run(rate: float) -> Any:
        return jaxgd.minimize(far, jnp.full(2, 255, jnp.bfloat16), method=jaxgd.Adam(rate), max_steps=5)

    run(0.1)
    with compilations() as compiled:
        run(0.2)
    assert not compiled
