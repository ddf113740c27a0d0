"""check(): what there is to know of a fit before it begins, and why it may go wrong."""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgd._checks import check as checks
from jaxgd._checks import check_trees
from jaxgd._diagnosis.examination import Prepared, examined
from jaxgd._diagnosis.probe import Probe
from jaxgd._diagnosis.report import Report
from jaxgd._objective import extras
from jaxgd._objective.evaluation import value_and_gradient
from jaxgd._problem import open_feed, precision, problem, table
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_traced, number_names, parameters_of
from jaxgd.data.layout import check_devices


@on_automatic_axes
def check(
    cost: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
    batch_size: int | None = None,
    bounds: Any = None,
    fixed: Any = None,
    key: Any = None,
    cost_state: Any = None,
    dtype: Any = None,
    has_aux: bool = False,
    jit: bool = True,
) -> Report:
    """Report, before anything is minimised, what may keep a fit from working.

    Pass what was passed to `minimize` or `fit`. The cost is evaluated at the start and near it, some dozen times for each
    parameter; nothing is minimised.

    Args:
        cost: as in `minimize` or `fit`.
        start: as in `minimize`; a random one is drawn once.
        data: as in `minimize` or `fit`, but for chunks and streams, of which a table of some rows can be passed.
        batch_size: that of `fit`, >= 1. Then data have rows, and what slows first-order methods down is a warning, too. None looks
            at a fit by `minimize`.
        bounds: as in `minimize`.
        fixed: as in `minimize`.
        key: as in `minimize` or `fit`; a cost that is random is looked at with one key.
        cost_state: as in `minimize` or `fit`.
        dtype: as in `minimize`.
        has_aux: as in `minimize`.
        jit: as in `minimize`.

    Returns:
        A `Report`. Its `warnings` are possible reasons for a bad fit, each with its cure; `ok` is True where there are none.

    Raises:
        TypeError, ValueError: for a bad argument, and for a cost that can't be traced or returns no real scalar, as in `minimize`.
            Numbers that are not finite are reported instead.

    | code | found |
    |---|---|
    | `nonfinite_data`, `nonfinite_cost`, `nonfinite_gradient` | NaN or infinity at the start, and where |
    | `wrong_gradient` | a derivative that differs from differences of the cost: a custom rule, a `stop_gradient` |
    | `steps` | a cost that changes in jumps: rounding, comparisons, casts to integers |
    | `unused` | a parameter without influence on the cost |
    | `saturated` | no slope around the start, but further off |
    | `saddle` | no slope at the start, though the cost falls nearby |
    | `kink` | a slope that turns at once, at the start or on the way down, which stops Newton's methods short |
    | `nonfinite_hessian` | second derivatives that are not finite, which stop `TrustRegion` at the start |
    | `at_bound` | a start at a bound beyond which the cost falls |
    | `degenerate` | directions in which the cost is flat, by the names of their parameters |
    | `coarse_data` | columns whose differences 32 bits blur |
    | `uncentred`, `column_scales` | columns far from zero, or of very different sizes, where the method or the precision suffers |
    | `ill_conditioned` | a curvature that leaves the parameters no digits in 32 bits |
    | `sum_over_rows`, `not_additive` | with a `batch_size`, a cost that is no mean over the rows |

    Slopes are compared with differences of the cost at four distances, of which those with the least error count (P. E. Gill,
    W. Murray, M. H. Wright, Practical Optimization, 1981, section 8.6), down to the noise of the cost, which is measured
    (J. J. Moré, S. M. Wild, SIAM J. Sci. Comput. 33, 2011). A gradient that is off by more than 1 % counts as wrong. Of more than
    200 parameters each array is compared along one random direction, which does not see a single wrong number among thousands, and
    the curvature is known from some products with the Hessian.

    A report without a warning is no promise: it has seen the start and what is near it.

    >>> import jax.numpy as jnp, jaxgd
    >>> report = jaxgd.check(lambda p: (p["a"] + p["b"] - 3) ** 2 + p["c"] ** 2, {"a": 0.0, "b": 0.0, "c": 1.0})
    >>> report.codes
    ('degenerate',)
    >>> print(report.warnings[0].text)
    The cost is flat in one direction: only params['a'] + params['b'] matters
    """
    began = time.perf_counter()
    checks.options(has_aux=has_aux, jit=jit)
    takes = extras.checked(cost, ("params",) if data is None else ("params", "data"))
    key = checks.random_key(key)
    options: dict[str, Any] = {"takes": takes, "batch_size": batch_size, "key": key, "cost_state": cost_state}
    options |= {"fixed": fixed, "bounds": bounds, "has_aux": has_aux, "jit": jit}
    prepared = functools.partial(_prepared, cost, start, data, **options)
    with precision(dtype) as to, np.errstate(all="ignore"):
        report = examined(prepared(to), functools.partial(_in_64_bits, prepared), data, in_batches=batch_size is not None)
    return report.after(time.perf_counter() - began)


def _prepared(
    cost: Any,
    start: Any,
    data: Any,
    to: Any,
    *,
    takes: tuple[str, ...],
    batch_size: Any,
    key: Any,
    cost_state: Any,
    fixed: Any,
    bounds: Any,
    has_aux: bool,
    jit: bool,
) -> Prepared:
    """Check the arguments as the verbs do, and trace the cost with its gradient."""
    if data is not None and open_feed(data, to) is not None:
        raise TypeError(f"data: expected arrays, got {data}: pass a table of some of its rows.")
    tables: tuple[Any, ...] = ()
    if batch_size is not None:
        arrays, n_rows = table("data", data, to)
        checks.integer("batch_size", batch_size, 1, n_rows, " (the number of rows)")
        tables = (arrays,)
    elif data is not None:
        tables = (check_trees.data_arrays("data", data, to),)
    beside = extras.extras(cost, takes, key, cost_state, to, None)
    given = problem(cost, start, key, fixed, bounds, to, has_aux=has_aux, jit=jit, extras=beside)
    if is_traced(given.params, given.box, beside, tables):
        raise ValueError("check: expected arrays, got values that JAX is tracing: call it outside of jax.jit and the like.")
    tables = given.settled(*tables)
    check_devices("start", given.params, tables)
    evaluate = given.bound(given.trace(value_and_gradient, *tables))
    names = number_names(parameters_of(given.start))
    if given.frozen is not None:
        names = tuple(np.array(names)[given.frozen.places(given.start)].tolist())
    return Prepared(given, tables, Probe(evaluate, given.params, tables, given.box), names)


def _in_64_bits(prepared: Callable[[Any], Prepared], look: Callable[[Prepared], Any]) -> Any:
    """Return what a look at the problem in 64 bits shows; None where that is impossible."""
    try:
        with precision("float64") as to:
            return look(prepared(to))
    except Exception:  # a cost, or a device, may refuse 64 bits in any way
        return None
