"""minimize(): a scalar cost, all rows in every step."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _check_cost, _check_trees, _checks, _lanes, _nonfinite, _problem, _steps
from jaxgd._derivatives import NoDerivativesError
from jaxgd._drive import Callback, Host, Progress, run
from jaxgd._fixed import Fixed
from jaxgd._half_precision import Types, half_types, of_wide, widened
from jaxgd._marks import beside
from jaxgd._program import compiled
from jaxgd._trees import integer, is_traced, with_fields
from jaxgd.methods.protocol import Point
from jaxgd.methods.quasi_newton import LBFGS
from jaxgd.methods.trust_region import TrustRegion
from jaxgd.result import History, Result, Starts, Status

_MAX_STEPS = 10_000
_LARGE = 200  # parameters, above which a Hessian costs more than it brings
_CURE = "leave the method out, or pass LBFGS(), which needs the gradient alone"
_DEAR = 2**28  # numbers that a Hessian computes, about a quarter of a second, above which the same holds


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
    n_starts: int = 1,
    dtype: Any = None,
    history: Any = None,
    has_aux: bool = False,
    callback: Callback | None = None,
    progress: bool = False,
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
            bits can't tell apart is refused.
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
        key: the random key of a random start: a key of `jax.random`, or an integer.
        n_starts: how many random starts to run side by side in one program, >= 1: `start` is a function of a key then. The best
            end is returned, and all of them are in `result.starts`; a run that is not finite loses. Counts are the best run's.
        dtype: "float64" or "float32" runs the whole call in that precision, whatever JAX's global flag says; None follows the
            inputs under JAX's rules, and is the choice inside an outer `jax.jit`.
        history: what to record at each step, the start included: "params", "gradient_norm", "learning_rate", or several such
            names; "cost" is always among them. None records nothing, which is fastest.
        has_aux: whether the cost returns a pair (cost, aux); the aux of the returned point is `result.aux`.
        callback: a function of the `Progress`, called after every step; it stops the run by returning True.
        progress: whether to show a bar (needs tqdm).
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
    _checks.options(callback, has_aux=has_aux, progress=progress, jit=jit)
    if max_steps is not None:
        max_steps = _checks.whole("max_steps", max_steps, 1, 2**31 - 2)
    names = _checks.history_names(history)
    _check_cost.signature(cost, ("params",) if data is None else ("params", "data"))
    key = _checks.random_key(key)
    n_starts = _checks.whole("n_starts", n_starts, 1, 2**31 - 2)
    if n_starts > 1:
        _checks.alone("n_starts", n_starts, history=history, callback=callback, progress=progress, jit=not jit)
    _problem.check_choices(method, stop, names, whole=True)
    with _problem.precision(dtype) as to:
        arrays = () if data is None else (_check_trees.data_arrays("data", data, to),)
        draws = _problem.starts(start, key, n_starts, to, fixed) if n_starts > 1 else None
        whole = _problem.start_point(start, key, to, fixed) if draws is None else _problem.first_start(draws)
        params, held, box = _problem.room(whole, fixed, bounds, drawn=_problem.is_function(start))
        types = half_types(whole)
        if types:
            cost, (whole, params, held, box, draws) = of_wide(cost, types), widened((whole, params, held, box, draws))
        lowered = functools.partial(_problem.lowered, origin=_problem.Origin(cost), has_aux=has_aux, jit=jit, fixed=held)
        evaluate = lowered(_problem.value_and_gradient, cost, params, *arrays)
        if _problem.are_wide(*arrays):
            make = functools.partial(lowered, _problem.value_and_gradient, cost, params)
            arrays, evaluate = _problem.settled(make, *arrays, jit=jit)
        empty = _problem.empty_point(evaluate, params, *arrays)
        curved = functools.partial(_second_derivatives, lowered, cost, params, arrays, jit=jit)
        method, hessian, instead = _with_hessian(
            _default(params, evaluate) if method is None else method, curved, chosen=method is not None
        )
        steps = max_steps or int(getattr(method, "default_max_steps", _MAX_STEPS))
        method, rules = _problem.prepare(method, stop, whole, held, 1, whole=True)
        plan = _steps.Plan(empty, method, rules, arrays, np.int32(steps), box, names, 0)
        functions, host = _steps.Functions(evaluate, hessian), Host(callback, progress, jit)
        if draws is None:
            result = _alone(plan, functions, (held, types), host)
        else:
            result = _best_of_many(plan, functions, draws, held)
        if not is_traced(result.code) and result.status is Status.DIVERGED and result.n_steps == 0:
            start = Point(result.params, result.cost, result.gradient)
            result = _nonfinite.diagnosed(result, start, evaluate, held, *arrays)
        result = with_fields(_problem.complete(result, held, types), method=instead)
        kept = beside(whole, bounds, held, method, one_of_many=draws is not None)
    return _problem.told(_problem.export(result), began, kept)


def _default(params: Any, evaluate: Any) -> Any:
    """The method for these free parameters and this cost with its gradient."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return LBFGS() if size > _LARGE or size * getattr(evaluate, "largest", 0) > _DEAR else TrustRegion()


def _with_hessian(method: Any, second_derivatives: Callable[[], Any], *, chosen: bool) -> tuple[Any, Any, Any]:
    """Return the method, the second derivatives if it needs them, and again the method if it replaces one for want of them."""
    if not getattr(method, "needs_hessian", False):
        return method, None, None
    try:
        return method, second_derivatives(), None
    except NoDerivativesError as error:
        if not chosen:
            return LBFGS(), None, LBFGS()
        message = f"method: {type(method).__name__} needs second derivatives, and the cost has none: {error}. The cure: {_CURE}."
        raise TypeError(message) from error


def _second_derivatives(lowered: Callable[..., Any], cost: Any, params: Any, arrays: Any, *, jit: bool) -> Any:
    """Return the second derivatives of the cost; where it is not traced, they are evaluated once, to see whether there are any."""
    hessian = lowered(_problem.hessian if jit else _problem.hessian_eagerly, cost, params, *arrays)
    if not jit:
        hessian(params, *arrays)
    return hessian


def _alone(plan: _steps.Plan, functions: _steps.Functions, kinds: tuple[Fixed | None, Types | None], host: Host) -> Result:
    """Return the result of one run, in the free parameters; `kinds` is what makes all parameters of them, in their own types."""
    steps, names = int(plan.max_steps), plan.names
    state, chunks = run(
        _steps.loop,
        plan,
        functions,
        limit=steps + 1,
        total=steps,
        row=functools.partial(_steps.row, plan) if names else None,
        view=lambda state: _problem.complete(_view(state), *kinds),
        unit="step",
        host=host,
    )
    return _result(state, _problem.history_of(chunks))


def _best_of_many(plan: _steps.Plan, functions: _steps.Functions, draws: Any, held: Fixed | None) -> Result:
    """The result of the best of many runs, in the free parameters, with the ends of all."""
    starts = _problem.free_starts(draws, held, plan.bounds)
    many = _lanes.Plan(plan, starts, _lanes.width(jax.tree.leaves(starts)[0].shape[0], plan.data))
    pool, _ = run(
        _lanes.loop,
        many,
        functions,
        limit=2**31 - 2,
        total=many.count,
        row=None,
        view=lambda pool: _view(pool.best),
        unit="tick",
        host=Host(None, False, True),
    )
    pool = compiled(_lanes.finish, pool, pool.code)(pool, pool.code)
    ends = Starts(pool.ends.params, pool.ends.cost, pool.ends.code, pool.ends.evaluations)
    return with_fields(_result(pool.best, None), starts=_problem.complete_starts(ends, held))


def _view(state: _steps.State) -> Progress:
    step = int(state.step)
    return Progress(step, step, state.current.params, state.current.cost, None, state.best)


def _result(state: _steps.State, history: History | None) -> Result:
    n_steps = integer(state.step)
    return Result(
        params=state.current.params,
        cost=state.current.cost,
        gradient=state.current.gradient,
        best=_problem.best_of(state.best, state.current),
        n_steps=n_steps,
        n_epochs=n_steps,
        n_evaluations=integer(state.evaluations),
        code=integer(state.code),
        history=history,
        aux=state.current.aux,
        state=state,
        start_cost=state.start_cost,
    )
