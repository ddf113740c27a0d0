"""The audience of a run: all that look at it between its segments."""

import contextlib
from typing import Any

from jaxgd._run.progress import Progress, display, says_true
from jaxgd._run.segments import SegmentLength
from jaxgd._trees import with_fields
from jaxgd.checkpoint import Saver


class Audience:
    """All that look at a run between its segments: the callbacks, the display, and the saver."""

    def __init__(self, run: Any, progress: Any, saver: Saver | None, *, resumed: bool) -> None:
        self.run, self.callbacks, self.saver = run, run.options.callbacks, saver
        self.cadence, self.processes = saver.cadence if saver else None, run.processes
        self.display = display(run.options.progress if self.processes.is_first else False, run.unit, run.total)
        self.wanted = bool(self.callbacks or run.options.progress or self.cadence)
        self.seconds = 0.0
        self.place, self.before = progress.place, self._view(progress, 0.0) if resumed and self.wanted else None
        self.seen = (0, 0) if self.before is None else (int(self.before.step), int(self.before.epoch))

    def __enter__(self) -> "Audience":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.display)
            for one in self.callbacks:
                stack.callback(one.end)
                one.is_first = self.processes.is_first
                one.begin(self.before)
            self.leaving = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.leaving.close()

    def next_stop(self, length: SegmentLength) -> int:
        """Return the batch to stop at, so that all are called in time, and no segment gets too long."""
        stops, this_epoch = [length.stop(self.place)], self.place // self.run.count
        for one in (*self.callbacks, *([self.cadence] if self.cadence else [])):
            steps, epochs = one.left(*self.seen)
            stops += [self.place + steps, (this_epoch + epochs) * self.run.count]
        return min(stops)

    def stops(self, progress: Any, seconds: float) -> bool:
        """Show where the run is to all who want to see it; return whether one of them stops it."""
        batches, self.place = progress.place - self.place, progress.place
        self.seconds += seconds
        if self.saver and self.cadence is None and self.processes.decided(self.saver.is_time):
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
        verdict = any([says_true(one(view)) for one in due])
        return bool(self.processes.decided(verdict)) if due else False

    def _view(self, progress: Any, batches_per_second: float) -> Progress:
        rows = self.run.rows_per_batch
        speed = None if rows is None else batches_per_second * rows
        return with_fields(self.run.view(progress.state), seconds=self.seconds, rows_per_second=speed)
