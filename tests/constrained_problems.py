"""Problems with constraints of W. Hock, K. Schittkowski, Test Examples for Nonlinear Programming Codes, Springer (1981).

Each has the number, the minimum and the standard start of the book; a start outside of the bounds is moved to them. The functions
take the variables one by one, or, of larger problems, a list whose first entry is None, so that indices are those of the book.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.numpy import cos, exp, log, sin, sqrt

INF, ROOT = np.inf, 2**0.5


class Problem(NamedTuple):
    """A problem: its number, the minimum, the start, functions of a vector, and bounds."""

    number: int
    minimum: float
    start: np.ndarray
    cost: Callable[..., Any]
    equality: Callable[..., Any] | None
    inequality: Callable[..., Any] | None
    low: np.ndarray
    high: np.ndarray

    @property
    def arguments(self) -> dict[str, Any]:
        """What `minimize` gets beside the cost and the start."""
        bounded = bool(np.any(np.isfinite([self.low, self.high])))
        return {"equality": self.equality, "inequality": self.inequality, "bounds": (self.low, self.high) if bounded else None}


PROBLEMS: dict[int, Problem] = {}


def add(
    number: int, minimum: float, start: Any, cost: Any, eq: Any = None, ineq: Any = None, low: Any = -INF, high: Any = INF
) -> None:
    """Write a problem down; `low` and `high` are one number for all variables, or one for each."""
    start = np.asarray(start, float)
    low, high = (np.broadcast_to(np.asarray(side, float), start.shape) for side in (low, high))
    given, as_list = cost, cost.__code__.co_varnames[:1] == ("x",) and cost.__code__.co_argcount > 0

    def of_vector(function: Any) -> Any:
        if function is None:
            return None
        if as_list:
            found = lambda x: function([None, *x])  # noqa: E731
        else:
            found = lambda x: function(*x)  # noqa: E731
        return found if function is given else lambda x: jnp.stack([jnp.asarray(one, x.dtype) for one in found(x)])

    cost, eq, ineq = map(of_vector, (cost, eq, ineq))
    PROBLEMS[number] = Problem(number, minimum, np.clip(start, low, high), cost, eq, ineq, low, high)


def rosenbrock(a: Any, b: Any) -> Any:
    """The valley of Rosenbrock."""
    return 100 * (b - a**2) ** 2 + (1 - a) ** 2


# fmt: off
add(1, 0, [-2, 1], rosenbrock, low=[-INF, -1.5])
add(2, 0.0504261879, [-2, 1], rosenbrock, low=[-INF, 1.5])
add(3, 0, [10, 1], lambda a, b: b + 1e-5 * (b - a)**2, low=[-INF, 0])
add(4, 8 / 3, [1.125, 0.125], lambda a, b: (a + 1)**3 / 3 + b, low=[1, 0])
add(5, -1.91322295, [0, 0], lambda a, b: sin(a + b) + (a - b)**2 - 1.5 * a + 2.5 * b + 1, low=[-1.5, -3], high=[4, 3])
add(6, 0, [-1.2, 1], lambda a, b: (1 - a)**2, lambda a, b: [10 * (b - a**2)])
add(7, -3**0.5, [2, 2], lambda a, b: log(1 + a**2) - b, lambda a, b: [(1 + a**2)**2 + b**2 - 4])
add(8, -1, [2, 1], lambda a, b: -1.0 + 0 * a, lambda a, b: [a**2 + b**2 - 25, a * b - 9])
add(9, -0.5, [0, 0], lambda a, b: sin(np.pi * a / 12) * cos(np.pi * b / 16), lambda a, b: [4 * a - 3 * b])
add(10, -1, [-10, 10], lambda a, b: a - b, None, lambda a, b: [-3 * a**2 + 2 * a * b - b**2 + 1])
add(11, -8.498464223, [4.9, 0.1], lambda a, b: (a - 5)**2 + b**2 - 25, None, lambda a, b: [b - a**2])
add(12, -30, [0, 0], lambda a, b: a**2 / 2 + b**2 - a * b - 7 * a - 7 * b, None, lambda a, b: [25 - 4 * a**2 - b**2])
add(13, 1, [-2, -2], lambda a, b: (a - 2)**2 + b**2, None, lambda a, b: [(1 - a)**3 - b], low=0)
add(14, 9 - 2.875 * 7**0.5, [2, 2], lambda a, b: (a - 2)**2 + (b - 1)**2, lambda a, b: [a - 2 * b + 1],
    lambda a, b: [1 - a**2 / 4 - b**2])
add(15, 306.5, [-2, 1], rosenbrock, None, lambda a, b: [a * b - 1, a + b**2], high=[0.5, INF])
add(16, 0.25, [-2, 1], rosenbrock, None, lambda a, b: [a + b**2, a**2 + b], low=[-0.5, -INF], high=[0.5, 1])
add(17, 1, [-2, 1], rosenbrock, None, lambda a, b: [b**2 - a, a**2 - b], low=[-0.5, -INF], high=[0.5, 1])
add(18, 5, [2, 2], lambda a, b: a**2 / 100 + b**2, None, lambda a, b: [a * b - 25, a**2 + b**2 - 25], low=[2, 0], high=50)
add(19, -6961.81381, [20.1, 5.84], lambda a, b: (a - 10)**3 + (b - 20)**3, None,
    lambda a, b: [(a - 5)**2 + (b - 5)**2 - 100, 82.81 - (a - 6)**2 - (b - 5)**2], low=[13, 0], high=100)
add(20, 81.5 - 25 * 3**0.5, [-2, 1], rosenbrock, None, lambda a, b: [a + b**2, a**2 + b, a**2 + b**2 - 1],
    low=[-0.5, -INF], high=[0.5, INF])
add(21, -99.96, [-1, -1], lambda a, b: 0.01 * a**2 + b**2 - 100, None, lambda a, b: [10 * a - b - 10], low=[2, -50], high=50)
add(22, 1, [2, 2], lambda a, b: (a - 2)**2 + (b - 1)**2, None, lambda a, b: [2 - a - b, b - a**2])
add(23, 2, [3, 1], lambda a, b: a**2 + b**2, None,
    lambda a, b: [a + b - 1, a**2 + b**2 - 1, 9 * a**2 + b**2 - 9, a**2 - b, b**2 - a], low=-50, high=50)
add(24, -1, [1, 0.5], lambda a, b: ((a - 3)**2 - 9) * b**3 / (27 * 3**0.5), None,
    lambda a, b: [a / 3**0.5 - b, a + 3**0.5 * b, 6 - a - 3**0.5 * b], low=0)
U25, T25 = 25 + (-50 * np.log(0.01 * np.arange(1, 100)))**(2 / 3), 0.01 * np.arange(1, 100)
add(25, 0, [100, 12.5, 3], lambda a, b, c: jnp.sum((exp(-(U25 - b)**c / a) - T25)**2), low=[0.1, 0, 0], high=[100, 25.6, 5])
add(26, 0, [-2.6, 2, 2], lambda a, b, c: (a - b)**2 + (b - c)**4, lambda a, b, c: [(1 + b**2) * a + c**4 - 3])
add(27, 0.04, [2, 2, 2], lambda a, b, c: 0.01 * (a - 1)**2 + (b - a**2)**2, lambda a, b, c: [a + c**2 + 1])
add(28, 0, [-4, 1, 1], lambda a, b, c: (a + b)**2 + (b + c)**2, lambda a, b, c: [a + 2 * b + 3 * c - 1])
add(29, -16 * ROOT, [1, 1, 1], lambda a, b, c: -a * b * c, None, lambda a, b, c: [48 - a**2 - 2 * b**2 - 4 * c**2])
add(30, 1, [1, 1, 1], lambda a, b, c: a**2 + b**2 + c**2, None, lambda a, b, c: [a**2 + b**2 - 1], low=[1, -10, -10], high=10)
add(31, 6, [1, 1, 1], lambda a, b, c: 9 * a**2 + b**2 + 9 * c**2, None, lambda a, b, c: [a * b - 1],
    low=[-10, 1, -10], high=[10, 10, 1])
add(32, 1, [0.1, 0.7, 0.2], lambda a, b, c: (a + 3 * b + c)**2 + 4 * (a - b)**2, lambda a, b, c: [1 - a - b - c],
    lambda a, b, c: [6 * b + 4 * c - a**3 - 3], low=0)
add(33, ROOT - 6, [0, 0, 3], lambda a, b, c: (a - 1) * (a - 2) * (a - 3) + c, None,
    lambda a, b, c: [c**2 - a**2 - b**2, a**2 + b**2 + c**2 - 4], low=0, high=[INF, INF, 5])
add(34, -np.log(np.log(10)), [0, 1.05, 2.9], lambda a, b, c: -a, None, lambda a, b, c: [b - exp(a), c - exp(b)],
    low=0, high=[100, 100, 10])
add(35, 1 / 9, [0.5, 0.5, 0.5],
    lambda a, b, c: 9 - 8 * a - 6 * b - 4 * c + 2 * a**2 + 2 * b**2 + c**2 + 2 * a * b + 2 * a * c, None,
    lambda a, b, c: [3 - a - b - 2 * c], low=0)
add(36, -3300, [10, 10, 10], lambda a, b, c: -a * b * c, None, lambda a, b, c: [72 - a - 2 * b - 2 * c], low=0, high=[20, 11, 42])
add(37, -3456, [10, 10, 10], lambda a, b, c: -a * b * c, None, lambda a, b, c: [72 - a - 2 * b - 2 * c, a + 2 * b + 2 * c],
    low=0, high=42)
add(38, 0, [-3, -1, -3, -1], lambda a, b, c, d: rosenbrock(a, b) + 90 * (d - c**2)**2 + (1 - c)**2
    + 10.1 * ((b - 1)**2 + (d - 1)**2) + 19.8 * (b - 1) * (d - 1), low=-10, high=10)
add(39, -1, [2, 2, 2, 2], lambda a, b, c, d: -a, lambda a, b, c, d: [b - a**3 - c**2, a**2 - b - d**2])
add(40, -0.25, [0.8] * 4, lambda a, b, c, d: -a * b * c * d, lambda a, b, c, d: [a**3 + b**2 - 1, a**2 * d - c, d**2 - b])
add(41, 52 / 27, [2] * 4, lambda a, b, c, d: 2 - a * b * c, lambda a, b, c, d: [a + 2 * b + 2 * c - d], low=0, high=[1, 1, 1, 2])
add(42, 28 - 10 * ROOT, [1] * 4, lambda a, b, c, d: (a - 1)**2 + (b - 2)**2 + (c - 3)**2 + (d - 4)**2,
    lambda a, b, c, d: [a - 2, c**2 + d**2 - 2])
add(43, -44, [0] * 4, lambda a, b, c, d: a**2 + b**2 + 2 * c**2 + d**2 - 5 * a - 5 * b - 21 * c + 7 * d, None,
    lambda a, b, c, d: [8 - a**2 - b**2 - c**2 - d**2 - a + b - c + d, 10 - a**2 - 2 * b**2 - c**2 - 2 * d**2 + a + d,
                        5 - 2 * a**2 - b**2 - c**2 - 2 * a + b + d])
add(44, -15, [0] * 4, lambda a, b, c, d: a - b - c - a * c + a * d + b * c - b * d, None,
    lambda a, b, c, d: [8 - a - 2 * b, 12 - 4 * a - b, 12 - 3 * a - 4 * b, 8 - 2 * c - d, 8 - c - 2 * d, 5 - c - d], low=0)
add(45, 1, [2] * 5, lambda a, b, c, d, e: 2 - a * b * c * d * e / 120, low=0, high=[1, 2, 3, 4, 5])
add(46, 0, [ROOT / 2, 1.75, 0.5, 2, 2], lambda a, b, c, d, e: (a - b)**2 + (c - 1)**2 + (d - 1)**4 + (e - 1)**6,
    lambda a, b, c, d, e: [a**2 * d + sin(d - e) - 1, b + c**4 * d**2 - 2])
add(47, 0, [2, ROOT, -1, 2 - ROOT, 0.5], lambda a, b, c, d, e: (a - b)**2 + (b - c)**3 + (c - d)**4 + (d - e)**4,
    lambda a, b, c, d, e: [a + b**2 + c**3 - 3, b - c**2 + d - 1, a * e - 1])
add(48, 0, [3, 5, -3, 2, -2], lambda a, b, c, d, e: (a - 1)**2 + (b - c)**2 + (d - e)**2,
    lambda a, b, c, d, e: [a + b + c + d + e - 5, c - 2 * (d + e) + 3])
add(49, 0, [10, 7, 2, -3, 0.8], lambda a, b, c, d, e: (a - b)**2 + (c - 1)**2 + (d - 1)**4 + (e - 1)**6,
    lambda a, b, c, d, e: [a + b + c + 4 * d - 7, c + 5 * e - 6])
add(50, 0, [35, -31, 11, 5, -5], lambda a, b, c, d, e: (a - b)**2 + (b - c)**2 + (c - d)**4 + (d - e)**2,
    lambda a, b, c, d, e: [a + 2 * b + 3 * c - 6, b + 2 * c + 3 * d - 6, c + 2 * d + 3 * e - 6])
add(51, 0, [2.5, 0.5, 2, -1, 0.5], lambda a, b, c, d, e: (a - b)**2 + (b + c - 2)**2 + (d - 1)**2 + (e - 1)**2,
    lambda a, b, c, d, e: [a + 3 * b - 4, c + d - 2 * e, b - e])
add(52, 1859 / 349, [2] * 5, lambda a, b, c, d, e: (4 * a - b)**2 + (b + c - 2)**2 + (d - 1)**2 + (e - 1)**2,
    lambda a, b, c, d, e: [a + 3 * b, c + d - 2 * e, b - e])
add(53, 176 / 43, [2] * 5, lambda a, b, c, d, e: (a - b)**2 + (b + c - 2)**2 + (d - 1)**2 + (e - 1)**2,
    lambda a, b, c, d, e: [a + 3 * b, c + d - 2 * e, b - e], low=-10, high=10)
add(54, -0.90807476, [6e3, 1.5, 4e6, 2, 3e-3, 5e7], lambda a, b, c, d, e, f: -exp(-(
    ((a - 1e4)**2 / 6.4e7 + (a - 1e4) * (b - 1) / 2e4 + (b - 1)**2) / 0.96 + (c - 2e6)**2 / 4.9e13 + (d - 10)**2 / 2.5e3
    + (e - 1e-3)**2 / 2.5e-3 + (f - 1e8)**2 / 2.5e17) / 2), lambda a, b, c, d, e, f: [a + 4e3 * b - 1.76e4],
    low=[0, -10, 0, 0, -1, 0], high=[2e4, 10, 1e7, 20, 1, 2e8])
add(55, 19 / 3, [1, 2, 0, 0, 0, 2], lambda a, b, c, d, e, f: a + 2 * b + 4 * e + exp(a * d),
    lambda a, b, c, d, e, f: [a + 2 * b + 5 * e - 6, a + b + c - 3, d + e + f - 2, a + d - 1, b + e - 2, c + f - 2],
    low=0, high=[1, INF, INF, 1, INF, INF])
A56 = np.arcsin((1 / 4.2)**0.5)
add(56, -3.456, [1, 1, 1, A56, A56, A56, np.arcsin((5 / 7.2)**0.5)], lambda x: -x[1] * x[2] * x[3],
    lambda x: [x[1] - 4.2 * sin(x[4])**2, x[2] - 4.2 * sin(x[5])**2, x[3] - 4.2 * sin(x[6])**2,
               x[1] + 2 * x[2] + 2 * x[3] - 7.2 * sin(x[7])**2])
A57 = np.repeat(np.arange(8.0, 44, 2), [2, 4, 4, 3, 3, 2, 3, 3, 3, 3, 2, 3, 2, 1, 2, 2, 1, 1])
B57 = np.array([49, 49, 48, 47, 48, 47, 46, 46, 45, 43, 45, 43, 43, 44, 43, 43, 46, 45, 42, 42, 43, 41, 41, 40, 42, 40, 40, 41, 40,
                41, 41, 40, 40, 40, 38, 41, 40, 40, 41, 38, 40, 40, 39, 39]) / 100
add(57, 0.02845966972, [0.42, 5], lambda a, b: jnp.sum((B57 - a - (0.49 - a) * exp(-b * (A57 - 8)))**2), None,
    lambda a, b: [0.49 * b - a * b - 0.09], low=[0.4, -4])
add(58, 3.19033354957, [-2, 1], rosenbrock, None, lambda a, b: [b**2 - a, a**2 - b, a**2 + b**2 - 1],
    low=[-2, -INF], high=[0.5, INF])
add(59, -7.80278947, [90, 10], lambda a, b: -75.196 + 3.8112 * a + 0.0020567 * a**3 - 1.0345e-5 * a**4 + 6.8306 * b
    - 0.030234 * a * b + 1.28134e-3 * b * a**2 + 2.266e-7 * a**4 * b - 0.25645 * b**2 + 0.0034604 * b**3 - 1.3514e-5 * b**4
    + 28.106 / (b + 1) + 5.2375e-6 * a**2 * b**2 + 6.3e-8 * a**3 * b**2 - 7e-10 * a**3 * b**3 - 3.405e-4 * a * b**2
    + 1.6638e-6 * a * b**3 + 2.8673 * exp(0.0005 * a * b) - 3.5256e-5 * a**3 * b - 0.12694 * a**2, None,
    lambda a, b: [a * b - 700, b - a**2 / 125, (b - 50)**2 - 5 * (a - 55)], low=0, high=[75, 65])
add(60, 0.03256820025, [2] * 3, lambda a, b, c: (a - 1)**2 + (a - b)**2 + (b - c)**4,
    lambda a, b, c: [a * (1 + b**2) + c**4 - 4 - 3 * ROOT], low=-10, high=10)
add(61, -143.6461422, [0] * 3, lambda a, b, c: 4 * a**2 + 2 * b**2 + 2 * c**2 - 33 * a + 16 * b - 24 * c,
    lambda a, b, c: [3 * a - 2 * b**2 - 7, 4 * a - c**2 - 11])
add(62, -26272.51448, [0.7, 0.2, 0.1], lambda a, b, c: -32.174 * (
    255 * log((a + b + c + 0.03) / (0.09 * a + b + c + 0.03)) + 280 * log((b + c + 0.03) / (0.07 * b + c + 0.03))
    + 290 * log((c + 0.03) / (0.13 * c + 0.03))), lambda a, b, c: [a + b + c - 1], low=0, high=1)
add(63, 961.7151721, [2] * 3, lambda a, b, c: 1000 - a**2 - 2 * b**2 - c**2 - a * b - a * c,
    lambda a, b, c: [8 * a + 14 * b + 7 * c - 56, a**2 + b**2 + c**2 - 25], low=0)
add(64, 6299.842428, [1] * 3, lambda a, b, c: 5 * a + 5e4 / a + 20 * b + 7.2e4 / b + 10 * c + 1.44e5 / c, None,
    lambda a, b, c: [1 - 4 / a - 32 / b - 120 / c], low=1e-5)
add(65, 0.9535288567, [-5, 5, 0], lambda a, b, c: (a - b)**2 + (a + b - 10)**2 / 9 + (c - 5)**2, None,
    lambda a, b, c: [48 - a**2 - b**2 - c**2], low=[-4.5, -4.5, -5], high=[4.5, 4.5, 5])
add(66, 0.5181632741, [0, 1.05, 2.9], lambda a, b, c: 0.2 * c - 0.8 * a, None, lambda a, b, c: [b - exp(a), c - exp(b)],
    low=0, high=[100, 100, 10])
for number, minimum, a_68, b_68, n_68 in ((68, -0.920425026, 1e-4, 1, 24), (69, -956.712887, 0.1, 1000, 4)):
    add(number, minimum, [1] * 4,
        lambda a, b, c, d, p=a_68, q=b_68, n=n_68: (p * n - (q * (exp(a) - 1) - c) / (exp(a) - 1 + d) * d) / a,
        lambda a, b, c, d, n=n_68: [c - 2 * jax.scipy.stats.norm.cdf(-b),
                                    d - jax.scipy.stats.norm.cdf(-b + n**0.5) - jax.scipy.stats.norm.cdf(-b - n**0.5)],
        low=[1e-4, 0, 0, 0], high=[100, 100, 2, 2])
add(71, 17.0140173, [1, 5, 5, 1], lambda a, b, c, d: a * d * (a + b + c) + c, lambda a, b, c, d: [a**2 + b**2 + c**2 + d**2 - 40],
    lambda a, b, c, d: [a * b * c * d - 25], low=1, high=5)
add(72, 727.67937, [1] * 4, lambda a, b, c, d: 1 + a + b + c + d, None,
    lambda a, b, c, d: [0.0401 - 4 / a - 2.25 / b - 1 / c - 0.25 / d, 0.010085 - 0.16 / a - 0.36 / b - 0.64 / c - 0.64 / d],
    low=1e-3, high=[4e5, 3e5, 2e5, 1e5])
add(73, 29.894378, [1] * 4, lambda a, b, c, d: 24.55 * a + 26.75 * b + 39 * c + 40.5 * d, lambda a, b, c, d: [a + b + c + d - 1],
    lambda a, b, c, d: [2.3 * a + 5.6 * b + 11.1 * c + 1.3 * d - 5, 12 * a + 11.9 * b + 41.8 * c + 52.1 * d - 21
                        - 1.645 * sqrt(0.28 * a**2 + 0.19 * b**2 + 20.5 * c**2 + 0.62 * d**2)], low=0)
for number, minimum, r_74 in ((74, 5126.4981, 0.55), (75, 5174.4129, 0.48)):
    add(number, minimum, [0] * 4, lambda a, b, c, d: 3 * a + 1e-6 * a**3 + 2 * b + 2e-6 / 3 * b**3, lambda a, b, c, d: [
        1000 * sin(-c - 0.25) + 1000 * sin(-d - 0.25) + 894.8 - a, 1000 * sin(c - 0.25) + 1000 * sin(c - d - 0.25) + 894.8 - b,
        1000 * sin(d - 0.25) + 1000 * sin(d - c - 0.25) + 1294.8], lambda a, b, c, d, r=r_74: [d - c + r, c - d + r],
        low=[0, 0, -r_74, -r_74], high=[1200, 1200, r_74, r_74])
add(76, -4.681818, [0.5] * 4, lambda a, b, c, d: a**2 + b**2 / 2 + c**2 + d**2 / 2 - a * c + c * d - a - 3 * b + c - d, None,
    lambda a, b, c, d: [5 - a - 2 * b - c - d, 4 - 3 * a - b - 2 * c + d, b + 4 * c - 1.5], low=0)
add(77, 0.24150513, [2] * 5, lambda a, b, c, d, e: (a - 1)**2 + (a - b)**2 + (c - 1)**2 + (d - 1)**4 + (e - 1)**6,
    lambda a, b, c, d, e: [a**2 * d + sin(d - e) - 2 * ROOT, b + c**4 * d**2 - 8 - ROOT])


def circle_78(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    """The equations of problems 78, 80 and 81."""
    return [a**2 + b**2 + c**2 + d**2 + e**2 - 10, b * c - 5 * d * e, a**3 + b**3 + 1]


add(78, -2.91970041, [-2, 1.5, 2, -1, -1], lambda a, b, c, d, e: a * b * c * d * e, circle_78)
add(79, 0.0787768209, [2] * 5, lambda a, b, c, d, e: (a - 1)**2 + (a - b)**2 + (b - c)**2 + (c - d)**4 + (d - e)**4,
    lambda a, b, c, d, e: [a + b**2 + c**3 - 2 - 3 * ROOT, b - c**2 + d + 2 - 2 * ROOT, a * e - 2])
BOX_80 = np.array([2.3, 2.3, 3.2, 3.2, 3.2])
add(80, 0.0539498478, [-2, 2, 2, -1, -1], lambda a, b, c, d, e: exp(a * b * c * d * e), circle_78, low=-BOX_80, high=BOX_80)
add(81, 0.0539498478, [-2, 2, 2, -1, -1], lambda a, b, c, d, e: exp(a * b * c * d * e) - (a**3 + b**3 + 1)**2 / 2, circle_78,
    low=-BOX_80, high=BOX_80)


def plant_83(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    """The ranges of problem 83."""
    u = 85.334407 + 0.0056858 * b * e + 0.0006262 * a * d - 0.0022053 * c * e
    v = 80.51249 + 0.0071317 * b * e + 0.0029955 * a * b + 0.0021813 * c**2 - 90
    w = 9.300961 + 0.0047026 * c * e + 0.0012547 * a * c + 0.0019085 * c * d - 20
    return [u, 92 - u, v, 20 - v, w, 5 - w]


add(83, -30665.53867, [78, 33, 27, 27, 27], lambda a, b, c, d, e: 5.3578547 * c**2 + 0.8356891 * a * e + 37.293239 * a - 40792.141,
    None, plant_83, low=[78, 33, 27, 27, 27], high=[102, 45, 45, 45, 45])
A84 = [-145421.402, 2931.1506, -40.427932, 5106.192, 15711.36, -155011.1084, 4360.53352, 12.9492344, 10236.884, 13176.786,
       -326669.5104, 7390.68412, -27.8986976, 16643.076, 30988.146]


def plant_84(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    """The ranges of problem 84."""
    parts = [a * (k[0] + k[1] * b + k[2] * c + k[3] * d + k[4] * e) for k in (A84[:5], A84[5:10], A84[10:])]
    return [*parts, *(top - part for top, part in zip((294000, 294000, 277200), parts, strict=True))]


add(84, -5280335.133, [2.52, 2, 37.5, 9.25, 6.8], lambda a, b, c, d, e: 24345 + a * (
    8720288.849 - 150512.5253 * b + 156.6950325 * c - 476470.3222 * d - 729482.8271 * e), None, plant_84,
    low=[0, 1.2, 20, 9, 6.5], high=[1000, 2.4, 60, 9.3, 7])
A86 = np.array([[-16, 2, 0, 1, 0], [0, -2, 0, 4, 2], [-3.5, 0, 2, 0, 0], [0, -2, 0, -4, -1], [0, -9, -2, 1, -2.8], [2, 0, -4, 0, 0],
                [-1, -1, -1, -1, -1], [-1, -2, -3, -2, -1], [1, 2, 3, 4, 5], [1, 1, 1, 1, 1]])
B86 = np.array([-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1])
C86 = np.array([[30, -20, -10, 32, -10], [-20, 39, -6, -31, 32], [-10, -6, 10, -6, -10], [32, -31, -6, 39, -20],
                [-10, 32, -10, -20, 30.0]])
D86, E86 = np.array([4.0, 8, 10, 6, 2]), np.array([-15.0, -27, -36, -18, -12])
add(86, -32.34867897, [0, 0, 0, 0, 1], lambda *x: jnp.stack(x) @ E86 + jnp.stack(x) @ C86 @ jnp.stack(x) + D86 @ jnp.stack(x)**3,
    None, lambda *x: A86 @ jnp.stack(x) - B86, low=0)
add(93, 135.075961, [5.54, 4.4, 12.02, 11.82, 0.702, 0.852], lambda a, b, c, d, e, f:
    (0.0204 + 0.0607 * e**2) * a * d * (a + b + c) + (0.0187 + 0.0437 * f**2) * b * c * (a + 1.57 * b + d), None,
    lambda a, b, c, d, e, f: [0.001 * a * b * c * d * e * f - 2.07,
                              1 - 0.00062 * a * d * e**2 * (a + b + c) - 0.00058 * b * c * f**2 * (a + 1.57 * b + d)], low=0)


def mixture_95(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> list[Any]:
    """The mixtures of problems 95 to 98."""
    return [17.1 * a + 38.2 * b + 204.2 * c + 212.3 * d + 623.4 * e + 1495.5 * f - 169 * a * c - 3580 * c * e - 3810 * d * e
            - 18500 * d * f - 24300 * e * f,
            17.9 * a + 36.8 * b + 113.9 * c + 169.7 * d + 337.8 * e + 1385.2 * f - 139 * a * c - 2450 * d * e - 16600 * d * f
            - 17200 * e * f,
            -273 * b - 70 * d - 819 * e + 26000 * d * e,
            159.9 * a - 311 * b + 587 * d + 391 * e + 2198 * f - 14000 * a * f]


for number, minimum, b_95 in ((95, 0.015619514, [4.97, -1.88, -29.08, -78.02]), (96, 0.015619514, [4.97, -1.88, -69.08, -118.02]),
                              (97, 3.1358091, [32.97, 25.12, -29.08, -78.02]), (98, 3.1358091, [32.97, 25.12, -124.08, -173.02])):
    add(number, minimum, [0] * 6,
        lambda a, b, c, d, e, f: 4.3 * a + 31.8 * b + 63.3 * c + 15.8 * d + 68.5 * e + 4.7 * f, None,
        lambda a, b, c, d, e, f, k=b_95: [one - low for one, low in zip(mixture_95(a, b, c, d, e, f), k, strict=True)],
        low=0, high=[0.31, 0.046, 0.068, 0.042, 0.028, 0.0134])
A99, T99 = np.array([50, 50, 75, 75, 75, 100, 100.0]), np.diff([0, 25, 50, 100, 150, 200, 290, 380.0])


def rocket_99(*x: Any) -> Any:
    """The height and the speed of problem 99."""
    push = A99 * sin(jnp.stack(x)) - 32
    before = jnp.cumsum(push * T99) - push * T99
    return [jnp.sum(push * T99**2 / 2 + T99 * before) - 1e5, jnp.sum(push * T99) - 1e3]


add(99, -831079892, [0.5] * 7, lambda *x: -jnp.sum(A99 * T99 * cos(jnp.stack(x)))**2, rocket_99, low=0, high=1.58)
add(100, 680.6300573, [1, 2, 0, 4, 0, 1, 1], lambda x: (x[1] - 10)**2 + 5 * (x[2] - 12)**2 + x[3]**4 + 3 * (x[4] - 11)**2
    + 10 * x[5]**6 + 7 * x[6]**2 + x[7]**4 - 4 * x[6] * x[7] - 10 * x[6] - 8 * x[7], None,
    lambda x: [127 - 2 * x[1]**2 - 3 * x[2]**4 - x[3] - 4 * x[4]**2 - 5 * x[5],
               282 - 7 * x[1] - 3 * x[2] - 10 * x[3]**2 - x[4] + x[5], 196 - 23 * x[1] - x[2]**2 - 6 * x[6]**2 + 8 * x[7],
               -4 * x[1]**2 - x[2]**2 + 3 * x[1] * x[2] - 2 * x[3]**2 - 5 * x[6] + 11 * x[7]])


def powers(x: Any, *terms: Any) -> Any:
    """The sum of products of powers."""
    return sum(k * jnp.prod(jnp.stack(x[1:])**np.array(exponents, float)) for k, *exponents in terms)


for number, minimum, a_101 in ((101, 1809.76476, -0.25), (102, 911.880571, 0.125), (103, 543.667958, 0.5)):
    f_101 = lambda x, a=a_101: powers(x, (10, 1, -1, 0, 2, 0, -3, a), (15, -1, -2, 1, 1, -1, 0, -0.5),  # noqa: E731
                                      (20, -2, 1, 0, -1, -2, 1, 0), (25, 2, 2, -1, 0, 0.5, -2, 1))
    add(number, minimum, [6] * 7, lambda x, f=f_101: f(x), None, lambda x, f=f_101: [
        1 - powers(x, (0.5, 0.5, 0, -1, 0, 0, -2, 1), (0.7, 3, 1, -2, 0, 0, 1, 0.5), (0.2, 0, -1, 1, -0.5, 0, 2 / 3, 0.25)),
        1 - powers(x, (1.3, -0.5, 1, -1, 0, -1, 1, 0), (0.8, 0, 0, 1, -1, -1, 2, 0), (3.1, -1, 0.5, 0, -2, -1, 1 / 3, 0)),
        1 - powers(x, (2, 1, 0, -1.5, 0, 1, -1, 1 / 3), (0.1, 0, 1, -0.5, 0, 1, -1, -0.5), (1, -1, 1, 0.5, 0, 1, 0, 0),
                   (0.65, 0, -2, 1, 0, 1, -1, 1)),
        1 - powers(x, (0.2, -2, 1, 0, -1, 0.5, 0, 1 / 3), (0.3, 0.5, 2, 1, 1 / 3, -2 / 3, 0, 0.25), (0.4, -3, -2, 1, 0, 1, 0, 0.75),
                   (0.5, 0, 0, -2, 1, 0, 0, 0.5)), f(x) - 100, 3000 - f(x)], low=[0.1] * 6 + [0.01], high=10)
F104 = lambda x: 0.4 * (x[1] / x[7])**0.67 + 0.4 * (x[2] / x[8])**0.67 + 10 - x[1] - x[2]  # noqa: E731
add(104, 3.9511634396, [6, 3, 0.4, 0.2, 6, 6, 1, 0.5], lambda x: F104(x), None, lambda x: [
    1 - 0.0588 * x[5] * x[7] - 0.1 * x[1], 1 - 0.0588 * x[6] * x[8] - 0.1 * x[1] - 0.1 * x[2],
    1 - 4 * x[3] / x[5] - 2 * x[3]**-0.71 / x[5] - 0.0588 * x[3]**-1.3 * x[7],
    1 - 4 * x[4] / x[6] - 2 * x[4]**-0.71 / x[6] - 0.0588 * x[4]**-1.3 * x[8], F104(x) - 1, 4.2 - F104(x)], low=0.1, high=10)
Y105 = np.repeat([95, 105, 110, 115, 120, 125, 130, 135, 140, 145, 150, 155, 160, 165, 170, 175, 180, 185, 190, 195, 200, 205, 210,
                  215, 220, 230, 235, 240, 245, 250.0],
                 [1, 1, 4, 4, 15, 15, 15, 13, 21, 12, 17, 4, 20, 8, 17, 8, 6, 6, 7, 4, 3, 3, 8, 1, 6, 5, 1, 7, 1, 2])
add(105, 1138.41624, [0.1, 0.2, 100, 125, 175, 11.2, 13.2, 15.8], lambda x: -jnp.sum(log((
    x[1] / x[6] * exp(-(Y105 - x[3])**2 / (2 * x[6]**2)) + x[2] / x[7] * exp(-(Y105 - x[4])**2 / (2 * x[7]**2))
    + (1 - x[1] - x[2]) / x[8] * exp(-(Y105 - x[5])**2 / (2 * x[8]**2))) / (2 * np.pi)**0.5)), None, lambda x: [1 - x[1] - x[2]],
    low=[0.001, 0.001, 100, 130, 170, 5, 5, 5], high=[0.499, 0.499, 180, 210, 240, 25, 25, 25])
add(106, 7049.24802, [5000, 5000, 5000, 200, 350, 150, 225, 425], lambda x: x[1] + x[2] + x[3], None, lambda x: [
    1 - 0.0025 * (x[4] + x[6]), 1 - 0.0025 * (x[5] + x[7] - x[4]), 1 - 0.01 * (x[8] - x[5]),
    x[1] * x[6] - 833.33252 * x[4] - 100 * x[1] + 83333.333, x[2] * x[7] - 1250 * x[5] - x[2] * x[4] + 1250 * x[4],
    x[3] * x[8] - 1250000 - x[3] * x[5] + 2500 * x[5]], low=[100, 1000, 1000] + [10] * 5, high=[1e4] * 3 + [1000] * 5)
S107, K107 = (48.4 / 50.176 * f(0.25) for f in (np.sin, np.cos))


def network_107(x: Any) -> Any:
    """The balances of problem 107."""
    c, d = S107, K107
    y1, y2, y3, y4, y5, y6 = sin(x[8]), cos(x[8]), sin(x[9]), cos(x[9]), sin(x[8] - x[9]), cos(x[8] - x[9])
    return [0.4 - x[1] + 2 * c * x[5]**2 - x[5] * x[6] * (d * y1 + c * y2) - x[5] * x[7] * (d * y3 + c * y4),
            0.4 - x[2] + 2 * c * x[6]**2 + x[5] * x[6] * (d * y1 - c * y2) + x[6] * x[7] * (d * y5 - c * y6),
            0.8 + 2 * c * x[7]**2 + x[5] * x[7] * (d * y3 - c * y4) - x[6] * x[7] * (d * y5 + c * y6),
            0.2 - x[3] + 2 * d * x[5]**2 + x[5] * x[6] * (c * y1 - d * y2) + x[5] * x[7] * (c * y3 - d * y4),
            0.2 - x[4] + 2 * d * x[6]**2 - x[5] * x[6] * (c * y1 + d * y2) - x[6] * x[7] * (c * y5 + d * y6),
            -0.337 + 2 * d * x[7]**2 - x[5] * x[7] * (c * y3 + d * y4) + x[6] * x[7] * (c * y5 - d * y6)]


add(107, 5055.011803, [0.8, 0.8, 0.2, 0.2, 1.0454, 1.0454, 1.0454, 0, 0],
    lambda x: 3000 * x[1] + 1000 * x[1]**3 + 2000 * x[2] + 666.667 * x[2]**3, network_107,
    low=[0, 0, -INF, -INF] + [0.90909] * 3 + [-INF] * 2, high=[INF] * 4 + [1.0909] * 3 + [INF] * 2)
add(108, -0.8660254038, [1] * 9, lambda x: -(x[1] * x[4] - x[2] * x[3] + x[3] * x[9] - x[5] * x[9] + x[5] * x[8] - x[6] * x[7]) / 2,
    None, lambda x: [1 - x[3]**2 - x[4]**2, 1 - x[9]**2, 1 - x[5]**2 - x[6]**2, 1 - x[1]**2 - (x[2] - x[9])**2,
                     1 - (x[1] - x[5])**2 - (x[2] - x[6])**2, 1 - (x[1] - x[7])**2 - (x[2] - x[8])**2,
                     1 - (x[3] - x[5])**2 - (x[4] - x[6])**2, 1 - (x[3] - x[7])**2 - (x[4] - x[8])**2,
                     1 - x[7]**2 - (x[8] - x[9])**2, x[1] * x[4] - x[2] * x[3], x[3] * x[9], -x[5] * x[9],
                     x[5] * x[8] - x[6] * x[7]], low=[-INF] * 8 + [0])


def network_109(x: Any) -> Any:
    """The balances of problem 109."""
    a, b, c = 50.176, np.sin(0.25), np.cos(0.25)
    s, k = (lambda angle: sin(angle - 0.25)), (lambda angle: cos(angle - 0.25))
    return [x[5] * x[6] * s(-x[3]) + x[5] * x[7] * s(-x[4]) + 2 * b * x[5]**2 - a * x[1] + 400 * a,
            x[5] * x[6] * s(x[3]) + x[6] * x[7] * s(x[3] - x[4]) + 2 * b * x[6]**2 - a * x[2] + 400 * a,
            x[5] * x[7] * s(x[4]) + x[6] * x[7] * s(x[4] - x[3]) + 2 * b * x[7]**2 + 881.779 * a,
            a * x[8] + x[5] * x[6] * k(-x[3]) + x[5] * x[7] * k(-x[4]) - 200 * a - 2 * c * x[5]**2 + 0.7533e-3 * a * x[5]**2,
            a * x[9] + x[5] * x[6] * k(x[3]) + x[6] * x[7] * k(x[3] - x[4]) - 2 * c * x[6]**2 + 0.7533e-3 * a * x[6]**2 - 200 * a,
            x[5] * x[7] * k(x[4]) + x[6] * x[7] * k(x[4] - x[3]) - 2 * c * x[7]**2 - 22.938 * a + 0.7533e-3 * a * x[7]**2]


add(109, 5362.06928, [0] * 9, lambda x: 3 * x[1] + 1e-6 * x[1]**3 + 2 * x[2] + 0.522074e-6 * x[2]**3, network_109,
    lambda x: [x[4] - x[3] + 0.55, x[3] - x[4] + 0.55, 2250000 - x[1]**2 - x[8]**2, 2250000 - x[2]**2 - x[9]**2],
    low=[0, 0, -0.55, -0.55, 196, 196, 196, -400, -400], high=[INF, INF, 0.55, 0.55, 252, 252, 252, 800, 800])
add(110, -45.77846971, [9] * 10, lambda *x: jnp.sum(log(jnp.stack(x) - 2)**2 + log(10 - jnp.stack(x))**2)
    - jnp.prod(jnp.stack(x))**0.2, low=2.001, high=9.999)
C111 = np.array([-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.1, -10.708, -26.662, -22.179])


def gas_112(x: Any) -> Any:
    """The balances of problem 112."""
    return [x[1] + 2 * x[2] + 2 * x[3] + x[6] + x[10] - 2, x[4] + 2 * x[5] + x[6] + x[7] - 1,
            x[3] + x[7] + x[8] + 2 * x[9] + x[10] - 1]


add(111, -47.76109026, [-2.3] * 10, lambda x: jnp.sum(
    exp(jnp.stack(x[1:])) * (C111 + jnp.stack(x[1:]) - log(jnp.sum(exp(jnp.stack(x[1:])))))),
    lambda x: gas_112([None, *map(exp, x[1:])]), low=-100, high=100)
add(112, -47.76109086, [0.1] * 10, lambda x: jnp.sum(jnp.stack(x[1:]) * (C111 + log(jnp.stack(x[1:]) / jnp.sum(jnp.stack(x[1:]))))),
    gas_112, low=1e-6)
add(113, 24.3062091, [2, 3, 5, 5, 1, 2, 7, 3, 6, 10], lambda x: x[1]**2 + x[2]**2 + x[1] * x[2] - 14 * x[1] - 16 * x[2]
    + (x[3] - 10)**2 + 4 * (x[4] - 5)**2 + (x[5] - 3)**2 + 2 * (x[6] - 1)**2 + 5 * x[7]**2 + 7 * (x[8] - 11)**2
    + 2 * (x[9] - 10)**2 + (x[10] - 7)**2 + 45, None, lambda x: [
        105 - 4 * x[1] - 5 * x[2] + 3 * x[7] - 9 * x[8], -10 * x[1] + 8 * x[2] + 17 * x[7] - 2 * x[8],
        8 * x[1] - 2 * x[2] - 5 * x[9] + 2 * x[10] + 12, -3 * (x[1] - 2)**2 - 4 * (x[2] - 3)**2 - 2 * x[3]**2 + 7 * x[4] + 120,
        -5 * x[1]**2 - 8 * x[2] - (x[3] - 6)**2 + 2 * x[4] + 40, -(x[1] - 8)**2 / 2 - 2 * (x[2] - 4)**2 - 3 * x[5]**2 + x[6] + 30,
        -x[1]**2 - 2 * (x[2] - 2)**2 + 2 * x[1] * x[2] - 14 * x[5] + 6 * x[6],
        3 * x[1] - 6 * x[2] - 12 * (x[9] - 8)**2 + 7 * x[10]])


def plant_114(x: Any) -> Any:
    """The inequalities of problem 114."""
    a, b = 0.99, 0.9
    g1, g2 = 35.82 - 0.222 * x[10] - b * x[9], -133 + 3 * x[7] - a * x[10]
    g5 = 1.12 * x[1] + 0.13167 * x[1] * x[8] - 0.00667 * x[1] * x[8]**2 - a * x[4]
    g6 = 57.425 + 1.098 * x[8] - 0.038 * x[8]**2 + 0.325 * x[6] - a * x[7]
    return [g1, g2, -g1 + x[9] * (1 / b - b), -g2 + (1 / a - a) * x[10], g5, g6, -g5 + (1 / a - a) * x[4], -g6 + (1 / a - a) * x[7]]


add(114, -1768.80696, [1745, 12000, 110, 3048, 1974, 89.2, 92.8, 8, 3.6, 145],
    lambda x: 5.04 * x[1] + 0.035 * x[2] + 10 * x[3] + 3.36 * x[5] - 0.063 * x[4] * x[7],
    lambda x: [1.22 * x[4] - x[1] - x[5], 98000 * x[3] / (x[4] * x[9] + 1000 * x[3]) - x[6], (x[2] + x[5]) / x[1] - x[8]],
    plant_114, low=[1e-5] * 5 + [85, 90, 3, 1.2, 145], high=[2000, 16000, 120, 5000, 2000, 93, 95, 12, 4, 162])


def membrane_116(x: Any) -> Any:
    """The inequalities of problem 116."""
    a, b, c, d, e, f = 0.002, 1.262626, 1.231059, 0.03475, 0.975, 0.00975
    return [x[3] - x[2], x[2] - x[1], 1 - a * x[7] + a * x[8], x[11] + x[12] + x[13] - 50, 250 - x[11] - x[12] - x[13],
            x[13] - b * x[10] + c * x[3] * x[10], x[5] - d * x[2] - e * x[2] * x[5] + f * x[2]**2,
            x[6] - d * x[3] - e * x[3] * x[6] + f * x[3]**2, x[4] - d * x[1] - e * x[1] * x[4] + f * x[1]**2,
            x[12] - b * x[9] + c * x[2] * x[9], x[11] - b * x[8] + c * x[1] * x[8],
            x[5] * x[7] - x[1] * x[8] - x[4] * x[7] + x[4] * x[8],
            1 - a * (x[2] * x[9] + x[5] * x[8] - x[1] * x[8] - x[6] * x[9]) - x[5] - x[6],
            x[2] * x[9] - x[3] * x[10] - x[6] * x[9] - 500 * x[2] + 500 * x[6] + x[2] * x[10],
            x[2] - 0.9 - a * (x[2] * x[10] - x[3] * x[10])]


add(116, 97.58751, [0.5, 0.8, 0.9, 0.1, 0.14, 0.5, 489, 80, 650, 450, 150, 150, 150], lambda x: x[11] + x[12] + x[13], None,
    membrane_116, low=[0.1, 0.1, 0.1, 1e-4, 0.1, 0.1, 0.1, 0.1, 500, 0.1, 1, 1e-4, 1e-4],
    high=[1, 1, 1, 0.1, 0.9, 0.9, 1000, 1000, 1000, 500, 150, 150, 150])
add(117, 32.348679, 0.001 * np.array([1] * 6 + [60000] + [1] * 8), lambda *x: -B86 @ jnp.stack(x[:10])
    + jnp.stack(x[10:]) @ C86 @ jnp.stack(x[10:]) + 2 * D86 @ jnp.stack(x[10:])**3, None,
    lambda *x: 2 * C86 @ jnp.stack(x[10:]) + 3 * D86 * jnp.stack(x[10:])**2 + E86 - A86.T @ jnp.stack(x[:10]), low=0)


def plan_118(*x: Any) -> Any:
    """The inequalities of problem 118."""
    table = jnp.stack(x).reshape(5, 3)
    steps, sums = jnp.diff(table, axis=0).reshape(-1), jnp.sum(table, axis=1)
    return jnp.concatenate([steps + 7, np.tile([6.0, 7.0, 6.0], 4) - steps, sums - np.array([60.0, 50, 70, 85, 100])])


add(118, 664.82045, [20, 55, 15] + [20, 60, 20] * 4, lambda *x: jnp.sum(jnp.stack(x).reshape(5, 3) @ np.array([2.3, 1.7, 2.2])
    + jnp.stack(x).reshape(5, 3)**2 @ np.array([1e-4, 1e-4, 1.5e-4])), None, plan_118,
    low=[8, 43, 3] + [0] * 12, high=[21, 57, 16] + [90, 120, 60] * 4)
A119 = np.zeros((16, 16))
for row, columns in enumerate(((1, 4, 7, 8, 16), (2, 3, 7, 10), (3, 7, 9, 10, 14), (4, 7, 11, 15), (5, 6, 10, 12, 16), (6, 8, 15),
                               (7, 11, 13), (8, 10, 15), (9, 12, 16), (10, 14), (11, 13), (12, 14), (13, 14), (14,), (15,), (16,))):
    A119[row, [column - 1 for column in columns]] = 1
B119 = np.array([[0.22, -1.46, 1.29, -1.1, 0, 0, 1.12, 0], [0.2, 0, -0.89, -1.06, 0, -1.72, 0, 0.45],
                 [0.19, -1.3, 0, 0.95, 0, -0.33, 0, 0.26], [0.25, 1.82, 0, -0.54, -1.43, 0, 0.31, -1.1],
                 [0.15, -1.15, -1.16, 0, 1.51, 1.62, 0, 0.58], [0.11, 0, -0.96, -1.78, 0.59, 1.24, 0, 0],
                 [0.12, 0.8, 0, -0.41, -0.33, 0.21, 1.12, -1.03], [0.13, 0, -0.49, 0, -0.43, -0.26, 0, 0.1],
                 [1, 0, 0, 0, 0, 0, -0.36, 0], *np.eye(8)[1:]]).T
add(119, 244.899698, [5] * 16, lambda *x: (jnp.stack(x)**2 + jnp.stack(x) + 1) @ A119 @ (jnp.stack(x)**2 + jnp.stack(x) + 1),
    lambda *x: B119 @ jnp.stack(x) - np.array([2.5, 1.1, -3.1, -3.5, 1.3, 2.1, 2.3, -1.5]), low=0, high=5)
