"""Derivatives of a minimum by the implicit function theorem, whatever method found it.

At a minimum x of a cost f(x, t) the gradient g = df/dx is zero, and stays zero as t changes. So x moves by dx with

    H dx = -(dg/dt) dt        H = d²f/dx²

of which only the point itself is needed, and not the way to it. A parameter at a bound that holds it back moves with the bound, and
is a part of t for the others.

A. Griewank, A. Walther, Evaluating derivatives (2008), chapter 15; M. Blondel and others, Efficient and modular implicit
differentiation (2022).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxgd import _derivatives
from jaxgd._compile.explained import explained
from jaxgd._compile.program import apply, program_for, rules_of, trace
from jaxgd._objective import implicit_penalised, kkt
from jaxgd._objective.curvature import held_back, slack
from jaxgd._objective.extras import Carried
from jaxgd._objective.linear import solve_by_eigenvalues, solve_by_products
from jaxgd._trees import is_traced, pack, pytree, replaced, static, unpack, with_fields
from jaxgd.bounds import Bounds


@pytree
class CostAtMinimum:
    """A cost and all that it depends on beside the free parameters.

    Attributes:
        evaluate: the cost with its gradient and aux, a function of the free parameters and the arguments.
        arguments: what it gets after the parameters.
        box: the bounds of the parameters; None for none.
        penalty: the penalty of the parameters; None for none.
        measure: the cost whose value is that of the best point, where that is another; None where it is the same.
        measured: what it gets after the parameters.
        constraints: the `ActiveConstraints`; None for none.
    """

    evaluate: Any
    arguments: tuple[Any, ...]
    box: Bounds | None
    measure: Any = None
    measured: tuple[Any, ...] = ()
    penalty: Any = None
    constraints: kkt.ActiveConstraints | None = None

    def slope(self, x: jax.Array, like: Any) -> jax.Array:
        """Return the gradient for parameters packed into a vector."""
        return pack(self.evaluate(unpack(x, like), *self.arguments)[1]).astype(x.dtype)


class Found(NamedTuple):
    """The numbers of a result that have derivatives."""

    params: Any
    cost: Any
    gradient: Any
    aux: Any
    best_params: Any
    best_cost: Any


def with_derivatives(result: Any, cost: CostAtMinimum) -> Any:
    """Return a result whose numbers have derivatives with respect to all that the cost depends on."""
    if not is_traced(cost):
        return result
    found = Found(result.params, result.cost, result.gradient, result.aux, result.best.params, result.best.cost)
    found = at_minimum(found, cost)
    best = with_fields(result.best, params=found.best_params, cost=found.best_cost)
    return with_fields(result, params=found.params, cost=found.cost, gradient=found.gradient, aux=found.aux, best=best)


@jax.custom_jvp
def at_minimum(found: Found, cost: CostAtMinimum) -> Found:
    """Return what was found, with its derivatives with respect to the cost."""
    return found


@functools.partial(at_minimum.defjvp, symbolic_zeros=True)
def _rule(primals: Any, tangents: Any) -> Any:
    (found, cost), (_, change) = jax.tree.map(_as_array, primals), tangents
    moving = [(k, one) for k, one in enumerate(jax.tree.leaves(change)) if not isinstance(one, SymbolicZero)]
    places, change = tuple(k for k, _ in moving), [_as_array(one) for _, one in moving]
    if is_traced(found, cost):
        found = at_minimum(found, cost)  # again, so that second derivatives see it move
        moved = _tangents(places, found, cost, change)
    else:
        moved = _by_program(found, cost, places, change)
    leaves, structure = jax.tree.flatten(found)
    rest = iter(moved)
    nothing = [None if _is_inexact(leaf) else np.zeros(leaf.shape, jax.dtypes.float0) for leaf in leaves]
    return found, structure.unflatten([next(rest) if zero is None else zero for zero in nothing])


def _by_program(found: Found, cost: CostAtMinimum, places: tuple[int, ...], change: list[Any]) -> list[Any]:
    """Return the tangents by a compiled program, which is found again by its structure.

    A cost with derivatives that its user gave is traced each time: its structure does not tell these.
    """
    function: Any = _Tangents(places)
    if rules_of(cost) is not None:
        like = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in change]
        function = trace(functools.partial(_tangents, places), found, cost, like)
    with explained("cost"):
        return program_for(apply, function, found, cost, change)(function, found, cost, change)


@pytree
class _Tangents:
    """The function `_tangents` for some places, as the structure of a program tells it."""

    places: tuple[int, ...] = static()

    def __call__(self, found: Found, cost: CostAtMinimum, change: list[Any]) -> list[Any]:
        return _tangents(self.places, found, cost, change)


def _tangents(places: tuple[int, ...], found: Found, cost: CostAtMinimum, change: list[Any]) -> list[Any]:
    """Return how the floating numbers that were found move as some leaves of the cost change."""
    leaves, structure = jax.tree.flatten(cost)
    at = [leaves[k] for k in places]

    def cost_at(some: list[Any]) -> CostAtMinimum:
        return structure.unflatten(replaced(leaves, places, some))

    def evaluated(params: Any, some: list[Any]) -> Any:
        cost = cost_at(some)
        value, gradient, aux = cost.evaluate(params, *cost.arguments)
        return value, gradient, aux.aux if isinstance(aux, Carried) else aux

    def best(params: Any, some: list[Any]) -> Any:
        cost = cost_at(some)
        return cost.measure(params, *cost.measured).astype(found.best_cost.dtype)

    moved = (_movement if cost.constraints is None else kkt.movement)(found, cost_at, at, change)
    _, (value, gradient, aux) = jax.jvp(evaluated, (found.params, at), (moved, change))
    best_cost = value if cost.measure is None else jax.jvp(best, (found.best_params, at), (moved, change))[1]
    tangents = jax.tree.leaves(Found(moved, value, gradient, aux, moved, best_cost))
    return [one for one in tangents if one.dtype != jax.dtypes.float0]


def _movement(found: Found, cost_at: Callable[[list[Any]], CostAtMinimum], at: list[Any], change: list[Any]) -> Any:
    """Return how the parameters move as some leaves of the cost, among them bounds, change."""
    like, cost = found.params, cost_at(at)
    if cost.penalty is not None:
        return implicit_penalised.movement(found, cost_at, at, change, _solved)
    x = pack(like)
    free, along = jnp.ones(x.shape, bool), jnp.zeros_like(x)
    if cost.box is not None:
        held, at_low = _at_bounds(found, cost.box)
        limits = lambda some: _limits(cost_at(some).box, at_low)  # noqa: E731
        free, along = ~held, jnp.where(held, jax.jvp(limits, (at,), (change,))[1], 0)
    _, slope = jax.jvp(lambda x, some: cost_at(some).slope(x, like), (x, at), (along, change))
    moved = _solved(cost, x, like, free, jnp.where(free, -slope, 0))
    return unpack(jnp.where(free, moved, along), like)


def _at_bounds(found: Found, box: Bounds) -> tuple[jax.Array, jax.Array]:
    """Return which parameters a bound holds back, and which lie at their lower one."""
    x, gradient, low, high = map(pack, lax.stop_gradient((found.params, found.gradient, box.lower, box.upper)))
    return held_back(x, gradient, low, high), x <= low + slack(low)


def _as_array(leaf: Any) -> Any:
    """Return a leaf as an array: JAX hands on the numbers of Python as they are.

    They become NumPy's: reverse mode would trace a conversion by JAX, which then looks like an outer program.
    """
    return leaf if isinstance(leaf, jax.Array | np.ndarray) else np.asarray(leaf, jnp.result_type(leaf))


def _is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _limits(box: Any, at_low: jax.Array) -> jax.Array:
    return jnp.where(at_low, pack(box.lower), pack(box.upper))


def _solved(cost: CostAtMinimum, x: jax.Array, like: Any, free: jax.Array, b: jax.Array, more: Any = 0) -> jax.Array:
    """Return the solution of (H + diag(more)) dx = b for the free parameters, and b for the others."""

    def slope(x: jax.Array) -> jax.Array:
        return cost.slope(x, like)

    largest = getattr(cost.evaluate, "largest", 0)
    if _derivatives.affords_matrix(x.size, largest):
        matrix = _derivatives.hessian(slope, x, _derivatives.together(x.size, largest))
        apart = jnp.diag(jnp.where(free, more, jnp.ones_like(x)))
        return solve_by_eigenvalues(jnp.where(free[:, None] & free, matrix, 0) + apart, b)
    product = _derivatives.product(slope, x)
    return solve_by_products(lambda v: jnp.where(free, product(jnp.where(free, v, 0)) + more * v, v), b)
