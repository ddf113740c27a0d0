"""The search for a learning rate before a run, and slower runs should the run end worse than it started."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd._compile.program import program_for
from jaxgd._run.objective import call, is_eager
from jaxgd._run.processes import processes_of
from jaxgd._run.saved import Tuning
from jaxgd._run.state import RunSpec
from jaxgd._trees import is_traced, with_fields
from jaxgd._tuning import halving
from jaxgd.methods.automatic import Candidates, TuningTarget
from jaxgd.result import RUNNING, Result, Status

_RETRIES = 4  # runs more, each slower, after one that went wrong
_SLOWER = 10**0.5  # by how much
_BEHIND = 0.05  # of what the best candidate gained, by which a whole run ends above it that is made again
_ASKED = Status.CALLBACK, Status.INTERRUPTED  # how runs end that end because somebody said so
_SHORT = 0.5  # seconds that a search may take in one go


class LearningRateSearch:
    """The search for the learning rate of a run, by `halving.Halving`.

    Args:
        found: what is sought.
        spec: what the run is told, with any number in the places of those sought.
        evaluate: the cost with its gradient for a full batch.
        trace_value: traces the cost alone for rows of given shapes.
        total: the updates of the run.
    """

    def __init__(self, found: TuningTarget, spec: RunSpec, evaluate: Any, trace_value: Callable[[Any], Any], total: int) -> None:
        rule = spec.method.rule  # type: ignore[attr-defined]
        self.found, self.evaluate = found, evaluate
        self.search = halving.halving(found, spec, rule, total)
        n_rows = self.search.rows.size
        self.value = trace_value(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((n_rows, *leaf.shape[1:]), leaf.dtype), spec.source.data)
        )
        self.best: Any = None
        self.tried: Any = None
        self.lost = False

    def __call__(self, spec: RunSpec, before: Tuning | None = None) -> RunSpec:
        """Return what the run is told, with the numbers that were found, now or in a search `before`.

        Where nothing that was tried is finite, the run ends as DIVERGED before its first batch.
        """
        if before is None:
            self.best, self.tried, code = halving.verdict(self.search, self._costs())
        else:
            *tried, n_evaluations = jax.tree.leaves(before.tried)
            self.best = Candidates(*jax.tree.leaves(before.best))
            self.tried, code = halving.Tried(*tried, n_evaluations=int(n_evaluations)), spec.code
        self.lost = not is_traced(code) and int(code) != RUNNING
        return self._chosen(with_fields(spec, code=code))

    @property
    def tuning(self) -> Tuning:
        """The findings, for a run that goes on later."""
        return Tuning(self.best, self.tried)

    def retry_if_worse(self, result: Result, spec: RunSpec, run: Callable[[RunSpec], Result]) -> Result:
        """Retry with a smaller learning rate if the run ended worse than it started; return the best attempt.

        The result tells what was chosen and tried, and its `best` is the best point of all attempts.
        """
        told, spent, lowest = self._told(result), self.tried.n_evaluations + result.n_evaluations, result.best
        if is_traced(result.code) or self.lost:
            return with_fields(told, n_evaluations=spent)
        wrong = self._came_to_nothing(result) or self._fell_behind(result)
        for _ in range(_RETRIES if wrong else 0):
            rate = self.best.learning_rate
            self.best = self.best._replace(learning_rate=np.asarray(rate / _SLOWER, rate.dtype))
            try:
                result = run(self._chosen(spec))
            except KeyboardInterrupt:
                break
            spent += result.n_evaluations
            lowest = min(lowest, result.best, key=lambda best: float(best.cost))
            better = told.status is Status.DIVERGED or float(result.cost) < float(told.cost)
            told = self._told(result) if better else told
            if result.status in _ASKED or not (better or self._came_to_nothing(result)):
                break
        return with_fields(told, n_evaluations=spent, best=lowest)

    def _chosen(self, spec: RunSpec) -> RunSpec:
        rule = self.search.place.put(self.search.spec.method, self.best)
        return with_fields(spec, method=with_fields(spec.method, rule=rule))

    def _costs(self) -> Any:
        """Return what the candidates reach: in one go if that is short, else group by group, for the keyboard to interrupt."""
        search, carry = self.search, halving.start(self.search)
        functions, end = (self.evaluate, self.value), sum(search.groups)
        if is_eager(self.evaluate):
            while carry[0] < end:
                carry = halving.run_group_stepwise(search, *functions, carry)
            return carry[1]
        run = program_for(halving.run_groups, search, *functions, carry, np.int32(0))
        until, processes = end if is_traced(search, functions) else 1, processes_of(search.spec)
        while True:
            began = time.perf_counter()
            try:
                carry = run(search, *functions, carry, np.int32(until))
            except NotImplementedError:  # the cost holds what can't be mapped over lanes
                if search.width == 1:
                    raise
                self.search = with_fields(search, width=1)
                return self._costs()
            if until == end:
                return carry[1]
            done = int(carry[0])
            left = float(np.dot(search.groups, search.n_steps)) / max(int(search.n_steps[0]), 1) * (time.perf_counter() - began)
            until = end if processes.decided(done == 1 and left < _SHORT) else done + 1

    def _came_to_nothing(self, result: Result) -> bool:
        """Return whether a run from a finite start diverged, or ended well above it."""
        first, cost = float(result.start_cost), float(result.cost)
        if not np.isfinite(first) or result.status in _ASKED:
            return False
        return result.status is Status.DIVERGED or cost > max(first + 0.01 * abs(first), np.min(self.tried.cost))

    def _fell_behind(self, result: Result) -> bool:
        """Return whether a whole run ended well above what a candidate reached on the same rows."""
        reached = float(np.min(self.tried.cost))
        if result.status is not Status.MAX_EPOCHS or float(result.cost) <= reached:
            return False
        compared = self.search.compared
        first, last = (float(call(self.value, params, compared)) for params in (self.search.spec.start, result.params))
        return reached < first and last > reached + _BEHIND * (first - reached)

    def _told(self, result: Result) -> Result:
        if self.lost:
            return with_fields(result, tried=self.tried)
        best = self.best
        if not is_traced(best):
            best = Candidates(float(str(best.learning_rate)), bool(best.relative))  # the shortest decimal of the same number
        return with_fields(result, method=self.found.place.put(self.found.rule, best), tried=self.tried)
