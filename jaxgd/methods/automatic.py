"""The target of a search for a learning rate: which number of which rule, and the candidates for it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jaxgd._trees import pytree, static, with_fields
from jaxgd.methods.first_order import Adam
from jaxgd.methods.rule import FirstOrderMethod
from jaxgd.schedules import AUTO, Cosine, InverseTime, Plateau, Schedule, WarmUp

LONG = 2000  # updates, below which there are fewer candidates, for a larger share of the run each
_ABSOLUTE = 1.0  # the decimal exponent of the fastest candidate
_RELATIVE = 0.0, -0.5  # the same, of those with relative steps, below and above
_GROWTH = 1000  # updates: the longer a run, the less growth in each is too much for all of them
_FEWER = 500  # updates, below which the candidates of a single kind are whole decades apart
_NONE = 24  # updates, below which nothing is sought
_WITHOUT = 0.01  # the rate then


@pytree
class Automatic:
    """Adam without tuning, the default of `fit`, which finds the learning rate by a race before the run.

        x <- x - r * c(t) * d * M / (sqrt(V) + epsilon),  c(t) = (1 + cos(pi * t / T)) / 2,  d = 1 or max(|x|, 0.01)

    M and V are Adam's corrected moments with beta1 = 0.9 and beta2 = 0.99, and T is the number of updates planned. The candidates
    are rates r a decade apart: six from 10 down with absolute steps (d = 1) and four from 10**-0.5 down with relative ones. Below
    2000 updates they are five and three, and below 1000 the relative ones begin at 1. All of them begin where the run does, on the
    same batches, and decay within the updates that they get:

        round 1: all, T / 70 updates each, or below 2000 updates T / 20
        round 2: the best of either kind, T / 10 updates each, or below 2000 updates T / 4

    The cost on 256 rows, evenly spread, decides, or on up to 1024 where the run sees 64 times as many; what is not finite loses.
    The winner's rate makes the run, from the start. Should the run end well above its start, or above what a candidate reached in a
    part of its time, or not finite, it is made again, each time at a rate lower by half a decade, until that helps no more, up to
    four times (not inside an outer `jax.jit`), and the best of these runs is returned.

    The race costs a third as many gradients as the run, and below 2000 updates nine tenths as many: the fewer the updates, the less
    a small part of them tells of them all. Above 100 000 it grows no more, and below 24 there is none, and r = 0.01. Beside the
    run's own it holds the states of two candidates, or of one where two have more than 50 million parameters. It depends on nothing
    but the cost, the data, the start and the key. `result.method` is what was chosen, ready to be used without a
    race, and `result.tried` what the candidates achieved.

    An "auto" in another rule is sought among rates half a decade apart, or whole decades below 500 updates, in three rounds: all,
    the best with its neighbours, six together, and the two best.

    Trust it where one rate for all will do, as Adam with the best rate of a grid and a decay will: on regressions, networks,
    factorisations, parameters of mixed scales. Name a method where you know your rate, where the gradients of a race are dear, or
    where the noise of small batches is what you want of them; and where all rows fit into memory and the parameters are few,
    `minimize` is faster and exact.

    K. Jamieson, A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016, for races in
    rounds, here each with a decay of its own; N. Shazeer, M. Stern, Adafactor: adaptive learning rates with sublinear memory cost,
    ICML 2018, for relative steps, here of each number and not of each array; D. P. Kingma, J. Ba, Adam, ICLR 2015.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.linspace(0, 1, 200)
    >>> cost = lambda line, batch: jnp.mean((line[0] + line[1] * batch[0] - batch[1]) ** 2)
    >>> result = jaxgd.fit(cost, [0.0, 0.0], (x, 4 + 3 * x), batch_size=20, n_epochs=200, key=0, method=jaxgd.Automatic())
    >>> bool(result.cost < 1e-6)
    True
    """

    def rule(self, n_steps: int) -> FirstOrderMethod:
        """Return the rule whose numbers are sought."""
        return Adam(Cosine(AUTO, n_steps), beta2=0.99)


class Candidates(NamedTuple):
    """The candidates: the learning rates, and whether the steps are relative, 0 or 1; two vectors."""

    learning_rate: Any
    relative: Any


@pytree
class FieldPath:
    """The place in a rule of the numbers that are sought.

    `path` are the names of the fields that lead to that of the learning rate, which is `factor` times the rate that is tried;
    `relative` says that it is also sought whether steps are relative.
    """

    factor: Any
    path: tuple[str, ...] = static()
    relative: bool = static()

    def put(self, rule: Any, candidate: Any) -> Any:
        """Return the rule with a candidate's numbers in the places of those sought."""
        rule = _put(rule, self.path, candidate.learning_rate * self.factor)
        return with_fields(rule, relative=candidate.relative) if self.relative else rule


class TuningTarget(NamedTuple):
    """A rule with some numbers in the places of those sought, and these places."""

    rule: FirstOrderMethod
    place: FieldPath


def is_sought(method: Any) -> bool:
    """Return whether a method leaves something to a search."""
    return isinstance(method, Automatic) or (isinstance(method, FirstOrderMethod) and _path(method.learning_rate, ()) is not None)


def tuning_target(method: Any, n_steps: int) -> TuningTarget | None:
    """Return what a method leaves to a search in a run of `n_steps` updates.

    Only `Automatic` and rules with "auto" in their rate leave anything.
    """
    if not is_sought(method):
        return None
    relative = isinstance(method, Automatic)
    rule = method.rule(n_steps) if relative else method
    path = _path(rule.learning_rate, ("learning_rate",)) or ()
    rule = _put(rule, path, 1.0)
    return TuningTarget(
        with_fields(rule, relative=1.0) if relative else rule, FieldPath(_factor(rule.learning_rate), path, relative)
    )


def candidates(found: TuningTarget, n_steps: int) -> Candidates:
    """Return what to try in a run of `n_steps` updates, the fastest of either kind first.

    It wins where rounding hides all differences.
    """
    if n_steps < _NONE:
        return Candidates(np.array([_WITHOUT]), np.zeros(1))
    if found.place.relative:
        fastest, counts = (_ABSOLUTE, _RELATIVE[n_steps >= _GROWTH]), ((6, 4) if n_steps >= LONG else (5, 3))
        rates = [10.0 ** (exponent - np.arange(count)) for exponent, count in zip(fastest, counts, strict=True)]
    else:
        rates = [half_decades(*type(found.rule).rates)[:: -2 if n_steps < _FEWER else -1]]
    return Candidates(np.concatenate(rates), np.repeat([0.0, 1.0][: len(rates)], [len(kind) for kind in rates]))


def half_decades(low: float, high: float) -> np.ndarray:
    """Numbers from 10**low to 10**high, half a decade apart."""
    return 10.0 ** np.arange(low, high + 0.25, 0.5)


def _factor(schedule: Any) -> Any:
    """Return the first number of a schedule whose first rate is one. It is the rate itself, but for `InverseTime`."""
    if isinstance(schedule, WarmUp | Plateau):
        return _factor(schedule.schedule)
    return schedule.t1 if isinstance(schedule, InverseTime) else 1.0


def _path(value: Any, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the names of the fields that lead to "auto": a learning rate itself, or the first number of a schedule."""
    if isinstance(value, str) and value == AUTO:
        return path
    fields = dataclasses.fields(value) if isinstance(value, Schedule) and dataclasses.is_dataclass(value) else ()
    return _path(getattr(value, fields[0].name), (*path, fields[0].name)) if fields else None


def _put(node: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return a copy of nested objects with the field that a path leads to changed."""
    if not path:
        return value
    return with_fields(node, **{path[0]: _put(getattr(node, path[0]), path[1:], value)})
