"""The delta method: how uncertainties of parameters carry over to functions of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _derivatives, _problem, _text
from jaxgd._checks import check
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._compile.program import apply, program_for, trace
from jaxgd._outcome import export
from jaxgd._products import matmul
from jaxgd._trees import (
    is_floating,
    is_staged,
    is_traced,
    pack,
    parameters_of,
    pytree,
    safe_divisor,
    unpack,
    with_parameters,
)


@pytree
class Propagated:
    """The value of a function of the parameters, with its uncertainties.

    Attributes:
        value: what the function returned at the parameters, a number, an array, or a pytree of them.
        standard_errors: the square roots of the variances, a pytree like `value`; NaN where it depends on a parameter that the cost
            does not determine.
        root: a matrix R of as many rows as there are numbers, in the order of their leaves, and a column for each parameter. The
            covariance of the numbers is R Rᵀ.

    >>> import jaxgd
    >>> found = jaxgd.covariance(lambda p: (p["a"] - 3) ** 2 / 8 + (p["b"] - 2) ** 2 * 50, {"a": 3.0, "b": 2.0})
    >>> print(found.propagate(lambda p: {"product": p["a"] * p["b"]}))
    The value with its standard errors, by the delta method.
      value['product']  6.0 ± 4.0
    """

    value: Any
    standard_errors: Any
    root: Any

    @property
    def matrix(self) -> Any:
        """The covariance of all numbers of the value, in the order of their leaves, (m, m)."""
        xp: Any = jnp if is_traced(self.root) else np
        root = xp.asarray(self.root)
        return xp.matmul(root, xp.swapaxes(root, -1, -2))

    def __str__(self) -> str:
        if is_traced(self.value) or self.root.ndim != 2:
            return f"Propagated(value={self.value}, standard_errors={self.standard_errors}, ...)"
        return _sheet(self).text()

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the table that a notebook shows."""
        return None if is_traced(self.value) or self.root.ndim != 2 else _sheet(self).html()


def propagated(function: Callable[[Any], Any], params: Any, errors: Any, correlation: Any) -> Propagated:
    """Return a function of the parameters with its uncertainties, from the standard errors and correlations of these."""
    check.function("function", function, ("params",), "a function of the parameters, params -> value")
    leaves = [leaf for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype")]
    wide = any(leaf.dtype == np.float64 for leaf in leaves) and not is_staged()
    with _problem.precision("float64" if wide else None):
        arguments = parameters_of(params), pack(errors), jnp.asarray(correlation)

        def carried(own: Any, errors: Any, correlation: Any) -> Propagated:
            return _carried(function, with_parameters(params, own), errors, correlation)

        traced = trace(carried, *arguments, name="function")
        found = program_for(apply, traced, *arguments)(traced, *arguments)
    return export(found)


def _carried(function: Any, params: Any, errors: Any, correlation: Any) -> Propagated:
    """Return the value and its uncertainties."""
    own = parameters_of(params)
    x, like = pack(own), own

    def value(x: Any) -> Any:
        with fresh(function):
            found = unjitted(function)(with_parameters(params, unpack(x, like)))
        return jax.tree.map(_number, found)

    def vector(x: Any) -> Any:
        return pack(value(x)).astype(x.dtype)

    found = value(x)
    if not jax.tree.leaves(found):
        raise check.Refused(
            f"function: expected it to return a number, an array, or a pytree of them, it returned {check.show(found)}."
        )
    size = sum(leaf.size for leaf in jax.tree.leaves(found))
    jacobian = _derivatives.jacobian(vector, x, size)
    errors = errors.astype(x.dtype)
    lost = jnp.isnan(errors)
    known = jnp.where(jnp.isnan(correlation), 0, correlation).astype(x.dtype)
    values, vectors = jnp.linalg.eigh(known)
    half = vectors * jnp.sqrt(jnp.maximum(values, 0))
    moves = jacobian * jnp.where(lost, 0, errors)
    root = matmul(moves, half)
    root = jnp.where(jnp.any((jacobian != 0) & lost, axis=1)[:, None], jnp.nan, root)
    scale = safe_divisor(jnp.max(jnp.abs(root), axis=1))
    spread = scale * jnp.sqrt(jnp.sum((root / scale[:, None]) ** 2, axis=1))
    return Propagated(found, unpack(spread, found), root)


def _number(leaf: Any) -> Any:
    """Return a number or an array that a function returned, checked."""
    found = jnp.asarray(leaf) if isinstance(leaf, jax.Array | np.ndarray | float) else leaf
    if not is_floating(getattr(found, "dtype", None)):
        raise check.Refused(f"function: expected it to return real numbers, or arrays of them, it returned {check.show(leaf)}.")
    return found


def _sheet(found: Propagated) -> _text.Sheet:
    """Return what there is to say of a function of the parameters."""
    rows = _text.of_tree(found.value, found.standard_errors, "value")
    return _text.Sheet("The value with its standard errors, by the delta method.", [], rows)
