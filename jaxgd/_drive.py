"""The host's side of a run: it cuts the run into segments of the compiled loop, and does between them what needs the host.

A plain run is cut about twice a second, so that the keyboard can interrupt it; a progress bar wants shorter segments, a callback
one for each tick, and a history none longer than its buffer. The cuts change no bit of the numbers.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _checks
from jaxgd._loops import Loop, eager
from jaxgd._program import Program, compiled
from jaxgd._trees import integer, is_traced, pytree, with_fields
from jaxgd.result import RUNNING, Best, Status

_SECONDS = 0.5
_SECONDS_WITH_BAR = 0.1
_FIRST_TICKS = 256
_CALLBACK_ROWS = 16  # a segment of one tick needs no long buffer
_BYTES_PER_SECOND = 2e8  # how fast a first segment is guessed to read the data: slowly, since the cost is unknown


@pytree
class Progress:
    """What a callback sees, between two steps of `minimize` or two epochs of `fit`.

    Attributes:
        step: updates applied so far.
        epoch: whole epochs so far; in `minimize` each step is one.
        params: the current parameters.
        cost: their cost in `minimize`; in `fit` the mean over the epoch's rows of the costs of their batches.
        validation_cost: in `fit` the cost of `params` on the validation data; None where there are none.
        best: `best.params` and `best.cost` so far; in `fit`, until it has ended, without the start and, where the costs of points
            over all rows are not known on the way, the end of the epoch with the lowest `cost`, with that.

    >>> import jaxgd
    >>> def watch(progress):
    ...     print(progress.step, float(progress.params), float(progress.cost))
    ...     return progress.cost < 0.1
    >>> result = jaxgd.minimize(lambda v: v**2, 1.0, method=jaxgd.GradientDescent(0.25), callback=watch)
    1 0.5 0.25
    2 0.25 0.0625
    >>> print(result.status)
    Stopped by the callback.
    """

    step: Any
    epoch: Any
    params: Any
    cost: Any
    validation_cost: Any
    best: Best


Callback = Callable[[Progress], Any]
"""A function that is shown the progress, and stops the run by returning True."""


class Host(NamedTuple):
    """What the host is asked to do during a run."""

    callback: Callback | None
    progress: bool
    jit: bool


def run(
    loop: Loop,
    plan: Any,
    functions: Any,
    *,
    limit: int,
    total: int,
    row: Callable[[Any], Any] | None,
    view: Callable[[Any], Progress],
    unit: str,
    host: Host,
    meanwhile: Callable[[Any, Any], Any] = lambda plan, state: plan,
) -> tuple[Any, list[Any]]:
    """Run a loop to its end, at tick `limit` at the latest; return the last state and the rows recorded.

    While the loop is compiled, `meanwhile` is called with the plan and a state of the shapes to come, and returns the plan with any
    numbers changed. `total` is the number of steps or epochs that a progress bar counts to. `row` says what to record of a state,
    if anything; the rows are one pytree of arrays for each segment. While somebody else traces the run, it is one segment, and its
    rows are padded to the length that they can have at most.

    A `KeyboardInterrupt` ends the run after the segment under way; while the first is still compiled there is nothing to return,
    and it is raised.
    """
    if is_traced(plan, functions if host.jit else ()):
        if host.callback or host.progress:
            name = "callback" if host.callback else "progress"
            raise ValueError(f"{name}: expected none inside jax.jit, jax.vmap or jax.grad, where a run has no pauses.")
        plan = meanwhile(plan, loop.begin(plan))
        state, rows = loop.segment(with_fields(plan, capacity=limit), functions, loop.begin(plan), limit)
        return state, [_padded(rows, state.rows)] if row else []
    begin = compiled(loop.begin, plan)
    state = begin.zeros(plan) if host.jit else begin(plan)
    if row:
        capacity = _capacity(jax.eval_shape(row, state))
        plan = with_fields(plan, capacity=min(capacity, _CALLBACK_ROWS) if host.callback else capacity)
    program = compiled(loop, plan, functions) if host.jit else None
    if program:
        program.prepare(plan, functions, state, np.int32(0))
    plan = meanwhile(plan, state)
    if program:
        program.wait()
    pace = _Pace(program, plan, host)
    journey = _Journey(state)
    seen = 0
    with _Bar(host.progress, unit, total) as bar:
        try:
            while journey.code == RUNNING:
                began, ticks = time.perf_counter(), journey.ticks
                until = np.int32(min(ticks + pace.ticks(), limit))
                arguments = plan, functions, journey.state, until
                journey.ahead = program(*arguments) if program else loop.segment(*arguments, eager)
                journey.arrive()
                pace.measure(journey.ticks - ticks, time.perf_counter() - began)
                if host.callback or host.progress:
                    sight = view(journey.state)
                    if sight.epoch > seen:
                        seen = sight.epoch
                        bar.show(sight)
                        if host.callback and _says_true(host.callback(sight)):
                            journey.end(Status.CALLBACK)
        except KeyboardInterrupt:
            journey.arrive()
            if journey.ticks == 0:
                raise
            journey.end(Status.INTERRUPTED)
    return journey.state, journey.chunks


class _Journey:
    """Where a run is: its last state, and the rows recorded up to there.

    An interrupt may come while a segment is under way (`ahead`): that segment is then still waited for, and nothing of it is lost.
    """

    def __init__(self, state: Any) -> None:
        self.state = state
        self.chunks: list[Any] = []
        self.ahead: Any = None
        self.ticks, self.rows, self.code = 0, 0, RUNNING

    def arrive(self) -> None:
        """Wait for the segment ahead, if there is one, and take it in."""
        if self.ahead is None:
            return
        state, rows = self.ahead
        code, ticks, n_rows = integer(state.code), integer(state.ticks), integer(state.rows) if rows else 0
        chunk = [jax.tree.map(lambda leaf: np.asarray(leaf)[: n_rows - self.rows].copy(), rows)] if rows else []
        self.state, self.code, self.ticks, self.rows, self.chunks, self.ahead = (
            state,
            code,
            ticks,
            n_rows,
            self.chunks + chunk,
            None,
        )

    def end(self, status: Status) -> None:
        """End a run that has not ended by itself."""
        if self.code == RUNNING:
            self.code = status.code
            self.state = self.state._replace(code=np.int32(status.code))


def _says_true(answer: Any) -> bool:
    """Whether a callback returned True, of Python's, NumPy's or JAX's; anything else is no answer."""
    if isinstance(answer, np.bool_ | np.ndarray | jax.Array) and np.shape(answer) == () and answer.dtype == bool:
        return bool(answer)
    return answer is True


def _padded(rows: Any, n_rows: Any) -> Any:
    """The rows with NaN, or zero for integers, after the last that was written."""

    def pad(leaf: jax.Array) -> jax.Array:
        written = jnp.arange(leaf.shape[0], dtype=jnp.int32) < n_rows
        blank = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else 0
        return jnp.where(written.reshape((-1,) + (1,) * (leaf.ndim - 1)), leaf, jnp.asarray(blank, leaf.dtype))

    return jax.tree.map(pad, rows)


def _capacity(row: Any) -> int:
    """How many rows of a history a segment holds: about 4 MB of them, whatever the length of the run."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(row))
    return min(4096, max(16, 2**22 // max(size, 1)))


class _Pace:
    """How many ticks the next segment gets."""

    def __init__(self, program: Program | None, plan: Any, host: Host) -> None:
        self.program = program
        self.seconds = _SECONDS_WITH_BAR if host.progress else _SECONDS
        guess = sum(leaf.nbytes for leaf in jax.tree.leaves(plan.data)) / _BYTES_PER_SECOND
        self.first = min(_FIRST_TICKS, max(1, int(self.seconds / (guess + 1e-9))))
        self.most = 1 if host.callback or program is None else plan.capacity or None

    def ticks(self) -> int:
        """The length of the next segment."""
        measured = self.program.seconds_per_tick if self.program else None
        ticks = self.first if measured is None else max(1, int(self.seconds / measured))
        return ticks if self.most is None else min(ticks, self.most)

    def measure(self, ticks: int, seconds: float) -> None:
        """Learn from a segment; the first of a program has to find what was compiled, and says little."""
        if self.program and self.program.is_cold:
            self.program.is_cold = False
        elif self.program and ticks > 0:
            self.program.seconds_per_tick = seconds / ticks


class _Bar:
    """A progress bar of tqdm's, or nothing."""

    def __init__(self, wanted: bool, unit: str, total: int) -> None:
        self.bar = None
        if wanted:
            self.bar = _checks.progress_bar()(total=total, unit=unit)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, sight: Progress) -> None:
        """Move to where the run is, with the cost beside."""
        if self.bar is not None:
            costs = {"cost": sight.cost, "validation": sight.validation_cost}
            self.bar.set_postfix({name: f"{float(cost):.6g}" for name, cost in costs.items() if cost is not None}, refresh=False)
            self.bar.update(int(sight.epoch) - self.bar.n)
