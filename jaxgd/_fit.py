"""fit(): a scalar cost in minibatches."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _check_cost, _checks, _epochs, _finish, _nonfinite, _problem, _shuffle
from jaxgd._batches import Batches
from jaxgd._drive import Callback, Host, Progress, run
from jaxgd._fixed import Fixed
from jaxgd._half_precision import Types, half_types, of_wide, widened
from jaxgd._marks import beside
from jaxgd._program import compiled
from jaxgd._search import Search
from jaxgd._trees import integer, is_traced, with_fields
from jaxgd._whole import cost_over_all_rows, over_all_rows
from jaxgd.methods.automatic import Automatic, Sought, sought
from jaxgd.methods.protocol import Point
from jaxgd.result import RUNNING, History, Result, Status


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
            (scalar, anything). The batch is the pytree of the data with `batch_size` rows, or fewer, or, for the costs that the
            result reports, all or large parts of them.
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
        validation: data like `data`, of any number of rows, whose cost is found at the start and after each epoch. A NaN there does
            not end the run; it is no improvement, and `result.cause` names it.
        stop: a rule of `jaxgd.stopping`, or several; None and () are none: run every epoch.
        bounds: as in `minimize`: steps that would leave the box end at its wall.
        fixed: as in `minimize`.
        dtype: as in `minimize`.
        history: what to record at each epoch, the start included: "params", "gradient_norm" (of the cost over all rows, one more
            pass over the data each epoch), "learning_rate", or several such names. "cost" is always among them, and so is
            "validation_cost" where there are such data. After an epoch the cost is the mean over its rows of the costs of their
            batches, each at the parameters before its update, and for the start that over all rows; where a batch is all rows it
            is the cost of the recorded params in every row.
        has_aux: as in `minimize`; aux is that of all rows.
        callback: a function of the `Progress`, called after every epoch; it stops the run by returning True.
        progress: whether to show a bar (needs tqdm).
        jit: as in `minimize`.

    Returns:
        A `Result`. Its cost and gradient are those of the returned params over all rows, `cost(params, data)`. `best` is the point
        of lowest cost among those whose cost on the validation data, or else over all rows, is known, with that cost: the start,
        the returned point, and with validation data, or batches of all rows, the end of every epoch, else that of the epoch with
        the lowest mean minibatch cost. An end above the start is the status `WORSE`.

        Where the largest array that the cost computes for all rows has more than 32 MB, and a batch is not all rows, a cost that is
        a mean or a sum over the rows is found in parts, as is that of validation data. Whether it is such a cost is found by trying
        some rows. Any other is evaluated for all rows together, and so are all costs with an aux, on several devices, or inside an
        outer `jax.jit`. Where that array would have more than 1 GB the cost is the mean over the parts, and `in_parts` of the
        result says so.

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
        types = half_types(whole)
        if types:
            cost, (whole, params, held, box) = of_wide(cost, types), widened((whole, params, held, box))
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
            code=np.int32(RUNNING),
            names=names,
            capacity=0,
        )
        result = _run(cost, plan, (held, types), n_epochs, Host(callback, progress, jit), found, has_aux=has_aux)
        kept = beside(whole, bounds, held)
    return _problem.told(_problem.export(result), began, kept)


def _run(
    cost: Any,
    plan: _epochs.Plan,
    kinds: tuple[Fixed | None, Types | None],
    n_epochs: int,
    host: Host,
    found: Sought | None,
    *,
    has_aux: bool,
) -> Result:
    """Trace the cost, find a learning rate if that is sought, run the epochs, and settle on the point to return.

    `kinds` are what is held of the parameters, and the types of those of fewer than 32 bits.
    """
    params, fixed = plan.start, kinds[0]
    lowered = functools.partial(_problem.lowered, origin=_problem.Origin(cost), has_aux=has_aux, jit=host.jit, fixed=fixed)
    evaluation = _evaluations(cost, plan, params, lowered)
    value, n_parts = None, 0
    if plan.validation:
        value = lowered(_problem.value, cost, params, *plan.validation)
        size = plan.batches.batch_size
        value, n_parts = cost_over_all_rows(value, evaluation, plan.validation[0], size, params, plan.bounds)
    finish = _Finish(plan, evaluation, value, params, in_one_piece=has_aux, jit=host.jit)
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
            view=lambda state: _problem.complete(_view(plan, state), *kinds),
            unit="epoch",
            host=host,
            meanwhile=meanwhile,
        )
        end = finish(state)
        history = _history(finish, state, end, chunks) if plan.names else None
        return _result(finish.plan, state, end, history, {"data": finish.n_parts, "validation": n_parts})

    result = attempt()
    if search is not None:
        result = search.settled(result, attempt)
    if not is_traced(result.code) and result.status is Status.DIVERGED:
        result = _nonfinite.diagnosed(result, finish.at_start(), finish.whole, fixed, plan.data)
    if plan.validation and not is_traced(result.code):
        result = _nonfinite.of_validation(result, result.state.validation_cost, *plan.validation)
    return _problem.complete(result, *kinds)


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


class _Finish:
    """The end of a run, found for any state: see `_finish.finish`. It is traced and compiled while the loop is compiled."""

    def __init__(
        self, plan: _epochs.Plan, evaluation: Callable[[int], Any], value: Any, params: Any, *, in_one_piece: bool, jit: bool
    ) -> None:
        self.plan, self.evaluation, self.value, self.params = plan, evaluation, value, params
        self.in_one_piece, self.jit = in_one_piece, jit
        self.programs: dict[Any, Any] = {}
        self.inside = False

    @functools.cached_property
    def _found(self) -> tuple[Any, int]:
        plan, in_one_piece = self.plan, self.in_one_piece
        size = plan.batches.batch_size
        return over_all_rows(self.evaluation, plan.data, size, self.params, plan.bounds, in_one_piece=in_one_piece)

    @property
    def whole(self) -> Any:
        """The cost with its gradient over all rows."""
        return self._found[0]

    @property
    def n_parts(self) -> int:
        """The number of parts that it is only a mean over, or 0."""
        return self._found[1]

    @functools.cached_property
    def empty(self) -> Point:
        """A point that was not evaluated, of the shapes that an evaluation over all rows has."""
        return _problem.empty_point(self.whole, self.params, self.plan.data)

    def prepare(self, state: _epochs.State) -> None:
        """Begin to compile, for states like this one: all states of a run."""
        self.inside = is_traced(self.plan, self.whole)
        if self.jit and not self.inside:
            for function, arguments in self._arguments(state).items():
                self.programs[function] = compiled(function, *arguments, np.int32(0))
                self.programs[function].prepare(*arguments, np.int32(0))

    def __call__(self, state: _epochs.State) -> _finish.End:
        eagerly = {_finish.at_point: _finish.at_point_eagerly, _finish.on_validation: _finish.on_validation_eagerly}
        programs = self.programs if self.jit else eagerly
        calls = [functools.partial(programs.get(name, name), *arguments) for name, arguments in self._arguments(state).items()]
        return _finish.finish(self.plan, _finish.Functions(*calls), state, self.empty, inside=self.inside)

    def _arguments(self, state: _epochs.State) -> dict[Any, tuple[Any, ...]]:
        """Return what the functions of the end are called with, before the number of a point."""
        arguments: dict[Any, tuple[Any, ...]] = {_finish.at_point: (self.plan, self.whole, state, self.empty)}
        if self.value is not None:
            arguments[_finish.on_validation] = self.plan, self.value, state
        return arguments

    def at_start(self) -> Point:
        """Return the evaluation of the start over all rows."""
        begun = compiled(_epochs.begin, self.plan)(self.plan)
        return self(begun).point


def _history(finish: _Finish, state: _epochs.State, end: _finish.End, chunks: list[Any]) -> History | None:
    """Return the history, the row of the start in front.

    Where every batch is all rows, the cost of an epoch is that of the point before its update: it belongs to the row before.
    """
    plan = finish.plan
    start = compiled(_epochs.begin, plan)(plan)
    gradient = finish.at_start().gradient if "gradient_norm" in plan.names else None
    first = _epochs.row(plan, start, gradient) | {"cost": end.start_cost}
    if plan.validation:
        first["validation_cost"] = end.start_validation
    history = _problem.history_of(chunks, first)
    if history is None or not plan.in_one_batch:
        return history
    if is_traced(history.cost):
        cost = jnp.append(history.cost[1:], jnp.nan).at[state.epoch].set(end.last_cost)
    else:
        cost = np.append(history.cost[1:], end.last_cost)
    return with_fields(history, cost=cost)


def _view(plan: _epochs.Plan, state: _epochs.State) -> Progress:
    epoch = int(state.epoch)
    step = epoch * plan.batches.count + max(int(state.batch) - 1, 0)
    return Progress(step, epoch, state.trial, state.epoch_cost, state.validation_cost, state.best)


def _result(plan: _epochs.Plan, state: _epochs.State, end: _finish.End, history: History | None, n_parts: dict[str, int]) -> Result:
    code, epoch, batch, choice = (integer(value) for value in (state.code, state.epoch, state.batch, end.choice))
    seen = epoch * plan.batches.count + batch
    n_steps = seen - _problem.flag(batch > 0)
    one_back = _problem.flag((code == Status.DIVERGED.code) | (choice == 1))  # the point before the last iterate is returned
    if state.asked is not None:
        accepted = integer(state.asked.accepted)
        n_steps, one_back = accepted - _problem.flag(accepted > 0), 0
    return Result(
        params=end.point.params,
        cost=end.point.cost,
        gradient=end.point.gradient,
        best=end.best,
        n_steps=n_steps - one_back * _problem.flag(n_steps > 0),
        n_epochs=epoch,
        n_evaluations=seen + integer(end.evaluations),
        code=integer(end.code),
        history=history,
        aux=end.point.aux,
        state=state,
        start_cost=end.start_cost,
        in_parts={name: count for name, count in n_parts.items() if count} or None,
    )
