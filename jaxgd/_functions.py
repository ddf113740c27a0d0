"""The cost in the forms that a run of `fit` needs."""

import functools
from typing import Any

import jax
import numpy as np

from jaxgd._objective import extras
from jaxgd._objective.accumulate import accumulated
from jaxgd._objective.additive import additivity
from jaxgd._objective.all_rows import cost_over_all_rows, over_all_rows
from jaxgd._objective.evaluation import empty_point, value, value_and_gradient
from jaxgd._objective.implicit import CostAtMinimum, with_derivatives
from jaxgd._problem import Problem
from jaxgd._run.end import AllRows
from jaxgd._run.in_chunks import in_chunks
from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec
from jaxgd._trees import detached, is_traced, with_fields
from jaxgd.data.feed import Feed, check_constant, rows_like
from jaxgd.methods.adapters import with_known_traits
from jaxgd.methods.protocol import Point
from jaxgd.result import Result


class FitFunctions:
    """The cost in the forms that a run of `fit` needs, each traced when it is first asked for.

    Where the run is `apart`, an outer derivative sees constants in all of them but those of the end.
    """

    def __init__(self, given: Problem, spec: RunSpec, part_size: int, feed: Feed | None, *, apart: bool = True) -> None:
        self.given, self.spec, self.part_size, self.feed = given, detached(spec) if apart else spec, part_size, feed
        self.apart = apart
        self.data, self.validation = spec.source.data, spec.validation
        self.in_derivative = is_traced(self.data, self.validation, given.box)
        self.traced = functools.cache(lambda size: given.trace(value_and_gradient, rows_like(self.data, size)))
        self.measured = self.traced
        if given.extras is not None:
            self.measured = functools.cache(lambda size: given.measure(value_and_gradient, rows_like(self.data, size)))

    def of_size(self, size: int) -> Any:
        """Return the cost with its gradient and aux in a step, for some rows."""
        return self._apart(self.traced(size))

    def measured_of_size(self, size: int) -> Any:
        """Return the same where it is only measured."""
        return self._apart(self.measured(size))

    def value(self, *data: Any) -> Any:
        """Return the cost alone for some data, where it is only measured."""
        return self._apart(self.given.measure(value, *data))

    def _apart(self, function: Any) -> Any:
        """Return a function of which an outer derivative sees constants alone, and remember whether there is one."""
        check_constant(self.feed, function)
        self.in_derivative |= is_traced(function)
        return detached(function) if self.apart else function

    @functools.cached_property
    def objective(self) -> Objective:
        """The functions that the loop asks for."""
        source: Any = self.spec.source
        return Objective(
            evaluate=accumulated(self.of_size, self.part_size, source.batch_size, source.layout),
            evaluate_last=accumulated(self.of_size, self.part_size, source.last_size, source.layout) if source.last_size else None,
            validation=self._validation[0],
            all_rows=self._all_rows[0] if "gradient_norm" in self.spec.names else None,
        )

    @functools.cached_property
    def rows(self) -> AllRows:
        """The functions that are evaluated at the end."""
        evaluate = self._all_rows[0]
        return AllRows(evaluate, self._validation[0], empty_point(evaluate, self.spec.start, self.spec.source.data))

    @property
    def in_parts(self) -> dict[str, int] | None:
        """The numbers of parts where costs are means over parts of the rows."""
        counts = {"data": self._all_rows[1], "validation": self._validation[1]}
        return {name: count for name, count in counts.items() if count} or None

    @property
    def over_all_rows(self) -> Any:
        """The cost with its gradient and aux over all rows, in one piece, where it is only measured."""
        return self.measured(jax.tree.leaves(self.data)[0].shape[0])

    def with_derivatives(self, result: Result) -> Result:
        """Return a result with its derivatives with respect to all that the cost over all rows depends on."""
        if not self.in_derivative:
            return result
        alone = self.given.measure(value, *self.validation) if self.validation else None
        penalty = self.given.penalty
        evaluate, alone = extras.rebound((self.over_all_rows, alone), self.spec.measured(result.state))
        return with_derivatives(result, CostAtMinimum(evaluate, (self.data,), self.given.box, alone, self.validation, penalty))

    def with_shapes(self, spec: RunSpec) -> RunSpec:
        """Return what the run is told, with the type of the cost and what follows from it."""
        shapes = getattr(self.objective.evaluate, "shapes", None)
        cost = self.rows.empty.cost if shapes is None else np.full(shapes[0].shape, np.inf, shapes[0].dtype)
        empty = Point(spec.start, cost, None)
        method = with_known_traits(spec.method, empty, spec.bounds)
        gradient = jax.tree.map(np.zeros_like, spec.start) if method.traits.can_reject else None
        return with_fields(spec, empty=empty._replace(gradient=gradient), method=method)

    @functools.cached_property
    def _all_rows(self) -> tuple[Any, int]:
        source: Any = self.spec.source
        if self.feed is not None:
            feed, start = self.feed, self.spec.start
            found = additivity(self.measured_of_size, feed.sample, start, self.spec.bounds, source.batch_size)
            evaluate = in_chunks(self.measured_of_size, found, feed, source.batch_size, start)
            return evaluate, 0 if found else feed.cuts.n_chunks
        arguments = self.measured_of_size, source.data, source.batch_size, self.spec.start, self.spec.bounds
        return over_all_rows(*arguments, in_one_piece=self.given.has_aux)

    @functools.cached_property
    def _validation(self) -> tuple[Any, int]:
        if not self.spec.validation:
            return None, 0
        alone, source = self.value(*self.spec.validation), self.spec.source
        arguments = self.measured_of_size, self.spec.validation[0], source.batch_size, self.spec.start, self.spec.bounds  # type: ignore[attr-defined]
        return cost_over_all_rows(alone, *arguments)
