"""The quadratic model of a trust region: the exact Hessian in a metric of the variables' sizes.

In the metric s the variables are x = s * y, and energies, which are differences of the cost, are measured in units of r**2, where
r**2 is the largest energy H_ii * s_i**2. So the slopes are s * g / r**2, and the matrix is B = s H s' / r**2, with eigenvalues l
and eigenvectors Q. Steps y are written in the eigenvectors, q = Q'y, where the model of the cost is c'q + sum(l * q**2) / 2 with
c = Q'(s * g) / r**2. Nothing depends on the units of the cost or of the variables.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._products import matmul
from jaxgd._trees import safe_divisor
from jaxgd.methods._curvature import Spectrum
from jaxgd.methods._few import cholesky, solve_lower, solve_upper
from jaxgd.methods._rarely import rarely
from jaxgd.methods._subproblem import FAR, least_in_box

_CAP = 3.0  # natural lengths that a size has at most; 1 to 10 do about as well; without it a narrow peak far from zero is missed
_DETECTED = 1e3  # roundings of the cost that a step of a variable's size changes at least, so that the change has three digits
_TERMS = 8.0  # roundings of a term of a gradient, where its terms cancel: those of the few operations that made it
_TIGHT = 4.0  # roundings of the cost that are nothing to gain: each of two costs has one or two
_LOOSE = 10.0  # roundings that differences of the cost may come from: twice as many and some, for the sums in a cost
_BEYOND = 100.0  # roundings of the cost up to which those of the variables may hide a gain, and the point still be a minimum


class Sizes(NamedTuple):
    """The memory of the sizes of the variables: the largest |x| so far, (n,), and the largest energy so far, as its root."""

    largest: Any
    energy: Any


class Model(NamedTuple):
    """The model at a point, and what is known there about an end of the run. Energies are in units of root**2.

    Attributes:
        sizes: what the next sizes start from.
        size: the metric s, (n,).
        curvatures: l, ascending, (n,).
        vectors: Q, (n, n), an eigenvector a column.
        slopes: c, (n,).
        dead: eigenvectors along which the cost determines nothing: curvature and slope are rounding, (n,).
        newton: Newton's step y, within the bounds, (n,).
        root: r.
        blur: what rounding may make of an eigenvalue.
        gain: the fall that Newton's step promises.
        most: the fall that is left at most, if curvatures below `blur` are as large as that.
        noise: what rounding may make of a difference of costs.
        strict: the same without what the rounding of the variables does to the terms of the cost.
        shift: what the rounding of the variables does to the cost at a minimum.
        allowance: a gain that rounding hides, at a minimum.
        definite: whether H is positive definite beyond rounding, whatever the metric.
        sound: whether the model has a minimum: positive definite but for dead eigenvectors.
    """

    sizes: Sizes
    size: Any
    curvatures: Any
    vectors: Any
    slopes: Any
    dead: Any
    newton: Any
    root: Any
    blur: Any
    gain: Any
    most: Any
    noise: Any
    strict: Any
    shift: Any
    allowance: Any
    definite: Any
    sound: Any

    @property
    def stiff(self) -> jax.Array:
        """Absolute eigenvalues, with the largest one where an eigenvector is dead, so that no step goes there."""
        curve = jnp.abs(self.curvatures)
        return jnp.where(self.dead, jnp.maximum(jnp.max(curve), 1), curve)

    @property
    def live(self) -> jax.Array:
        """The slopes without those of dead eigenvectors."""
        return jnp.where(self.dead, 0, self.slopes)

    @property
    def semidefinite(self) -> jax.Array:
        """Whether no eigenvalue is negative beyond rounding."""
        return self.curvatures[0] >= -self.blur

    @property
    def calm(self) -> jax.Array:
        """Whether there is a minimum, and nothing to gain that rounding would not hide."""
        return self.sound & (self.gain <= self.allowance)

    @property
    def flat(self) -> jax.Array:
        """Whether the gradient is zero along all that is determined, and no curvature negative."""
        return jnp.all(self.live == 0) & self.semidefinite

    def energy(self, difference: jax.Array) -> jax.Array:
        """Return a difference of costs in the units of the model."""
        return difference / self.root / self.root

    def determined(self, change: jax.Array) -> jax.Array:
        """Return a change of the variables without what it does along dead eigenvectors, in the variables' own units."""

        def project() -> jax.Array:
            null = jnp.where(self.dead, self.size[:, None] * self.vectors, 0)
            null = null / safe_divisor(jnp.sqrt(jnp.sum(null * null, axis=0)))
            gram = matmul(null.T, null) + jnp.diag(jnp.where(self.dead, 0, jnp.ones_like(self.size)))
            factor = cholesky(gram)
            projected = change - matmul(null, solve_upper(factor, solve_lower(factor, matmul(null.T, change))))
            return jnp.where(jnp.all(jnp.isfinite(projected)), projected, change)

        return rarely(jnp.any(self.dead), project, change)

    def absolute(self) -> tuple[jax.Array, jax.Array]:
        """Return the convex model, of absolute eigenvalues, in the coordinates y: its matrix and its slopes."""
        return matmul(self.vectors * self.stiff, self.vectors.T), matmul(self.vectors, self.live)


class Place(NamedTuple):
    """A point with its evaluation, packed. `held` are the variables that a bound holds back, and `box` the bounds, or None.

    `curvature` is one of the kinds of `_curvature`.
    """

    x: jax.Array
    cost: jax.Array
    gradient: jax.Array
    curvature: Any
    held: Any
    box: Any


def empty(x: jax.Array) -> Model:
    """Return a model of nothing, of the shapes to come."""
    zero, vector, matrix, no = jnp.zeros((), x.dtype), jnp.zeros_like(x), jnp.zeros((x.size, x.size), x.dtype), jnp.asarray(False)
    return Model(
        Sizes(vector, zero), vector, vector, matrix, vector, jnp.zeros(x.shape, bool), vector,
        zero, zero, zero, zero, zero, zero, zero, zero, no, no,
    )  # fmt: skip


class _Metric(NamedTuple):
    """The metric at a place: the sizes s, the root r, the roots of |H_ii|, and the spectrum of B and of the slopes s * g / r**2."""

    sizes: Sizes
    size: jax.Array
    root: jax.Array
    steepness: jax.Array
    spectrum: Spectrum


def _metric(place: Place, before: Sizes, started: jax.Array, eps: float) -> _Metric:
    """Return the metric, and the curvature and the gradient in it, without the variables that a bound holds."""
    g, curvature = place.gradient, place.curvature.finite()
    if place.held is not None:
        g, curvature = jnp.where(place.held, 0, g), curvature.without(place.held)
    steepness = curvature.roots()  # the roots of H_ii stay in range where energies leave it
    sizes, size = _sizes(place.x, place.cost, g, steepness, before, started, eps)
    root = jnp.max(steepness * size)
    root = safe_divisor(jnp.where(safe_divisor(root) == root, root, jnp.sqrt(jnp.max(jnp.abs(g) * size))))
    scale = size / root
    return _Metric(sizes, size, root, steepness, curvature.spectrum(scale, root, g / root * scale, place.held, eps))


def model(place: Place, before: Model, started: jax.Array, gained: jax.Array, eps: float) -> Model:
    """Return the model at a place; `gained` is the fall of the cost since its highest value.

    `eps` is the rounding unit of the coarsest parameters. A curvature that is not finite is taken for zero, which leaves the
    gradient to follow.
    """
    n, height = place.x.size, jnp.sqrt(jnp.abs(place.cost))
    sizes, size, root, steepness, (curvatures, vectors, slopes, blur, definite, newton, gain) = _metric(
        place, before.sizes, started, eps
    )
    curve = jnp.abs(curvatures)
    lengths = steepness * (size / root)
    if place.held is not None:
        lengths = jnp.where(place.held, 1, lengths)
    cancelling = _TERMS * eps * height / root * matmul(lengths, jnp.abs(vectors))
    dead = (curve <= blur) & (jnp.abs(slopes) <= cancelling + n * eps * jnp.sqrt(jnp.sum(slopes * slopes))) & ~definite
    found = before._replace(curvatures=curvatures, vectors=vectors, slopes=slopes, dead=dead, blur=blur)
    q = jnp.where(found.live == 0, 0, -found.live / safe_divisor(found.stiff))
    straight = jnp.any((found.stiff == 0) & (found.live != 0))
    newton = jnp.where(definite, newton, matmul(vectors, q))
    gain = jnp.where(definite, gain, jnp.where(straight, jnp.inf, -jnp.sum(q * found.live) / 2))
    sound = definite | (found.semidefinite & jnp.all(dead | (curvatures > blur) | (slopes == 0)))
    if place.box is not None:
        newton, gain = _newton_in_box(found, place.x, size, newton, gain, place.box)

    most = jnp.sum(jnp.where(found.live == 0, 0, found.live * (found.live / safe_divisor(jnp.maximum(curve, blur))))) / 2
    cost, across = height / root * height / root, jnp.sum(jnp.square(steepness / root * place.x))
    shift = eps * eps * across
    strict = _LOOSE * (eps * cost + shift)
    return found._replace(
        sizes=sizes,
        size=size,
        newton=newton,
        root=root,
        gain=gain,
        most=most,
        noise=strict + _LOOSE * eps * jnp.sqrt(cost) * jnp.sqrt(across),
        strict=strict,
        shift=shift,
        allowance=_allowance(cost, shift, gained / root / root, n, eps),
        definite=definite,
        sound=sound,
    )


def _allowance(cost: jax.Array, shift: jax.Array, gained: jax.Array, n: int, eps: float) -> jax.Array:
    """Return the gain that rounding hides at a minimum: four roundings of the cost, and `shift`, that of the variables.

    What the variables' rounding does to the cost counts where it is hardly more than the cost's own rounding, or where the cost
    itself is no more than that, as at a minimum whose cost is zero, unless it is a part of what was gained.
    """
    none = (cost <= 10 * n * shift) & ((shift <= eps * jnp.maximum(gained, cost)) | (gained <= shift))
    counts = (shift <= _BEYOND * eps * cost) | none
    return _TIGHT * eps * cost + jnp.where(counts, shift, 0)


def _newton_in_box(found: Model, x: jax.Array, size: jax.Array, newton: jax.Array, gain: jax.Array, box: Any) -> Any:
    """Return Newton's step within the bounds, and its gain."""
    low, high = ((side - x) / size for side in box)
    boxed = jnp.any((newton < low) | (newton > high))

    def limited() -> tuple[jax.Array, jax.Array]:
        return least_in_box(*found.absolute(), jnp.maximum(low, -FAR), jnp.minimum(high, FAR))

    return rarely(boxed, limited, (newton, gain))


def _sizes(
    x: jax.Array, cost: jax.Array, g: jax.Array, steepness: jax.Array, before: Sizes, started: jax.Array, eps: float
) -> tuple[Sizes, jax.Array]:
    """Return what the sizes remember, and the sizes of the variables.

    A size is the largest |x| so far, but at most three natural lengths sqrt(energy / H_ii), and at least what changes the cost by a
    thousand of its roundings. The energy is the largest so far of the cost's own size and of what a Newton step of each variable
    alone would gain. Variables that start at zero have three natural lengths, all shortened by one factor until no natural length
    costs more than the whole cost along its slope; without a curvature, the least of those lengths along a slope; failing both, the
    geometric mean of the least and the largest of the others.
    """
    curved, sloped = steepness > 0, g != 0
    safe, slope = jnp.where(curved, steepness, 1), jnp.where(sloped, jnp.abs(g), 1)
    height = jnp.sqrt(jnp.abs(cost))
    newton = jnp.sqrt(jnp.sum(jnp.square(jnp.where(curved, g / safe, 0))) / 2)
    energy = jnp.maximum(before.energy, jnp.maximum(height, newton))

    along = jnp.where(sloped, jnp.abs(cost) / slope, 0)
    several = curved & (along > 0) & (x == 0)
    shorter = jnp.minimum(jnp.maximum(height, newton), jnp.min(jnp.where(several, along * steepness, jnp.inf)))
    straight = jnp.min(jnp.where(~curved & (along > 0) & (x == 0), along, jnp.inf))
    natural = jnp.where(curved & (shorter > 0), _CAP * shorter / safe, jnp.where(along > 0, straight, 0))
    found = jnp.where(x == 0, natural, jnp.abs(x))
    known = (found > 0) & jnp.isfinite(found)
    ends = jnp.min(jnp.where(known, found, jnp.inf)), jnp.max(jnp.where(known, found, 0))
    mean = jnp.where(jnp.any(known), jnp.sqrt(ends[0]) * jnp.sqrt(ends[1]), 1)
    largest = jnp.maximum(jnp.where(started, before.largest, jnp.where(known, found, mean)), jnp.abs(x))

    size = jnp.where(curved & (energy > 0), jnp.minimum(largest, _CAP * energy / safe), largest)
    by_slope = jnp.where(sloped, _DETECTED * eps * jnp.abs(cost) / slope, jnp.inf)
    by_curvature = jnp.where(curved, (_DETECTED * eps) ** 0.5 * height / safe, jnp.inf)
    seen = jnp.minimum(by_slope, by_curvature)
    size = jnp.maximum(size, jnp.where(jnp.isfinite(seen), seen, 0))
    return Sizes(largest, energy), jnp.maximum(size, 1e3 * jnp.finfo(x.dtype).tiny)
