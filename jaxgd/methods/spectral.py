"""The spectral gradient method: plain descent whose step length comes from the last two gradients."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._trees import all_finite, inner, largest, pytree, safe_divisor, select, working_dtype
from jaxgd.bounds import apply_update, projected_gradient
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING, Status

_MEMORY = 10  # costs that a new point is compared with
_DECREASE = 1e-4  # of the predicted decrease, that is enough
_FIRST = 0.1  # the first step, relative to the largest parameter
_GROWTH = 4.0  # of the step along negative curvature
_SHRINK = (0.1, 0.5)  # bounds of the backtracking


class SpectralState(NamedTuple):
    """The rate that is being tried, the last accepted point and its gradient, and the last accepted costs.

    `fall` is what the slope predicts for the step that is being tried, -g'(x_new - x); `size` is the gradient's largest component
    that leads into the box; `length` the largest parameter.
    """

    rate: Any
    params: Any
    gradient: Any
    fall: Any
    size: Any
    length: Any
    costs: Any
    started: Any


@pytree
class SpectralGradient(Method):
    """Gradient descent that needs no learning rate.

        x_new = P(x - r * g);    r_next = s's / s'y  with s = x_new - x, y = g_new - g

    P moves into the bounds, where there are any. The point is accepted if its cost is at most the largest of the last ten accepted
    costs less 1e-4 of the decrease that the slope predicts; otherwise, or where the cost is not finite, r is cut by quadratic
    interpolation, to between 0.1 and 0.5 of itself, and the step is tried again from x. Along negative curvature (s'y <= 0) r grows
    fourfold. The first step is a tenth of the largest parameter, or 0.1 if all are zero. Differences of the cost that rounding may
    have made do not count against a point. A run whose steps have become too short to move a parameter ends as STALLED, or as
    DIVERGED if the last was not finite.

    J. Barzilai, J. M. Borwein, Two-point step size gradient methods, IMA J. Numer. Anal. 8 (1988); M. Raydan, The Barzilai and
    Borwein gradient method for the large scale unconstrained minimization problem, SIAM J. Optim. 7 (1997), whose rate along
    negative curvature and whose backtracking differ. E. G. Birgin, J. M. Martínez, M. Raydan, Nonmonotone spectral projected
    gradient methods on convex sets, SIAM J. Optim. 10 (2000), which backtrack along the chord, and not along the arc.

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: (v - 3.0)**2, 0.0, method=jaxgd.SpectralGradient())
    >>> round(float(result.params), 4), result.converged
    (3.0, True)
    """

    traits: ClassVar[Traits] = Traits(can_reject=True, can_end=True, takes_vector=True)

    def init(self, params: Any) -> SpectralState:
        zero = jnp.zeros((), working_dtype(params))
        costs = jnp.full_like(zero, -jnp.inf, shape=(_MEMORY,))
        return SpectralState(zero, params, jax.tree.map(jnp.zeros_like, params), zero, zero, zero, costs, jnp.asarray(False))

    def step(self, point: Point, state: SpectralState, problem: Problem) -> Step:
        dtype = state.rate.dtype
        cost = point.cost.astype(dtype)
        finite = all_finite(point.cost, point.gradient)
        noise = 4 * jnp.finfo(dtype).eps * jnp.abs(cost)
        lower = cost <= jnp.max(state.costs) - _DECREASE * state.fall + noise
        accepted = ~state.started | (finite & lower)

        cut = state.fall / (2 * (cost - state.costs[-1] + state.fall))
        shorter = state.rate * jnp.clip(jnp.where(finite & jnp.isfinite(cut), cut, _SHRINK[0]), *_SHRINK)
        longer = jnp.where(state.started, _spectral(point, state, dtype), _first_rate(point, dtype))
        rate = jnp.where(accepted, longer, shorter)

        params, gradient = select(accepted, (point.params, point.gradient), (state.params, state.gradient))
        downhill = projected_gradient(params, gradient, problem.bounds)
        size = largest(downhill, dtype)
        update = jax.tree.map(lambda g: -rate.astype(g.dtype) * g, gradient)
        _, step = apply_update(params, update, problem.bounds)
        length = largest(params, dtype)
        tiny = rate * size <= jnp.finfo(dtype).eps * length
        verdict = jnp.where(finite, Status.STALLED.code, Status.DIVERGED.code)
        return Step(
            update,
            SpectralState(
                rate=rate,
                params=params,
                gradient=gradient,
                fall=-size * inner(gradient, step, size, dtype),
                size=size,
                length=length,
                costs=jnp.where(accepted, jnp.append(state.costs[1:], cost), state.costs),
                started=jnp.asarray(True),
            ),
            accepted,
            jnp.where(~accepted & tiny, verdict, RUNNING),
        )


def _spectral(point: Point, state: SpectralState, dtype: Any) -> jax.Array:
    """Return the rate s's / s'y of the step that was just taken, or a longer one along negative curvature."""
    step = jax.tree.map(jnp.subtract, point.params, state.params)
    length = largest(step, dtype)
    square = inner(step, step, length, dtype)
    curvature = inner(step, jax.tree.map(jnp.subtract, point.gradient, state.gradient), length, dtype)
    return jnp.where(curvature > 0, square / jnp.where(curvature > 0, curvature, 1), _GROWTH * state.rate)


def _first_rate(point: Point, dtype: Any) -> jax.Array:
    """Return the rate that moves the parameter of the largest gradient by a tenth of the largest parameter."""
    size, slope = largest(point.params, dtype), largest(point.gradient, dtype)
    return _FIRST * safe_divisor(size) / safe_divisor(slope)
