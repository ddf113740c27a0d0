"""Problems that carry their own answers: a start, a minimiser and a minimum, checked in `test_problems.py` to be one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_numpy_dtype_promotion", "strict")


class Problem(NamedTuple):
    """A cost, where to start, and a stationary point that a descent from there may be expected to find."""

    name: str
    cost: Callable[..., Any]
    start: Any
    minimiser: Any
    minimum: float
    data: Any = None


X = np.array([5, 15, 25, 35, 45, 55.0])
Y = np.array([5, 20, 14, 32, 22, 38.0])


def line(b: Any, data: Any) -> Any:
    """The six-row regression of the tutorials: the mean of the squares, halved."""
    x, y = data
    return jnp.mean((b[0] + b[1] * x - y) ** 2) / 2


def square(v: Any) -> Any:
    return v**2


def quartic(v: Any) -> Any:
    return v**4 - 5 * v**2 - 3 * v


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def nested(p: Any) -> Any:
    """A quadratic over scalars, vectors and nested containers."""
    left, right = p["pair"]
    return (p["scalar"] - 1) ** 2 + jnp.sum((left - 2) ** 2) + 3 * jnp.sum((right["deep"] + 1) ** 2)


def mixed_scales(x: Any) -> Any:
    """A quadratic whose variables differ in scale by a thousand each way."""
    return 5e5 * (x[0] - 1e-3) ** 2 + (x[1] - 1) ** 2 / 2 + 5e-7 * (x[2] - 1e3) ** 2


PROBLEMS = [
    Problem("square", square, 10.0, 0.0, 0.0),
    Problem("quartic", quartic, 0.0, 1.7139394361853717, -11.20033470869566),
    Problem("rosenbrock", rosenbrock, np.array([-1.2, 1.0]), np.ones(2), 0.0),
    Problem("line", line, np.array([0.5, 0.5]), np.array([5 + 19 / 30, 0.54]), 16.877777777777776, (X, Y)),
    Problem(
        "nested",
        nested,
        {"scalar": 0.0, "pair": (np.zeros(2), {"deep": np.zeros((2, 2))})},
        {"scalar": 1.0, "pair": (2 * np.ones(2), {"deep": -np.ones((2, 2))})},
        0.0,
    ),
    Problem("mixed_scales", mixed_scales, np.zeros(3), np.array([1e-3, 1.0, 1e3]), 0.0),
]
