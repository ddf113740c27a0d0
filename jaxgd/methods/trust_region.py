"""The trust region method with the exact Hessian, as a state machine of one evaluation a tick."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd import _checks
from jaxgd._bounds import outward
from jaxgd._trees import all_finite, bundled, pack, pytree, select, unbundled, unit, unpack
from jaxgd.methods import _model
from jaxgd.methods._model import Model, Place
from jaxgd.methods._subproblem import least_in_ball, least_in_box
from jaxgd.methods.protocol import Point, Problem, Step
from jaxgd.result import RUNNING, Status

_ACCEPT, _POOR, _GOOD, _NEAR = 1e-4, 0.25, 0.75, 0.8  # of the fall that was predicted, and of the radius
_GROWTH = 2.0  # of the radius
_ESCAPE = 1e-2  # of the radius: shorter steps at negative curvature are lengthened
_DOUBT = 10.0  # how much larger rounding may be than it is taken for, where it would hide what is predicted
_LASTING = 0.8  # of a slope that Newton's step should have taken away: the model is wrong
_SHRINKS = 0.5  # a gain that falls less than to this part of the last one has come to its rounding
_NOTHING = 7.0  # power of the rounding unit, of what was gained since the start, that nobody can miss
_QUIET = 8  # predictions below rounding, or falls that are nothing, in a row that end a run
_ENDLESS = 100  # points in a row without a minimum in sight, whose falls do not decline, that end a run
_INFINITE = 3  # costs of minus infinity that end a run


class Proposal(NamedTuple):
    """The step that is being tried: q, in the model's eigenvectors, and the fall that the model predicts for it.

    `inside` says that it is Newton's step, which the radius does not limit.
    """

    q: Any
    fall: Any
    inside: Any


class Memory(NamedTuple):
    """What is remembered beside the model.

    `first` and `highest` are costs, `mean` the mean fall of the points counted by `endless`; `gain` is that of the last point,
    where it was calm and Newton's step within the radius. The counts are of points or trials in a row: `slow` Newton steps that
    were too short, `quiet` predictions below rounding, `idle` falls that are nothing, `refusals`, points without a minimum in sight
    (`endless`); and of all trials whose cost was minus infinity (`infinite`). `lasting` says that Newton's step has hardly changed
    the slope along it, as on a long slope with a small kink, where the model promises little and much is to gain.
    """

    radius: Any
    first: Any
    highest: Any
    gain: Any
    mean: Any
    slow: Any
    quiet: Any
    idle: Any
    refusals: Any
    endless: Any
    infinite: Any
    lasting: Any
    started: Any


class TrustRegionState(NamedTuple):
    """The state of the trust region method, in a run bundled into few arrays."""

    model: Model
    proposal: Proposal
    memory: Memory


def _before(x: jax.Array, radius: jax.Array) -> TrustRegionState:
    """Return the state before the first evaluation."""
    zero, count, no = jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32), jnp.asarray(False)
    memory = Memory(
        radius.astype(x.dtype), zero, zero, jnp.full_like(zero, jnp.inf), zero, count, count, count, count, count, count, no, no
    )
    return TrustRegionState(_model.empty(x), Proposal(jnp.zeros_like(x), zero, no), memory)


@pytree
class TrustRegion:
    """Newton's method with the exact Hessian, in a trust region: for up to some hundreds of parameters.

        x_new = x + s * Q q,  q the least of c'q + sum(|l| * q**2) / 2 in |q| <= radius
        s: the sizes of the variables;  l, Q: eigenvalues and eigenvectors of s H s;  c = Q'(s * g)

    The sizes make steps relative: s is the largest |x| so far, but at most three natural lengths of a variable, sqrt(energy / H_ii)
    with the largest energy so far of the cost and of its Newton steps, and that much where x starts at zero. A trial is
    accepted if the cost falls by more than 1e-4 of the fall that the model predicts; where rounding hides the difference, the
    trapezium of the gradients stands for it, and up to ten roundings where the prediction is below one. The radius is a quarter of
    the step after a poor prediction, twice itself after a good one at its edge, and otherwise stays; a refused trial costs one
    evaluation and no new Hessian. At a saddle the step goes along the most negative curvature.

    The eigenvalues' absolute values take their places, so that one negative direction does not shorten all others. Eigenvectors
    along which curvature and slope are rounding are left alone: a run moves only along what the cost determines.

    Bounds hold variables that a descent would push through them. A step that would leave the box is the least of the model in the
    box, found by a projected Newton method without evaluating the cost.

    | seen | the run ends as |
    |---|---|
    | the gradient is zero, no curvature negative | CONVERGED |
    | a minimum in the model; Newton's step gains no more than rounding, and no longer less than a quarter of the last | CONVERGED |
    | the same, and a trial is refused, or no step moves a parameter | CONVERGED |
    | rounding hides all movement, and the cost and all that is left at most are eps**2 of what was gained | CONVERGED |
    | the gain of slow Newton steps is eps**7 of what was gained since the start | CONVERGED |
    | eight falls in a row, the cost, and all that is left at most are eps**2 of what was gained | CONVERGED |
    | rounding hides two refused trials, or eight predictions in a row, or all movement, before that | STALLED |
    | no step moves a parameter, and the last trial was not finite | DIVERGED |
    | a hundred points in a row without a minimum in the model, whose falls do not decline | UNBOUNDED |
    | the cost leaves the range of its numbers, or is minus infinity three times | UNBOUNDED |

    Rounding is four units of the cost, and that of the parameters where it is hardly more, where the cost itself is no more, or
    where it is far below all that was gained. A matrix whose smallest eigenvalue may be rounding has no minimum. A gain is not
    believed where Newton's step has left the slope along it as it was, unless it is below a hundredth of a unit of the cost.

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

    steps_back: ClassVar[bool] = True
    rejects_and_ends: ClassVar[tuple[bool, bool]] = (True, True)
    needs_hessian: ClassVar[bool] = True
    ends_itself: ClassVar[bool] = True
    default_max_steps: ClassVar[int] = 1000
    radius: Any = 0.1

    def __post_init__(self) -> None:
        _checks.positive("TrustRegion: radius", self.radius)

    def init(self, params: Any) -> tuple[jax.Array, ...]:
        x = pack(params)
        return bundled(_before(x, jnp.asarray(self.radius)), x.dtype)

    def gain(self, params: Any, state: tuple[jax.Array, ...]) -> jax.Array:
        """Return the fall that Newton's step promises, NaN where the model has no minimum."""
        model = unbundled(state, _before(pack(params), jnp.zeros(()))).model
        return jnp.where(model.sound, model.gain * model.root * model.root, jnp.nan)

    def step(self, point: Point, state: tuple[jax.Array, ...], problem: Problem) -> Step:
        if problem.hessian is None:
            raise TypeError("method: TrustRegion needs second derivatives: a method that wraps it says needs_hessian = True.")
        x, x_new, g = pack(problem.current.params), pack(point.params), pack(point.gradient)
        before: TrustRegionState = unbundled(state, _before(x, jnp.zeros(())))
        hessian, memory = problem.hessian, before.memory
        cost, height = point.cost.astype(x.dtype), problem.current.cost.astype(x.dtype)
        eps = _precision(point.params)
        box = None if problem.bounds is None else (pack(problem.bounds.lower), pack(problem.bounds.upper))
        finite = all_finite(cost, x_new, g)
        trial = _judge(before, height - cost, g, finite)
        wanted = ~memory.started | (finite & (trial.ratio > _ACCEPT))
        highest = jnp.where(memory.started, jnp.maximum(memory.highest, cost), cost)

        def arrive() -> tuple[tuple[jax.Array, ...], jax.Array]:
            place = Place(x_new, cost, g, hessian(point.params), _held(x_new, g, box), box)
            arrived = _model.model(place, before.model, memory.started, highest - cost, eps)
            sound = all_finite(cost, arrived.curvatures, arrived.slopes, arrived.size)
            return select(sound, bundled(arrived, x.dtype), kept), sound

        kept = bundled(before.model, x.dtype)
        model, sound = lax.cond(wanted & finite, arrive, lambda: (kept, jnp.asarray(False)))
        model = unbundled(model, before.model)
        outcome = _Outcome(~memory.started | sound, finite & (sound | ~wanted), height - cost, cost)
        here = jnp.where(outcome.accepted, x_new, x)
        learnt = _learn(before, trial, outcome, model, highest, eps)
        proposal, change = _propose(model, learnt, here, box)
        after = TrustRegionState(model, proposal, learnt)
        stuck = jnp.all(here + change == here)
        code = _verdict(before, after, trial, outcome, stuck, eps)
        code = jnp.where(outcome.accepted & ~sound, Status.STALLED.code, code)  # the start, where the model overflows
        return Step(unpack(change, point.params), bundled(after, x.dtype), outcome.accepted, code)


def _precision(params: Any) -> float:
    """Return the rounding unit of the coarsest parameters."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(params) if leaf.size)


def _held(x: jax.Array, g: jax.Array, box: Any) -> Any:
    """Return which variables a bound holds back; None where there are no bounds."""
    if box is None:
        return None
    low, high = box
    return outward(x, g, low, high) | (low == high)


class _Trial(NamedTuple):
    """What a trial says of the model.

    `ratio` is the fall of the cost over the predicted one, `hidden` says that rounding hides it, and `left` is the part of Newton's
    slope that is left.
    """

    ratio: Any
    hidden: Any
    left: Any


class _Outcome(NamedTuple):
    """What became of a trial: whether it is the current point now, whether it was finite; the fall of the cost, and its cost."""

    accepted: Any
    finite: Any
    fall: Any
    cost: Any


def _judge(state: TrustRegionState, fall: jax.Array, g: jax.Array, finite: jax.Array) -> _Trial:
    """Compare a trial with the model."""
    model, proposal = state.model, state.proposal
    q, predicted, fell = proposal.q, proposal.fall, model.energy(fall)
    slopes = (g / unit(model.root) * (model.size / unit(model.root))) @ model.vectors
    hidden = finite & (jnp.abs(fell) <= jnp.where(predicted <= model.noise, _DOUBT, 1) * model.noise)
    gained = jnp.where(hidden, -jnp.sum((model.slopes + slopes) * q) / 2, fell)
    ratio = jnp.where(predicted > 0, gained / unit(predicted), jnp.where(gained > 0, 1, -1))
    newton = model.newton @ model.vectors
    whole = jnp.sum(newton * model.slopes)
    return _Trial(
        ratio=ratio,
        hidden=hidden,
        left=jnp.where(whole != 0, jnp.sum(newton * slopes) / jnp.where(whole != 0, whole, 1), 0),
    )


def _learn(state: TrustRegionState, trial: _Trial, outcome: _Outcome, model: Model, highest: jax.Array, eps: float) -> Memory:
    """Return the radius and the counts after a trial; `highest` is the highest cost if it was accepted."""
    memory, proposal, first = state.memory, state.proposal, ~state.memory.started
    accepted = outcome.accepted
    length = jnp.sqrt(jnp.sum(proposal.q * proposal.q))
    grown = jnp.where((trial.ratio >= _GOOD) & (length >= _NEAR * memory.radius), _GROWTH * memory.radius, memory.radius)
    agreed = jnp.where(trial.ratio < _POOR, length / 4, jnp.minimum(grown, 1e18))
    shrunk = length * jnp.where(outcome.finite, 1 / 4, 1 / 10)
    slow = proposal.inside & (trial.left > 0.01) & (trial.ratio > 1)
    lost = eps**2 * model.energy(highest - outcome.cost)
    idle = ~model.definite & (model.energy(outcome.fall) <= lost) & _nothing(model, lost, outcome.cost)
    seen = state.model
    falls = (seen.curvatures[0] <= seen.blur) & (seen.energy(outcome.fall) > seen.noise) & (outcome.fall >= memory.mean / 4)
    endless = jnp.where(falls, memory.endless + 1, 0)
    inside = model.calm & (jnp.sum(model.newton * model.newton) <= jnp.square(jnp.where(first, memory.radius, agreed)))
    after = Memory(
        radius=jnp.where(first, memory.radius, agreed),
        first=jnp.where(first, outcome.cost, memory.first),
        highest=highest,
        gain=jnp.where(inside, model.gain * model.root * model.root, jnp.inf),
        mean=jnp.where(falls, memory.mean + (outcome.fall - memory.mean) / jnp.maximum(endless, 1).astype(length.dtype), 0),
        slow=jnp.where(slow & ~first, memory.slow + 1, 0),
        quiet=memory.quiet,
        idle=jnp.where(idle, memory.idle + 1, 0),
        refusals=jnp.zeros_like(memory.refusals),
        endless=jnp.where(first, 0, endless),
        infinite=memory.infinite,
        lasting=proposal.inside & (trial.left > _LASTING) & ~first,
        started=jnp.asarray(True),
    )
    refused = memory._replace(radius=shrunk, refusals=memory.refusals + 1, started=jnp.asarray(True))
    return select(accepted, after, refused)._replace(
        quiet=jnp.where(first | (proposal.fall > seen.strict), 0, memory.quiet + 1),
        infinite=memory.infinite + (outcome.cost == -jnp.inf).astype(jnp.int32),
    )


def _nothing(model: Model, lost: jax.Array, cost: jax.Array) -> jax.Array:
    """Return whether the cost, and all that is left to gain at most, is nothing beside what was gained."""
    return model.semidefinite & (model.most <= lost) & (model.energy(jnp.abs(cost)) <= lost)


def _propose(model: Model, memory: Memory, x: jax.Array, box: Any) -> tuple[Proposal, jax.Array]:
    """Return the next step, and the change of the variables that makes it."""
    length = jnp.sqrt(jnp.sum(model.newton * model.newton))
    negative = model.curvatures[0] < -model.blur
    inside = (length <= memory.radius) & ~(negative & (length <= _ESCAPE * memory.radius))
    step = jnp.where(inside, model.newton, _limited(model, memory, x, box))
    q = step @ model.vectors
    proposal = Proposal(q, -jnp.sum(q * (model.slopes + model.curvatures * q / 2)), inside)
    change = model.size * step
    if box is None:
        return proposal, model.determined(change)
    for side, sign in zip(box, (-1, 1), strict=True):  # beyond the wall, so that the loop puts the variable exactly on it
        wall = side - x
        onto = (sign * step > 0) & (sign * change >= sign * wall - 4 * jnp.finfo(x.dtype).eps * jnp.abs(wall))
        change = jnp.where(onto, 2 * wall, change)
    return proposal, change


def _limited(model: Model, memory: Memory, x: jax.Array, box: Any) -> jax.Array:
    """Return the step that the radius limits: along the most negative curvature where the rest is short."""
    q = least_in_ball(model.stiff, model.live, memory.radius)
    square = jnp.sum(q * q)
    saddle = (model.curvatures[0] < -model.blur) & (square <= (_ESCAPE * memory.radius) ** 2)
    out = jnp.sqrt(jnp.maximum(memory.radius**2 - square + q[0] ** 2, 0))
    step = model.vectors @ jnp.where(saddle, q.at[0].set(jnp.where(model.slopes[0] > 0, -out, out)), q)
    if box is None:
        return step
    low, high = (jnp.clip((side - x) / unit(model.size), -memory.radius, memory.radius) for side in box)

    def within() -> jax.Array:
        return least_in_box(*model.absolute(), low, high)[0]

    return lax.cond(jnp.any((step < low) | (step > high)), within, lambda: step)


def _verdict(
    before: TrustRegionState, after: TrustRegionState, trial: _Trial, outcome: _Outcome, stuck: jax.Array, eps: float
) -> jax.Array:
    """Return the code of the end, or of going on: the table of `TrustRegion`."""
    model, memory, accepted = after.model, after.memory, outcome.accepted
    cost = jnp.where(accepted, outcome.cost, outcome.cost + outcome.fall)  # of the current point
    height = model.energy(jnp.abs(cost))
    gained = model.energy(memory.highest - cost)
    wrong = memory.lasting & (model.gain > 0.01 * eps * height)
    calm = model.calm & ~wrong
    done = calm | _nothing(model, eps**2 * gained, cost)

    rounded = (model.gain <= eps**1.5 * height) | (~wrong & (model.gain * model.root * model.root > _SHRINKS * before.memory.gain))
    tail = model.sound & (memory.slow >= 3) & (model.gain <= eps**_NOTHING * gained)
    arrived = accepted & (model.flat | (model.calm & rounded) | tail | (memory.idle >= _QUIET))

    nearly = model.sound & (model.gain <= _DOUBT * model.allowance / 4)
    refused = ~accepted & (calm | (trial.hidden & (nearly | done)))
    hidden = ~accepted & trial.hidden & (memory.refusals >= 2)
    over = hidden | (memory.quiet >= _QUIET) | stuck
    bad = jnp.where(outcome.finite, Status.STALLED.code, Status.DIVERGED.code)
    code = jnp.where(over, jnp.where(done, Status.CONVERGED.code, bad), RUNNING)

    largest = float(jnp.finfo(cost.dtype).max)
    deep = (cost < -(largest**0.5)) & (jnp.abs(cost) * eps > jnp.abs(memory.first))
    endless = (memory.endless >= _ENDLESS) & (cost < -3 * jnp.abs(memory.first))
    falling = (accepted & (deep | endless)) | (memory.infinite >= _INFINITE)
    code = jnp.where(falling, Status.UNBOUNDED.code, code)
    return jnp.where(arrived | refused, Status.CONVERGED.code, code)
