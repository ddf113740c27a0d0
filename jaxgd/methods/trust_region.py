"""The trust region method with the exact Hessian, as a state machine of one evaluation a tick.

A tick judges the trial, learns from it, proposes the next step, and decides whether the run ends.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._checks import check
from jaxgd._products import matmul
from jaxgd._trees import all_finite, bundled, pack, put, pytree, safe_divisor, select, unbundled, unpack
from jaxgd.bounds import at_active_bound
from jaxgd.methods import _model, ratio_test
from jaxgd.methods._curvature import OfHessian
from jaxgd.methods._model import Model, Place
from jaxgd.methods._rarely import rarely
from jaxgd.methods._subproblem import least_in_ball, least_in_box
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING, Status

_ESCAPE = 1e-2  # of the radius: shorter steps at negative curvature are near a saddle, where the slope vanishes
_HALVED = 0.5  # of the last gain: Newton's gains fall faster than that until they are rounding
_LASTING = 0.8  # of the slope along a Newton step, which should take it away: so much left says that the model is wrong
_BELIEVED = 0.01  # roundings of the cost: a gain as small as that is believed of a wrong model too
_IN_A_ROW = 8  # predictions below rounding, which may gain something together, or falls that are nothing: one may be by chance
_INFINITE = 3  # costs of minus infinity; a single one may be a pole that the next step avoids


class Proposal(NamedTuple):
    """The step that is tried: q, in the model's eigenvectors, and the fall of the cost that the model predicts.

    `newton` says that it is Newton's step, which the radius does not limit.
    """

    q: Any
    fall: Any
    newton: Any


class Memory(NamedTuple):
    """The memory beside the model.

    Attributes:
        radius: the radius of the trust region.
        first: the cost at the start.
        highest: the highest cost of an accepted point.
        gain: what Newton's step promises at the current point, if that is rounding and the step within the radius, else infinity.
        idle: points in a row where the last fall, the cost and all that is left are nothing beside what was gained.
        quiet: predictions in a row that the cost's own rounding hides.
        lasting: whether the last Newton step left the slope along it as it was, as on a long slope with a small kink: the model
            promises little there, and much is to gain. A step as short as the rounding of the variables does not count.
        refusals: trials refused in a row.
        infinite: trials whose cost was minus infinity.
        started: whether the start has been evaluated.
        exact: whether the model's curvature is that of the cost, and not of linear residuals.
    """

    radius: Any
    first: Any
    highest: Any
    gain: Any
    idle: Any
    quiet: Any
    lasting: Any
    refusals: Any
    infinite: Any
    started: Any
    exact: Any


class TrustRegionState(NamedTuple):
    """The state of the trust region method, in a run bundled into few arrays."""

    model: Model
    proposal: Proposal
    memory: Memory


def _before(x: jax.Array, radius: jax.Array) -> TrustRegionState:
    """Return the state before the first evaluation."""
    zero, count, no = jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32), jnp.asarray(False)
    memory = Memory(radius.astype(x.dtype), zero, zero, jnp.full_like(zero, jnp.inf), count, count, no, count, count, no, no)
    return TrustRegionState(_model.empty(x), Proposal(jnp.zeros_like(x), zero, no), memory)


@pytree
class TrustRegion(Method):
    """Minimise by Newton's method with the exact Hessian, in a trust region: for up to some hundreds of parameters.

        x_new = x + s * Q q,  q the least of c'q + sum(|l| * q**2) / 2 in |q| <= radius
        s: the sizes of the variables;  l, Q: eigenvalues and eigenvectors of s H s;  c = Q'(s * g)

    The sizes make steps relative: s is the largest |x| so far, but at most three natural lengths of a variable, sqrt(energy / H_ii)
    with the largest energy so far of the cost and of its Newton steps, and that much where x starts at zero. A trial is accepted if
    the cost falls by more than 1e-4 of the fall that the model predicts; where rounding hides the difference, the trapezium of the
    gradients stands for it. The radius is a quarter of the step after a poor prediction or a refusal, a tenth where the trial was
    not finite, twice itself after a good prediction at its edge, and otherwise stays; a refused trial costs one evaluation and no
    new Hessian.

    Absolute eigenvalues keep one negative direction from shortening all others. At a saddle, where the gradient vanishes, the step
    goes along the most negative curvature to the radius. Eigenvectors along which curvature and slope are rounding are left alone:
    a run moves only along what the cost determines.

    Bounds hold variables that a descent would push through them. A step that would leave the box is the least of the model in the
    box, found by a projected Newton method without evaluating the cost.

    | seen | the run ends as |
    |---|---|
    | the gradient is zero, no curvature negative | CONVERGED |
    | calm twice in a row, and the gain more than half of the last | CONVERGED |
    | calm, and the gain at most eps**1.5 of the cost, or a trial refused, or over | CONVERGED |
    | nothing left, and eight falls in a row are nothing | CONVERGED |
    | nothing left, and rounding hides a refused trial, or over | CONVERGED |
    | otherwise over, and the last trial not finite | DIVERGED |
    | otherwise over, or rounding hides the second of two refused trials | STALLED |
    | the model at the start is not finite | STALLED |
    | the cost leaves the range of its numbers, or is minus infinity three times | UNBOUNDED |

    *Over*: no step moves a parameter, or the cost's rounding hides eight predictions in a row. *Calm*: the model has a minimum, and
    Newton's step gains no more than rounding; that is not believed where the last one took away less than a fifth of the slope,
    unless the gain is below a hundredth of a unit of the cost, or that step was as short as the rounding of the parameters.
    *Nothing left*: the cost, and all that there is to gain at most, are eps**2 of what was gained since the highest cost; a fall is
    nothing where it is no more than that. Rounding is four units of the cost, and that of the parameters where it is hardly more,
    or where the cost itself is no more. A matrix whose smallest eigenvalue may be rounding has no minimum.

    Args:
        radius: the first radius, > 0, relative to the sizes of the variables.

    Each accepted point costs a Hessian, about as much as one gradient for each parameter, in time and, up to a limit, in memory.

    J. J. Moré, D. C. Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4 (1983); A. R. Conn, N. I. M. Gould,
    P. L. Toint, Trust-Region Methods, SIAM (2000); Y. Dauphin et al., Identifying and attacking the saddle point problem, NIPS
    2014, for absolute eigenvalues; D. P. Bertsekas, Projected Newton methods for optimization problems with simple constraints,
    SIAM J. Control Optim. 20 (1982), for the box.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: 100 * (x[1] - x[0]**2)**2 + (1 - x[0])**2, [-1.2, 1.0], method=jaxgd.TrustRegion())
    >>> result.converged, result.n_evaluations < 40
    (True, True)
    """

    traits: ClassVar[Traits] = Traits(
        requires="hessian", can_reject=True, can_end=True, checks_convergence=True, default_max_steps=1000
    )
    radius: Any = 0.1

    def __post_init__(self) -> None:
        check.positive("TrustRegion: radius", self.radius)

    def init(self, params: Any) -> tuple[jax.Array, ...]:
        x = pack(params)
        return bundled(_before(x, jnp.asarray(self.radius)), x.dtype)

    def gain(self, params: Any, state: tuple[jax.Array, ...]) -> jax.Array:
        """Return the fall that Newton's step promises, NaN where the model has no minimum."""
        model = unbundled(state, _before(pack(params), jnp.zeros(()))).model
        return jnp.where(model.sound, model.gain * model.root * model.root, jnp.nan)

    def step(self, point: Point, state: tuple[jax.Array, ...], problem: Problem) -> Step:
        if problem.hessian is None and self.traits.requires == "hessian":
            raise TypeError("method: TrustRegion needs second derivatives: a method that wraps it has to require 'hessian' too.")
        x, x_new, g = pack(problem.current.params), pack(point.params), pack(point.gradient)
        before: TrustRegionState = unbundled(state, _before(x, jnp.zeros(())))
        memory, eps = before.memory, _precision(point.params)
        cost, height = point.cost.astype(x.dtype), problem.current.cost.astype(x.dtype)
        box = None if problem.bounds is None else (pack(problem.bounds.lower), pack(problem.bounds.upper))
        finite = all_finite(cost, x_new, g)
        ratio, hidden, left = _judge(before, height - cost, g, finite)
        wanted = ~memory.started | ratio_test.judge(ratio, finite)
        highest = jnp.where(memory.started, jnp.maximum(memory.highest, cost), cost)

        trial = Trial(ratio, hidden, left, wanted, finite, height - cost, cost)
        again = self.reconsiders(memory, trial)
        kept = bundled(before.model, x.dtype)

        def arrive() -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
            arrived = point if again is None else select(wanted, point._replace(aux=None), problem.current._replace(aux=None))
            x, g, cost = pack(arrived.params), pack(arrived.gradient), arrived.cost.astype(x_new.dtype)
            place = Place(x, cost, g, None, _held(x, g, box), box)
            made = functools.partial(_model.model, before=before.model, started=memory.started, gained=highest - cost, eps=eps)
            found, exact = self.modelled(place, arrived.params, trial, before, made, problem)
            usable = all_finite(cost, found.curvatures, found.slopes, found.size)
            return select(usable, bundled(found, x.dtype), kept), usable, exact

        anew = wanted & finite if again is None else (wanted & finite) | again
        model, usable, exact = lax.cond(anew, arrive, lambda: (kept, jnp.asarray(False), memory.exact))
        usable = usable & wanted
        model = unbundled(model, before.model)
        trial = trial._replace(accepted=~memory.started | usable, finite=finite & (usable | ~wanted))
        here = jnp.where(trial.accepted, x_new, x)
        learnt = _learn(before, trial, model, highest, eps)._replace(exact=exact)
        if again is not None:  # another model, which nothing was refused of yet
            learnt = learnt._replace(refusals=jnp.where(again, 0, learnt.refusals))
        proposal, change = _propose(model, learnt, here, box)
        stuck = jnp.all(here + change == here)
        after = TrustRegionState(model, proposal, learnt)
        code = _verdict(before, after, trial, stuck, eps)
        code = jnp.where(trial.accepted & ~usable, Status.STALLED.code, code)  # the start, where the model overflows
        return Step(unpack(change, point.params), bundled(after, x.dtype), trial.accepted, code)

    def reconsiders(self, memory: Memory, trial: "Trial") -> Any:
        """Return whether the model at the current point is made anew after a trial that was refused; None for never."""
        return None

    def modelled(
        self, place: Place, params: Any, trial: "Trial", before: TrustRegionState, made: Callable[[Place], Model], problem: Problem
    ) -> tuple[Model, jax.Array]:
        """Return the model at a place, and whether its curvature is that of the cost."""
        hessian: Any = problem.hessian
        return made(place._replace(curvature=OfHessian(hessian(params)))), jnp.asarray(True)


class Trial(NamedTuple):
    """The outcome of a trial.

    Attributes:
        ratio: the fall of the cost over the predicted one.
        hidden: whether rounding may have made that fall.
        left: the part of the slope along Newton's step that is left.
        accepted: whether the trial is the current point now.
        finite: whether its evaluation and its model are finite.
        fall: the fall of the cost.
        cost: the cost at the trial.
    """

    ratio: Any
    hidden: Any
    left: Any
    accepted: Any
    finite: Any
    fall: Any
    cost: Any


def _precision(params: Any) -> float:
    """Return the rounding unit of the coarsest parameters."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(params) if leaf.size)


def _held(x: jax.Array, g: jax.Array, box: Any) -> Any:
    """Return which variables a bound holds back; None where there are no bounds."""
    if box is None:
        return None
    low, high = box
    return at_active_bound(x, g, low, high) | (low == high)


def _judge(state: TrustRegionState, fall: jax.Array, g: jax.Array, finite: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the first three fields of `Trial`; where rounding hides the fall, the trapezium of the gradients stands for it."""
    model, q, predicted = state.model, state.proposal.q, state.proposal.fall
    fell = model.energy(fall)
    hidden = finite & (jnp.abs(fell) <= model.noise)
    root = safe_divisor(model.root)  # zero before the start
    slopes = matmul(g / root * (model.size / root), model.vectors)
    fell = jnp.where(hidden, -jnp.sum((model.slopes + slopes) * q) / 2, fell)
    slope = jnp.sum(q * model.slopes)
    left = jnp.where(slope != 0, jnp.sum(q * slopes) / jnp.where(slope != 0, slope, 1), 0)
    return jnp.where(predicted > 0, fell / safe_divisor(predicted), jnp.where(fell > 0, 1, -1)), hidden, left


def _learn(state: TrustRegionState, trial: Trial, model: Model, highest: jax.Array, eps: float) -> Memory:
    """Return the radius and the counts after a trial; `highest` is the highest cost if it was accepted."""
    memory, first = state.memory, ~state.memory.started
    length = jnp.sqrt(jnp.sum(state.proposal.q * state.proposal.q))
    radius = jnp.where(first, memory.radius, ratio_test.grown(memory.radius, trial.ratio, length))

    lost = eps**2 * model.energy(highest - trial.cost)
    idle = ~model.definite & (model.energy(trial.fall) <= lost) & _nothing(model, lost, trial.cost)
    calm = model.calm & (jnp.sum(model.newton * model.newton) <= radius * radius)
    accepted = Memory(
        radius=radius,
        first=jnp.where(first, trial.cost, memory.first),
        highest=highest,
        gain=jnp.where(calm, model.gain * model.root * model.root, jnp.inf),
        idle=jnp.where(idle, memory.idle + 1, 0),
        quiet=memory.quiet,
        lasting=state.proposal.newton & (trial.left > _LASTING) & (state.proposal.fall > state.model.shift) & ~first,
        refusals=jnp.zeros_like(memory.refusals),
        infinite=memory.infinite,
        started=jnp.asarray(True),
        exact=memory.exact,
    )
    refused = memory._replace(radius=ratio_test.shortened(length, trial.finite), refusals=memory.refusals + 1)
    infinite = memory.infinite + (trial.cost == -jnp.inf).astype(jnp.int32)
    quiet = jnp.where(first | (state.proposal.fall > state.model.strict), 0, memory.quiet + 1)
    return select(trial.accepted, accepted, refused)._replace(infinite=infinite, quiet=quiet)


def _nothing(model: Model, lost: jax.Array, cost: jax.Array) -> jax.Array:
    """Return whether the cost, and all that is left to gain at most, is nothing beside what was gained."""
    return model.semidefinite & (model.most <= lost) & (model.energy(jnp.abs(cost)) <= lost)


def _propose(model: Model, memory: Memory, x: jax.Array, box: Any) -> tuple[Proposal, jax.Array]:
    """Return the next step, and the change of the variables that makes it."""
    length = jnp.sqrt(jnp.sum(model.newton * model.newton))
    short = (model.curvatures[0] < -model.blur) & (length <= _ESCAPE * memory.radius)
    newton = (length <= memory.radius) & ~short
    step = jnp.where(newton, model.newton, _limited(model, memory.radius, x, box))
    q, change = matmul(step, model.vectors), model.size * step
    proposal = Proposal(q, -jnp.sum(q * (model.slopes + model.curvatures * q / 2)), newton)
    if box is None:
        return proposal, model.determined(change)
    for side, sign in zip(box, (-1, 1), strict=True):  # beyond the wall, so that the loop puts the variable exactly on it
        wall = side - x
        onto = (sign * step > 0) & (sign * change >= sign * wall - 4 * jnp.finfo(x.dtype).eps * jnp.abs(wall))
        change = jnp.where(onto, 2 * wall, change)
    return proposal, change


def _limited(model: Model, radius: jax.Array, x: jax.Array, box: Any) -> jax.Array:
    """Return the step that the radius limits, along the most negative curvature where the rest is short."""
    q = least_in_ball(model.stiff, model.live, radius)
    square = jnp.sum(q * q)
    saddle = (model.curvatures[0] < -model.blur) & (square <= (_ESCAPE * radius) ** 2)
    out = jnp.sqrt(jnp.maximum(radius**2 - square + q[0] ** 2, 0))
    step = matmul(model.vectors, jnp.where(saddle, put(q, 0, jnp.where(model.slopes[0] > 0, -out, out)), q))
    if box is None:
        return step
    low, high = (jnp.clip((side - x) / safe_divisor(model.size), -radius, radius) for side in box)

    def within() -> jax.Array:
        return least_in_box(*model.absolute(), low, high)[0]

    return rarely(jnp.any((step < low) | (step > high)), within, step)


def _verdict(before: TrustRegionState, after: TrustRegionState, trial: Trial, stuck: jax.Array, eps: float) -> jax.Array:
    """Return the code of the end, or of going on: the table of `TrustRegion`."""
    model, memory, accepted, refused = after.model, after.memory, trial.accepted, ~trial.accepted
    cost = jnp.where(accepted, trial.cost, trial.cost + trial.fall)  # of the current point
    nothing = _nothing(model, eps**2 * model.energy(memory.highest - cost), cost)

    height = model.energy(jnp.abs(cost))
    calm = model.calm & ~(memory.lasting & (model.gain > _BELIEVED * eps * height))
    over = stuck | (memory.quiet >= _IN_A_ROW)
    rounded = model.gain * model.root * model.root > _HALVED * before.memory.gain
    surely = calm & (rounded | refused | over | (model.gain <= eps**1.5 * height))
    no_more = nothing & (over | (refused & trial.hidden))
    converged = surely | no_more | (accepted & (model.flat | (memory.idle >= _IN_A_ROW)))

    largest = float(jnp.finfo(cost.dtype).max)
    deep = accepted & (cost < -(largest**0.5)) & (jnp.abs(cost) * eps > jnp.abs(memory.first))
    unbounded = deep | (memory.infinite >= _INFINITE)
    stalled = over | (refused & trial.hidden & (memory.refusals >= 2))
    ends = (
        (converged, Status.CONVERGED),
        (unbounded, Status.UNBOUNDED),
        (over & ~trial.finite, Status.DIVERGED),
        (stalled, Status.STALLED),
    )
    return jnp.select([seen for seen, _ in ends], [status.code for _, status in ends], RUNNING)
