"""minimize_many(): thousands of independent fits in one program."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check, check_trees
from jaxgd._chosen import with_method
from jaxgd._compile.program import program_for
from jaxgd._constrained import Functions, constraints_of_many
from jaxgd._frozen import FrozenParameters
from jaxgd._marks import Beside, marks
from jaxgd._objective import extras
from jaxgd._objective.evaluation import empty_point, value_and_gradient
from jaxgd._objective.half_precision import narrowed, widened
from jaxgd._objective.implicit import CostAtMinimum, Found, at_minimum
from jaxgd._objective.kkt import active_at
from jaxgd._objective.penalised import penalty_of_each, slopes_of_each
from jaxgd._outcome import export
from jaxgd._problem import (
    Problem,
    check_choices,
    first_of,
    is_function,
    parameters,
    precision,
    problem,
    random_starts,
    settled,
    start_point,
)
from jaxgd._run import crews, many
from jaxgd._run.state import RunSpec
from jaxgd._shards import device_by_device
from jaxgd._trees import detached, is_parameter, is_staged, is_traced, parameters_of, replaced, with_fields
from jaxgd.bounds import Bounds, of_many
from jaxgd.data.memory import is_cpu
from jaxgd.data.source import AllRows
from jaxgd.methods.adapters import with_known_traits
from jaxgd.result import Best, Result, Status


@device_by_device
def minimize_many(
    cost: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
    shared: Any = None,
    method: Any = None,
    equality: Callable[..., Any] | None = None,
    inequality: Callable[..., Any] | None = None,
    bounds: Any = None,
    fixed: Any = None,
    transform: Any = None,
    penalty: Any = None,
    stop: Any = None,
    max_steps: int | None = None,
    key: Any = None,
    dtype: Any = None,
    has_aux: bool = False,
    progress: bool | str = False,
) -> Result:
    """Minimise one cost for many data, starts, bounds or methods: independent fits in one compiled program.

    The fits run side by side in a constant number of lanes, and a lane whose fit has ended begins the next one: a slow fit holds no
    other one up. Small fits on a CPU run one after the other, which is faster there. The numbers of a fit do not depend on how many
    others there are.

    Args:
        cost: cost(params, data, shared), as in `minimize`, with the data of one fit; without `data` or `shared` it gets one
            argument less.
        start: where to begin, as in `minimize`: the same for all fits, or, if every array in it has one row for each fit, another
            for each; or a function key -> params, which is called with a key for each.
        data: any pytree of arrays of equal leading length, a row for each fit, or None where the starts differ.
        shared: any pytree of arrays that all fits get as they are, such as the places at which spectra were measured.
        method: as in `minimize`; a number of it may be an array with a row for each fit.
        equality: as in `minimize`, equality(params, data, shared), with the arguments of the cost.
        inequality: as in `minimize`, likewise.
        bounds: as in `minimize`; an array may have one dimension more than its parameter, with a row for each fit.
        fixed: as in `minimize`, the same for all fits. The values are those of the starts.
        transform: as in `minimize`, the same for all fits.
        penalty: as in `minimize`; a number of it may be an array with a row for each fit.
        stop: as in `minimize`.
        max_steps: as in `minimize`, for each fit.
        key: the random key of random starts.
        dtype: as in `minimize`.
        has_aux: as in `minimize`; `aux` of the result has a leading axis.
        progress: whether to show a bar of the fits that have ended (needs tqdm).

    Returns:
        A `Result` whose arrays have a leading axis, a row for each fit; `status` is an array of `Status`, and `str` counts them.
        `jax.tree.map(lambda leaf: leaf[k], result.params)` are the parameters of fit k. After an interrupt from the keyboard the
        fits that have not ended are `Status.INTERRUPTED`, those that have not begun with an infinite cost.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    Derivatives are those of `minimize`, fit by fit. A start with as many rows as there are fits is taken as one row for each; to
    begin n fits of n parameters at the same point, repeat that: `numpy.tile(start, (n, 1))`.

    >>> import jaxgd, jax.numpy as jnp, numpy as np
    >>> x = np.linspace(0, 1, 20)
    >>> slopes = np.linspace(1, 3, 1000)
    >>> def cost(slope, y, x):
    ...     return jnp.mean((slope * x - y) ** 2)
    >>> result = jaxgd.minimize_many(cost, 0.0, slopes[:, None] * x, shared=x)
    >>> result.params.shape, bool(np.all(result.converged)), bool(np.allclose(result.params, slopes, rtol=1e-5))
    ((1000,), True, True)
    """
    began = time.perf_counter()
    max_steps = check.integer_or_none("max_steps", max_steps, 1, 2**31 - 2)
    check.options(has_aux=has_aux, progress=progress)
    names = ("params", *(("data",) if data is not None else ()), *(("shared",) if shared is not None else ()))
    _check_alone(cost, extras.checked(cost, names))
    key = check.random_key(key)
    check_choices(method, stop, (), all_rows=True)
    constraints = Functions.of(equality, inequality, names, method, stop=(stop, None))
    with precision(dtype) as to:
        tables, count = _tables(data, shared, to)
        start, draws, count = _starts(start, key, to, fixed, count)
        box, boxes_differ = of_many(bounds, parameters_of(start), count)
        first = first_of((box.lower, box.upper)) if boxes_differ and box else bounds
        if transform is not None and boxes_differ:
            raise ValueError("bounds: expected the same for all fits together with transform, got a row for each.")
        penalty, rows_of_penalty = _rows_of(penalty, count)
        free: dict[str, Any] = {"transform": transform, "penalty": penalty}
        given = problem(cost, start, None, fixed, first, to, has_aux=has_aux, jit=True, draws=draws, **free)
        tables = _settled(given, tables, data)
        each = _each(given, tables[0] if data is not None else None, box if boxes_differ else None, count)
        each = each._replace(penalty=penalty_of_each(penalty, given, rows_of_penalty))
        arrays = tables if each.data is None else (first_of(tables[0]), *tables[1:])
        evaluate = given.trace(value_and_gradient, *arrays)
        empty = empty_point(evaluate, given.params, *arrays)
        one_method, rows_of_method = _rows_of(method, count)
        objective, adapted, rules, instead = with_method(given, evaluate, given.trace, arrays, one_method, stop, constraints)
        adapted = with_known_traits(adapted, empty, given.box)
        spec = RunSpec(
            empty=empty,
            method=adapted,
            rules=rules,
            source=AllRows(arrays),
            bounds=given.box,
            n_epochs=np.int32((max_steps or adapted.traits.default_max_steps) + 1),  # the evaluation of the start is one more
            returns_current=True,
            penalty=given.penalty,
        )
        if rows_of_method is not None:
            prepared = jax.vmap(lambda rows: jax.tree.leaves(given.prepared(rows_of_method(rows), stop, 1, all_rows=True)[0]))
            each = each._replace(method=jax.tree.unflatten(jax.tree.structure(adapted), prepared(rows_of_method.rows)))
        fits = many.ManySpec(spec, each, np.int32(count), _width(evaluate, arrays), keeps_ends=True)
        ends = crews.run(detached(fits), detached(objective), progress)
        found = constraints_of_many(ends, detached(objective.constraints), detached(fits))
        result = _result(ends, given, fits, evaluate, box, (objective.constraints, found))
        result = with_fields(result, method=instead, constraints=found)
    result = export(result)
    return result if is_traced(result.code) else with_fields(result, seconds=time.perf_counter() - began)


def _check_alone(cost: Any, names: tuple[str, ...]) -> None:
    """Check that a cost needs nothing that goes from step to step."""
    for name in names:
        if extras.needs(cost, name):
            raise ValueError(f"cost: expected none that needs a parameter {name}, which many fits do not have.")


def _tables(data: Any, shared: Any, dtype: Any) -> tuple[tuple[Any, ...], int | None]:
    """Return the checked data and what is shared, and the number of fits as far as the data tell it."""
    tables = [check_trees.data_arrays(name, one, dtype) for name, one in (("data", data), ("shared", shared)) if one is not None]
    return tuple(tables), None if data is None else check_trees.rows("data", tables[0])


def _starts(start: Any, key: Any, dtype: Any, fixed: Any, count: int | None) -> tuple[Any, Any, int]:
    """Return the checked start of the first fit, those of all or None, and the number of fits."""
    if is_function(start):
        if count is None:
            raise ValueError("data: expected the data of the fits, whose number a random start does not tell, got None.")
        draws = random_starts(start, key, count, dtype, fixed) if count > 1 else None
    else:
        draws = parameters("start", start, dtype, fixed)
        lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(draws) if is_parameter(leaf)}
        if count is None and (len(lengths) > 1 or None in lengths):
            raise ValueError("start: expected arrays with one row for each fit, equally many, where no data are given.")
        if lengths != {count} and count is not None:
            return draws, None, count
        count = lengths.pop()
    first = start_point(start, key, dtype, fixed) if draws is None else first_of(draws)
    return first, draws, int(count)  # type: ignore[arg-type]


def _settled(given: Problem, tables: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    """Return the tables with their 64-bit integers on the device."""

    def sample(tables: Any) -> Any:
        return tables if data is None else (first_of(tables[0]), *tables[1:])

    def make(tables: Any, *, jit: bool) -> Any:
        return given.trace(value_and_gradient, *tables, jit=jit)

    return settled(make, tables, jit=True, sample=sample, n_rows=1)[0] if tables else ()


def _each(given: Problem, data: Any, box: Bounds | None, count: int) -> many.Each:
    """Return the arguments that differ from fit to fit, their starts moved into their boxes."""
    frozen = None
    if given.draws is None:
        params = jax.tree.map(lambda leaf: _repeated(leaf, count), given.params)
    else:
        params = given.free_of_each(parameters_of(given.draws))
        frozen = None if given.frozen is None else given.frozen.values_of(given.draws)
    if box is not None:
        box = Bounds(*(given.free_of_each(widened(side) if given.types else side) for side in (box.lower, box.upper)))
        params = box.project(params)
    elif given.box is not None:
        params = jax.vmap(given.box.project)(params)
    each = many.Each(params, data, box, frozen)
    return jax.tree.map(jnp.asarray, each) if is_staged() or is_traced(each) else each


def _repeated(leaf: Any, count: int) -> Any:
    """Return an array with a leading axis, along which it is the same."""
    return (np if isinstance(leaf, np.ndarray) else jnp).broadcast_to(leaf, (count, *leaf.shape))


class _Rows(NamedTuple):
    """A method or a penalty with numbers that have a row for each fit; it returns that of one fit."""

    leaves: list[Any]
    structure: Any
    places: tuple[int, ...]

    @property
    def rows(self) -> list[Any]:
        """The numbers that differ."""
        return [self.leaves[k] for k in self.places]

    def __call__(self, rows: list[Any]) -> Any:
        return self.structure.unflatten(replaced(self.leaves, self.places, rows))


def _rows_of(one: Any, count: int) -> tuple[Any, _Rows | None]:
    """Return the method, or the penalty, of the first fit, and those of all; None where they are the same."""
    leaves, structure = jax.tree.flatten(one)
    places = tuple(k for k, leaf in enumerate(leaves) if np.ndim(leaf) and np.shape(leaf)[0] == count)
    if not places:
        return one, None
    rows = _Rows(leaves, structure, places)
    return rows([leaf[0] for leaf in rows.rows]), rows


def _width(evaluate: Any, arrays: Any) -> int:
    """Return the number of lanes, a power of two: it depends on the shapes of one fit alone, and so do the bits of each."""
    numbers = max(getattr(evaluate, "largest", 0), sum(map(np.size, jax.tree.leaves(arrays))))
    most = many.FITS if is_cpu() else many.FITS_ON_DEVICES
    return 2 ** int(np.log2(many.width(most, numbers)))


def _result(ends: many.Ends, given: Problem, fits: many.ManySpec, evaluate: Any, box: Bounds | None, constraints: Any) -> Result:
    """Return the result of all fits, with the derivatives of each, in all parameters."""
    details: Any = ends.details
    found = Found(ends.params, ends.cost, details.gradient, details.aux, details.best.params, details.best.cost)
    found, each = _with_derivatives(found, fits, evaluate, given, constraints), fits.each
    if given.penalty is not None:
        slopes = slopes_of_each(given.penalty, given.box, each, found.params, found.gradient)
        found = found._replace(gradient=slopes)
    params, gradient, best = found.params, found.gradient, found.best_params
    if given.frozen is not None:
        params, best = given.frozen.stacked(params, each.frozen), given.frozen.stacked(best, each.frozen)
        gradient = jax.vmap(given.frozen.gradient)(gradient)
    if given.change is not None:
        params, best = given.change.forward_each(params), given.change.forward_each(best)
    if given.types is not None:
        params, gradient, best = (narrowed(tree, given.types) for tree in (params, gradient, best))
    code, marked = _judged(ends, each.data, given.detached(), params, gradient, box)
    return Result(
        params=params,
        cost=found.cost,
        gradient=gradient,
        best=Best(best, found.best_cost),
        n_steps=details.steps,
        n_epochs=details.steps,
        n_evaluations=ends.evaluations,
        code=code,
        aux=found.aux,
        start_cost=details.start_cost,
        marks=marked,
        gain=details.gain,
    )


def _with_derivatives(found: Found, fits: many.ManySpec, evaluate: Any, given: Problem, constraints: Any) -> Found:
    """Return what was found with its derivatives, fit by fit; of constraints there are the functions and what was found."""
    box = given.box
    if not is_traced(fits, evaluate, box, constraints[0]):
        return found

    def one(found: Found, row: many.Each, at_end: Any) -> Found:
        function = evaluate if row.frozen is None else evaluate.with_values(row.frozen)
        arguments = fits.source.data if row.data is None else (row.data, *fits.source.data[1:])
        function = function if row.penalty is None else with_fields(function, penalty=row.penalty)
        penalty = given.penalty if row.penalty is None else row.penalty
        own = constraints[0] if row.frozen is None or constraints[0] is None else constraints[0].with_values(row.frozen)
        further = {"penalty": penalty, "constraints": active_at(at_end, own, arguments)}
        return at_minimum(found, CostAtMinimum(function, arguments, box if row.box is None else row.box, **further))

    return jax.vmap(one)(found, fits.each._replace(params=None, method=None), constraints[1])


def _judged(ends: many.Ends, data: Any, given: Problem, params: Any, gradient: Any, box: Bounds | None) -> tuple[Any, Any]:
    """Return the codes of all fits and the marks of their parameters."""
    differ, start = given.draws is not None, given.start if given.draws is None else given.draws
    if given.change is not None:
        start = given.change.forward_each(start) if differ else given.change.forward(start)
    start = None if given.penalty is not None else parameters_of(start)
    stacked = box is not None and jax.tree.leaves(box)[0].ndim > jax.tree.leaves(parameters_of(given.start))[0].ndim
    own = {"start": start if differ else None, "box": box if stacked else None}
    shared = {"start": None if differ else start, "box": None if stacked else box}
    steps = ends.details.steps  # type: ignore[union-attr]
    arguments = detached((ends.code, steps, data, parameters_of(params), gradient, own, shared, given.frozen))
    run = _codes_and_marks if is_traced(arguments) else program_for(_codes_and_marks, *arguments)
    return run(*arguments)


def _codes_and_marks(
    code: Any, steps: Any, data: Any, params: Any, gradient: Any, own: Any, shared: Any, frozen: FrozenParameters | None
) -> tuple[Any, Any]:
    """Return the codes, with that of data that are not finite where these are the reason, and the marks.

    Of starts and boxes each fit has its `own`, or all have `shared` ones.
    """
    finite = [
        jnp.all(jnp.isfinite(leaf.reshape(leaf.shape[0], -1)), axis=1) for leaf in jax.tree.leaves(data) if is_parameter(leaf)
    ]
    if finite:
        blamed = (code == Status.DIVERGED.code) & (steps == 0) & ~jnp.all(jnp.stack(finite), axis=0)
        code = jnp.where(blamed, Status.NONFINITE_DATA.code, code)

    def one(params: Any, gradient: Any, n_steps: Any, own: Any) -> Any:
        start, box = (shared[name] if own[name] is None else own[name] for name in ("start", "box"))
        return marks(params, gradient, n_steps, Beside(start, box, frozen, None))

    return code, jax.vmap(one)(params, gradient, steps, own)
