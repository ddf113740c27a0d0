"""minimize(): a scalar cost, all rows in every step."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxgd import _nonfinite
from jaxgd._checks import check, check_trees
from jaxgd._chunked import ChunkedCost, check_chunked
from jaxgd._compile.program import program_for
from jaxgd._objective import extras
from jaxgd._objective.derivatives import NoDerivativesError
from jaxgd._objective.evaluation import empty_point, hessian, value_and_gradient
from jaxgd._problem import Problem, check_choices, completed, open_feed, precision, problem, told
from jaxgd._run import many, report
from jaxgd._run.driver import Run, run_of_epochs
from jaxgd._run.objective import Objective
from jaxgd._run.options import RunOptions
from jaxgd._run.progress import Callback
from jaxgd._run.saved import Call, Saved
from jaxgd._run.state import RunSpec
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_traced, with_fields
from jaxgd.checkpoint import Checkpoint
from jaxgd.data.feed import Feed
from jaxgd.data.layout import alongside, check_devices
from jaxgd.data.source import AllRows
from jaxgd.methods.adapters import with_known_traits
from jaxgd.methods.protocol import Method, Point
from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.methods.trust_region import TrustRegion
from jaxgd.result import Result, Starts, Status

_LARGE = 200  # parameters, above which a Hessian costs more than it brings
_CURE = "leave the method out, or pass LBFGS(), which needs the gradient alone"
_DEAR = 2**28  # numbers that a Hessian computes, about a quarter of a second, above which the same holds


@on_automatic_axes
def minimize(
    cost: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
    method: Any = None,
    bounds: Any = None,
    fixed: Any = None,
    stop: Any = None,
    max_steps: int | None = None,
    key: Any = None,
    cost_state: Any = None,
    resample_every: int | None = None,
    n_starts: int = 1,
    dtype: Any = None,
    history: Any = None,
    has_aux: bool = False,
    callback: Callback | Sequence[Callback] | None = None,
    progress: bool | str = False,
    resume: Any = None,
    checkpoint: Checkpoint | None = None,
    jit: bool = True,
) -> Result:
    """Minimise a scalar cost; where data are given, all of them are used in every step.

    The run is one compiled program whose loop evaluates the cost and its gradient once a tick. It is found again by the structure
    of the cost: a fresh lambda with the same arithmetic, other numbers closed over or computed from those, other data of the same
    shapes, or another learning rate compile nothing.

    Args:
        cost: cost(params), or cost(params, data) where data are given, written with `jax.numpy`; returns a real scalar, or with
            `has_aux` a pair (scalar, anything).
        start: where to begin: a pytree of numbers or arrays (a list of numbers is an array, integers become floats), or a function
            key -> params, such as `jaxgd.normal(shape)`. Other leaves are no parameters: the cost gets them as they are, and
            bounds, rates and derivatives pass them by. These are None, functions, truth values, random keys, integers and anything
            else that is `fixed`, and the plain numbers in Equinox's own layers. So a model of Equinox or a state of Flax NNX comes
            back as one. Arrays of 16 bits are moved in float32, with all that the method remembers, and cast wherever the cost is
            evaluated.
        data: any pytree of arrays, or None. Values of which NumPy would drop a mask, a unit or a missing entry are refused. Without
            64 bits, integer columns of 64 become floats where the cost's arithmetic could overflow, and a column whose values 32
            bits can't tell apart is refused. Arrays that are split over devices stay there, see `jaxgd.data.shard`. A cost that is
            a mean or a sum over rows also takes `jaxgd.data.Chunks` of what is larger than the memory, and a `jaxgd.data.Stream`.
        method: a method of jaxgd, such as `Adam(0.01)`, or any Optax transformation as it is. None is `TrustRegion()` for up to 200
            free parameters, and `LBFGS()` for more, or where the parameters times the largest array that the cost computes are
            more than 2**28 numbers, since a Hessian takes too long then, or where JAX finds no second derivatives; neither has
            anything to tune.
        bounds: a pair (lower, upper) that every evaluated point lies between: each None, a number, or a pytree like the parameters
            with a number, an array or None for each of them, or for whole branches. The start has to lie there too; a random one is
            moved there.
        fixed: parameters that are held, for which no derivative is taken: a pytree of booleans like the parameters, or with one
            boolean for a branch, or arrays of booleans for parts of an array. A method sees such an array whole, with a gradient of
            zero where it is held; `TrustRegion`, `LBFGS` and `SpectralGradient` see the free numbers alone.
        stop: a rule of `jaxgd.stopping`, or several of them; None is `stopping.Stationary()`: the gradient is negligible at
            the scale of the problem and its precision; () is none at all: run every step. `TrustRegion` and `LBFGS` judge
            that by themselves.
        max_steps: steps at most, >= 1, rejected trials of a method that searches counted in; None is 10 000, or 1000 for
            `TrustRegion`.
        key: the random key of a random start, and of a random cost: a key of `jax.random`, or an integer.
        cost_state: the first state of a cost that has a parameter `state`, see `fit`; it goes on with every point that is accepted.
        resample_every: after how many evaluations a cost with a parameter `key` gets a new one, >= 1; None gives it one key for the
            whole run, so that it is a function of the parameters. Methods that compare costs need that.
        n_starts: how many random starts to run side by side in one program, >= 1: `start` is a function of a key then. The best
            end is returned, and all of them are in `result.starts`; a run that is not finite loses. Counts are the best run's.
        dtype: "float64" or "float32" runs the whole call in that precision, whatever JAX's global flag says; None follows the
            inputs under JAX's rules, and is the choice inside an outer `jax.jit`.
        history: what to record at each step, the start included: "params", "gradient_norm", "learning_rate", or several such
            names; "cost" is always among them. None records nothing, which is fastest.
        has_aux: whether the cost returns a pair (cost, aux); the aux of the returned point is `result.aux`.
        callback: a function of the `Progress`, called after every step; it stops the run by returning True.
        progress: whether to show a bar (needs tqdm).
        resume: the `Result` of such a call, to go on from where it ended, to the numbers of one run without a pause, bit for bit.
            All other arguments have to be the same, but for `max_steps`, which counts from the start of the run, and what only
            looks at it. The directory of a `Checkpoint` serves as well. `Resume(result, force=True)` goes on although versions or
            hardware have changed.
        checkpoint: a `Checkpoint`, which saves the run in a directory and goes on from what was saved there.
        jit: False calls the cost as it is, step by step, so that Python control flow may look at values; the numbers are the same
            to rounding, and the cost is called once more at the start.

    Returns:
        A `Result`: `params`, `cost` and `gradient` of one and the same point, with the structure of the start, the `best` point
        seen, and a `status` that says how the run ended. Not converging is no exception. Numbers of 64 bits come back in NumPy
        arrays where JAX's 64-bit flag is off, since JAX would cut them at the first operation.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it. A cost that can't be traced, or
            differentiated, is a TypeError that names the line, the cause and the cure.

    A cost, gradient or parameter that is not finite ends the run within that step as `Status.DIVERGED`, at the last finite point,
    or as `Status.NONFINITE_DATA` where numbers in the data are the reason; a method that searches steps back from it instead.
    `result.cause` names the place, if it is in the data or at the start. An interrupt from the keyboard ends the run as
    `Status.INTERRUPTED`.

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: v**4 - 5 * v**2 - 3 * v, start=0.0)
    >>> result.converged, round(float(result.params), 3)
    (True, 1.714)
    """
    began = time.perf_counter()
    options = RunOptions.of(callback, progress, resume, checkpoint, jit=jit, has_aux=has_aux)
    max_steps = check.integer_or_none("max_steps", max_steps, 1, 2**31 - 2)
    names = check.history_names(history)
    takes = extras.checked(cost, ("params",) if data is None else ("params", "data"))
    key = check.random_key(key)
    resample_every = check.integer_or_none("resample_every", resample_every, 1)
    n_starts = check.integer("n_starts", n_starts, 1, 2**31 - 2)
    if n_starts > 1:
        options.check_alone(n_starts, history)
    check_choices(method, stop, names, all_rows=True)
    with precision(dtype) as to:
        feed = None if data is None else open_feed(data, to)
        arrays = () if data is None else (check_trees.data_arrays("data", data, to) if feed is None else feed.sample,)
        beside = extras.extras(cost, takes, key, cost_state, to, resample_every)
        given = problem(cost, start, key, fixed, bounds, to, has_aux=has_aux, jit=jit, n_starts=n_starts, extras=beside)
        if feed is None:
            arrays, trace = given.settled(*arrays), given.trace
            check_devices("start", given.params, arrays)
        else:
            defaults = {"n_starts": (n_starts, 1), "has_aux": (has_aux, False)}
            check_chunked(**defaults, cost_state=(cost_state, None), resample_every=(resample_every, None))
            beside, trace = None, ChunkedCost(given, feed)
            arrays = (feed.like,)
        evaluate = trace(value_and_gradient, *arrays)
        empty = empty_point(evaluate, given.params, *given.first(), *arrays)
        objective, adapted, rules, instead = _with_method(given, evaluate, trace, arrays, method, stop)
        adapted = with_known_traits(adapted, empty, given.box)
        extras.check_constant(evaluate, adapted, beside)
        spec = RunSpec(
            empty=alongside(empty, arrays),
            method=adapted,
            rules=rules,
            source=AllRows(arrays),
            bounds=given.box,
            n_epochs=np.int32((max_steps or adapted.traits.default_max_steps) + 1),  # the evaluation of the start is one more
            returns_current=True,
            names=names,
            extras=beside,
        )
        same = {"fixed": given.frozen, "key": key, "cost_state": cost_state, "resample_every": resample_every}
        same |= {"data": feed and feed.identity}
        identity = options.call(spec, evaluate if jit else cost, method, **same)
        if given.draws is None:
            with completed(given, began):
                result = _alone(spec, objective, given, options, identity, feed)
        else:
            result = _best_of_many(spec, objective, given)
        result = _diagnosed(result, spec, given.bound(evaluate) if feed is None else evaluate, given)
        result, kept = with_fields(given.complete(result), method=instead), given.beside(adapted)
    return told(result, began, kept)


def _with_method(
    given: Problem, evaluate: Any, trace: Callable[..., Any], arrays: tuple[Any, ...], method: Any, stop: Any
) -> tuple[Objective, Method, Any, LBFGS | None]:
    """Return what the run may ask of the cost, the method and the rules.

    The last is again the method, where it replaces the default for want of second derivatives.
    """
    prepared = functools.partial(given.prepared, stop=stop, steps_per_epoch=1, all_rows=True)
    adapted, rules = prepared(_default(given.params, evaluate) if method is None else method)
    if adapted.traits.requires != "hessian":
        return Objective(evaluate), adapted, rules, None
    second = _second_derivatives(given, trace, arrays, method)
    if second is not None:
        return Objective(evaluate, hessian=second), adapted, rules, None
    return Objective(evaluate), *prepared(LBFGS()), LBFGS()


def _second_derivatives(given: Problem, trace: Callable[..., Any], arrays: tuple[Any, ...], method: Any) -> Any:
    """Return the Hessian; None where there is none and no chosen method needs it."""
    try:
        second = trace(hessian, *arrays)
        if not given.jit:
            second(given.params, *given.first(), *arrays)  # to see whether there are any
        return second
    except NoDerivativesError as error:
        if method is None:
            return None
        message = f"method: {type(method).__name__} needs second derivatives, and the cost has none: {error}. The cure: {_CURE}."
        raise TypeError(message) from error


def _default(params: Any, evaluate: Any) -> Any:
    """Return the method for these free parameters and this cost with its gradient."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return LBFGS() if size > _LARGE or size * getattr(evaluate, "largest", 0) > _DEAR else TrustRegion()


def _alone(spec: RunSpec, objective: Objective, given: Problem, options: RunOptions, identity: Call, feed: Feed | None) -> Result:
    """Return the result of one run, in the free parameters."""
    saved = options.checked(identity, spec)
    options = options if feed is None else options._replace(jit=False)
    run = run_of_epochs(spec, objective, options, given.complete, feed=feed)
    state, chunks = run(spec, saved, Saved({}, [], None, identity))
    result = with_fields(report.result(state, report.history(chunks)), saved=Saved.of(state, chunks, None, identity))
    if run.error is not None:
        run.error.result = result
        raise run.error
    return result


def _diagnosed(result: Result, spec: RunSpec, evaluate: Any, given: Problem) -> Result:
    """Return the result, with the cause if the start or the data are not finite."""
    if is_traced(result.code) or result.status is not Status.DIVERGED or result.n_steps > 0:
        return result
    start = Point(result.params, result.cost, result.gradient)
    return _nonfinite.diagnosed(result, start, evaluate, given.frozen, *spec.source.data)


def _best_of_many(spec: RunSpec, objective: Objective, given: Problem) -> Result:
    """Return the result of the best of many runs, in the free parameters, with the ends of all."""
    starts = alongside(given.free_starts(), spec.source.data)
    count = jax.tree.leaves(starts)[0].shape[0]
    all_runs = many.ManySpec(spec, starts, many.width(count, spec.source.data))
    view = functools.partial(report.progress, spec)
    run = Run(many.LANES, all_runs, objective, RunOptions(), view=lambda pool: view(pool.best), row=None, unit="tick", total=count)
    pool, _ = run(all_runs)
    pool = program_for(many.finish, pool, pool.code)(pool, pool.code)
    ends = Starts(pool.ends.params, pool.ends.cost, pool.ends.code, pool.ends.evaluations)
    return with_fields(report.result(pool.best), starts=ends)
