"""The memory of an interior point method between two evaluations."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd.methods._barrier import Iterate, Units, Walls

START, ENTER, SEARCH, RESTORE, POLISH = range(5)  # the stages of a run
FILTER = 32  # pairs that the filter remembers
_TOLERANCE = 0.55  # power of the rounding unit: the errors at which a run has converged


class Frame(NamedTuple):
    """The numbers of a run that stay the same: the walls, how many slacks there are, the rounding unit, and the tolerance."""

    walls: Walls
    n_slacks: int
    eps: float
    tolerance: float

    @staticmethod
    def of(params: Any, box: Any, x: jax.Array, n_slacks: int) -> "Frame":
        """Return the frame of parameters, packed into x, in a box, two vectors or None."""
        eps = rounding(params)
        return Frame(Walls.of(box, x, n_slacks, eps**0.5), n_slacks, eps, tolerance(eps))


def rounding(params: Any) -> float:
    """Return the rounding unit of the coarsest parameters."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(params) if leaf.size)


def tolerance(eps: float) -> float:
    """Return the errors at which a run has converged, 2e-9 in double and 2e-4 in single precision."""
    return eps**_TOLERANCE


class Filter(NamedTuple):
    """The last pairs of violation and merit that no point may reach in both, and how many there were."""

    violations: Any
    merits: Any
    count: Any

    @staticmethod
    def empty(dtype: Any) -> "Filter":
        """Return a filter that lets everything pass."""
        endless = jnp.full((FILTER,), jnp.inf, dtype)
        return Filter(endless, endless, jnp.zeros((), jnp.int32))

    def passes(self, violation: jax.Array, merit: jax.Array) -> jax.Array:
        """Return whether a point is better than every pair in one of the two."""
        return jnp.all((violation < self.violations) | (merit < self.merits))

    def blocking(self, violation: jax.Array, merit: jax.Array, wanted: jax.Array) -> "Filter":
        """Return the filter with a pair more, if it is wanted."""
        here = wanted & (jnp.arange(FILTER, dtype=jnp.int32) == self.count % FILTER)
        pairs = jnp.where(here, violation, self.violations), jnp.where(here, merit, self.merits)
        return Filter(*pairs, self.count + wanted.astype(jnp.int32))

    def cleared(self, wanted: jax.Array) -> "Filter":
        """Return an empty filter, if it is wanted."""
        return self._replace(violations=jnp.where(wanted, jnp.inf, self.violations), merits=jnp.where(wanted, jnp.inf, self.merits))


class Restoration(NamedTuple):
    """A restoration: variables and slacks where it began, the violation there, its weight, and the search's parameter meanwhile."""

    anchor: Any
    violation: Any
    width: Any
    barrier: Any

    def merit(self, barrier: Any, x: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the merit but for the barriers, the gradient of its part that holds the variables near, and its curvature.

        |left|**2 / (2 * width) + sqrt(barrier) / 2 * |(x - anchor) / max(1, |anchor|)|**2
        """
        start = self.anchor[: x.size]
        weight = jnp.sqrt(barrier) / jnp.maximum(1, jnp.abs(start)) ** 2
        apart = x - start
        return jnp.sum(weight * apart**2) / 2 + jnp.sum(left * left) / (2 * self.divisor), weight * apart, weight

    @property
    def divisor(self) -> jax.Array:
        """The width, or 1 before the first restoration."""
        return jnp.where(self.width > 0, self.width, 1)


class Memory(NamedTuple):
    """All that the method remembers beside the current point.

    Attributes:
        it: the slacks and multipliers there.
        values: the constraints there, (m,), and `jacobian` their Jacobian, (m, n).
        jacobian: see `values`.
        units: those of cost and constraints.
        barrier: the weight of the barriers.
        damping: the last one that a system needed for its inertia, and `floor` the least one, after short steps.
        floor: see `damping`.
        along: the direction of variables and slacks, (n + p,), and `ahead` that of the multipliers.
        ahead: see `along`.
        move: the move of variables and slacks that is tried.
        share: the share of the direction that is tried, and `share_z` that of the walls' multipliers.
        share_z: see `share`.
        shortest: the share below which the filter accepts nothing.
        violation: the violation at the current point, `merit` the merit, and `slope` its slope along the direction.
        merit: see `violation`.
        slope: see `violation`.
        filter: the filter.
        most: the violation above which no point is accepted, and `little` that below which the merit has to fall.
        little: see `most`.
        stage: START before the first point, ENTER on the way into the box, SEARCH, RESTORE or POLISH.
        refusals: the trials refused along this direction.
        restoration: the last one.
        rescues: how often the run began anew, or left a saddle.
        error: the natural error at the current point, and `blur` what the rounding of the variables does to it.
        blur: see `error`.
        settled: whether the conditions of optimality hold there.
        tiny: steps in a row that are rounding.
        first: the cost at the start.
    """

    it: Any
    values: Any
    jacobian: Any
    units: Any
    barrier: Any
    damping: Any
    floor: Any
    along: Any
    ahead: Any
    move: Any
    share: Any
    share_z: Any
    shortest: Any
    violation: Any
    merit: Any
    slope: Any
    filter: Any
    most: Any
    little: Any
    stage: Any
    refusals: Any
    restoration: Any
    rescues: Any
    error: Any
    blur: Any
    settled: Any
    tiny: Any
    first: Any

    @staticmethod
    def empty(n: int, m: int, p: int, dtype: Any) -> "Memory":
        """Return the memory before the first evaluation, of n variables and m constraints, p of them inequalities."""
        zero, count, no = jnp.zeros((), dtype), jnp.zeros((), jnp.int32), jnp.asarray(False)
        v, y, s = jnp.zeros((n + p,), dtype), jnp.zeros((m,), dtype), jnp.zeros((p,), dtype)
        it = Iterate(s, y, v, v)
        fields = dict.fromkeys(Memory._fields, zero) | {
            "it": it,
            "ahead": it,
            "values": y,
            "jacobian": jnp.zeros((m, n), dtype),
            "units": Units(zero, y),
            "along": v,
            "move": v,
            "filter": Filter.empty(dtype),
            "restoration": Restoration(v, zero, zero, zero),
            "settled": no,
        }
        return Memory(**fields | dict.fromkeys(("stage", "refusals", "rescues", "tiny"), count))
