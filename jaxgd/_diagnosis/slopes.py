"""The gradient against differences of the cost, and kinks at the start.

Along each direction the cost is evaluated on both sides at four distances h, a decade apart, and

    D(h) = (f(x + h) - f(x - h)) / 2h        its truncation error falls as h**2, its rounding error rises as 1/h
    S(h) = (f(x + h) + f(x - h) - 2 f(x)) / h        falls as h where the cost is smooth, stays where it has a kink

The largest distance is eps**(1/3) of the size of what moves: there both errors of D are about eps**(2/3) for a cost that varies on
the scale of its parameters. A cost that varies faster needs a shorter one, and so the neighbouring two that agree best are taken,
and their disagreement, with the noise of the cost, is the error of the difference. At a bound the three values lie on one side.

R. P. Brent, Algorithms for Minimization without Derivatives (1973); P. E. Gill, W. Murray, M. H. Wright, Practical Optimization
(1981), section 8.6.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxgd._diagnosis.findings import Finding
from jaxgd._diagnosis.probe import Direction, Probe
from jaxgd._text import several

_LEVELS = 10.0 ** -np.arange(4)
_ERRORS = 4.0  # of a difference, by which the slope may differ from it: its error is an estimate
_SHARE = 0.01  # of the slope, the same: far above rounding, far below a wrong factor, sign or term in a rule
_ROUNDINGS = 1e3  # of the largest slope, the same: sums of large terms that cancel
_JUMP = 0.05  # of the slope: a kink that turns it by less makes no difference
_SIGMAS = 3.0  # of the noise, that a value of the cost may be off


class Slope(NamedTuple):
    """The slope of the cost along a direction, by the gradient and by differences.

    Attributes:
        name: the parameter, or the array, along which it is taken.
        slope: the derivative by the gradient; along an array that of a step of the size of each number in it.
        difference: the same by differences of the cost; NaN where the cost is not finite around the start.
        error: how far the difference may be off.
        size: the size of the parameter, to which steps are relative; 1 for an array.
    """

    name: str
    slope: float
    difference: float
    error: float
    size: float


class Compared(NamedTuple):
    """The slopes along some directions, relative to their sizes, and whether there is a kink."""

    by_gradient: np.ndarray
    by_differences: np.ndarray
    errors: np.ndarray
    kinked: np.ndarray


def compared(probe: Probe, found: list[Direction], cost: float, gradient: np.ndarray, noise: float) -> Compared:
    """Return the slopes along directions by the gradient and by differences."""
    points, kinds = _points(probe, found)
    costs = probe.costs(points.reshape(-1, points.shape[-1])).reshape(points.shape[:-1])  # (directions, levels, 2)
    moved = points - probe.start  # what rounding has left of each step
    along = np.where(moved == 0, 0.0, moved) @ gradient
    steps = _steps(probe)
    with np.errstate(invalid="ignore"):
        central, rest = costs[..., 1] - costs[..., 0], costs[..., 0] + costs[..., 1] - 2 * cost
        one_sided = (4 * costs[..., 0] - 3 * cost - costs[..., 1]) * kinds[:, None]
        differences = np.where(kinds[:, None] == 0, central, one_sided) / (2 * steps)
        bends = np.where(kinds[:, None] == 0, rest / steps, np.nan)
    promised = np.where(kinds[:, None] == 0, along[..., 1] - along[..., 0], (4 * along[..., 0] - along[..., 1]) * kinds[:, None])
    promised /= 2 * steps
    spread = _SIGMAS * noise * np.where(kinds == 0, 1.0, 3.0)[:, None] / steps
    errors = np.abs(np.diff(differences - promised)) + spread[:, 1:]
    errors[~np.isfinite(errors)] = np.inf
    best = np.argmin(errors, axis=1)
    rows = np.arange(len(found))
    return Compared(
        by_gradient=promised[rows, best + 1],
        by_differences=differences[rows, best + 1],
        errors=errors[rows, best],
        kinked=_kinked(bends, spread, differences),
    )


def wrong(probe: Probe, found: Compared) -> np.ndarray:
    """Return along which directions the gradient contradicts the differences."""
    one, two = np.abs(found.by_gradient), np.abs(found.by_differences)
    largest = np.max(np.where(np.isfinite(one), one, 0), initial=0)
    eps = float(np.finfo(probe.dtype).eps)
    allowed = _ERRORS * found.errors + _SHARE * np.fmax(one, two) + _ROUNDINGS * eps * largest
    with np.errstate(invalid="ignore"):
        return ~found.kinked & (np.abs(found.by_gradient - found.by_differences) > allowed)


def _steps(probe: Probe) -> np.ndarray:
    return float(np.finfo(probe.dtype).eps) ** (1 / 3) * _LEVELS


def _points(probe: Probe, found: list[Direction]) -> tuple[np.ndarray, np.ndarray]:
    """Return the points that are evaluated, (directions, levels, 2, parameters), as the precision of the run holds them.

    And on which side they lie: 0 for both, -1 and 1 for one of them, where the box leaves no room on the other.
    """
    steps, moves = _steps(probe), np.stack([one.move for one in found])
    far = 2 * steps[0] * np.stack([moves, -moves], axis=1)
    inside = np.all((probe.start + far >= probe.low) & (probe.start + far <= probe.high), axis=2)  # (directions, 2)
    kinds = np.where(inside.all(axis=1), 0, np.where(inside[:, 0], 1, np.where(inside[:, 1], -1, 0)))
    sides = np.where(kinds[:, None] == 0, [-1.0, 1.0], np.stack([kinds, 2 * kinds], axis=1))
    points = probe.start + (sides[:, None, :] * steps[:, None])[..., None] * moves[:, None, None, :]
    return probe.rounded(probe.within(points)), kinds


def _kinked(bends: np.ndarray, spread: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Return along which directions second differences stay the same at two neighbouring distances: a kink turns the slope."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = bends[:, 1:] / bends[:, :-1]
        stays = (ratio > 0.5) & (ratio < 2)
        seen = np.abs(bends[:, 1:]) > np.maximum(8 * spread[:, 1:], _JUMP * np.abs(differences[:, 1:]))
    return np.any(stays & seen, axis=1)


def described(found: list[Direction], slopes: Compared, gradient: np.ndarray) -> tuple[Slope, ...]:
    """Return the slopes for people: those of single parameters in their own units."""
    told = []
    for one, difference, error in zip(found, slopes.by_differences, slopes.errors, strict=True):
        alone = one.places.size == 1
        size = float(np.max(np.abs(one.move))) if alone else 1.0
        slope = gradient[one.places[0]] if alone else one.move @ gradient
        told.append(Slope(one.name, float(slope), float(difference / size), float(error / size), size))
    return tuple(told)


def findings(slopes: tuple[Slope, ...], is_wrong: np.ndarray, is_kinked: np.ndarray, *, smooth: bool) -> list[Finding]:
    """Return what the slopes say: wrong gradients, and kinks where a smooth cost is wanted."""
    told = []
    lying = [one for one, bad in zip(slopes, is_wrong, strict=True) if bad]
    if lying:
        rates = several([f"{one.name}: {one.slope:.4g} instead of {one.difference:.4g}" for one in lying])
        cure = "correct the custom_vjp or custom_jvp, or remove the stop_gradient, that the cost reaches"
        told.append(Finding("wrong_gradient", f"The gradient is not the slope of the cost, {rates}", cure))
    bent: Any = [one.name for one, bad in zip(slopes, is_kinked, strict=True) if bad]
    if bent and smooth:
        told.append(Finding("kink", f"The cost has a kink at the start, along {several(bent)}", SMOOTH))
    return told


SMOOTH = "smooth it, as in sqrt(r**2 + eps**2) for abs(r), or use fit or a first-order method"
