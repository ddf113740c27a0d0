"""Many fits at once: the ends of each alone, whatever the others do."""

import signal
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd import Status
from jaxgd._run import crews, many, queue

X = np.linspace(0, 1, 15)
RATES = np.linspace(0.5, 4, 40)
DECAYS = 2 * np.exp(-RATES[:, None] * X) + 0.01 * np.cos(40 * X)
START = {"a": 1.0, "rate": 1.0}


def decay(p: Any, y: Any, x: Any) -> Any:
    return jnp.sum((p["a"] * jnp.exp(-p["rate"] * x) - y) ** 2) / 2


def row(tree: Any, k: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[k], tree)


def same_bits(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def numbers(result: Any) -> Any:
    return result.params, result.cost, result.gradient, result.best, result.code, result.n_evaluations, result.n_steps


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("in_lanes", [True, False], ids=["lanes", "queue"])
@pytest.mark.parametrize("method", [None, jaxgd.LBFGS(), jaxgd.Adam(0.1)], ids=["default", "LBFGS", "Adam"])
def test_every_fit_ends_as_it_does_alone(method: Any, in_lanes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "is_native", lambda *_: not in_lanes)
    options: dict[str, Any] = {"method": method, "max_steps": 200, "dtype": "float64"}
    found = jaxgd.minimize_many(decay, START, DECAYS, shared=X, **options)
    alone = [jaxgd.minimize(lambda p, data: decay(p, *data), START, (y, X), **options) for y in DECAYS[::13]]
    for k, one in enumerate(alone):
        end = row((found.params, found.cost, found.gradient, found.best.cost, found.start_cost), 13 * k)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9),
            end,
            (one.params, one.cost, one.gradient, one.best.cost, one.start_cost),
        )
        assert found.status[13 * k] is one.status
        assert abs(found.n_evaluations[13 * k] - one.n_evaluations) <= 2  # the last are a matter of rounding
    assert found.status.shape == found.converged.shape == (40,) and found.seconds is not None
    assert str(found).startswith("40 runs: ") and found.at_bounds.shape == (40,)


def test_the_bits_of_a_fit_do_not_depend_on_the_others(compilations: Any) -> None:
    all_fits = jaxgd.minimize_many(decay, START, np.tile(DECAYS, (8, 1)), shared=X)
    same_bits(row(numbers(all_fits), slice(0, 40)), row(numbers(all_fits), slice(280, 320)))
    some = jaxgd.minimize_many(decay, START, DECAYS[7:29], shared=X)
    same_bits(numbers(some), row(numbers(all_fits), slice(7, 29)))
    with compilations() as compiled:
        others = jaxgd.minimize_many(lambda p, y, x: decay(p, y, x), START, DECAYS[6:29], shared=X)  # as many, about
        one = jaxgd.minimize_many(decay, START, DECAYS[7:28], shared=X)
    assert not [name for name in compiled if name == "run_all"]
    same_bits(row(numbers(others), slice(1, 22)), numbers(one))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only programs for CPUs have native functions")
def test_the_bits_of_a_fit_are_those_of_a_run_alone() -> None:
    """Where fits are native functions: in a queue, also inside an outer program, and of `minimize`."""
    alone = [jax.jit(lambda y: jaxgd.minimize(lambda p, y: decay(p, y, X), START, y).params)(y) for y in DECAYS[:3]]
    many = jaxgd.minimize_many(decay, START, DECAYS[:3], shared=X).params
    inside = jax.jit(lambda data: jaxgd.minimize_many(decay, START, data, shared=X).params)(DECAYS[:3])
    for k, one in enumerate(alone):
        same_bits(row(many, k), one)
        same_bits(row(inside, k), one)


def bowl(p: Any, d: Any) -> Any:
    return (p["x"] - d) ** 2 + 3 * (p["y"] - p["x"]) ** 2


def test_starts_bounds_fixed_values_and_methods_of_each() -> None:
    """The minimum of the bowl over x alone is (d + 3 y) / 4."""
    d, y = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.0, 5.0])
    starts = {"x": np.zeros(3), "y": y}
    held = jaxgd.minimize_many(bowl, starts, d, fixed={"x": False, "y": True}, dtype="float64")
    np.testing.assert_allclose(held.params["x"], (d + 3 * y) / 4, rtol=1e-12)
    assert np.array_equal(held.params["y"], y) and np.all(held.gradient["y"] == 0)
    walls = {"x": np.array([2.0, -9.0, 3.5]), "y": None}
    starts = {"x": np.array([4.0, 4.0, 4.0]), "y": y}
    boxed = jaxgd.minimize_many(bowl, starts, d, bounds=(walls, None), fixed={"x": False, "y": True}, dtype="float64")
    np.testing.assert_allclose(boxed.params["x"], np.maximum(walls["x"], (d + 3 * y) / 4), rtol=1e-12)
    assert [("params['x']",) == one for one in boxed.at_bounds] == [True, False, False]
    rates = np.array([0.01, 0.02, 0.04])
    descent = jaxgd.minimize_many(
        lambda p: p**2, np.ones(3), method=jaxgd.GradientDescent(rates), max_steps=5, stop=(), dtype="float64"
    )
    np.testing.assert_allclose(descent.params, (1 - 2 * rates) ** 5, rtol=1e-12)
    drawn = jaxgd.minimize_many(lambda p, d: (p - d) ** 2, jaxgd.normal(), d, key=0)
    assert len(set(np.asarray(drawn.start_cost).tolist())) == 3 and np.allclose(drawn.params, d)


@pytest.mark.slow
def test_transforms_of_parameters() -> None:
    options: dict[str, Any] = {
        "transform": {"a": jaxgd.transforms.Positive(), "rate": jaxgd.transforms.Interval(0, 9)},
        "dtype": "float64",
    }
    starts = {"a": np.linspace(1, 2, 40), "rate": np.full(40, 1.0)}
    found = jaxgd.minimize_many(decay, starts, DECAYS, shared=X, **options)
    alone = jaxgd.minimize(lambda p, data: decay(p, *data), row(starts, 7), (DECAYS[7], X), **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), row(found.params, 7), alone.params)
    same = jaxgd.minimize_many(decay, START, DECAYS, shared=X, **options)
    np.testing.assert_allclose(same.params["rate"], found.params["rate"], rtol=1e-6)
    assert same.unmoved[3] == ()


@pytest.mark.slow
def test_aux_one_fit_half_precision_and_integers() -> None:
    counts = np.array([[3, 1], [5, 2]])
    rates = jaxgd.minimize_many(
        lambda rate, n: (jnp.sum(rate - n.astype(rate.dtype) * jnp.log(rate)), {"sum": jnp.sum(n)}), 1.0, counts, has_aux=True
    )
    np.testing.assert_allclose(rates.params, counts.mean(axis=1), rtol=1e-6)
    assert np.array_equal(rates.aux["sum"], [4, 7])
    one = jaxgd.minimize_many(bowl, {"x": 0.0, "y": 0.0}, np.array([2.0]))
    np.testing.assert_allclose(one.params["x"], [2.0], rtol=1e-5)
    half = jaxgd.minimize_many(
        lambda p, d: (p.astype(jnp.float32) - d) ** 2, jnp.zeros((), jnp.bfloat16), np.arange(3, dtype=np.float32)
    )
    assert half.params.dtype == jnp.bfloat16 and np.array_equal(half.params.astype(np.float32), [0, 1, 2])


def test_bad_data_spoil_their_own_fit_alone() -> None:
    data = np.array(DECAYS)
    data[5, 3] = np.nan
    found = jaxgd.minimize_many(decay, START, data, shared=X)
    assert found.status[5] is Status.NONFINITE_DATA and np.all(np.delete(found.converged, 5))
    same_bits(row(found.params, 4), row(jaxgd.minimize_many(decay, START, DECAYS, shared=X).params, 4))


@pytest.mark.parametrize("in_lanes", [True, False], ids=["lanes", "queue"])
def test_slow_fits_hold_no_other_up(in_lanes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fit in a hundred has a rate a hundred times slower; the ticks of all lanes are counted against the evaluations."""
    ticks: list[int] = []
    run = crews._run_part

    def counted(spec: Any, *arguments: Any) -> Any:
        ticks.append(int((state := run(spec, *arguments)).ticks) * spec.width)
        return state

    monkeypatch.setattr(many, "FITS_ON_DEVICES", many.FITS)
    monkeypatch.setattr(queue, "is_native", lambda *_: not in_lanes)
    monkeypatch.setattr(crews, "_run_part", counted)
    rates = np.where(np.arange(10_000) % 100 == 7, 0.005, 0.5)
    stop = jaxgd.stopping.UpdateTolerance(1e-5)
    found = jaxgd.minimize_many(lambda x, r: r * x**2 / 2, 5.0, rates, method=jaxgd.GradientDescent(1.0), stop=stop)
    evaluations = np.asarray(found.n_evaluations)
    assert np.median(evaluations) < 40 and evaluations.max() > 1000 and np.all(found.converged)
    assert sum(ticks) <= (1.5 if in_lanes else 1) * evaluations.sum()


@pytest.mark.slow
def test_derivatives_and_transformations() -> None:
    """The minimum of the bowl over both is (d, d); over x alone (d + 3 y) / 4."""
    d = np.array([1.0, 2.0, 3.0])

    def params(d: Any, y: Any) -> Any:
        return jaxgd.minimize_many(bowl, {"x": jnp.zeros(3), "y": y}, d, fixed={"x": False, "y": True}).params["x"]

    with jax.enable_x64(True):
        for transform in (jax.jacfwd, jax.jacrev, lambda f, n: jax.jit(jax.jacrev(f, n))):
            of_d, of_y = transform(params, (0, 1))(d, 0 * d)
            np.testing.assert_allclose(of_d, np.eye(3) / 4, atol=1e-12)
            np.testing.assert_allclose(of_y, np.eye(3) * 3 / 4, atol=1e-12)
        plain = params(d, 0 * d)
        np.testing.assert_allclose(jax.jit(params)(d, 0 * d), plain, rtol=1e-12)
        np.testing.assert_allclose(jax.vmap(params)(np.stack([d, -d]), np.zeros((2, 3))), [plain, -plain], rtol=1e-12)
        assert jax.eval_shape(params, d, d).shape == (3,)


@pytest.mark.slow
def test_covariances_of_all_fits() -> None:
    found = jaxgd.minimize_many(decay, START, DECAYS, shared=X, dtype="float64")
    options: dict[str, Any] = {"n_observations": 15, "dtype": "float64"}
    errors = jaxgd.covariance_many(decay, found.params, DECAYS, shared=X, **options)
    alone = jaxgd.covariance(lambda p, data: decay(p, *data), row(found.params, 9), (DECAYS[9], X), **options)
    np.testing.assert_allclose(errors.matrix[9], alone.matrix, rtol=1e-9)
    np.testing.assert_allclose(errors.standard_errors["rate"][9], alone.standard_errors["rate"], rtol=1e-9)
    assert errors.status.shape == (40,) and errors.status[9] is alone.status and errors.matrix.shape == (40, 2, 2)


def test_an_interrupt_returns_what_is_done() -> None:
    """The first 230 fits end at once, and the others, which are more than there are lanes, hardly move."""
    rates = np.where(np.arange(9000) < 230, 1.0, 1e-7)

    def run(max_steps: int) -> Any:
        settings: dict[str, Any] = {"method": jaxgd.GradientDescent(1.0), "stop": jaxgd.stopping.UpdateTolerance(1e-30)}
        return jaxgd.minimize_many(lambda x, r: r * x**2 / 2, 5.0, rates, max_steps=max_steps, **settings)

    run(3)  # to compile
    timer = threading.Timer(1.0, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    began = time.perf_counter()
    found = run(2**31 - 3)
    assert time.perf_counter() - began < 30 and np.all(found.converged[:230]) and np.all(found.params[:230] == 0)
    assert all(status is Status.INTERRUPTED for status in found.status[230:])
    assert found.n_evaluations[230] > 100 and np.isfinite(found.cost[230])
    assert found.n_evaluations[-1] == 0 and np.isinf(found.cost[-1]) and found.params[-1] == 5


def test_a_bar_counts_the_fits(capsys: pytest.CaptureFixture[str]) -> None:
    jaxgd.minimize_many(decay, START, DECAYS, shared=X, progress="lines")
    assert capsys.readouterr().out.startswith("fit 40/40")


BROKEN: list[Any] = [
    ("start", {"start": {"a": 1.0, "rate": 1.0}, "data": None}),
    ("data", {"start": jaxgd.normal(), "key": 0, "data": None}),
    ("data", {"data": (DECAYS, X)}),
    ("bounds\\[0\\]\\['a'\\]", {"bounds": ({"a": np.zeros(3), "rate": None}, None)}),
    ("start\\['a'\\]", {"bounds": ({"a": 2, "rate": None}, None)}),
    ("max_steps", {"max_steps": 0}),
    ("method", {"method": "adam"}),
]


def test_a_cost_that_takes_too_little_is_told_what_it_gets() -> None:
    words = r"as cost\(params, data, shared\), since data and shared were given, as one argument each; got"
    with pytest.raises(TypeError, match=words):
        jaxgd.minimize_many(lambda p, y: p**2, 0.0, DECAYS, shared=X)


@pytest.mark.parametrize(("name", "options"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_arguments(name: str, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"start": START, "data": DECAYS, "shared": X} | options
    if given["data"] is None:
        given.pop("shared")
    cost: Any = decay if given["data"] is not None else lambda p: p["a"] ** 2
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        jaxgd.minimize_many(cost, given.pop("start"), given.pop("data"), **given)
