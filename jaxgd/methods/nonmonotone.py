"""A nonmonotone backtracking search as a state machine of one evaluation a tick.

The cost may rise from one accepted point to the next, as long as it falls below the largest of the last ten (L. Grippo, F.
Lampariello, S. Lucidi, A nonmonotone line search technique for Newton's method, SIAM J. Numer. Anal. 23 (1986)).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_MEMORY = 10  # costs that a new point is compared with
_DECREASE = 1e-4  # of the predicted decrease, that is enough
_SHRINK = (0.1, 0.5)  # bounds of the backtracking


class Search(NamedTuple):
    """A search from the current point along some direction.

    It tries `rate`, a step for which the slope predicts `fall`; `costs` are those of the last accepted points, the newest last.
    """

    rate: Any
    fall: Any
    costs: Any


def begin(zero: jax.Array) -> Search:
    """Return the search before the first point."""
    return Search(zero, zero, jnp.full_like(zero, -jnp.inf, shape=(_MEMORY,)))


def judge(search: Search, cost: jax.Array, finite: jax.Array) -> jax.Array:
    """Return whether a trial is accepted; a rise that rounding may have made does not count against it."""
    noise = 4 * jnp.finfo(cost.dtype).eps * jnp.abs(cost)
    return finite & (cost <= jnp.max(search.costs) - _DECREASE * search.fall + noise)


def shortened(search: Search, cost: jax.Array, finite: jax.Array) -> jax.Array:
    """Return the rate after a trial that was not accepted, by quadratic interpolation."""
    cut = search.fall / (2 * (cost - search.costs[-1] + search.fall))
    return search.rate * jnp.clip(jnp.where(finite & jnp.isfinite(cut), cut, _SHRINK[0]), *_SHRINK)


def remembered(search: Search, cost: jax.Array, accepted: jax.Array) -> jax.Array:
    """Return the last accepted costs after a trial."""
    return jnp.where(accepted, jnp.append(search.costs[1:], cost), search.costs)
