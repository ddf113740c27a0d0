"""A cost along its active constraints: the Lagrangian with the multipliers at a point, and the gradients of what is active."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._objective.constraints import ConstraintFunctions
from jaxgd._objective.curvature import SLACK
from jaxgd._products import matmul
from jaxgd._trees import pack, pytree, static
from jaxgd.bounds import Bounds

_NEAR = 0.4  # power of the rounding unit: an inequality so near to zero, in units of its gradient, may be active
_EVALUATE, _HESSIAN, _VALUE = range(3)


class Active(NamedTuple):
    """The multipliers of constraints at a point, (m,), and the gradients of the active ones, (m, n), else zeros."""

    multipliers: Any
    rows: Any


@pytree
class Lagrangian:
    """A function of the cost from which the constraints times their multipliers are taken away."""

    function: Any
    functions: ConstraintFunctions
    multipliers: Any
    kind: int = static()

    def __call__(self, params: Any, *rows: Any) -> Any:
        found = self.function(params, *rows)
        if self.kind == _HESSIAN:
            return found - self.functions.weighted("curved", params, self.multipliers.astype(found.dtype), rows).astype(found.dtype)
        values, jacobian = self.functions.evaluate(params, rows)
        if self.kind == _VALUE:
            return found - jnp.sum(self.multipliers * values).astype(found.dtype)
        cost, slope, aux = found
        return cost, pack(slope) - matmul(self.multipliers, jacobian), aux


def lagrangian(functions: tuple[Any, ...], value: Any, constraints: ConstraintFunctions, multipliers: Any) -> tuple[Any, Any]:
    """Return the functions that a covariance needs, and the value, of the Lagrangian; residuals stay as they are."""
    if len(functions) == 2:
        functions = tuple(Lagrangian(one, constraints, multipliers, kind) for kind, one in enumerate(functions))
    return functions, Lagrangian(value, constraints, multipliers, _VALUE)


def active(
    functions: tuple[Any, ...], constraints: ConstraintFunctions, params: Any, rows: tuple[Any, ...], box: Bounds | None
) -> Active:
    """Return the `Active` constraints at a minimum: equations, and inequalities that are zero and hold the cost back."""
    x = pack(params)
    slope = functions[0](params, *rows)[1] if len(functions) == 2 else None
    if slope is None:
        left, jacobian = functions[0](params, *rows)
        slope = matmul(left, jacobian)
    else:
        slope = pack(slope)
    slope = slope.astype(x.dtype)
    values, jacobian = constraints.evaluate(params, rows)
    free = jnp.ones(x.shape, bool)
    if box is not None:
        slack = SLACK * jnp.finfo(x.dtype).eps * jnp.abs(x)
        free = (x - slack > pack(box.lower)) & (x + slack < pack(box.upper))
    size = jnp.maximum(1, jnp.abs(x))
    scaled = jnp.where(free, jacobian * size, 0)
    lengths = jnp.sqrt(jnp.sum(scaled * scaled, axis=1))
    equations = jnp.arange(values.size) < constraints.n_equations
    near = equations | (jnp.abs(values) <= jnp.finfo(x.dtype).eps ** _NEAR * lengths)

    def multipliers(among: jax.Array) -> jax.Array:
        table = jnp.where(among, (scaled / jnp.where(lengths > 0, lengths, 1)[:, None]).T, 0)
        found = jnp.linalg.lstsq(table, jnp.where(free, slope * size, 0))[0]
        return jnp.where(among, found / jnp.where(lengths > 0, lengths, 1), 0)

    first = multipliers(near)
    binding = equations | (near & (first * lengths > jnp.finfo(x.dtype).eps ** _NEAR * jnp.max(jnp.abs(slope * size), initial=0.0)))
    return Active(multipliers(binding), jnp.where(binding[:, None], jacobian, 0))
