"""The trust region method with the exact Hessian, as a state machine of one evaluation a tick."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _checks
from jaxgd._bounds import outward
from jaxgd._trees import all_finite, bundled, pack, pytree, select, unbundled, unit, unpack
from jaxgd.methods import _model
from jaxgd.methods._model import Model
from jaxgd.methods.protocol import Point, Problem, Step
from jaxgd.result import RUNNING, Status

_ACCEPT, _POOR, _GOOD, _NEAR = 1e-4, 0.25, 0.75, 0.8  # of the fall that was predicted, and of the radius
_GROWTH = 2.0  # of the radius
_BEND, _ALIGNED, _LONGEST = 0.05, 0.5, 4.0  # bent steps: how much, and along which last steps
_STRETCH, _LEFT = 8.0, 0.1  # stretched Newton steps: the most, and the slope that asks for more
_ESCAPE = 1e-2  # of the radius: shorter steps at negative curvature are lengthened
_DOUBT = 10.0  # how much larger rounding may be than it is taken for, where it would hide what is predicted
_TIGHT = 4.0  # roundings of the cost that are nothing to gain
_TAIL = 2.4e-63  # of what was gained since the start, the rest in a tail that falls for ever
_QUIET = 8  # predictions below rounding in a row that end a run


class Proposal(NamedTuple):
    """The step that is being tried.

    `q` is the step in the model's eigenvectors, `fall` what the model predicts for it; `inside` says that it is a Newton step that
    the radius does not limit, `multiplied` by so much, and `bent` that it follows the curve of the last one.
    """

    q: Any
    fall: Any
    inside: Any
    multiplied: Any
    bent: Any


class Memory(NamedTuple):
    """What is remembered beside the model.

    `displacement` is that of the last finite trial, and `excess` what the gradient had there beyond the model. `highest` is the
    cost of the start. `calm` counts points in a row at which there was nothing to gain, `slow` Newton steps in a row that were too
    short, `quiet` predictions below rounding, `refusals` trials refused.
    """

    displacement: Any
    excess: Any
    highest: Any
    radius: Any
    stretch: Any
    calm: Any
    slow: Any
    quiet: Any
    refusals: Any
    started: Any


class TrustRegionState(NamedTuple):
    """The state of the trust region method, in a run bundled into few arrays."""

    model: Model
    proposal: Proposal
    memory: Memory


def _before(x: jax.Array, radius: jax.Array) -> TrustRegionState:
    """The state before the first evaluation."""
    zero, count, no = jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32), jnp.asarray(False)
    vector = jnp.zeros_like(x)
    return TrustRegionState(
        _model.empty(x),
        Proposal(vector, zero, no, zero, no),
        Memory(vector, vector, zero, radius.astype(x.dtype), zero, count, count, count, count, no),
    )


@pytree
class TrustRegion:
    """Newton's method with the exact Hessian, in a trust region: for up to some hundreds of parameters.

        x_new = P(x + s * Q q),  q the least of c'q + sum(|l| * q**2) / 2 in |q| <= radius
        s: the sizes of the variables;  l, Q: eigenvalues and eigenvectors of s H s;  c = Q'(s * g)

    The sizes make steps relative: s = max(|x|, 0.1 * |x_start|), and less for a variable a thousand times steeper than the median
    one. A trial is accepted if the cost falls by more than 1e-4 of the fall that the model predicts; where rounding hides the
    difference, the trapezium of the gradients stands for it, and up to ten roundings where the prediction is below one. The radius
    is a quarter of the step after a poor prediction, twice itself after a good one at its edge, and otherwise stays; a refused
    trial costs one evaluation and no new Hessian. At a saddle the step goes along the most negative curvature. Three things are
    added to the textbook's method: absolute eigenvalues, so that one negative direction does not shorten all others; a *bent*
    step, which follows a curved valley by half the third derivative along the last displacement, known from its gradient; and a
    *stretched* Newton step, up to eight times as long, where the last ones were right in direction and too short, as at multiple
    roots. Bounds hold variables that a descent would push through them; steps end at the walls, on the best of the model's points
    on the way there.

    The run ends as CONVERGED at two points in a row with nothing to gain above rounding, where the Hessian is positive definite or
    the gradient is a rounding of the variables; as STALLED where rounding hides all progress before that.

    Args:
        radius: the first radius, > 0, relative to the sizes of the variables.

    Each accepted point costs a Hessian, about as much as one gradient for each parameter, in time and, up to a limit, in memory.

    J. J. Moré, D. C. Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4 (1983); A. R. Conn, N. I. M. Gould,
    P. L. Toint, Trust-Region Methods, SIAM (2000); Y. Dauphin et al., Identifying and attacking the saddle point problem, NIPS
    2014, for absolute eigenvalues.

    >>> import jax.numpy as jnp, jaxgd
    >>> result = jaxgd.minimize(lambda x: 100 * (x[1] - x[0]**2)**2 + (1 - x[0])**2, [-1.2, 1.0], method=jaxgd.TrustRegion())
    >>> result.converged, result.n_evaluations < 40
    (True, True)
    """

    steps_back: ClassVar[bool] = True
    needs_hessian: ClassVar[bool] = True
    ends_itself: ClassVar[bool] = True
    default_max_steps: ClassVar[int] = 1000
    radius: Any = 0.1

    def __post_init__(self) -> None:
        _checks.positive("TrustRegion: radius", self.radius)

    def init(self, params: Any) -> tuple[jax.Array, ...]:
        x = pack(params)
        return bundled(_before(x, jnp.asarray(self.radius)), x.dtype)

    def step(self, point: Point, state: tuple[jax.Array, ...], problem: Problem) -> Step:
        if problem.hessian is None:
            raise TypeError("method: TrustRegion needs second derivatives: a method that wraps it says needs_hessian = True.")
        x, x_new, g = pack(problem.current.params), pack(point.params), pack(point.gradient)
        before: TrustRegionState = unbundled(state, _before(x, jnp.zeros(())))
        hessian, memory = problem.hessian, before.memory
        cost = point.cost.astype(x.dtype)
        eps = _precision(point.params)
        box = None if problem.bounds is None else (pack(problem.bounds.lower), pack(problem.bounds.upper))
        finite = all_finite(cost, x_new, g)
        judged = _judge(before, x, x_new, problem.current.cost.astype(x.dtype) - cost, g, finite)
        wanted = ~memory.started | (finite & (judged.ratio > _ACCEPT))

        def arrive() -> tuple[tuple[jax.Array, ...], jax.Array]:
            held = _held(x_new, g, box)
            arrived = _model.model(x_new, cost, g, hessian(point.params), held, before.model.first, memory.started, eps)
            sound = all_finite(cost, arrived.curvatures, arrived.slopes, arrived.size)
            return select(sound, bundled(arrived, x.dtype), kept), sound

        kept = bundled(before.model, x.dtype)
        model, sound = lax.cond(wanted & finite, arrive, lambda: (kept, jnp.asarray(False)))
        model = unbundled(model, before.model)
        outcome = _Outcome(~memory.started | sound, finite & (sound | ~wanted), judged.hidden)
        here, height = select(outcome.accepted, (x_new, cost), (x, problem.current.cost.astype(x.dtype)))
        learnt = _learn(before, judged, outcome, model, height, eps)
        proposal, change = _propose(model, learnt, here, box)
        after = TrustRegionState(model, proposal, learnt)
        stuck = jnp.all(here + change == here)
        code = _verdict(before, after, outcome, learnt.highest - height, stuck, eps)
        code = jnp.where(outcome.accepted & ~sound, Status.STALLED.code, code)  # the start, where the model overflows
        return Step(unpack(change, point.params), bundled(after, x.dtype), outcome.accepted, code)


def _precision(params: Any) -> float:
    """The rounding unit of the coarsest parameters."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(params) if leaf.size)


def _held(x: jax.Array, g: jax.Array, box: Any) -> Any:
    """Which variables a bound holds back; None where there are no bounds."""
    if box is None:
        return None
    low, high = box
    return outward(x, g, low, high) | (low == high)


class _Judgement(NamedTuple):
    """What a trial says: the fall of the cost over the predicted one, whether rounding hides it, and the slope that is left.

    `displacement` and `excess` are those of `Memory`, `bulge` is the cost's excess over its slope.
    """

    ratio: Any
    hidden: Any
    left: Any
    least: Any
    displacement: Any
    excess: Any


class _Outcome(NamedTuple):
    """What became of a trial: whether it is the current point now, whether it was finite, whether rounding hides its fall."""

    accepted: Any
    finite: Any
    hidden: Any


def _judge(state: TrustRegionState, x: jax.Array, x_new: jax.Array, fall: jax.Array, g: jax.Array, finite: jax.Array) -> _Judgement:
    """Compare a trial with the model."""
    model, proposal = state.model, state.proposal
    q, predicted = proposal.q, proposal.fall
    slopes = (g * model.size) @ model.vectors
    slope = jnp.sum(model.slopes * q)
    hidden = finite & (jnp.abs(fall) <= jnp.where(predicted <= model.noise, _DOUBT, 1) * model.noise)
    gained = jnp.where(hidden, -jnp.sum((model.slopes + slopes) * q) / 2, fall)
    ratio = jnp.where(predicted > 0, gained / unit(predicted), jnp.where(gained > 0, 1, -1))
    bulge = -2 * (fall + slope)
    least = jnp.where((bulge > 0) & (slope < 0), -slope / unit(bulge), 0.5)
    excess = (model.vectors @ (slopes - model.slopes - model.curvatures * q)) / unit(model.size)
    usable = finite & jnp.all(jnp.isfinite(excess))
    return _Judgement(
        ratio=ratio,
        hidden=hidden,
        left=jnp.where(slope != 0, jnp.sum(slopes * q) / jnp.where(slope != 0, slope, 1), 0),
        least=least,
        displacement=jnp.where(usable, x_new - x, state.memory.displacement),
        excess=jnp.where(usable, excess, state.memory.excess),
    )


def _learn(state: TrustRegionState, judged: _Judgement, outcome: _Outcome, model: Model, cost: jax.Array, eps: float) -> Memory:
    """The radius and the counts after a trial; `cost` is that of the current point."""
    memory, proposal = state.memory, state.proposal
    accepted, finite = outcome.accepted, outcome.finite
    length = jnp.sqrt(jnp.sum(proposal.q * proposal.q))
    grown = jnp.where((judged.ratio >= _GOOD) & (length >= _NEAR * memory.radius), _GROWTH * memory.radius, memory.radius)
    agreed = jnp.where(judged.ratio < _POOR, length / 4, jnp.minimum(grown, 1e18))
    shrunk = length * jnp.where(finite, jnp.clip(judged.least, 0.1, 0.5), 0.1)
    shrunk = jnp.where(proposal.multiplied > 1, memory.radius, shrunk)  # the plain Newton step is next
    lasting = accepted & proposal.inside & (judged.left > 0.01) & (judged.ratio > 1)
    further = jnp.where(judged.left > _LEFT, jnp.minimum(2 * proposal.multiplied, _STRETCH), proposal.multiplied)
    nothing = model.known & (model.gain <= _TIGHT * eps * jnp.abs(cost) + eps**2 * model.scale)
    first = ~memory.started
    return Memory(
        displacement=jnp.where(first, 0, judged.displacement),
        excess=jnp.where(first, 0, judged.excess),
        highest=jnp.where(first, cost, memory.highest),
        radius=jnp.where(first, memory.radius, jnp.where(accepted, agreed, shrunk)),
        stretch=jnp.where(lasting, further, 1),
        calm=jnp.where(accepted, jnp.where(nothing, memory.calm + 1, 0), memory.calm),
        slow=jnp.where(lasting, memory.slow + 1, jnp.where(accepted, 0, memory.slow)),
        quiet=jnp.where(first | (proposal.fall > state.model.strict), 0, memory.quiet + 1),
        refusals=jnp.where(accepted, 0, memory.refusals + 1),
        started=jnp.asarray(True),
    )


def _propose(model: Model, memory: Memory, x: jax.Array, box: Any) -> tuple[Proposal, jax.Array]:
    """The next step, in the model's eigenvectors and as a change of the variables."""
    curve = jnp.abs(model.curvatures)
    q, inside = _model.least_in_ball(curve, model.slopes, memory.radius)
    square = jnp.sum(q * q)
    saddle = inside & (model.curvatures[0] < -model.blur) & (square <= (_ESCAPE * memory.radius) ** 2)
    out = jnp.sqrt(jnp.maximum(memory.radius**2 - square + q[0] ** 2, 0))
    q = jnp.where(saddle, q.at[0].set(jnp.where(model.slopes[0] > 0, -out, out)), q)
    inside = inside & ~saddle
    fall = -jnp.sum(q * (model.slopes + model.curvatures * q / 2))

    length = jnp.sqrt(jnp.sum(q * q))
    stretch = jnp.where(inside & (length > 0), jnp.maximum(jnp.minimum(memory.stretch, memory.radius / unit(length)), 1), 1)
    bend = _bend(model, memory, q, length)
    bent = (stretch == 1) & (memory.calm == 0) & jnp.any(bend != 0)
    q = stretch * q + jnp.where(bent, bend, 0)
    proposal = Proposal(q, fall, inside, stretch, bent)
    change = model.size * (model.vectors @ q)
    return (proposal, change) if box is None else _within(model, proposal, x, change, box)


def _bend(model: Model, memory: Memory, q: jax.Array, length: jax.Array) -> jax.Array:
    """What to add to a step that goes on along the last one: the answer to an excess of the gradient that grows squarely."""
    d = (memory.displacement / unit(model.size)) @ model.vectors
    square = jnp.sum(d * d)
    part = jnp.sum(d * q) / unit(square)
    along = (jnp.abs(part) * jnp.sqrt(square) >= _ALIGNED * length) & (jnp.abs(part) <= _LONGEST) & (square > 0) & (length > 0)
    excess = part**2 * ((memory.excess * model.size) @ model.vectors)
    bend, _ = _model.least_in_ball(jnp.abs(model.curvatures), excess, jnp.where(along, _BEND * length, 1))
    return jnp.where(along & jnp.all(jnp.isfinite(bend)), bend, 0)


def _within(model: Model, proposal: Proposal, x: jax.Array, change: jax.Array, box: Any) -> tuple[Proposal, jax.Array]:
    """A step that ends at the walls: the best for the model of those that are moved into the box from parts of the way."""
    low, high = box
    parts = jnp.asarray(2.0, x.dtype) ** -jnp.arange(6, dtype=x.dtype)
    changes = jnp.clip(x + parts[:, None] * change, low, high) - x
    steps = (changes / unit(model.size)) @ model.vectors
    falls = -jnp.sum(steps * (model.slopes + model.curvatures * steps / 2), axis=1)
    whole = jnp.all(changes[0] == change)
    best = jnp.where(whole, 0, jnp.argmax(falls))
    fall = jnp.where(whole, proposal.fall, falls[best])
    cut = proposal._replace(q=steps[best], fall=fall, inside=proposal.inside & whole)
    return cut, changes[best]


def _verdict(
    before: TrustRegionState, after: TrustRegionState, outcome: _Outcome, fallen: jax.Array, stuck: jax.Array, eps: float
) -> jax.Array:
    """The code of the end, or of going on; `fallen` is how far the cost has come since the start."""
    model, memory, accepted = after.model, after.memory, outcome.accepted
    lowest = model.curvatures[0]
    flat = jnp.all(model.slopes == 0) & (lowest >= 0)
    newton = jnp.sum((model.slopes / jnp.where(model.curvatures > 0, model.curvatures, 1)) ** 2)
    tail = (memory.slow >= 3) & model.known & (lowest > 0) & (newton <= 0.02**2) & (model.gain <= _TAIL * jnp.abs(fallen))
    arrived = accepted & (flat | (memory.calm >= 2) | tail)

    refused = ~accepted & (memory.calm > 0) & ~before.proposal.bent
    hidden = ~accepted & outcome.hidden & (memory.refusals >= 2)
    quiet = memory.quiet >= _QUIET
    firm = model.still | (model.pivot > eps**0.5)
    good = jnp.where(refused, firm, jnp.where(quiet & accepted, before.model.settled, model.settled))
    bad = jnp.where(outcome.finite, Status.STALLED.code, Status.DIVERGED.code)
    code = jnp.where(refused | hidden | quiet | stuck, jnp.where(good, Status.CONVERGED.code, bad), RUNNING)
    return jnp.where(arrived, Status.CONVERGED.code, code)
