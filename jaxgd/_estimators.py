"""The functions that a covariance is estimated from, and the factor of the inverse curvature, checked."""

from typing import Any

from jaxgd._checks import check
from jaxgd.squares import SumOfSquares


def estimated(cost: Any, residuals: Any, has_aux: bool, robust: bool | None) -> tuple[Any, Any, bool, bool]:
    """Return the function whose curvature is wanted, and the residuals whose Jacobian stands for that, or None.

    After these come whether the function returns a pair, and whether the covariance is robust.
    """
    if robust is not None:
        check.flag("robust", robust)
    if residuals is None and isinstance(cost, SumOfSquares):
        if robust or (robust is None and not cost.is_linear):
            return cost, None, cost.has_aux, True
        residuals, has_aux = cost.residuals if cost.is_linear else None, cost.has_aux
        return residuals or cost, residuals, has_aux, False
    if not robust:
        return residuals or cost, residuals, has_aux, False
    if residuals is None:
        raise ValueError("robust: expected None or False for a cost whose residuals are not known, got True: pass residuals=.")
    return SumOfSquares(residuals, has_aux=has_aux), None, has_aux, True


def check_scale(scale: Any, n_observations: Any, residuals: Any, *, robust: bool) -> None:
    """Check what multiplies the inverse curvature."""
    if robust and scale is not None:
        raise ValueError(f"scale: expected None with robust=True or a robust loss, got {check.show(scale)}.")
    if scale is not None:
        check.positive("scale", scale)
    if n_observations is not None:
        check.integer("n_observations", n_observations, 1, 2**31 - 1)
        if scale is not None or residuals is not None:
            other = "a scale" if scale is not None else "residuals, which are counted"
            raise ValueError(f"n_observations: expected None beside {other}, got {n_observations}.")
