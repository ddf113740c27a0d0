"""The tutorials' recurrences in NumPy, with the gradient written by hand: the oracle of exact trajectories."""

from collections.abc import Callable
from typing import Any

import numpy as np


def line_gradient(b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    residual = b[0] + b[1] * x - y
    return np.array([residual.mean(), (residual * x).mean()])


def gradient_descent(
    gradient: Callable[[Any], Any], start: Any, rate: Any, max_steps: int, tolerance: float, momentum: float = 0.0
) -> tuple[Any, int]:
    """Tutorial 1: the last point and the number of updates."""
    point, update = np.asarray(start, dtype=np.float64), np.zeros_like(np.asarray(start, dtype=np.float64))
    for step in range(max_steps):
        update = momentum * update - rate * np.asarray(gradient(point))
        if np.all(np.abs(update) <= tolerance):
            return point, step
        point = point + update
    return point, max_steps


def minibatch_descent(
    gradient: Callable[..., Any],
    start: Any,
    data: tuple[np.ndarray, ...],
    rate: Any,
    batch_size: int,
    n_epochs: int,
    momentum: float,
) -> Any:
    """Tutorial 1's stochastic twin, without shuffling and without a tolerance: the last point."""
    point, update = np.array(start, dtype=np.float64), np.zeros_like(np.array(start, dtype=np.float64))
    for _ in range(n_epochs):
        for first in range(0, len(data[0]), batch_size):
            batch = [column[first : first + batch_size] for column in data]
            update = momentum * update - rate * gradient(point, *batch)
            point = point + update
    return point


def history_descent(
    cost: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    start: Any,
    rate: float,
    momentum: float,
    threshold: float,
    max_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Tutorial 4: every point visited and the cost at each, the start included."""
    point, update = np.array(start, dtype=np.float64), np.zeros_like(np.array(start, dtype=np.float64))
    points, costs = [point], [cost(point)]
    while len(points) <= max_steps:
        update = momentum * update - rate * gradient(point)
        point = point + update
        points.append(point)
        costs.append(cost(point))
        if abs(costs[-1] - costs[-2]) <= threshold:
            break
    return np.array(points), np.array(costs)
