"""Many runs of `minimize`: what they are told, and what is written down of their ends.

They go side by side in `lanes`, or one after the other in a `queue`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._run.objective import Objective
from jaxgd._run.state import RunSpec, RunState, begin
from jaxgd._trees import pytree, select, static, taken, with_fields
from jaxgd.data.source import AllRows, Source
from jaxgd.result import RUNNING, Best

STARTS = 8  # lanes, of runs that look at the same data
FITS, FITS_ON_DEVICES = 64, 2048  # lanes of others: few on a CPU, where stragglers then cost little, and many on a GPU or TPU
_NUMBERS = 2**22  # of data on a device, that all lanes may look at together


class Each(NamedTuple):
    """The arguments that differ from run to run, a row for each run; None for what all of them share.

    Attributes:
        params: the free parameters at the start.
        data: the data.
        box: the bounds.
        frozen: the values of what is fixed.
        method: the method.
        penalty: the penalty.
    """

    params: Any
    data: Any = None
    box: Any = None
    frozen: Any = None
    method: Any = None
    penalty: Any = None

    def placed(self, spec: RunSpec, objective: Objective) -> tuple[RunSpec, Objective]:
        """Return the spec and the objective of the run whose arguments are in this row."""
        fields: dict[str, Any] = {"empty": spec.empty._replace(params=self.params)}
        if self.data is not None:
            fields["source"] = AllRows((self.data, *spec.source.data[1:]))  # type: ignore[attr-defined]
        fields |= {
            name: value
            for name, value in (("bounds", self.box), ("method", self.method), ("penalty", self.penalty))
            if value is not None
        }
        if self.frozen is not None:
            objective = objective.frozen_at(self.frozen)
        if self.penalty is not None:
            objective = objective._replace(evaluate=objective.evaluate and with_fields(objective.evaluate, penalty=self.penalty))
        return with_fields(spec, **fields), objective


@pytree
class ManySpec:
    """The spec of many runs.

    Attributes:
        run: the spec of one of them.
        each: the arguments that differ, with a row for each run and perhaps more.
        count: the number of runs.
        width: how many go side by side.
        keeps_ends: whether all that a result tells of a run is written down, and not only what `Starts` do.
    """

    run: RunSpec
    each: Each
    count: Any
    width: int = static()
    keeps_ends: bool = static(default=False)

    n_epochs = 2**31 - 2  # ticks, at most

    @property
    def start(self) -> Any:
        """The starts of all runs."""
        return self.each.params

    @property
    def source(self) -> Source:
        """The source of the rows of all runs."""
        return self.run.source

    @property
    def capacity(self) -> int:
        """No history is kept."""
        return 0

    @property
    def size(self) -> int:
        """The number of rows; as the number of a run it stands for none."""
        return jax.tree.leaves(self.each.params)[0].shape[0]

    def n_rows(self, state: Any) -> Any:
        """Return the length of the history, which there is none of."""
        return state.ticks

    def row(self, number: Any) -> Each:
        """Return the arguments of a run."""
        return jax.tree.map(lambda leaf: taken(leaf, number), self.each)


class Ends(NamedTuple):
    """The ends of the runs, a row for each; the code is that of RUNNING where one has not ended."""

    params: Any
    cost: Any
    code: Any
    evaluations: Any
    details: "Details | None" = None


class Details(NamedTuple):
    """The further numbers of an end that a result tells."""

    gradient: Any
    aux: Any
    best: Best
    steps: Any
    start_cost: Any
    gain: Any
    prices: Any = None


def width(most: int, numbers: int) -> int:
    """Return how many runs go side by side: few, and fewer of those each of which looks at many numbers."""
    return max(1, min(most, _NUMBERS // max(numbers, 1)))


def begun(spec: ManySpec, row: Each) -> RunState:
    """Return the state of a run before its first evaluation."""
    return begin(row.placed(spec.run, Objective(None))[0])  # type: ignore[arg-type]


def blank_ends(spec: ManySpec, state: RunState) -> Ends:
    """Return the ends before any run has ended: the params are those of the starts.

    `state` has the shapes of the state of a run.
    """
    like = jax.eval_shape(lambda state: end_of(spec, state), state)
    ends = jax.tree.map(lambda leaf: jnp.zeros((spec.size, *leaf.shape), leaf.dtype), like)
    return ends._replace(params=spec.each.params, cost=jnp.full_like(ends.cost, jnp.inf), code=jnp.full_like(ends.code, RUNNING))


def rank(spec: ManySpec, state: RunState) -> jax.Array:
    """Return the cost by which a run is compared with others: infinite where it came to nothing, or misses its constraints."""
    cost, method = state.current.cost, spec.run.method
    fine = jnp.isfinite(cost)
    if spec.run.is_constrained:
        fine = fine & method.is_feasible(state.current.params, state.method)  # type: ignore[attr-defined]
    return jnp.where(fine, cost, jnp.inf)


def end_of(spec: ManySpec, state: RunState) -> Ends:
    """Return what is written down of the end of a run."""
    current, details = state.current, None
    if spec.keeps_ends:
        gain = spec.run.method.gain(current.params, state.method) if spec.run.method.knows_gain else None
        found = state.best.cost < jnp.inf
        best = select(found, state.best, Best(current.params, current.cost))
        method: Any = spec.run.method
        prices = method.multipliers(current.params, state.method) if spec.run.is_constrained else None
        details = Details(current.gradient, current.aux, best, state.steps, state.start_cost, gain, prices)
    return Ends(current.params, current.cost, state.code, state.epoch, details)
