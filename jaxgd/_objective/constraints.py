"""The functions of the constraints, with their exact derivatives, as functions of the free parameters."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgd import _derivatives
from jaxgd._checks.check_constraints import constraint_arrays
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._frozen import Layout, PartialObjective, of_the_free
from jaxgd._trees import pack, pytree, static, unpack
from jaxgd.constraints import NAMES
from jaxgd.methods import protocol


@pytree
class ConstraintFunctions:
    """The functions of the constraints.

    Attributes:
        made: what `MAKERS` make of them: under the name of each maker a tuple with one function for each of `names`.
        sizes: how many numbers each returns.
        names: which they are, "equality" and "inequality" or one of them.
    """

    made: dict[str, tuple[Any, ...]]
    sizes: tuple[int, ...] = static()
    names: tuple[str, ...] = static()

    @property
    def n_equations(self) -> int:
        """How many numbers have to be zero."""
        return sum(size for size, name in zip(self.sizes, self.names, strict=True) if name == NAMES[0])

    @property
    def numbers(self) -> tuple[int, int]:
        """How many numbers have to be zero, and how many at least zero."""
        return self.n_equations, sum(self.sizes) - self.n_equations

    def with_values(self, values: Any) -> "ConstraintFunctions":
        """Return the functions with other values of what is fixed."""
        made = {name: tuple(PartialObjective(one.function, values) for one in some) for name, some in self.made.items()}
        return ConstraintFunctions(made, self.sizes, self.names)

    def evaluate(self, params: Any, rows: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        """Return the values of all constraints as one vector, and its Jacobian."""
        found = [one(params, *rows) for one in self.made["linearised"]]
        return jnp.concatenate([values for values, _, _ in found]), jnp.concatenate([rows for _, rows, _ in found])

    def values(self, params: Any, rows: tuple[Any, ...]) -> jax.Array:
        """Return the values of all constraints as one vector."""
        return jnp.concatenate([one(params, *rows) for one in self.made["values"]])

    def weighted(self, maker: str, params: Any, weights: jax.Array, rows: tuple[Any, ...]) -> Any:
        """Return a derivative of the weighted sum of all values: its gradient if "pulled", its second derivatives if "curved"."""
        total, at = jnp.zeros((), weights.dtype), 0
        for one, size in zip(self.made[maker], self.sizes, strict=True):
            total = total + one(params, *rows, weights[at : at + size])
            at += size
        return total

    def problem(self, hessian: Callable[..., Any], given: tuple[Any, ...], rows: tuple[Any, ...]) -> protocol.Constraints:
        """Return what a method may ask; `given` is what the cost gets beside its parameters, `rows` what the constraints get."""

        def curvature(params: Any, weight: jax.Array, weights: jax.Array) -> jax.Array:
            own = hessian(params, *given)
            return jnp.where(weight == 0, 0, weight * own) + self.weighted("curved", params, weights, rows)

        return protocol.Constraints(
            self.n_equations,
            evaluate=lambda params: self.evaluate(params, rows),
            curvature=curvature,
            values=lambda params: self.values(params, rows),
            pull=lambda params, weights: self.weighted("pulled", params, weights, rows),
        )


def _values(function: Any, *, name: str, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    """Return the values as a vector."""
    del has_aux
    return lambda free, *arguments: _vector(function, name, held, pack(free), free, *arguments)[0]


def _pulled(function: Any, *, name: str, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    """Return the gradient of the sum of the values, weighted by the last argument."""
    del has_aux

    def gradient(free: Any, *arguments: Any) -> jax.Array:
        *rest, weights = arguments
        x = pack(free)
        return jax.vjp(lambda x: _vector(function, name, held, x, free, *rest)[0], x)[1](weights)[0]

    return gradient


def _linearised(function: Any, *, name: str, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    """Return the values as a vector, their Jacobian for the parameters packed into another, and what the function returned."""
    del has_aux

    def evaluate(free: Any, *arguments: Any) -> tuple[jax.Array, jax.Array, Any]:
        x = pack(free)

        def vector(x: jax.Array) -> jax.Array:
            return _vector(function, name, held, x, free, *arguments)[0]

        values, returned = _vector(function, name, held, x, free, *arguments)
        return values, _jacobian(vector, x, values.size), returned

    return evaluate


def _jacobian(vector: Callable[[jax.Array], jax.Array], x: jax.Array, size: int) -> jax.Array:
    """Return the derivatives of a vector, a row for each of its numbers, by the cheaper mode that works."""
    if size == 0:
        return jnp.zeros((0, x.size), x.dtype)
    if size < x.size:
        try:
            return jax.jacrev(vector)(x)
        except _derivatives.REFUSALS:
            pass
    return _derivatives.jacobian(vector, x, size)


def _curved(function: Any, *, name: str, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    """Return the second derivatives of the sum of the values, weighted by the last argument."""
    del has_aux

    def matrix(free: Any, *arguments: Any) -> jax.Array:
        *rest, weights = arguments
        x = pack(free)

        def total(x: jax.Array) -> jax.Array:
            return jnp.sum(weights * _vector(function, name, held, x, free, *rest)[0])

        return _derivatives.hessian(jax.grad(total), x, _derivatives.together(x.size, max(x.size, weights.size)))

    return matrix


def _vector(function: Any, name: str, held: Layout | None, x: jax.Array, free: Any, *arguments: Any) -> tuple[jax.Array, Any]:
    """Return the values as a vector in the precision of x, and what the function returned, checked."""
    function = unjitted(function)
    with fresh(function):
        returned = (function if held is None else of_the_free(function, held))(unpack(x, free), *arguments)
    arrays = constraint_arrays(name, returned)
    packed = [leaf.reshape(-1).astype(x.dtype) for leaf in jax.tree.leaves(arrays)]
    return jnp.concatenate([jnp.zeros((0,), x.dtype), *packed]), arrays


_MAKERS = {"linearised": _linearised, "curved": _curved, "values": _values, "pulled": _pulled}
MAKERS = {name: {maker: functools.partial(make, name=name) for maker, make in _MAKERS.items()} for name in NAMES}
WEIGHTED = ("curved", "pulled")
