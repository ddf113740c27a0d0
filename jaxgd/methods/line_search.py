"""A Wolfe line search as a state machine of one evaluation a tick."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._trees import safe_divisor, select

_DECREASE = 1e-4  # of the predicted decrease, that is enough
_SLOPE = 0.9  # of the first slope, that is flat enough
_GROWTH = (2.0, 10.0)  # bounds of the lengthening
_INTERIOR = (0.1, 0.9)  # the part of a bracket in which the next trial lies
_TRIALS = 10  # after so many, a lower cost is enough


class Trial(NamedTuple):
    """A point of the line search: its rate along the direction, its cost and its slope."""

    rate: Any
    cost: Any
    slope: Any


class Search(NamedTuple):
    """A line search from the current point, which has a `slope` along the direction.

    It tries `rate`, which lies between `low`, a rate that is too short, and `high`, one that is too long or infinite. `error` is
    the difference between the last trial's cost and that of the parabola through the slopes, and `rough` the smaller of the last
    two: where the trials are close, what rounding makes of a cost.
    """

    slope: Any
    rate: Any
    low: Trial
    high: Trial
    trials: Any
    error: Any
    rough: Any


def begin(cost: jax.Array, slope: jax.Array, rate: Any) -> Search:
    """Return the beginning of a search from a point of this cost."""
    zero = jnp.zeros_like(cost)
    return Search(
        slope=slope,
        rate=jnp.asarray(rate, slope.dtype),
        low=Trial(zero, cost, slope),
        high=Trial(jnp.full_like(zero, jnp.inf), zero, zero),
        trials=jnp.zeros((), jnp.int32),
        error=zero,
        rough=zero,
    )


def compared(search: Search, trial: Trial, finite: jax.Array, cost: jax.Array) -> Search:
    """Return the search with what a trial says of the rounding of the cost."""
    error = jnp.abs(trial.cost - cost - trial.rate * (search.slope + trial.slope) / 2)
    error = jnp.where(finite, error, 0)
    return search._replace(error=error, rough=jnp.minimum(error, search.error))


def judge(search: Search, trial: Trial, finite: jax.Array, cost: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return whether a trial is too long, and whether it is too short.

    Too long is one whose cost is too high, too short one whose slope is still too steep. `cost` is that of the current point
    and `noise` the rounding of a difference of costs. Where rounding hides the fall, the approximate form of the conditions
    counts (Hager and Zhang).
    """
    low_enough = trial.cost <= cost + _DECREASE * trial.rate * search.slope
    hidden = (trial.cost <= cost + noise) & (trial.slope <= (2 * _DECREASE - 1) * search.slope)
    short = (trial.slope < _SLOPE * search.slope) & (search.trials < _TRIALS)
    return ~(finite & (low_enough | hidden)), short


def narrowed(search: Search, trial: Trial, finite: jax.Array, long: jax.Array) -> Search:
    """Return the search after a trial that was too long or too short, with the next rate to try."""
    low, high = select(long, (search.low, trial), (trial, search.high))
    step = low.rate - search.low.rate
    rise = (low.slope - search.low.slope) / safe_divisor(step)
    ahead = low.rate + jnp.clip(jnp.where(rise > 0, -low.slope / safe_divisor(rise), jnp.inf), *(g * low.rate for g in _GROWTH))
    rate = jnp.where(jnp.isfinite(high.rate), _interpolated(low, high, finite | ~long), ahead)
    return search._replace(rate=rate, low=low, high=high, trials=search.trials + 1)


def settle(search: Search) -> Search:
    """Return the search that tries its best rate again, to accept it."""
    return search._replace(rate=search.low.rate, trials=jnp.full_like(search.trials, _TRIALS))


def _interpolated(low: Trial, high: Trial, finite: jax.Array) -> jax.Array:
    """Return the minimiser of the cubic that fits both ends of a bracket, kept from the ends.

    Where the far end was not finite, return a tenth of the bracket.
    """
    width = high.rate - low.rate
    chord = (high.cost - low.cost) / safe_divisor(width)
    theta = low.slope + high.slope - 3 * chord
    root = jnp.sqrt(jnp.maximum(theta**2 - low.slope * high.slope, 0))
    share = 1 - (high.slope + root - theta) / (high.slope - low.slope + 2 * root)
    share = jnp.where(finite & jnp.isfinite(share), share, _INTERIOR[0])
    return low.rate + jnp.clip(share, *_INTERIOR) * width
