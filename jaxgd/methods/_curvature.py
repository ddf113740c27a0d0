"""Two kinds of curvature of a quadratic model: an exact Hessian, and that of residuals which are taken for linear.

Either is scaled to the units of the model, B = c H c with a scale c of each variable, and then known by its eigenvalues and
eigenvectors. For residuals r with the Jacobian J, B is c J'J c, which one run does not form: J c is factorised by QR, and the
triangle by SVD, so that eigenvalues, the squares of the singular values, are as exact as if computed in twice the digits.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._products import matmul
from jaxgd._trees import safe_divisor
from jaxgd.methods._eigen import eigh
from jaxgd.methods._few import cholesky, solve_lower, solve_upper
from jaxgd.methods._singular import lengths_of, svd_of

_SHIFT = 4.0  # roundings for each of n variables: Cholesky has n + 1 (Higham 2002, theorem 10.3), the Hessian some


class Spectrum(NamedTuple):
    """The scaled curvature and slopes in eigenvectors, and what follows from these without bounds.

    Attributes:
        curvatures: eigenvalues, ascending, (n,).
        vectors: eigenvectors, a column each, (n, n).
        slopes: the slopes along them, (n,).
        blur: what rounding may make of an eigenvalue.
        definite: whether the curvature is positive definite beyond rounding, whatever the scale.
        newton: Newton's step where it is, (n,).
        gain: the fall that this step promises.
    """

    curvatures: Any
    vectors: Any
    slopes: Any
    blur: Any
    definite: Any
    newton: Any
    gain: Any


class OfHessian(NamedTuple):
    """The curvature of an exact matrix of second derivatives."""

    matrix: jax.Array

    def without(self, held: jax.Array) -> "OfHessian":
        """Return the curvature of the variables that are not held."""
        return OfHessian(jnp.where(held[:, None] | held, 0, self.matrix))

    def finite(self) -> "OfHessian":
        """Return the curvature, zero where it is not finite."""
        return OfHessian(jnp.where(jnp.all(jnp.isfinite(self.matrix)), self.matrix, 0))

    def roots(self) -> jax.Array:
        """Return the roots of the absolute curvatures of each variable alone."""
        return jnp.sqrt(jnp.abs(jnp.diagonal(self.matrix)))

    def spectrum(self, scale: jax.Array, root: jax.Array, slopes: jax.Array, held: Any, eps: float) -> Spectrum:
        """Return the spectrum in units in which variables are divided by `scale * root` and costs by root**2."""
        del root
        matrix = self.matrix * scale[:, None] * scale
        if held is not None:
            matrix = jnp.where(jnp.eye(slopes.size, dtype=bool) & held, 1, matrix)
        curvatures, vectors = eigh(matrix)
        lengths = jnp.sqrt(jnp.abs(jnp.diagonal(matrix)))
        definite, newton, gain = _newton_by_cholesky(matrix, slopes, lengths, eps)
        blur = _SHIFT * slopes.size * eps * jnp.max(jnp.abs(curvatures))
        return Spectrum(curvatures, vectors, matmul(slopes, vectors), blur, definite, newton, gain)


class OfResiduals(NamedTuple):
    """The curvature of half a sum of squares whose residuals, (m,), are linear with a Jacobian, (m, n).

    `held` are variables that are held, (n,), or None.
    """

    residuals: jax.Array
    jacobian: jax.Array

    held: Any = None

    def without(self, held: jax.Array) -> "OfResiduals":
        """Return the curvature of the variables that are not held."""
        return self._replace(held=held)

    def finite(self) -> "OfResiduals":
        """Return the same: below, residuals and a Jacobian that are not finite are taken for zero."""
        return self

    def roots(self) -> jax.Array:
        """Return the lengths of the columns, which are the roots of the curvatures of each variable alone."""
        lengths = lengths_of(self.jacobian, self.residuals)
        return lengths if self.held is None else jnp.where(self.held, 0, lengths)

    def spectrum(self, scale: jax.Array, root: jax.Array, slopes: jax.Array, held: Any, eps: float) -> Spectrum:
        """Return the spectrum in units in which variables are divided by `scale * root` and costs by root**2."""
        n = slopes.size
        units = jnp.zeros_like(scale) if held is None else held.astype(scale.dtype)
        scale = scale if self.held is None else jnp.where(self.held, 0, scale)
        values, vectors, along = svd_of(self.jacobian, self.residuals, scale, root, units)
        blur = _SHIFT * n * eps * values[-1]
        definite = (values[0] > blur) & jnp.all(jnp.isfinite(values))
        newton = matmul(-vectors, along / jnp.where(definite, values, 1))
        return Spectrum(values**2, vectors, values * along, blur**2, definite, newton, jnp.sum(along**2) / 2)


def _newton_by_cholesky(
    matrix: jax.Array, slopes: jax.Array, lengths: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return whether a matrix is positive definite beyond rounding, Newton's step, and the fall that it promises.

    The matrix is scaled to a diagonal of ones, which no metric changes, and its diagonal is lowered by what rounding may hide: so a
    small curvature that may be rounding is not believed, and one that only looks small because a variable is, is.
    """
    n, scale = lengths.size, safe_divisor(lengths)
    scaled = matrix / scale[:, None] / scale - jnp.where(jnp.eye(n, dtype=bool), _SHIFT * n * eps, 0)
    factor = cholesky(scaled)
    definite = jnp.all(jnp.isfinite(factor)) & jnp.all(lengths > 0)
    factor = jnp.where(definite, factor, jnp.eye(n, dtype=matrix.dtype))
    half = solve_lower(factor, slopes / scale)
    newton = -solve_upper(factor, half) / scale
    return definite, newton, jnp.sum(half * half) / 2
