"""Parameters with a domain: round trips, minima in closed form, and all that a user sees in the parameters themselves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import CovarianceStatus
from jaxgd.stopping import GradientTolerance
from jaxgd.transforms import Interval, Ordered, Positive, Simplex, Transform

COUNTS = np.array([[1.0, 2.0, 5.0], [4.0, 4.0, 2.0]])
CENTRES = np.array([-1.0, 0.5, 5.0, 7.0])
START: dict[str, Any] = {
    "scale": 0.1,
    "share": np.array([0.1, 0.5]),
    "weights": np.array([[0.2, 0.3, 0.5], [0.3, 0.3, 0.4]]),
    "knots": np.arange(4.0),
    "rest": {"offset": 0.0, "name": None},
}
TRANSFORM = {"scale": Positive(), "share": Interval(0, [1, 2]), "weights": Simplex(), "knots": Ordered(), "rest": None}
MINIMUM = {
    "scale": 3.0,
    "share": np.array([0.3, 0.6]),
    "weights": COUNTS / COUNTS.sum(axis=1, keepdims=True),
    "knots": CENTRES,
    "rest": {"offset": 4.0, "name": None},
}


def cost(q: Any, counts: Any) -> Any:
    shares = q["share"] / jnp.asarray([1.0, 2.0], q["share"].dtype)
    return (
        q["scale"]
        - 3 * jnp.log(q["scale"])
        - jnp.sum(3 * jnp.log(shares) + 7 * jnp.log(1 - shares))
        - jnp.sum(counts * jnp.log(q["weights"]))
        + jnp.sum((q["knots"] - jnp.asarray(CENTRES, q["knots"].dtype)) ** 2)
        + (q["rest"]["offset"] - 4) ** 2
    )


def minimize(start: Any = START, **options: Any) -> jaxgd.Result:
    settings: dict[str, Any] = {"transform": TRANSFORM, "dtype": "float64"} | options
    return jaxgd.minimize(cost, start, COUNTS, **settings)


def close(found: Any, expected: Any, rtol: float = 1e-9) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol), found, expected)


def inside(q: Any) -> bool:
    q = jax.tree.map(np.asarray, q)
    whole = np.abs(np.sum(q["weights"], axis=-1) - 1) < 1e-12
    limits = (q["share"] > 0) & (q["share"] < [1, 2])
    return all(map(np.all, (q["scale"] > 0, limits, q["weights"] > 0, whole, np.diff(q["knots"]) > 0)))


POINTS: list[tuple[Transform, Any]] = [
    (Positive(), [1e-30, 1e-3, 1.0, 1e30]),
    (Positive(), 2.5),
    (Interval(0, 1), [1e-30, 0.3, 0.5, 1 - 2.0**-23]),
    (Interval(-1, 0), [-1e-30, -0.25, -1 + 2.0**-23]),
    (Interval([-5.0, 0.0], [[1e6], [7.0]]), [[-4.5, 3.0], [1.0, 6.0]]),
    (Simplex(), [[[1e-30, 0.25, 0.75], [0.2, 0.3, 0.5]]]),
    (Simplex(), [0.5, 0.5]),
    (Ordered(), [[1.0, 2.0, 3.0], [5.0, 5.5, 7.0]]),
    (Ordered(), [-1e30, 0.0, 1.0, 1e30]),
    (Ordered(), [3.0]),
]


@pytest.mark.parametrize("wide", [False, True])
def test_round_trips_are_exact_to_the_rounding_of_the_unconstrained_numbers(wide: bool) -> None:
    with jax.enable_x64(wide):
        dtype = jnp.result_type(float)
        points = [np.asarray(x, dtype) for _, x in POINTS]
        inverted = jax.jit(lambda xs: [transform.inverse(x) for (transform, _), x in zip(POINTS, xs, strict=True)])(points)
        found = jax.jit(lambda us: [transform.forward(u) for (transform, _), u in zip(POINTS, us, strict=True)])(inverted)
    for (transform, _), x, u, back in zip(POINTS, points, inverted, found, strict=True):
        assert u.shape == transform.unconstrained_shape(x.shape) and back.shape == x.shape and back.dtype == u.dtype == dtype
        units = np.maximum(np.max(np.abs(np.asarray(u))), 1)
        scale = np.max(np.abs(x)) if isinstance(transform, Ordered) else np.abs(x)
        np.testing.assert_array_less(np.abs(np.asarray(back) - x) / scale, 4 * units * float(jnp.finfo(dtype).eps))
        assert np.all(transform.contains(x))


@pytest.mark.parametrize("wide", [False, True])
def test_no_limit_is_reached_and_slopes_stay_finite(wide: bool) -> None:
    limits = [Interval(0, 1), Interval(-1, 0), Interval(0.1, 0.7), Interval(-3e38, -1.0)]

    @jax.jit
    def own(u: Any) -> Any:
        return Positive().forward(u), Simplex().forward(jnp.stack([u, -u])), [one.forward(jnp.append(u, 1e30)) for one in limits]

    @jax.jit
    def curvatures(u: Any) -> Any:
        some = (Positive(), Interval(0, 1), Simplex(), Ordered())
        return [jax.hessian(lambda u, one=one: jnp.sum(one.forward(u) ** 2))(u) for one in some]

    with jax.enable_x64(wide):
        positive, shares, between = own(jnp.asarray([-1e30, -1e4, -100.0, -20.0, 20.0, 80.0], jnp.result_type(float)))
        assert all(np.all(np.isfinite(one)) for u in (0.0, -1e4, -50.0) for one in curvatures(jnp.full(3, u)))
    assert np.all(Positive().contains(np.asarray(positive))) and np.all(Simplex().contains(np.asarray(shares)))
    for transform, x in zip(limits, map(np.asarray, between), strict=True):
        assert np.all(transform.contains(x)) and np.all(np.diff(x) >= 0)


def test_a_minimum_with_every_transform() -> None:
    views: list[Any] = []
    result: Any = minimize(history=("params", "gradient_norm"), callback=views.append)
    close(result.params, MINIMUM, 1e-8)
    assert result.converged and inside(result.params) and result.unmoved == () and result.at_bounds == ()
    assert jax.tree.map(np.shape, result.gradient) == jax.tree.map(np.shape, START | {"weights": np.zeros((2, 2))})
    assert result.history.params["weights"].shape == (result.n_steps + 1, 2, 3) and inside(result.history.params)
    last = jax.tree.map(lambda leaf: leaf[-1], result.history.params)
    close(last, result.params, 1e-15)
    close(jax.tree.map(lambda leaf: leaf[0], result.history.params), START, 1e-14)
    jax.tree.map(np.testing.assert_array_equal, views[-1].params, result.params)
    assert inside(views[0].best.params) and inside(result.best.params)
    with jax.enable_x64(True):
        close(result.cost, cost(jax.tree.map(jnp.asarray, result.params), jnp.asarray(COUNTS)), 1e-13)


def test_what_is_fixed_stays_to_the_bit() -> None:
    outside = START | {"weights": np.full((2, 3), 0.7)}
    fixed = {"scale": False, "share": [True, False], "weights": True, "knots": False, "rest": False}
    upper = {"scale": None, "share": None, "weights": 1.0, "knots": None, "rest": 2.0}
    result: Any = minimize(
        outside, fixed=fixed, bounds=(None, upper), method=jaxgd.GradientDescent(0.02), stop=GradientTolerance(1e-9)
    )
    assert result.converged and result.params["share"][0] == 0.1 and result.params["rest"]["offset"] == 2
    np.testing.assert_array_equal(result.params["weights"], 0.7)
    close(result.params["share"][1], 0.6)
    close(result.params["knots"], CENTRES)
    assert result.at_bounds == ("params['rest']['offset']",)


@pytest.mark.slow
def test_a_fixed_number_may_lie_at_the_edge_and_python_may_run() -> None:
    zero = jaxgd.minimize(lambda x: x[0] + jnp.sum((x - 2) ** 2), [0.0, 0.5], transform=Positive(), fixed=[True, False])
    np.testing.assert_allclose(zero.params, [0.0, 2.0], rtol=1e-5)

    def branching(p: Any) -> Any:
        return p if p > 9 else (p - 3) ** 2

    result = jaxgd.minimize(branching, 1.0, transform=Interval(0, 10), jit=False, dtype="float64")
    close(result.params, 3.0, 1e-7)


def test_first_order_steps_are_those_of_the_unconstrained_numbers() -> None:
    y = np.array([1.0, 4.0, 2.0, 5.0])
    u = np.log(0.5)
    for _ in range(3):
        u -= 0.1 * np.exp(u) * 2 * (np.exp(u) - y.mean())
    settings: dict[str, Any] = {"method": jaxgd.GradientDescent(0.1), "transform": Positive(), "dtype": "float64"}
    mean = lambda x, y: jnp.mean((x - y) ** 2)  # noqa: E731
    stepped = jaxgd.minimize(mean, 0.5, y, max_steps=3, stop=(), **settings)
    fitted: Any = jaxgd.fit(mean, 0.5, y, batch_size=4, n_epochs=3, key=0, history="params", validation=y[:2], **settings)
    np.testing.assert_allclose([stepped.params, fitted.params, fitted.history.params[-1]], np.exp(u), rtol=1e-14)
    close(fitted.best.cost, fitted.history.validation_cost.min(), 1e-14)
    close(stepped.gradient, np.exp(u) * 2 * (np.exp(u) - y.mean()), 1e-13)


@pytest.mark.slow
def test_minibatches_with_a_search_and_an_average() -> None:
    data = np.exp(np.random.default_rng(0).normal(2.0, 0.5, size=400))

    def likelihood(q: Any, y: Any) -> Any:
        return jnp.mean(jnp.log(q["sigma"]) + ((jnp.log(y) - jnp.log(q["mu"])) / q["sigma"]) ** 2 / 2)

    def by_hand(u: Any, y: Any) -> Any:
        return likelihood(jax.tree.map(jnp.exp, u), y)

    options: dict[str, Any] = {"batch_size": 20, "n_epochs": 10, "key": 0, "average": 0.5, "dtype": "float64"}
    result = jaxgd.fit(likelihood, {"mu": 1.0, "sigma": 1.0}, data, transform=Positive(), **options)
    same = jaxgd.fit(by_hand, {"mu": 0.0, "sigma": 0.0}, data, **options)
    close(result.params, jax.tree.map(np.exp, same.params), 1e-12)
    close(result.gradient, same.gradient, 1e-11)


@pytest.mark.slow
def test_many_starts_and_16_bits() -> None:
    def flat(x: Any) -> Any:
        return jnp.sum(x - 2 * jnp.log(x))

    many: Any = jaxgd.minimize(flat, jaxgd.sobol([1e-3, 1e-3], 9.0), key=0, n_starts=4, transform=Positive(), dtype="float64")
    np.testing.assert_allclose(many.starts.params, np.full((4, 2), 2.0), rtol=1e-7)
    shares = jaxgd.minimize(lambda p: -jnp.sum(jnp.log(p)), jnp.array([0.2, 0.3, 0.5], jnp.bfloat16), transform=Simplex())
    np.testing.assert_array_equal(shares.params, jnp.full(3, 1 / 3, jnp.bfloat16))
    narrow = jaxgd.minimize(flat, jnp.ones(2, jnp.bfloat16), transform=Positive(), method=jaxgd.Adam(0.1), max_steps=300)
    assert narrow.params.dtype == jnp.bfloat16 and np.all(np.abs(np.asarray(narrow.params, np.float32) - 2) < 0.05)


def test_other_numbers_compile_nothing(compilations: Any) -> None:
    def run(high: float, centre: float) -> Any:
        options: dict[str, Any] = {"transform": Interval(0.25, high), "history": "params", "dtype": "float64"}
        result: Any = jaxgd.minimize(lambda x: (x - centre) ** 2, 0.5, **options)
        close([result.params, result.history.params[-1]], [centre, centre], 1e-7)
        return result.n_steps

    first = run(4.0, 3.0)
    with compilations() as compiled:
        assert run(5.0, 4.75) != first
    assert not compiled


def test_a_run_goes_on_with_its_own_transform_alone() -> None:
    def run(n_steps: int, transform: Any, **options: Any) -> Any:
        method = jaxgd.GradientDescent(0.1)
        return jaxgd.minimize(lambda x: (x - 3) ** 2, 0.5, method=method, max_steps=n_steps, transform=transform, **options)

    whole, half = run(6, Interval(0, 4)), run(3, Interval(0, 4))
    np.testing.assert_array_equal(run(6, Interval(0, 4), resume=half).params, whole.params)
    for other in (Interval(0, 5), Positive(), None):
        with pytest.raises(ValueError, match=r"^resume: transform differs from that of the run to go on with: expected .*Interval"):
            run(6, other, resume=half)


MADE = {"positive": (Positive(), 0.5), "interval": (Interval(0, 9), 0.5), "simplex": (Simplex(), np.array([0.2, 0.3, 0.5]))}


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_derivatives_of_a_minimum_of_both_orders(name: str) -> None:
    transform, start = MADE[name]

    def closed(t: Any) -> Any:
        return t / jnp.sum(t) if name == "simplex" else t[0] * t[1] / t[2]

    def found(t: Any) -> Any:
        def cost(x: Any) -> Any:
            return -jnp.sum(t * jnp.log(x)) if name == "simplex" else (x - t[0] * t[1] / t[2]) ** 2

        return jaxgd.minimize(cost, start, transform=transform).params

    with jax.enable_x64(True):
        t = jnp.array([1.0, 2.0, 5.0])
        for derivative in (jax.jacfwd, jax.jacrev, jax.hessian):
            close(derivative(found)(t), derivative(closed)(t), 1e-7)


def test_shares_move_with_the_counts() -> None:
    def found(counts: Any) -> Any:
        method, stop = jaxgd.GradientDescent(0.5), GradientTolerance(1e-12)
        cost = lambda p: -jnp.sum(counts * jnp.log(p))  # noqa: E731
        return jaxgd.minimize(cost, [0.3, 0.7], transform=Simplex(), method=method, stop=stop).params

    with jax.enable_x64(True):
        counts = jnp.array([1.0, 3.0])
        close(jax.jacrev(found)(counts), np.array([[3.0, -1.0], [-3.0, 1.0]]) / 16, 1e-9)


@pytest.mark.slow
def test_derivatives_with_respect_to_limits_fixed_values_and_steps() -> None:
    def middle(high: Any) -> Any:
        return jaxgd.minimize(lambda x: (x - high / 2) ** 2, 0.5, transform=Interval(0.0, high)).params

    def beside(value: Any) -> Any:
        start = jnp.stack([value, 1.0])
        return jaxgd.minimize(lambda x: (x[1] - x[0] ** 2) ** 2, start, transform=Positive(), fixed=[True, False]).params

    def stepped(start: Any) -> Any:
        options: dict[str, Any] = {"method": jaxgd.GradientDescent(0.1), "max_steps": 1, "implicit": False}
        return jaxgd.minimize(lambda x: x, start, transform=Positive(), **options).params

    with jax.enable_x64(True):
        close(jax.grad(middle)(3.0), 0.5, 1e-8)
        close(jax.jacrev(beside)(1.5), np.array([1.0, 3.0]), 1e-7)
        close(jax.grad(stepped)(2.0), (1 - 0.2) * np.exp(-0.2), 1e-12)  # x exp(-0.1 x)


def test_covariances_are_propagated_to_the_parameters() -> None:
    counts, p = COUNTS[0], COUNTS[0] / 8

    def deviance(q: Any) -> Any:  # log-normal in a, a line in b, increasing c, shares p, nothing in d
        c = q["c"] - jnp.asarray([1.0, 2.0], q["c"].dtype)
        squares = 50 * (jnp.log(q["a"]) - 3) ** 2 + (q["b"] - 1) ** 2 / 8 + 100 * (c[0] ** 2 + c[0] * c[1] + c[1] ** 2)
        return squares - jnp.sum(counts * jnp.log(q["p"])) + 0 * q["d"]

    at = {"a": np.exp(3.0), "b": 1.0, "c": np.array([1.0, 2.0]), "d": 0.5, "p": p}
    transform = {"a": Positive(), "b": None, "c": Ordered(), "d": Positive(), "p": Simplex()}
    fixed = {"a": False, "b": False, "c": False, "d": True, "p": False}
    found = jaxgd.covariance(deviance, at, transform=transform, fixed=fixed, dtype="float64")
    expected = np.zeros((8, 8))
    expected[0, 0], expected[1, 1] = (0.1 * np.exp(3)) ** 2, 4.0
    expected[2:4, 2:4] = np.linalg.inv([[200.0, 100.0], [100.0, 200.0]])
    expected[5:, 5:] = (np.diag(p) - np.outer(p, p)) / 8  # multinomial: singular
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-12, atol=1e-15)
    assert found.valid and found.names[4:6] == ("params['d']", "params['p'][0]")
    np.testing.assert_allclose(found.standard_errors["p"], np.sqrt(p * (1 - p) / 8), rtol=1e-13)
    np.testing.assert_array_equal(np.diagonal(found.correlation), [1, 1, 1, 1, 0, 1, 1, 1])
    assert found.standard_errors["d"] == 0 and "0.5 ± 0 (held)" in str(found)
    lost = jaxgd.covariance(deviance, at, transform=transform, dtype="float64")
    assert lost.status is CovarianceStatus.SINGULAR and np.isnan(lost.standard_errors["d"])
    np.testing.assert_allclose(
        np.delete(np.delete(lost.matrix, 4, 0), 4, 1), np.delete(np.delete(expected, 4, 0), 4, 1), atol=1e-12
    )


@pytest.mark.slow
def test_covariances_of_many_points_and_of_residuals() -> None:
    def one(p: Any) -> Any:
        return jaxgd.covariance(lambda x: (jnp.log(x) - jnp.log(p)) ** 2 * 50, p, transform=Positive()).standard_errors

    points = jnp.asarray([0.5, 2.0, 8.0], jnp.float32)
    np.testing.assert_allclose(jax.vmap(one)(points), 0.1 * points, rtol=1e-5)
    x, y = np.arange(5.0), np.array([1.1, 1.9, 3.2, 3.9, 5.1])
    line = lambda v, data: v[0] + v[1] * data[0] - data[1]  # noqa: E731
    best = jaxgd.minimize(lambda v, data: jnp.sum(line(v, data) ** 2), [1.0, 1.0], (x, y), dtype="float64").params
    plain, through = (
        jaxgd.covariance(None, best, (x, y), residuals=line, dtype="float64", transform=transform)
        for transform in (None, Interval(-9, 9))
    )
    close(through.matrix, plain.matrix, 1e-10)  # JᵀJ has no curvature of the transform


def test_a_transform_of_the_users_own() -> None:
    @jaxgd.pytree
    class Polar(Transform):
        radius: Any

        def forward(self, u: Any) -> Any:
            return jnp.asarray(self.radius, u.dtype) * jnp.stack([jnp.cos(u), jnp.sin(u)], axis=-1)

        def inverse(self, x: Any) -> Any:
            return jnp.arctan2(x[..., 1], x[..., 0])

        def unconstrained_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
            if shape[-1:] != (2,):
                raise ValueError(f"Polar: expected pairs along the last axis, got shape {shape}.")
            return shape[:-1]

        def contains(self, x: Any) -> Any:
            return np.isclose(np.linalg.norm(x, axis=-1, keepdims=True), self.radius)

    def away(x: Any) -> Any:
        return jnp.sum(x @ jnp.asarray([3.0, 4.0], x.dtype))

    result = jaxgd.minimize(away, [[0.0, 5.0], [5.0, 0.0]], transform=Polar(5.0), dtype="float64")
    np.testing.assert_allclose(result.params, [[-3, -4], [-3, -4]], rtol=1e-7)
    with pytest.raises(ValueError, match=r"^transform: Polar: expected pairs along the last axis, got shape \(3,\)\.$"):
        jaxgd.minimize(away, [1.0, 2.0, 3.0], transform=Polar(5.0))
    with pytest.raises(ValueError, match=r"^start\[1\]: expected a value in the domain, .* Polar, got \[5\.0, 1\.0\]\.$"):
        jaxgd.minimize(away, [[0.0, 5.0], [5.0, 1.0]], transform=Polar(5.0))
