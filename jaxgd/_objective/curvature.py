"""The curvature of a cost, or of half a sum of squares, by its eigenvalues in units of its diagonal."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgd import _derivatives
from jaxgd._checks import check_cost
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._frozen import Layout, of_the_free
from jaxgd._products import matmul
from jaxgd._trees import is_traced, norm, pack, pytree, safe_divisor, unpack
from jaxgd.bounds import Bounds, at_active_bound

_ROUNDINGS = 16.0  # for each parameter, below which a curvature relative to the others' is nothing
SLACK = 8.0  # roundings from a bound that are still at the bound


def slack(bound: Any) -> Any:
    """Return how far from a bound is at the bound."""
    return jnp.where(jnp.isinf(bound), 0, SLACK * jnp.finfo(bound.dtype).eps * abs(bound))


def held_back(x: Any, gradient: Any, low: Any, high: Any) -> Any:
    """Return which parameters can't move, or lie at a bound beyond which the cost would fall."""
    return at_active_bound(x, gradient, low + slack(low), high - slack(high)) | (low == high)


def linearised(residuals: Any, *, has_aux: bool, held: Layout | None) -> Callable[..., Any]:
    """Return the residuals as a vector, and their Jacobian for the free parameters packed into another."""

    def evaluate(free: Any, *arguments: Any) -> tuple[jax.Array, jax.Array]:
        x = pack(free)

        def vector(x: jax.Array) -> jax.Array:
            return _vector(residuals, has_aux, held, unpack(x, free), *arguments).astype(x.dtype)

        values = vector(x)
        return values, _derivatives.jacobian(vector, x, values.size, jit=is_traced(x))

    return evaluate


def linearised_squares(cost: Any, **options: Any) -> Callable[..., Any]:
    """Return the residuals of a `SumOfSquares` and their Jacobian, weighted by its loss."""
    called = _residuals(cost, **options)

    def evaluate(free: Any, *arguments: Any) -> tuple[jax.Array, jax.Array]:
        x, vector = pack(free), _packed(called, free, arguments)
        residuals = vector(x)
        jacobian = _derivatives.jacobian(vector, x, residuals.size, jit=is_traced(x))
        weighted, weights = cost.weighted(residuals)
        return weighted, weights[:, None] * jacobian

    return evaluate


def forward_squares(cost: Any, **options: Any) -> Callable[..., Any]:
    """Return the function that multiplies the weighted Jacobian of a `SumOfSquares` by a packed vector, its last argument."""
    called = _residuals(cost, **options)

    def product(free: Any, *arguments: Any) -> jax.Array:
        *rest, direction = arguments
        residuals, moved = jax.jvp(_packed(called, free, rest), (pack(free),), (direction,))
        return cost.weighted(residuals)[1] * moved

    return product


def backward_squares(cost: Any, **options: Any) -> Callable[..., Any]:
    """Return the function that multiplies the transposed weighted Jacobian by a vector like the residuals, its last argument."""
    called = _residuals(cost, **options)

    def product(free: Any, *arguments: Any) -> jax.Array:
        *rest, cotangent = arguments
        residuals, back = jax.vjp(_packed(called, free, rest), pack(free))
        return back(cost.weighted(residuals)[1] * cotangent)[0]

    return product


def residuals_alone(cost: Any, **options: Any) -> Callable[..., Any]:
    """Return the residuals of a `SumOfSquares` as they are, an array or a pytree."""
    return _residuals(cost, lambda returned: returned[0] if cost.has_aux else returned, **options)


def _residuals(
    cost: Any, form: Any = None, *, has_aux: bool, held: Layout | None = None, takes: tuple[str, ...] = (), training: bool = True
) -> Callable[..., Any]:
    """Return the residuals of a `SumOfSquares`, as a function of what the cost gets.

    They are a checked vector, or `form` of what the function of residuals returns.
    """
    del has_aux
    form = form or (lambda returned: pack(check_cost.residual_arrays(returned, has_aux=cost.has_aux)))

    def called(*arguments: Any) -> Any:
        given: dict[str, Any] = {}
        if takes:
            params, given, *data = arguments
            arguments = (params, *data)
        flags = {"training": training} if "training" in takes else {}
        return form(cost.called(*arguments, **given, **flags))

    return called if held is None else of_the_free(called, held)


def _packed(called: Callable[..., jax.Array], free: Any, arguments: Any) -> Callable[[jax.Array], jax.Array]:
    """Return residuals as a function of the free parameters packed into a vector, in its precision."""
    return lambda x: called(unpack(x, free), *arguments).astype(x.dtype)


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


def along(rows: Any, matrix: jax.Array, size: jax.Array, free: jax.Array) -> jax.Array:
    """Return a scaled matrix that acts along constraints alone, whose gradients are `rows`; across them it is larger than any."""
    if rows is None:
        return matrix
    scaled = jnp.where(free, rows / size, 0)
    lengths = jnp.sqrt(jnp.sum(scaled * scaled, axis=1))
    _, values, across = jnp.linalg.svd(scaled / safe_divisor(lengths)[:, None], full_matrices=False)
    across = jnp.where((values > _ROUNDINGS * size.size * jnp.finfo(size.dtype).eps)[:, None], across, 0)
    inside = matrix - matmul(matmul(matrix, across.T), across)
    return inside - matmul(across.T, matmul(across, inside)) + matmul(_across(size.size) * across.T, across)


def _across(size: int) -> int:
    """Return a curvature above all others where the diagonal of a matrix is one."""
    return 4 * size


def spectrum(functions: tuple[Any, ...], params: Any, arrays: tuple[Any, ...], box: Bounds | None, rows: Any = None) -> Spectrum:
    """Return the curvature of the cost, or of half the sum of the squares of residuals, at a point.

    Across the active constraints, whose gradients are `rows`, it is infinite.
    """
    x = pack(params)
    if len(functions) == 2:
        cost, slope, _ = functions[0](params, *arrays)
        curvature = functions[1](params, *arrays)
        gradient, squares, left = pack(slope).astype(x.dtype), 2 * cost.astype(x.dtype), jnp.zeros(0, x.dtype)
        size = jnp.sqrt(abs(jnp.diagonal(curvature)))
    else:
        left, curvature = functions[0](params, *arrays)
        gradient, squares = matmul(left, curvature), jnp.sum(left**2)
        size = jax.vmap(lambda column: norm(column, x.dtype), in_axes=1)(curvature)
    free = jnp.ones(x.shape, bool) if box is None else ~held_back(x, gradient, pack(box.lower), pack(box.upper))
    finite = jnp.isfinite(squares) & jnp.all(jnp.isfinite(curvature))
    size = safe_divisor(size)
    rounding = jnp.asarray(_ROUNDINGS * x.size * jnp.finfo(x.dtype).eps, x.dtype)
    units = jnp.diag(jnp.where(free & finite, 0, jnp.ones_like(x)))
    if len(functions) == 2:
        scaled = jnp.where(free[:, None] & free & finite, curvature / size[:, None] / size, 0) + units
        values, vectors = jnp.linalg.eigh(along(rows, scaled, size, free))
        values = values if rows is None else jnp.where(values > _across(x.size) / 2, jnp.inf, values)
        return Spectrum(values, vectors, size, rounding, free, finite, gradient, squares, left)
    scaled = jnp.concatenate([jnp.where(free & finite, curvature / size, 0), units])
    if rows is not None:
        values, vectors = jnp.linalg.eigh(along(rows, matmul(scaled.T, scaled), size, free))
        values = jnp.where(values > _across(x.size) / 2, jnp.inf, values)
        return Spectrum(values, vectors, size, rounding, free, finite, gradient, squares, left)
    _, values, rows = jnp.linalg.svd(jnp.linalg.qr(scaled, mode="r"))
    return Spectrum(values**2, rows.T, size, rounding**2, free, finite, gradient, squares, left)
