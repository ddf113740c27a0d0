"""The first two runs: the cost and `advance` as two programs, called in turns by the host.

`advance` takes most of the time that a fused loop takes to compile, and is the same for all costs of one size and precision. So the
first run of a new cost compiles the cost alone. After the second run, or while a long one lasts, the fused loop is compiled. It is
faster, and the next run waits for it. The bits are the same, since only what has the same bits in every program is run apart.
"""

import time
from typing import Any, ClassVar

import numpy as np

from jaxgd._compile.parts import LARGE
from jaxgd._compile.program import Program, program_for
from jaxgd._run import fused, stepwise
from jaxgd._run.advance import end_epoch, evaluated_point
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec, RunState, begin
from jaxgd._trees import select, with_fields
from jaxgd.data.source import AllRows

_SEGMENT = 0.05  # seconds of turns, after which the host looks after other things
_LONG = 0.1  # seconds of turns, after which the fused loop is worth compiling


class Apart:
    """One of the first runs of a program, in two.

    Attributes:
        program: the fused loop.
        seconds: what the turns took so far, without the first, which compiles.
        is_over: whether the fused loop has taken over.
        is_compiled: whether there was a turn.
        latest: the last program, of any run, whose compilation was begun after a run.
    """

    latest: ClassVar[Program | None] = None

    def __init__(self, program: Program) -> None:
        self.program, self.seconds, self.is_over, self.is_compiled = program, 0.0, False, False

    def hands_over(self, *arguments: Any) -> bool:
        """Return whether the fused loop takes over, a program of these arguments. After a while it begins to be compiled."""
        if self.seconds > _LONG:
            self._prepare(*arguments)
        self.is_over = self.is_over or not (self.program.is_new or self.program.is_compiling)
        return self.is_over

    def end(self, *arguments: Any) -> None:
        """Begin to compile the fused loop, after the second run: two threads of Python would slow each other down.

        There is one such loop at a time, so that the end of a process waits for no more. Others are begun after a later run.
        """
        if self.program.was_apart and not (Apart.latest and Apart.latest.is_compiling):
            Apart.latest = self.program
            self._prepare(*arguments)
        self.program.was_apart = True

    def _prepare(self, spec: RunSpec, objective: Objective, state: RunState, until: Any) -> None:
        self.program.prepare(spec, objective, state, until, like=(state, {}))

    def run_segment(self, spec: RunSpec, objective: Objective, progress: Any, until: Any) -> tuple[RunState, Any]:
        """Do what the fused loop does, for some turns. What each has led to is ahead in the progress of the run."""
        state: RunState = progress.state
        evaluate, proceed = programs(spec, objective, state)
        without, running, turns = _without_rows(spec), True, 0.0
        while running and turns <= _SEGMENT:
            began = time.perf_counter()
            state, going = proceed(without, state, *evaluate(spec, objective, state), until)
            running, progress.ahead = bool(going), (state, {})
            turns += time.perf_counter() - began if self.is_compiled else 0
            self.is_compiled = True
        self.seconds += turns
        return state, {}


def first_run(program: Program, spec: RunSpec, objective: Objective, state: RunState) -> Apart | None:
    """Return how a run of a program goes in two.

    None for a program whose fused loop is compiled, or begun to be, and for a run that can't.
    """
    if not program.is_new or not program.in_parts or not _is_plain(spec, objective):
        return None
    evaluate, proceed = programs(spec, objective, state)
    if not evaluate.has_fixed_bits(spec, objective, state):
        return None
    rest = (_without_rows(spec), state, *evaluate.zeros(spec, objective, state), np.int32(0))
    like = state, np.bool_(False)
    if not (proceed.recall(like, *rest, quickly=True) or proceed.has_fixed_bits(*rest)):
        return None
    proceed.prepare(*rest, quickly=True, like=like)
    return Apart(program)


def programs(spec: RunSpec, objective: Objective, state: RunState) -> tuple[Program, Program]:
    """Return the programs of the cost, and of `advance`."""
    evaluate = program_for(_evaluated, spec, objective, state, in_parts=True)
    return evaluate, program_for(_proceeded, _without_rows(spec), state, *evaluate.zeros(spec, objective, state), in_parts=True)


def _is_plain(spec: RunSpec, objective: Objective) -> bool:
    """Return whether a run has small arrays, a method that ends by itself, and no more than an end."""
    if not isinstance(spec.source, AllRows) or spec.names or spec.extras is not None or spec.validation:
        return False
    if (
        objective.products is not None
        or objective.constraints is not None
        or not spec.method.traits.can_end
        or spec.method.traits.evaluates
    ):
        return False
    functions = [one for one in (objective.evaluate, objective.hessian, objective.linearised) if one is not None]
    return all(8 * getattr(one, "largest", LARGE) <= LARGE for one in functions)


def _without_rows(spec: RunSpec) -> RunSpec:
    return with_fields(spec, source=AllRows(()))


def _evaluated(spec: RunSpec, objective: Objective, state: RunState) -> tuple[Any, Any]:
    """Return the evaluation of the trial, and the matrices that the method may ask for."""
    state = select(state.is_first, begin(spec), state)
    rows = spec.source.batch(state.epoch, state.batch)
    point = evaluated_point(spec, state.trial, objective.evaluate(state.trial, *rows))
    return point, stepwise.matrices(objective, state, rows)


def _proceeded(spec: RunSpec, state: RunState, point: Any, matrices: Any, until: Any) -> tuple[RunState, Any]:
    """Return the state after an evaluation, and whether the run goes on."""
    state = select(state.is_first, begin(spec), state)
    after = end_epoch(spec, state, stepwise.advanced(spec, state, point, matrices))
    return after, fused.is_running(after, until)
