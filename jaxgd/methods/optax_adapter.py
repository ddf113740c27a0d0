"""Optax transformations traced apart from the loop, so that one made anew, or with other numbers in it, is no new program."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._compile.closures import MOST, fresh, parts
from jaxgd._compile.memory import Known, traced
from jaxgd._compile.program import Traced
from jaxgd._trees import pytree, static, working_dtype
from jaxgd.methods.protocol import Method, Point, Problem, Step
from jaxgd.schedules import Plateau


@pytree
class TracedOptax(Method):
    """The functions `init` and `update` of a transformation, traced, as a method that accepts every point."""

    initial: Traced
    following: Traced

    def init(self, params: Any) -> Any:
        return self.initial(params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        del problem
        cost = point.cost.astype(working_dtype(point.params))
        return Step(*self.following(point.gradient, state, point.params, cost))


@pytree
class OptaxMethod(Method):
    """An Optax transformation, or any pair of functions `init` and `update`, as a method that accepts every point.

    Transformations that take extra arguments get those that Optax names: `value`, `grad` and `value_fn`. Here the transformation is
    part of the program's structure: one with other numbers in it compiles another program. `TracedOptax` serves most.
    """

    known: Known = static()

    def init(self, params: Any) -> Any:
        return self.known.value.init(params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        extra, transformation = {}, self.known.value
        if _takes_extra(transformation.update):
            extra = {"value": point.cost, "grad": point.gradient, "value_fn": _value_function(problem.evaluate)}
        update, state = transformation.update(point.gradient, state, point.params, **extra)
        return Step(update, state)


def optax_method(transformation: Any, params: Any) -> Method:
    """Return a transformation as a method for parameters like these.

    It is part of the program's structure where it asks for the cost at other points, or can't be traced.
    """
    if _holds_plateau(transformation):
        raise ValueError(
            "method: a Plateau follows the cost in methods of jaxgd alone, got an Optax transformation with one. Pass a method "
            "such as jaxgd.Adam(plateau), or use optax.contrib.reduce_on_plateau."
        )
    takes_extra = _takes_extra(transformation.update)
    params = _like(params)
    cost = jax.ShapeDtypeStruct((), working_dtype(params))
    try:
        initial = traced(_initial, transformation, params, name="method")
        arguments = params, _like(initial.shapes), params, cost
        return TracedOptax(initial, traced(_following, transformation, *arguments, name="method", takes_extra=takes_extra))
    except Exception:  # raised again where the loop is traced, if it is not for the cost
        return OptaxMethod(Known(transformation))


def _holds_plateau(transformation: Any) -> bool:
    """Return whether a `Plateau` is among what a transformation looks at."""
    left, seen = [transformation], {}
    while left and len(seen) < MOST:
        value = left.pop()
        if isinstance(value, Plateau):
            return True
        if id(value) not in seen:
            seen[id(value)] = value
            left += parts(value)
    return False


def _like(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _initial(transformation: Any) -> Callable[..., Any]:
    def init(params: Any) -> Any:
        with fresh(transformation):
            return transformation.init(params)

    return init


def _following(transformation: Any, *, takes_extra: bool) -> Callable[..., Any]:
    def update(gradient: Any, state: Any, params: Any, cost: Any) -> tuple[Any, Any]:
        extra = {"value": cost, "grad": gradient, "value_fn": _unknown} if takes_extra else {}
        with fresh(transformation):
            return transformation.update(gradient, state, params, **extra)

    return update


def _unknown(params: Any) -> Any:
    """Return the cost at other points, which is known in the loop alone."""
    raise NotImplementedError("the cost at other points is known in the loop alone")


def _takes_extra(update: Any) -> bool:
    parameters = inspect.signature(update).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def _value_function(evaluate: Any) -> Any:
    """Return the cost as a function of the parameters, whose derivative is the gradient that the evaluation gives."""

    @jax.custom_jvp
    def value(params: Any) -> Any:
        return evaluate(params).cost

    @value.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        point = evaluate(*primals)
        products = jax.tree.map(lambda g, t: jnp.sum(g * t).astype(point.cost.dtype), point.gradient, tangents[0])
        return point.cost, sum(jax.tree.leaves(products), start=jnp.zeros_like(point.cost))

    return value
