"""The host's side of a run: it cuts the run into segments, and does between them what needs the host.

A plain run is cut about twice a second, so that the keyboard can interrupt it; a progress bar wants shorter segments, a callback
one for each epoch, and a history none longer than its buffer. The cuts change no bit of the numbers.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._compile.program import Program, program_for
from jaxgd._compile.within import within
from jaxgd._run import fused, report, stepwise
from jaxgd._run.advance import row
from jaxgd._run.apart import Apart, first_run
from jaxgd._run.audience import Audience
from jaxgd._run.objective import Objective
from jaxgd._run.options import RunOptions, no_pauses
from jaxgd._run.processes import Processes, processes_of
from jaxgd._run.progress import Progress
from jaxgd._run.saved import Saved, reopened
from jaxgd._run.segments import SegmentLength
from jaxgd._run.state import RunSpec, begin, goes_on, start_epoch
from jaxgd._shards import begin_copies, is_split
from jaxgd._trees import integer, is_traced, with_fields
from jaxgd.checkpoint import Saver
from jaxgd.data.feed import Feed
from jaxgd.data.layout import alongside
from jaxgd.data.stream import StreamError
from jaxgd.result import RUNNING, Status

_CALLBACK_ROWS = 16  # a segment of one tick needs no long buffer


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
        feed: where the rows of a run come from that come chunk by chunk; None where they are all in the spec.
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
        feed: Feed | None = None,
    ) -> None:
        self.loop, self.objective, self.options = loop, objective, options
        self.view, self.unit, self.total, self.feed = view, unit, total, feed
        self.limit, self.count = int(spec.n_epochs), spec.source.count
        rows = [leaf.shape[0] for leaf in jax.tree.leaves(spec.source.data) if leaf.ndim] if feed is None else [feed.n_rows]
        self.rows_per_batch = rows[0] / self.count if rows else None
        self.inside = is_traced(spec, objective if options.jit else ())
        self.recorded, self.row = row is not None, None
        self.program: Program | None = None
        self.apart: Apart | None = None
        self.blank: Any = None
        self.processes = processes_of(spec)
        self.error: StreamError | None = None
        self.fields: dict[str, Any] = {}
        if self.inside:
            if options.callbacks or options.progress:
                raise no_pauses("callback" if options.callbacks else "progress")
            self.capacity = self.limit if row else 0
            return
        begin = program_for(loop.begin, spec)
        self.blank = _blank(spec, begin) if options.jit else begin(spec)
        self.capacity = 0
        if row is not None:
            like = jax.eval_shape(row, self.blank)
            most, self.row = _capacity(like), jax.tree.structure(like)
            self.capacity = min(most, _CALLBACK_ROWS) if options.callbacks else most
        if options.jit and feed is None:
            spec = self._with_capacity(spec)
            self.program = program_for(loop.run_segment, spec, objective, in_parts=True)
            like = self.blank, {} if self.row is None else jax.tree.unflatten(self.row, [0] * self.row.num_leaves)
            arguments = spec, objective, self.blank, np.int32(0)
            if self.program.recall(like, *arguments):
                return
            if loop is EPOCHS and not self.processes.several:  # a first run is cut by the clock of its own process
                self.apart = first_run(self.program, spec, objective, self.blank)
            if self.apart is None:
                self.program.prepare(*arguments, like=like)

    def __call__(self, spec: Any, saved: Saved | None = None, to_save: Saved | None = None) -> tuple[Any, list[Any]]:
        """Run to the end; return the last state, and the rows recorded, a pytree of arrays for each segment.

        A `saved` run goes on; without one the run begins. `to_save` is what checkpoints hold beside its state.
        `spec` may have other numbers than the one that the run was made for.
        While somebody else traces the run, it is one segment, and its rows are padded to the length that they can have at most.

        A `KeyboardInterrupt` ends the run after the segment under way; while the first is still compiled there is nothing to
        return, and it is raised. An error in a stream ends it likewise, and is kept in `error`. What is saved of the feed beside
        the state is in `fields`.
        """
        spec = self._with_capacity(spec)
        if self.inside:
            if saved is not None:
                raise no_pauses("resume")
            state, rows = within(self.loop.continue_run)(spec, self.objective, self.loop.begin(spec), np.int32(self.limit))
            return state, [_padded(rows, spec.n_rows(state))] if self.recorded else []
        if self.program and self.apart is None:
            self.program.wait()
        length = SegmentLength(self.program, spec, self.options, self.processes)
        state, rows = (self.blank, []) if saved is None else (reopened(spec, self.blank, saved), saved.rows)
        state = alongside(state, spec.source.data)
        rows = [jax.tree.unflatten(self.row, jax.tree.leaves(chunk)) for chunk in rows]
        progress = RunProgress(spec, state, rows, self.processes)
        with contextlib.ExitStack() as stack:
            interrupted, saver, terminated = stack.enter_context(self.processes.interruptible()), None, False
            if self.options.checkpoint is not None and to_save is not None:
                place = None if saved is None else progress.place
                saver = stack.enter_context(Saver(self.options.checkpoint, to_save, place, self.processes))
            if self.feed is not None:
                stack.enter_context(self._open(self.feed, saved))
                progress.feed = self.feed
            audience = stack.enter_context(Audience(self, progress, saver, resumed=saved is not None))
            try:
                while progress.code == RUNNING and not (terminated and progress.place > 0):
                    began, place = time.perf_counter(), progress.place
                    progress.ahead = self._segment(spec, progress, audience.next_stop(length))
                    progress.arrive(spec)
                    seconds = time.perf_counter() - began
                    if self.apart is None or self.apart.is_over:
                        length.measure((progress.place - place) / self.count, seconds)
                    if audience.stops(progress, seconds):
                        progress.end(Status.CALLBACK)
                    terminated = saver is not None and self.processes.anyone(saver.terminated)
                    if self.processes.several and self.processes.anyone(interrupted()):
                        progress.end(Status.INTERRUPTED)
            except KeyboardInterrupt:
                progress.arrive(spec)
                if progress.place == 0:
                    raise
                progress.end(Status.INTERRUPTED)
            except StreamError as error:
                if progress.place == 0:
                    raise
                self.error = error
                progress.end(Status.INTERRUPTED)
            finally:
                self.fields = progress.fields_of_feed
                if saver and progress.place > 0:
                    saver.save(progress)
            if terminated:
                progress.end(Status.INTERRUPTED)
            if self.apart is not None and progress.code != Status.INTERRUPTED.code:
                self.apart.end(spec, self.objective, self.blank, np.int32(0))
        return progress.state, progress.chunks

    @contextlib.contextmanager
    def _open(self, feed: Feed, saved: Saved | None) -> Iterator[None]:
        """Let the feed go on where a run was saved, and close it in the end."""
        for position in jax.tree.leaves(saved.fields.get("feed")) if saved else []:
            feed.reopen(position)
        self.error, self.fields, feed.n_epochs = None, {}, self.limit
        try:
            yield
        finally:
            feed.close()

    def _segment(self, spec: Any, progress: "RunProgress", stop: int) -> tuple[Any, Any]:
        """Run until `stop`, a number of batches: whole epochs, or a part of one."""
        if self.feed is not None and spec.source.count > 1:
            return self._chunk(spec, progress, stop)
        count, state, call = spec.source.count, progress.state, self._call
        epoch, batch = divmod(stop, count)
        within = getattr(state, "under_way", None) is not None
        if not within and epoch > progress.ticks:
            until = np.int32(min(epoch, self.limit))
            if self.apart is not None and not self.apart.hands_over(spec, self.objective, state, until):
                return self.apart.run_segment(spec, self.objective, progress, until)
            return call(self.loop.run_segment, stepwise.run_segment, spec, self.objective, state, until)
        if not within:
            state = call(start_epoch, None, spec, call(begin, None, spec) if progress.place == 0 else state)
        if epoch == progress.ticks:
            state = call(fused.run_part, stepwise.run_part, spec, self.objective, state, np.int32(batch))
            if integer(goes_on(spec, state)):
                return state, {}
        return call(fused.end_part, stepwise.end_part, spec, self.objective, state)

    def _chunk(self, spec: Any, progress: "RunProgress", stop: int) -> tuple[Any, Any]:
        """Run until `stop`, a number of batches, or to the end of the chunk under way."""
        count, state, call = spec.source.count, progress.state, self._call
        if state.under_way is None:
            state = call(start_epoch, None, spec, call(begin, None, spec) if progress.place == 0 else state)
        chunk, end = self.feed.chunk(spec.source, progress.ticks, integer(state.batch))  # type: ignore[union-attr]
        end = min(end, stop - progress.ticks * count)
        fed, in_steps = with_fields(spec, source=chunk), self.objective._replace(validation=None, all_rows=None)
        state = call(fused.run_part, stepwise.run_part, fed, in_steps, state, np.int32(end))
        if end < count and integer(goes_on(spec, state)):
            return state, {}
        return stepwise.end_part(fed, self.objective, state)

    def _call(self, function: Any, eager: Any, *arguments: Any) -> Any:
        """Call a function as a program, or what stands for it where the cost runs as Python."""
        if eager is not None and not self.options.jit:
            return eager(*arguments)
        program = self.program if function is self.loop.run_segment else program_for(function, *arguments[:2], in_parts=True)
        return program(*arguments)  # type: ignore[misc]

    def _with_capacity(self, spec: Any) -> Any:
        return with_fields(spec, capacity=self.capacity) if self.recorded else spec


def run_of_epochs(
    spec: RunSpec,
    objective: Objective,
    options: RunOptions,
    complete: Callable[[Any], Any],
    rows: Any = None,
    feed: Feed | None = None,
) -> Run:
    """Return a run of `minimize` or `fit`; `complete` turns free parameters in a view into all of them.

    `rows` is what evaluates the cost over all rows where the state does not hold that, and `feed` where rows come from that come
    chunk by chunk.
    """
    return Run(
        EPOCHS,
        spec,
        objective,
        options,
        view=lambda state: complete(report.progress(spec, state, rows)),
        row=(lambda state: row(spec, state, spec.start)) if spec.names else None,  # a gradient has the shapes of the start
        unit="step" if spec.returns_current else "epoch",
        total=int(spec.n_epochs) - spec.returns_current,  # the evaluation of the start is no step
        feed=feed,
    )


class RunProgress:
    """The progress of a run: its last state, and the rows recorded up to there.

    An interrupt may come while a segment is under way (`ahead`): that segment is then still waited for, and nothing of it is lost.
    `place` counts the batches so far.
    """

    def __init__(self, spec: Any, state: Any, chunks: list[Any], processes: Processes) -> None:
        self.state, self.chunks, self.processes = state, list(chunks), processes
        self.ahead: Any = None
        self.feed: Feed | None = None
        self.count = spec.source.count
        self.code, self.ticks, self.place, self.rows = _counts(spec, state)

    def arrive(self, spec: Any) -> None:
        """Wait for the segment ahead, if there is one, and take it in: at once, so that an interrupt finds all of it or nothing."""
        if self.ahead is None:
            return
        state, rows = self.ahead
        begin_copies(state)
        code, ticks, place, n_rows = _counts(spec, state)
        rows = self.processes.on_host(rows)
        chunk = [jax.tree.map(lambda leaf: np.asarray(leaf)[: n_rows - self.rows].copy(), rows)] if rows else []
        self.state, self.code, self.ticks, self.place, self.rows, self.chunks, self.ahead = (
            state,
            code,
            ticks,
            place,
            n_rows,
            self.chunks + chunk,
            None,
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that are saved: those of the state, and what the feed needs to go on."""
        return self.processes.on_host(self.state._asdict()) | self.fields_of_feed

    @property
    def fields_of_feed(self) -> dict[str, Any]:
        """The place of the feed, from which it goes on; nothing for most."""
        position = None if self.feed is None else self.feed.position(self.ticks, self.place - self.ticks * self.count)
        return {} if position is None else {"feed": position}

    def end(self, status: Status) -> None:
        """End a run that has not ended by itself."""
        if self.code == RUNNING:
            self.code = status.code
            self.state = self.state._replace(code=np.int32(status.code))


def _blank(spec: Any, begin: Program) -> Any:
    """Return a state of the right shapes, where a state after a segment lies, so that one program takes both.

    With a start that is itself split over devices it is the compiler who decides that.
    """
    blank = begin.zeros(spec)
    return blank if any(map(is_split, jax.tree.leaves(spec.start))) else alongside(blank, spec.source.data)


def _counts(spec: Any, state: Any) -> tuple[int, int, int, int]:
    """Return the code of a state, its ticks, its batches, and the rows of a history up to it."""
    code, ticks, count = integer(state.code), integer(state.ticks), spec.source.count
    batch = integer(state.batch) if count > 1 else 0
    return code, ticks, ticks * count + batch, integer(spec.n_rows(state)) if spec.capacity else 0


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
