"""The straight lines along which profiles are followed, in the space of all free parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._products import matmul
from jaxgd._profiles.lanes import Line
from jaxgd._trees import safe_divisor


def others(n: int, held: np.ndarray) -> np.ndarray:
    """Return the places of what is not held, for each of some lines: (m, n - k) for (m, k); n where all is held."""
    rest = np.array([np.setdiff1d(np.arange(n), one) for one in held], np.int32).reshape(len(held), -1)
    return rest if rest.shape[1] else np.full((len(held), 1), n, np.int32)


def axes(x: Any, covariance: Any, lengths: Any, places: Any, low: Any, high: Any) -> Line:
    """Return the two lines, down and up, from the minimum x along each of some parameters.

    As t goes to 1 the parameter goes by its length, and the others as the curvature tells.
    """
    n, m = x.size, places.shape[0]
    chosen = jnp.repeat(places, 2)
    signs = jnp.tile(jnp.asarray([-1, 1], x.dtype), m)
    along = signs * lengths[chosen]
    direction = jnp.zeros((2 * m, n), x.dtype).at[jnp.arange(2 * m), chosen].set(along)
    variance = covariance[chosen, chosen]
    tangent = jnp.where(direction != 0, 0, (along / safe_divisor(variance))[:, None] * covariance[chosen])
    tangent = jnp.where(variance[:, None] > 0, tangent, 0)
    origin = jnp.broadcast_to(x, direction.shape)
    return within(origin, direction, tangent, low, high, inside=True)


def within(origin: Any, direction: Any, tangent: Any, low: Any, high: Any, *, inside: bool) -> Line:
    """Return lines as far as the bounds allow; their places are still to be set."""
    least, most = jnp.full(len(origin), -jnp.inf, origin.dtype), jnp.full(len(origin), jnp.inf, origin.dtype)
    if low is not None:
        up, down = (jnp.where(direction > 0, one, other) for one, other in ((high, low), (low, high)))
        divisor = jnp.where(direction == 0, 1, direction)
        most = jnp.min(jnp.where(direction == 0, jnp.inf, (up - origin) / divisor), axis=1)
        least = jnp.max(jnp.where(direction == 0, -jnp.inf, (down - origin) / divisor), axis=1)
        slack = 4 * jnp.finfo(origin.dtype).eps  # so that the last point is moved exactly onto the bound
        most, least = most + slack * jnp.abs(most), least - slack * jnp.abs(least)
    least = jnp.zeros_like(least) if inside else least
    return Line(origin, direction, tangent, jnp.zeros(0, jnp.int32), least, most, jnp.full(len(origin), inside))


def pairs(covariance: Any, lengths: Any, factor: Any, pair: Any) -> tuple[Any, Any]:
    """Return the axes of the ellipse of two parameters, (2, 2), and how the others follow along them, (n, 2).

    The covariance times the factor is that of the ellipse. Where it is not known, the axes are those of the parameters, of these
    lengths.
    """
    alone = jnp.diag(lengths[pair])
    scaled = factor * covariance[pair][:, pair] / lengths[pair][:, None] / lengths[pair]
    root = jnp.linalg.cholesky(scaled)
    known = jnp.all(jnp.isfinite(root))
    root = jnp.where(known, root, jnp.eye(2, dtype=root.dtype))
    through = jax.scipy.linalg.solve_triangular(root, factor * covariance[pair] / lengths[pair][:, None], lower=True)
    along = jnp.where(known & jnp.isfinite(through), through, 0).T
    return matmul(alone, root), along.at[pair].set(0)
