"""The cost, its gradient and its Hessian as functions of the free parameters, traced or run as Python."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _derivatives
from jaxgd._checks import check_cost
from jaxgd._compile import jaxprs
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._compile.explained import explained
from jaxgd._compile.memory import traced
from jaxgd._compile.provenance import Origin
from jaxgd._frozen import FrozenParameters, Layout, PartialObjective, of_the_free
from jaxgd._objective import extras
from jaxgd._trees import at_least_float32, is_traced, pack, unpack
from jaxgd.methods.protocol import Point


def value(cost: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the checked cost alone, in at least 32 bits, without its aux."""
    return lambda *arguments: _checked(cost, **options)(*arguments)[0]


def value_and_gradient(cost: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the checked cost as a function that returns (cost, gradient, aux)."""
    derived = jax.value_and_grad(_checked(cost, **options), has_aux=True)

    def evaluate(*arguments: Any) -> tuple[Any, Any, Any]:
        (value, aux), gradient = derived(*arguments)
        return value, gradient, aux

    return evaluate


def hessian(cost: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the matrix of second derivatives, for the parameters packed into a vector, by forward over reverse mode.

    Where JAX refuses that, it is by reverse over reverse mode. Many directions are looked at together, as many as a limited memory
    allows, or one by one for a cost that runs as Python.
    """

    def matrix(params: Any, *arguments: Any) -> jax.Array:
        def packed(x: jax.Array) -> jax.Array:
            return _checked(cost, **options)(unpack(x, params), *arguments)[0].astype(x.dtype)

        x, gradient = pack(params), jax.grad(packed)
        if not is_traced(x):  # the cost runs as Python
            return _derivatives.hessian(gradient, x, 1, jit=False)
        largest = jaxprs.largest(jax.make_jaxpr(gradient)(x).jaxpr)
        return _derivatives.hessian(gradient, x, _derivatives.together(x.size, largest))

    return matrix


def hessian_product(cost: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the function that multiplies the matrix of second derivatives by a packed vector, its last argument."""

    def product(params: Any, *arguments: Any) -> jax.Array:
        *rest, direction = arguments

        def packed(x: jax.Array) -> jax.Array:
            return _checked(cost, **options)(unpack(x, params), *rest)[0].astype(x.dtype)

        return _derivatives.product(jax.grad(packed), pack(params))(direction)

    return product


def _checked(
    cost: Any, *, has_aux: bool, held: Layout | None = None, takes: tuple[str, ...] = (), training: bool = True
) -> Callable[..., Any]:
    """Return the cost as a function that returns its value and the rest.

    Extras are the second argument of a cost that takes some. The rest is the aux, or in training of a cost with a state what it
    carries on.
    """
    cost = unjitted(cost)  # traced from inside, its closed-over arrays are arguments of the program and not part of it

    def checked(*arguments: Any) -> tuple[Any, Any]:
        given: dict[str, Any] = {}
        if takes:
            params, given, *data = arguments
            arguments = (params, *data)
        flags = {"training": training} if "training" in takes else {}
        with fresh(cost):
            returned = cost(*arguments, **given, **flags)
        after = None
        if "state" in takes:
            returned, after = extras.split(returned, given["state"], has_aux=has_aux)
        value, aux = check_cost.value(returned, has_aux=has_aux)
        aux = jax.tree.map(check_cost.aux_array, aux)
        return at_least_float32(value), extras.Carried(after, aux) if training and "state" in takes else aux

    return checked if held is None else of_the_free(checked, held)


def trace_objective(
    cost: Callable[..., Any],
    params: Any,
    make: Callable[..., Callable[..., Any]],
    *data: Any,
    has_aux: bool,
    jit: bool,
    fixed: FrozenParameters | None = None,
    name: str = "cost",
    origin: Origin | None = None,
    **takes: Any,
) -> Callable[..., Any]:
    """Return what `make`, such as `value_and_gradient`, makes of a cost, as a function of the free parameters and the data.

    It is traced for arguments like these, or, without `jit`, runs as Python with its errors, which begin with the `name`,
    explained. An `origin` that several of them share makes all but the first cheaper. `takes` are the options of a cost
    with extras.
    """
    options: dict[str, Any] = {"has_aux": has_aux, "held": fixed.held if fixed else None} | takes
    if jit:
        values = (fixed.values,) if fixed else ()
        function = traced(make, unjitted(cost), params, *values, *data, name=name, origin=origin, **options)
    else:
        function = explained(name, eager=True)(make(cost, **options))
    return PartialObjective(function, fixed.values) if fixed else function


def empty_point(evaluate: Callable[..., Any], params: Any, *data: Any) -> Point:
    """Return a point that was not evaluated: an infinite cost and zeros, of the shapes that an evaluation has.

    A function that was not traced has to be called once to know them, since Python control flow may look at values.
    """
    shapes = getattr(evaluate, "shapes", None) or evaluate(params, *data)
    cost, gradient, aux = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    aux = aux.aux if isinstance(aux, extras.Carried) else aux
    return Point(params, np.full_like(cost, np.inf), gradient, aux)
