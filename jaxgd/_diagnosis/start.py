"""The start: where it is not finite, and which parameters lie at a bound."""

from collections.abc import Callable

import numpy as np

from jaxgd import _nonfinite
from jaxgd._diagnosis.findings import Finding
from jaxgd._diagnosis.probe import FEW, SECONDS, Probe
from jaxgd._frozen import FrozenParameters
from jaxgd._text import several
from jaxgd.methods.protocol import Point

_CURES = {
    "nonfinite_data": "correct or remove such rows, or mask them before the cost computes with them",
    "nonfinite_cost": "start where the cost is finite, or give bounds that keep logarithms, roots and divisors in their range",
    "nonfinite_gradient": "avoid roots, norms and divisions at zero, also in the branch that jnp.where does not take",
}
_OTHERS = (lambda x: np.ones_like(x), lambda x: -x, lambda x: 0.5 * np.ones_like(x), lambda x: x + 1)


def nonfinite(
    probe: Probe,
    cost: float,
    gradient: np.ndarray,
    fixed: FrozenParameters | None,
    names: tuple[str, ...],
    seconds: float,
    lost: Callable[[], str] = str,
) -> list[Finding]:
    """Return why the cost or its gradient is not finite at the start; nothing where both are. `lost` tells of residuals."""
    if np.isfinite(cost) and np.all(np.isfinite(gradient)):
        return []
    point = Point(probe.like, np.asarray(cost), probe.tree(gradient))
    found = _nonfinite.cause(point, probe.evaluate, fixed, *probe.arguments)
    if found is None:
        found = _nonfinite.Cause("the cost or its gradient is not finite at the start", False)
    code = "nonfinite_data" if found.in_data else "nonfinite_cost" if not np.isfinite(cost) else "nonfinite_gradient"
    text, count = found.text[0].upper() + found.text[1:], int(np.sum(~np.isfinite(gradient)))
    if code == "nonfinite_gradient" and count > 1:
        text += f" ({count} of {len(names)} derivatives are not finite)"
    if code == "nonfinite_cost":
        text += lost()
        text += _where_finite(probe, names) if len(_OTHERS) * len(names) * seconds < SECONDS else ""
    return [Finding(code, text if code != "nonfinite_data" else found.text, _CURES[code])]


def _where_finite(probe: Probe, names: tuple[str, ...]) -> str:
    """Return, in words, another value of a single parameter at which the cost is finite."""
    if len(names) > FEW:
        return ""
    x, points = probe.start, []
    for other in _OTHERS:
        for k in range(len(names)):
            point = x.copy()
            point[k] = other(x[[k]])[0]
            points.append(point)
    points = probe.within(np.stack(points))
    finite = np.isfinite(probe.costs(points))
    if not np.any(finite):
        return ""
    place = int(np.argmax(finite))
    k = place % len(names)
    return f"; with {names[k]} = {points[place, k]:.4g} instead of {x[k]:.4g} it is finite"


def nonfinite_hessian(hessian: np.ndarray, names: tuple[str, ...]) -> Finding:
    """Return the finding of second derivatives that are not finite where the gradient is."""
    finite = np.isfinite(np.diagonal(hessian))
    finite = np.all(np.isfinite(hessian), axis=1) if np.all(finite) else finite
    lost = [name for name, fine in zip(names, finite, strict=True) if not fine]
    text = f"Second derivatives with respect to {several(lost)} are not finite at the start"
    return Finding("nonfinite_hessian", text, "start elsewhere, or pass method=jaxgd.LBFGS(), which needs the gradient alone")


def at_bounds(probe: Probe, gradient: np.ndarray, names: tuple[str, ...]) -> tuple[list[Finding], list[str]]:
    """Return which parameters a bound holds back at the start, and which lie at one without being held."""
    low, high = probe.start <= probe.low, probe.start >= probe.high
    low, high = low & (probe.low < probe.high), high & (probe.low < probe.high)  # equal ones hold a parameter on purpose
    held = (low & (gradient > 0)) | (high & (gradient < 0))
    others = [name for name, here, back in zip(names, low | high, held, strict=True) if here and not back]
    told = [name for name, back in zip(names, held, strict=True) if back]
    if not told:
        return [], others
    text = f"{several(told)} start{'s' if len(told) == 1 else ''} at a bound beyond which the cost falls, and can't move at first"
    return [Finding("at_bound", text, "widen that bound, or start inside if the minimum may lie there")], others
