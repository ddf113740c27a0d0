"""Gauss-Newton without matrices, for sums of squares of many parameters: conjugate gradients in a trust region."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._checks import check
from jaxgd._trees import all_finite, pack, pytree, safe_divisor, select, unpack
from jaxgd.bounds import at_active_bound
from jaxgd.methods import ratio_test
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING, Status

_SIGNS = 8  # random vectors that show how steep each variable is; each costs a product
_FORCING = 0.1  # of the slope, that conjugate gradients leave at most
_SLOW = 0.25  # of the slope along a whole step, so much left of which says that the residuals are not linear enough
_NOISE = 10.0  # roundings that differences of the cost may come from
_TIGHT = 4.0  # roundings of the cost that are nothing to gain: each of two costs has one or two
_LOOSE = 10.0  # the same, from which on it is looked whether there is more to gain
_LAST = 1e-2  # of the slope, that the step leaves at most by which the end is judged
_REFUSALS = 8  # in a row that rounding hides, which end the run


class GaussNewtonState(NamedTuple):
    """The state of the method.

    Attributes:
        step: the step that is tried, (n,).
        fall: the fall of the cost that the model predicts for it.
        inside: whether it is shorter than the radius.
        radius: the radius of the trust region, in units in which every variable is as steep.
        exact: whether the model's curvature is that of the cost, and not of linear residuals.
        first: the size of the gradient at the start, in those units.
        length: the length of the step in them.
        refusals: trials refused in a row.
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
    refusals: Any
    calm: Any
    started: Any


@pytree
class GaussNewton(Method):
    """Minimise a sum of squares by truncated Gauss-Newton steps in a trust region: for more than some hundreds of parameters.

        x_new = P(x + d),    d about the least of g'd + |J d|**2 / 2 in |D d| <= radius
        D**2: estimates of the diagonal of J'J, from J' times some random signs

    The Jacobian J of the residuals, weighted by their loss, is never formed: conjugate gradients, preconditioned by D, need its
    products with vectors alone, and end at the radius (T. Steihaug) or when the slope that they leave is a tenth of itself, and
    less near the end. P moves into the bounds, where there are any; variables held back by one stay. A trial is accepted if the
    cost falls by more than 1e-4 of the predicted fall, and the radius changes as in `TrustRegion`.

    After a poor prediction, or a whole step that leaves more than a quarter of the slope along it, the residuals are too large or
    too bent for J'J to be the curvature: then the products are those of the exact Hessian, and along negative curvature a step goes
    to the radius, until a prediction is poor again. A run ends by the rule `Stationary`, or as STALLED when no step moves a
    parameter any more.

    Args:
        radius: the first radius, > 0, in lengths of D x, or of D**-1 g where x is zero.
        most: products in one step at most, >= 1; None is ten for each parameter, since conjugate gradients lose their
            conjugacy to rounding.

    T. Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J. Numer. Anal. 20 (1983);
    S. G. Nash, A survey of truncated-Newton methods, J. Comput. Appl. Math. 124 (2000); C. Bekas, E. Kokiopoulou, Y. Saad, An
    estimator for the diagonal of a matrix, Appl. Numer. Math. 57 (2007), for the signs, here of J' and so never negative.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.least_squares(lambda x: jnp.diff(x**2) - 1, jnp.ones(300), method=jaxgd.GaussNewton(), dtype="float64")
    >>> result.converged, bool(result.cost < 1e-9)
    (True, True)
    """

    traits: ClassVar[Traits] = Traits(requires="products", can_reject=True, can_end=True, checks_convergence=True)
    radius: Any = 1.0
    most: Any = None

    def __post_init__(self) -> None:
        check.positive("GaussNewton: radius", self.radius)
        if not isinstance(self.most, jax.Array):
            check.integer_or_none("GaussNewton: most", self.most, 1)

    def init(self, params: Any) -> GaussNewtonState:
        x = pack(params)
        zero, no = jnp.zeros((), x.dtype), jnp.asarray(False)
        return GaussNewtonState(jnp.zeros_like(x), zero, no, zero, no, zero, zero, jnp.zeros((), jnp.int32), no, no)

    def step(self, point: Point, state: GaussNewtonState, problem: Problem) -> Step:
        current, started = problem.current, state.started
        x, x_new, g, g_new = map(pack, (current.params, point.params, current.gradient, point.gradient))
        cost, height = point.cost.astype(x.dtype), current.cost.astype(x.dtype)
        finite = all_finite(cost, x_new, g_new)
        noise = _NOISE * jnp.finfo(x.dtype).eps * jnp.abs(height)
        hidden = started & finite & (jnp.abs(height - cost) <= noise)
        fell = jnp.where(hidden, -jnp.vdot(g + g_new, state.step) / 2, height - cost)
        ratio = jnp.where(state.fall > 0, fell / safe_divisor(state.fall), jnp.where(fell > 0, 1, -1))
        accepted = ~started | ratio_test.judge(ratio, finite)
        params, gradient = select(accepted, (point.params, g_new), (current.params, g))
        here = jnp.where(accepted, x_new, x)

        slope = jnp.vdot(g, state.step)
        slow = state.inside & (jnp.abs(jnp.vdot(g_new, state.step)) > _SLOW * jnp.abs(slope))
        poor = ratio < ratio_test.POOR
        exact = started & jnp.where(accepted, jnp.where(state.exact, ~poor, poor | slow), True)
        region = _Region(problem, params, here, gradient)
        first = jnp.where(started, state.first, region.steepness)
        radius = jnp.where(
            accepted, ratio_test.grown(state.radius, ratio, state.length), ratio_test.shortened(state.length, finite)
        )
        radius = jnp.where(started, radius, self.radius * region.extent)
        forcing = jnp.minimum(_FORCING, jnp.sqrt(region.steepness / safe_divisor(first)))
        most = jnp.asarray(10 * x.size if self.most is None else self.most, jnp.int32)
        found = region.step(exact, radius, forcing, most)
        level = jnp.where(accepted, cost, height)
        small = hidden | (found.fall <= _LOOSE * region.rounding(level))
        calm = lax.cond(small, lambda: region.nothing_left(level, most), lambda: jnp.asarray(False))

        refusals = jnp.where(accepted, 0, state.refusals + 1)
        stuck = jnp.all(here + found.step == here) | (~accepted & hidden & (refusals >= _REFUSALS))
        ends = (
            (region.flat | (calm & (state.calm | ~accepted | stuck)), Status.CONVERGED.code),
            (started & stuck & ~finite, Status.DIVERGED.code),
            (started & stuck, Status.STALLED.code),
        )
        code = jnp.select([seen for seen, _ in ends], [code for _, code in ends], RUNNING)
        state = GaussNewtonState(
            found.step, found.fall, found.inside, radius, exact, first, found.length, refusals, calm, jnp.asarray(True)
        )
        return Step(unpack(found.step, point.params), state, accepted, code)


class _Found(NamedTuple):
    """A step, the fall that the model predicts for it, whether it ends inside the radius, and its length."""

    step: Any
    fall: Any
    inside: Any
    length: Any


class _Path(NamedTuple):
    """Conjugate gradients under way: the step, what is left of the gradient, the direction, their count, whether they are over."""

    step: Any
    rest: Any
    direction: Any
    square: Any
    count: Any
    over: Any
    inside: Any


class _Region:
    """A point with the products there, in units in which every variable is as steep."""

    def __init__(self, problem: Problem, params: Any, x: jax.Array, gradient: jax.Array) -> None:
        forward, backward, *exact = problem.products  # type: ignore[misc]
        self.params, self.x = params, x
        self.box = None if problem.bounds is None else (pack(problem.bounds.lower), pack(problem.bounds.upper))
        held = jnp.zeros(x.shape, bool)
        if self.box is not None:
            held = at_active_bound(x, gradient, *self.box) | (self.box[0] == self.box[1])
        self.held, self.gradient = held, jnp.where(held, 0, gradient)
        self.gauss_newton = lambda params, v: backward(params, forward(params, v))
        self.exact = exact[0] if exact else self.gauss_newton
        like = jax.eval_shape(forward, params, x)
        signs = jax.random.rademacher(jax.random.key(0), (_SIGNS, *like.shape), like.dtype)
        squares = jnp.mean(jnp.square(lax.map(lambda u: backward(params, u), signs)), axis=0)
        known = (squares > 0) & jnp.isfinite(squares)
        logarithms = jnp.where(known, jnp.log(jnp.where(known, squares, 1)), 0)
        mean = jnp.exp(jnp.sum(logarithms) / jnp.maximum(jnp.sum(known), 1).astype(x.dtype))
        least = jnp.finfo(x.dtype).eps ** 2 * mean  # a variable less steep than that has just lost its slope, as x**2 does at zero
        self.scale = 1 / jnp.sqrt(jnp.where(known, jnp.maximum(squares, least), mean))
        self.slopes = self.gradient * self.scale
        self.steepness = jnp.sqrt(jnp.sum(jnp.square(self.slopes)))
        extent = jnp.sqrt(jnp.sum(jnp.square(x / self.scale)))
        self.extent = jnp.where(extent > 0, extent, safe_divisor(self.steepness))

        self.flat = jnp.all(self.gradient == 0)

    def rounding(self, cost: jax.Array) -> jax.Array:
        """Return what the rounding of the cost and of the variables makes of differences of the cost."""
        eps = jnp.finfo(cost.dtype).eps
        return eps * (jnp.abs(cost) + eps * jnp.sum(jnp.square(self.x / self.scale)))

    def nothing_left(self, cost: jax.Array, most: Any) -> jax.Array:
        """Return whether rounding hides all that is left: down to the minimum of the exact curvature, or to a cost of zero."""
        whole = self.step(jnp.asarray(True), jnp.asarray(jnp.inf, cost.dtype), jnp.asarray(_LAST, cost.dtype), most)
        hidden = _TIGHT * self.rounding(cost)
        return (whole.inside & (jnp.abs(whole.fall) <= hidden)) | (jnp.abs(cost) <= hidden)

    def product(self, exact: jax.Array, v: jax.Array) -> jax.Array:
        """Return the curvature times a vector, in the units of the region."""
        moved = jnp.where(self.held, 0, self.scale * v)
        pushed = lax.cond(exact, self.exact, self.gauss_newton, self.params, moved)
        return jnp.where(self.held, 0, self.scale * pushed.astype(v.dtype))

    def step(self, exact: jax.Array, radius: jax.Array, forcing: jax.Array, most: Any) -> _Found:
        """Return the step by conjugate gradients that end at the radius, within the box."""

        def onward(path: _Path) -> _Path:
            curved = self.product(exact, path.direction)
            curvature = jnp.vdot(path.direction, curved)
            rate = path.square / safe_divisor(curvature)
            ahead = path.step + rate * path.direction
            out = (curvature <= 0) | ~(jnp.sum(ahead * ahead) < radius * radius)
            step = jnp.where(out, path.step + _to_edge(path.step, path.direction, radius) * path.direction, ahead)
            rest = path.rest + rate * curved
            square = jnp.sum(rest * rest)
            direction = square / safe_divisor(path.square) * path.direction - rest
            over = out | (jnp.sqrt(square) <= forcing * self.steepness) | ~jnp.isfinite(square)
            return _Path(step, rest, direction, square, path.count + 1, over, ~out)

        zero = jnp.zeros_like(self.slopes)
        start = _Path(
            zero,
            self.slopes,
            -self.slopes,
            jnp.sum(self.slopes**2),
            jnp.zeros((), jnp.int32),
            self.steepness == 0,
            jnp.asarray(True),
        )
        end = lax.while_loop(lambda path: ~path.over & (path.count < most), onward, start)
        step = jnp.where(jnp.isfinite(end.step), end.step, 0)
        change = self.scale * step
        if self.box is not None:
            change = jnp.clip(self.x + change, *self.box) - self.x
            step = change / self.scale
        fall = -jnp.vdot(step, self.slopes) - jnp.vdot(step, self.product(exact, step)) / 2
        return _Found(change, fall, end.inside, jnp.sqrt(jnp.sum(step * step)))


def _to_edge(step: jax.Array, direction: jax.Array, radius: jax.Array) -> jax.Array:
    """Return how far along a direction the radius is: the positive root of a quadratic equation."""
    a, b = jnp.sum(direction * direction), jnp.vdot(step, direction)
    room = jnp.maximum(radius * radius - jnp.sum(step * step), 0)
    root = jnp.sqrt(b * b + a * room)
    return jnp.where(b > 0, room / safe_divisor(b + root), (root - b) / safe_divisor(a))
