"""Kinks on the way down: where the slope turns by more than the curvature explains.

Along the steepest descent from the start, in relative units, the slope D and the curvature C of the cost are found at some
places. For a smooth cost D(t2) - D(t1) is the integral of C. A difference is an error of the sum for the integral, or a kink.
So the interval that misses most is cut into smaller ones, several times: an error vanishes, and a kink stays.
"""

from collections.abc import Callable

import numpy as np

from jaxgd._diagnosis.findings import Finding
from jaxgd._diagnosis.probe import Probe
from jaxgd._diagnosis.slopes import SMOOTH

_PLACES, _SECTIONS, _ROUNDS = 33, 17, 3
EVALUATIONS = _PLACES + _ROUNDS * _SECTIONS
FINDING = Finding("kink", "The slope of the cost turns at once on the way down, as that of absolute values does", SMOOTH)
_UNEXPLAINED = 0.3  # of the range of the slopes: kinks by which the slope turns less leave the curvature a guide
_LEFT = 0.5  # of what the smallest interval turns, the same: half is missing where a kink is all that there is
_LONGEST = 10.0  # sizes of the parameter that moves most: beyond, a cost is another one


def has_kinks(
    probe: Probe, size: np.ndarray, cost: float, gradient: np.ndarray, bend: Callable[[np.ndarray, np.ndarray], float]
) -> bool:
    """Return whether there are kinks between the start and about the lowest point along the descent.

    `bend(point, direction)` is the second derivative of the cost along a direction.
    """
    direction = _descent(probe, size, gradient)
    slope = float(gradient @ direction)
    if slope == 0:
        return False
    length = _length(cost, slope, bend(probe.start, direction))
    places = np.linspace(0, length, _PLACES)
    for step in range(_ROUNDS + 1):
        points = probe.rounded(probe.start + places[:, None] * direction)
        inside = np.all((points >= probe.low) & (points <= probe.high), axis=1)
        costs, gradients = probe(probe.within(points))
        finite = inside & np.isfinite(costs) & np.all(np.isfinite(gradients), axis=1)
        count = len(places) if np.all(finite) else int(np.argmin(finite))
        if count < 3:
            return False
        places, slopes = places[:count], gradients[:count] @ direction
        bends = np.array([bend(point, direction) for point in points[:count]])
        turned = np.diff(slopes)
        missing = turned - (bends[1:] + bends[:-1]) / 2 * np.diff(places)
        spread = float(np.ptp(slopes))
        if step == 0 and (spread <= 1e-3 * np.max(np.abs(slopes)) or abs(np.sum(missing)) < _UNEXPLAINED * spread):
            return False
        worst = int(np.nanargmax(np.abs(missing))) if np.any(np.isfinite(missing)) else 0
        if step == _ROUNDS:
            return bool(abs(missing[worst]) > _LEFT * abs(turned[worst]) > 0)
        places = np.linspace(places[worst], places[worst + 1], _SECTIONS)
    return False


def _descent(probe: Probe, size: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the steepest descent in relative units, with the largest step one size; parameters at a bound stay."""
    direction = -gradient * size**2
    held = ((probe.start <= probe.low) & (direction < 0)) | ((probe.start >= probe.high) & (direction > 0))
    direction = np.where(held, 0.0, direction)
    largest = float(np.max(np.abs(direction) / size))
    return direction / largest if largest > 0 and np.isfinite(largest) else np.zeros_like(direction)


def _length(cost: float, slope: float, bend: float) -> float:
    """Return how far to look: twice as far as a parabola, or a straight line down to zero, has its lowest point."""
    lengths = [2 * abs(cost / slope)]
    if bend > 0:
        lengths.append(2 * abs(slope) / bend)
    return min(max(lengths) or 1.0, _LONGEST)
