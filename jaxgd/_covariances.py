"""covariance_many(): the uncertainties of many fits in one compiled program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from jaxgd._checks import check_cost, check_trees
from jaxgd._compile.program import apply, program_for, trace
from jaxgd._outcome import export
from jaxgd._problem import parameters, precision
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_parameter
from jaxgd.uncertainty import Covariance, covariance

_TOGETHER = 64  # fits


@on_automatic_axes
def covariance_many(
    cost: Callable[..., Any] | None,
    params: Any,
    data: Any = None,
    *,
    shared: Any = None,
    scale: float | None = None,
    n_observations: int | None = None,
    residuals: Callable[..., Any] | None = None,
    bounds: Any = None,
    fixed: Any = None,
    dtype: Any = None,
    has_aux: bool = False,
) -> Covariance:
    """Return the covariances, standard errors and correlations of many fits, as `covariance` finds them for one.

    Args:
        cost: cost(params, data, shared), as in `minimize_many`.
        params: the parameters at the minima, with a row for each fit, such as `result.params`.
        data: any pytree of arrays with a row for each fit, or None.
        shared: any pytree of arrays that all fits get as they are, or None.
        scale: as in `covariance`, the same for all fits.
        n_observations: as in `covariance`.
        residuals: residuals(params, data, shared), as in `covariance`.
        bounds: as in `covariance`.
        fixed: as in `covariance`.
        dtype: as in `covariance`.
        has_aux: as in `covariance`.

    Returns:
        A `Covariance` whose arrays have a leading axis, a row for each fit; `status` and `valid` are arrays.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    >>> import jaxgd, jax.numpy as jnp, numpy as np
    >>> x = np.linspace(0, 1, 20)
    >>> def chi_square(slope, y, x):
    ...     return jnp.sum((slope * x - y) ** 2 / 0.01)
    >>> result = jaxgd.minimize_many(chi_square, 0.0, np.linspace(1, 3, 100)[:, None] * x, shared=x)
    >>> errors = jaxgd.covariance_many(chi_square, result.params, np.linspace(1, 3, 100)[:, None] * x, shared=x, scale=1)
    >>> errors.standard_errors.shape, bool(np.all(errors.valid))
    ((100,), True)
    """
    function: Any = cost if residuals is None else residuals
    name = "cost" if residuals is None else "residuals"
    names = ("params", *(("data",) if data is not None else ()), *(("shared",) if shared is not None else ()))
    check_cost.signature(function, names, name=name)
    options = {"scale": scale, "n_observations": n_observations, "bounds": bounds, "fixed": fixed, "has_aux": has_aux}
    with precision(dtype) as to:
        params = parameters("params", params, to, fixed)
        rows = [] if data is None else [check_trees.data_arrays("data", data, to)]
        rest = [] if shared is None else [check_trees.data_arrays("shared", shared, to)]
        check_trees.rows("params", [leaf for leaf in jax.tree.leaves(params) if is_parameter(leaf)])
        check_trees.rows("params and data", (params, rows))
        of_all = functools.partial(_of_all, function, {"residuals": residuals is not None, **options})
        traced = trace(of_all, params, rows, rest, name=name)
        found = program_for(apply, traced, params, rows, rest)(traced, params, rows, rest)
    return export(found)


def _of_all(function: Callable[..., Any], options: dict[str, Any], params: Any, rows: list[Any], rest: list[Any]) -> Covariance:
    """Return the covariances of all fits, a few of them at a time."""
    options = dict(options)
    by_residuals = options.pop("residuals")

    def called(params: Any, tables: list[Any]) -> Any:
        return function(params, *tables)

    def one(row: tuple[Any, list[Any]]) -> Covariance:
        params, own = row
        tables = [*own, *rest] or None
        alone = (lambda params: function(params)) if tables is None else called
        return covariance(None if by_residuals else alone, params, tables, residuals=alone if by_residuals else None, **options)

    return lax.map(one, (params, rows), batch_size=_TOGETHER)
