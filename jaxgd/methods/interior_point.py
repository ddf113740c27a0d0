"""An interior point method for equations and inequalities, as a state machine of one evaluation a tick.

A tick judges the trial, decides what follows, and where a new direction is asked for finds it.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._checks import check
from jaxgd._trees import all_finite, bundled, pack, pytree, safe_divisor, select, static, unbundled, unpack, with_fields
from jaxgd.methods._barrier import Place, Units
from jaxgd.methods._interior_direction import renewed
from jaxgd.methods._interior_memory import ENTER, Frame, Memory, rounding, tolerance
from jaxgd.methods._interior_trial import judge, turn
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING


class Prices(NamedTuple):
    """The multipliers of the constraints, in the units of cost and constraints, and which of them are active."""

    multipliers: Any
    active: Any


@pytree
class InteriorPoint(Method):
    """Minimise under equations and inequalities by a primal-dual interior point method: for up to some hundreds of parameters.

        minimise f(x) - w * sum(log(s)) - w * sum(log(x - low) + log(high - x))   subject to   c_E(x) = 0,   c_I(x) - s = 0

    for a sequence of weights w that tends to zero, each by Newton steps with the exact second derivatives of the Lagrangian; the
    weight falls, to a fifth or to its power 1.5, when the conditions of optimality hold to ten times w. It is the default of
    `minimize` under constraints for up to 500 parameters.

    A step keeps a hundredth of every distance from a wall. It is accepted if it lowers the violation or the cost with its barriers
    enough, and no pair of both is as bad as one that a filter remembers; halved otherwise, after one correction of second order.
    Where the curvature along the constraints is not positive, a multiple of the identity is added until it is, and some more after
    steps of which little could be taken. Where no step is accepted far from feasible points, a restoration minimises the squares of
    what is violated, near the point where it began, until the filter accepts a point. What that ends at elsewhere is least
    infeasible.

    Cost and constraints are in units in which no gradient at the first point has a number above 100; tiny ones are enlarged. Once
    the conditions hold, a *polish* takes what is active for equations and solves these without barriers, by up to some Newton
    steps, as long as the error falls: active constraints and bounds then hold to rounding, and multipliers of inactive ones are
    zero. A point at which the curvature along what is active is negative is no minimum: the run goes on along it.

    | seen | the run ends as |
    |---|---|
    | the conditions of optimality hold to 2e-9, in single precision to 2e-4, and the polish gains no more | CONVERGED |
    | in a restoration, no move lowers the violation, which is not small | INFEASIBLE |
    | no step is accepted, after three attempts with a larger barrier | STALLED |
    | they hold, but the multipliers say that what is violated is worth a thousand times that of the cost | STALLED |
    | the cost falls below -1e20, in single precision -1e9, and the cost at the start is nothing beside it | UNBOUNDED |
    | neither the start nor a point inside the bounds is finite | DIVERGED |

    The conditions are those of Karush, Kuhn and Tucker: the gradient of the Lagrangian times the sizes of the variables (at least
    1), the violation, and the products of multipliers and distances, relative to mean multipliers where these are between 100 and
    10 000. Rounding is allowed for: at the end, an error counts only beyond what the rounding of the variables does to it, and
    slacks begin at minus the square root of the rounding unit, so that a feasible set without an inside has room, until the polish.

    Args:
        barrier: the first weight w of the barriers, > 0, in units of the run. A small one stays nearer to a good start.
        n_equations: how many equations there are; `minimize` fills it in.
        n_inequalities: how many inequalities there are, likewise.

    A new direction costs a Hessian of the cost and of the constraints, and takes time and memory as a dense matrix of all variables
    and constraints does.

    A. Wächter, L. Biegler, On the implementation of an interior-point filter line-search algorithm for large-scale nonlinear
    programming, Math. Program. 106 (2006). Other than there, the restoration minimises squares and not absolute values, which
    needs no further variables, the slack of an inequality that stays well inside is its value, short steps make the next
    direction shorter, and the run ends with a polish.

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda x: x[0] + x[1], [2.0, 0.0], equality=lambda x: x[0]**2 + x[1]**2 - 2, dtype="float64")
    >>> result.converged, result.params.round(9).tolist(), result.constraints.multipliers["equality"].round(9).tolist()
    (True, [-1.0, -1.0], -0.5)
    """

    traits: ClassVar[Traits] = Traits(
        requires="constraints", can_reject=True, can_end=True, checks_convergence=True, default_max_steps=1000
    )
    barrier: Any = 1.0
    n_equations: int = static(default=0)
    n_inequalities: int = static(default=0)

    def __post_init__(self) -> None:
        check.positive("InteriorPoint: barrier", self.barrier)

    def sized(self, n_equations: int, n_inequalities: int) -> "InteriorPoint":
        """Return the method for these numbers of equations and inequalities."""
        return with_fields(self, n_equations=n_equations, n_inequalities=n_inequalities)

    def _blank(self, x: jax.Array) -> Memory:
        return Memory.empty(x.size, self.n_equations + self.n_inequalities, self.n_inequalities, x.dtype)

    def init(self, params: Any) -> tuple[jax.Array, ...]:
        x = pack(params)
        return bundled(self._blank(x), x.dtype)

    def multipliers(self, params: Any, state: tuple[jax.Array, ...]) -> "Prices":
        """Return the multipliers at the end, and which constraints are active."""
        memory = unbundled(state, self._blank(pack(params)))
        units = safe_divisor(memory.units.constraints) / safe_divisor(memory.units.cost)
        multipliers, e = -memory.it.y * units, self.n_equations
        scaled = memory.values * memory.units.constraints
        active = (-memory.it.y > scaled).at[:e].set(True)
        multipliers = multipliers.at[e:].set(jnp.where(active[e:], jnp.maximum(multipliers[e:], 0), 0))
        return Prices(multipliers, active)

    def is_feasible(self, params: Any, state: tuple[jax.Array, ...]) -> jax.Array:
        """Return whether a point that was evaluated violates no constraint by more than the tolerance, in units of the run."""
        x = pack(params)
        memory = unbundled(state, self._blank(x))
        values = memory.values * memory.units.constraints
        missed = jnp.where(jnp.arange(values.size) < self.n_equations, jnp.abs(values), jnp.maximum(-values, 0))
        return jnp.max(missed, initial=0.0) <= 10 * tolerance(rounding(params))

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        if problem.constraints is None:
            raise TypeError("method: InteriorPoint needs constraints: a method that wraps it has to require 'constraints' too.")
        constraints, current, bounds = problem.constraints, problem.current, problem.bounds
        x, x_old = pack(point.params), pack(current.params)
        before: Memory = unbundled(state, self._blank(x))
        box = None if bounds is None else (pack(bounds.lower), pack(bounds.upper))
        frame = Frame.of(point.params, box, x, self.n_inequalities)
        found = Place(x, point.cost.astype(x.dtype), pack(point.gradient), *constraints.evaluate(point.params))
        old = Place(x_old, current.cost.astype(x.dtype), pack(current.gradient), before.values, before.jacobian)
        fresh = before.stage <= ENTER
        units = select(fresh, Units.at(found), before.units)
        here, there = before.units.applied(old), units.applied(found)
        trial = judge(frame, before, there, all_finite(found.cost, found))
        code, follows = turn(frame, before, here, there, trial)
        at, params = (select(follows.moved, *pair) for pair in ((there, here), (point.params, current.params)))
        memory = follows.memory._replace(
            units=units,
            values=jnp.where(follows.moved, found.values, before.values),
            jacobian=jnp.where(follows.moved, found.jacobian, before.jacobian),
            barrier=jnp.where(fresh, self.barrier, follows.memory.barrier).astype(x.dtype),
            first=jnp.where(fresh, found.cost, before.first),
        )

        def curvature(weight: jax.Array, weights: jax.Array) -> jax.Array:
            return constraints.curvature(params, weight * units.cost, weights * units.constraints)

        def go() -> Any:
            after, ends = renewed(frame, curvature, at, follows._replace(memory=memory))
            return bundled(after, x.dtype), ends

        kept = bundled(memory, x.dtype)
        after, ends = lax.cond(follows.renews, go, lambda: (kept, jnp.int32(RUNNING)))
        move = unbundled(after, before).move[: x.size]
        return Step(unpack(move, point.params), after, trial.accepted, jnp.where(code == RUNNING, ends, code))
