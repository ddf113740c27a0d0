"""The order in which a start is examined: what explains the most comes first, and what it explains is not told again."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgd._derivatives import affords_matrix
from jaxgd._diagnosis import columns, conditioning, flat, path, residuals, rows, slopes, start, summary
from jaxgd._diagnosis.columns import Column, Place
from jaxgd._diagnosis.conditioning import View
from jaxgd._diagnosis.curvature import Curvature
from jaxgd._diagnosis.findings import ORDER, Finding
from jaxgd._diagnosis.probe import SECONDS, Probe, directions, noise, sizes
from jaxgd._diagnosis.report import Report
from jaxgd._diagnosis.second import SecondDerivatives
from jaxgd._diagnosis.slopes import Slope
from jaxgd._frozen import PartialObjective
from jaxgd._problem import Problem
from jaxgd.squares import SumOfSquares


class Prepared(NamedTuple):
    """The problem, its data, the cost with its gradient at any point, and the names of the free numbers."""

    problem: Problem
    arrays: tuple[Any, ...]
    probe: Probe
    names: tuple[str, ...]


class Second(NamedTuple):
    """The second derivatives, None where JAX has none, their time, and the method of `minimize` that follows from them."""

    found: SecondDerivatives | None
    seconds: dict[str, float]
    method: str


class Call(NamedTuple):
    """The rest of what a call tells: its columns, whether rows come in batches, and how to look at it in 64 bits."""

    columns: dict[Place, Column]
    in_batches: bool
    in_64_bits: Callable[[Callable[[Prepared], Any]], Any]


class Around(NamedTuple):
    """The findings around a start at which the cost and its gradient are finite."""

    findings: list[Finding]
    slopes: tuple[Slope, ...] = ()
    curvature: Curvature | None = None
    flat: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def examined(given: Prepared, in_64_bits: Callable[..., Any], raw: Any, *, in_batches: bool) -> Report:
    """Return the report on a problem; `raw` are the data as they came."""
    problem, arrays, probe, names = given
    costs, gradients = probe(probe.start[None])
    cost, gradient = float(costs[0]), gradients[0]
    seconds = probe.seconds()
    lost = functools.partial(residuals.lost, problem, arrays)
    told = start.nonfinite(probe, cost, gradient, problem.frozen, names, seconds, lost)
    found = columns.columns(raw, arrays[0]) if arrays else {}
    second, adds_up, around = second_derivatives(given), None, Around([])
    if not told:
        around = _around(given, Call(found, in_batches, in_64_bits), cost, gradient, second, seconds)
        adds_up = rows.over_rows(problem, arrays[0]) if arrays else None
    told += [*around.findings, *conditioning.coarse(found), *(rows.findings(adds_up) if in_batches else [])]
    curvature = around.curvature or Curvature.unknown(len(names))
    n_rows = rows.n_rows(arrays[0]) if arrays else None
    report = Report(
        warnings=tuple(sorted(_once(told), key=lambda one: ORDER.index(one.code))),
        n_params=len(names),
        n_rows=n_rows,
        cost=cost,
        gradient=_complete(problem, probe.tree(gradient)),
        slopes=around.slopes,
        condition=curvature.condition,
        scaled_condition=curvature.scaled,
        n_negative=curvature.negative,
        flat=around.flat,
        columns=tuple(found.values()),
        adds_up=adds_up,
        seconds={"value and gradient": seconds} | second.seconds,
        methods={"minimize": second.method} | ({"fit": "Automatic(): Adam, at a rate found by a race"} if n_rows else {}),
    )
    facts = [*summary.facts(report, problem.start, arrays, gradient), *around.facts]
    facts += columns.facts(found, arrays[0], finite=bool(np.isfinite(cost))) if arrays else []
    return summary.complete(report, facts, names, probe.start, gradient)


def second_derivatives(given: Prepared) -> Second:
    """Return the second derivatives at the start, their time, and the default method of `minimize` with the reason for it."""
    count, largest = len(given.names), getattr(given.probe.evaluate, "largest", 0)
    as_matrix = affords_matrix(count, largest)
    found = SecondDerivatives.of(given.problem, given.probe, given.arrays, as_matrix=as_matrix)
    if isinstance(found, str):
        return Second(None, {}, f"LBFGS(), since JAX has no second derivatives of the cost: {found}")
    name = "Hessian" if as_matrix else "Hessian product"
    if isinstance(given.problem.cost, SumOfSquares) and given.problem.jit:
        method = f"{'LevenbergMarquardt' if as_matrix else 'GaussNewton'}(), which knows residuals"
    elif as_matrix:
        method = "TrustRegion(), with exact second derivatives, since there are at most 200 parameters"
    elif affords_matrix(count, 0):
        method = f"LBFGS(), since second derivatives of arrays of {largest:.1e} numbers take long"
    else:
        method = "LBFGS(), since there are more than 200 parameters"
    return Second(found, {name: found.seconds()}, method)


def view_of(given: Prepared, second: SecondDerivatives, cost: float, used: np.ndarray, hessian: np.ndarray | None) -> View:
    """Return the cost in its precision, with its curvature at the start for the parameters that are used."""
    size = sizes(given.probe.start, cost, None if hessian is None else np.diagonal(hessian))
    return View(given.probe, second, second.curvature(used), size, noise(given.probe, size, cost))


def _around(given: Prepared, call: Call, cost: float, gradient: np.ndarray, second: Second, seconds: float) -> Around:
    """Return what the cost shows around a start where it is finite."""
    problem, probe, names = given.problem, given.probe, given.names
    hessian = second.found.matrix(probe.start) if second.found is not None and second.found.as_matrix else None
    size = sizes(probe.start, cost, None if hessian is None else np.diagonal(hessian))
    here = flat.Start(cost, gradient, noise(probe, size, cost), size, names, seconds)
    looked_at = directions(probe, names, size, seconds)
    told, at_bound = start.at_bounds(probe, gradient, names)
    facts = [("at a bound", summary.several(at_bound) + ", free to move")] if at_bound else []
    found_slopes: tuple[Slope, ...] = ()
    lying, bent = np.zeros(len(looked_at), bool), np.zeros(len(looked_at), bool)
    if problem.types is None:  # the values of 16 bits change in steps
        compared = slopes.compared(probe, looked_at, cost, gradient, here.noise)
        lying, bent = slopes.wrong(probe, compared), compared.kinked
        found_slopes = slopes.described(looked_at, compared, gradient)
        told += slopes.findings(found_slopes, lying, bent, smooth=not call.in_batches)
    looked_at = [one for one, bad in zip(looked_at, lying | bent, strict=True) if not bad]
    resting = flat.without_slope(probe, looked_at, here, _dependence(probe), hessian, honest=not np.any(lying))
    around = Around(told + resting.findings, found_slopes, facts=tuple(facts))
    if second.found is None or resting.explains or np.any(bent):
        return around
    return _curved(given, call, around, here, second.found, hessian, resting.dead)


def _curved(
    given: Prepared,
    call: Call,
    around: Around,
    here: flat.Start,
    second: SecondDerivatives,
    hessian: np.ndarray | None,
    dead: np.ndarray,
) -> Around:
    """Return what is known around the start, with what the curvature shows."""
    if hessian is not None and not np.all(np.isfinite(hessian)):
        lost = [] if call.in_batches else [start.nonfinite_hessian(hessian, given.names)]
        return around._replace(findings=around.findings + lost)
    seconds, first_order = second.seconds(), call.in_batches or not second.as_matrix
    if seconds < SECONDS / path.EVALUATIONS and (second.as_matrix or not call.in_batches):
        if path.has_kinks(given.probe, here.size, here.cost, here.gradient, second.along):
            return around._replace(findings=around.findings + ([] if call.in_batches else [path.FINDING]))

    def in_wide(judge: Callable[[View], Any]) -> Any:
        return call.in_64_bits(lambda wide: _judged(wide, judge, ~dead))

    view = view_of(given, second, here.cost, ~dead, hessian)
    options = {"first_order": first_order, "in_batches": call.in_batches, "n_looks": SECONDS / seconds}
    judged = conditioning.conditioning(view, in_wide, given.names, ~dead, call.columns, **options)
    return around._replace(
        findings=around.findings + judged.findings,
        curvature=view.curvature,
        flat=tuple(judged.flat),
        facts=(*around.facts, *judged.facts),
    )


def _judged(wide: Prepared, judge: Callable[[View], Any], used: np.ndarray) -> Any:
    """Return a judgement of the problem in 64 bits."""
    costs, _ = wide.probe(wide.probe.start[None])
    second = second_derivatives(wide).found
    if second is None or not np.isfinite(costs[0]):
        return None
    return judge(view_of(wide, second, float(costs[0]), used, second.matrix(wide.probe.start)))


def _dependence(probe: Probe) -> Callable[[np.ndarray], bool]:
    """Return the function that tells whether the cost may depend on any of some packed numbers, as its trace shows."""
    inner = probe.evaluate
    while isinstance(inner, PartialObjective):
        inner = inner.function
    if not hasattr(inner, "depends"):
        return lambda places: True
    paths = jax.tree_util.tree_flatten_with_path(probe.like)[0]
    ends = np.cumsum([leaf.size for _, leaf in paths])

    @functools.cache
    def of_leaf(k: int) -> bool:
        return inner.depends(lambda path: getattr(path[0], "idx", None) == 0 and path[1:] == paths[k][0])[0]

    return lambda places: any(of_leaf(int(k)) for k in np.unique(np.searchsorted(ends, places, side="right")))


def _once(told: list[Finding]) -> list[Finding]:
    """Return findings without those of a code that was there before."""
    return list({one.code: one for one in reversed(told)}.values())


def _complete(problem: Problem, gradient: Any) -> Any:
    """Return the gradient of all parameters, those that are held with zeros."""
    return gradient if problem.frozen is None else problem.frozen.gradient(gradient)
