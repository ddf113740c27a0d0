"""penalty_path(): the minima of one cost for many weights of its penalty, each from the minimum before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._checks import check, check_trees
from jaxgd._compile.program import apply, program_for, trace
from jaxgd._minimize import minimize
from jaxgd._objective.evaluation import value_and_gradient
from jaxgd._outcome import export
from jaxgd._problem import precision, problem, start_point, within
from jaxgd._run.objective import call
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_parameter, is_traced, parameters_of, pytree, with_fields, with_parameters
from jaxgd.penalties import is_penalty


@pytree
class PenaltyPath:
    """The minima along a path of weights.

    Attributes:
        factors: the factors of the weights, (n,); with `L1(1.0)` and the like they are the weights.
        result: the `Result` of all, whose arrays have a leading axis of length n.

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = lambda x: jnp.sum((x - jnp.array([3.0, 1.0])) ** 2) / 2
    >>> path = jaxgd.penalty_path(cost, [0.0, 0.0], penalty=jaxgd.L1(1.0), factors=[3.0, 2.0, 0.5])
    >>> path.result.params.tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.5, 0.5]]
    """

    factors: Any
    result: Any


@on_automatic_axes
def penalty_path(
    cost: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
    penalty: Any,
    factors: Any = None,
    n_factors: int = 100,
    ratio: float = 1e-3,
    method: Any = None,
    bounds: Any = None,
    fixed: Any = None,
    stop: Any = None,
    max_steps: int | None = None,
    dtype: Any = None,
    has_aux: bool = False,
) -> PenaltyPath:
    """Minimise a cost with a penalty for many weights, from the largest to the smallest, in one program.

    Each minimum is the start of the next, so that most take a few steps. `minimize_many` runs the weights independently instead,
    which is faster where there are few parameters and many processors.

    Args:
        cost: as in `minimize`.
        start: as in `minimize`, no random one: the start for the first weight.
        data: as in `minimize`.
        penalty: as in `minimize`: the penalties, whose weights are multiplied by the factors. `NonNegative` has none, and stays.
        factors: the factors, > 0, a vector, in the order in which they are run; descending is fastest. None finds the least factor
            at which all parameters with a weight are zero, the others being at their minimum, and begins there.
        n_factors: how many there are then, >= 2, evenly spaced in their logarithms.
        ratio: the last factor over the first then, in (0, 1).
        method: as in `minimize`.
        bounds: as in `minimize`, together with `factors`.
        fixed: as in `minimize`, together with `factors`.
        stop: as in `minimize`.
        max_steps: as in `minimize`, for each weight.
        dtype: as in `minimize`.
        has_aux: as in `minimize`.

    Returns:
        A `PenaltyPath`: the factors, and the `Result` with a leading axis; `status` of it is an array of `Status`.

    Raises:
        TypeError, ValueError: for a bad argument, as in `minimize`.

    J. Friedman, T. Hastie, R. Tibshirani, Regularization paths for generalized linear models via coordinate descent, J. Stat.
    Softw. 33 (2010), for the grid.

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = lambda x: jnp.sum((x - jnp.array([4.0, 1.0])) ** 2) / 2
    >>> path = jaxgd.penalty_path(cost, [0.0, 0.0], penalty=jaxgd.L1(1.0), n_factors=3, ratio=0.25)
    >>> path.factors.round(4).tolist(), path.result.params.round(4).tolist()
    ([4.0, 2.0, 1.0], [[0.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    """
    n_factors = check.integer("n_factors", n_factors, 2, 2**24)
    given_factors = None if factors is None else check.vector("factors", factors)
    if given_factors is None:
        _check_grid(ratio, bounds=bounds, fixed=fixed)
    else:
        check.positive("factors", given_factors, several=True)
    with precision(dtype) as to:
        everything, _ = within("start", start_point(start, None, to, fixed), bounds)
        arrays = () if data is None else (check_trees.data_arrays("data", data, to),)
        options: dict[str, Any] = {"has_aux": has_aux, "jit": True}
        given = problem(cost, everything, None, fixed, bounds, to, penalty=penalty, **options)
        if given.penalty is None:
            raise ValueError(f"penalty: expected at least one penalty, got {check.show(penalty)}.")
        _check_weights(penalty, grid=given_factors is None)
        arrays = given.settled(*arrays)
        own = jnp.result_type(float)
        penalties = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf, own), penalty)
        options = {"method": method, "bounds": bounds, "stop": stop, "max_steps": max_steps, "has_aux": has_aux, "dtype": dtype}

        if given_factors is None:
            top = _least_factor(cost, everything, arrays, penalties, options)
            grid = top * jnp.asarray(ratio, own) ** jnp.linspace(0, 1, n_factors, dtype=own)
        else:
            grid = jnp.asarray(given_factors, own)

        def run(params: Any, arrays: Any, penalties: Any, factors: Any) -> Any:
            def one(params: Any, factor: jax.Array) -> Any:
                here = with_parameters(everything, params)
                result = minimize(cost, here, *arrays, penalty=scaled(penalties, factor), fixed=fixed, **options)
                return parameters_of(result.params), with_fields(result, state=None)

            return lax.scan(one, params, factors)[1]

        arguments = parameters_of(everything), arrays, penalties, grid
        if is_traced(arguments):
            return PenaltyPath(grid, run(*arguments))
        traced = trace(run, *arguments)
        result = program_for(apply, traced, *arguments)(traced, *arguments)
    return export(PenaltyPath(grid, result))


def scaled(penalty: Any, factor: Any) -> Any:
    """Return penalties with their weights multiplied by a factor."""

    def one(penalty: Any) -> Any:
        weight = getattr(penalty, "weight", None)
        return penalty if weight is None else with_fields(penalty, weight=weight * factor.astype(weight.dtype))

    return jax.tree.map(one, penalty, is_leaf=is_penalty)


def _check_grid(ratio: Any, **others: Any) -> None:
    """Check what a grid of factors that is to be found needs."""
    check.fraction("ratio", ratio, closed=False)
    if not is_traced(ratio) and ratio == 0:
        raise ValueError(f"ratio: expected a number in (0, 1), got {check.show(ratio)}.")
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"factors: expected a vector of numbers together with {name}, got None.")


def _check_weights(penalty: Any, *, grid: bool) -> None:
    """Check that some penalties have weights; for a `grid`, that they know at which a parameter leaves zero."""
    each = [one for one in jax.tree.leaves(penalty, is_leaf=is_penalty) if one is not None]
    weighted = [one for one in each if hasattr(one, "weight")]
    if not weighted:
        raise ValueError(f"penalty: expected one with a field weight, such as jaxgd.L1(1.0), got {check.show(penalty)}.")
    for one in each:
        if grid and not hasattr(one, "scale"):
            raise ValueError(f"factors: expected a vector of numbers for the penalty {type(one).__name__}, got None.")


def _least_factor(cost: Any, start: Any, arrays: Any, penalty: Any, options: dict[str, Any]) -> jax.Array:
    """Return the least factor at which all penalised parameters are zero, the others being at their minimum."""
    leaves, structure = jax.tree.flatten(start)
    each = iter(check_trees.values_for("penalty", penalty, parameters_of(start), is_penalty))
    held = [is_parameter(leaf) and next(each) is not None for leaf in leaves]
    at_zero = structure.unflatten([jnp.zeros_like(leaf) if zero else leaf for leaf, zero in zip(leaves, held, strict=True)])
    if not all(zero for leaf, zero in zip(leaves, held, strict=True) if is_parameter(leaf)):
        fixed = structure.unflatten([zero if is_parameter(leaf) else None for leaf, zero in zip(leaves, held, strict=True)])
        at_zero = minimize(cost, at_zero, *arrays, fixed=fixed, **(options | {"method": None, "stop": None})).params
    there = problem(cost, at_zero, None, None, None, None, has_aux=options["has_aux"], jit=True, penalty=penalty)
    gradient = call(there.trace(value_and_gradient, *arrays), there.params, *arrays)[1]
    return there.penalty.scale(gradient)  # type: ignore[union-attr]
