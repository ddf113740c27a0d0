"""From what a user names as a method to the loops' protocol: first-order rules and Optax transformations are lifted here."""

import inspect
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxgd import _checks
from jaxgd._fixed import Fixed
from jaxgd._trees import is_leaf, is_number, pytree, static, with_fields
from jaxgd.methods.automatic import is_sought
from jaxgd.methods.protocol import Method, Point, Problem, Step
from jaxgd.methods.rule import Rule
from jaxgd.schedules import Schedule


@pytree
class Lifted:
    """A rule in the convention `init(params)`, `update(gradient, state, params)` as a method that accepts every point."""

    steps_back: ClassVar[bool] = False
    rule: Any

    def init(self, params: Any) -> Any:
        return self.rule.init(params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        del problem
        update, state = self.rule.update(point.gradient, state, point.params)
        return Step(update, state)

    def rate(self, count: Any) -> Any:
        """The learning rate after `count` updates."""
        return self.rule.rate(count)


@pytree
class Optax:
    """An Optax transformation, or any pair of functions `init` and `update`, as a method that accepts every point.

    Transformations that take extra arguments get those that Optax names: `value`, `grad` and `value_fn`. The transformation is
    part of the program's structure: another one compiles another program, and so does a fresh one with other numbers in it.
    """

    steps_back: ClassVar[bool] = False
    transformation: Any = static()

    def init(self, params: Any) -> Any:
        return self.transformation.init(params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        extra = {}
        if _takes_extra(self.transformation.update):
            extra = {"value": point.cost, "grad": point.gradient, "value_fn": _value_function(problem.evaluate)}
        update, state = self.transformation.update(point.gradient, state, point.params, **extra)
        return Step(update, state)


def _for_the_free(rule: Rule, fixed: Fixed | None) -> Rule:
    """A rule whose learning rates of the variables are those of the free ones."""
    rates = rule.learning_rate
    if fixed is None or is_number(rates) or isinstance(rates, Schedule):
        return rule
    if callable(rates):
        return with_fields(rule, learning_rate=lambda step: _free_rates(rates(step), fixed))
    return with_fields(rule, learning_rate=_free_rates(rates, fixed))


def _free_rates(rates: Any, fixed: Fixed) -> Any:
    if is_number(rates):
        return rates
    values, structure = jax.tree.flatten(fixed.values)
    parts = map(jnp.asarray, structure.flatten_up_to(rates))
    return fixed.free(structure.unflatten(jnp.broadcast_to(r, v.shape) for r, v in zip(parts, values, strict=True)))


def _takes_extra(update: Any) -> bool:
    parameters = inspect.signature(update).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def _value_function(evaluate: Any) -> Any:
    """The cost as a function of the parameters, whose derivative is the gradient that the evaluation gives."""

    @jax.custom_jvp
    def value(params: Any) -> Any:
        return evaluate(params).cost

    @value.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        point = evaluate(*primals)
        products = jax.tree.map(lambda g, t: jnp.sum(g * t).astype(point.cost.dtype), point.gradient, tangents[0])
        return point.cost, sum(jax.tree.leaves(products), start=jnp.zeros_like(point.cost))

    return value


def lift(method: Any, params: Any, fixed: Fixed | None, steps_per_epoch: int) -> Method:
    """Check a method against all parameters and bring it into the protocol of the loops, for the free ones."""
    if isinstance(method, type):
        raise TypeError(f"method: expected an instance, as in jaxgd.{method.__name__}(...), got the class {method.__name__}.")
    if is_sought(method):
        raise ValueError("method: 'auto' is for fit, which finds a learning rate in minibatches; minimize needs none by default.")
    if isinstance(method, Rule):
        method.check(params)
        return Lifted(_for_the_free(method.bind(steps_per_epoch), fixed))
    if callable(getattr(method, "step", None)) and callable(getattr(method, "init", None)):
        if is_leaf(method):
            name = type(method).__name__
            raise TypeError(f"method: expected a method that is a pytree: decorate the class {name} with jaxgd.pytree.")
        return method
    if callable(getattr(method, "update", None)) and callable(getattr(method, "init", None)):
        return Optax(method)
    raise TypeError(f"method: expected a method of jaxgd or an Optax transformation, got {_checks.show(method)}.")
