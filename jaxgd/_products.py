"""Products of matrices and vectors in the precision of their numbers.

By default JAX rounds float32 to about 10 bits before it multiplies matrices on a GPU, and to 8 on a TPU. That is for a user to
choose for the products in a cost. A method that solved its equations so would lose its way in narrow valleys.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def matmul(a: Any, b: Any) -> jax.Array:
    """Return `a @ b` for matrices and vectors."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def vdot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the sum of the products of two arrays of as many numbers."""
    return jnp.vdot(a, b, precision=lax.Precision.HIGHEST)
