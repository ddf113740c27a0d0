"""bootstrap(): how fitted parameters scatter from sample to sample, by fitting many samples in one program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem, _text
from jaxgd._checks import check, check_trees
from jaxgd._compile.closures import fresh, unjitted
from jaxgd._compile.explained import explained
from jaxgd._many import minimize_many
from jaxgd._objective import extras
from jaxgd._outcome import export
from jaxgd._trees import is_traced, parameters_of, pytree
from jaxgd.result import Result, Status


@pytree
class Bootstrap:
    """The fits of many samples.

    Fits that did not converge are left out of all that is derived here.

    Attributes:
        params: the parameters of the fits, the structure that came in with a leading axis of length n.
        cost: their costs, (n,).
        code: how the fits ended, (n,), as the numbers of `Status`; `status` is for people.
        estimate: the parameters fitted to the data themselves.

    It is a pytree, and it can be pickled.

    >>> import jax.numpy as jnp, jaxgd, numpy as np
    >>> y = np.random.default_rng(0).normal(3.0, 2.0, size=100)
    >>> found = jaxgd.bootstrap(lambda mean, y: jnp.mean((mean - y) ** 2), y.mean(), y, n_samples=500, key=0)
    >>> bool(abs(found.standard_errors / (y.std() / 10) - 1) < 0.1)
    True
    """

    params: Any
    cost: Any
    code: Any
    estimate: Any

    @property
    def status(self) -> Any:
        """How the fits ended, (n,): an array of `Status`."""
        return Status.of(self.code)

    @property
    def used(self) -> Any:
        """Whether each fit counts: one that converged, or stalled at the precision of the run, (n,)."""
        ended = np.array([status.code for status in Status if status.converged or status is Status.STALLED])
        xp: Any = jnp if is_traced(self.code) else np
        return xp.any(xp.asarray(self.code)[..., None] == ended, axis=-1)

    @property
    def standard_errors(self) -> Any:
        """The standard deviations of the parameters over the fits, a pytree like the parameters."""
        return self._over_fits(lambda xp, values: xp.nanstd(values, axis=0, ddof=1))

    @property
    def matrix(self) -> Any:
        """The covariance of all numbers among the parameters over the fits, in the order of their leaves, (m, m)."""
        used = self.used
        xp: Any = jnp if is_traced(self.params, self.code) else np
        leaves = jax.tree.leaves(parameters_of(self.params))
        columns = xp.concatenate([xp.asarray(leaf).reshape(len(used), -1) for leaf in leaves], axis=1)
        count = xp.sum(used)
        away = xp.where(used[:, None], columns - xp.sum(xp.where(used[:, None], columns, 0), axis=0) / count, 0)
        return away.T @ away / (count - 1)

    @property
    def bias(self) -> Any:
        """The mean of the parameters over the fits minus the estimate, a pytree like the parameters."""
        means = self._over_fits(lambda xp, values: xp.nanmean(values, axis=0))
        return jax.tree.map(lambda mean, value: mean - value, means, parameters_of(self.estimate))

    def interval(self, level: float = 0.6827) -> tuple[Any, Any]:
        """Return the percentile interval of each parameter, between whose ends a fraction of the fits lies.

        Args:
            level: that fraction, in (0, 1): half of the rest is on either side.

        Returns:
            The lower and the upper ends, two pytrees like the parameters.

        Raises:
            ValueError: for a level outside (0, 1).

        >>> import jaxgd, numpy as np
        >>> fits = jaxgd.bootstrap(lambda m, y: ((m - y) ** 2).mean(), 0.0, np.arange(8.0), n_samples=100, key=0)
        >>> low, high = fits.interval(0.9)
        >>> bool(0 < low < 3.5 < high < 7)
        True
        """
        check.share("level", level)
        sides = [(1 - level) / 2, (1 + level) / 2]
        low, high = (self._over_fits(lambda xp, values, side=side: xp.nanquantile(values, side, axis=0)) for side in sides)
        return low, high

    def _over_fits(self, summary: Callable[[Any, Any], Any]) -> Any:
        """Return a summary of each parameter over the fits that count, whose others are NaN."""
        used = self.used

        def one(leaf: Any) -> Any:
            xp: Any = jnp if is_traced(leaf, self.code) else np
            values = xp.asarray(leaf)
            return summary(xp, xp.where(used.reshape(-1, *[1] * (values.ndim - 1)), values, xp.nan))

        return jax.tree.map(one, parameters_of(self.params))

    def __str__(self) -> str:
        return f"Bootstrap(params={self.params}, ...)" if is_traced(self.code) or np.ndim(self.code) != 1 else _sheet(self).text()

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the table that a notebook shows."""
        return None if is_traced(self.code) or np.ndim(self.code) != 1 else _sheet(self).html()


def bootstrap(
    cost: Callable[..., Any],
    result: Any,
    data: Any,
    *,
    key: Any,
    n_samples: int = 200,
    draw: Callable[[Any, Any], Any] | None = None,
    shared: Any = None,
    method: Any = None,
    bounds: Any = None,
    fixed: Any = None,
    transform: Any = None,
    stop: Any = None,
    max_steps: int | None = None,
    dtype: Any = None,
    has_aux: bool = False,
    progress: bool | str = False,
) -> Bootstrap:
    """Fit many samples of the data, and return the parameters of all fits: how they scatter is their uncertainty.

    Each sample has as many rows as the data, drawn from these with replacement, or is made by a model of them (`draw`). All fits
    run in one compiled program, as in `minimize_many`, and begin at the result.

    Args:
        cost: cost(params, data), as in `minimize`; with `shared` cost(params, data, shared).
        result: the `Result` of the fit, or the parameters that it found.
        data: any pytree of arrays of equal leading length, the rows.
        key: the random key of the samples: a key of `jax.random`, or an integer.
        n_samples: how many samples there are, >= 2.
        draw: a function params, key -> data, which makes a sample like the data from the parameters at the minimum: the parametric
            bootstrap. None draws rows.
        shared: any pytree of arrays that all samples have in common, or None.
        method: as in `minimize`.
        bounds: as in `minimize`.
        fixed: as in `minimize`.
        transform: as in `minimize`.
        stop: as in `minimize`.
        max_steps: as in `minimize`, for each fit.
        dtype: as in `minimize`.
        has_aux: whether the cost returns a pair (cost, aux).
        progress: whether to show a bar of the fits that have ended (needs tqdm).

    Returns:
        A `Bootstrap`, with the parameters of the fits, their statuses, standard errors and percentile intervals.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    A sample of rows is kept as their numbers, n_samples times the number of rows in all; the rows themselves are not copied.

    B. Efron, Bootstrap methods: another look at the jackknife, Ann. Statist. 7 (1979).

    >>> import jax, jax.numpy as jnp, jaxgd, numpy as np
    >>> x = np.linspace(0, 1, 50)
    >>> y = 2 * x + 0.1 * np.random.default_rng(0).normal(size=50)
    >>> def cost(slope, data):
    ...     return jnp.mean((slope * data[0] - data[1]) ** 2)
    >>> best = jaxgd.minimize(cost, 1.0, (x, y)).params
    >>> found = jaxgd.bootstrap(cost, best, (x, y), key=0)
    >>> low, high = found.interval(0.95)
    >>> bool(low < best < high)
    True
    >>> def noisy(slope, key):
    ...     return x, slope * x + 0.1 * jax.random.normal(key, x.shape)
    >>> jaxgd.bootstrap(cost, best, (x, y), key=0, draw=noisy, n_samples=100).params.shape
    (100,)
    """
    takes = extras.checked(cost, ("params", "data") if shared is None else ("params", "data", "shared"))
    for name in takes:
        if extras.needs(cost, name):
            raise ValueError(f"cost: expected none that needs a parameter {name}, which many fits do not have.")
    n_samples = check.integer("n_samples", n_samples, 2, 2**31 - 2)
    key = check.random_key(key)
    if key is None:
        check.missing_key("a bootstrap")
    if draw is not None:
        check.function("draw", draw, ("params", "key"), "a function params, key -> data")
    options: dict[str, Any] = {"method": method, "bounds": bounds, "fixed": fixed, "transform": transform, "stop": stop}
    options |= {"max_steps": max_steps, "has_aux": has_aux, "progress": progress}
    with _problem.precision(dtype) as to:
        at = result.params if isinstance(result, Result) else result
        estimate = _problem.parameters("result", at, to, fixed)
        arrays = check_trees.data_arrays("data", data, to)
        n_rows = check_trees.rows("data", arrays)
        keys = jax.random.key(key) if isinstance(key, int) else key
        rest = () if shared is None else (check_trees.data_arrays("shared", shared, to),)
        if draw is None:
            rows = jax.random.randint(keys, (n_samples, n_rows), 0, n_rows, jnp.int32)
            function, samples, rest = functools.partial(_of_rows, cost), rows, (arrays, *rest)
        else:
            samples = _drawn(draw, estimate, jax.random.split(keys, n_samples), to)
            check_trees.resembling("draw", jax.tree.map(lambda leaf: leaf[0], samples), arrays)
            function = functools.partial(_of_samples, cost)
        start = _of_each(estimate, n_samples)
        fits = minimize_many(function, start, samples, shared=rest or None, dtype=dtype, **options)
    return export(Bootstrap(fits.params, fits.cost, fits.code, estimate))


def _of_rows(cost: Any, params: Any, rows: Any, tables: Any) -> Any:
    """Return the cost of some rows of the data."""
    data, *rest = tables
    return unjitted(cost)(params, jax.tree.map(lambda leaf: leaf[rows], data), *rest)


def _of_samples(cost: Any, params: Any, data: Any, tables: Any = ()) -> Any:
    """Return the cost of a sample."""
    return unjitted(cost)(params, data, *tables)


def _drawn(draw: Any, estimate: Any, keys: Any, to: Any) -> Any:
    """Return the samples that a model makes, with a leading axis."""
    with explained("draw", eager=True), fresh(draw):
        samples = jax.vmap(lambda key: jax.tree.map(jnp.asarray, draw(estimate, key)))(keys)
    return check_trees.data_arrays("draw", samples, to)


def _of_each(estimate: Any, count: int) -> Any:
    """Return the same start for all fits: with a row for each where it could be taken for one that has them."""
    arrays = [leaf for leaf in jax.tree.leaves(parameters_of(estimate))]
    if any(leaf.ndim == 0 or leaf.shape[0] != count for leaf in arrays):
        return estimate

    def tiled(leaf: Any) -> Any:
        return jnp.broadcast_to(leaf, (count, *leaf.shape)) if isinstance(leaf, jax.Array | np.ndarray) else leaf

    return jax.tree.map(tiled, estimate)


def _sheet(found: Bootstrap) -> _text.Sheet:
    """Return what there is to say of many samples."""
    count, used = np.size(found.code), int(np.sum(found.used))
    codes, counts = np.unique(np.asarray(found.code), return_counts=True)
    ends = ", ".join(f"{number} {Status.of(code).name}" for code, number in zip(codes, counts, strict=True))
    errors = found.standard_errors if used > 1 else jax.tree.map(lambda leaf: np.full(leaf.shape[1:], np.nan), found.params)
    rows = _text.of_tree(found.estimate, errors)
    return _text.Sheet(f"Bootstrap of {_text.plural(count, 'sample')}: {ends}.", [], rows)
