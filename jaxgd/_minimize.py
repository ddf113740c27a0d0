"""minimize(): a scalar cost, all rows in every step."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgd import _nonfinite
from jaxgd._checks import check, check_trees
from jaxgd._chosen import with_method
from jaxgd._chunked import ChunkedCost, check_chunked
from jaxgd._constrained import Functions, with_constraints
from jaxgd._objective import extras
from jaxgd._objective.evaluation import empty_point, value_and_gradient
from jaxgd._objective.implicit import CostAtMinimum, with_derivatives
from jaxgd._objective.kkt import active_at
from jaxgd._outcome import completed, told
from jaxgd._problem import Problem, check_choices, open_feed, precision, problem
from jaxgd._run import many, report, unrolled
from jaxgd._run.driver import run_of_epochs
from jaxgd._run.objective import Objective
from jaxgd._run.options import RunOptions
from jaxgd._run.progress import Callback
from jaxgd._run.saved import Call, Saved
from jaxgd._run.state import RunSpec
from jaxgd._run.unrolled import check_unrolled
from jaxgd._run.ways import arranged, run_starts
from jaxgd._shards import on_automatic_axes, size_on_device
from jaxgd._trees import detached, is_traced, with_fields
from jaxgd.checkpoint import Checkpoint
from jaxgd.data.feed import Feed
from jaxgd.data.layout import alongside, check_devices
from jaxgd.data.source import AllRows
from jaxgd.methods.adapters import with_known_traits
from jaxgd.methods.protocol import Point
from jaxgd.result import Result, Starts, Status
from jaxgd.uncertainty import Covariance, covariance


@on_automatic_axes
def minimize(
    cost: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
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
    implicit: bool = True,
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
            more than 2**28 numbers, since a Hessian takes too long then, or where JAX finds no second derivatives. Where there are
            constraints it is `InteriorPoint()` for up to 500, and `AugmentedLagrangian()` for more. None has anything to tune.
        equality: a function of the parameters, and of the data where there are any, whose values have to be zero: it returns real
            numbers, arrays, or a pytree of them, written with `jax.numpy`. The start need not fulfil it.
        inequality: the same for values that have to be at least zero. Derivatives of both are exact. `result.constraints` has
            their values, multipliers and violation.
        bounds: a pair (lower, upper) that every evaluated point lies between: each None, a number, or a pytree like the parameters
            with a number, an array or None for each of them, or for whole branches. The start has to lie there too; a random one is
            moved there.
        fixed: parameters that are held, for which no derivative is taken: a pytree of booleans like the parameters, or with one
            boolean for a branch, or arrays of booleans for parts of an array. A method sees such an array whole, with a gradient of
            zero where it is held; `TrustRegion`, `LBFGS` and `SpectralGradient` see the free numbers alone.
        transform: how parameters that have to lie in a domain follow from unconstrained numbers, which the run moves instead of
            them: a transform of `jaxgd.transforms`, such as `Positive()`, or a pytree like the parameters with one, or None, for
            each of them or for whole branches. The start has to lie in the domain. The cost, `fixed`, the result, its history and
            what callbacks see are about the parameters themselves; the gradient and its norm, learning rates, averages and stopping
            rules are about the unconstrained numbers. Bounds can't be given for the same parameters.
        penalty: a function with kinks that is minimised together with the cost, known by its proximal operator: a penalty of
            `jaxgd.penalties`, such as `L1(0.1)`, anything decorated with `jaxgd.pytree` that has `value(x)` and `prox(x, step)`, or
            a pytree like the parameters with one, or None, for each array of them or for whole branches. Then the cost of the
            result, of its history and for stopping rules is that of cost and penalty together. The default method is
            `ProximalNewton()` where it would be `TrustRegion()` and the penalty is separable, else `ProximalGradient()`; a
            first-order method of this package serves too, each step of which is followed by the proximal operator.
        stop: a rule of `jaxgd.stopping`, or several of them; None is `stopping.Stationary()`: the gradient is negligible at
            the scale of the problem and its precision; () is none at all: run every step. `TrustRegion` and `LBFGS` judge
            that by themselves.
        max_steps: steps at most, >= 1, rejected trials of a method that searches counted in; None is 10 000, or 1000 for
            `TrustRegion`.
        key: the random key of a random start, and of a random cost: a key of `jax.random`, or an integer.
        cost_state: the first state of a cost that has a parameter `state`, see `fit`; it goes on with every point that is accepted.
        resample_every: after how many evaluations a cost with a parameter `key` gets a new one, >= 1; None gives it one key for the
            whole run, so that it is a function of the parameters. Methods that compare costs need that.
        n_starts: how many random starts to run in one program, >= 1: `start` is a function of a key then, such as
            `jaxgd.sobol(low, high)`. The best end is returned, and all of them are in `result.starts`; a run that is not finite
            loses. Counts are the best run's.
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
        implicit: how the result is differentiated, see below. False runs `max_steps` steps of a first-order method, whatever
            happens, and takes no stopping rule.

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

    `jax.grad`, `jax.jacfwd`, `jax.hessian` and the like find the derivatives of `params`, `cost`, `gradient`, `aux` and `best` with
    respect to the data, to all that the cost closes over, to bounds and to fixed values, by the implicit function theorem at the
    point that is returned: H dx = -d(gradient), with the Hessian H there. That is exact at a minimum, whatever the method, and
    costs one Hessian, or, where that is too large, some hundreds of products with it. A parameter that a bound holds back moves
    with that bound. Under constraints the equations are those of the Lagrangian with what is active. Nothing depends on the start,
    nor on what only steers the run. Along a direction in which the cost is flat nothing moves; where the Hessian has a negative
    eigenvalue, or is not finite, the point is no minimum and the derivatives are NaN. With a penalty they are those of the fixed
    point of its proximal operator, also with respect to its weights. With `implicit=False` the steps themselves are differentiated,
    forwards or backwards, with respect to the start and the numbers of the method as well.

    A. Griewank, A. Walther, Evaluating derivatives, SIAM (2008), chapter 15; Q. Bertrand and others, Implicit differentiation for
    fast hyperparameter selection in non-smooth convex learning, J. Mach. Learn. Res. 23 (2022).

    >>> import jax, jaxgd
    >>> result = jaxgd.minimize(lambda v: v**4 - 5 * v**2 - 3 * v, start=0.0)
    >>> result.converged, round(float(result.params), 3)
    (True, 1.714)
    >>> slope = jax.grad(lambda d: jaxgd.minimize(lambda x: x**2 / 2 - d * x, start=1.0).params)(3.0)
    >>> round(float(slope), 5)
    1.0
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
    check.flag("implicit", implicit)
    alone = {"jit": (jit, True), "implicit": (implicit, True), "stop": (stop, None)}
    constraints = Functions.of(equality, inequality, ("params",) if data is None else ("params", "data"), method, **alone)
    if not implicit:
        check_unrolled(method, n_starts=(n_starts, 1), stop=(stop, None), **options.looking(jit=jit))
        if max_steps is None:
            raise ValueError("max_steps: expected the number of steps with implicit=False, got None.")
        stop = ()
    with precision(dtype) as to:
        feed = None if data is None else open_feed(data, to)
        arrays = () if data is None else (check_trees.data_arrays("data", data, to) if feed is None else feed.sample,)
        beside = extras.extras(cost, takes, key, cost_state, to, resample_every)
        flags: dict[str, Any] = {"has_aux": has_aux, "jit": jit, "n_starts": n_starts}
        given = problem(cost, start, key, fixed, bounds, to, extras=beside, transform=transform, penalty=penalty, **flags)
        if feed is None:
            arrays, trace = given.settled(*arrays), given.trace
            check_devices("start", given.params, arrays)
        else:
            defaults = {"n_starts": (n_starts, 1), "has_aux": (has_aux, False)}
            defaults |= {"equality": (equality, None), "inequality": (inequality, None)}
            check_chunked(**defaults, cost_state=(cost_state, None), resample_every=(resample_every, None))
            beside, trace = None, ChunkedCost(given, feed)
            arrays = (feed.like,)
        evaluate = trace(value_and_gradient, *arrays)
        empty = empty_point(evaluate, given.params, *given.first(), *arrays)
        objective, adapted, rules, instead = with_method(given, evaluate, trace, arrays, method, stop, constraints)
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
            penalty=given.penalty,
        )
        if not implicit:
            return _unrolled(given, spec, objective, began)
        bound = given.bound(evaluate) if feed is None else evaluate
        asked = objective.constraints
        (spec, objective), apart = detached((spec, objective)), given.detached()
        same = {"fixed": apart.frozen, "key": key, "cost_state": cost_state, "resample_every": resample_every}
        same |= {"transform": transform, "penalty": penalty, "data": feed and feed.identity, "constraints": objective.constraints}
        identity = options.call(spec, evaluate if jit else cost, method, **same)
        if given.draws is None:
            with completed(given, began):
                result = _alone(spec, objective, apart, options, identity, feed)
        else:
            result = _best_of_many(spec, objective, apart)
        result = _diagnosed(result, spec, bound, apart)
        result = with_constraints(result, objective.constraints, adapted, detached(arrays))
        active = active_at(result.constraints, asked, arrays)
        at_end = CostAtMinimum(bound, arrays, given.box, penalty=given.penalty, constraints=active)
        result = with_derivatives(result, at_end)
        result, kept = with_fields(given.complete(result), method=instead), apart.beside(adapted)
    same = {"bounds": bounds, "fixed": fixed, "transform": transform, "dtype": dtype, "has_aux": has_aux, "jit": jit}
    same |= {"equality": equality, "inequality": inequality}
    return told(result, began, kept, fitted=Fitted(cost, data, same) if penalty is None else None)


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


class Fitted(NamedTuple):
    """The call of a run, as far as the covariance of what it found needs it."""

    cost: Callable[..., Any]
    data: Any
    options: dict[str, Any]

    def __call__(self, params: Any, **options: Any) -> Covariance:
        """Return the covariance of parameters."""
        return covariance(self.cost, params, self.data, **(self.options | options))


def _unrolled(given: Problem, spec: RunSpec, objective: Objective, began: float) -> Result:
    """Return the result of a run of a fixed number of steps, all of which have derivatives."""
    unrolled.check_takes_every_step(spec.method)
    state, rows = unrolled.run(spec, objective, int(spec.n_epochs))
    result = report.result(state, report.history(rows))
    return told(given.complete(result), began, given.detached().beside())


def _diagnosed(result: Result, spec: RunSpec, evaluate: Any, given: Problem) -> Result:
    """Return the result, with the cause if the start or the data are not finite."""
    if is_traced(result.code) or result.status is not Status.DIVERGED or result.n_steps > 0:
        return result
    start = Point(result.params, result.cost, result.gradient)
    return _nonfinite.diagnosed(result, start, detached(evaluate), given.frozen, *spec.source.data)


def _best_of_many(spec: RunSpec, objective: Objective, given: Problem) -> Result:
    """Return the result of the best of many runs, in the free parameters, with the ends of all."""
    starts = alongside(given.free_starts(), spec.source.data)
    count = jax.tree.leaves(starts)[0].shape[0]
    numbers = sum(map(size_on_device, jax.tree.leaves(spec.source.data)))
    lanes = many.width(min(many.STARTS, count), numbers)
    runs = many.ManySpec(spec, many.Each(starts), np.int32(count), lanes)
    end = run_starts(arranged(runs, objective), objective)
    ends = Starts(end.ends.params, end.ends.cost, end.ends.code, end.ends.evaluations)
    return with_fields(report.result(end.best), starts=ends)
