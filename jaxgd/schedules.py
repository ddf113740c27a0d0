"""Learning rates that change during a run: each schedule is a small function of the time t.

A schedule is called with the number of updates applied so far, an int32 scalar that starts at 0, and returns the rate of the next
update. Time is counted in updates, or with `unit="epoch"` in completed epochs (in `minimize` every step is an epoch). Its numbers
are leaves of a pytree: changing one compiles nothing anew. Any callable `step -> rate` written with `jax.numpy` serves as well; a
class of your own is a `Schedule` with a method `rate(time)`, decorated with `jaxgd.pytree`. The first number of a schedule may be
"auto", which has `fit` find it: `Cosine("auto", 1000)`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd._checks import check
from jaxgd._trees import is_number, is_traced, pytree, static, with_fields

AUTO = "auto"  # instead of a learning rate that is to be found

__all__ = ["Cosine", "Exponential", "InverseTime", "PiecewiseConstant", "Plateau", "Schedule", "WarmUp"]


class Schedule:
    """Base class of the schedules: the count of steps becomes the time, in steps or in epochs."""

    unit: str = "step"
    steps_per_epoch: int = 1

    def __call__(self, step: Any) -> jax.Array:
        """Return the rate of the update that follows `step` updates."""
        return self.rate(self.time(jnp.asarray(step)))

    def time(self, step: jax.Array) -> jax.Array:
        """Return the time in the schedule's own unit, in the precision of its numbers."""
        numbers = jax.tree.leaves(self)
        if any(isinstance(number, str) for number in numbers):
            raise ValueError(f"{type(self).__name__}: expected a number to compute a rate, got 'auto', which is for fit.")
        dtypes = [number.dtype for number in numbers if isinstance(number, jax.Array)]
        return (step // self._steps_per_unit).astype(dtypes[0] if dtypes else jnp.result_type(float))

    def rate(self, time: jax.Array) -> jax.Array:
        """Return the rate at a time, a float scalar in the schedule's unit."""
        raise NotImplementedError(f"{type(self).__name__}: a schedule needs a method rate(time).")

    def bind(self, steps_per_epoch: int) -> "Schedule":
        """Return the same schedule, knowing how many updates an epoch has."""
        return with_fields(self, steps_per_epoch=steps_per_epoch)

    @property
    def _steps_per_unit(self) -> int:
        return self.steps_per_epoch if self.unit == "epoch" else 1

    def _check(self, **positive: Any) -> None:
        check.one_of(f"{type(self).__name__}: unit", self.unit, ("step", "epoch"))
        for name, value in positive.items():
            if not (isinstance(value, str) and value == AUTO and name == next(iter(positive))):
                check.positive(f"{type(self).__name__}: {name}", value, several=True)
            if isinstance(value, list):
                object.__setattr__(self, name, np.asarray(value))


@pytree
class InverseTime(Schedule):
    """The rate `t0 / (t + t1)`.

    Robbins and Monro's condition (the rates sum to infinity, their squares do not) holds, so that minibatch descent converges
    and does not scatter for ever. H. Robbins, S. Monro, A stochastic approximation method, Ann. Math. Statist. 22 (1951).

    Args:
        t0: the numerator, > 0; the first rate is t0 / t1.
        t1: the time, > 0, after which the rate has halved.
        unit: "step" or "epoch".

    >>> float(InverseTime(5, 50)(0)), float(InverseTime(5, 50)(50))
    (0.1..., 0.05...)
    """

    t0: Any
    t1: Any
    unit: str = static(default="step")
    steps_per_epoch: int = static(default=1)

    def __post_init__(self) -> None:
        self._check(t0=self.t0, t1=self.t1)

    def rate(self, time: jax.Array) -> jax.Array:
        return self.t0 / (time + self.t1)


@pytree
class Exponential(Schedule):
    """The rate `initial * factor ** (t / period)`.

    Args:
        initial: the first rate, > 0.
        factor: what the rate is multiplied by in each period, > 0 (below 1 to decay).
        period: the time in which that happens, > 0.
        unit: "step" or "epoch".

    >>> float(Exponential(1.0, 0.5, period=10)(20))
    0.25
    """

    initial: Any
    factor: Any
    period: Any = 1
    unit: str = static(default="step")
    steps_per_epoch: int = static(default=1)

    def __post_init__(self) -> None:
        self._check(initial=self.initial, factor=self.factor, period=self.period)

    def rate(self, time: jax.Array) -> jax.Array:
        return self.initial * jnp.asarray(self.factor) ** (time / self.period)


@pytree
class Cosine(Schedule):
    """The rate `final + (initial - final) * (1 + cos(pi * min(t / duration, 1))) / 2`.

    I. Loshchilov, F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, without the restarts.

    Args:
        initial: the first rate, > 0.
        duration: the time, > 0, at which `final` is reached; it stays there.
        final: the last rate, >= 0; 0 where the first is "auto".
        unit: "step" or "epoch".

    >>> [round(float(Cosine(1.0, 100)(t)), 6) for t in (0, 50, 100, 200)]
    [1.0, 0.5, 0.0, 0.0]
    """

    initial: Any
    duration: Any
    final: Any = 0.0
    unit: str = static(default="step")
    steps_per_epoch: int = static(default=1)

    def __post_init__(self) -> None:
        self._check(initial=self.initial, duration=self.duration)
        check.at_least_zero("Cosine: final", self.final)
        if isinstance(self.initial, str) and (is_traced(self.final) or self.final != 0):
            raise ValueError(
                f"Cosine: final: expected 0 where initial is 'auto', a rate not known yet, got {check.show(self.final)}."
            )

    def rate(self, time: jax.Array) -> jax.Array:
        fraction = jnp.minimum(time / self.duration, 1)
        return self.final + (self.initial - self.final) * (1 + jnp.cos(jnp.pi * fraction)) / 2


@pytree
class PiecewiseConstant(Schedule):
    """The rate `values[k]`, where k is the number of `boundaries` that are at most t.

    Args:
        boundaries: the times at which the rate changes, strictly increasing, shape (k,).
        values: the rates, each > 0, shape (k + 1,).
        unit: "step" or "epoch".

    >>> [float(PiecewiseConstant([2, 4], [1.0, 0.5, 0.25])(t)) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    boundaries: Any
    values: Any
    unit: str = static(default="step")
    steps_per_epoch: int = static(default=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boundaries", check.vector("PiecewiseConstant: boundaries", self.boundaries))
        object.__setattr__(self, "values", check.vector("PiecewiseConstant: values", self.values))
        self._check(values=self.values)
        n_boundaries, n_values = self.boundaries.shape[0], self.values.shape[0]
        if n_values != n_boundaries + 1:
            raise ValueError(
                "PiecewiseConstant: values: expected one more than boundaries, "
                f"got {n_values} values and {n_boundaries} boundaries."
            )
        if not is_traced(self.boundaries) and not np.all(np.asarray(self.boundaries)[1:] > np.asarray(self.boundaries)[:-1]):
            raise ValueError(f"PiecewiseConstant: boundaries: expected increasing times, got {self.boundaries}.")

    def rate(self, time: jax.Array) -> jax.Array:
        index = jnp.sum(time >= jnp.asarray(self.boundaries))
        return jnp.asarray(self.values)[index]


@pytree
class WarmUp(Schedule):
    """A linear rise over `duration`, then another schedule from its beginning.

    The rate is `schedule(0) * (t + 1) / (duration + 1)` while t < duration, then `schedule(t - duration)`. The first update is
    not wasted on a rate of zero.

    Args:
        schedule: the schedule to wrap, a number, or any callable step -> rate; it counts in its own unit.
        duration: the time of the rise, >= 0.
        unit: the unit of `duration`, "step" or "epoch".

    >>> [float(WarmUp(0.8, 3)(t)) for t in range(5)]
    [0.2..., 0.4..., 0.6..., 0.8..., 0.8...]
    """

    schedule: Any
    duration: Any
    unit: str = static(default="step")
    steps_per_epoch: int = static(default=1)

    def __post_init__(self) -> None:
        self._check()
        check.at_least_zero("WarmUp: duration", self.duration)
        if not callable(self.schedule) or isinstance(self.schedule, type):
            self._check(schedule=self.schedule)
        elif not isinstance(self.schedule, Schedule):
            check.function("WarmUp: schedule", self.schedule, ("step",), "a number, a schedule or a function step -> rate")

    def __call__(self, step: Any) -> jax.Array:
        step = jnp.asarray(step)
        rise = (self.time(step) + 1) / (self.duration + 1)
        start = jnp.asarray(self.duration * self._steps_per_unit).astype(step.dtype)
        schedule: Any = self.schedule
        inner: Any = schedule(jnp.maximum(step - start, 0)) if callable(schedule) else schedule
        return jnp.minimum(rise, 1) * jnp.asarray(inner).astype(rise.dtype)

    def bind(self, steps_per_epoch: int) -> "WarmUp":
        inner = self.schedule.bind(steps_per_epoch) if isinstance(self.schedule, Schedule) else self.schedule
        return with_fields(self, schedule=inner, steps_per_epoch=steps_per_epoch)


class PlateauState(NamedTuple):
    """The state of a plateau: what it scales the rate by, the lowest cost, and the epochs since, or until it looks again."""

    scale: Any
    lowest: Any
    waited: Any


@pytree
class Plateau(Schedule):
    """Another schedule, scaled down whenever the cost has not fallen for a while.

    After each epoch the cost on the validation data is looked at, or the epoch's mean cost where there are none; in `minimize` the
    cost of each step. Where it has not fallen below the lowest so far by more than `threshold` of that for `patience` epochs, the
    rate is multiplied by `factor` from there on, and the count begins anew. The rate is at least `least`.

    Args:
        schedule: the schedule to scale, a number, or any callable step -> rate.
        factor: in (0, 1).
        patience: epochs without a fall, >= 1.
        threshold: the relative fall that counts, >= 0.
        least: the lowest rate, >= 0.
        scale: what the rate is multiplied by; a run changes it.

    >>> import jax.numpy as jnp, jaxgd
    >>> cost = lambda x, batch: jnp.mean(jnp.abs(x - batch))
    >>> method = jaxgd.GradientDescent(jaxgd.schedules.Plateau(1.0, 0.5, patience=2))
    >>> run = jaxgd.fit(cost, 0.2, jnp.zeros(4), batch_size=4, n_epochs=8, method=method, history="learning_rate")
    >>> run.history.learning_rate.tolist()
    [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    """

    schedule: Any
    factor: Any = 0.1
    patience: Any = 10
    threshold: Any = 1e-4
    least: Any = 0.0
    scale: Any = 1.0

    def __post_init__(self) -> None:
        if not callable(self.schedule) or isinstance(self.schedule, type):
            self._check(schedule=self.schedule)
        elif not isinstance(self.schedule, Schedule):
            check.function("Plateau: schedule", self.schedule, ("step",), "a number, a schedule or a function step -> rate")
        check.fraction("Plateau: factor", self.factor, closed=False)
        check.positive("Plateau: factor", self.factor)
        check.integer("Plateau: patience", self.patience, 1)
        check.at_least_zero("Plateau: threshold", self.threshold)
        check.at_least_zero("Plateau: least", self.least)
        if any(isinstance(node, Plateau) for node in jax.tree.leaves(self.schedule, is_leaf=_is_plateau)):
            raise ValueError("Plateau: schedule: expected a number or another schedule, got one that holds a Plateau.")
        if not is_traced(self.least, self.schedule) and is_number(self.schedule) and self.least > self.schedule:
            raise ValueError(f"Plateau: least: expected at most the rate, {self.schedule}, got {self.least}.")

    def __call__(self, step: Any) -> jax.Array:
        schedule: Any = self.schedule
        inner = jnp.asarray(schedule(step) if callable(schedule) else schedule)
        return jnp.maximum(inner * jnp.asarray(self.scale).astype(inner.dtype), jnp.asarray(self.least).astype(inner.dtype))

    def bind(self, steps_per_epoch: int) -> "Plateau":
        inner = self.schedule.bind(steps_per_epoch) if isinstance(self.schedule, Schedule) else self.schedule
        return with_fields(self, schedule=inner)

    def after(self, state: PlateauState, cost: jax.Array) -> PlateauState:
        """Return the state after an epoch of this cost."""
        margin = jnp.asarray(self.threshold).astype(cost.dtype) * jnp.abs(state.lowest)
        fell = cost < state.lowest - jnp.where(jnp.isfinite(margin), margin, 0)
        waited = jnp.where(fell, 0, state.waited + 1)
        over = waited >= jnp.asarray(self.patience).astype(jnp.int32)
        factor = jnp.asarray(self.factor).astype(state.scale.dtype)
        return PlateauState(
            scale=jnp.where(over, state.scale * factor, state.scale),
            lowest=jnp.where(fell, cost, state.lowest),
            waited=jnp.where(over, 0, waited).astype(jnp.int32),
        )


def _is_plateau(node: Any) -> bool:
    return isinstance(node, Plateau)


def _plateaus(method: Any) -> list[Plateau]:
    """Return the plateaus in a method, in order."""
    return [node for node in jax.tree.leaves(method, is_leaf=_is_plateau) if _is_plateau(node)]


def plateau_states(method: Any, dtype: Any) -> tuple[PlateauState, ...]:
    """Return the states of the plateaus in a method before the first epoch."""
    fresh = PlateauState(jnp.ones((), dtype), jnp.full((), jnp.inf, dtype), jnp.zeros((), jnp.int32))
    return (fresh,) * len(_plateaus(method))


def with_plateaus(method: Any, states: tuple[PlateauState, ...]) -> Any:
    """Return a method with the scales of its plateaus as they are in some states."""
    scales = iter(states)
    return jax.tree.map(
        lambda node: with_fields(node, scale=next(scales).scale) if _is_plateau(node) else node, method, is_leaf=_is_plateau
    )


def after_epoch(method: Any, states: tuple[PlateauState, ...], cost: jax.Array) -> tuple[PlateauState, ...]:
    """Return the states of the plateaus in a method after an epoch of this cost."""
    return tuple(plateau.after(state, cost) for plateau, state in zip(_plateaus(method), states, strict=True))


def has_one_rate(value: Any) -> bool:
    """Return whether a schedule is known to have one rate for all variables."""
    if type(value) in (WarmUp, Plateau) and callable(value.schedule):
        return has_one_rate(value.schedule)
    of_numbers = type(value) in (InverseTime, Exponential, Cosine, WarmUp, Plateau)
    return type(value) is PiecewiseConstant or (of_numbers and all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(value)))
