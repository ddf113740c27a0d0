"""The host's side of a search for a learning rate: the race before a run, and slower runs should the run go wrong."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgd import _race
from jaxgd._epochs import Plan
from jaxgd._loops import eager
from jaxgd._program import compiled
from jaxgd._trees import is_traced, with_fields
from jaxgd.methods.automatic import Candidates, Sought
from jaxgd.result import RUNNING, Result, Status

_SLOWER = 4  # runs more, each slower, after one that came to nothing
_BEHIND = 0.05  # of what the best candidate gained, by which a whole run ends above it that is made again
_ASKED = Status.CALLBACK, Status.INTERRUPTED  # how runs end that end because somebody said so
_SHORT = 0.5  # seconds that a race may take in one go


class Search:
    """The search for a learning rate before a run, see `_race.race`; and slower runs, should the run go wrong."""

    def __init__(
        self, found: Sought, plan: Plan, evaluate: Any, value: Callable[[Any], Any], params: Any, n_epochs: int, *, jit: bool
    ) -> None:
        """Plan the race; `evaluate` is the cost with its gradient for a batch, `value` traces the cost alone for given rows."""
        rule = plan.method.rule  # type: ignore[attr-defined]
        self.found, self.jit = found, jit
        self.race = _race.plan(found, rule, plan.batches, plan.bounds, params, n_epochs * plan.batches.count)
        judges = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((self.race.rows.size, *leaf.shape[1:]), leaf.dtype), plan.data)
        self.functions = evaluate, value(judges), params
        self.best: Any = None
        self.tried: Any = None
        self.lost = False

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the numbers that were sought; each further time with a lower learning rate.

        Where nothing in the race was finite, it is the plan of a run that ends as DIVERGED before its first batch.
        """
        if self.best is None:
            self.best, self.tried = _race.verdict(self.race, self._costs())
            plan = with_fields(plan, code=_race.code(self.race, self.tried.cost))
            self.lost = not is_traced(plan.code) and int(plan.code) != RUNNING
        else:
            rate = self.best.learning_rate
            self.best = self.best._replace(learning_rate=np.asarray(rate / 10**0.5, rate.dtype))
        return with_fields(plan, method=with_fields(plan.method, rule=self.race.place.put(self.race.rule, self.best)))

    def _costs(self) -> Any:
        """What the candidates reach: in one go if that is short, else heat by heat, so that the keyboard can interrupt it."""
        race, carry, end = self.race, _race.begin(self.race), sum(self.race.heats)
        arguments = race, *self.functions
        run = compiled(_race.race, *arguments, carry, np.int32(0)) if self.jit else functools.partial(_race.race, lower=eager)
        until = end if is_traced(race, self.functions if self.jit else ()) else 1
        while True:
            began = time.perf_counter()
            try:
                carry = run(*arguments, carry, np.int32(until))
            except NotImplementedError:  # the cost holds what can't be mapped over lanes
                if race.width == 1:
                    raise
                self.race = with_fields(race, width=1)
                return self._costs()
            if until == end:
                return carry[1]
            done = int(carry[0])
            left = float(np.dot(race.heats, race.n_steps)) / max(int(race.n_steps[0]), 1) * (time.perf_counter() - began)
            until = end if done == 1 and left < _SHORT else done + 1

    def settled(self, result: Result, again: Callable[[], Result]) -> Result:
        """The result, or if its run has gone wrong that of a slower one, the best; it tells what was chosen and tried.

        Its `best` is the best point of all these runs.
        """
        told, spent, lowest = self._told(result), self.tried.n_evaluations + result.n_evaluations, result.best
        if is_traced(result.code) or self.lost:
            return with_fields(told, n_evaluations=spent)
        wrong = self._came_to_nothing(result) or self._fell_behind(result)
        for _ in range(_SLOWER if wrong else 0):
            try:
                result = again()
            except KeyboardInterrupt:
                break
            spent += result.n_evaluations
            lowest = min(lowest, result.best, key=lambda best: float(best.cost))
            better = told.status is Status.DIVERGED or float(result.cost) < float(told.cost)
            told = self._told(result) if better else told
            if result.status in _ASKED or not (better or self._came_to_nothing(result)):
                break
        return with_fields(told, n_evaluations=spent, best=lowest)

    def _came_to_nothing(self, result: Result) -> bool:
        """Whether a run from a finite start diverged, or ended well above it."""
        first, cost = float(result.start_cost), float(result.cost)
        if not np.isfinite(first) or result.status in _ASKED:
            return False
        return result.status is Status.DIVERGED or cost > max(first + 0.01 * abs(first), np.min(self.tried.cost))

    def _fell_behind(self, result: Result) -> bool:
        """Whether a whole run ended well above what a candidate reached in a part of its time, on the same rows."""
        reached = float(np.min(self.tried.cost))
        if result.status is not Status.MAX_EPOCHS or float(result.cost) <= reached:
            return False
        _, value, start = self.functions
        judged = compiled(_race.judged, self.race, value, start) if self.jit else _race.judged
        first, last = (float(judged(self.race, value, params)) for params in (start, result.params))
        return reached < first and last > reached + _BEHIND * (first - reached)

    def _told(self, result: Result) -> Result:
        if self.lost:
            return with_fields(result, tried=self.tried)
        best = self.best
        if not is_traced(best):
            best = Candidates(float(str(best.learning_rate)), bool(best.relative))  # the shortest decimal of the same number
        return with_fields(result, method=self.found.place.put(self.found.rule, best), tried=self.tried)
