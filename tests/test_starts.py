"""Many random starts in one program: the same ends as one by one, the best returned, bad ones no harm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

import jaxgd
from jaxgd import Status, _sobol
from jaxgd._run import driver, queue
from jaxgd._run import many as lanes_of_many
from tests.problems import quartic

LOW, HIGH = {"a": -3.0, "b": np.array([0.0, 1.0])}, {"a": -2.0, "b": np.array([[2.0], [9.0]])}


def test_the_direction_numbers_are_those_of_joe_and_kuo() -> None:
    ours = np.asarray(_sobol.points(jnp.asarray(_sobol.directions(_sobol.MOST)), 1024)) / 2.0**32
    np.testing.assert_array_equal(ours, qmc.Sobol(_sobol.MOST, scramble=False, bits=32).random(1024))
    assert _sobol.MOST == 64 and _sobol.directions(3).shape == (3, 32)


def test_a_scrambled_sequence_stays_even_and_begins_alike_however_long_it_is() -> None:
    key, start = jax.random.key(1), jaxgd.sobol(np.zeros(5), 1.0)
    points = np.asarray(start.many(key, 256))
    for k in range(5):  # a (t, m, s)-net: one point in each slice
        np.testing.assert_array_equal(np.sort((points[:, k] * 256).astype(int)), np.arange(256))
    pairs = (points[:, 0] * 16).astype(int) * 16 + (points[:, 1] * 16).astype(int)
    np.testing.assert_array_equal(np.sort(pairs), np.arange(256))
    for count in (1, 7):
        np.testing.assert_array_equal(start.many(key, count), points[:count])
    np.testing.assert_array_equal(start(key), points[0])
    assert len({float(start(jax.random.key(k))[0]) for k in range(20)}) == 20


@pytest.mark.parametrize("make", [jaxgd.uniform, jaxgd.sobol])
def test_a_start_in_a_box_depends_on_the_key_alone(make: Any) -> None:
    start, jitted = make(LOW, HIGH), jax.jit(make(LOW, HIGH))
    narrow = start(3)
    for leaf, low, high in zip(*map(jax.tree.leaves, (narrow, LOW, HIGH)), strict=True):
        assert leaf.dtype == jnp.float32 and np.all((np.asarray(leaf) > low) & (np.asarray(leaf) < high))
    with jax.enable_x64(True):
        wide = start(3)
    for one, other, again in zip(*map(jax.tree.leaves, (narrow, wide, jitted(jax.random.key(3)))), strict=True):
        assert one.shape in ((), (2, 2)) and other.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=0, atol=2.0**-22 * 9)
        np.testing.assert_allclose(one, again, rtol=1e-6)


def test_the_numbers_of_starts_are_the_same_in_every_version() -> None:
    known = {
        jaxgd.uniform: ["0x1.1cee8p-7", "0x1.685aap-5"],
        jaxgd.sobol: ["0x1.eaf7e2p-1", "0x1.7dc22ap-1"],
    }
    for make, numbers in known.items():
        found = np.asarray(make([0.0, 0.0], 1.0)(3))
        np.testing.assert_array_equal(found, [float.fromhex(number) for number in numbers])


def test_no_start_lies_at_the_upper_limit() -> None:
    key, above = jax.random.key(0), np.nextafter(np.float32(1), np.float32(2))
    np.testing.assert_array_equal(jaxgd.uniform(np.ones(1000), float(above))(key), 1)  # there is no other number
    np.testing.assert_array_equal(jaxgd.sobol(1.0, float(above)).many(key, 1000), 1)
    huge = jaxgd.uniform(np.full(1000, -3e38), 3e38)(key)
    assert np.all(np.isfinite(huge)) and abs(np.mean(np.asarray(huge) / 3e38)) < 0.1
    moments = np.asarray(jaxgd.uniform(np.zeros(10_000), 2.0)(key))
    assert abs(moments.mean() - 1) < 0.02 and abs(moments.var() - 1 / 3) < 0.01


def test_limits_may_be_traced() -> None:
    def drawn(low: Any) -> Any:
        return jaxgd.sobol([0.0, low], 8.0)(jax.random.key(0))

    np.testing.assert_allclose(jax.jit(drawn)(4.0), drawn(4.0), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda low: drawn(low)[1])(4.0), 1 - (drawn(4.0)[1] - 4) / 4, rtol=1e-6)


def test_runs_begin_at_the_points_of_a_sequence() -> None:
    # With bounds, half the points are projected; a user's own object may give many starts, too.
    class Grid:
        def __call__(self, key: Any) -> Any:
            return self.many(key, 1)[0]

        def many(self, key: Any, count: int) -> Any:
            del key
            return jnp.linspace(-1.0, 1.0, count)

    run: dict[str, Any] = {"key": 5, "method": jaxgd.GradientDescent(0.0625), "max_steps": 1, "stop": ()}
    sequence = jaxgd.sobol(-1.0, 1.0)
    for start, points in ((sequence, sequence.many(jax.random.key(5), 8)), (Grid(), np.linspace(-1, 1, 8, dtype=np.float32))):
        found = jaxgd.minimize(lambda x: 4 * x**2, start, n_starts=8, **run)
        np.testing.assert_allclose(found.starts.params, np.asarray(points) / 2, rtol=1e-6)
    inside = jaxgd.minimize(lambda x: x, sequence, n_starts=8, bounds=(0, None), **run)
    expected = np.maximum(np.asarray(sequence.many(jax.random.key(5), 8)), 0)
    np.testing.assert_allclose(inside.starts.params, np.maximum(expected - 0.0625, 0), rtol=1e-6, atol=1e-7)
    alone = jaxgd.minimize(lambda x: 4 * x**2, sequence, **run)
    np.testing.assert_allclose(alone.params, sequence(jax.random.key(5)) / 2, rtol=1e-6)


def rastrigin(x: Any) -> Any:
    return 10 * x.size + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))


def styblinski_tang(x: Any) -> Any:
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


@pytest.mark.slow
def test_the_global_minimum_is_found() -> None:
    valley = jaxgd.minimize(quartic, jaxgd.normal(scale=3.0), key=0, n_starts=20, dtype="float64")
    np.testing.assert_allclose(valley.cost, -11.20033470869566, rtol=1e-14)
    assert valley.converged and "best of   20 starts" in str(valley)
    tang = jaxgd.minimize(styblinski_tang, jaxgd.normal(5, 3.0), key=0, n_starts=200, dtype="float64")
    np.testing.assert_allclose(tang.params, -2.903534027771177, rtol=1e-8)
    comb = jaxgd.minimize(rastrigin, jaxgd.normal(5), key=0, n_starts=1000, dtype="float64")
    np.testing.assert_allclose(comb.params, 0, atol=1e-9)
    assert comb.starts is not None and comb.starts.cost.shape == (1000,) and comb.cost == comb.starts.cost.min()


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 3, 8])
@pytest.mark.parametrize("method", [None, jaxgd.GradientDescent(0.02)], ids=["default", "GradientDescent"])
def test_every_end_is_that_of_a_run_alone(method: Any, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_of_many, "STARTS", lanes)
    monkeypatch.setattr(queue, "is_native", lambda *_: lanes == 1)
    start = jaxgd.normal(2, 2.0)
    many = jaxgd.minimize(styblinski_tang, start, key=3, n_starts=7, method=method, dtype="float64")
    assert many.starts is not None
    with jax.enable_x64(True):
        draws = [start(key) for key in jax.random.split(jax.random.key(3), 7)]
    runs = [jaxgd.minimize(styblinski_tang, draw, method=method, dtype="float64") for draw in draws]
    np.testing.assert_allclose(many.starts.params, [run.params for run in runs], rtol=1e-9)
    assert list(many.starts.status) == [run.status for run in runs]
    np.testing.assert_array_equal(many.starts.n_evaluations, [run.n_evaluations for run in runs])
    best = min(runs, key=lambda run: float(run.cost))
    assert abs(many.cost - best.cost) < 1e-12


@pytest.mark.slow
def test_bad_lanes_lose_and_spoil_nothing() -> None:
    def cost(v: Any) -> Any:
        return jnp.where(v > 0, jnp.nan, (v + 2) ** 2)

    result = jaxgd.minimize(cost, jaxgd.normal(), key=0, n_starts=30)
    assert result.starts is not None and result.converged
    np.testing.assert_allclose(result.params, -2, rtol=1e-6)
    bad = np.isnan(result.starts.cost)
    assert 5 < bad.sum() < 25 and all(status is Status.DIVERGED for status in result.starts.status[bad])
    np.testing.assert_allclose(result.starts.params[~bad], -2, rtol=1e-5)
    hopeless = jaxgd.minimize(lambda v: v * jnp.nan, jaxgd.normal(), key=0, n_starts=3)
    assert hopeless.status is Status.DIVERGED and hopeless.starts is not None


def test_slow_lanes_do_not_hold_the_others_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # One start in a hundred has a rate a hundred times slower; the ticks of all lanes are counted against the evaluations.
    pools: list[Any] = []

    def watched(run: Any, spec: Any) -> Any:
        pools.append(call(run, spec)[0])
        return pools[-1], []

    call = driver.Run.__call__
    monkeypatch.setattr(queue, "is_native", lambda *_: False)
    monkeypatch.setattr(driver.Run, "__call__", watched)

    def cost(p: Any) -> Any:
        slow = jax.lax.stop_gradient(p["kind"]) < 0.01
        return jnp.where(slow, 0.01, 1.0).astype(p["x"].dtype) * jnp.sum(p["x"] ** 2) / 2

    def start(key: Any) -> Any:
        return {"x": 5 + jax.random.normal(key, (3,)), "kind": jax.random.uniform(jax.random.fold_in(key, 1))}

    stop = jaxgd.stopping.UpdateTolerance(1e-5)
    result = jaxgd.minimize(
        cost, start, key=0, n_starts=1000, method=jaxgd.GradientDescent(0.5), stop=stop, fixed={"x": False, "kind": False}
    )
    assert result.starts is not None
    evaluations = np.asarray(result.starts.n_evaluations)
    assert np.median(evaluations) < 30 and evaluations.max() > 1000 and np.all(result.starts.code != 0)
    assert int(pools[0].ticks) * pools[0].lanes.code.size <= 1.5 * evaluations.sum()


@pytest.mark.slow
def test_bounds_fixed_and_data_with_many_starts(compilations: Any) -> None:
    data = np.linspace(-1, 1, 50)

    def cost(p: Any, x: Any) -> Any:
        return jnp.mean((jnp.sin(p["w"] * x) * p["a"] - jnp.sin(2.5 * x)) ** 2)

    def start(key: Any) -> Any:
        return {"w": 10 * jax.random.normal(key), "a": 1.0}

    def run(key: int) -> Any:
        return jaxgd.minimize(
            cost, start, data, key=key, n_starts=20, bounds=({"w": 0, "a": None}, 6), fixed={"w": False, "a": True}
        )

    result = run(0)
    assert result.starts is not None and abs(result.params["w"] - 2.5) < 1e-3 and result.params["a"] == 1
    assert np.all((result.starts.params["w"] >= 0) & (result.starts.params["w"] <= 6)) and np.all(result.starts.params["a"] == 1)
    with compilations() as compiled:
        again, other = run(0), run(1)
    assert not compiled
    np.testing.assert_array_equal(again.starts.params["w"], result.starts.params["w"])
    assert np.any(other.starts.n_evaluations != result.starts.n_evaluations)
