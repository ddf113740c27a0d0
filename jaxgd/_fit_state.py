"""What a run of `fit` is told, and the state that it is in between two epochs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._batches import Batches
from jaxgd._bounds import Bounds
from jaxgd._trees import pytree, static, wide
from jaxgd.methods.lift import Lifted, Optax
from jaxgd.methods.protocol import Method, Point, Problem, ask
from jaxgd.result import RUNNING, Best
from jaxgd.stopping import Rule


@pytree
class Plan:
    """What a run of `fit` is told: everything but its state and its cost.

    `infinite` is a cost, infinite as before the start; `code` is that of the status before the first batch, RUNNING unless a search
    for a learning rate has come to nothing.
    """

    start: Any
    infinite: Any
    method: Method
    rules: tuple[Rule, ...]
    batches: Batches
    validation: tuple[Any, ...]
    n_epochs: Any
    bounds: Bounds | None
    average_from: Any  # (epoch, batch): the first update whose iterate is averaged; None for no average
    code: Any
    names: tuple[str, ...] = static()
    capacity: int = static()

    @property
    def data(self) -> Any:
        """All rows."""
        return self.batches.data

    @property
    def in_one_batch(self) -> bool:
        """Whether every batch is all rows, so that the cost of a batch is the cost of a point."""
        return self.batches.count == 1 and self.batches.shuffle != "replacement"

    @property
    def watches_batches(self) -> bool:
        """Whether `best` and the rules go by the cost of a batch that is all rows."""
        return self.in_one_batch and not self.validation

    def updates(self, state: Any) -> jax.Array:
        """Return the updates applied so far, at most the largest int32."""
        most, per_epoch = jnp.iinfo(jnp.int32).max, self.batches.count
        exact = state.epoch < (most - per_epoch) // per_epoch
        return jnp.where(exact, state.epoch * per_epoch + state.applied, most)


class Mean(NamedTuple):
    """A running mean of iterates."""

    params: Any
    count: Any


class Asked(NamedTuple):
    """What is carried for a method that rejects points.

    `params` is the point that it asks for next; `cost` and `gradient` are those of the current one, the last that it accepted, and
    `accepted` counts these.
    """

    params: Any
    cost: Any
    gradient: Any
    accepted: Any


class State(NamedTuple):
    """The state of a run of `fit`.

    `trial` is the current iterate, the next to be evaluated unless a method has `asked` for another; it means nothing after a run
    that diverged, unless points may be rejected. `params` is the last point whose evaluation was finite. `epoch` counts the whole
    epochs, `batch` the batches evaluated in an epoch that was broken off, the one that broke it included. `epoch_cost` is the mean
    over the rows of the costs of the last epoch's batches, as far as it came, each at the point before its update;
    `validation_cost` is that after the last whole epoch. Where each batch is all rows `start_cost` is the cost of the start.

    `best` is the visited point of lowest cost where costs over all rows, or on validation data, are known. Where they are not, it
    is the end of the epoch of lowest `epoch_cost`, with that.
    """

    trial: Any
    params: Any
    best: Best
    method: Any
    rules: Any
    mean: Any
    asked: Any
    epoch: Any
    batch: Any
    epoch_cost: Any
    validation_cost: Any
    start_cost: Any
    code: Any

    @property
    def ticks(self) -> Any:
        """Whole epochs done."""
        return self.epoch

    @property
    def applied(self) -> Any:
        """Updates in an epoch that was broken off."""
        return self.batch - (self.batch > 0).astype(jnp.int32)

    @property
    def rows(self) -> Any:
        """Rows of the history so far, one for each epoch; that of the start is made elsewhere."""
        return self.epoch


def begin(plan: Plan) -> State:
    """Return the state before the first evaluation."""
    start, cost = plan.start, plan.infinite
    return State(
        trial=start,
        params=start,
        best=Best(start, jnp.full_like(cost, jnp.inf)),
        method=plan.method.init(start),
        rules=tuple(rule.init(start, cost.dtype) for rule in plan.rules),
        mean=None if plan.average_from is None else Mean(wide_zeros(start), jnp.zeros((), jnp.int32)),
        asked=Asked(start, cost, start, jnp.zeros((), jnp.int32)) if habits(plan).rejects else None,
        epoch=jnp.zeros((), jnp.int32),
        batch=jnp.zeros((), jnp.int32),
        epoch_cost=cost,
        validation_cost=cost if plan.validation else None,
        start_cost=cost if plan.in_one_batch else None,
        code=jnp.asarray(plan.code, jnp.int32),
    )


class Habits(NamedTuple):
    """What a method may do beside giving an update: end the run, reject a point."""

    ends: bool
    rejects: bool


def habits(plan: Plan) -> Habits:
    """Find out what a method may do, by asking it with abstract values; ours never do either."""
    if isinstance(plan.method, Lifted | Optax):
        return Habits(ends=False, rejects=False)
    seen = []

    def answer(params: Any, cost: Any) -> Any:
        point = Point(params, cost, params)
        step = ask(plan.method, point, plan.method.init(params), Problem(lambda _: point, None, plan.bounds, point))
        seen.append(Habits(not (isinstance(step.code, int) and step.code == RUNNING), step.accepted is not True))
        return step.update

    jax.eval_shape(answer, plan.start, plan.infinite)
    return seen[0]


def wide_zeros(params: Any) -> Any:
    """Zeros in at least 32 bits, of the shapes of some parameters."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(wide(leaf)), params)
