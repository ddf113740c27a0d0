"""The 35 problems of Moré, Garbow and Hillstrom, in the paper's order.

J. J. Moré, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization software", ACM Transactions on Mathematical
Software 7 (1981), 17-41. Each cost is a sum of squares, worked in the dtype of `x`. Formulas, data and starts are the
paper's, the minima are computed anew, to 16 digits. Two formulas need a word: Gulf's is printed with "mi" for a minus, and
the helical valley's angle is one arctan2 here, so that it has derivatives where the paper's arctan divides by zero.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

Residuals = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True, eq=False)
class Problem:
    """A sum of squares, where to start, and the values that a descent may end at.

    `minima` has the global minimum first, then the paper's other values, local minima and limits at infinity that are
    approached from above. `stalls` are other values where the cost is flat to every digit, although there is a way down.
    """

    name: str
    residuals: Residuals
    start: np.ndarray
    minima: tuple[float, ...] = (0.0,)
    stalls: tuple[float, ...] = ()
    note: str = ""

    def cost(self, x: jax.Array) -> jax.Array:
        """The sum of the squared residuals, not halved."""
        return jnp.sum(self.residuals(x) ** 2)


def starts(problem: Problem, factor: float = 1.0) -> np.ndarray:
    """The standard start times `factor` (the paper takes 1, 10 and 100); if that start is zero, `factor` in every entry."""
    return factor * problem.start if factor == 1 or problem.start.any() else np.full_like(problem.start, factor)


def _problem(
    start: ArrayLike, minima: tuple[float, ...] = (0.0,), stalls: tuple[float, ...] = (), note: str = ""
) -> Callable[[Residuals], Problem]:
    return lambda residuals: Problem(residuals.__name__, residuals, np.array(start, float), minima, stalls, note)


def _like(x: jax.Array, values: ArrayLike) -> jax.Array:
    return jnp.asarray(values, x.dtype)


def _count(x: jax.Array, m: int | None = None) -> jax.Array:
    """1, 2, ..., m; or as many as there are variables."""
    return jnp.arange(1, (x.size if m is None else m) + 1, dtype=x.dtype)


def _grid(n: int) -> np.ndarray:
    return np.arange(1, n + 1) / (n + 1)


_BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
_GAUSSIAN = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989]
_MEYER = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
_KOWALIK = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
_OSBORNE_1 = """
    0.844 0.908 0.932 0.936 0.925 0.908 0.881 0.850 0.818 0.784 0.751 0.718 0.685 0.658 0.628 0.603 0.580
    0.558 0.538 0.522 0.506 0.490 0.478 0.467 0.457 0.448 0.438 0.431 0.424 0.420 0.414 0.411 0.406
"""
_OSBORNE_2 = """
    1.366 1.191 1.112 1.013 0.991 0.885 0.831 0.847 0.786 0.725 0.746 0.679 0.608 0.655 0.616 0.606 0.602
    0.626 0.651 0.724 0.649 0.649 0.694 0.644 0.624 0.661 0.612 0.558 0.533 0.495 0.500 0.423 0.395 0.375
    0.372 0.391 0.396 0.405 0.428 0.429 0.523 0.562 0.607 0.653 0.672 0.708 0.633 0.668 0.645 0.632 0.591
    0.559 0.597 0.625 0.739 0.710 0.729 0.720 0.636 0.581 0.428 0.292 0.162 0.098 0.054
"""


@_problem([-1.2, 1])
def rosenbrock(x: jax.Array) -> jax.Array:
    x1, x2 = x
    return jnp.stack([10 * (x2 - x1**2), 1 - x1])


@_problem([0.5, -2], minima=(0.0, 48.98425367924002), note="the standard start leads to the local minimum")
def freudenstein_and_roth(x: jax.Array) -> jax.Array:
    x1, x2 = x
    return jnp.stack([-13 + x1 + ((5 - x2) * x2 - 2) * x2, -29 + x1 + ((x2 + 1) * x2 - 14) * x2])


@_problem([0, 1], minima=(0.0, 1e-8, 1.0402940039616394), note="1e-8 at (0, inf) and (inf, 0)")
def powell_badly_scaled(x: jax.Array) -> jax.Array:
    x1, x2 = x
    return jnp.stack([1e4 * x1 * x2 - 1, jnp.exp(-x1) + jnp.exp(-x2) - 1.0001])


@_problem([1, 1])
def brown_badly_scaled(x: jax.Array) -> jax.Array:
    x1, x2 = x
    return jnp.stack([x1 - 1e6, x2 - 2e-6, x1 * x2 - 2])


@_problem([1, 1], minima=(0.0, 0.45200892857142857, 7.3125), note="0.452... at (-inf, 1), 7.3125 at (0, -inf)")
def beale(x: jax.Array) -> jax.Array:
    x1, x2 = x
    return jnp.stack([1.5 - x1 * (1 - x2), 2.25 - x1 * (1 - x2**2), 2.625 - x1 * (1 - x2**3)])


@_problem([0.3, 0.4], minima=(124.36218235561485,), stalls=(259.58019013425328, 2020.0), note="stalls at -inf")
def jennrich_and_sampson(x: jax.Array) -> jax.Array:
    i = _count(x, 10)
    return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


@_problem([-1, 0, 0], note="the angle jumps on the negative x2 axis")
def helical_valley(x: jax.Array) -> jax.Array:
    x1, x2, x3 = x
    turns = 0.25 - jnp.arctan2(x1, x2) / (2 * jnp.pi)
    return jnp.stack([10 * (x3 - 10 * turns), 10 * (jnp.sqrt(x1**2 + x2**2) - 1), x3])


@_problem(
    [1, 1, 1],
    minima=(
        *(0.0082148773065789798, 17.428693333333333, 0.11479845561593765, 0.93277524389830065, 1.0038205868219475),
        *(1.7749267778152612, 1.8862748135913526, 2.2899058185565886, 2.3629162971918464),
        *(16.902692857142857, 16.961035714285714, 17.01595, 17.054885714285714, 17.1038, 17.138235714285714, 17.170742857142857),
    ),
    note="17.4... at (0.84..., -inf, -inf), 0.11... and 16.9... to 17.2 at infinity too; all but the first two beyond poles",
)
def bard(x: jax.Array) -> jax.Array:
    x1, x2, x3 = x
    u = _count(x, 15)
    v = 16 - u
    return _like(x, _BARD) - (x1 + u / (v * x2 + jnp.minimum(u, v) * x3))


@_problem([0.4, 1, 0], minima=(1.1279327696190113e-8,), stalls=(0.28112775,), note="stalls where the bell lies between data")
def gaussian(x: jax.Array) -> jax.Array:
    x1, x2, x3 = x
    t = (8 - _count(x, 15)) / 2
    return x1 * jnp.exp(-x2 * (t - x3) ** 2 / 2) - _like(x, _GAUSSIAN + _GAUSSIAN[-2::-1])


@_problem([0.02, 4000, 250], minima=(87.945855170851121,), note="ill conditioned; further minima, above 1e9, between poles")
def meyer(x: jax.Array) -> jax.Array:
    x1, x2, x3 = x
    return x1 * jnp.exp(x2 / (45 + 5 * _count(x, 16) + x3)) - _like(x, _MEYER)


@_problem([5, 2.5, 0.15], stalls=(32.835,), note="m = 99; ten times the start is the minimiser; stalls where the model vanishes")
def gulf_research_and_development(x: jax.Array) -> jax.Array:
    x1, x2, x3 = x
    t = np.arange(1, 100) / 100
    y = _like(x, 25 + (-50 * np.log(t)) ** (2 / 3))
    return jnp.exp(-(jnp.abs(y - x2) ** x3) / x1) - _like(x, t)


@_problem([0, 10, 20], stalls=(0.075588740754997403,), note="m = 10; 0 also wherever x1 = x2 and x3 = 0; stalls at x2 = inf")
def box_three_dimensional(x: jax.Array) -> jax.Array:
    x1, x2, x3 = x
    t = _count(x, 10) / 10
    return jnp.exp(-t * x1) - jnp.exp(-t * x2) - x3 * (jnp.exp(-t) - jnp.exp(-10 * t))


@_problem([3, -1, 0, 1], note="singular Hessian at the minimiser")
def powell_singular(x: jax.Array) -> jax.Array:
    x1, x2, x3, x4 = x
    return jnp.stack([x1 + 10 * x2, 5**0.5 * (x3 - x4), (x2 - 2 * x3) ** 2, 10**0.5 * (x1 - x4) ** 2])


@_problem([-3, -1, -3, -1])
def wood(x: jax.Array) -> jax.Array:
    x1, x2, x3, x4 = x
    valleys = [10 * (x2 - x1**2), 1 - x1, 90**0.5 * (x4 - x3**2), 1 - x3]
    return jnp.stack([*valleys, 10**0.5 * (x2 + x4 - 2), (x2 - x4) / 10**0.5])


@_problem(
    [0.25, 0.39, 0.415, 0.39],
    minima=(
        *(3.0750560384923778e-4, 1.027343048695458e-3, 4.2367462646983419e-4, 9.4463129594175347e-4, 1.5943520260219621e-3),
        *(1.6229555150643938e-3, 1.6272854211609374e-3, 1.636019706701568e-3, 1.6485242880873036e-3, 1.7945390605644903e-3),
    ),
    note="1.02...e-3 at (inf, -14.07..., -inf, -inf), 9.4...e-4 and 1.79...e-3 at inf too; further ones, from 0.03, beyond poles",
)
def kowalik_and_osborne(x: jax.Array) -> jax.Array:
    x1, x2, x3, x4 = x
    u = _like(x, [4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    return _like(x, _KOWALIK) - x1 * (u**2 + u * x2) / (u**2 + u * x3 + x4)


@_problem([25, 5, -5, -1], minima=(85822.201626356345,), note="m = 20")
def brown_and_dennis(x: jax.Array) -> jax.Array:
    x1, x2, x3, x4 = x
    t = _count(x, 20) / 5
    return (x1 + t * x2 - jnp.exp(t)) ** 2 + (x3 + x4 * jnp.sin(t) - jnp.cos(t)) ** 2


@_problem([0.5, 1.5, -1, 0.01, 0.02], minima=(5.4648946974829118e-5,), note="further limits, from 0.02, at infinity")
def osborne_1(x: jax.Array) -> jax.Array:
    x1, x2, x3, x4, x5 = x
    t = 10 * (_count(x, 33) - 1)
    return _like(x, np.array(_OSBORNE_1.split(), float)) - (x1 + x2 * jnp.exp(-t * x4) + x3 * jnp.exp(-t * x5))


@_problem(
    [1, 2, 1, 1, 1, 1],
    minima=(0.0, 5.655649925499931e-3, 4.4681237175990401e-3),
    stalls=(0.30636677262478978,),
    note="m = 13; 5.6...e-3 on a line, 4.4...e-3 at infinity; further limits, from 0.18, with growing exponentials",
)
def biggs_exp6(x: jax.Array) -> jax.Array:
    x1, x2, x3, x4, x5, x6 = x
    t = _count(x, 13) / 10
    y = jnp.exp(-t) - 5 * jnp.exp(-10 * t) + 3 * jnp.exp(-4 * t)
    return x3 * jnp.exp(-t * x1) - x4 * jnp.exp(-t * x2) + x6 * jnp.exp(-t * x5) - y


@_problem(
    [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5],
    minima=(0.040137736293547744,),
    stalls=(1.7898135868810932,),
    note="stalls where no peak meets the data, as from 10 and 100 times the start; dozens of local minima",
)
def osborne_2(x: jax.Array) -> jax.Array:
    t = (_count(x, 65) - 1) / 10
    heights, widths, centres = x[1:4], x[5:8], x[8:11]
    peaks = jnp.sum(heights * jnp.exp(-((t[:, None] - centres) ** 2) * widths), axis=1)
    return _like(x, np.array(_OSBORNE_2.split(), float)) - (x[0] * jnp.exp(-t * x[4]) + peaks)


@_problem(np.zeros(6), minima=(2.2876700535524362e-3,), note="very ill conditioned from n = 9 on")
def watson(x: jax.Array) -> jax.Array:
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(x.size)
    slope = jnp.sum(_like(x, j * t ** (j - 1.0)) * x, axis=1)
    level = jnp.sum(_like(x, t**j) * x, axis=1)
    return jnp.append(slope - level**2 - 1, jnp.stack([x[0], x[1] - x[0] ** 2 - 1]))


@_problem(np.tile([-1.2, 1], 5))
def extended_rosenbrock(x: jax.Array) -> jax.Array:
    return jax.vmap(rosenbrock.residuals)(x.reshape(-1, 2)).ravel()


@_problem(np.tile([3, -1, 0, 1], 3), note="singular Hessian at the minimiser")
def extended_powell_singular(x: jax.Array) -> jax.Array:
    return jax.vmap(powell_singular.residuals)(x.reshape(-1, 4)).ravel()


@_problem(np.arange(1, 5), minima=(2.2499775008999372e-5,))
def penalty_1(x: jax.Array) -> jax.Array:
    return jnp.append(1e-5**0.5 * (x - 1), jnp.sum(x**2) - 0.25)


@_problem(np.full(4, 0.5), minima=(9.3762930073554423e-6,), note="very ill conditioned")
def penalty_2(x: jax.Array) -> jax.Array:
    i = _count(x)
    e, y = jnp.exp(x / 10), jnp.exp(i / 10)
    pairs = (e[1:] + e[:-1]) - (y[1:] + y[:-1])
    small = 1e-5**0.5 * jnp.append(pairs, e[1:] - float(np.exp(-0.1)))
    return jnp.concatenate([x[:1] - 0.2, small, jnp.sum(i[::-1] * x**2, keepdims=True) - 1])


@_problem(1 - np.arange(1, 11) / 10)
def variably_dimensioned(x: jax.Array) -> jax.Array:
    s = jnp.sum(_count(x) * (x - 1))
    return jnp.append(x - 1, jnp.stack([s, s**2]))


@_problem(
    np.full(10, 0.1),
    minima=(0.0, 4.4735658128062946e-7, 2.7950561218794563e-5, 4.2186338879237259e-5, 8.7882252182189827e-4),
    note="periodic; the standard start leads to 2.79...e-5",
)
def trigonometric(x: jax.Array) -> jax.Array:
    return x.size - jnp.sum(jnp.cos(x)) + _count(x) * (1 - jnp.cos(x)) - jnp.sin(x)


@_problem(
    np.full(10, 0.5),
    minima=(0.0, 1.0, 0.91790009978570375, 1.8412483660885046),
    note="1 at (0, ..., 0, 11) is the paper's: a stationary point, flat to the eighth order, but no minimum",
)
def brown_almost_linear(x: jax.Array) -> jax.Array:
    return jnp.append(x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x) - 1)


@_problem(_grid(10) * (_grid(10) - 1))
def discrete_boundary_value(x: jax.Array) -> jax.Array:
    h, around = 1 / (x.size + 1), jnp.pad(x, 1)
    return 2 * x - around[:-2] - around[2:] + h**2 * (x + h * _count(x) + 1) ** 3 / 2


@_problem(_grid(10) * (_grid(10) - 1))
def discrete_integral_equation(x: jax.Array) -> jax.Array:
    t = _grid(x.size)
    kernel = np.minimum(t, t[:, None]) * (1 - np.maximum(t, t[:, None]))
    return x + jnp.sum(_like(x, kernel) * (x + _like(x, t) + 1) ** 3, axis=1) / (2 * (x.size + 1))


@_problem(
    -np.ones(10),
    minima=(
        *(0.0, 0.87897362136039086, 1.02865203567795, 1.2628601073094678),
        *(1.3163753067654373, 1.3495361237412715, 1.5218806256568119),
    ),
    note="dozens of local minima from 0.397 on, of which these have the largest basins",
)
def broyden_tridiagonal(x: jax.Array) -> jax.Array:
    around = jnp.pad(x, 1)
    return (3 - 2 * x) * x - around[:-2] - 2 * around[2:] + 1


@_problem(-np.ones(10), minima=(0.0, 2.6802199207261356, 3.0572784324258188, 12.59394180783145, 12.857696607635585))
def broyden_banded(x: jax.Array) -> jax.Array:
    offset = np.arange(x.size) - np.arange(x.size)[:, None]
    band = (-5 <= offset) & (offset <= 1) & (offset != 0)
    return x * (2 + 5 * x**2) + 1 - jnp.sum(_like(x, band) * (x * (1 + x)), axis=1)


@_problem(np.ones(10), minima=(10.0,), note="m = 20")
def linear_full_rank(x: jax.Array) -> jax.Array:
    return jnp.pad(x, (0, 20 - x.size)) - jnp.sum(x) / 10 - 1


@_problem(np.ones(10), minima=(190 / 41,), note="m = 20; m (m - 1) / (2 (2 m + 1)) on a hyperplane")
def linear_rank_1(x: jax.Array) -> jax.Array:
    return _count(x, 20) * jnp.sum(_count(x) * x) - 1


@_problem(np.ones(10), minima=(227 / 37,), note="m = 20; (m^2 + 3 m - 6) / (2 (2 m - 3)) on a hyperplane")
def linear_rank_1_with_zero_columns_and_rows(x: jax.Array) -> jax.Array:
    return jnp.pad(_count(x, 18), 1) * jnp.sum((_count(x) * x)[1:-1]) - 1


@_problem(_grid(8), minima=(3.5168737256779317e-3,), note="0 for n up to 7 and n = 9, positive for n = 8 and from n = 10 on")
def chebyquad(x: jax.Array) -> jax.Array:
    z = 2 * x - 1
    chebyshev = [jnp.ones_like(x), z]
    for _ in range(2, x.size + 1):
        chebyshev.append(2 * z * chebyshev[-1] - chebyshev[-2])
    integrals = [0 if i % 2 else -1 / (i**2 - 1) for i in range(1, x.size + 1)]
    return jnp.mean(jnp.stack(chebyshev[1:]), axis=1) - _like(x, integrals)


# fmt: off
PROBLEMS: tuple[Problem, ...] = (
    rosenbrock, freudenstein_and_roth, powell_badly_scaled, brown_badly_scaled, beale, jennrich_and_sampson,
    helical_valley, bard, gaussian, meyer, gulf_research_and_development, box_three_dimensional, powell_singular,
    wood, kowalik_and_osborne, brown_and_dennis, osborne_1, biggs_exp6, osborne_2, watson, extended_rosenbrock,
    extended_powell_singular, penalty_1, penalty_2, variably_dimensioned, trigonometric, brown_almost_linear,
    discrete_boundary_value, discrete_integral_equation, broyden_tridiagonal, broyden_banded, linear_full_rank,
    linear_rank_1, linear_rank_1_with_zero_columns_and_rows, chebyquad,
)
# fmt: on

# The paper's residuals at the other sizes for which it gives a minimum.
OTHER_SIZES: tuple[Problem, ...] = (
    replace(watson, start=np.zeros(9), minima=(1.3997601380990199e-6,)),
    replace(watson, start=np.zeros(12), minima=(4.7223811058917574e-10,), note="in double precision the cost has ten digits"),
    replace(penalty_1, start=np.arange(1.0, 11), minima=(7.08765146709037e-5,)),
    replace(penalty_2, start=np.full(10, 0.5), minima=(2.9366053745674596e-4,)),
    replace(chebyquad, start=_grid(9), minima=(0.0,)),
    replace(chebyquad, start=_grid(10), minima=(4.772713696375349e-3, 6.5039548008823061e-3, 9.5006288502216725e-3)),
)
