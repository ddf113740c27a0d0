"""What to draw: runs of plain descent, made-up ones of any length, and small models."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgd
from jaxgd import Covariance, GradientDescent, Result, Status
from jaxgd.result import Best, History
from tests.problems import square

NORMAL = jnp.array([0.0, 1.0, 2.0], jnp.float32)


def descend(rate: Any, start: Any = 10.0, cost: Any = square, momentum: float = 0.0, **options: Any) -> Any:
    """A run of plain descent, 20 steps if nothing else is said, with its history."""
    settings: dict[str, Any] = {"max_steps": 20, "stop": (), "history": "params"} | options
    return jaxgd.minimize(cost, start, method=GradientDescent(rate, momentum), **settings)


def recorded(costs: Any, code: Status = Status.MAX_STEPS, params: Any = None, **history: Any) -> Any:
    """A result with such costs in its history."""
    costs, n = np.asarray(costs), len(costs) - 1
    last = None if params is None else params[-1]
    return Result(last, costs[-1], last, Best(last, np.min(costs)), n, n, n, code.code, History(costs, params, **history))


def correlated(n: int) -> Covariance:
    """A covariance of n parameters."""
    rows = np.random.default_rng(0).normal(size=(n, n + 3))
    matrix = rows @ rows.T
    errors = np.sqrt(np.diag(matrix))
    names = tuple(f"params['layer']['w'][{place}]" for place in range(n))
    return Covariance(np.zeros(n), errors, matrix, matrix / errors / errors[:, None], 1.0, 0, names)


def probability(w: Any, x: Any) -> Any:
    """A logistic classifier whose boundary is where x @ w is 0.5."""
    return jax.nn.sigmoid(x @ w - jnp.asarray(0.5, x.dtype))


def line(params: Any, x: Any) -> Any:
    """A straight line."""
    return params["offset"] + params["slope"] * x
