"""The proximal Newton method with the exact Hessian, as a state machine of one evaluation a tick."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._products import matmul
from jaxgd._trees import all_finite, pack, pytree, safe_divisor, select, unpack
from jaxgd.methods._composite import Piece, least_with_penalty
from jaxgd.methods._proximal import slope_at
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits
from jaxgd.result import RUNNING, Status

_DECREASE = 1e-4  # of the fall that the model predicts, that is enough
_GOOD, _POOR = 0.75, 0.25  # parts of it, above which the damping falls, and below which it grows
_LEAST, _LESS, _MORE = 1e-3, 0.1, 10.0  # the least damping beside none, and its factors
_ROUNDINGS = 4.0  # of the cost that are nothing to gain, and for each variable of an eigenvalue
_NOISE = 10.0  # roundings of the cost that a difference of costs may come from
_OF_PARAMETERS = 5.0  # roundings of the parameters that are nothing to gain


class NewtonState(NamedTuple):
    """The state of the proximal Newton method.

    Attributes:
        matrix: the positive definite matrix of the model at the current point, (n, n).
        sizes: the second derivatives by which the damping is scaled, (n,).
        damping: the factor of these that is added.
        gain: the fall of the objective that the step under evaluation promises.
        calm: whether the model without damping promises no more than rounding.
        highest: the highest cost of an accepted point.
        started: whether the start has been evaluated.
    """

    matrix: Any
    sizes: Any
    damping: Any
    gain: Any
    calm: Any
    highest: Any
    started: Any


@pytree
class ProximalNewton(Method):
    """Newton's method for a cost with a separable `penalty`: for up to some hundreds of parameters.

        x_new = x + the d of least g'd + d'(|H| + m * diag(|H|))d / 2 + P(x + d)  within the bounds

    g and H are the gradient and the exact Hessian of the cost, and P is the penalty. |H| is H where it is positive definite beyond
    rounding, and otherwise has the absolute eigenvalues of H, in units of its diagonal. The step solves this problem by sweeps
    along the parameters and semismooth Newton steps, without evaluating the cost. It is accepted if the objective falls by 1e-4 of
    what the model predicts, or, where rounding hides the prediction, if it does not rise by more than that. The damping m is 0 at
    first, 1e-3 or ten times itself after a refusal or a fall of less than a quarter of the prediction, and a tenth, or 0 if that is
    below 1e-3, after one of more than three quarters. A cost of squares with `L1` takes one step, and one or two to see that.

    A run ends as CONVERGED where the model without damping promises no more than four roundings of the objective, or than five
    roundings of the parameters make, or than eps**2 of all that was gained with the objective itself so small, and the promise is
    more than half of the last such, or below eps**1.5 of the objective, or the step is refused or moves nothing. It ends as
    STALLED, or DIVERGED if the last trial was not finite, where a damped step moves nothing.

    J. D. Lee, Y. Sun, M. A. Saunders, Proximal Newton-type methods for minimizing composite functions, SIAM J. Optim. 24 (2014),
    here with Marquardt's damping instead of a line search (D. W. Marquardt, An algorithm for least-squares estimation of
    nonlinear parameters, J. SIAM 11 (1963)).

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = lambda x: jnp.sum((jnp.exp(x) - jnp.array([3.0, 0.9])) ** 2)
    >>> result = jaxgd.minimize(cost, [1.0, 1.0], penalty=jaxgd.L1(0.5), method=jaxgd.ProximalNewton(), dtype="float64")
    >>> result.params.round(4).tolist(), result.converged
    ([1.0696, 0.0], True)
    """

    traits: ClassVar[Traits] = Traits(
        requires="hessian",
        can_reject=True,
        can_end=True,
        checks_convergence=True,
        default_max_steps=1000,
        takes_penalty="separable",
    )

    def init(self, params: Any) -> NewtonState:
        x = pack(params)
        zero, no = jnp.zeros((), x.dtype), jnp.asarray(False)
        return NewtonState(jnp.eye(x.size, dtype=x.dtype), jnp.ones_like(x), zero, zero, no, zero, no)

    def gain(self, params: Any, state: NewtonState) -> jax.Array:
        """Return the fall that the last step promised."""
        del params
        return state.gain

    def step(self, point: Point, state: NewtonState, problem: Problem) -> Step:
        if problem.hessian is None:
            raise TypeError("method: ProximalNewton needs second derivatives: a method that wraps it has to require 'hessian' too.")
        hessian, like, dtype = problem.hessian, point.params, state.gain.dtype
        cost, finite = point.cost.astype(dtype), all_finite(point.cost, point.gradient)
        fall, noise = problem.current.cost.astype(dtype) - cost, _NOISE * jnp.finfo(dtype).eps * jnp.abs(cost)
        hidden = state.gain <= noise
        wanted = ~state.started | (finite & ((fall > _DECREASE * state.gain) | (hidden & (fall >= -noise))))

        def arrive() -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            slope = pack(slope_at(problem, point)).astype(dtype)
            found = _model(hessian(point.params), pack(point.params), slope)
            usable = all_finite(jnp.zeros((), dtype), *found)
            return select(usable, found, (state.matrix, state.sizes)), usable

        kept = (state.matrix, state.sizes)
        (matrix, sizes), usable = lax.cond(wanted & finite, arrive, lambda: (kept, jnp.asarray(False)))
        accepted = ~state.started | (wanted & usable)
        damping = _damped(state, accepted, fall, hidden)
        params, gradient = select(accepted, (point.params, point.gradient), (problem.current.params, problem.current.gradient))
        x, g = pack(params), pack(gradient).astype(dtype)
        height = jnp.where(accepted, cost, problem.current.cost.astype(dtype))
        piece = _piece(problem, x, g, matrix + jnp.diag(damping * sizes), like)
        z, fall = least_with_penalty(piece)
        gain = fall + damping * jnp.sum(sizes * (z - x) ** 2) / 2

        highest = jnp.where(state.started, jnp.maximum(state.highest, height), height)
        calm = (damping == 0) & (gain <= _allowance(x, sizes, height, highest))
        still = jnp.all(z == x)
        slow = calm & ((state.calm & (gain >= state.gain / 2)) | (gain <= jnp.finfo(dtype).eps ** 1.5 * jnp.abs(height)) | still)
        converged = jnp.where(accepted, slow, state.calm | (still & calm))
        over = jnp.where(finite, Status.STALLED.code, Status.DIVERGED.code)
        code = jnp.where(converged, Status.CONVERGED.code, jnp.where(still, over, RUNNING))
        code = jnp.where(accepted & ~usable, Status.STALLED.code, code)  # the start, where the model overflows
        after = NewtonState(matrix, sizes, damping, gain, calm, highest, jnp.asarray(True))
        return Step(unpack(z - x, like), after, accepted, code)


def _damped(state: NewtonState, accepted: jax.Array, fall: jax.Array, hidden: jax.Array) -> jax.Array:
    """Return the damping after a trial."""
    more = jnp.maximum(_MORE * state.damping, _LEAST)
    less = jnp.where(_LESS * state.damping < _LEAST, 0, _LESS * state.damping)
    good, poor = hidden | (fall >= _GOOD * state.gain), ~hidden & (fall < _POOR * state.gain)
    found = jnp.where(~accepted, more, jnp.where(good, less, jnp.where(poor, more, state.damping)))
    return jnp.where(state.started, found, 0)


def _allowance(x: jax.Array, sizes: jax.Array, height: jax.Array, highest: jax.Array) -> jax.Array:
    """Return the promise that is nothing at a point of this objective."""
    eps = jnp.finfo(x.dtype).eps
    rounding = _ROUNDINGS * eps * jnp.abs(height)
    of_parameters = (_OF_PARAMETERS * eps) ** 2 * jnp.sum(sizes * x * x)
    gained = eps * eps * (highest - height)
    return jnp.maximum(jnp.maximum(rounding, of_parameters), jnp.where(jnp.abs(height) <= gained, gained, 0))


def _model(hessian: jax.Array, x: jax.Array, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the matrix of the model, and the sizes of the second derivatives.

    A variable without curvature has one that makes a step of its own size along its slope, that of cost and penalty.
    """
    n, eps = x.size, jnp.finfo(x.dtype).eps
    curved = jnp.abs(jnp.diagonal(hessian))
    straight = safe_divisor(jnp.abs(slope)) / safe_divisor(jnp.abs(x))
    sizes = jnp.where(curved > 0, curved, straight)
    root = jnp.sqrt(sizes)
    scaled = hessian / root[:, None] / root
    floor = _ROUNDINGS * n * eps
    scaled = jnp.where(jnp.eye(n, dtype=bool) & (curved == 0), 1, scaled)
    factor = jnp.linalg.cholesky(scaled - floor * jnp.eye(n, dtype=x.dtype), symmetrize_input=False)

    def absolute() -> jax.Array:
        values, vectors = jnp.linalg.eigh(scaled)
        values = jnp.maximum(jnp.abs(values), floor)
        return matmul(vectors * values, vectors.T)

    matrix = lax.cond(jnp.all(jnp.isfinite(factor)), lambda: scaled, absolute)
    return matrix * root[:, None] * root, sizes


def _piece(problem: Problem, x: jax.Array, g: jax.Array, matrix: jax.Array, like: Any) -> Piece:
    """Return the model with the penalty for packed parameters; without a penalty it is that of the bounds alone."""
    penalty, bounds = problem.penalty, problem.bounds

    def prox(z: jax.Array, steps: jax.Array) -> jax.Array:
        params = unpack(z, like)
        if penalty is None:
            return pack(params if bounds is None else bounds.project(params))
        return pack(penalty.prox(params, unpack(steps, like), bounds))

    def value(z: jax.Array) -> jax.Array:
        return jnp.zeros((), x.dtype) if penalty is None else penalty.value(unpack(z, like)).astype(x.dtype)

    return Piece(x, g, matrix, prox, value)
