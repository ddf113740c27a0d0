"""The part of the cost that rounding hides from L-BFGS, and the probe of the variables that may have more than that to gain."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._products import matmul, vdot
from jaxgd._trees import all_finite, pack, safe_divisor, select
from jaxgd.methods import _pairs, line_search
from jaxgd.methods._pairs import Pairs
from jaxgd.methods.line_search import Search
from jaxgd.methods.protocol import Point

_COST = 4.0  # roundings of a difference of two costs, each of which has one or two
_VARIABLES = 8.0  # squares of roundings of the variables that a cost hides: (2 * sqrt(2) units in the last place)**2
_SUMS = 64.0  # roundings that a sum may have more than its terms
GREEDY = 8.0  # over the floor: so much promised by the pairs is not believed after a probe that found less
_VISIBLE = 64.0  # over the floor: the cost along a step of 5.7 times the length that the slope left asks for (5.7**2 = 64 / 2)


class Hidden(NamedTuple):
    """The part of a fall of the cost that rounding hides.

    `floor` is that of the cost's own number and of the variables, eps**2 * `energy` with energy = sum of B_ii * x_i**2, B the
    Hessian; `rough` is what the last trials showed where the cost is rounded more than that.
    """

    floor: Any
    energy: Any
    rough: Any

    @property
    def largest(self) -> jax.Array:
        """The larger of `floor` and `rough`."""
        return jnp.maximum(self.floor, self.rough)


class Place:
    """A point with its vectors packed, and the box around it."""

    def __init__(self, point: Point, bounds: Any) -> None:
        self.params, self.gradient = pack(point.params), pack(point.gradient)
        self.cost = point.cost.astype(self.params.dtype)
        self.eps, self.tiny = (float(getattr(jnp.finfo(self.params.dtype), name)) for name in ("eps", "tiny"))
        self.finite = all_finite(self.cost, self.params, self.gradient)
        self.box = None if bounds is None else (pack(bounds.lower), pack(bounds.upper))

    def of_the_free(self, vector: jax.Array) -> jax.Array:
        """Return a vector without the variables that a bound holds back."""
        if self.box is None:
            return vector
        held = ((self.params <= self.box[0]) & (self.gradient >= 0)) | ((self.params >= self.box[1]) & (self.gradient <= 0))
        return jnp.where(held, jnp.zeros_like(vector), vector)

    def inside(self, direction: jax.Array, rate: jax.Array) -> jax.Array:
        """Return the direction in which a search from here goes at a rate: none for variables at their walls."""
        if self.box is None:
            return direction
        ahead = self.params + rate * direction
        return jnp.where((ahead > self.box[0]) & (ahead < self.box[1]), direction, jnp.zeros_like(ahead))


def hidden_at(place: Place, y: jax.Array, rise: jax.Array, origin: jax.Array, hidden: Hidden) -> Hidden:
    """Return what rounding hides at an accepted point, to which the gradient changed by y, with s'y = `rise`.

    The energy is that of this pair. Energies of steps in other directions are forgotten by a factor of 16 at every point.
    """
    extent = y * _extent(place, origin)
    energy = jnp.where(rise > 0, vdot(extent, extent) / safe_divisor(rise), 0)
    energy = jnp.maximum(jnp.where(jnp.isfinite(energy), energy, 0), hidden.energy / 16)
    floor = noise(place) + _VARIABLES * place.eps**2 * energy
    return Hidden(floor, energy, jnp.minimum(hidden.rough, most_rough(place, energy, floor)))


def _extent(place: Place, origin: jax.Array) -> jax.Array:
    """Return the sizes of the variables; one that ends at zero counts with a rounding of its start."""
    return jnp.maximum(jnp.abs(place.params), place.eps * jnp.abs(origin))


def noise(place: Place) -> jax.Array:
    """Return the rounding error of a difference of two costs, at least the smallest normal number divided by eps."""
    return _COST * place.eps * jnp.abs(place.cost) + place.tiny / place.eps


def most_rough(place: Place, energy: jax.Array, floor: jax.Array) -> jax.Array:
    """Return an upper bound of the rounding error of a cost that is a sum, whose terms the energy bounds."""
    return _SUMS * place.eps * (jnp.abs(place.cost) + jnp.sqrt(jnp.abs(place.cost) * energy)) + 16 * floor


def farthest(floor: jax.Array, eps: float) -> jax.Array:
    """Return the largest s'y of a pair that still counts as near the end of the run."""
    return floor / eps**0.5


def visible(floor: jax.Array, rise: jax.Array) -> jax.Array:
    """Return the factor that shortens a step with s'y = `rise` until its effect on the cost is just visible."""
    return jnp.sqrt(2 * _VISIBLE * floor) / jnp.sqrt(safe_divisor(rise))


def known_steepness(place: Place, pairs: Pairs, floor: jax.Array) -> jax.Array:
    """Return the square roots of lower bounds of the second derivatives, from pairs near the end of the run."""
    return _pairs.steepness(pairs, _VISIBLE * floor, farthest(floor, place.eps))


def floor_of(place: Place, steep: jax.Array, origin: jax.Array) -> jax.Array:
    """Return the floor of `Hidden` for square roots `steep` of the second derivatives."""
    roundings = place.eps * steep * _extent(place, origin)
    return noise(place) + _VARIABLES * vdot(roundings, roundings)


class Probe(NamedTuple):
    """A search that shows whether some variables have anything to gain."""

    sizes: Any
    squares: Any
    direction: Any
    search: Search


def probe(
    place: Place, pairs: Pairs, sizes: jax.Array, origin: jax.Array, which: jax.Array, hidden: Hidden, first: jax.Array
) -> Probe:
    """Return a search along the gradient of some variables.

    In the `first` probe each variable takes the Newton step of the lower bound of its second derivative, or, where no bound is
    known, a step long enough for its slope to show in the cost. In later probes every variable takes such a visible step, at most
    its own size: those with the least to gain then raise the cost the most, become known, and leave the probe.
    """
    g = place.of_the_free(place.gradient)
    seen = _pairs.reaction(pairs) > 16 * place.eps * jnp.abs(g)
    most = jnp.where(seen, jnp.abs(place.cost) + hidden.energy, _VISIBLE * hidden.floor)
    steep = jnp.maximum(_pairs.steepness(pairs, 0.0, jnp.inf), jnp.abs(g) / jnp.sqrt(most))
    root = jnp.where(first & (steep > 0), 1 / safe_divisor(steep), jnp.sqrt(sizes))
    scaled = jnp.where(which, root * g, 0)
    largest = safe_divisor(jnp.max(jnp.abs(scaled)))
    scaled = scaled / largest
    long = jnp.maximum(largest, jnp.sqrt(_VISIBLE * hidden.floor / safe_divisor(vdot(scaled, scaled))))
    size = jnp.maximum(jnp.abs(place.params), jnp.abs(origin))
    size = jnp.where(size > 0, size, safe_divisor(jnp.max(size)))
    shown = jnp.where(which & (g != 0), -jnp.sign(g) * jnp.minimum(_VISIBLE * hidden.floor / safe_divisor(jnp.abs(g)), size), 0)
    direction, rate = jnp.where(first, -root * scaled, shown), jnp.where(first, long, 1)
    search = line_search.begin(place.cost, vdot(direction, place.gradient), rate)
    root = root / (
        jnp.sqrt(safe_divisor(jnp.max(root))) * jnp.sqrt(safe_divisor(jnp.min(root)))
    )  # its square neither overflows nor vanishes
    return Probe(root * root, matmul(pairs.changes * root, (pairs.changes * root).T), direction, search)


def nearer(accepted: jax.Array, there: Place, here: Place) -> Place:
    """Return the current point after a trial."""
    place = object.__new__(Place)
    place.__dict__.update(here.__dict__)
    place.params, place.gradient, place.cost = select(
        accepted, (there.params, there.gradient, there.cost), (here.params, here.gradient, here.cost)
    )
    return place
