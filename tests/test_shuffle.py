"""The order of rows: a bijection, uniform, another one each epoch. Every statistic has a fixed key; limits are five deviations."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgd.data import shuffle

SEED = shuffle.seed(jax.random.key(20))
DEVIATIONS = 5.0  # a chi-square of k degrees of freedom has variance 2 k; beyond 5 deviations lies less than 1e-5 of it


def orders(n_rows: int, n_epochs: int, seed: shuffle.Seed = SEED) -> np.ndarray:
    """The orders of many epochs, shape (n_epochs, n_rows)."""

    def order(epoch: jax.Array) -> jax.Array:
        return shuffle.row(shuffle.shuffle(seed, epoch, n_rows), jnp.arange(n_rows, dtype=jnp.uint32), n_rows)

    return np.asarray(jax.jit(jax.vmap(order))(jnp.arange(n_epochs))).astype(np.int64)


def excess(counts: np.ndarray, degrees: float | None = None) -> float:
    """How many standard deviations a chi-square statistic of equal chances lies above its mean."""
    expected = counts.mean()
    degrees = counts.size - 1 if degrees is None else degrees
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / math.sqrt(2 * degrees))


@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 15, 16, 17, 18, 31, 32, 33, 100, 1000, 1023, 1025])
def test_every_row_once(n_rows: int) -> None:
    np.testing.assert_array_equal(np.sort(orders(n_rows, 20), axis=1), np.tile(np.arange(n_rows), (20, 1)))


@pytest.mark.parametrize("n_rows", [2, 3, 4, 5, 6])
def test_all_orders_are_equally_likely(n_rows: int) -> None:
    index = {order: k for k, order in enumerate(itertools.permutations(range(n_rows)))}
    n_epochs = 200 * len(index)
    counts = np.bincount([index[tuple(order)] for order in orders(n_rows, n_epochs)], minlength=len(index))
    assert abs(excess(counts)) < DEVIATIONS


def test_all_orders_of_the_network_are_equally_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network on few rows, where every order can be counted: few rows are ranked otherwise."""
    monkeypatch.setattr(shuffle, "RANKED", 0)
    index = {order: k for k, order in enumerate(itertools.permutations(range(5)))}
    counts = np.bincount([index[tuple(order)] for order in orders(5, 24_000)], minlength=120)
    assert abs(excess(counts)) < DEVIATIONS


def test_every_row_once_for_every_number_of_rows() -> None:
    """The network for all numbers of rows to 2000, one program for all of them: places beyond the last are left where they are."""
    numbers, places = jnp.arange(1, 2001, dtype=jnp.uint32), jnp.arange(2000, dtype=jnp.uint32)
    words = jax.random.bits(jax.random.key(5), (2, shuffle._ROUNDS), "uint32")

    def rows(n_rows: Any) -> jax.Array:
        order = shuffle.Shuffle(words[0] % n_rows, words[1])
        return jnp.where(places < n_rows, shuffle._swap_or_not(order, jnp.minimum(places, n_rows - 1), n_rows), places)

    drawn = np.asarray(jax.jit(jax.vmap(rows))(numbers))
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(2000), (2000, 1)))
    assert np.mean(drawn[999, :1000] == np.arange(1000)) < 0.01


@pytest.mark.parametrize("n_rows", [100_000, 2**16 - 1, 2**16, 2**16 + 1])
def test_many_rows_are_equally_likely_everywhere_and_after_each_other(n_rows: int) -> None:
    """In bins, since there are too many rows to count each: where rows of each part come to lie, and which follow them."""
    n_bins, drawn = 40, orders(n_rows, 20)
    part = drawn * n_bins // n_rows
    cells = np.bincount((part + n_bins * (np.arange(n_rows) * n_bins // n_rows)).ravel(), minlength=n_bins**2)
    sizes = np.bincount(np.arange(n_rows) * n_bins // n_rows, minlength=n_bins)
    expected = 20 * np.outer(sizes, sizes).ravel() / n_rows
    degrees = (n_bins - 1) ** 2
    assert abs((((cells - expected) ** 2 / expected).sum() - degrees) / math.sqrt(2 * degrees)) < DEVIATIONS
    differences = (drawn[:, 1:] - drawn[:, :-1]) % n_rows
    assert differences.min() > 0
    counts, expected = (
        np.bincount((differences * 500 // n_rows).ravel(), minlength=500),
        np.diff(np.ceil(np.arange(501) * n_rows / 500)),
    )
    expected[0] -= 1  # no row follows itself
    expected *= differences.size / expected.sum()
    assert abs((((counts - expected) ** 2 / expected).sum() - 499) / math.sqrt(2 * 499)) < DEVIATIONS


@pytest.mark.parametrize("n_rows", [17, 20, 63, 64, 65, 100, 1000, 1023, 1024, 1025])
def test_each_row_is_equally_likely_at_each_place_and_after_each_other(n_rows: int) -> None:
    n_epochs = 400_000 // n_rows
    drawn = orders(n_rows, n_epochs)
    places = np.bincount((drawn + n_rows * np.arange(n_rows)).ravel(), minlength=n_rows**2)
    assert abs(excess(places, (n_rows - 1) ** 2)) < DEVIATIONS
    differences = np.bincount(((drawn[:, 1:] - drawn[:, :-1]) % n_rows).ravel(), minlength=n_rows)
    assert differences[0] == 0
    assert abs(excess(differences[1:])) < DEVIATIONS


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("key", [0, 1, 12345, 2**31, 2**32 - 1])
def test_an_integer_is_the_key_that_jax_makes_of_it(key: int, implementation: str) -> None:
    with jax.default_prng_impl(implementation):
        assert shuffle.seed(key) == shuffle.seed(jax.random.key(key))


def test_epochs_and_keys_are_unrelated() -> None:
    first, second = orders(100, 2000), orders(100, 2000, shuffle.seed(jax.random.key(21)))
    for other in (np.roll(first, 1, axis=0), second):
        # Two unrelated orders agree in one place on average, with variance one.
        agreements = (first == other).sum(axis=1)
        assert abs(agreements.mean() - 1) < DEVIATIONS / math.sqrt(2000)
        correlation = np.mean((first - 49.5) * (other - 49.5)) / np.var(np.arange(100))
        assert abs(correlation) < DEVIATIONS / math.sqrt(first.size)


def test_known_orders_on_every_machine() -> None:
    # Integer arithmetic on the words of the key: these are the numbers on any device.
    assert orders(6, 3).tolist() == KNOWN_SMALL
    assert orders(20, 1)[0].tolist() == KNOWN_LARGE


KNOWN_SMALL = [[2, 5, 3, 0, 4, 1], [0, 5, 3, 1, 2, 4], [4, 2, 3, 5, 0, 1]]
KNOWN_LARGE = [13, 10, 18, 9, 0, 17, 2, 15, 14, 6, 5, 16, 11, 8, 19, 3, 4, 12, 7, 1]


@pytest.mark.parametrize("n_rows", [1, 6, 1000, 2**31 - 1, 2**31])
def test_draws_with_replacement_are_uniform(n_rows: int) -> None:
    positions = jnp.arange(100_000, dtype=jnp.uint32)
    drawn = np.asarray(shuffle.draw(SEED, jnp.asarray(3), positions, n_rows)).astype(np.int64)
    assert drawn.min() >= 0 and drawn.max() < n_rows
    bins = min(n_rows, 50)
    counts = np.bincount(drawn * bins // n_rows, minlength=bins)
    assert counts.size == 1 or abs(excess(counts)) < DEVIATIONS
    other = np.asarray(shuffle.draw(SEED, jnp.asarray(4), positions, n_rows))
    assert n_rows == 1 or np.mean(drawn == other) < 2 / n_rows + 1e-3


@pytest.mark.parametrize("n_rows", [2**31 - 1, 2**31, 2**31 + 1, 5_000_000_000])
def test_large_numbers_of_rows_by_samples(n_rows: int) -> None:
    """Distinct places hold distinct rows, within range, wherever they lie."""
    with jax.enable_x64(n_rows > 2**31):
        dtype = shuffle.index_dtype(n_rows)
        ends = np.concatenate([np.arange(50_000), n_rows - 1 - np.arange(50_000), np.arange(50_000) * (n_rows // 50_000) + 7])
        positions = np.unique(ends)
        order = shuffle.shuffle(SEED, jnp.asarray(0), n_rows)
        rows = np.asarray(shuffle.row(order, jnp.asarray(positions, dtype), n_rows)).astype(np.int64)
        draws = np.asarray(shuffle.draw(SEED, jnp.asarray(0), jnp.asarray(positions, dtype), n_rows)).astype(np.int64)
    assert np.unique(rows).size == positions.size
    for values in (rows, draws):
        assert values.min() >= 0 and values.max() < n_rows
        assert abs(excess(np.bincount(values * 50 // n_rows, minlength=50))) < DEVIATIONS


def test_high_product_of_words() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**32, (2, 1000), dtype=np.uint64)
    a[:2], b[:2] = [2**32 - 1, 0], [2**32 - 1, 5]
    found = shuffle._high_product(jnp.asarray(a, jnp.uint32), jnp.asarray(b, jnp.uint32))
    np.testing.assert_array_equal(np.asarray(found), (a * b >> np.uint64(32)).astype(np.uint32))


@pytest.mark.parametrize("count", [10, 600])
def test_rows_that_are_found_in_pieces_are_the_same(count: int) -> None:
    n_rows, first = 1013, jnp.uint32(500)
    order = shuffle.shuffle(shuffle.seed(3), jnp.int32(1), n_rows)
    positions = np.minimum(500 + np.arange(count), n_rows - 1)  # beyond the end it is the last row
    expected = shuffle.row(order, jnp.asarray(positions, jnp.uint32), n_rows)
    for in_pieces in (True, False):
        np.testing.assert_array_equal(shuffle.rows_from(order, first, count, n_rows, in_pieces=in_pieces), expected)
