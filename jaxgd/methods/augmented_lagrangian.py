"""An augmented Lagrangian for equations and inequalities of many parameters, as a state machine of one evaluation a tick.

A *round* minimises the augmented Lagrangian by a method of its own, and ends where the conditions of optimality hold to the round's
tolerance, or where that method ends. Between two rounds the multipliers change, or the weight of the squares grows.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._checks import check
from jaxgd._trees import all_finite, pack, pytree, safe_divisor, select, static, unpack, with_fields
from jaxgd.methods._interior_memory import rounding, tolerance
from jaxgd.methods.interior_point import Prices
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.methods.truncated_newton import TruncatedNewton
from jaxgd.result import RUNNING, Status

_PROBES = 8  # random signs that show how long the gradients of the constraints are; each costs a product
_SCALED = 100.0  # the largest number of the cost's gradient at the start, in units of the run
_HEAVIER = 10.0  # a round after which little was gained makes the weight so much larger
_ENOUGH = 0.5  # of the violation, that a round leaves at most
_MOVING = 0.9  # of the violation: a round that leaves more does not change the multipliers
_STRICTER = 0.1  # the tolerance of the next round relative to the last
_FIRST = 1e-2  # the tolerance of the first round
_HEAVIEST = -0.6  # power of the rounding unit: the largest weight, relative to the first
_MULTIPLIERS = -0.75  # the same for multipliers
_ANEW = 1e3  # times the weight, with which a run that came to nothing, or a round without a minimum, begins anew
_IDLE = 3  # rounds in a row that move nothing, which end the run
_MEAN = 100.0  # the mean multiplier above which the errors are relative to it
_HUGE = 100.0  # the largest divisor of errors
_FLAT = 1e-3  # of the violation: its gradient, in a point that is least infeasible
_NOTHING = 1e6  # times the cost at the start, beside which that is nothing
_BOTTOMLESS = 1.25  # power of the rounding unit: one over the size of a cost below which there is no minimum


class Seen(NamedTuple):
    """An evaluated point in units of the run.

    Attributes:
        x: the parameters, (n,).
        cost: the cost, and `lagrangian` the augmented Lagrangian.
        lagrangian: see `cost`.
        slope: the gradient of that, (n,).
        values: the constraints, (m,).
        prices: the multipliers for which the gradient of the Lagrangian is the `slope`, (m,).
    """

    x: Any
    cost: Any
    lagrangian: Any
    slope: Any
    values: Any
    prices: Any


class AugmentedLagrangianState(NamedTuple):
    """The state of the method.

    Attributes:
        inner: the state of the method that minimises.
        at: the current point as it was seen.
        multipliers: those of the round, (m,).
        weight: that of the squares.
        first: the first weight.
        units: those of the constraints, (m,), and `unit` that of the cost.
        unit: see `units`.
        tolerance: that of the round.
        missed: how far the constraints were missed at the end of the last round.
        anchor: the point at which the round began, (n,), and `start` that at which the run did.
        start: see `anchor`.
        anew: whether the run has begun anew from its start.
        bottom: the cost below which there is no minimum.
        idle: rounds in a row that moved nothing.
        started: whether the start has been evaluated.
    """

    inner: Any
    at: Seen
    multipliers: Any
    weight: Any
    first: Any
    units: Any
    unit: Any
    tolerance: Any
    missed: Any
    anchor: Any
    start: Any
    anew: Any
    bottom: Any
    idle: Any
    started: Any


@pytree
class AugmentedLagrangian(Method):
    """Minimise under equations and inequalities by an augmented Lagrangian: for more than some hundreds of parameters.

        minimise f(x) + sum(z**2 - y**2) / (2 * w),    z = y - w * c(x), for inequalities at least 0;    then y = z

    by `TruncatedNewton`, in rounds. No matrix is formed, so time and memory of an evaluation grow as parameters and constraints do.
    It is the default of `minimize` under constraints for more than 500 parameters, where `InteriorPoint`, which needs fewer
    evaluations and is more exact, spends its time on matrices.

    The weight w begins at `weight` times the cost over the squares of what is violated, each at least 1, and at most at `weight`.
    It grows tenfold after a round that left more than half of the violation, and y stays after one that left nine tenths. A round
    ends where the gradient is below a tolerance, which falls at least tenfold from round to round, down to that of the run. Each
    constraint is in units of the length of its gradient at the start, and the cost in units in which its gradient there has no
    number above 100.

    | seen | the run ends as |
    |---|---|
    | the conditions of optimality hold to 2e-9, in single precision to 2e-4 | CONVERGED |
    | those of the constraints do, and rounding of the cost hides what is left of the gradient | CONVERGED |
    | the largest weight lowers the violation no more, and no small move does | INFEASIBLE |
    | neither, and rounds move nothing any more | STALLED |
    | the cost has no lower bound, with the largest weight or where no constraint is violated | UNBOUNDED |
    | cost or constraints at the start are not finite | DIVERGED |

    The conditions are those of `InteriorPoint`: the move that the gradient of the Lagrangian asks for within the bounds, in units
    of the variables (at least 1), the violation, and for inequalities the smaller of value and multiplier, relative to mean
    multipliers where these are between 100 and 10 000.

    Args:
        method: the method that minimises: one that needs the gradient alone, judges its points, and ends by itself. `LBFGS()` is
            for costs whose second derivatives are dear or missing.
        weight: the first weight of the squares, > 0.
        n_equations: how many equations there are; `minimize` fills it in.
        n_inequalities: how many inequalities there are, likewise.

    M. R. Hestenes, Multiplier and gradient methods, J. Optim. Theory Appl. 4 (1969); R. T. Rockafellar, Augmented Lagrange
    multiplier functions and duality in nonconvex programming, SIAM J. Control 12 (1974), for inequalities; E. G. Birgin, J. M.
    Martínez, Practical augmented Lagrangian methods for constrained optimization, SIAM (2014), for the weights. Other than there,
    constraints are in units of the lengths of their gradients, found by random signs, a round goes on with the radius of the last,
    and a run that would end with violated constraints begins once more with a thousand times the first weight.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: jnp.sum((x - 1)**2), jnp.zeros(1000), equality=lambda x: jnp.sum(x) - 10, dtype="float64")
    >>> result.converged, round(float(result.params[0]), 6), round(float(result.constraints.multipliers["equality"]), 6)
    (True, 0.01, -1.98)
    """

    traits: ClassVar[Traits] = Traits(requires="weighted constraints", can_reject=True, can_end=True, checks_convergence=True)
    method: Any = TruncatedNewton()
    weight: Any = 10.0
    n_equations: int = static(default=0)
    n_inequalities: int = static(default=0)

    def __post_init__(self) -> None:
        check.positive("AugmentedLagrangian: weight", self.weight)
        traits = self.method.traits if isinstance(self.method, Method) else Traits()
        if traits.requires != "gradient" or not (traits.can_reject and traits.can_end):
            expected = "a method such as LBFGS() that needs the gradient alone and ends by itself"
            raise ValueError(f"AugmentedLagrangian: method: expected {expected}, got {check.show(self.method)}.")

    def sized(self, n_equations: int, n_inequalities: int) -> "AugmentedLagrangian":
        """Return the method for these numbers of equations and inequalities."""
        return with_fields(self, n_equations=n_equations, n_inequalities=n_inequalities)

    def init(self, params: Any) -> AugmentedLagrangianState:
        x = pack(params)
        zero, each = jnp.zeros((), x.dtype), jnp.zeros((self.n_equations + self.n_inequalities,), x.dtype)
        at = Seen(x, zero, zero, jnp.zeros_like(x), each, each)
        return AugmentedLagrangianState(
            inner=self.method.init(params),
            at=at,
            multipliers=each,
            weight=zero,
            first=zero,
            units=each,
            unit=zero,
            tolerance=zero,
            missed=zero,
            anchor=x,
            start=x,
            anew=jnp.asarray(False),
            bottom=zero,
            idle=jnp.zeros((), jnp.int32),
            started=jnp.asarray(False),
        )

    def multipliers(self, params: Any, state: AugmentedLagrangianState) -> Prices:
        """Return the multipliers at the end, and which constraints are active."""
        del params
        prices = state.at.prices
        active = (prices > state.at.values).at[: self.n_equations].set(True)
        return Prices(prices * state.units / safe_divisor(state.unit), active)

    def is_feasible(self, params: Any, state: AugmentedLagrangianState) -> jax.Array:
        """Return whether a point that was evaluated violates no constraint by more than the tolerance, in units of the run."""
        return self.violation(state.at.values, state.units) <= 10 * tolerance(rounding(params))

    def step(self, point: Point, state: AugmentedLagrangianState, problem: Problem) -> Step:
        if problem.constraints is None:
            raise TypeError("method: AugmentedLagrangian needs constraints: a method that wraps it has to require them, too.")
        run = _Run(self, problem, point.params)
        state = lax.cond(state.started, lambda: state, lambda: run.begun(point, state))
        trial = run.seen(point, state)
        like = problem.current.params

        def as_point(seen: Seen) -> Point:
            return Point(unpack(seen.x, like), seen.lagrangian, unpack(seen.slope, like))

        def evaluate(params: Any) -> Point:
            return as_point(run.seen(problem.evaluate(params), state))  # type: ignore[misc]

        inner = problem._replace(evaluate=problem.evaluate and evaluate, current=as_point(state.at), constraints=None)
        answer = self.method.step(as_point(trial), state.inner, inner)
        accepted = answer.accepted | ~state.started
        moved = state.started & accepted & jnp.any(trial.x != state.at.x)
        state = state._replace(
            at=select(accepted, trial, state.at),
            inner=answer.state,
            idle=jnp.where(moved, -1, state.idle),
            started=jnp.asarray(True),
        )
        lost = ~all_finite(trial.lagrangian, trial) & (state.weight == 0)
        errors = run.errors(state)
        over = (answer.code != RUNNING) | (accepted & ((errors.stationary <= state.tolerance) | (state.at.cost < state.bottom)))
        move, state, code = lax.cond(
            over,
            lambda: run.round_over(state, errors, answer.code),
            lambda: (pack(answer.update), state, jnp.int32(RUNNING)),
        )
        return Step(unpack(move, like), state, accepted, jnp.where(lost, Status.DIVERGED.code, code).astype(jnp.int32))

    def violation(self, values: jax.Array, units: jax.Array) -> jax.Array:
        """Return the largest violation, in the constraints' own units as long as their gradients are not above 100."""
        return _most(self.violated(values) * _own(units))

    def equation(self, values: jax.Array) -> jax.Array:
        """Return which constraints are equations, (m,)."""
        return jnp.arange(values.size) < self.n_equations

    def violated(self, values: jax.Array) -> jax.Array:
        """Return the values of what is violated, zero elsewhere, (m,)."""
        return jnp.where(self.equation(values), values, jnp.minimum(values, 0))


class _Errors(NamedTuple):
    """The errors of the conditions of optimality."""

    stationary: Any
    violation: Any
    products: Any

    @property
    def missed(self) -> jax.Array:
        """The largest of those of the constraints."""
        return jnp.maximum(self.violation, self.products)


class _Run:
    """The functions of a step that know the problem."""

    def __init__(self, method: AugmentedLagrangian, problem: Problem, like: Any) -> None:
        self.method, self.constraints, self.like = method, problem.constraints, like
        self.box = None if problem.bounds is None else (pack(problem.bounds.lower), pack(problem.bounds.upper))
        self.eps = rounding(like)
        self.tolerance = tolerance(self.eps)

    def begun(self, point: Point, state: AugmentedLagrangianState) -> AugmentedLagrangianState:
        """Return the state with the units of the start, and the first weight."""
        x = pack(point.params)
        units = 1 / self._lengths(point.params, state.units)
        slope = jnp.max(jnp.abs(pack(point.gradient)), initial=0.0)
        unit = jnp.where(slope > _SCALED, _SCALED / safe_divisor(slope), 1).astype(x.dtype)
        values = units * self.constraints.values(point.params)
        missed = self.method.violated(values)
        share = jnp.maximum(1, jnp.abs(unit * point.cost)) / jnp.maximum(1, jnp.sum(missed * missed) / 2)
        weight = (self.method.weight * jnp.clip(share, 1e-6, 1)).astype(x.dtype)
        weight = jnp.where(jnp.isfinite(weight), weight, 0)
        return state._replace(
            units=units,
            unit=unit,
            weight=weight,
            first=weight,
            start=x,
            bottom=-jnp.maximum(self.eps**-_BOTTOMLESS, _NOTHING * jnp.abs(unit * point.cost)).astype(x.dtype),
            tolerance=jnp.asarray(_FIRST, x.dtype),
            missed=jnp.asarray(jnp.inf, x.dtype),
        )

    def _lengths(self, params: Any, like: jax.Array) -> jax.Array:
        """Return about the lengths of the gradients of the constraints, (m,); one where there is none."""
        x = pack(params)
        push = jax.linear_transpose(lambda weights: self.constraints.pull(params, weights), like)
        signs = jax.random.rademacher(jax.random.key(0), (_PROBES, x.size), x.dtype)
        squares = jnp.mean(jnp.square(lax.map(lambda v: push(v)[0], signs)), axis=0)
        known = (squares > 0) & jnp.isfinite(squares)
        return jnp.where(known, jnp.sqrt(jnp.where(known, squares, 1)), 1).astype(x.dtype)

    def seen(self, point: Point, state: AugmentedLagrangianState) -> Seen:
        """Return a point as it is seen in this round."""
        x, y, weight = pack(point.params), state.multipliers, safe_divisor(state.weight)
        cost = (state.unit * point.cost).astype(x.dtype)
        values = state.units * self.constraints.values(point.params)
        prices = y - weight * values
        prices = jnp.where(self.method.equation(values), prices, jnp.maximum(prices, 0))
        lagrangian = cost + jnp.sum((prices - y) * (prices + y)) / (2 * weight)
        slope = state.unit * pack(point.gradient) - self.constraints.pull(point.params, state.units * prices)
        return Seen(x, cost, lagrangian, slope, values, prices)

    def errors(self, state: AugmentedLagrangianState) -> _Errors:
        """Return the errors of the conditions of optimality."""
        at, own = state.at, _own(state.units)
        dual = jnp.clip(jnp.sum(jnp.abs(at.prices)) / max(at.prices.size, 1) / _MEAN, 1, _HUGE)
        apart = self._move(at.x, at.slope * jnp.maximum(1, jnp.abs(at.x)) / dual)
        smaller = jnp.where(self.method.equation(at.values), 0, jnp.minimum(at.values * own, at.prices / own / dual))
        return _Errors(_most(apart), self.method.violation(at.values, state.units), _most(smaller))

    def _move(self, x: jax.Array, slope: jax.Array) -> jax.Array:
        target = x - slope
        return x - (target if self.box is None else jnp.clip(target, *self.box))

    def round_over(self, state: AugmentedLagrangianState, errors: _Errors, code: jax.Array) -> tuple[Any, ...]:
        """Return the move, the state, and the code after a round."""
        at, y, weight = state.at, state.multipliers, state.weight
        bottomless = (code == Status.UNBOUNDED.code) | (at.cost < state.bottom)
        smaller = jnp.where(self.method.equation(at.values), at.values, jnp.minimum(at.values, y / safe_divisor(weight)))
        missed = _most(smaller)
        held = errors.missed <= self.tolerance
        hidden = (code == Status.CONVERGED.code) & (errors.stationary <= self.tolerance**0.5 * jnp.maximum(1, jnp.abs(at.cost)))
        enough = ~bottomless & (held | (missed <= _ENOUGH * state.missed))
        idle = state.idle + 1
        heavy = weight >= self.eps**_HEAVIEST * state.first
        hopeless = ~enough & heavy
        least = (_most(self._pulled(at, state.units)) <= _FLAT * errors.violation) & (errors.violation > self.tolerance**0.5)
        ends = (
            (~bottomless & held & ((errors.stationary <= self.tolerance) | hidden), Status.CONVERGED.code),
            (bottomless & (heavy | held), Status.UNBOUNDED.code),
            (hopeless & least, Status.INFEASIBLE.code),
            (hopeless | (enough & (idle >= _IDLE)), Status.STALLED.code),
        )
        ended = jnp.select([seen for seen, _ in ends], [ended for _, ended in ends], RUNNING)
        anew = hopeless & ~state.anew & ((ended == Status.INFEASIBLE.code) | (ended == Status.STALLED.code))
        ended = jnp.where(anew, RUNNING, ended)
        most = self.eps**_MULTIPLIERS
        stricter = _STRICTER * jnp.minimum(state.tolerance, errors.stationary)
        inner, anchor = self.method.method, jnp.where(bottomless, state.anchor, at.x)
        params = unpack(anchor, self.like)
        after = state._replace(
            inner=select(enough, inner.restarted(params, state.inner), inner.init(params)),
            multipliers=jnp.where(bottomless | (missed > _MOVING * state.missed) & ~held, y, jnp.clip(at.prices, -most, most)),
            weight=weight * jnp.where(bottomless, _ANEW, jnp.where(enough, 1, _HEAVIER)),
            tolerance=jnp.maximum(self.tolerance, jnp.where(bottomless, state.tolerance, stricter)),
            missed=jnp.where(bottomless, state.missed, missed),
            anchor=anchor,
            idle=idle,
        )
        again = after._replace(
            multipliers=jnp.zeros_like(y),
            weight=_ANEW * state.first,
            first=_ANEW * state.first,
            tolerance=jnp.asarray(_FIRST, y.dtype),
            missed=jnp.asarray(jnp.inf, y.dtype),
            anchor=state.start,
            anew=jnp.asarray(True),
        )
        after = select(anew, again, after)
        after = select(ended == RUNNING, after, state)
        return after.anchor - at.x, after, ended.astype(jnp.int32)

    def _pulled(self, at: Seen, units: jax.Array) -> jax.Array:
        """Return how the bounds let the gradient of half the squares of what is violated move the point."""
        return self._move(at.x, self.constraints.pull(unpack(at.x, self.like), units * self.method.violated(at.values)))


def _own(units: jax.Array) -> jax.Array:
    """Return what turns numbers in units of the run into those of the constraints, up to gradients of 100."""
    return jnp.clip(1 / safe_divisor(units), 1, _SCALED)


def _most(numbers: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(numbers), initial=0.0)
