"""The search along a line for the point where a profile has risen by a given amount.

The root of the rise, sqrt((cost - minimum) / up), is 0 at the minimum and 1 at the crossing, and straight for a parabola.
Newton's method for it needs a few rounds: the slope of the profile is that of the cost at the conditional minimum. A bracket guards
it: the farthest point seen where the profile is below the crossing, and the nearest one where it is above, or where the cost is not
finite.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxgd._profiles.lanes import Line, Outcome
from jaxgd._trees import pytree, safe_divisor
from jaxgd.result import Sentences

_FAR = 1e4  # as t, beyond which nothing is looked for
_GROWTH = 2.0  # of t from one round to the next, at most
_TOLERANCE = 1e-6  # of t
_NEAR = 1e-4  # of the rise: a point no farther from the crossing may be it
_LOWER = 1e-3  # of the rise: a fall of more is a new minimum
_ROUNDINGS = 8.0  # of the cost, that a rise may be wrong by
_ROUNDS = 100
_MOVED = 1e-3  # as t, so that two points tell how the others follow


class IntervalStatus(Sentences):
    """How the search for one end of an interval ended; the value is the sentence to show to a person.

    `code` is the number that stands for the status inside compiled programs.

    >>> import jaxgd
    >>> found = jaxgd.intervals(lambda p: (p["a"] - 1) ** 2, {"a": 1.0}, bounds=(0.5, None))
    >>> [one.name for one in found.status[0]]
    ['AT_BOUND', 'CROSSED']
    """

    CROSSED = 0, "Valid: the cost rises by the given amount there."
    AT_BOUND = 1, "At a bound: the cost rises by less, and the interval ends at the bound."
    OPEN = 2, "Open: the cost does not rise that much, however far the parameter goes."
    NOT_FINITE = 3, "Not finite: the cost rises by less up to there, and is not finite beyond."
    NEW_MINIMUM = 4, "New minimum: the cost falls below the minimum given; fit again from the lower point."
    NOT_CONVERGED = 5, "Not converged: the minimum over the other parameters was not found."
    HELD = 6, "Held: the parameter is fixed."
    SEARCHING = 7, "Searching: the search has not ended."


class SearchState(NamedTuple):
    """The state of a search between two conditional minima.

    Attributes:
        t: where the next one is looked for.
        guess: where its run begins.
        inside: the greatest t known to be below the crossing; minus infinity for none.
        outside: the least t known to be above it; infinity for none.
        walled: whether the cost was not finite at `outside`.
        last: the t of the last conditional minimum.
        x: that minimum.
        cost: its cost.
        gradient: the gradient there.
        tangent: how the others follow.
        step: the length of the step before the last.
        bare: whether the guess is the last minimum itself, without a step along the tangent.
        code: the number of an `IntervalStatus`.
        done: whether the search has ended.
        rounds: how many conditional minima there were.
    """

    t: Any
    guess: Any
    inside: Any
    outside: Any
    walled: Any
    last: Any
    x: Any
    cost: Any
    gradient: Any
    tangent: Any
    step: Any
    bare: Any
    code: Any
    done: Any
    rounds: Any


@pytree
class Search:
    """The policy of a search.

    Attributes:
        minimum: the cost at the minimum.
        up: the rise of the profile at the crossing.
    """

    minimum: Any
    up: Any

    def begin(self, line: Line) -> SearchState:
        """Return the state before the first conditional minimum."""
        one, no = jnp.ones_like(line.most), jnp.asarray(False)
        t = jnp.where(line.origin_is_inside, jnp.minimum(one, line.most), 0 * one)
        empty = line.origin_is_inside & ((line.most <= 0) | ~jnp.any(line.direction != 0))
        return SearchState(
            t=t,
            guess=line.origin + t * line.tangent,
            inside=jnp.where(line.origin_is_inside, 0 * one, -jnp.inf),
            outside=jnp.inf * one,
            walled=no,
            last=0 * one,
            x=line.origin,
            cost=jnp.asarray(self.minimum),
            gradient=jnp.zeros_like(line.origin),
            tangent=line.tangent,
            step=jnp.inf * one,
            bare=no,
            code=jnp.where(empty, IntervalStatus.AT_BOUND.code, IntervalStatus.SEARCHING.code).astype(jnp.int32),
            done=empty,
            rounds=jnp.zeros((), jnp.int32),
        )

    def after(self, line: Line, state: SearchState, end: Outcome) -> SearchState:
        """Return the state after a conditional minimum."""
        rise = (end.cost - self.minimum).astype(line.origin.dtype)
        eps = jnp.finfo(end.cost.dtype).eps
        good = end.found
        size = jnp.where(good, jnp.abs(end.cost), 0) + jnp.abs(self.minimum)
        noise = (_ROUNDINGS * eps * size).astype(rise.dtype)
        again = ~good & ~state.bare & ~(end.cost < self.minimum)  # perhaps the tangent led nowhere
        fell = rise < -(_LOWER * self.up + noise)
        above = ~good | (rise >= self.up)
        inside = jnp.where(good & ~above, end.t, state.inside)
        outside = jnp.where(above, end.t, state.outside)
        walled = jnp.where(above, ~good, state.walled)
        away = jnp.abs(end.t - state.last)
        tangent = jnp.where(line.direction != 0, 0, (end.x - state.x) / jnp.where(away > _MOVED, end.t - state.last, 1))
        tangent = jnp.where(good & (away > _MOVED) & jnp.all(jnp.isfinite(tangent)), tangent, state.tangent)
        last, x = jnp.where(good, end.t, state.last), jnp.where(good, end.x, state.x)

        step = jnp.where(good, _newton(rise, end.slope, self.up), jnp.nan)
        tolerance = jnp.maximum(_TOLERANCE * jnp.maximum(1, jnp.abs(end.t)), noise / safe_divisor(jnp.abs(end.slope)))
        near = good & (jnp.abs(rise - self.up) <= jnp.maximum(_NEAR * self.up, noise)) & (jnp.abs(step) <= tolerance)
        t = _next(state.step, end.t, step, inside, outside, line)
        codes = {
            IntervalStatus.NEW_MINIMUM: fell,
            IntervalStatus.CROSSED: near,
            IntervalStatus.NOT_FINITE: ~again & walled & (outside - inside <= tolerance),
            IntervalStatus.AT_BOUND: good & ~above & (end.t >= line.most),
            IntervalStatus.OPEN: good & ~above & (end.t >= _FAR),
            IntervalStatus.NOT_CONVERGED: ~again & ((state.rounds >= _ROUNDS) | (above & (end.t <= line.least)) | ~jnp.isfinite(t)),
        }
        jumped = ~again & ~walled & (outside - inside <= tolerance)  # between two points that are one but for rounding
        code = jnp.select(
            [*codes.values(), jumped],
            [*(jnp.int32(status.code) for status in codes), jnp.int32(IntervalStatus.CROSSED.code)],
            jnp.int32(IntervalStatus.SEARCHING.code),
        )
        kept = ~again
        return SearchState(
            t=jnp.where(again | (code != IntervalStatus.SEARCHING.code), end.t, t),
            guess=jnp.where(again, state.x, x + (t - last) * tangent),
            inside=jnp.where(kept, inside, state.inside),
            outside=jnp.where(kept, outside, state.outside),
            walled=jnp.where(kept, walled, state.walled),
            last=last,
            x=jnp.where(fell, end.x, x),
            cost=jnp.where(good | fell, end.cost, state.cost),
            gradient=jnp.where(good | fell, end.gradient, state.gradient),
            tangent=tangent,
            step=jnp.where(kept, jnp.abs(t - end.t), state.step),
            bare=again,
            code=code,
            done=code != IntervalStatus.SEARCHING.code,
            rounds=state.rounds + 1,
        )


def _newton(rise: Any, slope: Any, up: Any) -> Any:
    """Return Newton's step for the root of the rise; NaN where there is none."""
    known = (rise > 0) & (slope > 0)
    step = 2 * (jnp.sqrt(jnp.where(known, rise, 1) * up) - rise) / jnp.where(known, slope, 1)
    return jnp.where(known, step, jnp.nan)


def _next(before: Any, t: Any, step: Any, inside: Any, outside: Any, line: Line) -> Any:
    """Return where to look next after t.

    The step is Newton's, NaN where there is none, and `before` is the length of the last.
    """
    bracketed = jnp.isfinite(inside) & jnp.isfinite(outside)
    middle = jnp.where(bracketed, (inside + outside) / 2, 0)
    newton = t + step
    fast = jnp.abs(step) <= before / 2
    within = jnp.where((newton > inside) & (newton < outside) & fast, newton, middle)
    room = jnp.maximum(1, jnp.abs(t))
    outwards = t + jnp.clip(jnp.where(jnp.isnan(step), room, step), 1e-3 * room, (_GROWTH - 1) * room)
    inwards = t - jnp.clip(jnp.where(jnp.isnan(step), room / 4, -step), 1e-3 * room, room)
    beyond = jnp.where(jnp.isfinite(inside), outwards, inwards)
    beyond = jnp.where(jnp.isnan(step) | (jnp.abs(step) > 1e-3 * room), beyond, newton)
    return jnp.clip(jnp.where(bracketed, within, beyond), line.least, line.most)
