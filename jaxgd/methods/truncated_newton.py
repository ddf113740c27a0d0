"""Truncated Newton: a trust region method for many parameters, whose steps are found by conjugate gradients."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _derivatives
from jaxgd._checks import check
from jaxgd._products import vdot
from jaxgd._trees import all_finite, pack, pytree, safe_divisor, select, unpack
from jaxgd.methods import ratio_test
from jaxgd.methods._conjugate import SIGNS, Region
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING, Status

_FORCING = 0.1  # of the slope, that conjugate gradients leave at most
_SLOW = 0.25  # of the slope along a whole step, so much left of which says that the approximate curvature is poor
_NOISE = 10.0  # roundings that differences of the cost may come from
_LOOSE = 10.0  # roundings of the cost promised, from which on it is looked whether there is more to gain
_REFUSALS = 8  # in a row, the last of a fall that rounding hides, which end the run
_IDLE = 32  # trials in a row that gained nothing visible, likewise


class TruncatedNewtonState(NamedTuple):
    """The state of the method.

    Attributes:
        step: the step that is tried, (n,).
        fall: the fall of the cost that the model predicts for it.
        inside: whether it is shorter than the radius.
        radius: the radius of the trust region, in units in which every variable is as steep.
        exact: whether the model's curvature is that of the cost, and not of linear residuals.
        first: the size of the gradient at the start, in those units.
        length: the length of the step in them.
        idle: trials in a row that were refused, or whose fall rounding hides.
        calm: whether the step promises no more than rounding.
        started: whether the start has been evaluated.
    """

    step: Any
    fall: Any
    inside: Any
    radius: Any
    exact: Any
    first: Any
    length: Any
    idle: Any
    calm: Any
    started: Any


@pytree
class TruncatedNewton(Method):
    """Newton steps in a trust region, without a matrix: for more than some hundreds of parameters, where L-BFGS is slow.

        x_new = P(x + d),    d about the least of g'd + d'H d / 2 in |D d| <= radius
        D**4: estimates of the sums of squares of the rows of H, from its products with random signs

    The Hessian H is never formed: conjugate gradients, preconditioned by D, need its products with vectors alone, each of which
    costs about two gradients, and end at the radius or along negative curvature (T. Steihaug), or when the slope that they leave is
    a tenth of itself, and less near the end. P moves into the bounds, where there are any; variables held back by one stay. A trial
    is accepted if the cost falls by more than 1e-4 of the predicted fall, and the radius changes as in `TrustRegion`. A run ends
    as CONVERGED where the minimum of the model promises no more than rounding of the cost hides, as UNBOUNDED when a step of the
    largest radius, 1e18, still lowers the cost, or as STALLED when steps move nothing any more or gain nothing visible.

    Args:
        radius: the first radius, > 0, in lengths of D x, or of D**-1 g where x is zero.
        most: products in one step at most, >= 1; None is ten for each parameter, since conjugate gradients lose their
            conjugacy to rounding.

    T. Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J. Numer. Anal. 20 (1983);
    S. G. Nash, A survey of truncated-Newton methods, J. Comput. Appl. Math. 124 (2000); C. Bekas, E. Kokiopoulou, Y. Saad, An
    estimator for the diagonal of a matrix, Appl. Numer. Math. 57 (2007), for the signs, which here measure the rows.

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = lambda x: jnp.sum(jnp.cosh(x)) + 1e4 * jnp.sum(jnp.diff(x) ** 2) - jnp.sum(x)
    >>> result = jaxgd.minimize(cost, jnp.zeros(500), method=jaxgd.TruncatedNewton(), dtype="float64")
    >>> result.converged, result.n_evaluations < 30, round(float(result.params[0]), 6)
    (True, True, 0.881374)
    """

    traits: ClassVar[Traits] = Traits(can_reject=True, can_end=True, checks_convergence=True, takes_vector=True, evaluates=True)
    radius: Any = 1.0
    most: Any = None

    def __post_init__(self) -> None:
        check.positive(f"{type(self).__name__}: radius", self.radius)
        if not isinstance(self.most, jax.Array):
            check.integer_or_none(f"{type(self).__name__}: most", self.most, 1)

    def init(self, params: Any) -> TruncatedNewtonState:
        x = pack(params)
        zero, no = jnp.zeros((), x.dtype), jnp.asarray(False)
        return TruncatedNewtonState(jnp.zeros_like(x), zero, no, zero, no, zero, zero, jnp.zeros((), jnp.int32), no, no)

    def restarted(self, params: Any, state: TruncatedNewtonState) -> TruncatedNewtonState:
        return self.init(params)._replace(radius=state.radius)

    def region(self, problem: Problem, params: Any, x: jax.Array, gradient: jax.Array) -> Region:
        """Return the region around the parameters, which are packed into x."""
        evaluate: Any = problem.evaluate

        def slopes(x: jax.Array) -> jax.Array:
            return pack(evaluate(unpack(x, params)).gradient)

        product = _derivatives.product(slopes, x)

        def exact(v: jax.Array) -> jax.Array:
            return product(v).astype(v.dtype)

        rows = jnp.mean(jnp.square(lax.map(exact, random_signs(x.shape, x.dtype))), axis=0)
        return Region(x, gradient, problem.bounds, exact, jnp.sqrt(rows))

    def takes_exact(self, state: TruncatedNewtonState, accepted: jax.Array, poor: jax.Array, slow: jax.Array) -> Any:
        """Return whether the exact curvature serves for the next step, after a poor prediction, or a slow step."""
        del state, accepted, poor, slow
        return True

    def step(self, point: Point, state: TruncatedNewtonState, problem: Problem) -> Step:
        current, started = problem.current, state.started
        x, x_new, g, g_new = map(pack, (current.params, point.params, current.gradient, point.gradient))
        cost, height = point.cost.astype(x.dtype), current.cost.astype(x.dtype)
        finite = all_finite(cost, x_new, g_new)
        noise = _NOISE * jnp.finfo(x.dtype).eps * jnp.abs(height)
        hidden = started & finite & (jnp.abs(height - cost) <= noise)
        fell = jnp.where(hidden, -vdot(g + g_new, state.step) / 2, height - cost)
        ratio = jnp.where(state.fall > 0, fell / safe_divisor(state.fall), jnp.where(fell > 0, 1, -1))
        accepted = ~started | ratio_test.judge(ratio, finite)
        params, gradient = select(accepted, (point.params, g_new), (current.params, g))
        here = jnp.where(accepted, x_new, x)

        slope = vdot(g, state.step)
        slow = state.inside & (jnp.abs(vdot(g_new, state.step)) > _SLOW * jnp.abs(slope))
        poor = ratio < ratio_test.POOR
        exact = started & self.takes_exact(state, accepted, poor, slow)
        region = self.region(problem, params, here, gradient)
        first = jnp.where(started, state.first, region.steepness)
        radius = jnp.where(
            accepted, ratio_test.grown(state.radius, ratio, state.length), ratio_test.shortened(state.length, finite)
        )
        known = jnp.where(state.radius > 0, state.radius, self.radius * region.extent)
        radius = jnp.where(started, radius, known)
        forcing = jnp.minimum(_FORCING, jnp.sqrt(region.steepness / safe_divisor(first)))
        most = jnp.asarray(10 * x.size if self.most is None else self.most, jnp.int32)
        found = region.step(exact, radius, forcing, most)
        level = jnp.where(accepted, cost, height)
        small = hidden | (found.fall <= _LOOSE * region.rounding(level))
        calm = lax.cond(small, lambda: region.nothing_left(level, most), lambda: jnp.asarray(False))

        idle = jnp.where(accepted & ~hidden, 0, state.idle + 1)
        stuck = jnp.all(here + found.step == here) | (hidden & (idle >= jnp.where(accepted, _IDLE, _REFUSALS)))
        ends = (
            (region.flat | (calm & (state.calm | ~accepted | stuck)), Status.CONVERGED.code),
            (accepted & ~hidden & ratio_test.is_endless(state.length), Status.UNBOUNDED.code),
            (started & stuck & ~finite, Status.DIVERGED.code),
            (started & stuck, Status.STALLED.code),
        )
        code = jnp.select([seen for seen, _ in ends], [code for _, code in ends], RUNNING)
        state = TruncatedNewtonState(
            found.step, found.fall, found.inside, radius, exact, first, found.length, idle, calm, jnp.asarray(True)
        )
        return Step(unpack(found.step, point.params), state, accepted, code)


def random_signs(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Return some random vectors of ones and minus ones, always the same."""
    return jax.random.rademacher(jax.random.key(0), (SIGNS, *shape), dtype)
