"""The result of a run: the point, how it ended, and what was recorded on the way."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxgd import _text
from jaxgd._checks.check import show
from jaxgd._marks import AT_BOUND, FLAT, UNMOVED, gain, marks, named
from jaxgd._trees import detached, is_traced, parameters_of, pytree, untracked, with_fields
from jaxgd.status import RUNNING, Sentences, Status, above

__all__ = ["RUNNING", "Best", "History", "Result", "Sentences", "Starts", "Status", "above"]


@pytree
class Best:
    """The best finite point seen.

    Attributes:
        params: its parameters, with the structure of the start.
        cost: its cost, a scalar; in `fit` over all rows, or on the validation data where there are any.

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: v**4, 1.0, method=jaxgd.GradientDescent(10.0))
    >>> result.status.name, float(result.best.params), float(result.best.cost)
    ('DIVERGED', 1.0, 1.0)
    """

    params: Any
    cost: Any


@pytree
class History:
    """The recorded quantities, the start included: row k is the state after k steps (`minimize`) or k epochs (`fit`).

    Attributes:
        cost: the cost, (n + 1,). In `fit` with several batches an epoch it is, for the start, the cost over all rows, and after an
            epoch the mean over its rows of the costs of their batches, each at the parameters before its update. (For a cost that
            is a sum over the rows of a batch that is about the share of a batch in the sum over all rows.)
        params: the parameters' pytree with a leading axis of length n + 1.
        gradient_norm: the Euclidean norm of the gradient over all rows, (n + 1,).
        learning_rate: the rate of the next update, (n + 1,).
        validation_cost: the cost on the validation data, (n + 1,).

    Quantities that were not asked for are None. Inside `jax.jit` or `jax.vmap`, where lengths are fixed, the rows after the end of
    a run are NaN.

    >>> import jaxgd
    >>> descent = jaxgd.GradientDescent(0.25)
    >>> history = jaxgd.minimize(lambda v: v**2, 1.0, method=descent, max_steps=3, stop=(), history="params").history
    >>> history.params.tolist(), history.cost.tolist()
    ([1.0, 0.5, 0.25, 0.125], [1.0, 0.25, 0.0625, 0.015625])
    """

    cost: Any = None
    params: Any = None
    gradient_norm: Any = None
    learning_rate: Any = None
    validation_cost: Any = None


@pytree
class Starts:
    """The ends of the runs from many starts: a row for each start, in the order in which they were drawn.

    Attributes:
        params: the parameters' pytree with a leading axis.
        cost: their costs, (n,); not finite for a run that came to nothing.
        code: the numbers of the statuses, (n,); `status` is an array of `Status`.
        n_evaluations: evaluations of the cost with its gradient, (n,).

    >>> import jaxgd
    >>> result = jaxgd.minimize(lambda v: v**4 - 5 * v**2 - 3 * v, jaxgd.normal(scale=2.0), key=0, n_starts=8)
    >>> sorted({round(float(end), 3) for end in result.starts.params}), round(float(result.params), 3)
    ([-1.402, 1.714], 1.714)
    """

    params: Any
    cost: Any
    code: Any
    n_evaluations: Any

    @property
    def status(self) -> Any:
        """How each run ended."""
        return Status.of(self.code)


@pytree
class Result:
    """The end of a run: `params`, `cost` and `gradient` belong to the same point.

    Attributes:
        params: the parameters, with the structure of the start.
        cost: their cost, a scalar; in `fit` over all rows. With a penalty it is that of cost and penalty together.
        gradient: the gradient of the cost there, a pytree like `params`. With a transform it is that with respect to the
            unconstrained numbers, in their shapes: it vanishes at a minimum, and where params are near the edge of their domain
            their own can't be had from it. `jax.grad(cost)(result.params)` is that. With a penalty P it is the element of least
            norm of gradient + subdifferential of P + normal cone of the bounds, which vanishes at a minimum: with `L1(w)` it is
            g + w * sign(x) where x is not 0, and g moved towards 0 by w where it is. For a penalty of your own it is
            (x - prox(x - t * g, t)) / t, with t the largest |x| over the largest |g|.
        best: `best.params` and `best.cost`, the point of lowest finite cost among those whose cost is known, the start and the
            returned point among them. In `fit` that is the cost on the validation data where there are any, else over all rows:
            known of every point if a batch is all rows, else of the start, the returned point, and the end of the epoch with the
            lowest mean minibatch cost.
        n_steps: updates applied.
        n_epochs: whole passes over the data; in `minimize` each step is one.
        n_evaluations: evaluations of the cost with its gradient that led to `params`, `cost` and `gradient`; in `fit` those of the
            batches, of a race's too, and of all rows at the end. What is found beside is not counted: the costs of validation data
            and of other points for `best`, and the gradients of a history.
        history: a `History`, or None if none was asked for.
        aux: what the cost returned beside its value (`has_aux=True`), at `params`.
        state: the state of the run, a pytree of arrays: with `saved` it is all that `resume=` needs to go on from here.
        code: the number of the status, for programs that trace the run; `status` is for people.
        starts: the `Starts`, where there were several.
        method: the method that a search for a learning rate chose, ready to be used without a search; `LBFGS()` where `minimize`
            took it by default because the cost has no second derivatives; None elsewhere.
        tried: what the search tried: `learning_rate`, whether steps were `relative`, and the `cost` reached in each round.
        start_cost: the cost of the start; in `fit` over all rows.
        cost_state: the state of a cost that has one, after the run; None elsewhere.
        constraints: the `Constraints` of `minimize`: their values, multipliers and violation, and which are active; None elsewhere.
        n_skipped: the steps that `fit` dropped since something was not finite; None where it was to stop there.
        in_parts: None where `cost`, `gradient` and `best.cost` are over all rows. Where they can't be, since the cost is neither a
            mean nor a sum over the rows and looking at all of them together takes too much memory, they are means over parts, and
            this is a dict of the numbers of parts, of the "data", the "validation" data, or both. Where they were measured on the
            way, as a `Stream` may ask for, it has the number of batches of the "last epoch", and the gradient is NaN.
        seconds: the time that the call took, with tracing and compiling; None in an outer `jax.jit` or `jax.vmap`. Two runs that
            are the same to the last bit differ in it, and so it is no leaf of the pytree, and is left behind by functions over it.
        cause: where a number that is not finite first appeared, in words, if that is in the data, the validation data or at the
            start: "data['x'], row 123, is NaN; ..."; None where nothing of the kind was found. No leaf of the pytree either.

        marks: what `at_bounds` and `unmoved` come from where the run was traced by an outer program; None elsewhere.
        gain: the same for `estimated_gain`.
        beside: what they come from elsewhere; no leaf of the pytree, as `seconds`.
        fitted: what `covariance` needs of the call: a function of the parameters. It is no leaf of the pytree, and is not pickled.
        saved: what `resume=` needs beside the state: the rows recorded, and by what the call is known again. It is pickled with the
            result, but no leaf of the pytree either.

    A result is a pytree, so `jax.vmap` and `jax.jit` can return one, and it can be pickled. Printed it says what matters:

    >>> import jaxgd
    >>> print(jaxgd.minimize(lambda v: (v["x"] - 3) ** 2, {"x": 0.0}))  # doctest: +ELLIPSIS
    Converged: the gradient is negligible at the scale of the problem and its precision.
      cost      0
      gradient  0 (largest component)
      after     ... steps, ... evaluations, ...
      params['x']  3
    """

    params: Any
    cost: Any
    gradient: Any
    best: Best
    n_steps: Any
    n_epochs: Any
    n_evaluations: Any
    code: Any
    history: History | None = None
    aux: Any = None
    state: Any = dataclasses.field(default=None, repr=False)
    starts: Any = dataclasses.field(default=None, repr=False)
    method: Any = None
    tried: Any = dataclasses.field(default=None, repr=False)
    start_cost: Any = None
    cost_state: Any = None
    constraints: Any = None
    n_skipped: Any = None
    in_parts: Any = None
    marks: Any = dataclasses.field(default=None, repr=False)
    gain: Any = dataclasses.field(default=None, repr=False)
    seconds: float | None = untracked(default=None)
    cause: str | None = untracked(default=None)
    beside: Any = untracked(default=None)
    saved: Any = untracked(default=None)
    fitted: Any = untracked(default=None)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: all but the cost and the data, which `fitted` holds."""
        return self.__dict__ | {"fitted": None}

    @property
    def status(self) -> Any:
        """How the run ended: a `Status`, or an array of them after `vmap`."""
        return Status.of(self.code)

    @property
    def converged(self) -> Any:
        """Whether a test of convergence ended the run: a bool, or an array of them after `vmap`."""
        status = self.status
        if isinstance(status, Status):
            return status.converged
        return np.array([one.converged for one in status.ravel()], dtype=bool).reshape(status.shape)

    @property
    def at_bounds(self) -> Any:
        """The names of the parameters that lie at a bound, such as "params['w'][2]": a tuple, or an array of them after `vmap`.

        An array of which all lie there is named as one. None where JAX has rebuilt the result since the run.

        >>> import jaxgd
        >>> jaxgd.minimize(lambda v: (v["a"] - 3) ** 2 + v["b"] ** 2, {"a": 0.5, "b": 0.5}, bounds=(0, 1)).at_bounds
        ("params['a']", "params['b']")
        """
        return self._marked(AT_BOUND)

    @property
    def unmoved(self) -> Any:
        """The names of the free parameters that still have their start, after at least one step.

        Those at a bound are not among them.

        >>> import jaxgd
        >>> jaxgd.minimize(lambda v: (v["a"] - 3) ** 2, {"a": 0.5, "b": 0.5}).unmoved
        ("params['b']",)
        """
        return self._marked(UNMOVED)

    @property
    def estimated_gain(self) -> Any:
        """How much lower the method expects the minimum to be than the cost: a scalar, NaN or None where it does not know."""
        return self.gain if self.beside is None else gain(self.beside, self.state)

    def covariance(self, **options: Any) -> Any:
        """Return the `Covariance` of the parameters: `jaxgd.covariance` of the cost, the data and the parameters of the call.

        The options are those of `jaxgd.covariance`, such as `scale` or `n_observations`. Bounds, fixed parameters, transforms and
        the precision are those of the run.

        >>> import jaxgd
        >>> result = jaxgd.minimize(lambda x: (x - 3) ** 2 / 8, 0.0)
        >>> float(result.covariance().standard_errors)
        2.0
        """
        if self.fitted is None:
            why = "it was pickled, made by a JAX program or by fit, or has a penalty"
            raise ValueError(f"covariance: the result does not know its cost, as {why}: call jaxgd.covariance(cost, params, data).")
        return self.fitted(self.params, **options)

    def _marked(self, mark: int) -> Any:
        found = self.marks
        if self.beside is not None:
            self = self._detached()
            found = marks(self.params, self.gradient, self.n_steps, self.beside)
        if found is None:
            return None
        shape = np.shape(self.code)
        names = np.empty(shape, dtype=object)
        for index in np.ndindex(shape):
            names[index] = tuple(named(jax.tree.map(lambda leaf, index=index: np.asarray(leaf)[index], found), mark))
        return names[()]

    def summary(self, covariance: Any = None) -> str:
        """Return what `str(result)` says; with the `Covariance` of the parameters, each of them with its standard error.

        >>> import jaxgd
        >>> result = jaxgd.minimize(lambda x: (x - 3) ** 2 / 8, 0.0)
        >>> print(result.summary(jaxgd.covariance(lambda x: (x - 3) ** 2 / 8, result.params)))  # doctest: +ELLIPSIS
        Converged: ...
          params    3.0 ± 2.0
        """
        return self._sheet(covariance).text()

    def _detached(self) -> "Result":
        """Return the result without the derivatives of an outer program."""
        fields = ("params", "cost", "gradient", "aux", "best")
        return with_fields(self, **{name: detached(getattr(self, name)) for name in fields})

    def __str__(self) -> str:
        return f"Result(params={self.params}, cost={self.cost}, ...)" if is_traced(self.code) else self.summary()

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the table that a notebook shows."""
        return None if is_traced(self.code) else self._sheet(None).html()

    def _sheet(self, covariance: Any) -> _text.Sheet:
        errors = getattr(covariance, "standard_errors", None)
        if covariance is not None and jax.tree.structure(errors) != jax.tree.structure(parameters_of(self.params)):
            raise TypeError(f"covariance: expected the Covariance of these parameters, got {show(covariance)}.")
        return (_several if np.ndim(self.code) else _one)(self._detached(), errors)


def _one(result: Result, errors: Any) -> _text.Sheet:
    """Return what there is to say of a run."""
    leaves = (np.asarray(leaf).astype(np.float64) for leaf in jax.tree.leaves(result.gradient))
    gradient = max((float(np.max(np.abs(leaf), initial=0.0)) for leaf in leaves), default=0.0)
    counts = [_text.plural(result.n_steps, "step"), _text.plural(result.n_evaluations, "evaluation")]
    if result.n_epochs != result.n_steps:
        counts.insert(0, _text.plural(result.n_epochs, "epoch"))
    if result.seconds is not None:
        counts.append(_text.duration(result.seconds))
    left = None if result.converged else result.estimated_gain
    facts = [] if result.cause is None else [("cause", result.cause)]
    facts += [("cost", _text.number(result.cost)), ("gradient", f"{gradient:.2g} (largest component)")]
    facts += [] if result.constraints is None else result.constraints.facts()
    facts.append(("after", ", ".join(counts)))
    if left is not None and 0 < float(left) < math.inf:
        facts.append(("left", f"about {float(left):.2g} of the cost, as the method expects"))
    flat = result._marked(FLAT) or ()
    facts += _about("at a bound", result.at_bounds)
    facts += _about("never moved", [name for name in result.unmoved or () if name not in flat])
    facts += _about("never moved", flat, ": no slope, perhaps the cost does not depend on them")
    passed = not result.converged and result.n_epochs == result.n_steps and bool(result.best.cost < result.cost)
    known = not result.status.nonfinite and result.start_cost is not None and result.constraints is None
    rose = known and bool(above(np.asarray(result.cost), np.asarray(result.start_cost)))
    if rose:
        facts.append(("start", f"{_text.number(result.start_cost)}: the end is above it"))
    if result.in_parts:
        parts = ", ".join(f"{count} of the {name}" for name, count in result.in_parts.items())
        facts.append(("in parts", f"{parts}: costs are means over these, not those of all rows"))
    if passed or rose or result.status is Status.PATIENCE or result.status.nonfinite:
        facts.append(("best cost", f"{_text.number(result.best.cost)} (result.best)"))
    if result.starts is not None:
        facts.append(("best of", _text.plural(np.shape(result.starts.cost)[0], "start")))
    if result.method is not None:
        why = ", since the cost has no second derivatives" if result.tried is None else ""
        facts.append(("method", _text.brief(result.method) + why))
    told = str(result.status)
    if result.constraints is not None and result.status is Status.CONVERGED:
        told = "Converged: the conditions of optimality hold, at the scale of the problem and its precision."
    return _text.Sheet(told, facts, _text.of_tree(result.params, errors))


def _about(what: str, names: Any, more: str = "") -> list[tuple[str, str]]:
    """Return a fact about some parameters, if there are any."""
    return [(what, _text.several(names) + more)] if names else []


def _several(result: Result, errors: Any) -> _text.Sheet:
    """Return what there is to say of many runs side by side."""
    codes, counts = np.unique(np.asarray(result.code), return_counts=True)
    ends = [f"{count} {Status.of(code).name}" for code, count in zip(codes, counts, strict=True)]
    facts = [(name, _text.array(getattr(result, field))) for name, field in (("cost", "cost"), ("steps", "n_steps"))]
    return _text.Sheet(
        f"{_text.plural(np.size(result.code), 'run')}: {', '.join(ends)}.", facts, _text.of_tree(result.params, errors)
    )
