"""The order of rows as an index map: row i of epoch e is computed where it is needed, with no sort and no stored permutation.

Rows up to a handful are ranked by hashed numbers, which is exactly uniform. More rows go through the swap-or-not network of
V. T. Hoang, B. Morris, P. Rogaway, An enciphering scheme based on a card shuffle, CRYPTO 2012: round r pairs x with
(K_r - x) mod n and swaps the pair or not by one random bit of the pair. The network is a bijection of [0, n) for every n. Where
the paper has a pseudorandom function, a 32-bit mixing function serves here: statistics are wanted, not secrecy.

All arithmetic is on unsigned integers, so that the order depends on the key alone and is the same on every device.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._trees import is_traced

_ROUNDS = 24
_PIECE = 256  # rows that are found together
_WIDTH = 16
RANKED = 16  # up to as many rows, n comparisons an index are cheaper than the network


class Seed(NamedTuple):
    """Two 32-bit words drawn from a key: all randomness of a run's order comes from them."""

    first: Any
    second: Any


class Shuffle(NamedTuple):
    """One epoch's order: the random numbers that `row` needs, a few words."""

    reflections: jax.Array
    words: jax.Array


def seed(key: jax.Array | int) -> Seed:
    """Return the seed of a run's order: two words, each mixed from all words of a key.

    An integer stands for `jax.random.key` of it.
    """
    words = _words(key)
    return _mixed(words) if is_traced(words) else _seed_of(tuple(words.tolist()))


@functools.lru_cache(256)
def _seed_of(words: tuple[int, ...]) -> Seed:
    return _mixed(np.asarray(words, np.uint32))


def _mixed(words: Any) -> Seed:
    mixed = []
    for start in (0x9E3779B9, 0xBB67AE85):
        word = np.full(1, start, np.uint32)
        for k in range(words.shape[0]):
            word = _mix(word ^ _mix(words[k : k + 1] + np.uint32(start)))
        mixed.append(word.reshape(()))
    return Seed(*mixed)


def derived(seed: Seed, number: Any) -> Seed:
    """Return the seed of a part of the rows, by the number of the part."""
    number = jnp.asarray(number).astype(jnp.uint32)
    return Seed(_word(seed, number), _word(seed, number, number + np.uint32(1)))


def _words(key: jax.Array | int) -> Any:
    """Return the words of a key. Those of an integer's usual key are known without asking JAX, which would compile for it."""
    if isinstance(key, int):
        if jax.config.jax_default_prng_impl == "threefry2x32":  # type: ignore[attr-defined]
            return np.asarray([0, key], np.uint32)
        key = jax.random.key(key)
    data = jax.random.key_data(key)
    return data if is_traced(data) else np.asarray(data)


def shuffle(seed: Seed, epoch: jax.Array, n_rows: Any) -> Shuffle:
    """Return the order of one epoch of `n_rows` rows."""
    ranked = _is_ranked(n_rows)
    draws = jnp.arange(n_rows if ranked else _ROUNDS, dtype=jnp.uint32)
    words = _word(seed, epoch, draws)
    if ranked:
        return Shuffle(words, words)
    return Shuffle(_below(n_rows, _word(seed, epoch, draws + np.uint32(1 << 16)), words), words)


def row(order: Shuffle, position: jax.Array, n_rows: Any) -> jax.Array:
    """Return the rows at some positions of an epoch's order: a bijection of [0, n_rows).

    They are unsigned integers of the shape of the positions.
    """
    if _is_ranked(n_rows):
        return _rank(order.words).at[position].get(mode="promise_in_bounds")
    return _swap_or_not(order, position.astype(index_dtype(n_rows)), n_rows)


def rows_from(order: Shuffle, first: jax.Array, count: int, n_rows: Any, *, in_pieces: bool) -> jax.Array:
    """Return the rows at `count` neighbouring positions, beyond the end of the epoch the last row.

    `in_pieces`, a few rows go through all rounds of the network before the next: these a processor has at hand.
    """
    dtype = index_dtype(n_rows)
    size = _PIECE if in_pieces and count > _PIECE else padded(count)

    def piece(number: Any) -> jax.Array:
        positions = first.astype(dtype) + number * jnp.asarray(size, dtype) + jnp.arange(size, dtype=dtype)
        return row(order, jnp.minimum(positions, jnp.asarray(n_rows, dtype) - 1), n_rows)

    if size >= count:
        return piece(jnp.zeros((), dtype))[:count]
    return jax.lax.map(piece, jnp.arange(-(-count // size), dtype=dtype)).reshape(-1)[:count]


def padded(count: int) -> int:
    """Return a count or a little more, which XLA takes many at a time: of a prime number it takes one by one."""
    return -(-count // _WIDTH) * _WIDTH


def rows(order: Shuffle) -> jax.Array:
    """Return the rows of a whole epoch of a few rows in its order, `row` at all positions."""
    return _rank(order.words)


def draw(seed: Seed, epoch: jax.Array, position: jax.Array, n_rows: int) -> jax.Array:
    """Rows drawn with replacement: independent and uniform for each epoch and position."""
    low, high = position.astype(jnp.uint32), _high_word(position)
    return _below(n_rows, _word(seed, epoch, low, high), _word(seed, epoch, low, high + np.uint32(1)))


def on_host(seed: Seed, epoch: int, count: int) -> np.ndarray:
    """Return a random order of a few things, (count,), that is needed on the host."""
    words = _on_host(seed, epoch, np.arange(count, dtype=np.uint32))
    return np.argsort(words, kind="stable")


def offset(seed: Seed, epoch: int, n_rows: int) -> int:
    """Return a random number below `n_rows` for an epoch, on the host."""
    high, low = (int(word) for word in _on_host(seed, epoch, np.asarray([2**32 - 2, 2**32 - 1], np.uint32)))
    return (high << 32 | low) * n_rows >> 64


def _on_host(seed: Seed, epoch: int, numbers: np.ndarray) -> np.ndarray:
    """Return a random word for each number. Arrays may overflow, of which NumPy would warn for single numbers."""
    several = Seed(*(np.full(numbers.shape, word, np.uint32) for word in seed))
    return _word(several, np.full(numbers.shape, epoch, np.uint32), numbers)


def index_dtype(n_rows: Any) -> jnp.dtype:
    """Return the type of a row's number: 32 bits where they suffice, as for a count that a program computes."""
    return jnp.dtype(jnp.uint64 if isinstance(n_rows, int) and n_rows > 2**31 else jnp.uint32)


def _is_ranked(n_rows: Any) -> bool:
    """Return whether there are so few rows that they are ranked."""
    return isinstance(n_rows, int) and n_rows <= RANKED


def _rank(words: jax.Array) -> jax.Array:
    """Return the rank of each word among all. The lowest bits are replaced by the places, so that no two are equal."""
    places = jnp.arange(words.shape[0], dtype=jnp.uint32)
    unique = (words & np.uint32(~(RANKED - 1) % 2**32)) | places
    return jnp.sum(unique[None, :] < unique[:, None], axis=1, dtype=jnp.uint32)


def _swap_or_not(order: Shuffle, position: jax.Array, n_rows: int) -> jax.Array:
    n = jnp.asarray(n_rows, position.dtype)

    def swap(k: jax.Array, x: jax.Array) -> jax.Array:
        reflection = order.reflections[k]
        partner = jnp.where(x <= reflection, reflection - x, reflection + (n - x))
        pair = jnp.maximum(x, partner)
        word = pair.astype(jnp.uint32) ^ order.words[k]
        if x.dtype == jnp.uint64:
            word = word ^ _mix(_high_word(pair))
        word = word * np.uint32(0x7FEB352D)
        word = (word ^ (word >> 15)) * np.uint32(0x846CA68B)
        return jnp.where(word >= np.uint32(1 << 31), partner, x)

    return jax.lax.fori_loop(0, _ROUNDS, swap, position)


def _high_word(x: jax.Array) -> jax.Array:
    """Return the upper 32 bits of a number."""
    if jnp.dtype(x.dtype).itemsize < 8:
        return jnp.zeros(x.shape, jnp.uint32)
    return (x.astype(jnp.uint64) >> 32).astype(jnp.uint32)


def _mix(x: Any) -> Any:
    """Mix the bits of 32-bit words by a bijection.

    Each bit of the input flips each bit of the output half of the time.

    Multiply and xorshift, with the constants of C. Wellons' search for low bias (hash-prospector, 2018).
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _word(seed: Seed, *numbers: Any) -> Any:
    """Return a random word for a tuple of numbers."""
    word = seed.first
    for number in numbers:
        word = _mix(word ^ _mix(number.astype(jnp.uint32) + seed.second))
    return word


def _below(n: Any, high: jax.Array, low: jax.Array) -> jax.Array:
    """Return a uniform number in [0, n) from 64 random bits: floor(bits * n / 2**64)."""
    if index_dtype(n) == jnp.uint64:
        return ((high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)) % np.uint64(n)
    size = jnp.asarray(n, jnp.uint32)
    product = high * size
    carry = product + _high_product(low, size) < product
    return _high_product(high, size) + carry.astype(jnp.uint32)


def _high_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the upper 32 bits of the product of 32-bit numbers, without a 64-bit type."""
    a_high, a_low, b_high, b_low = a >> 16, a & 0xFFFF, b >> 16, b & 0xFFFF
    first, second = a_high * b_low, a_low * b_high
    middle = (a_low * b_low >> 16) + (first & 0xFFFF) + (second & 0xFFFF)
    return a_high * b_high + (first >> 16) + (second >> 16) + (middle >> 16)
