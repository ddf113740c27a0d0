"""Bounds and constraints in SciPy's forms, as the bounds, equations and inequalities of `jaxgd.minimize`."""

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgd._products import matmul
from jaxgd.compat._functions import as_it_is, traced, with_derivative

Sides = tuple[np.ndarray, np.ndarray]


def box(bounds: Any, size: int) -> Sides | None:
    """Return the lower and upper bounds of an object, or of pairs; None where nothing is bounded."""
    if bounds is None:
        return None
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        low, high = bounds.lb, bounds.ub
    else:
        pairs = [tuple(pair) for pair in bounds]
        if len(pairs) != size or any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"bounds: expected a pair (low, high) for each of the {size} variables, got {bounds!r}.")
        low = [-np.inf if one is None else one for one, _ in pairs]
        high = [np.inf if one is None else one for _, one in pairs]
    low, high = (np.broadcast_to(np.asarray(side, np.float64), (size,)) for side in (low, high))
    if np.any(low > high):
        raise ValueError("An upper bound is less than the corresponding lower bound.")
    return None if np.all(np.isinf(low) & np.isinf(high)) else (low, high)


def clipped(x0: np.ndarray, sides: Sides | None) -> np.ndarray:
    """Return a start moved into the bounds; it is warned of."""
    inside = x0 if sides is None else np.clip(x0, *sides)
    if np.any(inside != x0):
        from scipy.optimize import OptimizeWarning

        warnings.warn("Initial guess is not within the specified bounds", OptimizeWarning, stacklevel=3)
    return inside


def constraint_functions(constraints: Any, x0: np.ndarray) -> dict[str, Any]:
    """Return the arguments `equality` and `inequality` of `jaxgd.minimize`; an empty dict where there are no constraints."""
    given = constraints if isinstance(constraints, list | tuple) else [constraints]
    kinds: dict[str, list[Any]] = {"equality": [], "inequality": []}
    for number, constraint in enumerate(given):
        place = f"constraints[{number}]"
        if isinstance(constraint, dict):
            _add_dict(kinds, place, constraint, x0)
        elif hasattr(constraint, "A"):
            matrix = np.atleast_2d(getattr(constraint.A, "toarray", lambda a=constraint.A: a)()).astype(np.float64)
            _add_between(kinds, lambda x, matrix=matrix: matmul(matrix, x), matrix @ x0, constraint)
        elif hasattr(constraint, "fun"):
            jac = constraint.jac if callable(constraint.jac) else None
            function = _traced(f"{place}.fun", constraint.fun, (), jac, x0)
            _add_between(kinds, function, np.ravel(as_it_is(constraint.fun, ())(x0)), constraint)
        else:
            expected = "a dict, a LinearConstraint or a NonlinearConstraint"
            raise TypeError(f"{place}: expected {expected}, got {constraint!r}.")
    return {kind: _all_of(functions) for kind, functions in kinds.items() if functions}


def _add_dict(kinds: dict[str, list[Any]], place: str, constraint: dict[str, Any], x0: np.ndarray) -> None:
    """Add a constraint in the form of a dict: "eq" is zero, "ineq" is not negative."""
    kind = {"eq": "equality", "ineq": "inequality"}.get(str(constraint.get("type")).lower())
    if kind is None:
        raise ValueError(f"{place}: expected the type 'eq' or 'ineq', got {constraint.get('type')!r}.")
    if "fun" not in constraint:
        raise KeyError(f"{place}: it has no function.")
    args = constraint.get("args", ())
    kinds[kind].append(_traced(f"{place}['fun']", constraint["fun"], args, constraint.get("jac"), x0))


def _add_between(kinds: dict[str, list[Any]], function: Callable[..., Any], at_start: np.ndarray, constraint: Any) -> None:
    """Add a function between two limits, which are equal where it is an equation."""
    low, high = (np.broadcast_to(np.asarray(side, np.float64), at_start.shape) for side in (constraint.lb, constraint.ub))
    equal, above, below = low == high, np.isfinite(low) & (low != high), np.isfinite(high) & (low != high)
    if np.any(equal):
        kinds["equality"].append(lambda x: (function(x) - low)[equal])
    if np.any(above):
        kinds["inequality"].append(lambda x: (function(x) - np.where(above, low, 0))[above])
    if np.any(below):
        kinds["inequality"].append(lambda x: (np.where(below, high, 0) - function(x))[below])


def _traced(place: str, fun: Any, args: Any, jac: Any, x0: np.ndarray) -> Callable[..., Any]:
    args = args if isinstance(args, tuple) else (args,)
    jac = jac if callable(jac) else None
    made = [traced(one, args, x0) if one else None for one in (fun, jac)]
    if made[0] is None or (jac and made[1] is None):
        as_it_is(fun, args)(x0)  # which has errors of its own
        which = place if made[0] is None else place.replace("fun", "jac")
        raise TypeError(f"{which}: JAX can't trace it: write it with jax.numpy, without Python's math, float, if and while.")
    value: Any = lambda x: jnp.ravel(made[0](x))  # type: ignore[misc]  # noqa: E731
    return value if jac is None else with_derivative(value, lambda x, change: matmul(made[1](x).reshape(-1, x.size), change))  # type: ignore[misc]


def _all_of(functions: list[Any]) -> Callable[..., Any]:
    return lambda x: jnp.concatenate([function(x) for function in functions])
