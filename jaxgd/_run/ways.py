"""The two ways of many runs of `minimize`: side by side in lanes, or one after the other in a queue."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxgd._compile.program import program_for
from jaxgd._run import lanes, queue
from jaxgd._run.driver import Loop, Run
from jaxgd._run.many import ManySpec
from jaxgd._run.objective import Objective
from jaxgd._run.options import RunOptions
from jaxgd._run.progress import Progress
from jaxgd._run.report import progress
from jaxgd._trees import with_fields


class Way(NamedTuple):
    """A way of many runs: their loop, and what writes down what was reached after they were broken off with a code."""

    loop: Loop
    finish: Callable[[ManySpec, Any, Any], Any]


_LANES, _QUEUE = Way(lanes.LANES, lanes.finish), Way(queue.QUEUE, queue.finish_queue)


def way_of(spec: ManySpec) -> Way:
    """Return the way of these runs: several go side by side in lanes."""
    return _LANES if spec.width > 1 else _QUEUE


def arranged(spec: ManySpec, objective: Objective) -> ManySpec:
    """Return the spec with one lane, if runs one after the other are faster."""
    return with_fields(spec, width=1) if spec.width > 1 and queue.is_native(spec, objective) else spec


def run_starts(spec: ManySpec, objective: Objective) -> Any:
    """Run all, and return the state at the end; after an interrupt what was reached is written down."""

    def view(state: Any) -> Progress:
        return progress(spec.run, state.best)

    loop, finish = way_of(spec)
    state, _ = Run(loop, spec, objective, RunOptions(), view=view, row=None, unit="run", total=spec.size)(spec)
    return program_for(finish, spec, state, state.code)(spec, state, state.code)
