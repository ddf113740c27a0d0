"""Parameters without a slope at the start: unused ones, jumps, saturated ones, and saddles.

A slope that is zero here may be another nearby. So the gradient is looked at in three points aside, in which all parameters have
moved. Where it is zero there, too, single parameters are moved far, and where that changes the cost, the place at which it changes
is narrowed down until it jumps, or proves to change little by little.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgd._diagnosis.findings import Finding
from jaxgd._diagnosis.probe import SECONDS, Direction, Probe, told

_ASIDE = (0.3, 0.1), (0.5, 0.5), (0.03, 0.01)  # how far: relative to a parameter, and to the size of one that is zero
_AWAY = ((3.0, 3.0), (10.0, 10.0), (1.0, 1.0)) * 4  # the same, at which nothing of the start is left
_SIGMAS = 10.0  # of the noise, from which on a cost has changed
_JUMP = 100.0  # of the noise: a change within the narrowest interval that is no slope
_SECTIONS = 16  # of the interval in which a cost changes
_EACH = 200  # evaluations to find where
_NEAR = (1e-2, 1e-1)  # of the sizes of parameters, the steps that look for a descent at a saddle
_TRIES = 16  # random ones, or half as many directions of the least curvature
_FAR = (0.0, -1.0, 0.1, 1e-2, 1e-3, 10.0)  # multiples of a parameter
_FURTHER = (1.0, -1.0, 10.0, -10.0, 100.0, -100.0)  # steps, in sizes of a parameter
_FEW, _SHARE = 8, 0.25  # of an array: units of a network that rest are no reason to worry where most of them do not


class Start(NamedTuple):
    """The start: its cost and gradient, the noise of the cost, the sizes and names of the parameters.

    And the `seconds` that an evaluation takes.
    """

    cost: float
    gradient: np.ndarray
    noise: float
    size: np.ndarray
    names: tuple[str, ...]
    seconds: float


class Flat(NamedTuple):
    """The findings, which numbers have no slope around the start, and whether they explain a curvature that is odd."""

    findings: list[Finding]
    dead: np.ndarray
    explains: bool


class Change(NamedTuple):
    """A value of a parameter, or of the largest in an array, at which the cost changes, or jumps."""

    value: float
    jumps: bool


def without_slope(
    probe: Probe,
    found: list[Direction],
    start: Start,
    depends: Callable[[np.ndarray], bool],
    hessian: np.ndarray | None,
    *,
    honest: bool,
) -> Flat:
    """Return what is to be said of parameters without a slope.

    `depends` tells whether the cost may depend on any of some packed numbers, as its trace shows. Where the gradient is not
    `honest` nothing else is asked: a slope that is zero may be wrong, too.
    """
    still = [one for one in found if not np.any(start.gradient[one.places])]
    resting = _without(probe, still, start, _ASIDE)
    absent = [one for one in resting if not depends(one.places)]
    resting = [one for one in resting if depends(one.places)]
    dead = np.zeros(probe.start.size, bool)
    dead[_places(absent + resting)] = True
    if not honest:
        return Flat([_unused(probe, start, absent)] if absent else [], dead, True)
    unseen, jumping, saturated = _sorted(probe, resting, start)
    findings, rest = [], _mostly(probe, _places([one for one, _ in saturated]))
    if rest.size and not jumping:  # what one saturated parameter hides is not unused
        rest = np.union1d(rest, _places(unseen))
        unseen = []
    if absent or (unseen and not jumping):
        findings.append(_unused(probe, start, absent + unseen))
    if jumping:
        text = f"The cost changes with {told(probe, start.names, _places(jumping))} in jumps alone"
        cure = "look for a rounding, a comparison or a cast to integers in the cost, and make it smooth; or fix the parameter"
        findings.append(Finding("steps", text, cure))
    elif rest.size:
        near = [f"{one.name} = {change.value:.3g}" for one, change in saturated if change is not None]
        where = f", though there is one near {near[0]}" if len(near) == 1 else ""
        text = f"There is no slope along {told(probe, start.names, rest)} at the start, nor around it{where}"
        findings.append(Finding("saturated", text, "start where the cost changes"))
    saddle = _saddle(probe, [one for one in found if not np.any(dead[one.places])], start, hessian)
    return Flat(findings + saddle, dead, bool(saddle or jumping))


def _sorted(
    probe: Probe, resting: list[Direction], start: Start
) -> tuple[list[Direction], list[Direction], list[tuple[Direction, Change | None]]]:
    """Return directions without a slope around the start: along which the cost never changes, jumps, or changes further off."""
    for_ever = {one.name for one in _without(probe, resting, start, _AWAY)}
    unseen, jumping, saturated = [], [], []
    most = max(4, SECONDS / (_EACH * max(start.seconds, 1e-9)))
    for k, one in enumerate(resting):
        reached = _change(probe, one, start) if k < most else None
        if reached is None and one.name in for_ever:
            unseen.append(one)
        elif reached is not None and reached.jumps:
            jumping.append(one)
        else:
            saturated.append((one, reached))
    return unseen, jumping, saturated


def _unused(probe: Probe, start: Start, found: list[Direction]) -> Finding:
    text = f"The cost does not depend on {told(probe, start.names, _places(found))}"
    return Finding("unused", text, "use it in the cost, or fix it; the weight of a column of zeros is such a parameter")


def _places(found: list[Direction]) -> np.ndarray:
    return np.concatenate([np.zeros(0, int), *(one.places for one in found)])


def _mostly(probe: Probe, places: np.ndarray) -> np.ndarray:
    """Return those of some packed numbers that are a part of their arrays that counts."""
    marked, kept, first = np.zeros(probe.start.size, bool), np.zeros(probe.start.size, bool), 0
    marked[places] = True
    for count in probe.counts:
        here = slice(first, first + count)
        kept[here] = marked[here] & (count <= _FEW or np.mean(marked[here]) >= _SHARE)
        first += count
    return np.flatnonzero(kept)


def _without(probe: Probe, still: list[Direction], start: Start, how_far: tuple[tuple[float, float], ...]) -> list[Direction]:
    """Return the directions along which there is no slope in some other points, either."""
    if not still:
        return []
    random = np.random.default_rng(2)
    units = np.abs(probe.start)
    rows = [random.uniform(-1, 1, units.size) * np.where(units == 0, zero * start.size, share * units) for share, zero in how_far]
    costs, gradients = probe(probe.aside(np.stack(rows)))
    here = np.isfinite(costs) & np.all(np.isfinite(gradients), axis=1)
    return [one for one in still if not np.any(gradients[here][:, one.places])] if np.any(here) else []


def _change(probe: Probe, one: Direction, start: Start) -> Change | None:
    """Return where the cost changes along a direction, at the nearest place that is found; None where it does not."""
    part = np.zeros_like(probe.start)
    part[one.places] = probe.start[one.places]
    moves = np.stack([(factor - 1) * part for factor in _FAR] + [factor * one.move for factor in _FURTHER])
    ends = probe.within(probe.start + moves)
    costs = probe.costs(ends)
    changed = np.isfinite(costs) & (np.abs(costs - start.cost) > _SIGMAS * start.noise)
    if not np.any(changed):
        return None
    nearest = int(np.argmin(np.where(changed, np.max(np.abs(ends - probe.start), axis=1), np.inf)))
    far, low, high, at_high = ends[nearest] - probe.start, 0.0, 1.0, float(costs[nearest])
    while high - low > 2 * float(np.max(probe.eps)) * high:
        shares = np.linspace(low, high, _SECTIONS + 2)
        inside = probe.costs(probe.within(probe.start + shares[1:-1, None] * far))
        over = ~(np.abs(inside - start.cost) <= _SIGMAS * start.noise)
        first = int(np.argmax(over)) if np.any(over) else _SECTIONS
        low, high = float(shares[first]), float(shares[first + 1])
        at_high = float(inside[first]) if first < _SECTIONS else at_high
    largest = one.places[np.argmax(np.abs(far[one.places]))]
    return Change(float((probe.start + high * far)[largest]), not abs(at_high - start.cost) <= _JUMP * start.noise)


def _saddle(probe: Probe, found: list[Direction], start: Start, hessian: np.ndarray | None) -> list[Finding]:
    """Return whether the cost falls along parameters that have a slope nearby, and none at the start."""
    places = _places([one for one in found if np.sum(np.abs(one.move * start.gradient)) <= 16 * start.noise])
    if not places.size:
        return []
    size = start.size[places]
    if hessian is not None and np.all(np.isfinite(hessian)):
        tries = np.linalg.eigh(hessian[np.ix_(places, places)] * size[:, None] * size)[1].T[: _TRIES // 2]
    else:
        tries = np.random.default_rng(3).normal(size=(_TRIES, places.size))
    tries = tries / np.max(np.abs(tries), axis=1, keepdims=True) * size
    moves = np.zeros((len(_NEAR), 2, len(tries), probe.start.size))
    for k, near in enumerate(_NEAR):
        moves[k][..., places] = near * np.stack([tries, -tries])
    costs = probe.costs(probe.within(probe.start + moves.reshape(-1, probe.start.size)))
    if not np.any(costs < start.cost - 3 * _SIGMAS * start.noise):
        return []
    text = f"The slope along {told(probe, start.names, places)} is zero at the start, a saddle or a maximum: the cost falls nearby"
    return [Finding("saddle", text, "start elsewhere, for instance at random numbers (jaxgd.normal)")]
