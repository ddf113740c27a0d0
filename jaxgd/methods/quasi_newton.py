"""L-BFGS: a quasi-Newton method for many parameters, one evaluation a tick.

A run pauses where progress is below what rounding hides of the cost: after five accepted points in a row without a fall above it,
or where a search has no room left. A variable is *doubted* if its slope and the least second derivative that the pairs allow for
it, see `_pairs.steepness`, leave it more than that to gain; all are, if the pairs promise more than that along their direction.

    observed                                                  what follows
    the gradient of the free variables is exactly zero        CONVERGED
    two points without a fall, no variable doubted            CONVERGED
    a pause, no variable doubted                              CONVERGED
    a pause, some doubted                                     a probe: a search along the gradient of those alone
    a fall in a probe                                         the run goes on
    a pause in the first probe, some doubted                  a probe of those, by shorter steps
    a pause in a later probe, fewer doubted than before       a probe of those
    a pause in a later probe, as many doubted                 STALLED; DIVERGED if the last trial was not finite
    a trial that is not finite beyond a huge fall or step     the best point again, then UNBOUNDED
    no room left before a cost of minus infinity              the best point again, then UNBOUNDED
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._checks import check
from jaxgd._products import vdot
from jaxgd._trees import pack, pytree, safe_divisor, select, static, unpack
from jaxgd.methods import _ends, _pairs, line_search
from jaxgd.methods._ends import Hidden, Place, Probe
from jaxgd.methods._pairs import Pairs
from jaxgd.methods.line_search import Search, Trial
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING, Status

_FIRST = 0.1  # the first step along the gradient, relative to the largest parameter
_FEW = 2  # accepted points without a fall, after which a run that is known to be at its end ends
_IDLE = 5  # accepted points whose fall rounding may have made, that end a run


class LBFGSState(NamedTuple):
    """The state of L-BFGS.

    `sizes` is the diagonal of the first approximation of the inverse Hessian, and `left` what the pairs predict to gain along their
    direction. `idle` counts accepted points in a row whose fall rounding may have made. `doubted` is the number of variables in the
    probe, n + 1 in the first, which is of all that are doubted, and n + 2 where there is none; `steep` holds the roots of their
    least second derivatives as found in probes. `fleeing` says that the cost falls without limit and the best point seen is tried
    again, to end there.
    """

    direction: Any
    search: Search
    pairs: Pairs
    sizes: Any
    origin: Any
    hidden: Hidden
    steep: Any
    left: Any
    idle: Any
    doubted: Any
    fleeing: Any
    started: Any

    @property
    def probing(self) -> jax.Array:
        """Whether the search is a probe."""
        return self.doubted < self.origin.size + 2


class _Change(NamedTuple):
    """The change to an accepted point: s of the parameters, y of the gradient, s'y; none before the run has started."""

    s: Any
    y: Any
    rise: Any
    started: Any
    fell: Any


class _Next(NamedTuple):
    """How a run goes on after a trial: with which search, and whether it pauses, to see whether this is the end."""

    direction: Any
    search: Search
    hidden: Hidden
    left: Any
    idle: Any
    count: Any
    paused: Any
    fleeing: Any


@pytree
class LBFGS(Method):
    """Limited-memory BFGS: steps by an approximate inverse Hessian from the last pairs of steps and changes of the gradient.

        d = -H g;    x_new = P(x + a * d)
        H: the BFGS update of (s'y / y'Dy) * D by the pairs s = x_new - x, y = g_new - g of the last `memory` steps

    The rate a is first 1, and is accepted if the cost falls by 1e-4 of what the slope predicts and the slope has risen to 0.9 of
    itself (Wolfe's conditions), or, where rounding hides the fall, by Hager and Zhang's approximate form of them. Otherwise it is
    found by lengthening and by cubic interpolation. Points that are not finite are stepped back from. P moves into the bounds,
    where there are any: variables held back by one take no part in H, and the search bends along the walls. The first step is
    a tenth of the largest parameter, or 0.1 if all are zero.

    D is one until progress stops with something left to gain. Then the run goes on along -D g, where D_i is the least of
    s'y / y_i**2 over the pairs, an upper bound of the inverse second derivative of a convex quadratic; a variable whose gradient
    never changed moves as far as its slope needs to show in the cost. The module says how a run ends. At a kink the gradient does
    not fall, and the end is STALLED. A cost with its infimum at infinity, such as exp(-x), ends as CONVERGED once it has nothing
    left in the range of its precision.

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

    traits: ClassVar[Traits] = Traits(can_reject=True, can_end=True, checks_convergence=True, takes_vector=True)
    memory: int = static(default=10)

    def __post_init__(self) -> None:
        check.integer("LBFGS: memory", self.memory, 1)

    def init(self, params: Any) -> LBFGSState:
        x = pack(params)
        zero, count, no = jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32), jnp.asarray(False)
        return LBFGSState(
            direction=jnp.zeros_like(x),
            search=line_search.begin(zero, zero, zero),
            pairs=_pairs.none(x.size, self.memory, x.dtype),
            sizes=jnp.ones_like(x),
            origin=x,
            hidden=Hidden(zero, zero, zero),
            steep=jnp.zeros_like(x),
            left=zero,
            idle=count,
            doubted=count + x.size + 2,
            fleeing=no,
            started=no,
        )

    def restarted(self, params: Any, state: LBFGSState) -> LBFGSState:
        return self.init(params)._replace(pairs=state.pairs, sizes=state.sizes, origin=state.origin)

    def step(self, point: Point, state: LBFGSState, problem: Problem) -> Step:
        here, there = Place(problem.current, problem.bounds), Place(point, problem.bounds)
        started, search = state.started, state.search
        trial = Trial(search.rate, there.cost, vdot(there.gradient, here.inside(state.direction, search.rate)))
        search = line_search.compared(search, trial, there.finite, here.cost)
        hidden = _measured(state.hidden, search.rough, here)
        fell = ~started | (here.cost - there.cost > hidden.largest)
        s = there.params - here.params
        long, short = line_search.judge(search, trial, there.finite, here.cost, hidden.largest)
        long = long | (started & jnp.all(s == 0))
        probing = state.probing
        accepted = ~started | (~long & ~short & (fell | (trial.slope == 0) | ~probing | state.fleeing))
        doubted = jnp.where(accepted, there.params.size + 2, state.doubted)

        y = there.of_the_free(there.gradient - here.gradient)
        rise = trial.rate * (trial.slope - search.slope)
        seen = probing & there.finite & (rise > 4 * hidden.floor) & (rise <= _ends.farthest(hidden.floor, here.eps))
        length = jnp.sqrt(safe_divisor(vdot(here.params, here.params)))
        pairs = _pairs.stored(state.pairs, s, y, state.sizes, started & (accepted | seen), trial, search, length)
        state = state._replace(search=search, hidden=hidden, pairs=pairs, doubted=doubted, started=jnp.asarray(True))
        after = lax.cond(
            accepted,
            lambda: _found(there, _Change(s, y, rise, started, fell), state),
            lambda: _continued(trial, long, there.finite, state, here),
        )
        state, code = _judged(_ends.nearer(accepted, there, here), state, after, accepted)
        code = jnp.where((code == Status.STALLED.code) & ~there.finite & ~accepted, Status.DIVERGED.code, code)
        return Step(unpack(state.search.rate * state.direction, point.params), state, accepted, code)


def _measured(hidden: Hidden, rough: jax.Array, here: Place) -> Hidden:
    """Return what rounding hides, after a trial that found a cost `rough`; what it found before is halved."""
    found = jnp.where(rough <= _ends.most_rough(here, hidden.energy, hidden.floor), rough, 0)
    return hidden._replace(rough=jnp.maximum(hidden.rough / 2, found))


def _found(there: Place, change: _Change, state: LBFGSState) -> _Next:
    """Return how the run goes on after a point was accepted."""
    pairs = state.pairs
    g = there.of_the_free(there.gradient)
    direction = there.of_the_free(_pairs.direction(pairs, g, state.sizes))
    slope = vdot(direction, there.gradient)
    down, flat = slope < 0, jnp.all(g == 0)
    hidden = state.hidden._replace(rough=jnp.where(change.fell, 0, state.hidden.rough))
    hidden = _ends.hidden_at(there, change.y, change.rise, state.origin, hidden)
    left = jnp.where((slope <= 0) | ~change.started, -slope / 2, jnp.inf)
    idle = jnp.where(change.fell, 0, state.idle + 1)
    direction, slope, rate = lax.cond(
        down, lambda: (direction, slope, jnp.ones_like(slope)), lambda: _descent(there, change, state.sizes)
    )
    return _Next(
        direction=direction,
        search=line_search.begin(there.cost, slope, rate),
        hidden=hidden,
        left=jnp.where(flat, 0, left),
        idle=jnp.where(flat, _IDLE, idle),
        count=jnp.where(down, pairs.count, 0),
        paused=(idle >= _IDLE) | flat | state.fleeing,
        fleeing=state.fleeing,
    )


def _continued(trial: Trial, long: jax.Array, finite: jax.Array, state: LBFGSState, here: Place) -> _Next:
    """Return how the run goes on after a trial that was not accepted.

    A search ends where its bracket has no room. A probe that is far too long is shortened until its effect is just visible.
    """
    hidden, probing = state.hidden, state.probing
    search = line_search.narrowed(state.search, trial, finite, long)
    rise = trial.rate * (trial.slope - state.search.slope)
    over = probing & finite & (rise > _ends.farthest(hidden.floor, here.eps))
    search = search._replace(rate=jnp.where(over, trial.rate * _ends.visible(hidden.floor, rise), search.rate))
    low, gap = search.low, search.high.rate - search.low.rate
    rounding = here.eps / 2 * jnp.abs(here.params + low.rate * state.direction)
    tight = jnp.all(gap * jnp.abs(state.direction) <= rounding)
    tight = tight | (gap * jnp.abs(low.slope) <= jnp.maximum(here.eps**0.5 * hidden.floor, hidden.rough))
    tight = tight | (search.rate <= low.rate) | (search.rate >= search.high.rate)

    most = float(jnp.finfo(here.params.dtype).max) ** 0.75
    far = jnp.max(jnp.abs(here.params + low.rate * state.direction)) > most
    fleeing = ~finite & ((low.cost < -most) | (far & (low.cost < 0) & (here.cost - low.cost > hidden.floor)))
    fleeing = fleeing | (tight & (search.high.cost == -jnp.inf))
    ended = tight | fleeing
    better = (low.rate > 0) & ((here.cost - low.cost > hidden.largest) | fleeing)
    return _Next(
        direction=state.direction,
        search=select(ended & better, line_search.settle(search), search),
        hidden=hidden,
        left=state.left,
        idle=state.idle,
        count=state.pairs.count,
        paused=ended & ~better,
        fleeing=fleeing,
    )


def _judged(place: Place, state: LBFGSState, after: _Next, accepted: jax.Array) -> tuple[LBFGSState, jax.Array]:
    """Return the next state and the code, after a look at the variables near the end."""
    ending = after.paused | (accepted & (after.idle >= _FEW))
    first = ~state.probing
    kept = Probe(state.sizes, state.pairs.squares, after.direction, after.search)

    def look() -> tuple[Any, ...]:
        steep = _ends.known_steepness(place, state.pairs, after.hidden.floor)
        steep = jnp.where(first, steep, jnp.maximum(steep, state.steep))
        floor = jnp.where(jnp.any(steep > 0), _ends.floor_of(place, steep, state.origin), after.hidden.floor)
        hidden = after.hidden._replace(floor=floor)
        g = jnp.abs(place.of_the_free(place.gradient))
        which = (g > jnp.sqrt(2 * hidden.floor) * steep) | (after.left > hidden.largest * jnp.where(first, 1, _ends.GREEDY))
        count = jnp.sum(which, dtype=jnp.int32)
        again = after.paused & ~after.fleeing & (count > 0) & (count < state.doubted)
        probe = lax.cond(
            again, lambda: _ends.probe(place, state.pairs, state.sizes, state.origin, which, hidden, first), lambda: kept
        )
        return hidden, steep, count, again, probe

    hidden, steep, count, again, probe = lax.cond(
        ending, look, lambda: (after.hidden, state.steep, state.doubted, jnp.asarray(False), kept)
    )
    code = jnp.where(after.paused & ~again, Status.STALLED.code, RUNNING)
    code = jnp.where(ending & (count == 0), Status.CONVERGED.code, code)
    code = jnp.where(after.paused & after.fleeing, Status.UNBOUNDED.code, code)
    state = state._replace(
        direction=probe.direction,
        search=probe.search,
        pairs=state.pairs._replace(count=after.count, squares=probe.squares),
        sizes=probe.sizes,
        hidden=hidden,
        steep=steep,
        left=after.left,
        idle=jnp.where(again, 0, after.idle),
        doubted=jnp.where(again, jnp.where(first, place.params.size + 1, count), state.doubted),
        fleeing=after.fleeing,
    )
    return state, code.astype(jnp.int32)


def _descent(place: Place, change: _Change, sizes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the direction against the gradient in the sizes of the variables, the slope along it, and a first rate.

    Its largest element is one size. The first step is a tenth of the largest parameter; later ones are as long as the last.
    """
    g = place.of_the_free(place.gradient)
    root = jnp.sqrt(sizes)
    scaled = root * g
    direction = -root * (scaled / safe_divisor(jnp.max(jnp.abs(scaled))))
    first = _FIRST * safe_divisor(jnp.max(jnp.abs(place.params)))
    return direction, vdot(direction, place.gradient), jnp.where(change.started, jnp.max(jnp.abs(change.s) / root), first)
