"""The base class of first-order rules: it maps the update of one array over a pytree, with a learning rate or a schedule."""

import warnings
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxgd._checks import check, check_trees
from jaxgd._compile.explained import explained
from jaxgd._deprecated import renamed
from jaxgd._trees import at_least_float32, is_number, with_fields
from jaxgd.schedules import AUTO, Schedule, has_one_rate


class RuleState(NamedTuple):
    """The state of a first-order rule.

    The updates so far (int32; None where nothing looks at it), and what is remembered of each array.
    """

    count: Any
    memory: Any


__getattr__ = renamed(__name__, {"Rule": "FirstOrderMethod"})


class FirstOrderMethod:
    """Base class of the first-order rules; see `first_order`."""

    counts: ClassVar[bool] = False
    rates: ClassVar[tuple[float, float]] = (-4.5, 1.0)  # decimal exponents of the learning rates that a search tries
    learning_rate: Any

    def __init_subclass__(cls) -> None:
        """Give a subclass that was written with the former names of its two methods those of today."""
        super().__init_subclass__()
        for old, new in (("memory", "init_leaf"), ("recurrence", "update_leaf")):
            if old in vars(cls) and new not in vars(cls):
                message = f"jaxgd: {cls.__name__}: the method {old} of a first-order rule is now called {new}."
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                setattr(cls, new, vars(cls)[old])

    def init_leaf(self, leaf: jax.Array) -> Any:
        """Return what is remembered for one array, before the first gradient."""
        raise NotImplementedError(f"{type(self).__name__}: a rule needs a method init_leaf(leaf).")

    def update_leaf(self, gradient: jax.Array, memory: Any, params: jax.Array, count: Any) -> tuple[jax.Array, Any]:
        """Return the update of one array and its next memory, the rate being resolved.

        `count` is 1 at the first update, and given to rules that say that it `counts` for them.
        """
        raise NotImplementedError(f"{type(self).__name__}: a rule needs a method update_leaf(gradient, memory, params, count).")

    def step_leaf(self, before: Any, memory: Any, params: jax.Array, count: Any) -> jax.Array:
        """Return the step for each parameter of one array: by what the update multiplied a lasting gradient.

        `before` and `memory` are what was remembered before and after the update, and `params` the parameters before it. It is
        asked for where there is a penalty.
        """
        cure = "give it a method step_leaf(before, memory, params, count), which returns the steps of the last update"
        raise TypeError(f"method: expected a rule that takes a penalty, got {type(self).__name__}: {cure}.")

    @property
    def takes_penalty(self) -> str:
        """The penalties that go with the steps: "any" where they are one number, "separable", or "none"."""
        return "none" if type(self).step_leaf is FirstOrderMethod.step_leaf else "separable"

    @property
    def needs_params(self) -> bool:
        """Whether an update depends on the parameters, as far as that can be told."""
        return False

    def init(self, params: Any) -> RuleState:
        """Return the state before the first update."""
        count = jnp.zeros((), jnp.int32) if self.counts or callable(self.learning_rate) else None
        return RuleState(count, [self.init_leaf(at_least_float32(leaf)) for leaf in jax.tree.leaves(params)])

    def update(self, gradient: Any, state: RuleState, params: Any = None) -> tuple[Any, RuleState]:
        """Return the updates, a pytree like the gradient to be added to the parameters, and the next state."""
        if params is None and self.needs_params:
            raise ValueError(f"{type(self).__name__}: params: expected the parameters, on which this update depends, got None.")
        gradients, structure = jax.tree.flatten(gradient)
        values = gradients if params is None else structure.flatten_up_to(params)
        rate = self.rate(state.count)
        rates = [rate] * len(gradients) if is_number(rate) else structure.flatten_up_to(rate)
        count = None if state.count is None else jnp.where(state.count < jnp.iinfo(jnp.int32).max, state.count + 1, state.count)
        updates, memories = [], []
        for g, memory, x, rate in zip(gradients, state.memory, values, rates, strict=True):
            leaf = at_least_float32(g)
            number = count.astype(leaf.dtype) if self.counts and count is not None else None
            update, memory = self._at(rate, leaf.dtype).update_leaf(leaf, memory, at_least_float32(x), number)
            updates.append(update.astype(g.dtype))
            memories.append(memory)
        return structure.unflatten(updates), RuleState(count, memories)

    def steps(self, params: Any, before: RuleState, after: RuleState) -> Any:
        """Return the steps of the update between two states, a pytree like the parameters; see `step_leaf`."""
        leaves, structure = jax.tree.flatten(params)
        rate = self.rate(before.count)
        rates = [rate] * len(leaves) if is_number(rate) else structure.flatten_up_to(rate)
        steps = []
        for x, old, memory, one in zip(map(at_least_float32, leaves), before.memory, after.memory, rates, strict=True):
            number = after.count.astype(x.dtype) if self.counts and after.count is not None else None
            steps.append(self._at(one, x.dtype).step_leaf(old, memory, x, number))
        return structure.unflatten(steps)

    def rate(self, count: Any) -> Any:
        """Return the learning rate after `count` updates: a scalar, or a pytree of the learning rates of the variables."""
        if _is_auto(self.learning_rate):
            raise ValueError(
                f"{type(self).__name__}: learning_rate: expected a number for a single update, got 'auto', which is for fit."
            )
        return self.learning_rate(count) if callable(self.learning_rate) else self.learning_rate

    def resolved(self, count: Any) -> "FirstOrderMethod":
        """Return the rule with the learning rate that it has after `count` updates as a number."""
        return with_fields(self, learning_rate=self.rate(count))

    def check(self, params: Any) -> None:
        """Check what depends on the parameters: a learning rate for each variable has to fit them."""
        name = f"{type(self).__name__}: learning_rate"
        if not callable(self.learning_rate):
            check_trees.per_variable(name, self.learning_rate, params)
        elif not has_one_rate(self.learning_rate):
            with explained(name, eager=True):
                check_trees.schedule(name, self.learning_rate, params)

    def bind(self, steps_per_epoch: int) -> "FirstOrderMethod":
        """Return the same rule, its schedule knowing how many updates an epoch has."""
        if not isinstance(self.learning_rate, Schedule):
            return self
        return with_fields(self, learning_rate=self.learning_rate.bind(steps_per_epoch))

    def __post_init__(self) -> None:
        self._check_learning_rate(f"{type(self).__name__}: learning_rate", self.learning_rate)
        self.check_hyperparameters(type(self).__name__)

    def check_hyperparameters(self, name: str) -> None:
        """Check the rule's own hyperparameters; `name` is the name of its class."""

    def _check_learning_rate(self, name: str, rate: Any) -> None:
        if _is_auto(rate):
            return
        if callable(rate) and not isinstance(rate, type):
            return check.function(name, rate, ("step",), "a function step -> rate")
        leaves = jax.tree_util.tree_flatten_with_path(rate, is_leaf=callable)[0]
        if isinstance(rate, str | type | FirstOrderMethod) or not leaves:
            raise TypeError(f"{name}: expected a number, an array, a schedule or 'auto', got {check.show(rate)}.")
        for path, leaf in leaves:
            check.positive(name + jax.tree_util.keystr(path), leaf, several=True)

    def _at(self, rate: Any, dtype: Any) -> Any:
        """Return the rule for one array: the learning rate resolved, every hyperparameter in the precision of the array."""
        rule = with_fields(self, learning_rate=rate)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(dtype), rule)


def _is_auto(rate: Any) -> bool:
    return isinstance(rate, str) and rate == AUTO
