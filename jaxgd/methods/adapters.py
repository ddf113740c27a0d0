"""From what a user passes as a method to the protocol of the loops."""

import difflib
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxgd._checks import check, check_trees
from jaxgd._frozen import FrozenParameters, partly_frozen
from jaxgd._trees import is_leaf, is_number, pytree, static, with_fields
from jaxgd.bounds import Bounds
from jaxgd.methods import first_order
from jaxgd.methods._proximal import updated
from jaxgd.methods.automatic import Automatic, is_sought
from jaxgd.methods.optax_adapter import optax_method
from jaxgd.methods.protocol import Method, Point, Problem, Step, Traits, answers, ask
from jaxgd.methods.rule import FirstOrderMethod
from jaxgd.schedules import Schedule

_NAMES = {  # of other libraries' methods, without signs, beside our own
    "Adam": "adamw adamax nadam amsgrad",
    "GradientDescent": "sgd gd momentum nesterov steepestdescent",
    "LBFGS": "lbfgsb bfgs cg conjugategradient tnc slsqp quasinewton",
    "TrustRegion": "trf lm newton newtoncg dogleg trustncg trustexact trustkrylov trustconstr levenbergmarquardt gaussnewton",
    "SpectralGradient": "barzilaiborwein spg",
    "Automatic": "auto",
    **dict.fromkeys(("Adagrad", "Adadelta", "RMSProp"), ""),
}


@pytree
class FirstOrderAdapter(Method):
    """A first-order method, with `init(params)` and `update(gradient, state, params)`, in the protocol of the loops.

    `partly` are the arrays that it has to see whole although a part of them is fixed; None where there are none.
    """

    rule: Any
    partly: FrozenParameters | None = None

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """The traits: the rule says which penalties go with its steps."""
        return Traits(takes_penalty="none" if self.partly else self.rule.takes_penalty)

    def init(self, params: Any) -> Any:
        return self.rule.init(params if self.partly is None else self.partly.merge(params))

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        if self.partly is None:
            return Step(*updated(self.rule, point, state, problem))
        update, state = self.rule.update(self.partly.gradient(point.gradient), state, self.partly.merge(point.params))
        return Step(self.partly.free(update), state)

    def rate(self, count: Any) -> Any:
        """Return the learning rate after `count` updates."""
        return self.rule.rate(count)


class _Wrapper(Method):
    """A method around another one, whose traits are those of a field."""

    method: Any

    def rate(self, count: Any) -> Any:
        """Return the learning rate after `count` updates, where the method knows it."""
        return self.method.rate(count)


@pytree
class UserMethod(_Wrapper):
    """A method written without the base class, with what is known of it."""

    method: Any
    traits: Traits = static()  # type: ignore[misc]

    def init(self, params: Any) -> Any:
        return self.method.init(params)

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        return self.method.step(point, state, problem)

    def gain(self, params: Any, state: Any) -> Any:
        return self.method.gain(params, state)

    @property
    def knows_gain(self) -> bool:
        return callable(getattr(self.method, "gain", None))


@pytree
class FullArrays(_Wrapper):
    """A method that sees arrays whole although a part of them is fixed: their gradient is zero there, and they stay as they are."""

    method: Any
    partly: FrozenParameters
    traits: Traits = static()  # type: ignore[misc]

    def init(self, params: Any) -> Any:
        return self.method.init(self.partly.merge(params))

    def step(self, point: Point, state: Any, problem: Problem) -> Step:
        evaluate, bounds, current = problem.evaluate, problem.bounds, problem.current
        seen = Problem(
            evaluate=evaluate and (lambda params: self._seen(evaluate(self.partly.free(params)))),
            bounds=bounds and Bounds(self.partly.merge(bounds.lower), self.partly.merge(bounds.upper)),
            current=current and self._seen(current),
        )
        answer = ask(self.method, self._seen(point), state, seen)
        return answer._replace(update=self.partly.free(answer.update))

    def _seen(self, point: Point) -> Point:
        return point._replace(params=self.partly.merge(point.params), gradient=self.partly.gradient(point.gradient))


def _for_the_free(rule: FirstOrderMethod, params: Any, fixed: FrozenParameters | None) -> FirstOrderMethod:
    """Return a rule whose learning rates of the variables are those of the free ones among all `params`."""
    rates = rule.learning_rate
    if is_number(rates) or isinstance(rates, str | Schedule) or (fixed is None and not _has_none(params)):
        return rule
    alone = _by_number(rule)
    if callable(rates):
        return with_fields(rule, learning_rate=lambda step: _free_rates(rates(step), params, fixed, by_number=alone))
    return with_fields(rule, learning_rate=_free_rates(rates, params, fixed, by_number=alone))


def _free_rates(rates: Any, params: Any, fixed: FrozenParameters | None, *, by_number: bool) -> Any:
    if is_number(rates):
        return rates
    values, structure = jax.tree.flatten(params)
    parts = [jnp.asarray(part) for part in check_trees.rates_for("learning_rate", rates, params)]
    rates = structure.unflatten(jnp.broadcast_to(r, v.shape) for r, v in zip(parts, values, strict=True))
    if fixed is None:
        return rates
    free = fixed.free(rates)
    partly = None if by_number else partly_frozen(fixed)
    return free if partly is None else partly.rates(free)


def _by_number(rule: Any) -> bool:
    """Return whether a rule treats each number by itself, so that the shapes of arrays are nothing to it."""
    return type(rule).__module__ == first_order.__name__


def _has_none(tree: Any) -> bool:
    return any(leaf is None for leaf in jax.tree.leaves(tree, is_leaf=lambda node: node is None))


def check_method(method: Any, *, all_rows: bool) -> None:
    """Check that something is a method, whatever the parameters are; `all_rows` says that steps see all rows."""
    expected = "method: expected a method of jaxgd or an Optax transformation"
    kind, name = method if isinstance(method, type) else type(method), type(method).__name__
    if isinstance(method, str):
        raise TypeError(f"{expected}, got {method!r}{_nearest(method)}.")
    steps, updates = (callable(getattr(method, field, None)) for field in ("step", "update"))
    if not (kind is Automatic or ((steps or updates) and callable(getattr(method, "init", None)))):
        cure = ": call it to make one" if inspect.isroutine(method) else ""
        raise TypeError(f"{expected}, got {check.show(method)}{cure}.")
    if isinstance(method, type):
        path = f"{'jaxgd.' if kind.__module__.startswith('jaxgd.') else ''}{kind.__name__}"
        raise TypeError(f"method: expected an instance, as in {path}(...), got the class {kind.__name__}.")
    if steps and is_leaf(method):
        raise TypeError(f"method: expected a method that is a pytree: decorate the class {name} with jaxgd.pytree.")
    if is_sought(method) and all_rows:
        what = name if isinstance(method, Automatic) else "'auto'"
        raise ValueError(f"method: {what} is for fit, which finds a learning rate in minibatches; minimize needs none by default.")
    if steps and _traits(method).steps_back and not all_rows:
        raise ValueError(f"method: {name} compares the costs of steps, so all of them need the same rows: use it in minimize.")


def check_takes_penalty(method: Method, penalty: Any) -> None:
    """Check that the steps of a method take a penalty into account, where there is one."""
    if penalty is None or method.traits.takes_penalty == "any":
        return
    inner: Any = method.method if isinstance(method, _Wrapper) else method
    inner = inner.rule if isinstance(inner, FirstOrderAdapter) else inner
    if method.traits.takes_penalty == "separable":
        if not penalty.is_separable:
            cure = "pass GradientDescent with one rate for all, which fit finds for 'auto', or leave the method out in minimize"
            name = type(inner).__name__
            raise ValueError(f"penalty: expected one that is separable for {name}, whose steps differ by parameter: {cure}.")
        return
    name = "an Optax transformation" if type(inner).__module__ == optax_method.__module__ else type(inner).__name__
    cure = "leave the method out, or pass a first-order method of jaxgd, such as Adam(0.01)"
    raise ValueError(f"method: expected one that takes a penalty, got {name}: {cure}.")


def has_rate(method: Any) -> bool:
    """Return whether the learning rate of a method is known."""
    return is_sought(method) or callable(getattr(method, "rate", None))


def _nearest(name: str) -> str:
    """Return a hint for the name by which other libraries call a method."""
    ours = {alias: method for method, aliases in _NAMES.items() for alias in (method.lower(), *aliases.split())}
    for near in difflib.get_close_matches("".join(filter(str.isalnum, name.lower())), ours, n=1, cutoff=0.75):
        return ": leave it out" if ours[near] == "Automatic" else f": pass jaxgd.{ours[near]}()"
    return ""


def as_method(method: Any, params: Any, fixed: FrozenParameters | None, steps_per_epoch: int) -> Method:
    """Return a checked method in the protocol of the loops, for the free ones of all parameters."""
    if isinstance(method, FirstOrderMethod):
        method.check(params)
        return FirstOrderAdapter(_for_the_free(method.bind(steps_per_epoch), params, fixed))
    if isinstance(method, Method):
        return method
    if callable(getattr(method, "step", None)):
        return UserMethod(method, _traits(method))
    return optax_method(method, params)


def _traits(method: Any) -> Traits:
    """Return what is known of a method with a `step`, also of one that is written without the base class.

    Such a method says by `steps_back` that it may reject points.
    """
    if isinstance(method, Method):
        return method.traits
    steps_back = bool(getattr(method, "steps_back", False))
    return Traits(
        requires="hessian" if getattr(method, "needs_hessian", False) else "gradient",
        can_reject=steps_back,
        can_end=True,
        checks_convergence=bool(getattr(method, "ends_itself", False)),
        takes_vector=bool(getattr(method, "packs", False)),
        default_max_steps=int(getattr(method, "default_max_steps", Traits().default_max_steps)),
        ends_at_nonfinite=not steps_back,
    )


def seeing_full_arrays(method: Method, fixed: FrozenParameters | None) -> Method:
    """Return a method that sees partly fixed arrays whole, if it looks at their shapes."""
    partly, traits = partly_frozen(fixed), method.traits
    if partly is None or traits.takes_vector or traits.requires != "gradient":
        return method
    if isinstance(method, FirstOrderAdapter):
        return method if _by_number(method.rule) else with_fields(method, partly=partly)
    return FullArrays(method, partly, traits)


def with_known_traits(method: Method, empty: Point, bounds: Bounds | None) -> Method:
    """Return the method with all its traits. A method that is written without the base class shows them by its answers."""
    inner = method.method if isinstance(method, FullArrays) else method
    if not isinstance(inner, UserMethod):
        return method
    can_reject, can_end = answers(method, empty, bounds)
    return with_fields(method, traits=method.traits._replace(can_reject=can_reject, can_end=can_end))
