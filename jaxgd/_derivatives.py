"""Matrices of derivatives, in forward mode, or in reverse mode where JAX refuses the other.

JAX refuses forward mode to what holds `jax.custom_vjp`, as the adjoints of solvers of differential equations do. Which mode is
taken is found by trying, while a function is traced.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_LARGE = 200  # parameters, above which a Hessian costs more than it brings
_DEAR = 2**28  # numbers that a Hessian computes, about a quarter of a second, above which the same holds
_TOGETHER = 2**22  # numbers of the largest array in a gradient, for all directions that are looked at together
REFUSALS = (TypeError, ValueError, NotImplementedError, RuntimeError)


class NoDerivativesError(TypeError):
    """JAX can't differentiate a function so often; the text says why."""


def hessian(gradient: Callable[[jax.Array], jax.Array], x: jax.Array, together: int, *, jit: bool = True) -> jax.Array:
    """Return the symmetric matrix of derivatives of a gradient, `together` directions at a time."""
    matrix = _matrix(gradient, x, x.size, together, jit=jit)
    return (matrix + matrix.T) / 2


def jacobian(function: Callable[[jax.Array], jax.Array], x: jax.Array, size: int, *, jit: bool = True) -> jax.Array:
    """Return the derivatives of a vector of this size, which a function returns, a row for each of its numbers."""
    return _matrix(function, x, size, max(size, x.size), jit=jit)


def product(gradient: Callable[[jax.Array], jax.Array], x: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Return the function that multiplies a vector by the symmetric matrix of derivatives of a gradient."""

    def forward(direction: jax.Array) -> jax.Array:
        return jax.jvp(gradient, (x,), (direction,))[1]

    def reverse(direction: jax.Array) -> jax.Array:
        return jax.vjp(gradient, x)[1](direction)[0]

    refusals: list[Exception] = []
    for way in (forward, reverse):
        try:
            jax.eval_shape(way, x)
        except REFUSALS as refusal:
            refusals.append(refusal)
        else:
            return way
    raise _refused(refusals)


def affords_matrix(size: int, largest: int) -> bool:
    """Return whether a matrix of second derivatives costs less than it brings.

    `size` is the number of parameters, and `largest` that of the numbers in the largest array in the gradient.
    """
    return size <= _LARGE and size * largest <= _DEAR


def together(size: int, largest: int) -> int:
    """Return how many directions of a gradient are looked at together; its largest array has `largest` numbers."""
    return max(1, _TOGETHER // max(size, largest))


def _refused(refusals: list[Exception]) -> NoDerivativesError:
    """Return the error of a function that JAX refused to differentiate in every mode."""
    told = next((refusal for refusal in refusals if "forward-mode" not in str(refusal)), refusals[0])
    error = NoDerivativesError(str(told).strip().partition("\n")[0].rstrip("."))
    error.__cause__ = told
    return error


def _matrix(function: Callable[[jax.Array], jax.Array], x: jax.Array, size: int, together: int, *, jit: bool) -> jax.Array:
    """Return the derivatives by the first way that JAX does not refuse.

    The ways are column by column or row by row, many together or one by one.
    """

    def column(direction: jax.Array) -> jax.Array:
        return jax.jvp(function, (x,), (direction,))[1]

    def row(direction: jax.Array) -> jax.Array:
        return jax.vjp(function, x)[1](direction)[0]

    refusals: list[Exception] = []
    for many in (together, 1) if jit and together > 1 else (together,):
        for derivative, count in ((column, x.size), (row, size)):
            try:
                found = _in_all_directions(derivative, jnp.eye(count, dtype=x.dtype), many, jit=jit)
            except REFUSALS as refusal:
                refusals.append(refusal)
            else:
                return found.T if derivative is column else found
    raise _refused(refusals)


def _in_all_directions(derivative: Any, directions: jax.Array, together: int, *, jit: bool) -> jax.Array:
    if not jit:
        return jnp.stack([derivative(direction) for direction in directions])
    if together >= len(directions):
        return jax.vmap(derivative)(directions)
    return jax.lax.map(derivative, directions, batch_size=together)
