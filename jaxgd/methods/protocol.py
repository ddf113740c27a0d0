"""The protocol between a method and the loops: one evaluation a tick.

The loop evaluates the cost and its gradient at the point that the method asked for, hands the evaluation over, and gets back the
update that leads to the next point. A plain rule accepts every point. A line search or a trust region rejects some: then the
update counts from the last accepted point, and the bracket or the radius lives in the method's state.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxgd._check_trees import layout
from jaxgd._checks import show
from jaxgd.result import RUNNING


class Point(NamedTuple):
    """A point and what was found there: the parameters, the cost, the gradient, and what the cost returned beside its value."""

    params: Any
    cost: Any
    gradient: Any
    aux: Any = None


class Step(NamedTuple):
    """What a method answers to an evaluation.

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
    """What a method may ask beside the evaluation that it was given.

    Attributes:
        evaluate: params -> `Point`, the evaluation that a tick uses, for the few methods that search by themselves; None where the
            cost is not compiled.
        hessian: params -> the matrix of second derivatives for the parameters packed into a vector; for methods that say
            `needs_hessian`.
        bounds: the box of `Bounds` that every point lies in, or None. The loop moves into it what a method asks for.
        current: the last accepted `Point`; before the first was accepted its numbers mean nothing. It is there for the methods that
            reject points.
    """

    evaluate: Callable[[Any], Point] | None = None
    hessian: Callable[[Any], Any] | None = None
    bounds: Any = None
    current: Any = None


class Method(Protocol):
    """A method: a pytree whose leaves are its hyperparameters.

    `fit` takes methods that do not say `steps_back`; where one rejects a point there, the costs that it compares are those of
    different rows.

    With `steps_back` a point that is not finite goes to the method like any other, to be rejected; without, it ends the run, and
    the method is asked in vain, with the parameters of the last finite point in the place of the others.
    `needs_hessian`, false where it is missing, says that the method asks for second derivatives, and `ends_itself` that it
    knows better than a rule when there is nothing more to gain; `default_max_steps` is how many steps it gets by default.
    `packs` says that it takes the parameters for one vector: of an array of which a part is held it gets the free numbers alone, in
    one dimension, as does a method that needs second derivatives. All others see such an array whole, with a gradient of zero and
    no update for what is held.
    `gain(params, state)`, where it has that, is how much lower than the cost of the current point it expects the minimum to be, a
    scalar, NaN where it does not know: the `estimated_gain` of a result.
    """

    steps_back: ClassVar[bool]

    def init(self, params: Any) -> Any:
        """The state before the first evaluation, a pytree of arrays."""
        ...

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        """The answer to the evaluation at the point that the method asked for; the first is the start."""
        ...


class Habits(NamedTuple):
    """What a method may do beside giving an update.

    Attributes:
        rejects: whether it may reject a point.
        ends: whether it may end the run.
        steps_back: whether points that are not finite go to it like any other, to be rejected.
    """

    rejects: bool
    ends: bool
    steps_back: bool


HABITS = Habits(rejects=False, ends=False, steps_back=False)
"""Those of a method that takes every step."""


def habits(method: Method, empty: Point, bounds: Any) -> Habits:
    """Return what a method may do: what its class says, or what it answers to abstract values."""
    steps_back = bool(getattr(method, "steps_back", False))
    declared = getattr(method, "rejects_and_ends", None)
    if declared is not None:
        return Habits(declared[0], declared[1], steps_back)
    seen = []

    def answer(params: Any, cost: Any) -> Any:
        point = empty._replace(params=params, cost=cost, gradient=params)
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        hessian = (lambda _: jnp.zeros((size, size), cost.dtype)) if getattr(method, "needs_hessian", False) else None
        step = ask(method, point, method.init(params), Problem(lambda _: point, hessian, bounds, point))
        seen.append((step.accepted is not True, not (isinstance(step.code, int) and step.code == RUNNING)))
        return step.update

    jax.eval_shape(answer, empty.params, empty.cost)
    return Habits(seen[0][0], seen[0][1], steps_back)


def ask(method: Method, point: Point, state: Any, problem: Problem) -> Step:
    """What a method answers, checked: methods may be anybody's."""
    step = method.step(point, state, problem)
    if not isinstance(step, Step):
        raise TypeError(f"method: step must return a Step of jaxgd.methods.protocol, it returned {show(step)}.")
    if jax.tree.structure(step.update) != jax.tree.structure(point.params):
        raise TypeError(f"method: expected an update like the parameters, {layout(point.params)}, got {layout(step.update)}.")
    return step
