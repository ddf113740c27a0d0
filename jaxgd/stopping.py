"""Stopping rules: each is a small test that a compiled run asks at every step or epoch.

A rule watches one of two things. An *update* rule sees the update that a step is about to apply, and stops the run before it is
applied. A *progress* rule sees each new point: in `minimize` every step's, in `fit` the end of each epoch. There the cost is the
validation cost if validation data were given, else the mean over the epoch's rows of the costs of their batches, each at the
parameters before its update, and the gradient is the same mean of the gradients. Where a batch is all rows, and there are no
validation data, the point is the one of that cost and gradient, before the update.

A tolerance of None means relative to the scale of the problem, at the precision of its numbers. Tolerances are leaves of a pytree:
changing one compiles nothing anew. A rule of your own is a `StoppingRule` with the same two methods, decorated with `jaxgd.pytree`.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._deprecated import renamed
from jaxgd._trees import all_of, inner, is_leaf, largest, norm, pytree, safe_divisor, static
from jaxgd.result import RUNNING, Status

__all__ = ["CostTolerance", "GradientTolerance", "Patience", "Stationary", "StoppingRule", "UpdateTolerance"]


__getattr__ = renamed(__name__, {"Rule": "StoppingRule"})


class Observation(NamedTuple):
    """The quantities that a rule sees.

    An update rule has `params` and `update`; a progress rule has `params`, `cost` and `gradient`. Where there is a penalty, the
    gradient is the one that vanishes at a minimum, see `jaxgd.Result`, and `smooth` is that of the cost alone.
    """

    params: Any
    cost: Any = None
    gradient: Any = None
    update: Any = None
    smooth: Any = None


class StoppingRule:
    """A stopping rule: `init` makes its state, `check` says whether the run ends here.

    `watches` is "update" or "progress"; `needs_gradient` says that a progress rule looks at the gradient; `status` is what the
    result reports when the rule fires.
    """

    watches: ClassVar[str] = "progress"
    needs_gradient: ClassVar[bool] = False
    status: ClassVar[Status] = Status.RULE

    def init(self, params: Any, dtype: Any) -> Any:
        """Return the state before the first point, arrays; `dtype` is the precision of the cost."""
        del params, dtype
        return ()

    def check(self, observation: Observation, state: Any) -> tuple[jax.Array, Any]:
        """Return whether the rule fires (a boolean scalar), and its next state."""
        raise NotImplementedError(f"{type(self).__name__}: a stopping rule needs a method check(observation, state).")


def _limit(rule: Any, size: jax.Array, power: float = 1.0) -> jax.Array:
    """Return the tolerance in the precision of a size, multiplied by that where it is relative."""
    if rule.tolerance is None:
        return jnp.asarray(float(jnp.finfo(size.dtype).eps) ** power, size.dtype) * size
    tolerance = jnp.asarray(rule.tolerance).astype(size.dtype)
    return tolerance * size if rule.relative else tolerance


def _check_tolerance(rule: Any) -> None:
    name = type(rule).__name__
    check.flag(f"{name}: relative", rule.relative)
    if rule.tolerance is not None:
        check.positive(f"{name}: tolerance", rule.tolerance)


@pytree
class UpdateTolerance(StoppingRule):
    """Stop when no parameter would change by more than the tolerance: `all(|update| <= tolerance)`.

    The test comes before the update is applied, which then is not: a run that stops has not taken its last, tiny step.

    Args:
        tolerance: the largest update, > 0, in the units of the parameters. None: one rounding unit of each parameter.
        relative: the tolerance is multiplied by |params|, each parameter's own.

    >>> import jaxgd
    >>> descent = jaxgd.GradientDescent(0.2)
    >>> result = jaxgd.minimize(lambda v: v**2, 10.0, method=descent, stop=UpdateTolerance(1e-6), dtype="float64")
    >>> result.n_steps, result.status.name
    (30, 'UPDATE_TOLERANCE')
    """

    watches: ClassVar[str] = "update"
    status: ClassVar[Status] = Status.UPDATE_TOLERANCE
    tolerance: Any = None
    relative: bool = static(default=False)

    def __post_init__(self) -> None:
        _check_tolerance(self)

    def check(self, observation: Observation, state: Any) -> tuple[jax.Array, Any]:
        def small(update: jax.Array, params: jax.Array) -> jax.Array:
            return jnp.abs(update.astype(params.dtype)) <= _limit(self, jnp.abs(params))

        return all_of(small, observation.update, observation.params), state


@pytree
class CostTolerance(StoppingRule):
    """Stop when the cost changes by no more than the tolerance between two points: `|cost - previous cost| <= tolerance`.

    Args:
        tolerance: the largest change, in the units of the cost; a negative one never stops. None: one rounding unit of the cost.
        relative: the tolerance is multiplied by |cost|.

    >>> import jaxgd
    >>> descent = jaxgd.GradientDescent(0.25)
    >>> result = jaxgd.minimize(lambda v: v**2, 1.0, method=descent, stop=CostTolerance(0.01), dtype="float64")
    >>> result.n_steps, float(result.cost)  # the cost falls by a factor of four
    (5, 0.0009765625)
    """

    status: ClassVar[Status] = Status.COST_TOLERANCE
    tolerance: Any = None
    relative: bool = static(default=False)

    def __post_init__(self) -> None:
        check.flag("CostTolerance: relative", self.relative)
        if self.tolerance is not None:
            check.scalar("CostTolerance: tolerance", self.tolerance)

    def init(self, params: Any, dtype: Any) -> Any:
        return jnp.asarray(jnp.inf, dtype)

    def check(self, observation: Observation, state: Any) -> tuple[jax.Array, Any]:
        cost = observation.cost
        return jnp.abs(cost - state) <= _limit(self, jnp.abs(cost)), cost


@pytree
class GradientTolerance(StoppingRule):
    """Stop when no component of the gradient exceeds the tolerance: `max(|gradient|) <= tolerance`.

    Args:
        tolerance: the largest component, > 0, in units of the cost per unit of a parameter. None: eps**(2/3), relative.
        relative: the tolerance is multiplied by the largest component seen since the start, which makes the test independent of
            the units of the cost, and looser the worse the start was; see `Stationary` for a test that does not depend on it.

    >>> import jaxgd
    >>> descent = jaxgd.GradientDescent(0.25)
    >>> result = jaxgd.minimize(lambda v: v**2, 1.0, method=descent, stop=GradientTolerance(0.1), dtype="float64")
    >>> result.n_steps, float(result.gradient)
    (5, 0.0625)
    """

    needs_gradient: ClassVar[bool] = True
    status: ClassVar[Status] = Status.GRADIENT_TOLERANCE
    tolerance: Any = None
    relative: bool = static(default=False)

    def __post_init__(self) -> None:
        _check_tolerance(self)

    def init(self, params: Any, dtype: Any) -> Any:
        return jnp.zeros((), dtype)

    def check(self, observation: Observation, state: Any) -> tuple[jax.Array, Any]:
        size = largest(observation.gradient, state.dtype)
        seen = jnp.maximum(state, size)
        return size <= _limit(self, seen, power=2 / 3), seen


class _Secant(NamedTuple):
    params: Any
    gradient: Any
    steep: Any
    size: Any
    satisfied: Any


@pytree
class Stationary(StoppingRule):
    """Stop when the gradient g is negligible at the scale of the problem and its precision.

    It is the default of `minimize` for every method that does not judge its end by itself.

    With s and y the changes of the parameters and of the gradient since the last point, each variable has at least the second
    derivative b_i = y_i**2 / s'y (for a convex quadratic, by the inequality of Cauchy and Schwarz), and the largest of the last
    few counts: it falls by 16 from one point to the next. The run ends if at three points in a row, for every variable,

        g_i**2 <= b_i * max(eps**1.5 * |cost|, 25 * eps**2 * sum(b * max(|x|, eps * X)**2))

    or at once if g = 0, where X is the largest |x| so far, each variable's own, and eps the rounding unit of the precision: the
    fall that is left to any of them is far below the rounding of the cost, or no more than five roundings of the parameters make.
    The test does not change with the units of the cost or of any parameter, and a bad start does not loosen it.

    >>> import jaxgd
    >>> descent = jaxgd.GradientDescent(0.2)
    >>> result = jaxgd.minimize(lambda v: (v - 7.0) ** 2, 1e6, method=descent, stop=Stationary(), dtype="float64")
    >>> result.converged, round(float(result.params), 9)
    (True, 7.0)
    """

    needs_gradient: ClassVar[bool] = True
    status: ClassVar[Status] = Status.CONVERGED

    def init(self, params: Any, dtype: Any) -> Any:
        nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=dtype), params)
        return _Secant(params, jax.tree.map(jnp.zeros_like, params), nothing, nothing, jnp.full((), -1, jnp.int32))

    def check(self, observation: Observation, state: Any) -> tuple[jax.Array, Any]:
        params, gradient = observation.params, observation.gradient
        smooth = gradient if observation.smooth is None else observation.smooth
        dtype = observation.cost.dtype
        eps = float(jnp.finfo(dtype).eps)

        def difference(new: jax.Array, old: jax.Array) -> jax.Array:
            return new.astype(dtype) - old.astype(dtype)

        def sizes(x: jax.Array, most: jax.Array) -> jax.Array:
            return jnp.maximum(jnp.abs(x).astype(dtype), most)

        step, change = (jax.tree.map(difference, *pair) for pair in ((params, state.params), (smooth, state.gradient)))
        moved, before = largest(step, dtype), state.satisfied >= 0
        rise = inner(step, change, moved, dtype)
        bent, root = before & (rise > 0), jnp.sqrt(safe_divisor(rise)) * jnp.sqrt(safe_divisor(moved))
        steep = jax.tree.map(lambda y, b: jnp.where(bent & (y != 0), jnp.maximum(jnp.abs(y) / root, b / 4), b), change, state.steep)
        size = jax.tree.map(sizes, params, state.size)
        extent = jax.tree.map(lambda b, x, most: b * sizes(x, eps * most), steep, params, size)
        least = jnp.maximum(eps**0.75 * jnp.sqrt(jnp.abs(observation.cost)), 5 * eps * norm(extent, dtype))
        still = all_of(lambda g, b: jnp.abs(g).astype(dtype) <= b * least, gradient, steep)
        satisfied = jnp.where((bent | (before & (moved == 0))) & still, state.satisfied + 1, 0)
        flat = all_of(lambda g: g == 0, gradient)
        return flat | (satisfied >= 3), _Secant(params, smooth, steep, size, satisfied)


class _Waiting(NamedTuple):
    lowest: Any
    waited: Any


@pytree
class Patience(StoppingRule):
    """Stop when the cost has not improved for `duration` points in a row.

    In `fit` the points are epochs, and the cost is the validation cost where validation data were given; the parameters of the
    best epoch are in `result.best`.

    Args:
        duration: how many points to wait for, >= 1.
        minimum_change: what counts as an improvement: a fall below the cost of the last improvement by more than this,
            >= 0, in the units of the cost.

    >>> import jaxgd
    >>> descent = jaxgd.GradientDescent(1.0)  # jumps from side to side
    >>> result = jaxgd.minimize(lambda v: v**2, 1.0, method=descent, stop=Patience(5))
    >>> result.n_steps, result.status.name
    (5, 'PATIENCE')
    """

    status: ClassVar[Status] = Status.PATIENCE
    duration: Any
    minimum_change: Any = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.duration, jax.Array):
            check.integer("Patience: duration", self.duration, 1, 2**31 - 1)
        check.at_least_zero("Patience: minimum_change", self.minimum_change)

    def init(self, params: Any, dtype: Any) -> Any:
        return _Waiting(jnp.asarray(jnp.inf, dtype), jnp.zeros((), jnp.int32))

    def check(self, observation: Observation, state: Any) -> tuple[jax.Array, Any]:
        cost = observation.cost
        better = cost < state.lowest - jnp.asarray(self.minimum_change).astype(cost.dtype)
        waited = jnp.where(better, 0, state.waited + 1)
        return waited >= jnp.asarray(self.duration).astype(waited.dtype), _Waiting(jnp.where(better, cost, state.lowest), waited)


def check_rules(
    rules: tuple[StoppingRule, ...], watches: str, observation: Observation, states: tuple[Any, ...]
) -> tuple[jax.Array, Any]:
    """Return the code of the first rule that fires, RUNNING if none, and all next states.

    Only rules that watch the observed quantity are asked.
    """
    code = jnp.asarray(RUNNING, jnp.int32)
    next_states = []
    for rule, state in zip(rules, states, strict=True):
        if rule.watches == watches:
            fired, state = _answer(rule, observation, state)
            code = jnp.where((code == RUNNING) & fired, rule.status.code, code)
        next_states.append(state)
    return code, tuple(next_states)


def _answer(rule: StoppingRule, observation: Observation, state: Any) -> tuple[Any, Any]:
    """Return what a rule says, checked: rules may be anybody's."""
    answer = rule.check(observation, state)
    fired = answer[0] if isinstance(answer, tuple | list) and len(answer) == 2 else None
    array = isinstance(fired, jax.Array | np.ndarray) and fired.shape == () and fired.dtype == bool
    if not (array or isinstance(fired, bool | np.bool_)):
        expected = "a pair, a boolean scalar and the next state"
        raise TypeError(f"stop: {type(rule).__name__}.check must return {expected}, it returned {check.show(answer)}.")
    return fired, answer[1]


def as_rules(stop: Any, default: tuple[StoppingRule, ...]) -> tuple[StoppingRule, ...]:
    """Check the argument `stop`: None for the default, one rule, or several."""
    if stop is None:
        return default
    rules = tuple(stop) if isinstance(stop, tuple | list) else (stop,)
    for rule in rules:
        if not isinstance(rule, StoppingRule):
            raise TypeError(f"stop: expected a rule of jaxgd.stopping, several, None or (), got {check.show(rule)}.")
        if is_leaf(rule):
            name = type(rule).__name__
            raise TypeError(f"stop: expected a rule that is a pytree: decorate the class {name} with jaxgd.pytree.")
    return rules


def needs_gradient(rules: tuple[StoppingRule, ...]) -> bool:
    """Return whether any of the rules looks at the gradient of the progress."""
    return any(rule.needs_gradient for rule in rules)
