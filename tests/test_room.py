"""Where a run may go: bounds that every evaluation keeps to, and parameters that are held."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import _problem
from jaxgd._objective.evaluation import value_and_gradient
from jaxgd.bounds import Bounds
from tests.problems import X, Y, line

CENTRE = np.array([-3.0, 0.5, 4.0, 0.25])
LOWER, UPPER = np.array([-1.0, 0.0, -np.inf, 0.25]), np.array([1.0, np.inf, 2.0, 0.25])
NEAREST = np.array([-1.0, 0.5, 2.0, 0.25])

METHODS = [
    jaxgd.GradientDescent(0.3),
    jaxgd.GradientDescent(0.1, momentum=0.8),
    jaxgd.Adagrad(1.0),
    jaxgd.RMSProp(jaxgd.schedules.Exponential(0.1, 0.99)),
    jaxgd.Adam(0.05),
    jaxgd.SpectralGradient(),
]


def walled(v: Any) -> Any:
    """A quadratic that is NaN where nobody may look."""
    inside = jnp.all((v >= LOWER.astype(v.dtype)) & (v <= UPPER.astype(v.dtype)))
    return jnp.where(inside, jnp.sum((v - CENTRE.astype(v.dtype)) ** 2), jnp.nan)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_method_ends_at_the_nearest_point_and_never_looks_outside(method: Any, jit: bool) -> None:
    steps = 3000 if jit else 30
    start = np.array([0.0, 5.0, -7.0, 0.25])
    result = jaxgd.minimize(
        walled, start, bounds=(LOWER, UPPER), method=method, max_steps=steps, history="params", dtype="float64", jit=jit
    )
    assert result.history is not None
    assert np.all((result.history.params >= LOWER) & (result.history.params <= UPPER))
    assert result.status is not jaxgd.Status.DIVERGED
    if jit:
        np.testing.assert_allclose(result.params, NEAREST, rtol=1e-6)


def test_the_default_rule_sees_what_a_bound_holds_back() -> None:
    result = jaxgd.minimize(walled, NEAREST + 0.1 * np.array([1, 1, -1, 0]), bounds=(LOWER, UPPER), dtype="float64")
    assert result.converged
    np.testing.assert_allclose(result.params, NEAREST, rtol=1e-12)
    np.testing.assert_allclose(result.gradient, 2 * (NEAREST - CENTRE), atol=1e-9)  # the gradient itself, not its projection


def test_minibatches_keep_within_the_bounds() -> None:
    options: dict[str, Any] = {"batch_size": 2, "n_epochs": 400, "key": 0, "dtype": "float64"}
    result = jaxgd.fit(
        line,
        [0.5, 0.3],
        (X, Y),
        bounds=(None, [None, 0.4]),
        method=jaxgd.GradientDescent([0.05, 5e-4]),
        history="params",
        average=0.5,
        **options,
    )
    assert result.history is not None and result.history.params[:, 1].max() == 0.4
    # The slope is thrown back into the box by half of the batches, which pulls the mean offset off by as much as a step does.
    assert abs(result.params[0] - np.mean(Y - 0.4 * X)) < 2 and result.params[1] <= 0.4


def test_the_forms_of_bounds() -> None:
    params = {"a": jnp.float32(1.0), "b": jnp.zeros(3)}

    class OfSciPy:
        lb, ub = -2.0, 3.0

    assert Bounds.of((None, None), params) is None and Bounds.of(None, params) is None
    for bounds in (OfSciPy(), (-2.0, 3.0), [-2, {"a": 3, "b": [3, 3.0, 3]}]):
        box = Bounds.of(bounds, params)
        assert box is not None
        np.testing.assert_array_equal(box.lower["b"], [-2, -2, -2])
        assert float(box.upper["a"]) == 3 and box.upper["a"].dtype == np.float32
    box = Bounds.of((None, {"a": 0.1, "b": [None, 2, None]}), params)
    assert box is not None and float(box.upper["a"]) <= 0.1 < float(np.nextafter(box.upper["a"], np.float32(1)))  # rounded inwards
    np.testing.assert_array_equal(box.upper["b"], [np.inf, 2, np.inf])


@pytest.mark.slow
def test_a_random_start_is_moved_into_the_box() -> None:
    result = jaxgd.minimize(walled, jaxgd.normal(4, 10.0), key=0, bounds=(LOWER, UPPER), max_steps=1, history="params")
    assert result.status is not jaxgd.Status.DIVERGED
    lanes = jax.vmap(lambda v: jaxgd.minimize(lambda x: (x - 3) ** 2, v, bounds=(-1, 1)).params)(jnp.linspace(-5, 5, 3))
    np.testing.assert_allclose(lanes, 1, rtol=1e-6)


def curve(params: Any, data: Any = None) -> Any:
    x = jnp.linspace(0, 1, 5, dtype=params["rate"].dtype) if data is None else data
    return jnp.mean((params["height"] * jnp.exp(-params["rate"] * x) + jnp.sum(params["shift"]) - 2 / (1 + x)) ** 2)


@pytest.mark.parametrize("method", [jaxgd.SpectralGradient(), jaxgd.Adam(0.1)])
def test_a_fixed_parameter_is_as_if_it_were_a_number(method: Any) -> None:
    start = {"height": 1.5, "rate": 0.7, "shift": np.array([0.1, 0.2])}
    options: dict[str, Any] = {"method": method, "max_steps": 20, "dtype": "float64", "history": "params"}
    result = jaxgd.minimize(curve, start, fixed={"height": False, "rate": True, "shift": [False, True]}, **options)

    def of_the_rest(free: Any) -> Any:
        shift = jnp.stack([free["shift"][0], jnp.asarray(0.2, free["shift"].dtype)])
        return curve({"height": free["height"], "rate": jnp.asarray(0.7, shift.dtype), "shift": shift})

    rest = jaxgd.minimize(of_the_rest, {"height": 1.5, "shift": np.array([0.1])}, **options)
    # Two programs that round each their own way, twenty steps long.
    np.testing.assert_allclose(result.params["height"], rest.params["height"], rtol=1e-11)
    np.testing.assert_allclose(result.params["shift"], [rest.params["shift"][0], 0.2], rtol=1e-11)
    assert (result.params["rate"], result.params["shift"][1], result.best.params["rate"]) == (0.7, 0.2, 0.7)
    assert result.gradient["rate"] == 0 and result.gradient["shift"][1] == 0 != result.gradient["height"]
    assert result.history is not None
    assert result.history.params["shift"].shape == (result.n_steps + 1, 2) and np.all(result.history.params["rate"] == 0.7)


def test_no_derivative_is_taken_for_what_is_held(compilations: Any) -> None:
    def cost(params: Any) -> Any:
        return jnp.sin(params["held"]) * params["free"] ** 2 + jnp.sum(jnp.tanh(params["part"]))

    def primitives(fixed: Any) -> list[str]:
        start = {"held": jnp.float32(1), "free": jnp.float32(2), "part": jnp.ones(3, jnp.float32)}
        params, held, _ = _problem.split_parameters(start, fixed, None)
        made = value_and_gradient(cost, has_aux=False, held=held.held if held else None)
        traced = jax.make_jaxpr(made)(params, *((held.values,) if held else ()))
        return [equation.primitive.name for equation in traced.jaxpr.eqns]

    assert "cos" in primitives(None) and "cos" not in primitives({"held": True, "free": False, "part": False})

    def run(value: float) -> Any:
        start = {"held": value, "free": 2.0, "part": np.ones(3)}
        fixed = {"held": True, "free": False, "part": True}
        return jaxgd.minimize(cost, start, fixed=fixed, method=jaxgd.GradientDescent(0.1), max_steps=3)

    first = run(1.0)
    with compilations() as compiled:
        second = run(0.5)
    assert not compiled and first.params["free"] != second.params["free"]


def test_learning_rates_and_bounds_of_what_is_free() -> None:
    start = {"a": np.zeros(3), "b": 0.0}
    fixed = {"a": [True, False, False], "b": True}
    cost = lambda p: jnp.sum((p["a"] - 1) ** 2) / 2 + p["b"] ** 2  # noqa: E731
    for rate in (
        {"a": np.array([0.5, 0.25, 0.125]), "b": 1.0},
        lambda step: {"a": jnp.array([0.5, 0.25, 0.125]), "b": jnp.float32(1) + 0 * step.astype(jnp.float32)},
    ):
        method = jaxgd.GradientDescent(rate)
        result = jaxgd.minimize(
            cost, start, fixed=fixed, bounds=(None, {"a": [0, 0.2, None], "b": 0}), method=method, max_steps=1, dtype="float64"
        )
        np.testing.assert_allclose(result.params["a"], [0, 0.2, 0.125], rtol=1e-12)
    fitted = jaxgd.fit(
        lambda p, x: jnp.mean((p["a"][1] - x) ** 2) + p["b"] ** 2 + 0 * jnp.sum(p["a"]),
        start,
        np.arange(6.0),
        fixed=fixed,
        batch_size=4,
        n_epochs=300,
        key=0,
        history="params",
        validation=np.arange(6.0),
        method=jaxgd.Adam(0.05),
    )
    assert fitted.history is not None
    assert fitted.params["b"] == 0 == fitted.params["a"][0] and fitted.history.params["a"].shape == (301, 3)
    assert abs(fitted.params["a"][1] - 2.5) < 0.3


@pytest.mark.parametrize("place", [0.1, -0.7, 1 / 3, 1e-9])
def test_a_start_at_a_bound_that_single_precision_rounds_is_at_that_bound(place: float) -> None:
    def tilted(v: Any, slope: Any) -> Any:
        return v**2 + slope * v

    for bounds, side in (((None, place), 1.0), ((place, None), -1.0)):
        result = jaxgd.minimize(tilted, place, -10 * side, bounds=bounds, dtype="float32")
        assert side * (float(result.params) - place) <= 0  # within the bound, and no more than a rounding away
        np.testing.assert_allclose(result.params, place, rtol=2 * float(np.finfo(np.float32).eps))
    with pytest.raises(ValueError, match=r"^start: expected a value within the bounds"):
        jaxgd.minimize(tilted, place + 1e-6, 1.0, bounds=(None, place), dtype="float32")
