"""The walk along a line through given points, from each conditional minimum to the next."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxgd._profiles.lanes import Line, Outcome
from jaxgd._trees import pytree, select
from jaxgd.result import Status

_AGAIN = 1e-3  # as t, so that two points tell how the others follow


class WalkState(NamedTuple):
    """The state of a walk: a line through the points, and its tables, with a row for each point.

    Attributes:
        t: where the next conditional minimum is looked for.
        guess: where its run begins.
        number: the number of this point.
        last: the t of the last conditional minimum.
        x: that minimum.
        tangent: how the others follow.
        bare: whether the guess is the last minimum itself, without a step along the tangent.
        points: the conditional minima, (k, n).
        costs: their costs, (k,).
        codes: how their runs ended, (k,).
        done: whether all have been visited.
    """

    t: Any
    guess: Any
    number: Any
    last: Any
    x: Any
    tangent: Any
    bare: Any
    points: Any
    costs: Any
    codes: Any
    done: Any


@pytree
class Walk:
    """The policy of a walk.

    The points of a line are its `stops`, in the order in which they are visited.

    Attributes:
        minimum: the cost at the minimum.
    """

    minimum: Any

    def begin(self, line: Line) -> WalkState:
        """Return the state before the first conditional minimum."""
        count, n = line.stops.size, line.origin.size
        state = WalkState(
            t=jnp.zeros((), line.origin.dtype),
            guess=line.origin,
            number=jnp.zeros((), jnp.int32),
            last=jnp.zeros((), line.origin.dtype),
            x=line.origin,
            tangent=line.tangent,
            bare=jnp.asarray(False),
            points=jnp.full((count, n), jnp.nan, line.origin.dtype),
            costs=jnp.full(count, jnp.nan, jnp.asarray(self.minimum).dtype),
            codes=jnp.full(count, Status.RUNNING.code, jnp.int32),
            done=jnp.asarray(False),
        )
        return self._going_to(line, state, jnp.zeros((), jnp.int32))

    def after(self, line: Line, state: WalkState, end: Outcome) -> WalkState:
        """Return the state after a conditional minimum."""
        good = end.found
        again = ~good & ~state.bare & (end.code == Status.DIVERGED.code)  # perhaps the tangent led nowhere
        away = jnp.abs(end.t - state.last) > _AGAIN
        tangent = jnp.where(line.direction != 0, 0, (end.x - state.x) / jnp.where(away, end.t - state.last, 1))
        known = good & away & jnp.all(jnp.isfinite(tangent))
        written = state._replace(
            last=jnp.where(good, end.t, state.last),
            x=jnp.where(good, end.x, state.x),
            tangent=jnp.where(known, tangent, state.tangent),
            points=state.points.at[state.number].set(end.x),
            costs=state.costs.at[state.number].set(end.cost),
            codes=state.codes.at[state.number].set(end.code),
        )
        following = self._going_to(line, written, state.number + 1)
        return select(again, state._replace(guess=state.x, bare=jnp.asarray(True)), following)

    def _going_to(self, line: Line, state: WalkState, number: Any) -> WalkState:
        """Return the state before the point of this number."""
        t = line.stops[jnp.minimum(number, line.stops.size - 1)]
        guess = state.x + (t - state.last) * state.tangent
        return state._replace(t=t, guess=guess, number=number, bare=jnp.asarray(False), done=number >= line.stops.size)
