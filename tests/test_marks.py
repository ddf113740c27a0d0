"""What a result says of single parameters, at a bound or never moved, and how much the method expects to be left."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd.methods.protocol import Point, Problem, Step

START = {"a": 0.5, "w": np.zeros(4), "z": 2.0}
BOUNDS = (None, {"a": 1, "w": [0.25, None, None, None], "z": None})


def cost(v: Any) -> Any:
    return (v["a"] - 3) ** 2 + jnp.sum((v["w"] - jnp.arange(1, 5, dtype=v["w"].dtype)) ** 2) + 0 * v["z"]


def test_a_result_names_what_lies_at_a_bound_and_what_never_moved() -> None:
    for dtype in ("float32", "float64"):
        result = jaxgd.minimize(cost, START, bounds=BOUNDS, dtype=dtype)
        assert result.at_bounds == ("params['a']", "params['w'][0]") and result.unmoved == ("params['z']",)
        text = str(result)
        assert "at a bound   params['a'], params['w'][0]\n" in text
        assert "never moved  params['z']: no slope, perhaps the cost does not depend on them\n" in text
        again = pickle.loads(pickle.dumps(result))
        assert again.at_bounds == result.at_bounds and str(again) == text
        assert jax.tree.map(lambda leaf: leaf, result).at_bounds is None
    inside = jaxgd.minimize(cost, START, bounds=(-9, 9))
    assert inside.at_bounds == () and "at a bound" not in str(inside)


def test_every_method_and_verb_tells_it() -> None:
    slow = jaxgd.minimize(cost, START, bounds=BOUNDS, method=jaxgd.GradientDescent(0.3), jit=False)
    assert slow.at_bounds == ("params['a']", "params['w'][0]") and slow.unmoved == ("params['z']",)
    rows = np.arange(12.0)
    fitted = jaxgd.fit(
        lambda v, b: jnp.mean((v[0] - b) ** 2) + 0 * v[1],
        [0.0, 1.0],
        rows,
        batch_size=4,
        n_epochs=5,
        shuffle=False,
        method=jaxgd.Adam(0.5),
        bounds=(None, [2, None]),
    )
    assert fitted.at_bounds == ("params[0]",) and fitted.unmoved == ("params[1]",)


@pytest.mark.slow
def test_what_is_held_at_the_start_or_not_known_is_not_named() -> None:
    fixed = {"a": True, "w": [True, False, False, False], "z": True}
    held = jaxgd.minimize(cost, START, fixed=fixed, bounds=(None, {"a": 0.5, "w": 9, "z": None}))
    assert held.at_bounds == () and held.unmoved == ()
    arrived = jaxgd.minimize(lambda v: jnp.sum(v**2), np.zeros(3))
    assert arrived.n_steps == 0 and arrived.unmoved == () and "never moved" not in str(arrived)
    drawn = jaxgd.minimize(lambda v: (v[0] - 5) ** 2 + v[1] ** 2, jaxgd.normal(2), key=0, n_starts=2, bounds=(-1, 1))
    assert drawn.at_bounds == ("params[0]",) and drawn.unmoved == ()
    moved_in = jaxgd.minimize(lambda v: v[0] ** 2 + 0 * v[1], lambda key: jnp.asarray([0.5, 7.0]), key=0, bounds=(-1, 1))
    assert moved_in.at_bounds == ("params[1]",)


def test_outer_programs_return_it() -> None:
    def run(a: Any) -> Any:
        return jaxgd.minimize(cost, START | {"a": a}, bounds=BOUNDS, method=jaxgd.GradientDescent(0.3), max_steps=30)

    lanes = jax.vmap(run)(jnp.asarray([0.5, 1.0]))
    assert lanes.at_bounds.tolist() == [("params['a']", "params['w'][0]")] * 2
    assert lanes.unmoved.tolist() == [("params['z']",)] * 2
    assert jax.jit(run)(0.5).at_bounds == ("params['a']", "params['w'][0]")


@pytest.mark.slow
def test_long_lists_are_shortened() -> None:
    result = jaxgd.minimize(lambda v: jnp.sum((v[:20] - 1) ** 2), np.zeros(40), bounds=(None, 0.5), method=jaxgd.LBFGS())
    assert len(result.at_bounds) == 20 and len(result.unmoved) == 20
    assert "params[6], params[7], ... (20 in all)" in str(result) and "params[8]" not in str(result)
    assert jaxgd.minimize(lambda v: jnp.sum((v - 1) ** 2), np.zeros(40), bounds=(None, 0.5), method=jaxgd.LBFGS()).at_bounds == (
        "params",
    )


@jaxgd.pytree
class Doubting:
    """Gradient descent that expects as much to be left as the square of its gradient."""

    steps_back = False
    rate: float

    def init(self, params: Any) -> Any:
        return jnp.zeros(())

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        left = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(point.gradient))
        return Step(jax.tree.map(lambda g: -self.rate * g, point.gradient), left)

    def gain(self, params: Any, state: Any) -> Any:
        """What is expected to be left."""
        return state / 4


def test_a_method_may_tell_how_much_it_expects_to_be_left() -> None:
    def run(start: Any) -> Any:
        return jaxgd.minimize(lambda v: v**2, start, method=Doubting(0.25), max_steps=3, stop=())

    result = run(1.0)
    assert float(result.estimated_gain) == float(result.cost) == 1 / 64
    assert "left" in str(result) and "about 0.016 of the cost" in str(result)
    np.testing.assert_array_equal(jax.vmap(run)(jnp.asarray([1.0, 2.0])).estimated_gain, [1 / 64, 1 / 16])
    assert jaxgd.minimize(lambda v: v**2, 1.0, method=jaxgd.GradientDescent(0.5)).estimated_gain is None


@pytest.mark.slow
def test_the_default_method_tells_how_much_it_expects_to_be_left() -> None:
    for dtype in ("float32", "float64"):
        for max_steps in (3, 8):
            result = jaxgd.minimize(lambda v: jnp.sum(jnp.cosh(v - 1)), np.array([3.0, -2.0]), dtype=dtype, max_steps=max_steps)
            left = float(result.cost) - 2
            assert left / 3 - 1e-6 < float(result.estimated_gain) < 3 * left + 1e-6
    assert jaxgd.minimize(lambda v: jnp.sum(v**2), np.ones(2)).estimated_gain == 0
    uphill = jaxgd.minimize(lambda v: jnp.sum(jnp.cos(v)), np.full(2, 0.1), max_steps=1)
    assert np.isnan(uphill.estimated_gain) and "left" not in str(uphill)
