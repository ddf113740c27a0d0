"""Conditioning, and its reasons: flat directions, columns far from zero or of different sizes, and too few digits.

Each is a finding where it does harm. To `TrustRegion` the units of parameters make no difference, and in 64 bits a condition of a
million is harmless; in 32 bits it leaves the parameters two digits. First-order methods, those of `fit` among them, take about
as many steps as the condition. So a reason is told where it harms the method that would run. It is the reason where the condition
improves once it is taken away.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxgd._diagnosis import columns
from jaxgd._diagnosis.columns import Column, Place
from jaxgd._diagnosis.curvature import Curvature, flat, flat_names
from jaxgd._diagnosis.findings import Finding
from jaxgd._diagnosis.probe import Probe
from jaxgd._diagnosis.second import SecondDerivatives
from jaxgd._text import several

_DIGITS = 0.1  # eps times the condition; a line through years in 32 bits keeps five digits at 0.02, and two at 0.4
_SLOW = 100.0  # a condition below which first-order methods do well
_BETTER = 10.0  # by which the condition has to improve
_SCALES_BETTER = 100.0  # the same for sizes of columns: a hundred times the steps
_MATTERS = 3.0  # by which it has to be worse without one column
_MANY = 8  # columns, whose part in it is found one by one


class View(NamedTuple):
    """The cost in one precision: its second derivatives, and at the start the curvature, the sizes of parameters and the noise."""

    probe: Probe
    second: SecondDerivatives
    curvature: Curvature
    size: np.ndarray
    noise: float


class Conditioning(NamedTuple):
    """The findings, the flat directions in words, and facts about what does no harm to the method that would run."""

    findings: list[Finding]
    flat: list[str]
    facts: list[tuple[str, str]]


def conditioning(
    view: View,
    in_64_bits: Callable[[Callable[[View], Any]], Any],
    names: tuple[str, ...],
    used: np.ndarray,
    found: dict[Place, Column],
    *,
    first_order: bool,
    in_batches: bool,
    n_looks: float,
) -> Conditioning:
    """Return what the curvature at the start says, and what is to be done about it.

    `in_64_bits(look)` returns what a look at the view in 64 bits shows, None where there is none. It is asked where the curvature
    in fewer bits may be rounding. At most `n_looks` further Hessians are looked at.
    """
    eps, values = float(np.max(view.probe.eps)), view.curvature.values
    is_narrow = eps > float(np.finfo(np.float64).eps)
    judged = None
    if is_narrow and values.size and np.min(np.abs(values)) <= max(view.curvature.rounding, eps / _DIGITS):
        judged = in_64_bits(_judged)
    judged, flat_ones = judged or _judged(view)
    texts = flat_names(flat_ones, names, view.size) if flat_ones.size else []
    told, facts = [], []
    if texts and in_batches:
        facts.append(("flat", f"{_count(flat_ones.shape[1])}, which is no harm to first-order methods"))
    elif texts:
        text = f"The cost is flat in {_count(flat_ones.shape[1])}: {'; '.join(texts[:4])}{'; ...' if len(texts) > 4 else ''}"
        told.append(Finding("degenerate", text, "fix one of these parameters, or add a penalty such as 1e-3 * sum(params**2)"))
    known = judged.values.size and judged.negative == 0 and np.min(judged.values) > judged.rounding
    blurred = bool(is_narrow and known and eps * judged.scaled > _DIGITS)
    offset = _uncentred(view, used, found, n_looks) if n_looks >= 1 else None
    scaled = _scales(view, used, found) if n_looks >= 1 else None
    if offset and (first_order or blurred):
        told.append(Finding("uncentred", *offset[:2]))
    if scaled and first_order:
        told.append(Finding("column_scales", *scaled[:2]))
    cures = [one[2] for one in (offset, scaled) if one]
    if cures and not told and not first_order:
        facts.append(("in fit", f"{'; '.join(cures)}, or steps are slow"))
    if blurred and not offset:
        text = f"The curvature at the start has the condition {judged.scaled:.1g}: 32 bits leave the parameters few digits"
        told.append(Finding("ill_conditioned", text, "pass dtype='float64'"))
    return Conditioning(told, texts, facts)


def _judged(view: View) -> tuple[Curvature, np.ndarray]:
    """Return the curvature and the flat directions, in columns."""
    return view.curvature, flat(view.probe, view.curvature, view.size, view.noise)


def _count(number: int) -> str:
    return "one direction" if number == 1 else f"{number} directions"


def _measure(found: Curvature) -> float:
    """Return the condition, or the largest curvature where the condition is unknown or means little."""
    known = found.values.size and found.negative == 0 and np.isfinite(found.scaled)
    return found.scaled if known else found.largest


def _uncentred(view: View, used: np.ndarray, found: dict[Place, Column], n_looks: float) -> tuple[str, str, str] | None:
    """Return which columns are far from zero, to the harm of the condition.

    The answer is a text, the cure, and the cure with the names of the columns.
    """
    second, now = view.second, view.curvature
    far = {place: one for place, one in found.items() if one.offset > columns.OFFSET}
    if not far or now.scaled < _SLOW:
        return None

    def measured(without: Place | None = None) -> float:
        centred = {place: (one.mean, 1.0) for place, one in far.items() if place != without}
        return _measure(second.curvature(used, *columns.changed(second.arrays, centred)))

    best = measured()
    if not _measure(now) > _BETTER * best:
        return None
    if 1 < len(far) <= min(_MANY, n_looks):
        far = {place: one for place, one in far.items() if measured(place) > _MATTERS * best} or far
    told = several([f"{one.name} (mean {one.mean:.4g}, standard deviation {one.std:.2g})" for one in far.values()])
    text = f"{told} {'is' if len(far) == 1 else 'are'} far from centred, which ties parameters together"
    cure = "subtract its mean" if len(far) == 1 else "subtract the mean from each"
    return f"C{text[1:]}" if text.startswith("c") else text, cure, f"centre {several([one.name for one in far.values()])}"


def _scales(view: View, used: np.ndarray, found: dict[Place, Column]) -> tuple[str, str, str] | None:
    """Return which columns differ in size, to the harm of the condition in the parameters' own units, as `_uncentred` does."""
    second, now = view.second, view.curvature
    sized = {place: one for place, one in found.items() if one.size > 0 and one.dtype.startswith(("float", "bfloat"))}
    if len(sized) < 2:
        return None
    small, large = min(sized.values(), key=_spread), max(sized.values(), key=_spread)
    if large.spread <= columns.SIZES * small.spread:
        return None
    scaled = second.curvature(used, *columns.changed(second.arrays, {place: (0.0, one.size) for place, one in sized.items()}))
    before, after = (one.condition if np.isfinite(now.condition) else one.largest for one in (now, scaled))
    if not (before > _SLOW**2 and before > _SCALES_BETTER * after):
        return None
    sizes = f"{small.name} is about {small.spread:.1g}, {large.name} about {large.spread:.1g}"
    cure = "divide each column by its standard deviation"
    return f"Columns differ in size: {sizes}", cure, f"{cure} ({sizes})"


def _spread(column: Column) -> float:
    return column.spread


def coarse(found: dict[Place, Column]) -> list[Finding]:
    """Return which columns lose digits that matter in 32 bits."""
    lost = [one for one in found.values() if not one.constant and one.rounding > columns.COARSE * one.std]
    if not lost:
        return []
    names = several([f"{one.name} (steps of {one.rounding * np.sqrt(12):.1g}, standard deviation {one.std:.1g})" for one in lost])
    cure = "subtract an offset before the data are rounded, or pass dtype='float64'"
    return [Finding("coarse_data", f"32 bits are coarse for {names}", cure)]
