"""L-BFGS: a quasi-Newton method for many parameters, and its line search as a state machine of one evaluation a tick."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _checks
from jaxgd._trees import all_finite, pack, pytree, select, static, unit, unpack
from jaxgd.methods.protocol import Point, Problem, Step
from jaxgd.result import RUNNING, Status

_DECREASE = 1e-4  # of the predicted decrease, that is enough
_SLOPE = 0.9  # of the first slope, that is flat enough
_FIRST = 0.1  # the first step along the gradient, relative to the largest parameter, or to one in the last resort
_GROWTH = (2.0, 10.0)  # bounds of the lengthening
_INTERIOR = (0.1, 0.9)  # the part of a bracket in which the next trial lies
_NEAR = 1e4  # so much left to gain, over what rounding hides, is not the end
_IDLE = 5  # accepted points whose fall rounding may have made, that end a run
_TRIALS = 10  # after so many, a lower cost is enough


class Trial(NamedTuple):
    """A point of the line search: its rate along the direction, its cost and its slope."""

    rate: Any
    cost: Any
    slope: Any


class Search(NamedTuple):
    """A line search from the current point along a direction, a packed vector.

    It begins at parameters of some `length` with a `slope`, and tries `rate`, which lies between `low`, a rate that is too short,
    and `high`, one that is too long or infinite. `left` is what the pairs predict to gain along their direction, over what rounding
    would hide; the last resort has it from the search before.
    """

    direction: Any
    length: Any
    slope: Any
    rate: Any
    low: Trial
    high: Trial
    trials: Any
    left: Any

    @property
    def settled(self) -> jax.Array:
        """Whether there is nothing left to gain."""
        return self.left <= 1


class Pairs(NamedTuple):
    """The last pairs of steps s and changes of the gradient y, the rows of two matrices, and their inner products s'y and y'y.

    `count` were stored; the newest is at the place (count - 1) modulo the number of rows. There is a row more than pairs in use:
    the next pair is written there whether it is wanted or not, since a choice between it and an old one would copy the matrices.
    """

    steps: Any
    changes: Any
    mixed: Any
    squares: Any
    count: Any


class LBFGSState(NamedTuple):
    """The state of L-BFGS."""

    search: Search
    pairs: Pairs
    idle: Any  # accepted points in a row whose fall rounding may have made
    resort: Any  # whether the search is the last resort
    started: Any


@pytree
class LBFGS:
    """Limited-memory BFGS: steps by an approximate inverse Hessian from the last pairs of steps and changes of the gradient.

        d = -H g;    x_new = P(x + a * d)
        H: the BFGS update of (s'y / y'y) * I by the pairs s = x_new - x, y = g_new - g of the last `memory` steps

    The rate a is first 1, and is accepted if the cost falls by 1e-4 of what the slope predicts and the slope has risen to 0.9 of
    itself (Wolfe's conditions), or, where rounding hides the fall, by Hager and Zhang's approximate form of them. Otherwise it is
    found by lengthening and by cubic interpolation. Points that are not finite are stepped back from. P moves into the bounds,
    where there are any: variables held back by one take no part in H, and the search bends along the walls. The first step is
    a tenth of the largest parameter, or 0.1 if all are zero.

    Where a search finds no lower cost, not even along the gradient, or the cost has not fallen beyond rounding for five steps and
    the pairs predict little more to gain, the last resort is a search along d_i = -x_i**2 * g_i, the steepest direction in the
    parameters' own sizes, which begins with a tenth of one of them: the pairs may know nothing yet of a parameter that is a million
    times larger than others. (Parameters that are zero stay there.) After a fall beyond rounding the run goes on, as often as that
    happens. Else it ends: as CONVERGED if the pairs predict no more to gain, else as STALLED, or as DIVERGED, with no last resort,
    if the last point of a search was not finite.

    Args:
        memory: how many pairs to keep, >= 1.

    J. Nocedal, Updating quasi-Newton matrices with limited storage, Math. Comput. 35 (1980); D. C. Liu, J. Nocedal, On the limited
    memory BFGS method for large scale optimization, Math. Program. 45 (1989); W. W. Hager, H. Zhang, A new conjugate gradient
    method with guaranteed descent and an efficient line search, SIAM J. Optim. 16 (2005). D. P. Bertsekas, Projected Newton
    methods for optimization problems with simple constraints, SIAM J. Control Optim. 20 (1982), for the bounds. W. Chen, Z. Wang,
    J. Zhou, Large-scale L-BFGS using MapReduce, NIPS 2014, for the two loops on coefficients.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: jnp.sum((x - 3.0)**4), jnp.zeros(1000), method=jaxgd.LBFGS())
    >>> result.converged, result.n_evaluations < 100
    (True, True)
    """

    steps_back: ClassVar[bool] = True
    ends_itself: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    memory: int = static(default=10)

    def __post_init__(self) -> None:
        _checks.whole("LBFGS: memory", self.memory, 1)

    def init(self, params: Any) -> LBFGSState:
        x, m = pack(params), self.memory
        zero, count = jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32)
        rows, products = jnp.zeros((m + 1, x.size), x.dtype), jnp.zeros((m + 1, m + 1), x.dtype)
        nothing = Trial(zero, zero, zero)
        search = Search(jnp.zeros_like(x), zero, zero, zero, nothing, nothing, count, zero)
        no = jnp.asarray(False)
        return LBFGSState(search, Pairs(rows, rows, products, products, count), count, no, no)

    def step(self, point: Point, state: LBFGSState, problem: Problem) -> Step:
        here, there = _Place(problem.current, problem.bounds), _Place(point, problem.bounds)
        finite = all_finite(there.cost, there.params, there.gradient)
        trial = Trial(state.search.rate, there.cost, jnp.vdot(there.gradient, here.inside(state.search)))
        fell = ~state.started | (here.cost - there.cost > here.noise)
        long, short = _judge(trial, finite, state.search, here)
        spent = state.resort & ~long & ~short & ~fell  # only rounding would take such a point
        long = long | spent
        s = there.params - here.params
        unmoved = state.started & jnp.all(s == 0)
        accepted = ~state.started | (finite & ~unmoved & ~long & (~short | (state.search.trials >= _TRIALS)))

        y = there.of_the_free(there.gradient - here.gradient)
        pairs = _stored(state.pairs, s, y, accepted & state.started, trial, state.search)
        after, count, code = lax.cond(
            accepted,
            lambda: _found(there, pairs, state, fell),
            lambda: _continued(trial, finite, long | unmoved, spent, state, here, pairs.count),
        )
        update = unpack(after.search.rate * after.search.direction, point.params)
        return Step(update, after._replace(pairs=pairs._replace(count=count)), accepted, code)


class _Place:
    """A point with its vectors packed, and the box around it."""

    def __init__(self, point: Point, bounds: Any) -> None:
        self.params, self.gradient = pack(point.params), pack(point.gradient)
        self.cost = point.cost.astype(self.params.dtype)
        self.eps = float(jnp.finfo(self.params.dtype).eps)
        self.noise = 4 * self.eps * jnp.abs(self.cost)  # what rounding may make of a difference of costs
        self.box = None if bounds is None else (pack(bounds.lower), pack(bounds.upper))

    def of_the_free(self, vector: jax.Array) -> jax.Array:
        """A vector without the variables that a bound holds back."""
        if self.box is None:
            return vector
        held = ((self.params <= self.box[0]) & (self.gradient >= 0)) | ((self.params >= self.box[1]) & (self.gradient <= 0))
        return jnp.where(held, jnp.zeros_like(vector), vector)

    def floor(self, pairs: Pairs) -> jax.Array:
        """What rounding may hide of a fall of the cost: in the cost itself, and in the parameters where it curves as last seen."""
        newest = (pairs.count - 1) % pairs.steps.shape[0]
        steepness = pairs.squares[newest, newest] / unit(pairs.mixed[newest, newest])
        return self.noise + self.eps**2 * steepness * jnp.vdot(self.params, self.params)

    def inside(self, search: Search) -> jax.Array:
        """The direction in which a search from here goes at the rate that it tries: none for variables at their walls."""
        if self.box is None:
            return search.direction
        ahead = self.params + search.rate * search.direction
        return jnp.where((ahead > self.box[0]) & (ahead < self.box[1]), search.direction, jnp.zeros_like(ahead))


def _begin(place: _Place, direction: jax.Array, slope: jax.Array, rate: Any, left: jax.Array) -> Search:
    """The beginning of a search from a point."""
    zero = jnp.zeros_like(place.cost)
    return Search(
        direction=direction,
        length=jnp.sqrt(unit(jnp.vdot(place.params, place.params))),
        slope=slope,
        rate=jnp.asarray(rate, slope.dtype),
        low=Trial(zero, place.cost, slope),
        high=Trial(jnp.full_like(zero, jnp.inf), zero, zero),
        trials=jnp.zeros((), jnp.int32),
        left=left,
    )


def _stored(pairs: Pairs, s: jax.Array, y: jax.Array, wanted: jax.Array, trial: Trial, search: Search) -> Pairs:
    """The pairs with a new one in the place that is free, which counts if it is wanted and s'y is positive beyond rounding.

    Else its products are zero, and no direction has any of its rows. Both vectors are multiplied by |x|**(1/2) / (s'y)**(3/4), s'y
    being what the slopes of the search make it: that changes nothing in H, and keeps the products in range whatever the units. Of
    s'y only those are kept right in which y is no older than s: the two loops ask for no others.
    """
    place = pairs.count % pairs.steps.shape[0]
    gain = unit(trial.rate * (trial.slope - search.slope))
    share = jnp.sqrt(search.length / gain) / jnp.sqrt(jnp.sqrt(gain))
    s, y = jnp.where(wanted, share * s, 0), jnp.where(wanted, share * y, 0)
    steps, changes = pairs.steps.at[place].set(s), pairs.changes.at[place].set(y)
    across, along = steps @ y, changes @ y
    positive = across[place] > jnp.finfo(s.dtype).eps * jnp.abs(trial.rate * search.slope * share) * share
    useful = wanted & positive & all_finite(across[place], across, along)
    across, along = jnp.where(useful, across, 0), jnp.where(useful, along, 0)
    return Pairs(
        steps,
        changes,
        pairs.mixed.at[:, place].set(across),
        pairs.squares.at[:, place].set(along).at[place].set(along),
        pairs.count + useful.astype(jnp.int32),
    )


def _found(there: _Place, pairs: Pairs, state: LBFGSState, fell: jax.Array) -> tuple[LBFGSState, jax.Array, jax.Array]:
    """After a point was accepted: the state without its pairs, the count of them to go on with, and the code of the end.

    Where the pairs' direction does not lead down, the gradient takes its place and the pairs are forgotten.
    """
    direction = _direction(there, pairs)
    slope = jnp.vdot(direction, there.gradient)
    down, floor = slope < 0, there.floor(pairs)
    left = jnp.where(down & (floor > 0), -slope / (2 * unit(floor)), jnp.inf)
    idle = jnp.where(fell | (left > _NEAR), 0, state.idle + 1)
    tired = (idle >= _IDLE) | (state.resort & ~fell)
    resort = tired & ~state.resort
    direction, slope, rate = lax.cond(
        down & ~resort, lambda: (direction, slope, jnp.ones_like(slope)), lambda: _descent(there, resort)
    )
    resort = resort & (slope < 0) & jnp.isfinite(slope)
    search = _begin(there, direction, slope, rate, jnp.where((slope == 0) & ~tired, 0, left))
    ended = jnp.where(search.settled | (state.resort & state.search.settled), Status.CONVERGED.code, Status.STALLED.code)
    code = jnp.where(tired & ~resort, ended, RUNNING).astype(jnp.int32)
    idle = jnp.where(resort, 0, idle)
    after = state._replace(search=search, pairs=None, idle=idle, resort=resort, started=jnp.asarray(True))
    return after, jnp.where(down, pairs.count, 0), code


def _descent(place: _Place, resort: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The direction against the gradient, its largest element 1, or that of the last resort; the slope along it, a first rate."""
    g, size = place.of_the_free(place.gradient), jnp.abs(place.params)
    g, largest = g / unit(jnp.max(jnp.abs(g))), unit(jnp.max(size))
    relative = size / largest * g
    relative = relative / unit(jnp.max(jnp.abs(relative)))
    direction = -jnp.where(resort, size * relative, g)
    return direction, jnp.vdot(direction, place.gradient), _FIRST * jnp.where(resort, 1, largest)


def _direction(place: _Place, pairs: Pairs) -> jax.Array:
    """The product -H g by Nocedal's two loops, on the coefficients of the vectors alone (Chen, Wang and Zhou); 0 without pairs."""
    g = place.of_the_free(place.gradient)
    rows = pairs.steps.shape[0]
    known = jnp.minimum(pairs.count, rows - 1)
    onto_steps, onto_changes = pairs.steps @ g, pairs.changes @ g
    newest = (pairs.count - 1) % rows
    scale = jnp.where(known > 0, pairs.mixed[newest, newest] / unit(pairs.squares[newest, newest]), 0)

    def backward(k: jax.Array, a: jax.Array) -> jax.Array:
        i = (pairs.count - 1 - k) % rows
        return a.at[i].set((onto_steps[i] - jnp.vdot(pairs.mixed[i], a)) / pairs.mixed[i, i])

    a = lax.fori_loop(0, known, backward, jnp.zeros(rows, g.dtype))
    onto_rest = scale * (onto_changes - pairs.squares @ a)

    def forward(k: jax.Array, c: jax.Array) -> jax.Array:
        i = (pairs.count - known + k) % rows
        return c.at[i].set(a[i] - (onto_rest[i] + jnp.vdot(c, pairs.mixed[:, i])) / pairs.mixed[i, i])

    c = lax.fori_loop(0, known, forward, jnp.zeros_like(a))
    return place.of_the_free((scale * a) @ pairs.changes - c @ pairs.steps - scale * g)


def _judge(trial: Trial, finite: jax.Array, search: Search, here: _Place) -> tuple[jax.Array, jax.Array]:
    """Whether the rate that was tried is too long, its cost too high, or too short, its slope still too steep."""
    low_enough = trial.cost <= here.cost + _DECREASE * trial.rate * search.slope
    hidden = (trial.cost <= here.cost + here.noise) & (trial.slope <= (2 * _DECREASE - 1) * search.slope)
    return ~(finite & (low_enough | hidden)), trial.slope < _SLOPE * search.slope


def _continued(
    trial: Trial, finite: jax.Array, long: jax.Array, spent: jax.Array, state: LBFGSState, here: _Place, count: jax.Array
) -> tuple[LBFGSState, jax.Array, jax.Array]:
    """After a rejected trial: the state without its pairs, the count of them to go on with, and the code of the end."""
    search = state.search
    low, high = select(long, (search.low, trial), (trial, search.high))
    step = low.rate - search.low.rate
    rise = (low.slope - search.low.slope) / unit(step)
    ahead = low.rate + jnp.clip(jnp.where(rise > 0, -low.slope / unit(rise), jnp.inf), *(g * low.rate for g in _GROWTH))
    rate = jnp.where(jnp.isfinite(high.rate), _interpolated(low, high, finite | ~long), ahead)

    reach, size = select(state.resort, (1.0, 1.0), (jnp.max(jnp.abs(search.direction)), jnp.max(jnp.abs(here.params))))
    tight = (high.rate - low.rate) * reach <= here.eps * size / 2
    taken = tight & (low.rate > 0)  # what was found is lower
    lost = (low.rate == 0) & (tight | spent | (state.resort & long & finite & _vain(trial, search, here)))
    restarted = lost & ~state.resort & (count > 0) & ~search.settled
    resort = lost & ~state.resort & ~restarted & (finite | search.settled)
    direction, slope, first = _descent(here, resort)
    resort = resort & (slope < 0) & jnp.isfinite(slope)
    ended = jnp.where(finite | state.resort, Status.STALLED.code, Status.DIVERGED.code)
    ended = jnp.where(search.settled, Status.CONVERGED.code, ended)
    code = jnp.where(lost & ~restarted & ~resort, ended, RUNNING).astype(jnp.int32)

    trials = jnp.where(taken, _TRIALS, search.trials + 1)
    search = select(
        restarted | resort,
        _begin(here, direction, slope, first, jnp.where(resort, search.left, jnp.inf)),
        search._replace(rate=jnp.where(taken, low.rate, rate), low=low, high=high, trials=trials),
    )
    after = state._replace(search=search, pairs=None, idle=jnp.where(resort, 0, state.idle), resort=state.resort | resort)
    return after, jnp.where(restarted, 0, count), code


def _vain(trial: Trial, search: Search, here: _Place) -> jax.Array:
    """Whether a trial of the last resort shows a parabola with no more to gain than rounding hides, of the cost or the parameters.

    The parabola has the slopes of both ends. It is believed if the difference of the costs is its own within a half, or rounding.
    """
    rate = trial.rate * (-search.slope / unit(trial.slope - search.slope))
    rise = trial.rate * (search.slope + trial.slope) / 2
    believed = jnp.abs(trial.cost - here.cost - rise) <= jnp.abs(rise) / 2 + here.noise
    return believed & jnp.isfinite(trial.slope) & ((-search.slope * rate / 2 <= here.noise) | (rate <= 6 * here.eps))


def _interpolated(low: Trial, high: Trial, finite: jax.Array) -> jax.Array:
    """The minimiser of the cubic that fits both ends of a bracket; of the quadratic of the slopes where rounding hides the costs.

    It is kept from the ends. Where the far end was not finite, a tenth of the bracket.
    """
    width = high.rate - low.rate
    noise = 8 * jnp.finfo(low.cost.dtype).eps * jnp.abs(low.cost)
    chord = (high.cost - low.cost) / unit(width)
    theta = low.slope + high.slope - 3 * chord
    root = jnp.sqrt(jnp.maximum(theta**2 - low.slope * high.slope, 0))
    cubic = 1 - (high.slope + root - theta) / (high.slope - low.slope + 2 * root)
    secant = -low.slope / (high.slope - low.slope)
    share = jnp.where(jnp.abs(high.cost - low.cost) <= noise, secant, cubic)
    share = jnp.where(finite & jnp.isfinite(share), share, _INTERIOR[0])
    return low.rate + jnp.clip(share, *_INTERIOR) * width
