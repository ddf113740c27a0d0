"""A look at learning rates: the same run of `fit` with each of many."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem
from jaxgd._checks import check
from jaxgd._compile.program import Traced, program_for, trace
from jaxgd._fit import fit
from jaxgd._outcome import export
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_number, is_traced, pytree, with_fields
from jaxgd.methods.adapters import check_method
from jaxgd.methods.automatic import Candidates, half_decades, tuning_target
from jaxgd.methods.first_order import GradientDescent
from jaxgd.methods.rule import FirstOrderMethod
from jaxgd.result import Status
from jaxgd.schedules import AUTO

_NUMBERS = 50_000_000  # of parameters, and of data, that runs side by side look at


@pytree
class Sweep:
    """The ends of runs with different learning rates.

    Attributes:
        learning_rate: the rates, ascending if nothing else was asked for, (n,).
        cost: the costs over all rows at the ends of the runs, (n,); infinite for a run that diverged.

    >>> import numpy as np
    >>> Sweep(np.array([0.1, 1.0, 10.0]), np.array([2.0, 0.5, np.inf])).best
    1.0
    """

    learning_rate: Any
    cost: Any

    @property
    def best(self) -> float:
        """The learning rate with the lowest cost; NaN where all runs diverged."""
        if not np.any(np.isfinite(np.asarray(self.cost))):
            return float("nan")
        return float(str(np.asarray(self.learning_rate)[np.argmin(np.asarray(self.cost))]))


@on_automatic_axes
def learning_rate_sweep(
    cost: Callable[..., Any],
    start: Any,
    data: Any,
    *,
    batch_size: int,
    n_epochs: int,
    learning_rates: Any = None,
    method: Any = None,
    key: Any = None,
    shuffle: bool | str = True,
    bounds: Any = None,
    fixed: Any = None,
    dtype: Any = None,
) -> Sweep:
    """Run `fit` with each of many learning rates, side by side in one program.

    Args:
        cost: as in `fit`.
        start: as in `fit`.
        data: as in `fit`.
        batch_size: as in `fit`.
        n_epochs: as in `fit`.
        learning_rates: the rates to try, > 0, a vector; None are half decades, from 10**-7.5 to 10 for `GradientDescent` and from
            10**-4.5 to 10 for the other methods.
        method: a first-order method with a number or "auto" for its learning rate, which each rate takes the place of, or with a
            schedule whose first number is "auto", which takes its place (`InverseTime` begins at the rate). None is
            `GradientDescent("auto")`.
        key: as in `fit`; all runs see the rows in one order.
        shuffle: as in `fit`.
        bounds: as in `fit`.
        fixed: as in `fit`.
        dtype: as in `fit`.

    Returns:
        A `Sweep`: the rates and the costs over all rows at the ends. What diverged costs infinity.

    Raises:
        TypeError, ValueError: for a bad argument, as in `fit`.

    All runs go side by side, or as many as have 50 million parameters or look at as many numbers of data.

    >>> import jax.numpy as jnp, numpy as np, jaxgd
    >>> x = np.linspace(0, 1, 100)
    >>> cost = lambda slope, batch: jnp.mean((slope * batch - 3 * batch) ** 2)
    >>> sweep = jaxgd.learning_rate_sweep(cost, 0.0, x, batch_size=10, n_epochs=5, learning_rates=[0.01, 0.1, 1.0, 10.0], key=0)
    >>> sweep.best
    1.0
    >>> bool(sweep.cost[-1] > 1e3)
    True
    """
    rule = GradientDescent(AUTO) if method is None else method
    check_method(rule, all_rows=False)
    if isinstance(rule, FirstOrderMethod) and is_number(rule.learning_rate):
        rule = with_fields(rule, learning_rate=AUTO)
    place = tuning_target(rule, 1) if isinstance(rule, FirstOrderMethod) else None
    if place is None:
        expected = "a first-order method with a number or 'auto' for its learning rate, or 'auto' first in its schedule"
        raise TypeError(f"method: expected {expected}, got {check.show(method)}.")
    rates = half_decades(*type(rule).rates) if learning_rates is None else check.vector("learning_rates", learning_rates)
    check.positive("learning_rates", rates, several=True)
    if len(rates) == 0:
        raise ValueError("learning_rates: expected at least one number, got none.")
    with _problem.precision(dtype) as to:
        drawn = _problem.is_function(start)
        parameters, _ = _problem.within("start", _problem.start_point(start, key, to, fixed), bounds, drawn=drawn)
        table, _ = _problem.table("data", data, to)
        given = _problem.problem(cost, parameters, key, fixed, bounds, to, has_aux=False, jit=True)
        (table,) = given.settled(table)
        sizes = [max(1, sum(np.size(leaf) for leaf in jax.tree.leaves(tree))) for tree in (parameters, table)]

        def end(rate: jax.Array) -> jax.Array:
            chosen = place.place.put(place.rule, Candidates(rate, False))
            result = fit(
                cost,
                parameters,
                table,
                batch_size=batch_size,
                n_epochs=n_epochs,
                method=chosen,
                key=key,
                shuffle=shuffle,
                bounds=bounds,
                fixed=fixed,
                dtype=dtype,
            )
            return jnp.where((result.code == Status.DIVERGED.code) | ~jnp.isfinite(result.cost), jnp.inf, result.cost)

        together = max(1, min(len(rates), *(_NUMBERS // size for size in sizes)))
        own = jnp.result_type(float)
        rates = jnp.asarray(rates, own) if is_traced(rates) else jax.device_put(np.asarray(rates, own))
        ends = trace(lambda rates: jax.lax.map(end, rates, batch_size=together), rates)
        costs = program_for(Traced.__call__, ends, rates)(ends, rates)
    return export(Sweep(rates, costs))
