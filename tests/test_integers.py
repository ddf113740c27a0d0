"""Data of 64 bits in a run of 32: nothing overflows and nothing merges without a word."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgd
from jaxgd._checks import narrow
from jaxgd._compile.program import trace
from jaxgd._objective.overflow import follow, range_of

RANDOM = np.random.default_rng(0)
SECONDS = 1.7e9 + np.arange(600.0)


@pytest.fixture(autouse=True)
def standard_promotion() -> Any:
    """Integers of data meet floats of parameters here."""
    with jax.numpy_dtype_promotion("standard"):
        yield


MERGED = {
    "seconds within ten minutes": SECONDS,
    "seconds within a day": 1.7e9 + np.arange(86400.0),
    "days of a Julian date": 2460000.5 + np.sort(RANDOM.uniform(0, 100, 300)),
    "nights of many years": np.concatenate([2456000.5 + 30 * k + RANDOM.uniform(0, 0.3, 20) for k in range(100)]),
    "large numbers one after the other": 10.0**8 + np.arange(1000),
    "seconds with a zero for what is missing": np.concatenate([[0.0], SECONDS]),
    "seconds with NaN and infinity": np.concatenate([[np.nan, np.inf, -np.inf], SECONDS]),
    "two numbers": np.array([1e9, 1e9 + 1]),
    "a small difference from one": 1 + 1e-9 * RANDOM.normal(size=100),
    "below the smallest number": 1e-40 * RANDOM.normal(size=50),
    "one column of two": np.stack([RANDOM.normal(size=600), SECONDS], axis=1),
    "imaginary parts": 1j * SECONDS,
}
APART = {
    "measurements": RANDOM.normal(size=100_000),
    "measurements above zero": RANDOM.uniform(5, 10, 1000),
    "temperatures": 300 + RANDOM.normal(size=1000),
    "a line of a spectrum": np.linspace(6560, 6565, 500),
    "years": np.linspace(2000, 2024, 289),
    "ten years of days": 56000 + np.sort(RANDOM.uniform(0, 3650, 300)),
    "hours of a year": 1.7e9 + np.arange(0, 3.15e7, 3600),
    "many sparse numbers": RANDOM.integers(10**8, 10**9, 1000).astype(float),
    "a constant": np.full(100, 0.1),
    "ones to rounding": np.array([0.9999999999999999, 1, 1.0000000000000002, 1] * 10),
    "labels": RANDOM.integers(0, 2, 1000) / 3,
    "nothing but NaN": np.full(5, np.nan),
    "one number": np.array([1e9 + 1]),
    "small numbers": 6.6e-34 * RANDOM.uniform(0.5, 1.5, 50),
}


@pytest.mark.parametrize("name", MERGED | APART)
def test_which_columns_merge(name: str) -> None:
    found = narrow.merged((MERGED | APART)[name])
    assert found == (None if name in APART else 1 if name == "one column of two" else 0)


def wave(params: Any, rows: Any) -> Any:
    return jnp.mean((params - rows["y"] + 0 * rows["t"]) ** 2)


def test_a_merging_column_is_refused_before_anything_is_traced(traces: Any) -> None:
    data = {"t": SECONDS, "y": np.ones(600)}
    good = {"t": SECONDS - 1.7e9, "y": np.ones(600)}
    message = r"\['t'\]: holds numbers from 1700000000 to 1700000599 that 32 bits can't tell apart: subtract an offset, or pass "
    with traces() as traced:
        for name, call in (
            ("data", lambda: jaxgd.minimize(wave, 0.0, data)),
            ("data", lambda: jaxgd.fit(wave, 0.0, data, batch_size=100, n_epochs=1, key=0)),
            ("validation", lambda: jaxgd.fit(wave, 0.0, good, batch_size=100, n_epochs=1, key=0, validation=data)),
            ("data", lambda: jaxgd.covariance(wave, 0.0, data)),
            ("data", lambda: jaxgd.minimize(wave, 0.0, data, dtype="float32")),
        ):
            with pytest.raises(ValueError, match="^" + name + message):
                call()
    assert not traced
    with pytest.raises(ValueError, match=r"^data, column 1: holds numbers"):
        jaxgd.minimize(wave, 0.0, np.stack([np.ones(600), SECONDS], axis=1))
    descent = jaxgd.GradientDescent(0.5)
    assert jaxgd.minimize(wave, 0.0, data, dtype="float64", method=descent).converged
    rounded = {"t": SECONDS.astype(np.float32), "y": np.ones(600)}  # by the caller
    assert jaxgd.minimize(wave, 0.0, rounded, method=descent).converged


@pytest.mark.slow
def test_bounds_that_merge_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^bounds: expected two that float32 can tell apart, got 1000000000.0 and 1000000001.0 for params"
    ):
        jaxgd.minimize(lambda v: v**2, 1e9, bounds=(1e9, 1e9 + 1))
    held = jaxgd.minimize(lambda v: (v[0] - 1) ** 2 + v[1] ** 2, [0.1, 1.0], bounds=([0.1, None], [0.1, None]))
    assert held.converged and held.params[0] == np.float32(0.1)  # two equal bounds are one number in any precision


SMALL, AREA, LARGE = np.arange(5), np.array([20_000, 90_000, 3, 4, 5]), 10**9 + np.array([0, 5, 2**24 + 9, 3, 7])
TABLE = jnp.ones((5, 3))
# What a cost computes from columns of integers, these columns, those that could overflow, and those that floats would round.
COMPUTED: dict[str, tuple[Any, list[np.ndarray], set[int], set[int]]] = {
    "index": (lambda w, x: w[x].sum(), [SMALL], set(), set()),
    "take": (lambda w, x: jnp.take(w, x).sum(), [SMALL], set(), set()),
    "along an axis": (lambda w, x: jnp.take_along_axis(TABLE, x[:, None], axis=1).sum(), [SMALL], set(), set()),
    "one hot": (lambda w, x: jax.nn.one_hot(x, 3).sum(), [LARGE], set(), set()),
    "compare": (lambda w, x: jnp.where(x > 10**9, w, 0).sum(), [LARGE], set(), set()),
    "segments": (lambda w, x: jax.ops.segment_sum(w, x, 5).sum(), [SMALL], set(), set()),
    "counts": (lambda w, x: jnp.bincount(x, length=5).astype(float).sum(), [SMALL], set(), set()),
    "places": (lambda w, x: w[jnp.searchsorted(jnp.arange(5), x)].sum(), [LARGE], set(), set()),
    "order": (lambda w, x: w[jnp.argsort(x)].sum(), [LARGE], set(), set()),
    "remainder": (lambda w, x: w[x % 5].sum(), [LARGE], set(), set()),
    "bits": (lambda w, x: ((x & 1) * 2 * w).sum(), [LARGE], set(), set()),
    "offset": (lambda w, x: ((x - 10**9) * w).sum(), [10**9 + SMALL], set(), set()),
    "small squares": (lambda w, x: (x**2 * w).sum(), [SMALL], set(), set()),
    "a mean of small ones": (lambda w, x: jnp.mean(x) * w[0], [SMALL], set(), set()),
    "likelihood": (lambda w, x: jax.scipy.stats.poisson.logpmf(x, jnp.exp(w)).sum(), [SMALL], set(), set()),
    "small in a loop": (lambda w, x: jax.lax.fori_loop(0, 3, lambda i, s: s + w[x[i]], w[0]), [SMALL], set(), set()),
    "floats": (lambda w, x: (x * w).sum(), [LARGE], set(), {0}),
    "a mean": (lambda w, x: jnp.mean(x) * w[0], [LARGE], set(), {0}),
    "squares": (lambda w, x: (x**2 / 1e9 * w).sum(), [AREA], {0}, {0}),
    "square": (lambda w, x: (jnp.square(x) * w).sum(), [AREA], {0}, {0}),
    "products": (lambda w, x, y: (x * y * w).sum(), [AREA, AREA], {0, 1}, {0, 1}),
    "one of two": (lambda w, x, y: (x * x * w).sum() + w[y].sum(), [AREA, SMALL], {0}, {0}),
    "inner product": (lambda w, x: (x @ x) * w[0], [AREA], {0}, {0}),
    "sum": (lambda w, x: x.sum() * w[0], [LARGE], {0}, {0}),
    "running sum": (lambda w, x: (jnp.cumsum(x) * w).sum(), [LARGE], {0}, {0}),
    "powers": (lambda w, x: (x**SMALL * w).sum(), [AREA], {0}, {0}),
    "scan": (lambda w, x: jax.lax.scan(lambda s, v: (s + w[0], v**2), w[0], x)[1].astype(float).sum(), [AREA], {0}, {0}),
    "map": (lambda w, x: jax.lax.map(lambda v: v**2 / 1e9, x).sum() * w[0], [AREA], {0}, {0}),
    "branches": (lambda w, x: jax.lax.cond(w[0] > 0, lambda: (x**2).sum() * w[0], lambda: w[0]), [AREA], {0}, {0}),
    "a loop": (lambda w, x: jax.lax.fori_loop(0, 3, lambda i, s: s + x[i] * x[i], 0) * w[0], [AREA], {0}, {0}),
    "a function": (lambda w, x: (jax.jit(lambda v: v * v)(x) * w).sum(), [AREA], {0}, {0}),
    "rows": (lambda w, x: (jax.vmap(lambda v: v * v)(x) * w).sum(), [AREA], {0}, {0}),
    "kept for later": (lambda w, x: jax.checkpoint(lambda v, u: v * v / 1e9 * u)(x, w).sum(), [AREA], {0}, {0}),
    "sorted": (lambda w, x: (jnp.sort(x) ** 2 * w).sum(), [AREA], {0}, {0}),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_could_overflow(name: str) -> None:
    function, columns, overflowing, rounded = COMPUTED[name]
    shapes = [jax.ShapeDtypeStruct(column.shape, np.int32) for column in columns]
    for derived in (function, jax.value_and_grad(function)):
        traced = trace(derived, jnp.ones(5), *shapes)
        found = follow(traced, [range_of(column, k) for k, column in enumerate(columns)], 5)
        assert (found.overflowing, found.rounded) == (overflowing, rounded)


def test_a_sum_over_a_batch_is_judged_for_all_rows() -> None:
    traced = trace(lambda w, x: x.sum() * w, jnp.ones(()), jax.ShapeDtypeStruct((10,), np.int32))
    ranges = [range_of(np.array([0, 1000]), 0)]
    assert not follow(traced, ranges, 1000).overflowing and follow(traced, ranges, 10**7).overflowing


X = RANDOM.integers(20_000, 90_000, 400)
KIND = RANDOM.integers(0, 3, 400)


def price(params: Any, rows: Any) -> Any:
    area, kind, y = rows
    return jnp.mean((params[kind] + params[3] * (area**2 / 1e9) - y) ** 2)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("jit", [True, False])
def test_squares_of_integers_are_those_of_numpy(jit: bool) -> None:
    y = np.array([1.0, 2.0, 3.0])[KIND] + 2 * (X**2 / 1e9)
    start = np.zeros(4)
    for area in (X, X.astype(np.uint64), list(map(int, X))):
        found = jaxgd.minimize(price, start, (area, KIND, y), method=jaxgd.SpectralGradient(), jit=jit)
        np.testing.assert_allclose(found.params, [1, 2, 3, 2], rtol=1e-3)
    exact = jaxgd.minimize(price, start, (X, KIND, y), dtype="float64", method=jaxgd.SpectralGradient(), jit=jit)
    np.testing.assert_allclose(exact.params, [1, 2, 3, 2], rtol=1e-6)


@pytest.mark.slow
def test_a_fit_with_its_validation_and_the_others() -> None:
    y = np.array([1.0, 2.0, 3.0])[KIND] + 2 * (X**2 / 1e9)
    data, held_out = (X, KIND, y), (X[:50] + 7, KIND[:50], y[:50])
    floats = (X.astype(float), KIND, y), (X[:50] + 7.0, KIND[:50], y[:50])
    runs = []
    for rows, others in ((data, held_out), floats):
        runs.append(
            jaxgd.fit(
                price,
                np.zeros(4),
                rows,
                batch_size=40,
                n_epochs=3,
                key=0,
                validation=others,
                history="cost",
                method=jaxgd.Adam(0.1),
            )
        )
    np.testing.assert_array_equal(runs[0].params, runs[1].params)
    np.testing.assert_array_equal(runs[0].history.validation_cost, runs[1].history.validation_cost)
    widths = [jaxgd.covariance(price, runs[0].params, rows, scale=1).matrix for rows in (data, floats[0])]
    np.testing.assert_array_equal(*widths)
    sweeps = [
        jaxgd.learning_rate_sweep(price, np.zeros(4), rows, batch_size=40, n_epochs=1, learning_rates=[0.1], key=0)
        for rows in (data, floats[0])
    ]
    np.testing.assert_array_equal(sweeps[0].cost, sweeps[1].cost)


def test_integers_that_neither_kind_of_number_holds_are_refused() -> None:
    big = 2**24 + 1 + np.arange(5)
    square = lambda v, rows: jnp.mean(v - rows**2 * 1e-9) ** 2  # noqa: E731
    message = (
        r"^data: the cost computes with these integers of 64 bits, as large as 16777221, and in 32 bits that could overflow: pass"
    )
    with pytest.raises(ValueError, match=message):
        jaxgd.minimize(square, 0.0, big)
    both = lambda v, rows: jnp.mean(v[rows % 3] - rows**2 * 1e-9) ** 2  # noqa: E731
    with pytest.raises(ValueError, match=r"^data: the cost needs integers here, and computes with them what could overflow"):
        jaxgd.minimize(both, np.zeros(3), AREA)
    seconds = lambda v, rows: jnp.mean(v - rows / 3600) ** 2  # noqa: E731
    with pytest.raises(
        ValueError, match=re.escape("data: holds numbers from 1700000000 to 1700000599 that 32 bits can't tell apart")
    ):
        jaxgd.minimize(seconds, 0.0, SECONDS.astype(int))
    subtracted = lambda v, rows: jnp.mean((v - (rows - 1_700_000_000) / 600) ** 2)  # noqa: E731
    assert abs(jaxgd.minimize(subtracted, 0.0, SECONDS.astype(int)).params - 299.5 / 600) < 1e-5
