"""The Sobol sequence: points that fill a cube evenly, each new one in the largest gaps that the others leave.

A number of a point is the sum, binary digit by binary digit without carry, of some direction numbers: those for which the Gray code
of the place of the point has a digit 1 (I. A. Antonov, V. M. Saleev 1979). The direction numbers of a dimension follow from a
primitive polynomial with coefficients 0 and 1, and from as many first ones as its degree, which S. Joe and F. Kuo chose so that the
points are even in pairs of dimensions, too.

I. M. Sobol, USSR Computational Mathematics and Mathematical Physics 7 (1967); S. Joe, F. Kuo, Constructing Sobol sequences with
better two-dimensional projections, SIAM J. Sci. Comput. 30 (2008), the table new-joe-kuo-6; J. Matousek, On the L2-discrepancy for
anchored boxes, J. Complexity 14 (1998).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_BITS = 32
_FIRST = """
    1, 1 3, 1 3 1, 1 1 1, 1 1 3 3, 1 3 5 13, 1 1 5 5 17, 1 1 5 5 5, 1 1 7 11 19, 1 1 5 1 1, 1 1 1 3 11, 1 3 5 5 31, 1 3 3 9 7
    49, 1 1 1 15 21 21, 1 3 1 13 27 49, 1 1 1 15 7 5, 1 3 1 15 13 25, 1 1 5 5 19 61, 1 3 7 11 23 15 103, 1 3 7 13 13 15 69, 1 1
    3 13 7 35 63, 1 3 5 9 1 25 53, 1 3 1 13 9 35 107, 1 3 1 5 27 61 31, 1 1 5 11 19 41 61, 1 3 5 3 3 13 69, 1 1 7 13 1 19 1, 1 3
    7 5 13 19 59, 1 1 3 9 25 29 41, 1 3 5 13 23 1 55, 1 3 7 3 13 59 17, 1 3 1 3 5 53 69, 1 1 5 5 23 33 13, 1 1 7 7 1 61 123, 1 1
    7 9 13 61 49, 1 3 3 5 3 55 33, 1 3 1 15 31 13 49 245, 1 3 5 15 31 59 63 97, 1 3 1 11 11 11 77 249, 1 3 1 11 27 43 71 9, 1 1
    7 15 21 11 81 45, 1 3 7 3 25 31 65 79, 1 3 1 1 19 11 3 205, 1 1 5 9 19 21 29 157, 1 3 7 11 1 33 89 185, 1 3 3 3 15 9 79 71,
    1 3 7 11 15 39 119 27, 1 1 3 1 11 31 97 225, 1 1 1 3 23 43 57 177, 1 3 7 7 17 17 37 71, 1 3 1 5 27 63 123 213, 1 1 3 5 11 43
    53 133, 1 3 5 5 29 17 47 173 479, 1 3 3 11 3 1 109 9 69, 1 1 1 5 17 39 23 5 343, 1 3 1 5 25 15 31 103 499, 1 1 1 11 11 17 63
    105 183, 1 1 5 11 9 29 97 231 363, 1 1 5 15 19 45 41 7 383, 1 3 7 7 31 19 83 137 221, 1 1 1 3 23 15 111 223 83, 1 1 5 13 31
    15 55 25 161, 1 1 3 13 25 47 39 87 257
"""  # the first direction numbers of dimensions 2, 3, ..., as odd integers: number k is this one times 2**-k
MOST = _FIRST.count(",") + 2  # dimensions


@functools.partial(jax.jit, static_argnames=("size", "count"))
def scrambled(key: jax.Array, size: int, count: int) -> jax.Array:
    """Return the first points of a scrambled sequence, as integers in units of 2**-32, of shape (count, size).

    The scrambling is that of Matousek: for each dimension, the binary digits of the direction numbers are multiplied by a random
    lower triangular matrix, and a random number is added digit by digit. So every point is uniformly distributed, and the first
    2**m points remain as even as those of the sequence itself.
    """
    numbers = jax.random.bits(key, (size, _BITS + 1), jnp.uint32)
    ones = jnp.uint32(1) << jnp.arange(_BITS - 1, -1, -1, dtype=jnp.uint32)
    columns = (numbers[:, :_BITS] & (ones - 1)) | ones
    digits = (directions(size)[:, :, None] & ones) != 0
    mixed = lax.reduce(jnp.where(digits, columns[:, None], 0), jnp.uint32(0), lax.bitwise_xor, (2,))
    return points(mixed, count) ^ numbers[:, _BITS]


def points(numbers: jax.Array, count: int) -> jax.Array:
    """Return the first points that some direction numbers of shape (size, 32) make, as integers of shape (count, size)."""
    place = jnp.arange(count, dtype=jnp.uint32)[:, None]
    gray = place ^ (place >> 1)
    found = jnp.zeros((count, numbers.shape[0]), jnp.uint32)
    for k in range((count - 1).bit_length()):
        found = found ^ (((gray >> k) & 1) * numbers[:, k])
    return found


@functools.cache
def directions(size: int) -> np.ndarray:
    """Return the direction numbers of the first dimensions, as integers in units of 2**-32, of shape (size, 32)."""
    firsts = [[int(number) for number in row.split()] for row in _FIRST.split(",")]
    rows = [[1 << _BITS - k for k in range(1, _BITS + 1)]]
    polynomials = (number for number in range(3, 2**_BITS, 2) if _is_primitive(number))
    for polynomial, first in zip(polynomials, firsts[: size - 1], strict=False):
        degree, row = len(first), [number << _BITS - k for k, number in enumerate(first, start=1)]
        for k in range(degree, _BITS):
            number = row[k - degree] ^ (row[k - degree] >> degree)
            for back in range(1, degree):
                number ^= row[k - back] * (polynomial >> degree - back & 1)
            row.append(number)
        rows.append(row)
    return np.array(rows, np.uint32)


def _is_primitive(polynomial: int) -> bool:
    """Return whether the powers of x modulo a polynomial, whose coefficients are binary digits, are all that there can be."""
    degree, power, order = polynomial.bit_length() - 1, 1, 0
    while order == 0 or power not in (0, 1):
        power, order = power << 1, order + 1
        power ^= polynomial if power >> degree else 0
    return power == 1 and order == 2**degree - 1
