"""Ten likelihoods with their intervals of one standard deviation, as iminuit 2.33.0 found them by MINOS (strategy 2, tol 1e-6).

For the peak on a background MINOS finds ends only with a larger tolerance; its intervals are those of tol 1e-4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


class Likelihood(NamedTuple):
    """A cost written for `xp`, which is NumPy or jax.numpy, with its start, data, bounds and scale."""

    name: str
    cost: Callable[..., Any]
    start: list[float]
    data: Any
    bounds: Any = None
    scale: float = 0.5

    @property
    def by_minos(self) -> tuple[list[float], list[float]]:
        """The lower and the upper ends."""
        return BY_MINOS[self.name]

    @property
    def box(self) -> Any:
        """The bounds as a pair of lists."""
        return None if self.bounds is None else tuple(map(list, zip(*self.bounds, strict=True)))


def poisson(v: Any, n: Any, xp: Any = jnp) -> Any:
    return v[0] - n * xp.log(v[0])


def decay(v: Any, data: Any, xp: Any = jnp) -> Any:
    x, y, sigma = data
    return xp.sum(((v[0] * xp.exp(-v[1] * x) + v[2] - y) / sigma) ** 2)


def normal(v: Any, x: Any, xp: Any = jnp) -> Any:
    return xp.sum((x - v[0]) ** 2 / (2 * v[1] ** 2) + xp.log(v[1]))


def weibull(v: Any, x: Any, xp: Any = jnp) -> Any:
    return xp.sum((x / v[0]) ** v[1] - xp.log(v[1] / v[0]) - (v[1] - 1) * xp.log(x / v[0]))


def logistic(v: Any, data: Any, xp: Any = jnp) -> Any:
    x, y = data
    score = v[0] + v[1] * x
    return xp.sum(xp.log1p(xp.exp(score)) - y * score)


def expected(v: Any, energy: Any, xp: Any = jnp) -> Any:
    scale = v[1] * (xp.exp(-100 / v[1]) - xp.exp(-160 / v[1]))
    peak = v[2] * xp.exp(-(((energy - v[3]) / v[4]) ** 2) / 2) / (v[4] * np.sqrt(2 * np.pi))
    return v[0] * xp.exp(-energy / v[1]) / scale + peak


def peak(v: Any, data: Any, xp: Any = jnp) -> Any:
    energy, counts = data
    mu = expected(v, energy, xp)
    return xp.sum(mu - counts * xp.log(mu))


def signal(v: Any, data: Any, xp: Any = jnp) -> Any:
    shape, counts = data
    mu = v[0] + v[1] * shape
    return xp.sum(mu - counts * xp.log(mu))


def cauchy(v: Any, x: Any, xp: Any = jnp) -> Any:
    return xp.sum(xp.log(1 + ((x - v[0]) / v[1]) ** 2) + xp.log(v[1]))


def mixture(v: Any, x: Any, xp: Any = jnp) -> Any:
    return -xp.sum(xp.log(v[0] * xp.exp(-x / v[1]) / v[1] / (1 - xp.exp(-6 / v[1])) + (1 - v[0]) / 6))


def valley(v: Any, data: Any, xp: Any = jnp) -> Any:
    del xp
    return (data - v[0]) ** 2 / 0.8 + 4 * (v[1] - v[0] ** 2) ** 2


def likelihoods() -> list[Likelihood]:
    """The ten, with their data."""
    random = np.random.default_rng(7)
    x = np.linspace(0, 4, 12)
    y = np.array([2.95, 2.21, 1.83, 1.38, 1.24, 0.98, 0.91, 0.75, 0.72, 0.63, 0.60, 0.58])
    bells, lives, at = random.normal(3.0, 2.0, 20), 1.7 * random.weibull(1.4, 30), random.normal(size=60)
    yes = (random.uniform(size=60) < 1 / (1 + np.exp(-(0.3 + 1.2 * at)))).astype(float)
    energy = np.arange(100.0, 160.0) + 0.5
    truth = [3000.0, 30.0, 120.0, 125.0, 1.8]
    counts = np.random.default_rng(5).poisson(expected(truth, energy, np)).astype(float)
    times = np.concatenate([random.exponential(1.0, 60), random.uniform(0, 6, 40)])
    shape, few = np.array([0, 0, 0, 0.3, 1, 0.3, 0, 0, 0, 0]), np.array([2.0, 3, 1, 2, 2, 1, 0, 2, 3, 1])
    readings = np.array([-4.2, -3.9, -4.4, 3.1, 3.6, 2.9, 3.3])
    of_peak = [(1.0, 1e6), (1.0, 1e3), (0.0, 1e5), (110.0, 150.0), (0.5, 10.0)]
    return [
        Likelihood("counts", poisson, [9.0], np.float64(9)),
        Likelihood("decay", decay, [2.5, 1.0, 0.5], (x, y, 0.03 + 0.01 * x), None, 1.0),
        Likelihood("normal", normal, [3.0, 2.0], bells),
        Likelihood("weibull", weibull, [1.5, 1.5], lives),
        Likelihood("logistic", logistic, [0.0, 1.0], (at, yes)),
        Likelihood("peak", peak, [3000.0, 30.0, 100.0, 125.0, 2.0], (energy, counts), of_peak),
        Likelihood("signal at a bound", signal, [2.0, 0.1], (shape, few), [(0.01, None), (0.0, None)]),
        Likelihood("two minima", cauchy, [3.2, 1.0], readings, [(None, None), (0.05, 20.0)]),
        Likelihood("mixture", mixture, [0.5, 1.0], times[times < 6], [(0.0, 1.0), (0.05, 20.0)]),
        Likelihood("valley", valley, [1.0, 1.0], np.float64(1.0)),
    ]


BY_MINOS: dict[str, tuple[list[float], list[float]]] = {
    "counts": ([6.323656279], [12.34219036]),
    "decay": ([2.362103886, 0.8526451426, 0.4822091514], [2.451875654, 0.9417493652, 0.5684814143]),
    "normal": ([2.022362174, 1.310429484], [2.711986213, 1.79941523]),
    "weibull": ([1.353544062, 1.143025159], [1.812014858, 1.528295289]),
    "logistic": ([-0.271298961, 0.695124168], [0.2919865938, 1.454023454]),
    "peak": (
        [2958.31221, 28.74865659, 86.57954984, 124.7566678, 1.060341691],
        [3075.511719, 30.81008579, 132.5641876, 125.419765, 1.687966061],
    ),
    "signal at a bound": ([1.250049723, 0.0], [2.141700852, 1.768519349]),
    "two minima": ([2.705195973, 0.3140206609], [3.449176997, 1.634494103]),
    "mixture": ([0.6145439936, 0.8063826011], [0.8310307282, 1.319988933]),
    "valley": ([0.367544468, 0.02758326131], [1.632455532, 2.695047504]),
}
