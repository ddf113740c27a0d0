"""The host's side of a run: it cuts the run into segments, and does between them what needs the host.

A plain run is cut about twice a second, so that the keyboard can interrupt it; a progress bar wants shorter segments, a callback
one for each epoch, and a history none longer than its buffer. The cuts change no bit of the numbers.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile.program import Program, program_for
from jaxgd._run import fused, report, stepwise
from jaxgd._run.advance import row
from jaxgd._run.objective import Objective
from jaxgd._run.progress import Bar, Callback, Progress, says_true
from jaxgd._run.saved import Call, Resume, Saved, reopened
from jaxgd._run.state import RunSpec, begin
from jaxgd._trees import integer, is_traced, with_fields
from jaxgd.result import RUNNING, Status

_SECONDS = 0.5
_SECONDS_WITH_BAR = 0.1
_FIRST_TICKS = 256
_CALLBACK_ROWS = 16  # a segment of one tick needs no long buffer
_BYTES_PER_SECOND = 2e8  # how fast a first segment is guessed to read the data: slowly, since the cost is unknown


class RunOptions(NamedTuple):
    """The options of the host during a run."""

    callback: Callback | None = None
    progress: bool = False
    jit: bool = True
    resume: Resume | None = None

    def checked(self, call: Call) -> Saved | None:
        """Return the run to go on with, if there is one and this call may."""
        if self.resume is None:
            return None
        if call.is_traced:
            raise _no_pauses("resume")
        saved = self.resume.saved()
        call.check(saved.call, force=self.resume.force)
        return saved


def _no_pauses(name: str) -> ValueError:
    return ValueError(f"{name}: expected none inside jax.jit, jax.vmap or jax.grad, where a run has no pauses.")


class Loop(NamedTuple):
    """A loop over ticks: what its state is before the first, and how a segment of it runs.

    `run_segment` and `continue_run` take a spec, an objective, a state and the tick to stop at, and return the state and the rows
    recorded. The first of them also begins the run.
    """

    begin: Callable[[Any], Any]
    run_segment: Callable[..., tuple[Any, Any]]
    continue_run: Callable[..., tuple[Any, Any]]


EPOCHS = Loop(begin, fused.run_segment, fused.continue_run)


class Run:
    """A run from its specification to its last state.

    Args:
        loop: what runs.
        spec: what the run is told.
        objective: what it may ask of the cost.
        options: what the host does between segments.
        view: what a callback sees of a state.
        row: what is recorded of a state; None for nothing.
        unit: what a progress bar counts.
        total: how many of them.
    """

    def __init__(
        self,
        loop: Loop,
        spec: Any,
        objective: Any,
        options: RunOptions,
        *,
        view: Callable[[Any], Progress],
        row: Callable[[Any], Any] | None,
        unit: str,
        total: int,
    ) -> None:
        self.loop, self.objective, self.options = loop, objective, options
        self.view, self.unit, self.total = view, unit, total
        self.limit = int(spec.n_epochs)
        self.inside = is_traced(spec, objective if options.jit else ())
        self.recorded = row is not None
        self.program: Program | None = None
        if self.inside:
            if options.callback or options.progress:
                raise _no_pauses("callback" if options.callback else "progress")
            self.capacity, self.blank = self.limit if row else 0, None
            return
        begin = program_for(loop.begin, spec)
        self.blank = begin.zeros(spec) if options.jit else begin(spec)
        self.capacity = 0
        if row is not None:
            most = _capacity(jax.eval_shape(row, self.blank))
            self.capacity = min(most, _CALLBACK_ROWS) if options.callback else most
        if options.jit:
            spec = self._with_capacity(spec)
            self.program = program_for(loop.run_segment, spec, objective)
            self.program.prepare(spec, objective, self.blank, np.int32(0))

    def __call__(self, spec: Any, saved: Saved | None = None) -> tuple[Any, list[Any]]:
        """Run to the end; return the last state, and the rows recorded, a pytree of arrays for each segment.

        A `saved` run goes on; without one the run begins.

        `spec` may have other numbers than the one that the run was made for. While somebody else traces the run, it is one segment,
        and its rows are padded to the length that they can have at most.

        A `KeyboardInterrupt` ends the run after the segment under way; while the first is still compiled there is nothing to
        return, and it is raised.
        """
        spec = self._with_capacity(spec)
        if self.inside:
            state, rows = self.loop.continue_run(spec, self.objective, self.loop.begin(spec), self.limit)
            return state, [_padded(rows, spec.n_rows(state))] if self.recorded else []
        if self.program:
            self.program.wait()
        length = SegmentLength(self.program, spec, self.options)
        progress = (
            RunProgress(spec, self.blank, []) if saved is None else RunProgress(spec, reopened(spec, self.blank, saved), saved.rows)
        )
        seen = progress.ticks
        with Bar(self.options.progress, self.unit, self.total) as bar:
            try:
                while progress.code == RUNNING:
                    began, ticks = time.perf_counter(), progress.ticks
                    until = np.int32(min(ticks + length.ticks(), self.limit))
                    segment = self.program or stepwise.run_segment
                    progress.ahead = segment(spec, self.objective, progress.state, until)
                    progress.arrive(spec)
                    length.measure(progress.ticks - ticks, time.perf_counter() - began)
                    if self.options.callback or self.options.progress:
                        view = self.view(progress.state)
                        if view.epoch > seen:
                            seen = view.epoch
                            bar.show(view)
                            if self.options.callback and says_true(self.options.callback(view)):
                                progress.end(Status.CALLBACK)
            except KeyboardInterrupt:
                progress.arrive(spec)
                if progress.ticks == 0:
                    raise
                progress.end(Status.INTERRUPTED)
        return progress.state, progress.chunks

    def _with_capacity(self, spec: Any) -> Any:
        return with_fields(spec, capacity=self.capacity) if self.recorded else spec


def run_of_epochs(spec: RunSpec, objective: Objective, options: RunOptions, complete: Callable[[Any], Any]) -> Run:
    """Return a run of `minimize` or `fit`; `complete` turns free parameters in a view into all of them."""
    return Run(
        EPOCHS,
        spec,
        objective,
        options,
        view=lambda state: complete(report.progress(spec, state)),
        row=(lambda state: row(spec, state, spec.start)) if spec.names else None,  # a gradient has the shapes of the start
        unit="step" if spec.returns_current else "epoch",
        total=int(spec.n_epochs) - spec.returns_current,  # the evaluation of the start is no step
    )


class RunProgress:
    """The progress of a run: its last state, and the rows recorded up to there.

    An interrupt may come while a segment is under way (`ahead`): that segment is then still waited for, and nothing of it is lost.
    """

    def __init__(self, spec: Any, state: Any, chunks: list[Any]) -> None:
        self.state, self.chunks = state, list(chunks)
        self.ahead: Any = None
        self.code, self.ticks, self.rows = _counts(spec, state)

    def arrive(self, spec: Any) -> None:
        """Wait for the segment ahead, if there is one, and take it in."""
        if self.ahead is None:
            return
        state, rows = self.ahead
        code, ticks, n_rows = _counts(spec, state)
        chunk = [jax.tree.map(lambda leaf: np.asarray(leaf)[: n_rows - self.rows].copy(), rows)] if rows else []
        self.chunks, self.state, self.ahead = self.chunks + chunk, state, None
        self.code, self.ticks, self.rows = code, ticks, n_rows

    def end(self, status: Status) -> None:
        """End a run that has not ended by itself."""
        if self.code == RUNNING:
            self.code = status.code
            self.state = self.state._replace(code=np.int32(status.code))


def _counts(spec: Any, state: Any) -> tuple[int, int, int]:
    """Return the code of a state, its ticks, and the rows recorded up to it where a history is."""
    return integer(state.code), integer(state.ticks), integer(spec.n_rows(state)) if spec.capacity else 0


def _padded(rows: Any, n_rows: Any) -> Any:
    """Return the rows with NaN, or zero for integers, after the last that was written."""

    def pad(leaf: jax.Array) -> jax.Array:
        written = jnp.arange(leaf.shape[0], dtype=jnp.int32) < n_rows
        blank = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else 0
        return jnp.where(written.reshape((-1,) + (1,) * (leaf.ndim - 1)), leaf, jnp.asarray(blank, leaf.dtype))

    return jax.tree.map(pad, rows)


def _capacity(row: Any) -> int:
    """Return how many rows of a history a segment holds: about 4 MB of them, whatever the length of the run."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(row))
    return min(4096, max(16, 2**22 // max(size, 1)))


class SegmentLength:
    """How many ticks the next segment gets."""

    def __init__(self, program: Program | None, spec: Any, options: RunOptions) -> None:
        self.program = program
        self.seconds = _SECONDS_WITH_BAR if options.progress else _SECONDS
        guess = sum(leaf.nbytes for leaf in jax.tree.leaves(spec.source.data)) / _BYTES_PER_SECOND
        self.first = min(_FIRST_TICKS, max(1, int(self.seconds / (guess + 1e-9))))
        self.most = 1 if options.callback or program is None else spec.capacity or None
        self.in_common = jax.process_count() > 1 and any(
            isinstance(leaf, jax.Array) and not leaf.is_fully_addressable for leaf in jax.tree.leaves(spec)
        )

    def ticks(self) -> int:
        """Return the length of the next segment, the same in all processes that run it together."""
        measured = self.program.seconds_per_tick if self.program else None
        ticks = self.first if measured is None else max(1, int(self.seconds / measured))
        ticks = ticks if self.most is None else min(ticks, self.most)
        return _of_process_0(ticks) if self.in_common else ticks

    def measure(self, ticks: int, seconds: float) -> None:
        """Learn from a segment; the first of a program has to find what was compiled, and says little."""
        if self.program and self.program.is_cold:
            self.program.is_cold = False
        elif self.program and ticks > 0:
            self.program.seconds_per_tick = seconds / ticks


def _of_process_0(number: int) -> int:
    """Return the number that process 0 has: clocks differ, and all processes must run the same collectives."""
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(min(number, 2**31 - 1))))
