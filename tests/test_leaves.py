"""Leaves of a start that are no parameters reach the cost as they came, and everything else passes them by."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgd

X = np.linspace(-1, 1, 40)
MASK = X > 0


@pytest.fixture(autouse=True)
def standard_promotion() -> Any:
    """Optax and the libraries of modules need it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def cost(params: Any, rows: Any) -> Any:
    """Four kinds of leaves decide here what is computed; two are fitted."""
    x, y = rows
    assert params["none"] is None and isinstance(params["degree"], int) and params["kind"] == "power"
    assert jnp.issubdtype(params["order"].dtype, jnp.integer) and params["mask"].dtype == bool
    scale = jax.random.uniform(params["key"], (), x.dtype) if params["noisy"] else jnp.ones((), x.dtype)
    slope = params["w"][params["order"]][0]
    return jnp.mean((params["f"](slope * x ** params["degree"]) + params["b"] * scale - y) ** 2)


def start(**changes: Any) -> dict[str, Any]:
    leaves = {
        "w": np.array([0.5, 0.25]),
        "b": 0.0,
        "none": None,
        "degree": 3,
        "kind": "power",
        "order": np.array([1, 0]),
        "mask": MASK,
        "f": jnp.tanh,
        "key": jax.random.key(3),
        "noisy": False,
    }
    return leaves | changes


FIXED = {
    **{"w": False, "b": False, "none": None, "degree": True, "kind": True, "order": True},
    **{"mask": None, "f": False, "key": None, "noisy": True},
}
DATA = X, np.tanh(1.5 * X**3) + 0.25


def same(params: Any, leaves: Any) -> None:
    """What is no parameter is as it was."""
    for name in ("none", "degree", "kind", "f", "noisy"):
        assert params[name] is leaves[name]
    np.testing.assert_array_equal(params["order"], leaves["order"])
    np.testing.assert_array_equal(params["mask"], leaves["mask"])
    assert params["order"].dtype.kind == "i" and params["key"] == leaves["key"]


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("jit", [True, False])
def test_all_of_them_in_minimize(dtype: str, jit: bool) -> None:
    leaves = start()
    options: dict[str, Any] = {"fixed": FIXED | {"w": [True, False]}, "dtype": dtype, "jit": jit}
    result = jaxgd.minimize(
        cost, leaves, DATA, method=jaxgd.SpectralGradient() if jit else jaxgd.Adam(0.1), max_steps=50, **options
    )
    same(result.params, leaves)
    same(result.best.params, leaves)
    assert result.cost < 1e-4 if jit else 0.02
    assert result.params["w"][0] == 0.5 and jax.tree.structure(result.gradient).num_leaves == 2
    assert "params['degree']  3" in str(result) and "params['f']" not in str(result)


def test_bounds_rates_history_callbacks_and_covariance_pass_them_by() -> None:
    leaves, seen = start(), []
    number = jax.tree.map(lambda leaf: -10.0, leaves)
    rates = jax.tree.map(lambda leaf: 0.1, leaves) | {"w": np.array([0.1, 0.3])}
    result = jaxgd.minimize(
        cost,
        leaves,
        DATA,
        fixed=FIXED,
        bounds=(number, {**number, "w": 1.0, "b": None, "f": None}),
        method=jaxgd.GradientDescent(rates),
        max_steps=50,
        history="params",
        callback=lambda progress: seen.append(progress.params),
    )
    same(seen[-1], leaves)
    assert result.history is not None and result.params["w"][1] == 1
    assert result.history.params["w"].shape == (51, 2) and result.history.params["order"].shape == (51, 2)
    assert result.history.params["f"] is jnp.tanh and result.history.params["degree"] == 3
    found = jaxgd.covariance(cost, result.params, DATA, fixed=FIXED | {"w": [True, False]})
    assert found.names == ("params['b']", "params['w'][0]", "params['w'][1]") and found.matrix.shape == (3, 3)
    assert found.standard_errors["f"] is None and found.standard_errors["w"][1] > 0
    assert "±" in result.summary(found)


def test_fit_with_a_race_and_with_optax() -> None:
    for method in (None, optax.adam(0.05)):
        leaves = start()
        result = jaxgd.fit(
            cost, leaves, DATA, fixed=FIXED, method=method, batch_size=20, n_epochs=40, key=0, history="params", average=0.5
        )
        same(result.params, leaves)
        assert result.cost < 0.1 and result.history is not None and result.history.params["b"].shape == (41,)


@pytest.mark.slow
def test_many_starts() -> None:
    descent = jaxgd.SpectralGradient()

    def draw(key: Any) -> Any:
        return start(w=jax.random.normal(key, (2,)))

    result = jaxgd.minimize(cost, draw, DATA, fixed=FIXED, key=0, n_starts=5, method=descent, max_steps=50)
    same(result.params, start())
    assert result.starts is not None and result.starts.params["w"].shape == (5, 2) and result.starts.params["f"] is jnp.tanh
    assert result.starts.params["degree"] == 3 and result.cost < 1e-6
    with pytest.raises(ValueError, match=r"^fixed: expected the start to give what is fixed the same values for every key"):
        jaxgd.minimize(
            cost, lambda key: draw(key) | {"order": jax.random.permutation(key, 9)}, DATA, fixed=FIXED, key=0, n_starts=5
        )


def test_other_values_and_fresh_functions_compile_only_where_they_shape_the_program(compilations: Any) -> None:
    def run(**changes: Any) -> jaxgd.Result:
        return jaxgd.minimize(cost, start(**changes), DATA, fixed=FIXED, method=jaxgd.GradientDescent(0.1), max_steps=3)

    first = run()
    with compilations() as compiled:
        run(order=np.array([0, 1]))
        run(mask=~MASK, key=jax.random.key(4))
        run(f=lambda v: jnp.tanh(v))
    assert not compiled
    assert float(run(degree=1).cost) != float(first.cost)


def test_integers_that_are_free_are_parameters() -> None:
    for given in (3, [1, 2], np.array([1, 2]), {"a": 1, "b": np.int64(2)}, (1, 2.5)):
        bowl = lambda v: sum(jnp.sum((leaf - 0.5) ** 2) for leaf in jax.tree.leaves(v))  # noqa: E731
        result = jaxgd.minimize(bowl, given, method=jaxgd.GradientDescent(0.5), max_steps=1)
        assert result.cost == 0 and all(np.all(leaf == np.float32(0.5)) for leaf in jax.tree.leaves(result.params))


def test_what_is_refused() -> None:
    bowl = lambda v: v["x"] ** 2  # noqa: E731
    cases: list[tuple[Any, Any, str]] = [
        ({"x": 1.0, "kind": "power"}, None, r"^start\['kind'\]: expected numbers, got 'power'"),
        ({"x": 1.0, "z": 1j}, None, r"^start\['z'\]: expected real numbers"),
        ({"f": jnp.tanh}, None, r"^start\['f'\]: expected numbers, got"),
        ({"x": True}, None, r"^start\['x'\]: expected numbers, got True"),
        ({"k": jax.random.PRNGKey(0)}, None, r"^start\['k'\]: expected numbers, got"),
        ({"x": None}, None, r"^start: expected at least one number"),
        ({"x": 1, "f": jnp.tanh}, {"x": True, "f": False}, r"^fixed: expected at least one parameter that is free"),
        ({"x": 1.0, "n": 2}, {"x": True}, r"^fixed: expected one value, or a pytree like the parameters"),
    ]
    for leaves, fixed, message in cases:
        with pytest.raises((TypeError, ValueError), match=message):
            jaxgd.minimize(bowl, leaves, fixed=fixed)


def network(model: Any, rows: Any) -> Any:
    x, y = rows
    return jnp.mean((jax.vmap(model)(x)[:, 0] - y) ** 2)


ROWS = X[:, None].astype(np.float32), np.sin(2 * X).astype(np.float32)


@pytest.mark.slow
def test_a_module_of_equinox_goes_in_and_comes_out() -> None:
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Sequential(
        [eqx.nn.MLP(1, 1, 4, 1, key=jax.random.key(0)), eqx.nn.Dropout(0.5, inference=True), eqx.nn.Lambda(jnp.asarray)]
    )
    for run in (
        jaxgd.minimize(network, model, ROWS, max_steps=40, method=jaxgd.SpectralGradient()),
        jaxgd.fit(network, model, ROWS, batch_size=20, n_epochs=100, key=0, method=jaxgd.Adam(0.05)),
        jaxgd.fit(network, model, ROWS, batch_size=20, n_epochs=100, key=0, method=optax.adamw(0.05)),
    ):
        assert type(run.params) is type(model) and run.cost < 0.1
        np.testing.assert_allclose(network(run.params, ROWS), run.cost, rtol=1e-5)
        assert run.params[0].activation is model[0].activation and run.params[1].inference is True and run.params[1].p == 0.5
    frozen = eqx.tree_at(lambda m: m[0].layers[0].weight, jax.tree.map(lambda _: False, model), True)
    half = jaxgd.fit(network, model, ROWS, batch_size=20, n_epochs=2, key=0, method=jaxgd.Adam(0.05), fixed=frozen)
    np.testing.assert_array_equal(half.params[0].layers[0].weight, model[0].layers[0].weight)
    assert np.any(half.params[0].layers[1].weight != model[0].layers[1].weight)


def test_a_state_of_flax_goes_in_and_comes_out() -> None:
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.first, self.last = nnx.Linear(1, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(self.dropout(nnx.tanh(self.first(x))))

    graph, state = nnx.split(Model(nnx.Rngs(0)))

    def loss(state: Any, rows: Any) -> Any:
        return jnp.mean((nnx.merge(graph, state)(rows[0])[:, 0] - rows[1]) ** 2)

    result = jaxgd.fit(loss, state, ROWS, batch_size=20, n_epochs=100, key=0, method=jaxgd.Adam(0.05))
    assert type(result.params) is type(state) and jax.tree.structure(result.params) == jax.tree.structure(state)
    assert result.cost < 0.1 and nnx.merge(graph, result.params)(jnp.ones((3, 1))).shape == (3, 1)
