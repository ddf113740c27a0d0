"""The spectral gradient method: plain descent whose step length comes from the last two gradients."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._trees import all_finite, inner, largest, pytree, safe_divisor, select, working_dtype
from jaxgd.bounds import apply_update, projected_gradient
from jaxgd.methods import nonmonotone
from jaxgd.methods.nonmonotone import Search
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING, Status

_FIRST = 0.1  # the first step, relative to the largest parameter
_GROWTH = 4.0  # of the step along negative curvature


class SpectralState(NamedTuple):
    """The search along the gradient, and the last accepted point with its gradient."""

    search: Search
    params: Any
    gradient: Any
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
        return SpectralState(nonmonotone.begin(zero), params, jax.tree.map(jnp.zeros_like, params), jnp.asarray(False))

    def step(self, point: Point, state: SpectralState, problem: Problem) -> Step:
        search, dtype = state.search, state.search.rate.dtype
        cost = point.cost.astype(dtype)
        finite = all_finite(point.cost, point.gradient)
        accepted = ~state.started | nonmonotone.judge(search, cost, finite)
        longer = jnp.where(state.started, _spectral(point, state, dtype), _first_rate(point, dtype))
        rate = jnp.where(accepted, longer, nonmonotone.shortened(search, cost, finite))

        params, gradient = select(accepted, (point.params, point.gradient), (state.params, state.gradient))
        downhill = projected_gradient(params, gradient, problem.bounds)
        size = largest(downhill, dtype)
        update = jax.tree.map(lambda g: -rate.astype(g.dtype) * g, gradient)
        _, step = apply_update(params, update, problem.bounds)
        tiny = rate * size <= jnp.finfo(dtype).eps * largest(params, dtype)
        verdict = jnp.where(finite, Status.STALLED.code, Status.DIVERGED.code)
        fall = -size * inner(gradient, step, size, dtype)
        search = Search(rate, fall, nonmonotone.remembered(search, cost, accepted))
        return Step(
            update,
            SpectralState(search, params, gradient, jnp.asarray(True)),
            accepted,
            jnp.where(~accepted & tiny, verdict, RUNNING),
        )


def _spectral(point: Point, state: SpectralState, dtype: Any) -> jax.Array:
    """Return the rate s's / s'y of the step that was just taken, or a longer one along negative curvature."""
    step = jax.tree.map(jnp.subtract, point.params, state.params)
    length = largest(step, dtype)
    square = inner(step, step, length, dtype)
    curvature = inner(step, jax.tree.map(jnp.subtract, point.gradient, state.gradient), length, dtype)
    return jnp.where(curvature > 0, square / jnp.where(curvature > 0, curvature, 1), _GROWTH * state.search.rate)


def _first_rate(point: Point, dtype: Any) -> jax.Array:
    """Return the rate that moves the parameter of the largest gradient by a tenth of the largest parameter."""
    size, slope = largest(point.params, dtype), largest(point.gradient, dtype)
    return _FIRST * safe_divisor(size) / safe_divisor(slope)
