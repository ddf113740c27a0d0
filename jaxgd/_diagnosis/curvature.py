"""The curvature at the start: conditioning, directions in which the cost is flat, and kinks on the way down.

Where parameters are few, the Hessian is that of `TrustRegion`. In units in which each parameter alone has curvature 1 its condition
is within a factor n of the best that units can do (A. van der Sluis, Numer. Math. 14, 1969): what is left is no matter of units.
Above that many, products with it serve, in a few steps of Lanczos.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgd._diagnosis.probe import Probe

_ROUNDINGS = 16.0  # for each parameter: an eigenvalue below as many is zero, as in `covariance`
_LANCZOS = 12  # products
_SHOWN = 1e-3  # of the largest part of a flat direction: what is smaller is rounding
_FLAT_STEPS = (0.1, 1.0)  # of the sizes of parameters, along which a flat direction has to be flat
_CHANGE = 16.0  # roundings of the cost, that such steps may change
_FEW = 64  # flat directions that are checked by steps


class Curvature(NamedTuple):
    """The curvature of the free parameters that the cost depends on.

    Attributes:
        condition: the largest absolute eigenvalue over the smallest, in the parameters' own units; NaN where unknown.
        scaled: the same in units of their curvatures.
        negative: how many eigenvalues are negative beyond rounding.
        largest: the largest absolute eigenvalue.
        values: the eigenvalues in units of their curvatures; empty where unknown.
        vectors: their eigenvectors, in columns, in the parameters' own units, for all packed parameters.
        rounding: below which an eigenvalue in these units is zero.
    """

    condition: float
    scaled: float
    negative: int
    largest: float
    values: np.ndarray
    vectors: np.ndarray
    rounding: float

    @staticmethod
    def unknown(count: int, largest: float = float("nan"), negative: int = 0) -> "Curvature":
        """Return a curvature of which at most the extreme eigenvalues are known."""
        nan = float("nan")
        return Curvature(nan, nan, negative, largest, np.zeros(0), np.zeros((count, 0)), 0.0)


def of_matrix(matrix: np.ndarray, used: np.ndarray, eps: float) -> Curvature:
    """Return the curvature of a Hessian, for the parameters that are used."""
    places = np.flatnonzero(used)
    part = matrix[np.ix_(places, places)]
    own = np.abs(np.linalg.eigvalsh(part))
    size = np.sqrt(np.abs(np.diagonal(part)))
    # a parameter of no curvature by itself, as in a product of two, is measured by what it has with others
    size = np.where(size > 0, size, np.sqrt(np.max(np.abs(part), axis=1, initial=0)))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(part / size[:, None] / size)
    rounding = _ROUNDINGS * len(places) * eps
    full = np.zeros((len(used), len(places)))
    full[places] = vectors / size[:, None]
    negative = int(np.sum(values < -rounding * np.max(np.abs(values), initial=0)))
    return Curvature(_ratio(own), _ratio(np.abs(values)), negative, float(own[-1]) if own.size else 0.0, values, full, rounding)


def _ratio(values: np.ndarray) -> float:
    if not values.size:
        return float("nan")
    least, most = float(np.min(values)), float(np.max(values))
    return most / least if least > 0 else float("inf")


def of_products(product: Callable[[np.ndarray], np.ndarray], size: int) -> Curvature:
    """Return what a few products with the Hessian tell: its extreme eigenvalues, from the inside.

    C. Lanczos, An iteration method for the solution of the eigenvalue problem, J. Res. Natl. Bur. Stand. 45 (1950), with full
    orthogonalisation.
    """
    first = np.random.default_rng(4).normal(size=size)
    basis, applied = [first / np.linalg.norm(first)], []
    for _ in range(_LANCZOS):
        applied.append(product(basis[-1]))
        rest = applied[-1].copy()
        for one in [*basis, *basis]:
            rest -= (one @ rest) * one
        length = np.linalg.norm(rest)
        if not np.isfinite(length) or length <= 1e-6 * np.linalg.norm(applied[-1]):
            break
        basis.append(rest / length)
    kept = np.stack(basis[: len(applied)])
    small = kept @ np.stack(applied).T
    if not np.all(np.isfinite(small)):
        return Curvature.unknown(size)
    values = np.linalg.eigvalsh((small + small.T) / 2)
    largest = float(np.max(np.abs(values)))
    return Curvature.unknown(size, largest, int(np.sum(values < -1e-3 * largest)))


def flat(probe: Probe, found: Curvature, size: np.ndarray, noise: float) -> np.ndarray:
    """Return the flat directions, in columns.

    They have no curvature, and steps along them change nothing, neither from the start nor from a point aside: directions that are
    flat at the start alone are no property of the cost.
    """
    weak = np.flatnonzero(np.abs(found.values) <= found.rounding)[:_FEW]
    if not weak.size:
        return np.zeros((len(probe.start), 0))
    directions = found.vectors[:, weak]
    directions = directions / np.max(np.abs(directions) / size[:, None], axis=0)
    moves = np.concatenate([share * directions.T for step in _FLAT_STEPS for share in (step, -step)])
    random = np.random.default_rng(5)
    aside = probe.rounded(probe.aside(random.uniform(0.05, 0.2, size.size) * random.choice([-1, 1], size.size) * size))
    bases, changed = np.stack([probe.start, aside]), np.zeros(len(moves), bool)
    for base, value, gradient in zip(bases, *probe(bases), strict=True):
        points = probe.rounded(base + moves)
        inside = np.all((points >= probe.low) & (points <= probe.high), axis=1)
        # the points are rounded as well: each parameter is off by an eps
        rounding = float(np.finfo(probe.dtype).eps) * (abs(value) + np.abs(gradient) @ (np.abs(base) + size))
        costs = probe.costs(probe.within(points))
        changed |= np.isfinite(value) & inside & ~(np.abs(costs - value) <= _CHANGE * (noise + rounding))
    return directions[:, ~np.any(changed.reshape(-1, weak.size), axis=0)]


def flat_names(directions: np.ndarray, names: tuple[str, ...], size: np.ndarray) -> list[str]:
    """Return the flat directions in words, one text for each set of parameters that they connect.

    Of two parameters the combination is told that matters.
    """
    scaled = directions / size[:, None]
    basis, _ = np.linalg.qr(scaled)
    projector = np.abs(basis @ basis.T)
    linked = projector > _SHOWN * np.max(projector)
    told, left = [], set(np.flatnonzero(np.diagonal(linked)).tolist())
    while left:
        group, new = set(), {min(left)}
        while new:
            group |= new
            new = {int(j) for k in new for j in np.flatnonzero(linked[k])} & left - group
        left -= group
        told.append(_combination(directions, sorted(group), names))
    return told


def _combination(directions: np.ndarray, group: list[int], names: tuple[str, ...]) -> str:
    """Return what a set of parameters of the flat directions does, in words."""
    if len(group) == 1:
        return f"{names[group[0]]} does not matter"
    if len(group) == 2:
        column = directions[group][:, np.argmax(np.abs(directions[group[0]]))]
        weight = -column[0] / column[1]  # of the second: what stays the same along the direction
        factor = "" if abs(abs(weight) - 1) < 1e-3 else f"{abs(weight):.4g} * "
        return f"only {names[group[0]]} {'+' if weight > 0 else '-'} {factor}{names[group[1]]} matters"
    count = int(np.linalg.matrix_rank(directions[group], tol=1e-6 * np.max(np.abs(directions[group]))))
    some = ", ".join(names[k] for k in group[:6]) + (", ..." if len(group) > 6 else "")
    return f"{'one combination' if count == 1 else f'{count} combinations'} of {some} does not matter".replace(
        "does", "does" if count == 1 else "do"
    )
