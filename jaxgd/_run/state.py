"""The specification of a run, `RunSpec`, and its state between two evaluations, `RunState`: arrays only."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import schedules
from jaxgd._objective.extras import Extras
from jaxgd._trees import at_least_float32, is_traced, pytree, static
from jaxgd.bounds import Bounds
from jaxgd.data.source import Source
from jaxgd.methods.protocol import Method, Point
from jaxgd.result import RUNNING, Best
from jaxgd.stopping import StoppingRule, needs_gradient

_FEW = 64  # costs, whose sum has no rounding error to speak of


@pytree
class RunSpec:
    """The specification of a run: everything but its state and its cost.

    Attributes:
        empty: the start as a point that was not evaluated, its cost infinite. Its gradient and aux are None where the state keeps
            none of its current point.
        n_epochs: the passes over the rows after which the run ends.
        average_from: the epoch and the batch of the first update whose iterate is averaged; None for no average.
        code: the status before the first evaluation.
        returns_current: whether the run returns its last accepted point, as `minimize` does, whose cost is known. Otherwise it
            returns the iterate after the last update, as `fit` does.
        names: what a history records.
        capacity: the rows of a history that one segment holds.
        extras: what the cost gets beside parameters and rows; None for nothing.
        decay: that of an exponential average; None for a mean of iterates, or for no average.
        skips: whether a step at which something is not finite is dropped, and the run goes on.
        penalty: the penalty of the free parameters; None for none.
    """

    empty: Point
    method: Method
    rules: tuple[StoppingRule, ...]
    source: Source
    bounds: Bounds | None
    n_epochs: Any
    validation: tuple[Any, ...] = ()
    average_from: Any = None
    decay: Any = None
    code: Any = np.int32(RUNNING)
    returns_current: bool = static(default=False)
    names: tuple[str, ...] = static(default=())
    capacity: int = static(default=0)
    extras: Extras | None = None
    skips: bool = static(default=False)
    penalty: Any = None

    @property
    def start(self) -> Any:
        """The free parameters at the start."""
        return self.empty.params

    @property
    def one_batch(self) -> bool:
        """Whether every batch is all rows, so that the cost of a batch is the cost of a point."""
        return self.source.count == 1 and self.source.is_complete

    @property
    def watches_points(self) -> bool:
        """Whether `best` and the rules see costs of points, each over all rows."""
        return self.one_batch and not self.validation

    @property
    def keeps_point(self) -> bool:
        """Whether the state holds the cost and the gradient of its current point."""
        return self.empty.gradient is not None

    @property
    def revisits(self) -> bool:
        """Whether a run ends at the point before one that is not finite, evaluated again.

        That point is evaluated again: keeping its evaluation would cost a copy of the gradient at every step.
        """
        return self.returns_current and not self.method.traits.can_reject

    @property
    def is_constrained(self) -> bool:
        """Whether the method takes constraints: of two points the one of lower cost need not be the better."""
        return self.method.traits.takes_constraints

    @property
    def can_end(self) -> bool:
        """Whether the method or a rule can end the run within an epoch."""
        return self.method.traits.can_end or any(rule.watches == "update" for rule in self.rules)

    def kept(self, point: Point) -> Point:
        """Return what the state keeps of a point."""
        if not self.keeps_point:
            return Point(point.params, None, None)
        return point if self.returns_current else point._replace(aux=None)

    def given(self, state: Any) -> tuple[Any, ...]:
        """Return what the cost gets after its parameters in the next step, as a tuple."""
        if self.extras is None:
            return ()
        number = state.epoch * np.int32(self.source.count) + state.batch
        if state.nonfinite is not None:  # the point before the last is evaluated again, as it was
            number = jnp.where(state.nonfinite, jnp.maximum(number - 2, 0), number)
        return self.extras.given(state.cost_state, number)

    def measured(self, state: Any) -> tuple[Any, ...]:
        """Return what the cost gets where it is only measured."""
        return () if self.extras is None else self.extras.measured(state.cost_state)

    def iterate(self, state: Any) -> Any:
        """Return the parameters after the updates so far: the current point of a method that may reject the trial."""
        return state.current.params if self.returns_current or self.method.traits.can_reject else state.trial

    def shown(self, state: Any) -> Any:
        """Return the parameters that are shown to validation data and to `best` after an epoch."""
        iterate = self.iterate(state)
        if self.decay is None:
            return iterate
        return jax.tree.map(lambda m, x: jnp.where(state.mean.count > 0, m.astype(x.dtype), x), state.mean.params, iterate)

    def slope(self, params: Any, gradient: Any) -> Any:
        """Return what vanishes at a minimum of cost and penalty: the gradient of the cost where there is no penalty."""
        return gradient if self.penalty is None or gradient is None else self.penalty.slope(params, gradient, self.bounds)

    def method_at(self, state: Any) -> Method:
        """Return the method with the scales that its plateaus have."""
        return self.method if state.plateaus is None else schedules.with_plateaus(self.method, state.plateaus)

    def updates(self, state: Any) -> jax.Array:
        """Return the number of updates applied so far, at most the largest int32."""
        if state.steps is not None:
            return state.steps
        most, per_epoch = jnp.iinfo(jnp.int32).max, self.source.count
        exact = state.epoch < (most - per_epoch) // per_epoch
        count = jnp.where(exact, state.epoch * per_epoch + state.extra, most)
        return count if state.skipped is None else count - state.skipped

    def n_rows(self, state: Any) -> Any:
        """Return the length of the history: every accepted point of `minimize`, every epoch of `fit` but the start."""
        return state.steps + (state.epoch > 0).astype(jnp.int32) if self.returns_current else state.epoch


class Mean(NamedTuple):
    """A running mean of iterates."""

    params: Any
    count: Any


class EpochState(NamedTuple):
    """The state of the epoch under way.

    Attributes:
        finite: whether the last evaluation was finite.
        accepted: whether its point was accepted; None while it follows from `finite`.
        seen: the last finite point that was evaluated, where a batch is all rows; else None.
        cost: the sum over the batches, a smaller one counting for less.
        gradient: the sum of the gradients, None where no rule asks for it.
        error: the rounding error of the sum of many costs, None of few.
        dropped: where steps may be dropped, what those of the epoch would weigh.
    """

    finite: Any
    accepted: Any
    seen: Any
    cost: Any
    gradient: Any
    error: Any = None
    dropped: Any = None


class RunState(NamedTuple):
    """The state of a run between two evaluations.

    Attributes:
        trial: the point to evaluate next. It means nothing after a run that diverged, unless points may be rejected.
        current: the last accepted point, with its evaluation where the run keeps that.
        best: the visited point of lowest cost where costs over all rows, or on validation data, are known. Where they are not, the
            end of the epoch of lowest `epoch_cost`, with that.
        method: the state of the method.
        rules: the states of the stopping rules.
        mean: the mean of the iterates; None for no average.
        under_way: the state of the epoch under way; None between epochs, and after one that was broken off.
        epoch: whole passes over the rows. In `minimize` every evaluation is one.
        batch: the batches evaluated in an epoch under way, or broken off, the one that broke it included.
        steps: the updates that led to the current point; None where they follow from `epoch` and `batch`.
        epoch_cost: the mean over the rows of the costs of the last epoch's batches, each at the point before its update.
        validation_cost: the cost on the validation data after the last whole epoch.
        start_cost: the cost of the start, where a batch is all rows.
        nonfinite: whether the last evaluation was not finite and the point before it is evaluated again; None where none is.
        code: the status.
        cost_state: the state of a cost that has one, after the steps so far.
        plateaus: the states of the method's `Plateau`s; None where it has none.
        skipped: the steps that were dropped; None where none may be.
    """

    trial: Any
    current: Point
    best: Best
    method: Any
    rules: Any
    mean: Any
    under_way: EpochState | None
    epoch: Any
    batch: Any
    steps: Any
    epoch_cost: Any
    validation_cost: Any
    start_cost: Any
    nonfinite: Any
    code: Any
    cost_state: Any = None
    plateaus: Any = None
    skipped: Any = None

    @property
    def is_first(self) -> Any:
        """Whether nothing was evaluated yet."""
        return (self.epoch == 0) & (self.batch == 0)

    @property
    def extra(self) -> Any:
        """The updates applied after the last whole epoch: one fewer than batches where the last of them broke the epoch off."""
        batch = self.batch if is_traced(self.batch) else np.asarray(self.batch)
        return batch if self.under_way is not None else batch - (batch > 0).astype(np.int32)

    @property
    def ticks(self) -> Any:
        """The count of the driver: epochs."""
        return self.epoch


def begin(spec: RunSpec) -> RunState:
    """Return the state before the first evaluation."""
    start, cost, zero = spec.start, spec.empty.cost, jnp.zeros((), jnp.int32)
    return RunState(
        trial=start,
        current=spec.empty if spec.keeps_point else Point(start, None, None),
        best=Best(start, jnp.full_like(cost, jnp.inf)),
        method=spec.method.init(start),
        rules=tuple(rule.init(start, cost.dtype) for rule in spec.rules),
        mean=None if spec.average_from is None else Mean(wide_zeros(start), zero),
        under_way=None,
        epoch=zero,
        batch=zero,
        steps=zero if spec.keeps_point else None,
        epoch_cost=None if spec.returns_current else cost,
        validation_cost=cost if spec.validation else None,
        start_cost=cost if spec.one_batch else None,
        nonfinite=jnp.asarray(False) if spec.revisits else None,
        code=jnp.asarray(spec.code, jnp.int32),
        cost_state=None if spec.extras is None else spec.extras.state,
        plateaus=schedules.plateau_states(spec.method, cost.dtype) or None,
        skipped=zero if spec.skips else None,
    )


def start_epoch(spec: RunSpec, state: RunState) -> RunState:
    """Return the state before the first batch of an epoch."""
    sums, zero = spec.source.count > 1, jnp.zeros_like(spec.empty.cost)
    lap = EpochState(
        finite=jnp.asarray(True),
        accepted=jnp.asarray(True) if spec.method.traits.can_reject else None,
        seen=None,
        cost=zero if sums else None,
        gradient=wide_zeros(spec.start) if sums and needs_gradient(spec.rules) else None,
        error=zero if spec.source.count > _FEW else None,
        dropped=zero if sums and spec.skips else None,
    )
    return state._replace(under_way=lap, batch=jnp.zeros((), jnp.int32))


def before_epoch(state: RunState) -> RunState:
    """Return the state before the epoch under way, as far as `end_epoch` looks at it."""
    return state._replace(under_way=None, batch=jnp.zeros((), jnp.int32))


def goes_on(spec: RunSpec, state: RunState) -> Any:
    """Return whether nothing has broken the epoch off.

    Where nothing can, the answer still is none that the compiler knows: a loop whose length it knew would get other bits.
    """
    finite = state.skipped >= 0 if spec.skips else state.under_way.finite  # type: ignore[union-attr]
    return finite & (state.code == RUNNING) if spec.can_end else finite


def wide_zeros(params: Any) -> Any:
    """Return zeros in at least 32 bits, of the shapes of some parameters."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(at_least_float32(leaf)), params)
