"""The quadratic model of a trust region: the exact Hessian in a metric of the variables' sizes, by its eigenvectors.

In the metric s the variables are x = s * y, the gradient s * g and the Hessian H~ = s H s' with eigenvalues l and eigenvectors Q;
steps are written in the eigenvectors, q = Q'(dx / s), where the model of the cost is c'q + sum(l * q**2) / 2 with c = Q'(s * g).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._eigen import eigh
from jaxgd._trees import unit

_FLOOR = 0.1  # a variable's size never falls below this part of its size at the start
_CAP = 1e3  # a variable this much steeper than the median one gets a smaller size
_LOOSE = 10.0  # roundings of the cost that its differences may come from


class Model(NamedTuple):
    """The model at a point, and what is known there about an end of the run.

    Attributes:
        first: the sizes of the variables at the start, (n,).
        size: the metric s, (n,).
        curvatures: l, ascending, (n,).
        vectors: Q, (n, n), an eigenvector a column.
        slopes: c, (n,).
        gain: what Newton's step would still gain, no eigenvector going further than the variables' own size.
        scale: the sum of H_ii x_i**2, what the variables' own lengths cost.
        noise: what rounding may make of a difference of costs; `strict` leaves out what the arguments' rounding does to them.
        blur: what rounding may make of an eigenvalue.
        still: whether a rounding of the variables explains the gradient.
        pivot: the smallest pivot of the Hessian of unit diagonal, which no metric changes; not a number where it is indefinite.
        known: whether the Hessian is positive definite, or semidefinite where the gradient is nothing but rounding.
    """

    first: Any
    size: Any
    curvatures: Any
    vectors: Any
    slopes: Any
    gain: Any
    scale: Any
    noise: Any
    strict: Any
    blur: Any
    still: Any
    pivot: Any
    known: Any

    @property
    def semidefinite(self) -> jax.Array:
        """Whether no eigenvalue is negative beyond rounding."""
        return self.curvatures[0] >= -self.blur

    @property
    def settled(self) -> jax.Array:
        """Whether there is nothing more to gain that rounding would not hide."""
        return (self.semidefinite & self.still & (self.gain <= self.noise)) | (self.known & (self.gain <= self.strict))


def empty(x: jax.Array) -> Model:
    """A model of nothing, of the shapes to come."""
    zero, vector, no = jnp.zeros((), x.dtype), jnp.zeros_like(x), jnp.asarray(False)
    return Model(vector, vector, vector, jnp.zeros((x.size, x.size), x.dtype), vector, zero, zero, zero, zero, zero, no, zero, no)


def model(
    x: jax.Array, cost: jax.Array, g: jax.Array, hessian: jax.Array, held: Any, first: jax.Array, started: jax.Array, eps: float
) -> Model:
    """The model at a point; variables that are `held` (None if none can be) have no part in it.

    `first` are the sizes at the start, zero where the run has not `started` and they are to be found. A Hessian that is not finite
    is taken for zero, which leaves the gradient to follow.
    """
    hessian = jnp.where(jnp.all(jnp.isfinite(hessian)), hessian, 0)
    own = jnp.eye(x.size, dtype=bool)
    if held is not None:
        g = jnp.where(held, 0, g)
        hessian = jnp.where(held[:, None] | held[None, :], 0, hessian)
    curvature = jnp.sum(jnp.where(own, jnp.abs(hessian), 0), axis=1)
    first, size = _sizes(x, g, curvature, first, started)
    slopes, scaled = g * size, hessian * size[:, None] * size[None, :]
    if held is not None:
        scaled = jnp.where(own & held[:, None], unit(jnp.max(jnp.abs(scaled))), scaled)
    curvatures, vectors = eigh(scaled)
    reach = jnp.abs(x) / size
    still = jnp.all(jnp.abs(slopes) <= eps * (jnp.abs(scaled) @ reach))
    slopes = slopes @ vectors

    curve, slope = jnp.abs(curvatures), jnp.abs(slopes)
    blur = x.size * eps * jnp.max(curve)
    dead = (curve <= blur) & (slope <= blur * jnp.max(reach))
    gain = jnp.sum(jnp.where(dead | (slope == 0), 0, slope * (slope / (2 * unit(jnp.maximum(curve, slope))))))
    length = jnp.maximum(jnp.abs(x), eps**0.75 * first)  # a far start shall not loosen the tests
    scale, height = jnp.sum(curvature * length * length), jnp.abs(cost)
    pivot = _smallest_pivot(scaled)
    known = ((curvatures[0] >= -blur) & still) | (pivot > 4 * x.size * eps)
    strict = _LOOSE * eps * (height + eps * scale)
    noise = strict + _LOOSE * eps * jnp.sqrt(height) * jnp.sqrt(scale)
    return Model(first, size, curvatures, vectors, slopes, gain, scale, noise, strict, blur, still, pivot, known)


def _smallest_pivot(hessian: jax.Array) -> jax.Array:
    """The smallest pivot of Cholesky's factorisation of a matrix scaled to a diagonal of ones; NaN if it is not positive definite.

    It says whether a matrix is definite where eigenvalues do not: rounding hides those that are small because a variable is.
    """
    size = jnp.sqrt(jnp.abs(jnp.diagonal(hessian)))
    factor = jnp.linalg.cholesky(hessian / unit(size)[:, None] / unit(size)[None, :], symmetrize_input=False)
    return jnp.min(jnp.diagonal(factor)) ** 2


def _sizes(x: jax.Array, g: jax.Array, curvature: jax.Array, first: jax.Array, started: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sizes of the variables at the start, and here.

    At the start they are the variables' absolute values. A variable that starts at zero has the length of its own Newton step, but
    at least a tenth of the length that costs as much as the lengths of the others do; failing both, the geometric mean of the
    others, or else 1. Where all start at zero, the lengths of Newton's steps stand for those of the others. Later they are |x|
    again, but not less than a part of those at the start, and less where the cost is steep.
    """
    size, curved = jnp.abs(x), curvature > 0
    safe = jnp.where(curved, curvature, 1)
    newton = jnp.where(curved, jnp.abs(g) / safe, 0)
    steep = curvature * jnp.where(jnp.any(size > 0), jnp.maximum(size, _FLOOR * first), newton) ** 2
    typical = _median(steep, steep > 0)
    length = jnp.where(curved, jnp.maximum(newton, 0.1 * jnp.sqrt(typical / safe)), 0)
    found = jnp.where(size > 0, size, length)
    known = (found > 0) & jnp.isfinite(found)
    mean = jnp.sum(jnp.where(known, jnp.log(jnp.where(known, found, 1)), 0)) / jnp.maximum(jnp.sum(known), 1).astype(x.dtype)
    first = jnp.where(started, first, jnp.where(known, found, jnp.exp(mean)))

    size = jnp.maximum(jnp.maximum(size, _FLOOR * first), 1e3 * jnp.finfo(x.dtype).tiny)
    steep, most = curvature * size * size, _CAP * typical
    return first, jnp.where((most > 0) & (steep > most), size * jnp.sqrt(most / unit(steep)), size)


def _median(values: jax.Array, wanted: jax.Array) -> jax.Array:
    """The upper median of the values that are wanted, found by counting; 0 if none is."""
    values = jnp.where(wanted, values, -1)
    places = jnp.arange(values.size, dtype=jnp.int32)
    before = (values[None, :] < values[:, None]) | ((values[None, :] == values[:, None]) & (places[None, :] < places[:, None]))
    count = jnp.sum(wanted, dtype=jnp.int32)
    middle = jnp.sum(before, axis=1, dtype=jnp.int32) == values.size - count + count // 2
    return jnp.sum(jnp.where(middle & wanted, values, 0))


def least_in_ball(curve: jax.Array, slopes: jax.Array, radius: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least of c'q + sum(l * q**2) / 2 in |q| <= radius, for l >= 0, and whether it is Newton's step, which lies inside.

    The multiplier m of the radius solves |c / (l + m)| = radius, by Newton's method for the reciprocal, from a bound below (J. J.
    Moré, D. C. Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4 (1983)).
    """

    def at(multiplier: jax.Array) -> jax.Array:
        return jnp.where(slopes == 0, 0, -slopes / unit(curve + multiplier))

    def newton(_: Any, multiplier: jax.Array) -> jax.Array:
        q = at(multiplier)
        square = jnp.sum(q * q)
        bent = jnp.sum(q * q / unit(curve + multiplier))
        return multiplier + jnp.maximum((jnp.sqrt(square) / radius - 1) * square / unit(bent), 0)

    multiplier = jnp.maximum(jnp.max(jnp.abs(slopes) / radius - curve), 0)
    q = at(multiplier)
    inside = (multiplier == 0) & (jnp.sum(q * q) <= radius * radius)
    q = jnp.where(inside, q, at(lax.fori_loop(0, 6, newton, multiplier)))
    return q * jnp.minimum(1, radius / unit(jnp.sqrt(jnp.sum(q * q)))), inside
