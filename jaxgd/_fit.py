"""fit(): a scalar cost in minibatches."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _check_cost, _checks, _epochs, _nonfinite, _problem, _shuffle
from jaxgd._batches import Batches
from jaxgd._drive import Callback, Host, Progress, run
from jaxgd._fixed import Fixed
from jaxgd._loops import eager
from jaxgd._program import compiled
from jaxgd._search import Search
from jaxgd._trees import integer, is_traced, with_fields
from jaxgd._whole import InParts, part_size
from jaxgd.methods.automatic import Automatic, Sought, sought
from jaxgd.methods.protocol import Point
from jaxgd.result import Best, History, Result, Status


def fit(
    cost: Callable[..., Any],
    start: Any,
    data: Any,
    *,
    batch_size: int,
    n_epochs: int,
    key: Any = None,
    method: Any = None,
    shuffle: bool | str = True,
    average: float | None = None,
    validation: Any = None,
    stop: Any = None,
    bounds: Any = None,
    fixed: Any = None,
    dtype: Any = None,
    history: Any = None,
    has_aux: bool = False,
    callback: Callback | None = None,
    progress: bool = False,
    jit: bool = True,
) -> Result:
    """Minimise a scalar cost in minibatches.

    Epochs and minibatches run inside one compiled program. Every epoch uses every row exactly once (`shuffle=True` or False), in an
    order that depends on the key alone; the last batch of an epoch is smaller where the rows do not divide evenly.

    Args:
        cost: cost(params, batch), written with `jax.numpy`; returns a real scalar, the mean over the rows, or with `has_aux` a pair
            (scalar, anything). The batch is the pytree of the data with `batch_size` rows, or fewer, or, for the cost that the
            result reports, all.
        start: as in `minimize`.
        data: a pytree of arrays of equal leading length, the rows; see `minimize` for what is refused.
        batch_size: rows in a batch, from 1 to all.
        n_epochs: passes over the data, >= 1.
        key: the random key of the order of rows and of a random start: a key of `jax.random`, or an integer. It may be missing
            where nothing is random.
        method: a method of jaxgd that takes every step, or any Optax transformation. None is `Automatic()`, which finds a learning
            rate by a race before the run.
        shuffle: True draws a new order for every epoch, the first too (a batch of all rows has no order to draw, and keeps them as
            they are); False keeps the rows as they are; "replacement" draws every row of every batch independently.
        average: a fraction in (0, 1]: the returned params are the mean of the iterates of that last part of the planned run; a run
            that stops before it begins returns its last iterate. B. T. Polyak, A. B. Juditsky, Acceleration of stochastic
            approximation by averaging, SIAM J. Control Optim. 30 (1992).
        validation: data like `data`, of any number of rows, whose cost is found after each epoch. A NaN there does not end the
            run; it is no improvement, and `result.cause` names it.
        stop: a rule of `jaxgd.stopping`, or several; None and () are none: run every epoch.
        bounds: as in `minimize`: steps that would leave the box end at its wall.
        fixed: as in `minimize`.
        dtype: as in `minimize`.
        history: what to record at each epoch, the start included: "params", "gradient_norm" (of the cost over all rows, one more
            pass over the data each epoch), "learning_rate", or several such names. "cost", the mean of the epoch's minibatch costs
            (for the start the cost over all rows), is always among them, and so is "validation_cost" where there are such data.
        has_aux: as in `minimize`; aux is that of all rows.
        callback: a function of the `Progress`, called after every epoch; it stops the run by returning True.
        progress: whether to show a bar (needs tqdm).
        jit: as in `minimize`.

    Returns:
        A `Result`. Its cost and gradient are those of the returned params over all rows, `cost(params, data)`: of more than 131 072
        rows on one device the mean over large parts of them, unless a batch is all of them or there is an aux. `best` is the best
        epoch by the validation cost, or else by the mean minibatch cost. If a run diverged in an epoch, `best` falls back to the
        start where that was better.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.linspace(0, 1, 100)
    >>> def cost(line, batch):
    ...     x, y = batch
    ...     return jnp.mean((line["slope"] * x + line["offset"] - y) ** 2)
    >>> start = {"slope": 0.0, "offset": 0.0}
    >>> result = jaxgd.fit(cost, start, (x, 3 * x + 4), batch_size=10, n_epochs=200, key=0, method=jaxgd.GradientDescent(0.2))
    >>> round(float(result.params["slope"]), 3), round(float(result.params["offset"]), 3)
    (3.0, 4.0)
    """
    began = time.perf_counter()
    _checks.options(callback, has_aux=has_aux, progress=progress, jit=jit)
    n_epochs = _checks.whole("n_epochs", n_epochs, 1, 2**31 - 2)
    names = _checks.history_names(history, () if validation is None else ("validation_cost",))
    _checks.one_of("shuffle", shuffle, (True, False, "replacement"))
    if average is not None:
        _checks.share("average", average)
    _check_cost.signature(cost, ("params", "batch"))
    key = _checks.random_key(key)
    _problem.check_choices(method, stop, names, whole=False)
    with _problem.precision(dtype) as to:
        arrays, n_rows = _problem.table("data", data, to)
        batch_size = _checks.whole("batch_size", batch_size, 1, n_rows, " (the number of rows)")
        held_out = () if validation is None else _problem.table("validation", validation, to, like=arrays)[:1]
        whole = _problem.start_point(start, key, to, fixed)
        params, held, box = _problem.room(whole, fixed, bounds, drawn=_problem.is_function(start))
        if _problem.are_wide(arrays, held_out):
            make = functools.partial(_problem.lowered, _problem.value_and_gradient, cost, params, has_aux=has_aux, fixed=held)
            sample = functools.partial(_rows_like, size=batch_size)
            (arrays, *held_out), _ = _problem.settled(make, arrays, *held_out, jit=jit, sample=sample)
        n_batches = math.ceil(n_rows / batch_size)
        method = Automatic() if method is None else method
        found = sought(method, n_epochs * n_batches)
        method, rules = _problem.prepare(found.rule if found else method, stop, whole, held, n_batches, whole=False)
        seed = _seed(key, shuffle, batch_size == n_rows)
        plan = _epochs.Plan(
            start=params,
            infinite=None,
            method=method,
            rules=rules,
            batches=Batches(arrays, seed, shuffle, n_rows, batch_size, Batches.room(arrays, seed, params, method)),
            validation=tuple(held_out),
            n_epochs=np.int32(n_epochs),
            bounds=box,
            average_from=None if average is None else _average_from(average, n_epochs, n_batches),
            names=names,
            capacity=0,
        )
        result = _run(cost, plan, held, n_epochs, Host(callback, progress, jit), found, has_aux=has_aux)
    return _problem.timed(_problem.export(result), began)


def _run(
    cost: Any,
    plan: _epochs.Plan,
    fixed: Fixed | None,
    n_epochs: int,
    host: Host,
    found: Sought | None,
    *,
    has_aux: bool,
) -> Result:
    """Trace the cost, find a learning rate if that is sought, run the epochs, and settle on the point to return."""
    params = plan.start
    lowered = functools.partial(_problem.lowered, has_aux=has_aux, jit=host.jit, fixed=fixed)
    evaluation = _evaluations(cost, plan, params, lowered)
    value = lowered(_problem.value, cost, params, *plan.validation) if plan.validation else None
    finish = _Finish(plan, lambda: _whole(evaluation, plan, has_aux=has_aux), params, host.jit)
    functions = _epochs.Functions(
        full=evaluation(plan.batches.batch_size),
        last=evaluation(plan.batches.last_size) if plan.batches.last_size else None,
        whole=finish.whole if "gradient_norm" in plan.names else None,
        value=value,
    )
    infinite = _problem.infinite_cost(functions.full) if host.jit else finish.empty.cost
    plan = finish.plan = with_fields(plan, infinite=infinite)
    judge = functools.partial(lowered, _problem.value, cost, params)
    search = None if found is None else Search(found, plan, functions.full, judge, params, n_epochs, jit=host.jit)

    def meanwhile(plan: _epochs.Plan, state: Any) -> _epochs.Plan:
        finish.prepare(state)
        if search is not None:
            plan = search(plan)
            finish.plan = with_fields(finish.plan, method=plan.method)
        return plan

    def attempt() -> Result:
        state, chunks = run(
            _epochs.loop,
            plan,
            functions,
            limit=n_epochs,
            total=n_epochs,
            row=(lambda state: _epochs.row(plan, state, params)) if plan.names else None,
            view=lambda state: _problem.complete(_view(plan, state), fixed),
            unit="epoch",
            host=host,
            meanwhile=meanwhile,
        )
        point, tried = finish(state)
        first = _first_row(finish.plan, finish, value) if plan.names else None
        return _result(finish.plan, state, point, tried, _problem.history_of(chunks, first))

    result = attempt()
    if search is not None:
        result = search.settled(result, attempt, lambda: finish.of_start()[0].cost)
    if not is_traced(result.code) and result.status is Status.DIVERGED:
        start, tried = finish.of_start()
        result = _best_of_start(result, start, tried)
        result = _nonfinite.diagnosed(result, start, finish.whole, fixed, plan.data)
    if plan.validation and not is_traced(result.code):
        result = _nonfinite.of_validation(result, result.state.validation_cost, *plan.validation)
    return _problem.complete(result, fixed)


def _seed(key: Any, shuffle: bool | str, whole: bool) -> _shuffle.Seed:
    """The seed of the order of rows; where no order is drawn none is needed."""
    if shuffle is False or (whole and shuffle is True):
        return _shuffle.Seed(np.uint32(0), np.uint32(0))
    if key is None:
        _checks.missing_key(f"shuffle={shuffle!r}")
    return _shuffle.seed(key)


def _average_from(average: float, n_epochs: int, n_batches: int) -> tuple[Any, Any]:
    """The epoch and the batch of the first update of the last part of a run."""
    total = n_epochs * n_batches
    epoch, batch = divmod(total - math.ceil(average * total * (1 - 1e-12)), n_batches)
    return np.int32(epoch), np.int32(batch)


def _evaluations(cost: Any, plan: _epochs.Plan, params: Any, lowered: Callable[..., Any]) -> Callable[[int], Any]:
    """The cost with its gradient for batches of so many rows, traced when it is first asked for."""

    @functools.cache
    def of_size(size: int) -> Any:
        return lowered(_problem.value_and_gradient, cost, params, _rows_like(plan.data, size))

    return of_size


def _rows_like(data: Any, size: int) -> Any:
    """So many rows like those of the data, without their numbers."""

    def like(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(like, data)


def _whole(evaluation: Callable[[int], Any], plan: _epochs.Plan, *, has_aux: bool) -> Any:
    """The cost with its gradient over all rows."""
    n_rows, batch_size = plan.batches.n_rows, plan.batches.batch_size
    size = n_rows if has_aux else part_size(plan.data, n_rows, batch_size)
    if size == n_rows:
        return evaluation(n_rows)
    return InParts(evaluation(size), evaluation(n_rows % size) if n_rows % size else None, size)


class _Finish:
    """The end of a run, found for any state: see `_epochs.finish`. It is traced and compiled while the loop is compiled."""

    def __init__(self, plan: _epochs.Plan, make_whole: Callable[[], Any], params: Any, jit: bool) -> None:
        self.plan, self.make_whole, self.params, self.jit = plan, make_whole, params, jit
        self.program: Any = None

    @functools.cached_property
    def whole(self) -> Any:
        """The cost over all rows."""
        return self.make_whole()

    @functools.cached_property
    def empty(self) -> Point:
        """A point that was not evaluated, of the shapes that an evaluation over all rows has."""
        return _problem.empty_point(self.whole, self.params, self.plan.data)

    def prepare(self, state: _epochs.State) -> None:
        """Begin to compile, for states like this one: all states of a run."""
        if self.jit:
            arguments = self._arguments(state)
            self.program = compiled(_epochs.finish, *arguments)
            self.program.prepare(*arguments)

    def __call__(self, state: _epochs.State) -> tuple[Point, Any]:
        if self.jit:
            return self.program(*self._arguments(state))
        return _epochs.finish(*self._arguments(state), lower=eager)

    def of_start(self) -> tuple[Point, Any]:
        """The same for a run that ends where it begins."""
        return self(compiled(_epochs.begin, self.plan)(self.plan))

    def _arguments(self, state: _epochs.State) -> tuple[Any, Any, _epochs.State, Point]:
        return self.plan, self.whole, state, self.empty


def _first_row(plan: _epochs.Plan, finish: _Finish, value: Any) -> dict[str, Any]:
    """The row of the start in the history."""
    state = compiled(_epochs.begin, plan)(plan)
    point, _ = finish(state)
    row = _epochs.row(plan, state, point.gradient) | {"cost": point.cost}
    if "validation_cost" in row:
        row["validation_cost"] = value(state.trial, *plan.validation)
    return row


def _view(plan: _epochs.Plan, state: _epochs.State) -> Progress:
    epoch = int(state.epoch)
    step = epoch * plan.batches.count + int(state.batch)
    return Progress(step, epoch, state.trial, state.epoch_cost, state.validation_cost, state.best)


def _best_of_start(result: Result, start: Point, tried: Any) -> Result:
    """A diverged run's result whose best point is the start, where no later one was better."""
    evaluations = result.n_evaluations + int(tried)
    if not start.cost < result.best.cost:
        return dataclasses.replace(result, n_evaluations=evaluations)
    return dataclasses.replace(result, n_evaluations=evaluations, best=Best(start.params, start.cost))


def _result(plan: _epochs.Plan, state: _epochs.State, point: Point, tried: Any, history: History | None) -> Result:
    in_step = [Status.DIVERGED.code] + [rule.status.code for rule in plan.rules if rule.watches == "update"]
    code, epoch, batch, tried = (integer(value) for value in (state.code, state.epoch, state.batch, tried))
    n_steps = epoch * plan.batches.count + batch
    broken = sum(_problem.flag(code == other) for other in in_step)
    one_back = _problem.flag((code == Status.DIVERGED.code) | (tried == 2))  # the point before the last iterate is returned
    return Result(
        params=point.params,
        cost=point.cost,
        gradient=point.gradient,
        best=_problem.best_of(state.best, Point(state.params, state.epoch_cost, None)),
        n_steps=n_steps - one_back * _problem.flag(n_steps > 0),
        n_epochs=epoch,
        n_evaluations=n_steps + broken + tried,
        code=code + (Status.DIVERGED.code - code) * _problem.flag(tried > 1),
        history=history,
        aux=point.aux,
        state=state,
    )
