"""The curvature of a cost, or of half a sum of squares, by its eigenvalues in units of its diagonal."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._checks import check_cost
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._frozen import Layout, of_the_free
from jaxgd._objective import derivatives
from jaxgd._trees import is_traced, norm, pack, pytree, safe_divisor, unpack
from jaxgd.bounds import Bounds, at_active_bound

_ROUNDINGS = 16.0  # for each parameter, below which a curvature relative to the others' is nothing
SLACK = 8.0  # roundings from a bound that are still at the bound


def slack(bound: Any) -> Any:
    """Return how far from a bound is at the bound."""
    return jnp.where(jnp.isinf(bound), 0, SLACK * jnp.finfo(bound.dtype).eps * abs(bound))


def _held_back(x: Any, gradient: Any, low: Any, high: Any) -> Any:
    """Return which parameters can't move, or lie at a bound beyond which the cost would fall."""
    return at_active_bound(x, gradient, low + slack(low), high - slack(high)) | (low == high)


def linearised(residuals: Any, *, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    """Return the residuals as a vector, and their Jacobian for the free parameters packed into another."""

    def evaluate(free: Any, *arguments: Any) -> tuple[jax.Array, jax.Array]:
        x = pack(free)

        def vector(x: jax.Array) -> jax.Array:
            return _vector(residuals, has_aux, held, unpack(x, free), *arguments).astype(x.dtype)

        values = vector(x)
        return values, derivatives.jacobian(vector, x, values.size, jit=is_traced(x))

    return evaluate


def half_squares(residuals: Any, *, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    """Return half the sum of the squares of the residuals."""
    return lambda free, *arguments: jnp.sum(_vector(residuals, has_aux, held, free, *arguments) ** 2) / 2


def _vector(residuals: Any, has_aux: bool, held: Layout | None, free: Any, *arguments: Any) -> jax.Array:
    """Return the residuals as a vector, checked."""
    residuals = unjitted(residuals)
    with fresh(residuals):
        returned = (residuals if held is None else of_the_free(residuals, held))(free, *arguments)
    return pack(check_cost.residual_arrays(returned, has_aux=has_aux))


@pytree
class Spectrum:
    """The curvature of the free parameters in units of its diagonal: its eigenvalues, eigenvectors and those units.

    `least` is the smallest eigenvalue that is not nothing. Those parameters that a bound holds back have curvature 1 and are
    unconnected. `gradient` is that of the cost, `squares` twice the cost, `left` the residuals, if there are any.
    """

    values: Any
    vectors: Any
    size: Any
    least: Any
    free: Any
    finite: Any
    gradient: Any
    squares: Any
    left: Any


def spectrum(functions: tuple[Any, ...], params: Any, arrays: tuple[Any, ...], box: Bounds | None) -> Spectrum:
    """Return the curvature of the cost, or of half the sum of the squares of residuals, at a point."""
    x = pack(params)
    if len(functions) == 2:
        cost, slope, _ = functions[0](params, *arrays)
        curvature = functions[1](params, *arrays)
        gradient, squares, left = pack(slope).astype(x.dtype), 2 * cost.astype(x.dtype), jnp.zeros(0, x.dtype)
        size = jnp.sqrt(abs(jnp.diagonal(curvature)))
    else:
        left, curvature = functions[0](params, *arrays)
        gradient, squares = jnp.matmul(left, curvature, precision=lax.Precision.HIGHEST), jnp.sum(left**2)
        size = jax.vmap(lambda column: norm(column, x.dtype), in_axes=1)(curvature)
    free = jnp.ones(x.shape, bool) if box is None else ~_held_back(x, gradient, pack(box.lower), pack(box.upper))
    finite = jnp.isfinite(squares) & jnp.all(jnp.isfinite(curvature))
    size = safe_divisor(size)
    rounding = jnp.asarray(_ROUNDINGS * x.size * jnp.finfo(x.dtype).eps, x.dtype)
    units = jnp.diag(jnp.where(free & finite, 0, jnp.ones_like(x)))
    if len(functions) == 2:
        scaled = jnp.where(free[:, None] & free & finite, curvature / size[:, None] / size, 0) + units
        values, vectors = jnp.linalg.eigh(scaled)
        return Spectrum(values, vectors, size, rounding, free, finite, gradient, squares, left)
    scaled = jnp.concatenate([jnp.where(free & finite, curvature / size, 0), units])
    _, values, rows = jnp.linalg.svd(jnp.linalg.qr(scaled, mode="r"))
    return Spectrum(values**2, rows.T, size, rounding**2, free, finite, gradient, squares, left)
