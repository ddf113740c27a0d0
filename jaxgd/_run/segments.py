"""The lengths of the segments that the host cuts a run into."""

import math
from typing import Any

import jax

from jaxgd._compile.program import Program
from jaxgd._run.options import RunOptions
from jaxgd._run.processes import Processes

_SECONDS = 0.5
_SECONDS_WITH_BAR = 0.1
_FIRST_TICKS = 256
_LONGEST_EPOCH = 2.0  # seconds, above which a run that is to be saved pauses within its epochs
_BYTES_PER_SECOND = 2e8  # how fast a first segment is guessed to read the data: slowly, since the cost is unknown


class SegmentLength:
    """How far the next segment goes."""

    def __init__(self, program: Program | None, spec: Any, options: RunOptions, processes: Processes) -> None:
        self.program, self.count = program, spec.source.count
        self.seconds = _SECONDS_WITH_BAR if options.progress else _SECONDS
        self.guess = sum(leaf.nbytes for leaf in jax.tree.leaves(spec.source.data)) / _BYTES_PER_SECOND
        self.most = 1 if program is None else spec.capacity or 2**31
        self.longest_epoch = math.inf
        if options.checkpoint is not None and self.count > 1:
            self.longest_epoch = min(options.checkpoint.seconds or math.inf, _LONGEST_EPOCH)
        self.processes = processes

    def stop(self, place: int) -> int:
        """Return the batch to stop at, the same in all processes that run together.

        That is the end of an epoch, unless a run that is to be saved has long ones.
        """
        batches = 0
        if self.epoch > self.longest_epoch:
            batches = max(1, int(self.seconds / self.epoch * self.count))
        batches = self.processes.decided(batches)
        return place + batches if batches else (place // self.count + self.ticks()) * self.count

    def ticks(self) -> int:
        """Return the number of epochs in the next segment, the same in all processes."""
        ticks = max(1, int(self.seconds / (self.epoch + 1e-9)))
        ticks = min(ticks, self.most) if self.is_measured else min(ticks, self.most, _FIRST_TICKS)
        return self.processes.decided(ticks)

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
