"""Optax transformations traced apart from the loop, so that one made anew, or with other numbers in it, is no new program."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax

from jaxgd._closures import fresh
from jaxgd._memory import traced
from jaxgd._program import Traced
from jaxgd._trees import pytree, working_dtype
from jaxgd.methods.protocol import Point, Problem, Step


@pytree
class Apart:
    """The functions `init` and `update` of a transformation, traced, as a method that accepts every point."""

    steps_back: ClassVar[bool] = False
    rejects_and_ends: ClassVar[tuple[bool, bool]] = (False, False)
    initial: Traced
    following: Traced

    def init(self, params: Any) -> Any:
        return self.initial(params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        del problem
        cost = point.cost.astype(working_dtype(point.params))
        return Step(*self.following(point.gradient, state, point.params, cost))


def apart(transformation: Any, params: Any, *, takes_extra: bool) -> Apart | None:
    """The transformation traced for parameters like these; None where it asks for the cost at other points, or can't be traced."""
    params = _like(params)
    cost = jax.ShapeDtypeStruct((), working_dtype(params))
    try:
        initial = traced(_initial, transformation, params, name="method")
        arguments = params, _like(initial.shapes), params, cost
        return Apart(initial, traced(_following, transformation, *arguments, name="method", takes_extra=takes_extra))
    except Exception:  # raised again where the loop is traced, if it is not for the cost
        return None


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
