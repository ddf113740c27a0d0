"""The facts of a printed report, beside its warnings."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxgd import _text
from jaxgd._diagnosis.report import Report
from jaxgd._diagnosis.slopes import Slope
from jaxgd._text import several
from jaxgd._trees import parameters_of

_SHOWN = 12  # parameters whose values and slopes are shown one by one
_ADDS_UP = {
    "mean": "a mean over the rows, as fit wants it",
    "sum": "a sum over the rows; fit wants a mean",
    "neither": "neither a mean nor a sum over the rows; fit wants a mean",
}

__all__ = ["complete", "facts", "several"]


def facts(report: Report, start: Any, arrays: tuple[Any, ...], gradient: np.ndarray) -> list[tuple[str, str]]:
    """Return what there is to know of a problem, pairs of a name and a text."""
    told = [("parameters", f"{_text.plural(report.n_params, 'free number')}; {_shapes('params', parameters_of(start))}")]
    if arrays:
        count = "" if report.n_rows is None else f"{_text.plural(report.n_rows, 'row')}; "
        told.append(("data", count + _shapes("data", arrays[0])))
    told.append(("cost", _text.number(report.cost) + (f", {_ADDS_UP[report.adds_up]}" if report.adds_up else "")))
    largest = float(np.max(np.abs(gradient), initial=0))
    agrees = "" if {"wrong_gradient", "kink"} & set(report.codes) else _agreement(report.slopes)
    told.append(("gradient", f"{largest:.2g} (largest component){agrees}"))
    told += _sizes(report.slopes) + _curvature(report)
    told.append(("time", ", ".join(f"{_time(seconds)} for {name}" for name, seconds in report.seconds.items())))
    return told + list(report.methods.items())


def complete(report: Report, told: list[tuple[str, str]], names: tuple[str, ...], x: np.ndarray, gradient: np.ndarray) -> Report:
    """Return a report with its facts, and a row for each parameter where they are few."""
    shown = zip(names, x, gradient, strict=True) if len(names) <= _SHOWN else ()
    rows = tuple(_text.Row(name, f"{value:.6g}, slope {slope + 0.0:.4g}") for name, value, slope in shown)
    return dataclasses.replace(report, facts=tuple(told), rows=rows)


def _shapes(name: str, tree: Any) -> str:
    """Return the shapes and dtypes of the arrays in a tree."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return several([f"{name}{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape) or ''}" for path, leaf in paths])


def _agreement(slopes: tuple[Slope, ...]) -> str:
    """Return how well the gradient agrees with differences of the cost, in words."""
    known = [one for one in slopes if np.isfinite(one.error) and np.isfinite(one.difference)]
    largest = max((abs(one.slope * one.size) for one in known), default=0.0)
    if not largest:
        return ""
    off = max(abs(one.slope - one.difference) * one.size for one in known) / largest
    return f", which differences of the cost confirm to {max(off, 1e-12):.0e}"


def _sizes(slopes: tuple[Slope, ...]) -> list[tuple[str, str]]:
    """Return the range of the sizes of parameters, where they differ."""
    found = [one.size for one in slopes]
    if len(found) < 2 or max(found) < 100 * min(found):
        return []
    return [("sizes", f"from {min(found):.1g} to {max(found):.1g}, to which minimize and relative steps adapt")]


def _time(seconds: float) -> str:
    return _text.duration(seconds) if seconds >= 1e-7 else "less than 0.1 µs"


def _curvature(report: Report) -> list[tuple[str, str]]:
    """Return the conditioning and the negative curvatures in words."""
    told = []
    if np.isfinite(report.scaled_condition):
        told.append(f"condition {report.scaled_condition:.2g}, in the parameters' own units {report.condition:.2g}")
    if report.n_negative:
        told.append(f"negative in {_text.plural(report.n_negative, 'direction')}: the start is not near a minimum")
    return [("curvature", "; ".join(told))] if told else []
