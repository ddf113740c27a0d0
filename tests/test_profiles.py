"""Intervals, profiles and contours against closed forms, and against MINOS."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxgd
from jaxgd import IntervalStatus
from tests.likelihoods import Likelihood, likelihoods, valley

TEN = likelihoods()
WIDE: dict[str, Any] = {"dtype": "float64"}
RATE = {"rate": 9.0}


def family(p: Any, data: Any) -> Any:
    """One cost with many shapes: parabola, saturation, two valleys, a wall at zero, and a count."""
    bowl, tanh, valleys, wall, count = data
    v = p["v"]
    return (
        bowl * v**2
        + tanh * jnp.tanh(v) ** 2
        + valleys * (v**4 - 5 * v**2 - 3 * v)
        + jnp.where(wall > 0, jnp.where(v > -wall, 0, jnp.nan), 0)
        + jnp.where(count > 0, v - count * jnp.log(jnp.where(count > 0, v, 1)), 0)
        + p["w"] ** 2
    )


def of_family(v: float, *shape: float, **options: Any) -> jaxgd.Intervals:
    return jaxgd.intervals(family, {"v": v, "w": 0.0}, tuple(map(np.float64, shape)), **WIDE, **options)


def ends(found: jaxgd.Intervals) -> tuple[float, float]:
    return float(found.lower["v"]), float(found.upper["v"])


def statuses(found: jaxgd.Intervals) -> list[str]:
    return [one.name for one in found.status[0]]


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_a_count_has_the_roots_of_its_likelihood(sigma: float) -> None:
    found = of_family(9.0, 0, 0, 0, 0, 9, sigma=sigma)

    def above(v: float) -> float:
        return v - 9 * np.log(v / 9) - 9 - sigma**2 / 2

    roots: Any = [scipy.optimize.brentq(above, *bracket, xtol=1e-14) for bracket in ((1e-9, 9.0), (9.0, 90.0))]
    np.testing.assert_allclose(ends(found), roots, rtol=2e-6)
    assert found.valid and found.rise == sigma**2 / 2
    np.testing.assert_allclose(found.costs[0] - found.cost, sigma**2 / 2, rtol=1e-5)
    np.testing.assert_allclose([found.lower["w"], found.upper["w"]], [-sigma / 2**0.5, sigma / 2**0.5], rtol=1e-12)


def test_an_end_that_is_no_crossing_has_its_reason() -> None:
    open_ = of_family(0.0, 0, 0.4, 0, 0, 0)
    assert ends(open_) == (-np.inf, np.inf) and statuses(open_) == ["OPEN", "OPEN"]
    walled = of_family(0.0, 0.25, 0, 0, 1.0, 0)
    assert statuses(walled) == ["NOT_FINITE", "CROSSED"]
    np.testing.assert_allclose(ends(walled), [-1, 2**0.5], rtol=1e-6)
    lower = of_family(-1.4, 0, 0, 1, 0, 0, sigma=3)
    assert statuses(lower) == ["CROSSED", "NEW_MINIMUM"] and not lower.valid and np.isnan(ends(lower)[1])
    point = lower.lowest
    assert point["v"] > 0 and family(point, (0, 0, 1, 0, 0)) == np.float32(lower.costs[0, 1]) and lower.costs[0, 1] < lower.cost
    assert of_family(-1.4, 0, 0, 1, 0, 0, sigma=0.5).lowest is None


@pytest.mark.slow
def test_an_interval_ends_at_its_bounds_and_a_minimum_there_has_the_other_end() -> None:
    within: Any = ({"v": -0.25, "w": None}, {"v": 3.0, "w": None})
    found = of_family(0.0, 0.5, 0, 0, 0, 0, bounds=within)
    assert ends(found) == (-0.25, pytest.approx(1, rel=1e-6)) and statuses(found) == ["AT_BOUND", "CROSSED"]
    pushed: Any = ({"v": 1.0, "w": None}, {"v": 3.0, "w": None})
    found = of_family(1.0, 0.5, 0, 0, 0, 0, bounds=pushed)
    assert ends(found) == (1.0, pytest.approx(2**0.5, rel=1e-6)) and statuses(found) == ["AT_BOUND", "CROSSED"]


def coupled(p: Any) -> Any:
    a, b = p["line"]["a"], p["line"]["b"]
    return (a - 1) ** 2 + (b[0] - a) ** 2 + jnp.sum(b[1:] ** 2) / 2 + a * b[1] / 2


def test_a_parabola_has_the_standard_errors_of_its_covariance_whatever_else_stands_among_the_parameters() -> None:
    start: Any = {"line": {"a": 1.0, "b": [1.0, 0.0, 3.0]}, "name": abs}
    fixed: Any = {"line": {"a": False, "b": np.array([False, False, True])}, "name": False}
    options: Any = {"fixed": fixed, "scale": 1.0, **WIDE}
    best = jaxgd.minimize(coupled, start, fixed=fixed, **WIDE)
    spread = jaxgd.covariance(coupled, best.params, **options).standard_errors["line"]
    found = jaxgd.intervals(coupled, best, **options)
    for name in ("a", "b"):
        errors = spread[name] * np.where(spread[name] > 0, 1, np.nan)
        middle = best.params["line"][name]
        np.testing.assert_allclose(found.lower["line"][name], middle - errors, rtol=1e-9)
        np.testing.assert_allclose(found.upper["line"][name], middle + errors, rtol=1e-9)
    assert found.names[3] == "params['line']['b'][2]" and found.status[3, 0] is IntervalStatus.HELD and found.valid
    np.testing.assert_allclose(found.points["line"]["a"][0], [found.lower["line"]["a"], found.upper["line"]["a"]], rtol=1e-12)
    assert found.points["line"]["b"].shape == (4, 2, 3) and np.all(found.points["line"]["b"][:3, :, 2] == 3)
    assert "params['line']['b'][1]  " in str(found) and "b'][2]" not in str(found)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)

    some = jaxgd.intervals(coupled, best, parameters=["line.b[1]"], **options)
    np.testing.assert_array_equal(some.upper["line"]["b"], [np.nan, found.upper["line"]["b"][1], np.nan])

    walk = jaxgd.profile(coupled, best, None, "line.b[1]", values=[0.5, -3.0, 0.5, 4.0], **options)
    error, middle = spread["b"][1], best.params["line"]["b"][1]
    np.testing.assert_allclose(walk.rise, ((walk.values - middle) / error) ** 2, rtol=1e-9)
    np.testing.assert_allclose([walk.error, walk.value], [error, middle], rtol=1e-12)
    assert walk.rise[0] == walk.rise[2] and walk.points["line"]["b"].shape == (4, 3)


@pytest.mark.slow
@pytest.mark.parametrize("one", TEN, ids=[one.name for one in TEN])
def test_minos_agrees(one: Likelihood) -> None:
    options: dict[str, Any] = {"bounds": one.box, "scale": one.scale, **WIDE}
    found = jaxgd.intervals(one.cost, one.start, one.data, **options)
    errors = jaxgd.covariance(one.cost, found.params, one.data, **options).standard_errors
    for ours, theirs in zip((found.lower, found.upper), one.by_minos, strict=True):
        np.testing.assert_allclose(ours / errors, theirs / errors, rtol=0, atol=2e-4)
    reasons = [status.name for status in found.status.ravel() if status is not IntervalStatus.CROSSED]
    assert reasons == (["AT_BOUND"] if one.name == "signal at a bound" else [])


def test_a_contour_follows_a_bent_valley_to_its_tips() -> None:
    """The extremes of a contour are the ends of intervals, and every point is on it: sharp tips are as good as other points."""
    level = 0.99
    found = jaxgd.contour(valley, [1.0, 1.0], np.float64(1), level=level, n_points=120, **WIDE)
    rise = -np.log(1 - level)
    assert found.valid and found.values.shape == (120, 2) and found.names == ("params[0]", "params[1]")
    costs = valley(found.values.T, 1.0)
    np.testing.assert_allclose(costs, rise, rtol=1e-5)
    np.testing.assert_allclose(found.costs, costs, rtol=1e-12)
    half = (0.8 * rise) ** 0.5
    np.testing.assert_allclose([found.values[:, 0].min(), found.values[:, 0].max()], [1 - half, 1 + half], atol=6e-3)
    x, y = found.values.T  # the contour is x = 1 + half * cos(angle), y = x**2 + sqrt(rise / 4) * sin(angle)
    angles = np.unwrap(np.arctan2((y - x**2) / (rise / 4) ** 0.5, (x - 1) / half))
    assert np.all(np.diff(angles) > 0) and 2 * np.pi - 0.5 < angles[-1] - angles[0] < 2 * np.pi  # once around, never back
    ellipse = found.centre + np.array([[1.0, 0.0], [0.0, 1.0]]) @ found.axes.T
    curved = jax.hessian(valley)(jnp.ones(2), 1.0)
    away = (ellipse - found.centre)[:, None]
    np.testing.assert_allclose([(one @ np.asarray(curved) @ one.T / 2).item() for one in away], rise, rtol=1e-5)


def test_the_contour_of_a_parabola_is_its_ellipse_over_the_minimum_of_the_others() -> None:
    def bowl(p: Any) -> Any:
        return (p["a"] - p["c"]) ** 2 + 3 * (p["b"] + p["c"]) ** 2 + p["c"] ** 2 / 2 + p["a"] * p["b"] / 3

    start = {"a": 0.0, "b": 0.0, "c": 0.0}
    found = jaxgd.contour(bowl, start, None, ("b", "a"), level=0.68, n_points=20, scale=1.0, **WIDE)
    block = jaxgd.covariance(bowl, start, scale=1.0, **WIDE).matrix[np.ix_([1, 0], [1, 0])]
    inside = np.einsum("ki,ij,kj->k", found.values, np.linalg.inv(block), found.values)
    np.testing.assert_allclose(inside, -2 * np.log(1 - 0.68), rtol=1e-9)
    np.testing.assert_allclose(found.rise, -2 * np.log(1 - 0.68), rtol=1e-14)
    np.testing.assert_allclose(found.axes @ found.axes.T, found.rise * block, rtol=1e-12)
    angles = np.unwrap(np.arctan2(*np.linalg.solve(found.axes, found.values.T)[::-1]))
    assert np.all(np.diff(angles) > 0) and angles[-1] - angles[0] < 2 * np.pi


@pytest.mark.slow
def test_a_contour_stops_at_bounds_and_says_where_it_is_open() -> None:
    def bowl(v: Any, flat: Any) -> Any:
        return v[0] ** 2 + jnp.where(flat, 0.8 * jnp.tanh(v[1]) ** 2, v[1] ** 2)

    found = jaxgd.contour(bowl, [0.0, 0.0], np.bool_(True), level=0.68, n_points=32, **WIDE)
    lost = np.isnan(found.values).any(axis=1)
    assert lost.any() and set(found.status[lost]) == {IntervalStatus.OPEN} and "Open" in str(found)
    boxed = jaxgd.contour(bowl, [0.0, 0.0], np.bool_(False), level=0.68, n_points=32, bounds=(-0.5, None), **WIDE)
    held = boxed.status == IntervalStatus.AT_BOUND
    np.testing.assert_array_equal(held, boxed.values.min(axis=1) == -0.5)
    np.testing.assert_allclose((boxed.values[~held] ** 2).sum(axis=1), boxed.rise, rtol=1e-5)


@pytest.mark.slow
def test_every_precision_and_every_way_to_call_gives_the_same() -> None:
    for dtype, rtol in (("float32", 2e-3), ("float64", 1e-6)):
        found = jaxgd.intervals(family, {"v": 9.0, "w": 0.0}, (0.0, 0.0, 0.0, 0.0, 9.0), dtype=dtype)
        np.testing.assert_allclose(ends(found), [6.3236530, 12.3421901], rtol=rtol)
        assert found.lower["v"].dtype == dtype and found.valid


@pytest.mark.slow
def test_a_cost_of_python_and_mapped_calls() -> None:
    def python(p: Any) -> Any:
        return p["rate"] - 9 * jnp.log(p["rate"]) if p["rate"] > 0 else jnp.inf * p["rate"], p

    found = jaxgd.intervals(python, RATE, has_aux=True, jit=False, **WIDE)
    np.testing.assert_allclose([found.lower["rate"], found.upper["rate"]], [6.3236530, 12.3421901], rtol=1e-6)

    def upper(n: Any) -> Any:
        return jaxgd.intervals(lambda v: v - n * jnp.log(v), n).upper

    counts = jnp.array([4.0, 9.0, 16.0])
    many = jax.jit(jax.vmap(upper))(counts)
    np.testing.assert_allclose(many, [upper(one) for one in counts], rtol=1e-5)
    with pytest.raises(TypeError, match="contour: expected numbers, got values that JAX is tracing"):
        jax.vmap(lambda n: jaxgd.contour(lambda v: jnp.sum(v**2) * n, [0.0, 0.0]).values)(counts)


def test_a_function_of_the_parameters_has_the_errors_of_the_delta_method() -> None:
    def cost(p: Any) -> Any:
        return 2 * (p["a"] - 3) ** 2 + (p["b"][0] - 2) ** 2 * 50 + p["a"] * p["b"][0] + 0 * p["b"][1]

    start = {"a": 3.0, "b": [2.0, 1.0]}
    best = jaxgd.minimize(cost, start, **WIDE).params
    found = jaxgd.covariance(cost, best, **WIDE)
    carried = found.propagate(lambda p: {"x": p["a"] * jnp.exp(p["b"][0]), "y": p["b"] + 1})
    jacobian = np.array([[1.0, best["a"]], [0.0, np.exp(-best["b"][0])]]) * np.exp(best["b"][0])
    expected = jacobian @ found.matrix[:2, :2] @ jacobian.T
    np.testing.assert_allclose(carried.matrix[:2, :2], expected, rtol=1e-12)
    np.testing.assert_allclose(carried.standard_errors["x"], expected[0, 0] ** 0.5, rtol=1e-12)
    assert np.isnan(carried.standard_errors["y"][1]) and carried.value["y"].dtype == np.float64
    np.testing.assert_allclose(carried.value["y"], best["b"] + 1, rtol=1e-15)
    assert "value['x']" in str(carried) and "± nan" in str(carried)


def test_a_bootstrap_of_a_mean_has_the_means_of_its_samples() -> None:
    y = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 2)).astype(np.float32)

    def misfit(mean: Any, y: Any) -> Any:
        return jnp.mean((mean - y) ** 2)

    found = jaxgd.bootstrap(misfit, y.mean(axis=0), y, key=3, n_samples=64)
    rows = np.asarray(jax.random.randint(jax.random.key(3), (64, 50), 0, 50, jnp.int32))
    means = y[rows].mean(axis=1)
    np.testing.assert_allclose(found.params, means, rtol=1e-5)
    np.testing.assert_allclose(found.standard_errors, means.std(axis=0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found.matrix, np.cov(means.T), rtol=1e-3)
    np.testing.assert_allclose(found.bias, means.mean(axis=0) - y.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.interval(0.9), np.quantile(means, [0.05, 0.95], axis=0), rtol=1e-5)
    assert found.used.all() and str(found).startswith("Bootstrap of 64 samples: 64 CONVERGED.\n  params[0]  ")


@pytest.mark.slow
def test_a_parametric_bootstrap_fits_what_the_model_draws() -> None:
    x = np.linspace(0, 1, 20)

    def cost(p: Any, y: Any, x: Any) -> Any:
        return jnp.sum((p["slope"] * x + p["offset"] - y) ** 2)

    def draw(p: Any, key: Any) -> Any:
        return p["slope"] * x + p["offset"] + jax.random.normal(key, x.shape)

    best = {"slope": np.ones(()), "offset": np.zeros(())}
    held = {"slope": False, "offset": True}
    found = jaxgd.bootstrap(cost, best, x, shared=x, key=0, n_samples=2000, draw=draw, fixed=held, **WIDE)
    np.testing.assert_allclose(found.standard_errors["slope"], np.sum(x**2) ** -0.5, rtol=0.05)
    assert found.standard_errors["offset"] == 0 and "0 (held)" in str(found)


def test_pictures_of_profiles_show_levels_contours_and_the_minimum() -> None:
    found = jaxgd.profile(family, {"v": 9.0, "w": 0.0}, (0.0, 0.0, 0.0, 0.0, 9.0), "v", n_points=9, **WIDE)
    ax: Any = jaxgd.plot.profile(found)
    assert ax.get_xlabel() == "v" and [line.get_label() for line in ax.lines[-2:]] == ["parabola", "profile"]
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), np.stack([found.values, found.rise], axis=1))
    assert [text.get_text() for text in ax.texts][:2] == [r"$1\sigma$", r"$2\sigma$"]
    assert len(jaxgd.plot.profile(found, parabola=False).lines) == len(ax.lines) - 1
    several = [jaxgd.contour(valley, [1.0, 1.0], np.float64(1), level=level, n_points=20, **WIDE) for level in (0.9, 0.5)]
    ax = jaxgd.plot.contour(several, ellipse=True)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["50 %", "parabola", "90 %", "minimum"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata()[:20], several[1].values)
    np.testing.assert_array_equal(ax.lines[0].get_xydata()[20], several[1].values[0])
