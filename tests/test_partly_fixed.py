"""Arrays of which a part is held: methods see them whole, what is held has no gradient, and it never moves."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgd
from jaxgd.methods.protocol import Point, Problem, Step
from jaxgd.methods.rule import FirstOrderMethod

START = {"W": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([1.0, -1.0]), "c": 0.5}
CORNER = {"W": np.array([[True, False], [False, False]]), "b": False, "c": False}
ROWS = np.arange(12.0) / 12


@pytest.fixture(autouse=True)
def standard_promotion() -> Any:
    """Optax needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def cost(params: Any, rows: Any) -> Any:
    misfit = jnp.sum(params["W"]) + rows * jnp.sum(params["b"]) + params["c"] - 3
    return jnp.mean(misfit**2) + sum(jnp.sum((leaf - 0.1) ** 2) for leaf in jax.tree.leaves(params)) / 9


def gradient_of(params: Any, fixed: Any) -> Any:
    """The gradient over all rows, zero for what is held."""
    found = jax.grad(cost)(jax.tree.map(jnp.asarray, params), jnp.asarray(ROWS))
    return jax.tree.map(lambda g, held: jnp.where(jnp.asarray(held), 0, g), found, fixed)


def by_hand(transformation: Any, fixed: Any, n_steps: int) -> Any:
    """The same steps of an Optax transformation, written out: no gradient and no update for what is held."""
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, START)
        state = transformation.init(params)
        for _ in range(n_steps):
            updates, state = transformation.update(gradient_of(params, fixed), state, params)
            updates = jax.tree.map(lambda u, held: jnp.where(jnp.asarray(held), 0, u), updates, fixed)
            params = optax.apply_updates(params, updates)
        return jax.tree.map(np.asarray, params)


decayed = optax.adamw(0.1, weight_decay=0.5, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree))
TRANSFORMATIONS = {
    "decay of matrices": decayed,
    "a mask that is a tree": optax.masked(optax.sgd(0.1, momentum=0.9), {"W": True, "b": False, "c": True}),
    "a global norm": optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.3)),
    "norms of arrays": optax.lars(0.1, weight_decay=0.01),
    "a trust ratio": optax.lamb(0.05),
    "rows and columns": optax.adafactor(0.05, min_dim_size_to_factor=2),
}


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_an_optax_transformation_sees_whole_arrays(name: str, jit: bool) -> None:
    method = TRANSFORMATIONS[name]
    options: dict[str, Any] = {"fixed": CORNER, "dtype": "float64"}
    expected = by_hand(method, CORNER, 4)
    run = jaxgd.minimize(cost, START, ROWS, method=method, max_steps=4, stop=(), jit=jit, **options)
    if jit:
        fitted = jaxgd.fit(cost, START, ROWS, method=method, batch_size=12, n_epochs=4, **options).params
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9), fitted, run.params)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9), run.params, expected)
    assert run.params["W"][0, 0] == 1 and run.gradient["W"][0, 0] == 0


@pytest.mark.slow
def test_a_line_search_of_optax() -> None:
    run = jaxgd.minimize(cost, START, ROWS, method=optax.lbfgs(), max_steps=60, fixed=CORNER, dtype="float64", stop=())
    exact = jaxgd.minimize(cost, START, ROWS, fixed=CORNER, dtype="float64")
    assert run.cost < exact.cost + 1e-9 and run.params["W"][0, 0] == 1


@jaxgd.pytree
class Normed(FirstOrderMethod):
    """Steps of one length for each array, and a decay of matrices."""

    learning_rate: Any = 0.1

    def init_leaf(self, leaf: jax.Array) -> tuple[()]:
        return ()

    def update_leaf(self, gradient: jax.Array, memory: Any, params: jax.Array, count: Any) -> tuple[jax.Array, Any]:
        decay = 0.1 * params if params.ndim == 2 else 0 * params
        return -self.learning_rate * (gradient / (jnp.linalg.norm(gradient) + 1e-9) + decay), memory


@jaxgd.pytree
class OfShapes:
    """The same as a method in the loops' protocol, whose steps are clipped to what it sees of the bounds."""

    steps_back: ClassVar[bool] = False
    learning_rate: Any = 0.1

    def init(self, params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        assert point.params["W"].shape == point.gradient["W"].shape == state["W"].shape == (2, 2)
        if problem.bounds is not None:
            assert problem.bounds.lower["W"].shape == (2, 2)
        rule = Normed(self.learning_rate)
        return Step(rule.update(point.gradient, rule.init(point.params), point.params)[0], state)


@pytest.mark.slow
@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("rate", [0.1, {"W": np.array([[9.0, 0.1], [0.2, 0.3]]), "b": 0.1, "c": 0.2}], ids=["one", "each"])
def test_rules_and_methods_of_ones_own(rate: Any) -> None:
    def written_out(n_steps: int) -> Any:
        params, rates = START, rate if isinstance(rate, dict) else dict.fromkeys(START, rate)
        with jax.enable_x64(True):
            for _ in range(n_steps):
                g = gradient_of(params, CORNER)
                decay = {"W": 0.1 * np.asarray(params["W"]), "b": 0, "c": 0}
                steps = {k: rates[k] * (g[k] / (np.linalg.norm(g[k]) + 1e-9) + decay[k]) for k in params}
                params = {k: np.where(CORNER[k], params[k], params[k] - steps[k]) for k in params}
        return params

    options: dict[str, Any] = {"fixed": CORNER, "dtype": "float64", "max_steps": 4, "stop": ()}
    found = jaxgd.minimize(cost, START, ROWS, method=Normed(rate), **options).params
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9), found, written_out(4))
    if rate == 0.1:
        again = jaxgd.minimize(cost, START, ROWS, method=OfShapes(), bounds=(-9, 9), history="params", **options)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9), again.params, found)
        assert again.history is not None and np.all(again.history.params["W"][:, 0, 0] == 1)
        race = jaxgd.fit(cost, START, ROWS, method=Normed("auto"), batch_size=6, n_epochs=40, key=0, fixed=CORNER)
        assert race.params["W"][0, 0] == 1 and race.cost < cost(jax.tree.map(jnp.asarray, START), ROWS)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize(
    "method", [jaxgd.Adam(0.1, weight_decay=0.5), jaxgd.LBFGS(), jaxgd.TrustRegion(), jaxgd.SpectralGradient()]
)
def test_the_others_find_what_they_find_for_the_free_numbers_alone(method: Any) -> None:
    def of_the_free(v: Any, rows: Any) -> Any:
        whole = {"W": jnp.concatenate([jnp.ones(1, v.dtype), v[:3]]).reshape(2, 2), "b": v[3:5], "c": v[5]}
        return cost(whole, rows)

    options: dict[str, Any] = {"method": method, "max_steps": 12, "dtype": "float64", "stop": ()}
    partly = jaxgd.minimize(cost, START, ROWS, fixed=CORNER, **options)
    alone = jaxgd.minimize(of_the_free, np.array([2.0, 3, 4, 1, -1, 0.5]), ROWS, **options)
    found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(partly.params)])
    np.testing.assert_allclose(found[1:], alone.params, rtol=1e-7)
    assert found[0] == 1 and partly.n_evaluations == alone.n_evaluations
