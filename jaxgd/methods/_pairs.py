"""The limited memory of L-BFGS: pairs of steps and changes of the gradient, and what they say of the second derivatives."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import matmul, vdot
from jaxgd._trees import all_finite, put, safe_divisor, taken


class Pairs(NamedTuple):
    """The last pairs of steps s and changes of the gradient y, and their products.

    The pairs are the rows of two matrices; the products are s'y and y'y.

    `count` were stored; the newest is at the place (count - 1) modulo the number of rows. There is a row more than pairs in use:
    the next pair is written there whether it is wanted or not, since a choice between it and an old one would copy the matrices.
    `rises` are the s'y of the steps as they were; the rows are multiplied by factors that keep the products in range.
    """

    steps: Any
    changes: Any
    mixed: Any
    squares: Any
    rises: Any
    count: Any


def none(size: int, memory: int, dtype: Any) -> Pairs:
    """Return the memory without pairs."""
    rows, products = jnp.zeros((memory + 1, size), dtype), jnp.zeros((memory + 1, memory + 1), dtype)
    return Pairs(rows, rows, products, products, jnp.zeros(memory + 1, dtype), jnp.zeros((), jnp.int32))


def stored(
    pairs: Pairs, s: jax.Array, y: jax.Array, sizes: jax.Array, wanted: jax.Array, trial: Any, search: Any, length: jax.Array
) -> Pairs:
    """Return the pairs with a new one in the free place, where it counts if it is wanted.

    Its s'y has to be positive. Otherwise its products are zero, and no direction has any of its rows. Both vectors are multiplied
    by |x|**(1/2) / (s'y)**(3/4), with the s'y that the slopes of the search give: that changes nothing in H, and keeps the products
    in range whatever the units. The s'y are right where y is no older than s: the two loops ask for no others.
    """
    place = pairs.count % pairs.steps.shape[0]
    gain = safe_divisor(trial.rate * (trial.slope - search.slope))
    share = jnp.sqrt(length / gain) / jnp.sqrt(jnp.sqrt(gain))
    s, y = jnp.where(wanted, share * s, 0), jnp.where(wanted, share * y, 0)
    steps, changes = put(pairs.steps, place, s), put(pairs.changes, place, y)
    across, along = matmul(steps, y), matmul(changes, sizes * y)
    product = taken(across, place)
    useful = wanted & (product > 0) & all_finite(product, across, along)
    across, along = jnp.where(useful, across, 0), jnp.where(useful, along, 0)
    return Pairs(
        steps,
        changes,
        put(pairs.mixed, place, across, axis=1),
        put(put(pairs.squares, place, along, axis=1), place, along),
        put(pairs.rises, place, jnp.where(useful, gain, 0)),
        pairs.count + useful.astype(jnp.int32),
    )


def direction(pairs: Pairs, g: jax.Array, sizes: jax.Array) -> jax.Array:
    """Return -H g by Nocedal's two loops; 0 without pairs.

    They run on the coefficients of the vectors alone (Chen, Wang and Zhou).
    """
    rows = pairs.steps.shape[0]
    known = jnp.minimum(pairs.count, rows - 1)
    sized = sizes * g
    onto_steps, onto_changes = matmul(pairs.steps, g), matmul(pairs.changes, sized)
    newest = (pairs.count - 1) % rows
    across, along = (taken(taken(products, newest), newest) for products in (pairs.mixed, pairs.squares))
    scale = jnp.where(known > 0, across / safe_divisor(along), 0)

    def backward(k: jax.Array, a: jax.Array) -> jax.Array:
        i = (pairs.count - 1 - k) % rows
        row = taken(pairs.mixed, i)
        return put(a, i, (taken(onto_steps, i) - vdot(row, a)) / taken(row, i))

    a = lax.fori_loop(0, known, backward, jnp.zeros(rows, g.dtype))
    onto_rest = scale * (onto_changes - matmul(pairs.squares, a))

    def forward(k: jax.Array, c: jax.Array) -> jax.Array:
        i = (pairs.count - known + k) % rows
        column = taken(pairs.mixed, i, axis=1)
        return put(c, i, taken(a, i) - (taken(onto_rest, i) + vdot(c, column)) / taken(column, i))

    c = lax.fori_loop(0, known, forward, jnp.zeros_like(a))
    return sizes * (matmul(scale * a, pairs.changes) - scale * g) - matmul(c, pairs.steps)


def steepness(pairs: Pairs, visible: Any, most: Any) -> jax.Array:
    """Return for each variable the square root of a lower bound of its second derivative.

    For a positive semidefinite Hessian B, y = B s and Cauchy's inequality give y_i**2 <= B_ii * s'y, whatever the other variables
    do. A step whose s'y is less than what is `visible` in the cost counts as if it had so much: at a kink a gradient changes by
    its own size however short the step is.
    """
    rises = jnp.where((jnp.diagonal(pairs.mixed) > 0) & (pairs.rises <= most), pairs.rises, 0)
    share = jnp.where(rises > 0, jnp.sqrt(rises / safe_divisor(jnp.maximum(rises, visible))), 0)
    return jnp.max(jnp.abs(pairs.changes) * (share / jnp.sqrt(safe_divisor(jnp.diagonal(pairs.mixed))))[:, None], axis=0)


def reaction(pairs: Pairs) -> jax.Array:
    """Return for each variable the largest change of its gradient."""
    return jnp.max(jnp.abs(pairs.changes) * jnp.sqrt(pairs.rises / safe_divisor(jnp.diagonal(pairs.mixed)))[:, None], axis=0)
