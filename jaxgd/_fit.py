"""fit(): a scalar cost in minibatches."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxgd import _nonfinite
from jaxgd._checks import check
from jaxgd._functions import FitFunctions
from jaxgd._objective import extras
from jaxgd._outcome import completed, told
from jaxgd._problem import Problem, check_choices, open_feed, precision, problem, table
from jaxgd._run import report, unrolled
from jaxgd._run.driver import run_of_epochs
from jaxgd._run.end import end_on_the_way, find_end, point_at, start_over_all_rows
from jaxgd._run.options import RunOptions
from jaxgd._run.progress import Callback
from jaxgd._run.saved import Call, Saved
from jaxgd._run.state import RunSpec
from jaxgd._run.unrolled import check_takes_every_step, check_unrolled
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import detached, is_traced, with_fields, working_dtype
from jaxgd._tuning.search import LearningRateSearch
from jaxgd.average import ExponentialAverage, as_average, decay_of
from jaxgd.checkpoint import Checkpoint
from jaxgd.data import shuffle as orders
from jaxgd.data.feed import Chunk, Feed, check_fed, rows_like
from jaxgd.data.layout import TOGETHER, Layout, alongside, check_devices, layout_of
from jaxgd.data.memory import is_cpu
from jaxgd.data.sharded import batches
from jaxgd.data.source import Batches
from jaxgd.data.stream import StreamError
from jaxgd.methods.adapters import check_takes_penalty
from jaxgd.methods.automatic import TuningTarget, tuning_target
from jaxgd.methods.protocol import Point
from jaxgd.result import Result, Status


@on_automatic_axes
def fit(
    cost: Callable[..., Any],
    start: Any,
    data: Any,
    *,
    batch_size: int,
    n_epochs: int,
    key: Any = None,
    cost_state: Any = None,
    method: Any = None,
    shuffle: bool | str | None = None,
    average: float | ExponentialAverage | None = None,
    accumulate: int = 1,
    on_nonfinite: str = "stop",
    validation: Any = None,
    stop: Any = None,
    bounds: Any = None,
    fixed: Any = None,
    transform: Any = None,
    penalty: Any = None,
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
    """Minimise a scalar cost in minibatches.

    Epochs and minibatches run inside one compiled program. Every epoch uses every row exactly once (`shuffle=True` or False), in an
    order that depends on the key alone; the last batch of an epoch is smaller where the rows do not divide evenly.

    Args:
        cost: cost(params, batch), written with `jax.numpy`; returns a real scalar, the mean over the rows, or with `has_aux` a pair
            (scalar, anything). The batch is the pytree of the data with `batch_size` rows, or fewer, or, for the costs that the
            result reports, all or large parts of them.
        start: as in `minimize`.
        data: a pytree of arrays of equal leading length, the rows; see `minimize` for what is refused. Rows that are split over
            devices stay there, and each device shuffles its own, see `jaxgd.data.shard`. Or `jaxgd.data.Chunks` of rows that are
            larger than the memory, or a `jaxgd.data.Stream` of batches.
        batch_size: rows in a batch, from 1 to all; a multiple of the number of devices over which rows are split.
        n_epochs: passes over the data, >= 1.
        key: the random key of the order of rows, of a random start and of a random cost: a key of `jax.random`, or an integer. It
            may be missing where nothing is random.
        cost_state: the first state of a cost that has one: a pytree of arrays, see below.
        method: a method of jaxgd that takes every step, or any Optax transformation. None is `Automatic()`, which finds a learning
            rate by a race before the run.
        shuffle: True draws a new order for every epoch, the first too (a batch of all rows has no order to draw, and keeps them as
            they are); False keeps the rows as they are; "replacement" draws every row of every batch independently. None is True,
            and for a `Stream` the order that it brings.
        average: a fraction in (0, 1]: the returned params are the mean of the iterates of that last part of the planned run; a run
            that stops before it begins returns its last iterate. B. T. Polyak, A. B. Juditsky, Acceleration of stochastic
            approximation by averaging, SIAM J. Control Optim. 30 (1992). Or an `ExponentialAverage`.
        accumulate: how many batches a step takes, >= 1: the cost and its gradient are the means over the rows of all of them, found
            one batch after the other with the memory of one. Counts of steps and batches are then those of the large batches.
        on_nonfinite: "stop" ends the run where a cost or its gradient is not finite; "skip" drops that step, as if its batch had
            not come, and goes on; `n_skipped` of the result counts them.
        validation: data like `data`, of any number of rows, whose cost is found at the start and after each epoch. A NaN there does
            not end the run; it is no improvement, and `result.cause` names it.
        stop: a rule of `jaxgd.stopping`, or several; None and () are none: run every epoch.
        bounds: as in `minimize`: steps that would leave the box end at its wall.
        fixed: as in `minimize`.
        transform: as in `minimize`.
        penalty: as in `minimize`, added to the mean over the rows. Every step of a first-order method of this package is followed
            by the proximal operator, with the steps that the method itself takes for each parameter; without a method that is Adam,
            at a rate found by the race. The costs of batches, of all rows and of validation data all hold the penalty.
        dtype: as in `minimize`.
        history: what to record at each epoch, the start included: "params", "gradient_norm" (of the cost over all rows, one more
            pass over the data each epoch), "learning_rate", or several such names. "cost" is always among them, and so is
            "validation_cost" where there are such data. After an epoch the cost is the mean over its rows of the costs of their
            batches, each at the parameters before its update, and for the start that over all rows; where a batch is all rows it
            is the cost of the recorded params in every row.
        has_aux: as in `minimize`; aux is that of all rows.
        callback: a function of the `Progress`, called after every epoch; it stops the run by returning True.
        progress: whether to show a bar (needs tqdm).
        resume: the `Result` of such a call, as in `minimize`; more epochs may be asked for. A search for a learning rate is not
            repeated.
        checkpoint: a `Checkpoint`, which saves the run in a directory and goes on from what was saved there.
        jit: as in `minimize`.
        implicit: as in `minimize`: derivatives are those of a minimum of the cost over all rows, at the params that are returned;
            `best.params` moves as these do. False runs every epoch, and the steps themselves are differentiated; then `best` and
            the history have no derivatives.

    Returns:
        A `Result`. Its cost and gradient are those of the returned params over all rows, `cost(params, data)`. `best` is the point
        of lowest cost among those whose cost on the validation data, or else over all rows, is known, with that cost: the start,
        the returned point, and with validation data, or batches of all rows, the end of every epoch, else that of the epoch with
        the lowest mean minibatch cost. An end above the start is the status `WORSE`.

        Where the largest array that the cost computes for all rows has more than 32 MB, and a batch is not all rows, a cost that is
        a mean or a sum over the rows is found in parts, as is that of validation data. Whether it is such a cost is found by trying
        some rows. Any other is evaluated for all rows together, and so are all costs with an aux, and all costs inside an outer
        `jax.jit`. Where that array would have more than 1 GB the cost is the mean over the parts, and `in_parts` of the result says
        so. Of rows that are split over devices each device looks at its own, and these limits are those of one device.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.
        StreamError: a ValueError, for a `Stream` that breaks off or changes; its `result` is what was reached.

    A cost may have further parameters, by these names. `key` is a fresh random key in every step, as dropout, augmentation and
    Monte Carlo estimates need it. `state` is what the cost returned in the step before, at first `cost_state`, as running
    statistics and averages need it; the cost then returns (scalar, state), or with `has_aux` (scalar, state, aux), and the last
    state is `cost_state` of the result. `training` is True in the steps. Where costs are only measured, over all rows and on
    validation data, `training` is False, the state stays as it is, and the key is one and the same.

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
    options = RunOptions.of(callback, progress, resume, checkpoint, jit=jit, has_aux=has_aux)
    n_epochs = check.integer("n_epochs", n_epochs, 1, 2**31 - 2)
    names = check.history_names(history, () if validation is None else ("validation_cost",))
    check.one_of("shuffle", shuffle, (None, True, False, "replacement"))
    check.one_of("on_nonfinite", on_nonfinite, ("stop", "skip"))
    accumulate, average = check.integer("accumulate", accumulate, 1), as_average(average)
    takes = extras.checked(cost, ("params", "batch"))
    key = check.random_key(key)
    check.flag("implicit", implicit)
    method = check_choices(method, stop, names, all_rows=False)
    if not implicit:
        check_unrolled(method, stop=(stop, None), on_nonfinite=(on_nonfinite, "stop"), **options.looking(jit=jit))
    with precision(dtype) as to:
        feed = open_feed(data, to)
        arrays, n_rows = table("data", data, to) if feed is None else (feed.sample, feed.n_rows)
        batch_size = check.integer("batch_size", batch_size, 1, n_rows, " (the number of rows)")
        held_out = () if validation is None else table("validation", validation, to, like=arrays)[:1]
        beside = extras.extras(cost, takes, key, cost_state, to)
        free: dict[str, Any] = {"transform": transform, "penalty": penalty}
        given = problem(cost, start, key, fixed, bounds, to, has_aux=has_aux, jit=jit, extras=beside, **free)
        together = min(batch_size * accumulate, n_rows)
        if feed is not None:
            check_fed(feed, shuffle, batch_size, together=together, has_aux=has_aux)
        arrays, held_out, layout = _settled(given, feed, arrays, held_out, batch_size)
        if feed is not None:
            feed.cut(together)
        n_batches = math.ceil(n_rows / together)
        found = tuning_target(method, n_epochs * n_batches)
        adapted, rules = given.prepared(found.rule if found else method, stop, n_batches, all_rows=False)
        check_takes_penalty(adapted, given.penalty)
        shuffle = shuffle if shuffle is not None else feed is None or not feed.brings_order
        seed = _seed(key, shuffle, all_rows=together == n_rows)
        on_host = is_cpu()
        budget = Batches.block_budget(arrays, seed, given.params, adapted, on_host=on_host)
        spec = RunSpec(
            empty=Point(alongside(given.params, arrays), None, None),
            method=adapted,
            rules=rules,
            source=_source(arrays, layout, feed, seed, shuffle, n_rows, together, budget, on_host),
            bounds=given.box,
            n_epochs=np.int32(n_epochs),
            validation=held_out,
            **_averaging(average, n_epochs, n_batches, given.params),
            names=names,
            extras=beside,
            skips=on_nonfinite == "skip",
            penalty=given.penalty,
        )
        same = {"key": key, "cost_state": cost_state, "shuffle": shuffle, "batch_size": batch_size, "accumulate": accumulate}
        same |= {"fixed": given.frozen, "average": average, "on_nonfinite": on_nonfinite, "data": feed and feed.identity}
        same |= free
        identity = functools.partial(options.call, method=method, **same)
        with completed(given, began):
            if implicit:
                result = _run(given, spec, options, found, batch_size, identity, feed)
            else:
                result = _unrolled(given, spec, batch_size, feed)
        result, kept = given.complete(result), given.detached().beside()
    return told(result, began, kept)


def _run(
    given: Problem,
    spec: RunSpec,
    options: RunOptions,
    found: TuningTarget | None,
    part_size: int,
    identity: Callable[..., Call],
    feed: Feed | None,
) -> Result:
    """Find a learning rate if that is sought, run the epochs, and settle on the point to return.

    Compiling begins as soon as the loop is traced; what else is traced and searched is done beside it.
    """
    functions = FitFunctions(given, spec, part_size, feed)
    given, spec = given.detached(), functions.with_shapes(functions.spec)
    objective = functions.objective
    call = identity(spec, objective.evaluate if options.jit else given.cost)
    saved = options.checked(call, spec)
    total = int(spec.n_epochs) * spec.source.count
    search = found and LearningRateSearch(found, _tuned(spec, feed), objective.evaluate, functions.value, total)
    rows = functions.rows
    run = run_of_epochs(spec, objective, options, given.complete, rows, feed)
    evaluates = feed is None or feed.evaluates
    if evaluates:
        rows.prepare(spec)
    if search:
        spec = search(spec, saved and saved.tuning)

    def attempt(spec: RunSpec, saved: Saved | None = None, to_save: Saved | None = None) -> Result:
        state, chunks = run(spec, saved, to_save)
        end, error = None, run.error
        if error is None and evaluates:
            try:
                end = find_end(spec, state, rows)
            except StreamError as raised:
                error = raised
        measured, end = end is not None, end or end_on_the_way(spec, state)
        history = report.history_over_all_rows(spec, state, end, chunks, rows if measured else None) if spec.names else None
        result = report.result_over_all_rows(spec, state, end, history)
        result = with_fields(result, saved=Saved.of(state, chunks, search and search.tuning, call, run.fields))
        result = with_fields(result, in_parts=functions.in_parts if measured else {"last epoch": spec.source.count})
        if error is not None:
            error.result = result
            raise error
        return result

    result = attempt(spec, saved, Saved({}, [], search and search.tuning, call))
    if search:
        result = search.retry_if_worse(result, spec, attempt)
    result = functions.with_derivatives(result)
    if is_traced(result.code):
        return result
    if result.status is Status.DIVERGED and evaluates:
        start = start_over_all_rows(spec, rows)
        evaluate = extras.rebound(rows.evaluate, spec.measured(result.state))
        result = _nonfinite.diagnosed(result, start, evaluate, given.frozen, spec.source.data)
    return _nonfinite.of_validation(result, result.state.validation_cost, *spec.validation) if spec.validation else result


def _unrolled(given: Problem, spec: RunSpec, part_size: int, feed: Feed | None) -> Result:
    """Return the result of a run of a fixed number of steps, all of which have derivatives."""
    if feed is not None:
        raise ValueError(f"data: expected arrays with implicit=False, got {feed}.")
    check_takes_every_step(spec.method)
    functions = FitFunctions(given, spec, part_size, None, apart=False)
    spec = functions.with_shapes(spec)
    state, chunks = unrolled.run(spec, functions.objective, int(spec.n_epochs))
    still, seen, rows, rest = detached((spec, state, functions.rows, chunks))
    end = find_end(still, seen, rows)
    history = report.history_over_all_rows(still, seen, end, rest, rows) if spec.names else None
    result = with_fields(report.result_over_all_rows(still, seen, end, history), in_parts=functions.in_parts)
    if not is_traced(spec, functions.objective):
        return result
    params = point_at(spec, state, end.choice)
    cost, gradient, aux = extras.rebound(functions.over_all_rows, spec.measured(state))(params, spec.source.data)
    return with_fields(result, params=params, cost=cost, gradient=gradient, aux=aux)


def _settled(
    given: Problem, feed: Feed | None, arrays: Any, held_out: tuple[Any, ...], batch_size: int
) -> tuple[Any, tuple[Any, ...], Layout]:
    """Return data and validation data in their dtypes and on their devices, and how the rows lie over these."""
    layout, sample = TOGETHER, functools.partial(rows_like, size=batch_size)
    if feed is None:
        arrays, *held_out = given.settled(arrays, *held_out, sample=sample)  # type: ignore[assignment]
        arrays, layout = layout_of("data", arrays)
        check_devices("start", given.params, arrays)
        _check_share(batch_size, layout)
    else:
        held_out = given.settle(feed, *held_out, sample=sample)
    for one in held_out:
        check_devices("validation", one, arrays)
    return arrays, tuple(layout_of("validation", one, layout)[0] for one in held_out), layout


def _source(arrays: Any, layout: Layout, feed: Feed | None, *arguments: Any) -> Batches:
    """Return the source of the rows of a run; the other arguments are those of `Batches`."""
    if feed is None:
        return batches(layout, arrays, *arguments)
    return Chunk(feed.like, *arguments, cuts=feed.cuts)


def _tuned(spec: RunSpec, feed: Feed | None) -> RunSpec:
    """Return what a search for a learning rate is told: of a feed it sees a sample."""
    return spec if feed is None else with_fields(spec, source=feed.batches(spec.source))


def _check_share(batch_size: int, layout: Layout) -> None:
    """Check that all devices over which rows are split can have an equal share of a batch."""
    count = layout.n_shards
    if batch_size % count:
        near = max(batch_size // count, 1) * count
        raise ValueError(
            f"batch_size: expected a multiple of {count}, since the rows of the data are split over {count} devices and each gives "
            f"an equal share of every batch, got {batch_size}: pass {near}, or data on fewer devices."
        )


def _seed(key: Any, shuffle: bool | str, *, all_rows: bool) -> orders.Seed:
    """Return the seed of the order of rows; where no order is drawn none is needed."""
    if shuffle is False or (all_rows and shuffle is True):
        return orders.Seed(np.uint32(0), np.uint32(0))
    if key is None:
        check.missing_key(f"shuffle={shuffle!r}")
    return orders.seed(key)


def _averaging(average: Any, n_epochs: int, n_batches: int, params: Any) -> dict[str, Any]:
    """Return what a run is told of an average: the epoch and the batch of the first update in it, and its decay."""
    if average is None:
        return {}
    if isinstance(average, ExponentialAverage):
        return {"average_from": (np.int32(0), np.int32(0)), "decay": decay_of(average, working_dtype(params))}
    total = n_epochs * n_batches
    epoch, batch = divmod(total - math.ceil(average * total * (1 - 1e-12)), n_batches)
    return {"average_from": (np.int32(epoch), np.int32(batch))}
