"""Chains of conditional minima, side by side in one compiled program.

A conditional minimum is the lowest cost where one or two parameters are held. Each lane looks for one after the other, along a
straight line of what is held: where its run has ended, a *policy* looks at the end and says at which point of the line the next one
begins, and from where. Lanes do not wait for each other, and the host sees the last states of the policies alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxgd._compile.program import program_for
from jaxgd._run import fused, stepwise
from jaxgd._run.objective import Objective, is_eager
from jaxgd._run.state import RunSpec, RunState, begin
from jaxgd._trees import pack, pytree, select, unpack, with_fields
from jaxgd.bounds import Bounds
from jaxgd.methods.protocol import Point
from jaxgd.result import RUNNING, Status


class Line(NamedTuple):
    """A straight line of what is held: the point `origin + t * direction`, for numbers t from `least` to `most`.

    Attributes:
        origin: all free parameters packed into a vector, (n,).
        direction: the change of what is held for t = 1, (n,); zero for all others.
        tangent: how the others are expected to follow at first, (n,); zero for what is held.
        places: the places of the others, (k,); n where there are none, which is no place.
        least: the least t within the bounds.
        most: the greatest t within the bounds.
        origin_is_inside: whether the origin is the minimum, whose cost is known.
        stops: the numbers t of points to visit, (k,); None for a search.
    """

    origin: Any
    direction: Any
    tangent: Any
    places: Any
    least: Any
    most: Any
    origin_is_inside: Any
    stops: Any = None

    def at(self, t: Any, others: Any) -> Any:
        """Return a point of the line, with the others as given."""
        return jnp.where(self.direction != 0, self.origin + t * self.direction, others)


class Outcome(NamedTuple):
    """A conditional minimum.

    Attributes:
        t: where on the line it was looked for.
        x: all free parameters, (n,).
        cost: the cost.
        gradient: its gradient, (n,).
        slope: its slope along the line.
        code: how the run ended.
    """

    t: Any
    x: Any
    cost: Any
    gradient: Any
    slope: Any
    code: Any

    @property
    def found(self) -> Any:
        """Whether it is one, to the precision of the run."""
        ended = (self.code == Status.CONVERGED.code) | (self.code == Status.STALLED.code)
        return ended & jnp.isfinite(self.cost) & jnp.isfinite(self.slope)


@pytree
class Conditional:
    """A cost or a Hessian as a function of the parameters that are not held, packed into a vector.

    Attributes:
        function: the function of all free parameters and the data.
        like: the free parameters, for their structure and shapes.
        x: the free parameters packed into a vector, with the values of what is held, (n,).
        places: the places of the others, (k,).
    """

    function: Any
    like: Any
    x: Any
    places: Any

    def merged(self, y: Any) -> Any:
        """Return all free parameters, packed."""
        return self.x.at[self.places].set(y, mode="drop")

    def restricted(self, gradient: Any) -> Any:
        """Return the part of a packed gradient for what is not held."""
        return gradient.at[self.places].get(mode="fill", fill_value=0)


@pytree
class ConditionalCost(Conditional):
    """The cost and its gradient; its aux is the gradient for all free parameters."""

    def __call__(self, y: Any, *data: Any) -> tuple[Any, Any, Any]:
        cost, gradient, _ = self.function(unpack(self.merged(y), self.like), *data)
        gradient = pack(gradient).astype(self.x.dtype)
        return cost, self.restricted(gradient), gradient


@pytree
class ConditionalHessian(Conditional):
    """The second derivatives."""

    def __call__(self, y: Any, *data: Any) -> Any:
        matrix = self.function(unpack(self.merged(y), self.like), *data)
        rows = matrix.at[self.places].get(mode="fill", fill_value=0)
        return rows.at[:, self.places].get(mode="fill", fill_value=0)


@pytree
class Lanes:
    """The spec of chains of conditional minima.

    Attributes:
        run: the spec of a run, of all free parameters.
        objective: the cost and its Hessian, of all free parameters.
        low: the lower bounds of all free parameters, packed; None where there are no bounds.
        high: the upper bounds.
        lines: the lines, with a leading axis.
        policy: a pytree with methods `begin(line)`, which returns a state with fields `t`, `guess` and `done`, and
            `after(line, state, outcome)`, which returns the next.
    """

    run: RunSpec
    objective: Objective
    low: Any
    high: Any
    lines: Line
    policy: Any

    def conditional(self, line: Line, task: Any) -> tuple[RunSpec, Objective, ConditionalCost]:
        """Return the spec and the objective of the run that a lane is at, and its cost."""
        x = line.at(task.t, task.guess)
        if self.low is not None:
            x = jnp.clip(x, self.low, self.high)
        like = self.run.empty.params
        cost = ConditionalCost(self.objective.evaluate, like, x, line.places)
        second = self.objective.hessian
        objective = Objective(cost, hessian=None if second is None else ConditionalHessian(second, like, x, line.places))
        y = cost.restricted(x)
        empty = Point(y, self.run.empty.cost, jnp.zeros_like(y), jnp.zeros_like(x))
        box = None if self.low is None else Bounds(*(cost.restricted(side) for side in (self.low, self.high)))
        return with_fields(self.run, empty=empty, bounds=box), objective, cost

    def outcome(self, line: Line, task: Any, end: Point, code: Any) -> Outcome:
        """Return what the policy sees of the end of a run."""
        x = self.conditional(line, task)[2].merged(end.params)
        slope = jnp.sum(jnp.where(line.direction != 0, end.aux * line.direction, 0))
        return Outcome(task.t, x, end.cost, end.aux, slope, code)


def follow(lanes: Lanes) -> Any:
    """Return the last states of the policies, with a leading axis."""
    if is_eager(lanes.objective):
        return _one_by_one(lanes)

    def begun(line: Line, task: Any) -> RunState:
        return begin(lanes.conditional(line, task)[0])

    def tick(line: Line, carry: tuple[Any, RunState]) -> tuple[Any, RunState]:
        task, state = carry
        run, objective, _ = lanes.conditional(line, task)
        state = fused.run_epoch(run, objective, state)
        ended = state.code != RUNNING
        task = select(ended, lanes.policy.after(line, task, lanes.outcome(line, task, state.current, state.code)), task)
        return task, select(ended, begun(line, task), state)

    def one(line: Line, carry: tuple[Any, RunState]) -> tuple[Any, RunState]:
        return select(carry[0].done, carry, tick(line, carry))

    tasks = jax.vmap(lanes.policy.begin)(lanes.lines)
    carry = tasks, jax.vmap(begun)(lanes.lines, tasks)
    return lax.while_loop(lambda carry: ~jnp.all(carry[0].done), lambda carry: jax.vmap(one)(lanes.lines, carry), carry)[0]


def _one_by_one(lanes: Lanes) -> Any:
    """Do what `follow` does for a cost that runs as Python."""
    tasks = []
    for k in range(len(lanes.lines.least)):
        line = jax.tree.map(lambda leaf, k=k: leaf[k], lanes.lines)
        task = lanes.policy.begin(line)
        while not task.done:
            run, objective, _ = lanes.conditional(line, task)
            state, _ = stepwise.run_segment(run, objective, program_for(begin, run)(run), run.n_epochs)
            task = lanes.policy.after(line, task, lanes.outcome(line, task, state.current, state.code))
        tasks.append(task)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
