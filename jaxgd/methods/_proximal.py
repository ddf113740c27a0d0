"""The slope of cost and penalty, and first-order updates that are followed by the proximal operator."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._trees import add
from jaxgd.bounds import projected_gradient
from jaxgd.methods.protocol import Point, Problem


def updated(rule: Any, point: Point, state: Any, problem: Problem) -> tuple[Any, Any]:
    """Return the update of a first-order rule for its own parameters, and its next state.

    With u the update of the rule and t its steps, see `FirstOrderMethod.step_leaf`, it leads to prox(x + u, t) within the bounds: a
    proximal gradient step in the metric of the method.
    """
    update, after = rule.update(point.gradient, state, point.params)
    if problem.penalty is None:
        return update, after
    steps = rule.steps(point.params, state, after)
    ahead = problem.penalty.prox(add(point.params, update), steps, problem.bounds)
    return jax.tree.map(jnp.subtract, ahead, point.params), after


def slope_at(problem: Problem, point: Point) -> Any:
    """Return what vanishes at a minimum of cost and penalty within the bounds."""
    if problem.penalty is None:
        return projected_gradient(point.params, point.gradient, problem.bounds)
    return problem.penalty.slope(point.params, point.gradient, problem.bounds)
