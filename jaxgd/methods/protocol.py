"""The protocol between a method and the loops: one evaluation a tick.

The loop evaluates the cost and its gradient at the point that the method asked for, hands the evaluation over, and gets back the
update that leads to the next point. A plain rule accepts every point. A line search or a trust region rejects some: then the
update counts from the last accepted point, and the bracket or the radius lives in the method's state.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._checks.check import show
from jaxgd._checks.check_trees import layout
from jaxgd.result import RUNNING


class Point(NamedTuple):
    """A point and what was found there: the parameters, the cost, the gradient, and what the cost returned beside its value."""

    params: Any
    cost: Any
    gradient: Any
    aux: Any = None


class Step(NamedTuple):
    """The answer of a method to an evaluation.

    Attributes:
        update: the next point to evaluate is the last accepted point (this one, if `accepted`) plus this pytree.
        state: the method's next state, arrays of the same shapes.
        accepted: whether the point just evaluated becomes the run's current point, a boolean scalar, or Python's True from a
            method that accepts every point: nothing is then kept to fall back to.
        code: the code of a status that ends the run, in the method's own judgement; 0 to go on.
    """

    update: Any
    state: Any
    accepted: Any = True
    code: Any = 0


class Problem(NamedTuple):
    """The further information that a method may ask for.

    Attributes:
        evaluate: params -> `Point`, the evaluation that a tick uses, for the few methods that search by themselves; None where the
            cost is not compiled.
        hessian: params -> the matrix of second derivatives for the parameters packed into a vector; for methods that require it.
        bounds: the box of `Bounds` that every point lies in, or None. The loop moves into it what a method asks for.
        current: the last accepted `Point`; before the first was accepted its numbers mean nothing. It is there for the methods that
            reject points.
        linearised: params -> the residuals of a sum of squares as a vector and their Jacobian, weighted as `SumOfSquares.weighted`
            says; for methods that require them.
        products: functions (params, vector) that multiply that Jacobian, its transpose, and the matrix of second derivatives by a
            vector; for methods that require them.
        penalty: the penalty of the free parameters, or None: it has `prox(params, steps, bounds)` and `slope(params, gradient,
            bounds)`. The cost of a `Point` is that of cost and penalty together, its gradient that of the cost alone.
        constraints: the `Constraints` of a method that takes them.
    """

    evaluate: Callable[[Any], Point] | None = None
    hessian: Callable[[Any], Any] | None = None
    bounds: Any = None
    current: Any = None
    linearised: Callable[[Any], Any] | None = None
    products: tuple[Callable[..., Any], ...] | None = None
    penalty: Any = None
    constraints: Any = None


class Constraints(NamedTuple):
    """The constraints of a problem, of which the first are equations and the others are to be at least zero.

    Attributes:
        n_equations: how many are equations.
        evaluate: params -> their values as one vector, and its Jacobian for the parameters packed into a vector.
        curvature: params, weight, weights -> the matrix of second derivatives of weight * cost + sum(weights * values); for methods
            that require "constraints".
        values: params -> the values alone.
        pull: params, weights -> the gradient of sum(weights * values), a vector; both for methods that require "weighted
            constraints".
    """

    n_equations: int
    evaluate: Callable[[Any], tuple[Any, Any]]
    curvature: Callable[[Any, Any, Any], Any]
    values: Callable[[Any], Any]
    pull: Callable[[Any, Any], Any]


class Traits(NamedTuple):
    """The traits of a method that a run has to know.

    Attributes:
        requires: what it asks for. "gradient", or "hessian" for second derivatives too, "residuals" for those and for the residuals
            of a sum of squares with their Jacobian, "products" for products of either with vectors, "constraints" for equations and
            inequalities beside second derivatives, or "weighted constraints" for these without any matrix. All but the first take
            the parameters as one vector.
        can_reject: whether it may reject a point. Points that are not finite go to such a method like any other, to be rejected;
            for others they end the run. `fit` takes methods that accept every point.
        can_end: whether it may end the run by a `code`.
        checks_convergence: whether it knows better than a rule when there is nothing more to gain: no rule is added by default.
        takes_vector: whether it takes the parameters as one vector. Of an array of which a part is fixed it gets the free numbers
            alone, in one dimension. All others see the whole array, with a gradient of zero and no update for what is fixed.
        default_max_steps: how many steps it gets by default in `minimize`.
        ends_at_nonfinite: whether a point that is not finite ends the run although points may be rejected.
        takes_penalty: the penalties that its steps take into account: "any", "separable", or "none".
        evaluates: whether it calls `evaluate` of its `Problem`, which needs a cost that is compiled.
    """

    requires: str = "gradient"
    can_reject: bool = False
    can_end: bool = False
    checks_convergence: bool = False
    takes_vector: bool = False
    default_max_steps: int = 10_000
    ends_at_nonfinite: bool = False
    takes_penalty: str = "none"
    evaluates: bool = False

    @property
    def takes_constraints(self) -> bool:
        """Whether it is for equations and inequalities."""
        return self.requires in ("constraints", "weighted constraints")

    @property
    def steps_back(self) -> bool:
        """Whether points that are not finite go to the method."""
        return self.can_reject and not self.ends_at_nonfinite


class Method:
    """Base class of methods: pytrees whose leaves are their hyperparameters, decorated with `jaxgd.pytree`.

    A subclass has `init` and `step`, and `traits` if it does more than to answer each gradient with an update.
    """

    traits: ClassVar[Traits] = Traits()

    def init(self, params: Any) -> Any:
        """Return the state before the first evaluation, a pytree of arrays."""
        raise NotImplementedError(f"{type(self).__name__}: a method needs init(params).")

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        """Return the answer to the evaluation at the point that the method asked for; the first is the start."""
        raise NotImplementedError(f"{type(self).__name__}: a method needs step(point, state, problem).")

    def restarted(self, params: Any, state: Any) -> Any:
        """Return the state before the first evaluation of a cost that hardly differs from the last one, at these parameters."""
        del state
        return self.init(params)

    def gain(self, params: Any, state: Any) -> Any:
        """Return how far below the current cost it expects the minimum; None if it never knows.

        It is a scalar, NaN where it does not know: the `estimated_gain` of a result.
        """
        return None

    @property
    def knows_gain(self) -> bool:
        """Whether `gain` tells anything."""
        return type(self).gain is not Method.gain


def ask(method: Method, point: Point, state: Any, problem: Problem) -> Step:
    """Return what a method answers, checked: users write methods."""
    step = method.step(point, state, problem)
    if not isinstance(step, Step):
        raise TypeError(f"method: step must return a Step of jaxgd.methods.protocol, it returned {show(step)}.")
    if jax.tree.structure(step.update) != jax.tree.structure(point.params):
        raise TypeError(f"method: expected an update like the parameters, {layout(point.params)}, got {layout(step.update)}.")
    return step


def checked_step(method: Method, point: Point, state: Any, problem: Problem) -> Step:
    """Return what a method answers, checked against its traits."""
    step, traits = ask(method, point, state, problem), method.traits
    name = type(method).__name__
    if step.accepted is not True and not traits.can_reject:
        raise TypeError(f"method: {name} may reject points: set can_reject=True in its traits.")
    if not (traits.can_end or (isinstance(step.code, int) and step.code == RUNNING)):
        raise TypeError(f"method: {name} may end the run: set can_end=True in its traits.")
    return step


def answers(method: Method, empty: Point, bounds: Any) -> tuple[bool, bool]:
    """Return whether a method may reject a point or end the run, from its answer to abstract values."""
    seen = []

    def answer(params: Any, cost: Any) -> Any:
        point = empty._replace(params=params, cost=cost, gradient=params)
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        hessian = (lambda _: jnp.zeros((size, size), cost.dtype)) if method.traits.requires == "hessian" else None
        step = ask(method, point, method.init(params), Problem(lambda _: point, hessian, bounds, point))
        seen.append((step.accepted is not True, not (isinstance(step.code, int) and step.code == RUNNING)))
        return step.update

    jax.eval_shape(answer, empty.params, empty.cost)
    return seen[0]
