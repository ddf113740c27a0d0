"""The cost and its gradient at many points, the rounding noise of the cost, and the directions that are looked at.

All numbers here are NumPy's of 64 bits, whatever the precision of the run: a number of 32 bits is one of 64 as well.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgd._compile.program import program_for
from jaxgd._text import several
from jaxgd._trees import pack, unpack, working_dtype
from jaxgd.bounds import Bounds

_NUMBERS = 2**22  # of points that are handed to the device together
_TOGETHER = 64  # points, at most
FEW = 200  # numbers, each of which is looked at; beyond that it is whole arrays, up to as many
_TIMED, _MOST = 2e-3, 2**22  # seconds, at least, and evaluations, at most, of a loop that is timed
SECONDS = 5.0  # that each part of an examination may take
_EACH = 9  # evaluations for each direction
_NOISE_STEP = 64.0  # roundings of each parameter between two points: far enough to round anew, near enough to be a polynomial
_NOISE_POINTS = 9


class Direction(NamedTuple):
    """A direction in the packed parameters, in which a step of 1 is the size of what moves.

    `places` are the numbers that move.
    """

    name: str
    places: np.ndarray
    move: np.ndarray


class Probe:
    """The cost and its gradient at many points, one after the other in one compiled program.

    `evaluate` is the cost with its gradient, of the free parameters and the arguments. The start and the box are packed here.
    """

    def __init__(self, evaluate: Any, params: Any, arguments: tuple[Any, ...], box: Bounds | None) -> None:
        self.evaluate, self.like, self.arguments = evaluate, params, arguments
        self.dtype = np.dtype(working_dtype(params))
        self.is_traced = getattr(evaluate, "shapes", None) is not None
        self.start = packed(params)
        self.eps = np.concatenate([np.full(leaf.size, float(jnp.finfo(leaf.dtype).eps)) for leaf in jax.tree.leaves(params)])
        self.counts = [leaf.size for leaf in jax.tree.leaves(params)]
        self.low = np.full(self.start.size, -np.inf) if box is None else packed(box.lower)
        self.high = np.full(self.start.size, np.inf) if box is None else packed(box.upper)
        self.together = max(1, min(_TOGETHER, _NUMBERS // self.start.size))

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the costs, (m,), and the gradients, (m, n), at some points, (m, n)."""
        parts = [self._at(points[k : k + self.together]) for k in range(0, len(points), self.together)]
        costs, gradients = zip(*parts, strict=True)
        return np.concatenate(costs), np.concatenate(gradients)

    def costs(self, points: np.ndarray) -> np.ndarray:
        """Return the costs alone."""
        return self(points)[0]

    def within(self, points: np.ndarray) -> np.ndarray:
        """Return the nearest points in the box."""
        return np.clip(points, self.low, self.high)

    def aside(self, moves: np.ndarray) -> np.ndarray:
        """Return points some moves away from the start, the other way where the box has no room."""
        points = self.start + moves
        outside = (points < self.low) | (points > self.high)
        return self.within(np.where(outside, self.start - moves, points))

    def rounded(self, points: np.ndarray) -> np.ndarray:
        """Return the points at which the cost is evaluated, in the precision of the run."""
        return points.astype(self.dtype).astype(np.float64)

    def tree(self, vector: np.ndarray) -> Any:
        """Return packed numbers as a pytree like the free parameters, of NumPy arrays: nothing is compiled for them."""
        leaves, structure = jax.tree.flatten(self.like)
        parts = np.split(vector, np.cumsum(self.counts)[:-1])
        return structure.unflatten([part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)])

    def seconds(self) -> float:
        """Return the time of one evaluation of value and gradient, in a compiled loop where the cost was traced."""
        points, count = self.start[None], 1
        one = many = median_time(functools.partial(self._at, points))
        while self.is_traced and many < _TIMED + one and count < _MOST:
            count *= 4
            many = median_time(functools.partial(self._at, points, count))
        return (many - one) / (count - 1) if count > 1 else one

    def _at(self, points: np.ndarray, times: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the costs and gradients at few points, which are evaluated again and again `times` in all."""
        count = len(points)
        if not self.is_traced:
            found = [self.evaluate(self.tree(point), *self.arguments)[:2] for point in points]
            return np.array([float(cost) for cost, _ in found]), np.stack([packed(gradient) for _, gradient in found])
        padded = np.zeros((self.together, points.shape[1]), self.dtype)
        with np.errstate(over="ignore"):
            padded[:count] = points
        given = self.evaluate, self.like, self.arguments, padded, np.int32(times or count)
        costs, gradients = program_for(_at_points, *given)(*given)
        return wide(costs)[:count], wide(gradients)[:count]


def told(probe: Probe, names: tuple[str, ...], places: Any) -> str:
    """Return the names of some packed numbers, arrays of which all are among them by one name."""
    marked = np.zeros(len(names), bool)
    marked[places] = True
    found, first = [], 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(probe.like)[0]:
        here = range(first, first + leaf.size)
        first += leaf.size
        whole = leaf.size and marked[here].all()
        found += ["params" + jax.tree_util.keystr(path)] if whole else [names[k] for k in here if marked[k]]
    return several(found)


def wide(array: Any) -> np.ndarray:
    """Return an array as a NumPy array of 64 bits."""
    return np.asarray(array).astype(np.float64)


def packed(tree: Any) -> np.ndarray:
    """Return all numbers of a tree in one NumPy vector, in 64 bits."""
    return np.concatenate([wide(leaf).reshape(-1) for leaf in jax.tree.leaves(tree)])


def _at_points(evaluate: Any, like: Any, arguments: tuple[Any, ...], points: jax.Array, count: Any) -> Any:
    cost_like = evaluate.shapes[0]

    def one(number: Any, found: Any) -> Any:
        k = lax.rem(number, np.int32(len(points)))
        cost, gradient, _ = evaluate(unpack(points[k], like), *arguments)
        return found[0].at[k].set(cost), found[1].at[k].set(pack(gradient).astype(points.dtype))

    return lax.fori_loop(0, count, one, (jnp.zeros(len(points), cost_like.dtype), jnp.zeros_like(points)))


def median_time(call: Callable[[], Any]) -> float:
    """Return the median time of up to five calls, fewer where they take long."""
    times: list[float] = []
    while len(times) < 5 and sum(times) < 1.0:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def sizes(x: np.ndarray, cost: float, diagonal: np.ndarray | None) -> np.ndarray:
    """Return the size of each parameter: |x|, or where that is larger or x is zero its natural length, or 1.

    The natural length is the one along which the curvature changes the cost by as much as it is, sqrt(2 |f| / |H_ii|), as far as
    the diagonal of the Hessian tells.
    """
    natural = np.zeros_like(x)
    if diagonal is not None and cost != 0:
        curved = np.isfinite(diagonal) & (diagonal != 0)
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            natural[curved] = np.sqrt(2 * abs(cost) / np.abs(diagonal[curved]))
    natural[~((natural > 1e-30) & (natural < 1e30))] = 0
    natural = np.minimum(natural, np.where(x == 0, natural, 1e6 * np.abs(x)))
    size = np.maximum(np.abs(x), natural)
    return np.where(size > 0, size, 1.0)


def directions(probe: Probe, names: tuple[str, ...], size: np.ndarray, seconds: float) -> list[Direction]:
    """Return the directions that are looked at.

    They are those of all numbers where these are few, and else one for each array, with random signs. Where an evaluation takes
    long there are fewer, evenly spread.
    """
    count = len(names)
    if count <= FEW:
        found = [Direction(name, np.array([k]), _unit(count, [k], size[[k]])) for k, name in enumerate(names)]
    else:
        random, found, first = np.random.default_rng(0), [], 0
        paths = jax.tree_util.tree_flatten_with_path(probe.like)[0]
        for path, leaf in paths:
            places = np.arange(first, first + leaf.size)
            first += leaf.size
            if leaf.size:
                signs = random.choice([-1.0, 1.0], leaf.size)
                found.append(Direction("params" + jax.tree_util.keystr(path), places, _unit(count, places, signs * size[places])))
    most = int(min(FEW, max(4, SECONDS / (_EACH * max(seconds, 1e-9)))))
    return found if len(found) <= most else [found[k * len(found) // most] for k in range(most)]


def _unit(count: int, places: Any, values: np.ndarray) -> np.ndarray:
    move = np.zeros(count)
    move[places] = values
    return move


def noise(probe: Probe, size: np.ndarray, cost: float) -> float:
    """Return the rounding noise of the cost at the start, from differences of high order of nearby values.

    A smooth cost is a polynomial so near, whose differences vanish; those of noise of standard deviation s have the variance
    s**2 (2k)! / (k!)**2. It is at least half a unit in the last place.

    J. J. Moré, S. M. Wild, Estimating computational noise, SIAM J. Sci. Comput. 33 (2011).
    """
    random = np.random.default_rng(1)
    steps = (
        np.arange(_NOISE_POINTS)[:, None] * random.uniform(0.5, 1.0, probe.start.size) * random.choice([-1, 1], probe.start.size)
    )
    costs = probe.costs(probe.within(probe.start + _NOISE_STEP * steps * probe.eps * size))
    least = abs(cost) * float(np.finfo(probe.dtype).eps) / 2
    if not np.all(np.isfinite(costs)):
        return least
    levels = []
    differences = costs
    for k in range(1, _NOISE_POINTS - 2):
        differences = np.diff(differences)
        levels.append(math.sqrt(np.mean(differences**2) * math.factorial(k) ** 2 / math.factorial(2 * k)))
    return max(least, float(np.median(levels[3:])))
