"""The host's side of a run: it cuts the run into segments, and does between them what needs the host.

A plain run is cut about twice a second, so that the keyboard can interrupt it; a progress bar wants shorter segments, a callback
one for each epoch, and a history none longer than its buffer. The cuts change no bit of the numbers.
"""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._compile.program import Program, program_for
from jaxgd._run import fused, report, stepwise
from jaxgd._run.advance import row
from jaxgd._run.objective import Objective
from jaxgd._run.progress import Progress, display, says_true
from jaxgd._run.saved import Call, Saved, check_length, parts_of, reopened
from jaxgd._run.state import RunSpec, begin, goes_on
from jaxgd._run.sums import begin_part
from jaxgd._trees import integer, is_traced, with_fields
from jaxgd.callbacks import Every, as_callbacks
from jaxgd.checkpoint import Checkpoint, Resume, Saver, as_checkpoint, as_resume, to_go_on_with
from jaxgd.result import RUNNING, Status

_SECONDS = 0.5
_SECONDS_WITH_BAR = 0.1
_FIRST_TICKS = 256
_LONGEST_EPOCH = 2.0  # seconds, above which a run that is to be saved pauses within its epochs
_CALLBACK_ROWS = 16  # a segment of one tick needs no long buffer
_BYTES_PER_SECOND = 2e8  # how fast a first segment is guessed to read the data: slowly, since the cost is unknown


class RunOptions(NamedTuple):
    """The options of the host during a run."""

    callbacks: tuple[Every, ...] = ()
    progress: bool | str = False
    jit: bool = True
    resume: Resume | None = None
    checkpoint: Checkpoint | None = None

    @staticmethod
    def of(callback: Any, progress: Any, resume: Any, checkpoint: Any, *, jit: bool, has_aux: bool) -> "RunOptions":
        """Check the arguments for the host, and the flag that goes with them."""
        check.options(has_aux=has_aux, progress=progress, jit=jit)
        return RunOptions(as_callbacks(callback), progress, jit, as_resume(resume), as_checkpoint(checkpoint))

    def check_alone(self, n_starts: int, history: Any) -> None:
        """Check that many starts do not come with what looks at one run."""
        looking = {"callback": self.callbacks, "progress": self.progress, "resume": self.resume, "checkpoint": self.checkpoint}
        check.alone("n_starts", n_starts, history=history, **looking, jit=not self.jit)

    def call(self, spec: RunSpec, cost: Any, method: Any, **others: Any) -> Call:
        """Return the identity of a call."""
        return Call(
            parts_of(spec, cost, method, **others),
            with_values=self.checkpoint is not None or (self.resume is not None and self.resume.is_path),
        )

    def checked(self, call: Call, spec: RunSpec) -> Saved | None:
        """Return the run to go on with, if there is one and this call may."""
        if self.resume is None and self.checkpoint is None:
            return None
        if call.is_traced:
            raise _no_pauses("checkpoint" if self.resume is None else "resume")
        saved = to_go_on_with(call, self.resume, self.checkpoint)
        if saved is not None:
            check_length(spec, saved)
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
        self.limit, self.count = int(spec.n_epochs), spec.source.count
        rows = [leaf.shape[0] for leaf in jax.tree.leaves(spec.source.data) if leaf.ndim]
        self.rows_per_batch = rows[0] / self.count if rows else None
        self.inside = is_traced(spec, objective if options.jit else ())
        self.recorded, self.row = row is not None, None
        self.program: Program | None = None
        self.blank: Any = None
        if self.inside:
            if options.callbacks or options.progress:
                raise _no_pauses("callback" if options.callbacks else "progress")
            self.capacity = self.limit if row else 0
            return
        begin = program_for(loop.begin, spec)
        self.blank = begin.zeros(spec) if options.jit else begin(spec)
        self.capacity = 0
        if row is not None:
            like = jax.eval_shape(row, self.blank)
            most, self.row = _capacity(like), jax.tree.structure(like)
            self.capacity = min(most, _CALLBACK_ROWS) if options.callbacks else most
        if options.jit:
            spec = self._with_capacity(spec)
            self.program = program_for(loop.run_segment, spec, objective)
            self.program.prepare(spec, objective, self.blank, np.int32(0))

    def __call__(self, spec: Any, saved: Saved | None = None, to_save: Saved | None = None) -> tuple[Any, list[Any]]:
        """Run to the end; return the last state, and the rows recorded, a pytree of arrays for each segment.

        A `saved` run goes on; without one the run begins. `to_save` is what checkpoints hold beside its state.
        `spec` may have other numbers than the one that the run was made for.
        While somebody else traces the run, it is one segment, and its rows are padded to the length that they can have at most.

        A `KeyboardInterrupt` ends the run after the segment under way; while the first is still compiled there is nothing to
        return, and it is raised.
        """
        spec = self._with_capacity(spec)
        if self.inside:
            if saved is not None:
                raise _no_pauses("resume")
            state, rows = self.loop.continue_run(spec, self.objective, self.loop.begin(spec), self.limit)
            return state, [_padded(rows, spec.n_rows(state))] if self.recorded else []
        if self.program:
            self.program.wait()
        length = SegmentLength(self.program, spec, self.options)
        state, rows = (self.blank, []) if saved is None else (reopened(spec, self.blank, saved), saved.rows)
        progress = RunProgress(spec, state, [jax.tree.unflatten(self.row, jax.tree.leaves(chunk)) for chunk in rows])
        with contextlib.ExitStack() as stack:
            saver = None
            if self.options.checkpoint is not None and to_save is not None:
                saver = stack.enter_context(Saver(self.options.checkpoint, to_save, None if saved is None else progress.place))
            audience = stack.enter_context(Audience(self, progress, saver, resumed=saved is not None))
            try:
                while progress.code == RUNNING and not (saver and saver.terminated and progress.place > 0):
                    began, place = time.perf_counter(), progress.place
                    progress.ahead = self._segment(spec, progress, audience.next_stop(length))
                    progress.arrive(spec)
                    seconds = time.perf_counter() - began
                    length.measure((progress.place - place) / self.count, seconds)
                    if audience.stops(progress, seconds):
                        progress.end(Status.CALLBACK)
            except KeyboardInterrupt:
                progress.arrive(spec)
                if progress.place == 0:
                    raise
                progress.end(Status.INTERRUPTED)
            finally:
                if saver and progress.place > 0:
                    saver.save(progress)
            if saver and saver.terminated:
                progress.end(Status.INTERRUPTED)
        return progress.state, progress.chunks

    def _segment(self, spec: Any, progress: "RunProgress", stop: int) -> tuple[Any, Any]:
        """Run until `stop`, a number of batches: whole epochs, or a part of one."""
        count, state, call = spec.source.count, progress.state, self._call
        epoch, batch = divmod(stop, count)
        within = getattr(state, "under_way", None) is not None
        if not within and epoch > progress.ticks:
            return call(self.loop.run_segment, stepwise.run_segment, spec, self.objective, state, np.int32(min(epoch, self.limit)))
        if not within:
            state = call(begin_part, None, spec, call(begin, None, spec) if progress.place == 0 else state)
        if epoch == progress.ticks:
            state = call(fused.run_part, stepwise.run_part, spec, self.objective, state, np.int32(batch))
            if integer(goes_on(spec, state)):
                return state, {}
        return call(fused.end_part, stepwise.end_part, spec, self.objective, state)

    def _call(self, function: Any, eager: Any, *arguments: Any) -> Any:
        """Call a function as a program, or what stands for it where the cost runs as Python."""
        if eager is not None and not self.options.jit:
            return eager(*arguments)
        program = self.program if function is self.loop.run_segment else program_for(function, *arguments[:2])
        return program(*arguments)  # type: ignore[misc]

    def _with_capacity(self, spec: Any) -> Any:
        return with_fields(spec, capacity=self.capacity) if self.recorded else spec


def run_of_epochs(
    spec: RunSpec, objective: Objective, options: RunOptions, complete: Callable[[Any], Any], rows: Any = None
) -> Run:
    """Return a run of `minimize` or `fit`; `complete` turns free parameters in a view into all of them.

    `rows` is what evaluates the cost over all rows where the state does not hold that.
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
    )


class RunProgress:
    """The progress of a run: its last state, and the rows recorded up to there.

    An interrupt may come while a segment is under way (`ahead`): that segment is then still waited for, and nothing of it is lost.
    `place` counts the batches so far.
    """

    def __init__(self, spec: Any, state: Any, chunks: list[Any]) -> None:
        self.state, self.chunks = state, list(chunks)
        self.ahead: Any = None
        self.code, self.ticks, self.place, self.rows = _counts(spec, state)

    def arrive(self, spec: Any) -> None:
        """Wait for the segment ahead, if there is one, and take it in: at once, so that an interrupt finds all of it or nothing."""
        if self.ahead is None:
            return
        state, rows = self.ahead
        code, ticks, place, n_rows = _counts(spec, state)
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

    def end(self, status: Status) -> None:
        """End a run that has not ended by itself."""
        if self.code == RUNNING:
            self.code = status.code
            self.state = self.state._replace(code=np.int32(status.code))


def _counts(spec: Any, state: Any) -> tuple[int, int, int, int]:
    """Return the code of a state, its ticks, its batches, and the rows of a history up to it."""
    code, ticks, count = integer(state.code), integer(state.ticks), spec.source.count
    batch = integer(state.batch) if count > 1 else 0
    return code, ticks, ticks * count + batch, integer(spec.n_rows(state)) if spec.capacity else 0


class Audience:
    """All that look at a run between its segments: the callbacks, the display, and the saver."""

    def __init__(self, run: Run, progress: RunProgress, saver: Saver | None, *, resumed: bool) -> None:
        self.run, self.callbacks, self.saver = run, run.options.callbacks, saver
        self.cadence = saver.cadence if saver else None
        self.display = display(run.options.progress, run.unit, run.total)
        self.wanted = bool(self.callbacks or run.options.progress or self.cadence)
        self.seconds = 0.0
        self.place, self.before = progress.place, self._view(progress, 0.0) if resumed and self.wanted else None
        self.seen = (0, 0) if self.before is None else (int(self.before.step), int(self.before.epoch))

    def __enter__(self) -> "Audience":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.display)
            for one in self.callbacks:
                stack.callback(one.end)
                one.begin(self.before)
            self.leaving = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.leaving.close()

    def next_stop(self, length: "SegmentLength") -> int:
        """Return the batch to stop at, so that all are called in time, and no segment gets too long."""
        stops, this_epoch = [length.stop(self.place)], self.place // self.run.count
        for one in (*self.callbacks, *([self.cadence] if self.cadence else [])):
            steps, epochs = one.left(*self.seen)
            stops += [self.place + steps, (this_epoch + epochs) * self.run.count]
        return min(stops)

    def stops(self, progress: RunProgress, seconds: float) -> bool:
        """Show where the run is to all who want to see it; return whether one of them stops it."""
        batches, self.place = progress.place - self.place, progress.place
        self.seconds += seconds
        if self.saver and self.saver.is_time:
            self.saver.save(progress)
        if not self.wanted:
            return False
        view = self._view(progress, batches / seconds if seconds > 0 else 0.0)
        before, self.seen = self.seen, (int(view.step), int(view.epoch))
        if self.saver and self.cadence and self.cadence.is_due(before, self.seen):
            self.saver.save(progress)
        if self.seen[1] > before[1]:
            self.display.show(view)
        due = [one for one in self.callbacks if one.is_due(before, self.seen)]
        return any([says_true(one(view)) for one in due])

    def _view(self, progress: RunProgress, batches_per_second: float) -> Progress:
        rows = self.run.rows_per_batch
        speed = None if rows is None else batches_per_second * rows
        return with_fields(self.run.view(progress.state), seconds=self.seconds, rows_per_second=speed)


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
    """How far the next segment goes."""

    def __init__(self, program: Program | None, spec: Any, options: RunOptions) -> None:
        self.program, self.count = program, spec.source.count
        self.seconds = _SECONDS_WITH_BAR if options.progress else _SECONDS
        self.guess = sum(leaf.nbytes for leaf in jax.tree.leaves(spec.source.data)) / _BYTES_PER_SECOND
        self.most = 1 if program is None else spec.capacity or 2**31
        self.longest_epoch = math.inf
        if options.checkpoint is not None and self.count > 1:
            self.longest_epoch = min(options.checkpoint.seconds or math.inf, _LONGEST_EPOCH)
        self.in_common = jax.process_count() > 1 and any(
            isinstance(leaf, jax.Array) and not leaf.is_fully_addressable for leaf in jax.tree.leaves(spec)
        )

    def stop(self, place: int) -> int:
        """Return the batch to stop at, the same in all processes that run together.

        That is the end of an epoch, unless a run that is to be saved has long ones.
        """
        batches = 0
        if self.epoch > self.longest_epoch:
            batches = max(1, int(self.seconds / self.epoch * self.count))
        if self.in_common:
            batches = _of_process_0(batches)
        return place + batches if batches else (place // self.count + self.ticks()) * self.count

    def ticks(self) -> int:
        """Return the number of epochs in the next segment, the same in all processes."""
        ticks = max(1, int(self.seconds / (self.epoch + 1e-9)))
        ticks = min(ticks, self.most) if self.is_measured else min(ticks, self.most, _FIRST_TICKS)
        return _of_process_0(ticks) if self.in_common else ticks

    @property
    def is_measured(self) -> bool:
        """Whether the time of an epoch is known."""
        return self.program is not None and self.program.seconds_per_tick is not None

    @property
    def epoch(self) -> float:
        """The seconds that an epoch takes, as measured or as guessed."""
        measured = self.program.seconds_per_tick if self.program else None
        return self.guess if measured is None else measured

    def measure(self, ticks: float, seconds: float) -> None:
        """Learn from a segment; the first of a program has to find what was compiled, and says little."""
        if self.program and self.program.is_cold:
            self.program.is_cold = False
        elif self.program and ticks > 0:
            self.program.seconds_per_tick = seconds / ticks


def _of_process_0(number: int) -> int:
    """Return the number that process 0 has: clocks differ, and all processes must run the same collectives."""
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(min(number, 2**31 - 1))))
