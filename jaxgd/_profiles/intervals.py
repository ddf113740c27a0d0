"""intervals(): profile-likelihood intervals of all parameters, as MINOS has them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgd import _problem, _text
from jaxgd._checks import check
from jaxgd._compile.program import program_for
from jaxgd._outcome import export
from jaxgd._profiles import lines, names
from jaxgd._profiles.lanes import follow
from jaxgd._profiles.search import IntervalStatus, Search
from jaxgd._profiles.setting import Known, Options, Setting, check_arguments, setting
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_traced, parameters_of, pytree, static, unpack, with_parameters

_MOST = 20  # intervals that are shown


@pytree
class Intervals:
    """Intervals of parameters, at whose ends the lowest cost over all other parameters has risen by a given amount.

    Attributes:
        params: the parameters at the minimum, with the structure that came in.
        cost: the cost there.
        lower: the lower ends, a pytree like `params`: minus infinity where an interval is open, NaN where an end was not found.
        upper: the upper ends.
        rise: how far the cost rises at the ends.
        code: the numbers of the statuses of both ends, (n, 2), in the order of `names`; `status` is for people.
        points: all parameters at the ends, each array with leading axes (n, 2): the minimum over the others there.
        costs: the costs of these points, (n, 2). Where the status is NEW_MINIMUM, they are below that of the minimum.
        names: where each number is in the parameters, such as "params['w'][2]".
        sigma: the number of standard deviations that was asked for.

    It is a pytree, and it can be pickled.

    >>> import jax.numpy as jnp, jaxgd
    >>> print(jaxgd.intervals(lambda p: p["rate"] - 9 * jnp.log(p["rate"]), {"rate": 9.0}, dtype="float64"))
    The cost rises by 0.5 at all ends (1 standard deviation).
      params['rate']  9.0 -2.7 +3.3
    """

    params: Any
    cost: Any
    lower: Any
    upper: Any
    rise: Any
    code: Any
    points: Any
    costs: Any
    names: tuple[str, ...] = static()
    sigma: Any = None

    @property
    def status(self) -> Any:
        """How the search for each end went, (n, 2): an array of `IntervalStatus`."""
        return IntervalStatus.of(self.code)

    @property
    def valid(self) -> Any:
        """Whether every end was found where the cost rises by the given amount, or the parameter is held."""
        sound = (self.code == IntervalStatus.CROSSED.code) | (self.code == IntervalStatus.HELD.code)
        return sound.all(axis=(-2, -1))

    @property
    def lowest(self) -> Any:
        """The parameters of the lowest point found, where it is below the minimum (NEW_MINIMUM), to fit again from; else None."""
        fell = np.asarray(self.code) == IntervalStatus.NEW_MINIMUM.code
        if not np.any(fell):
            return None
        at = np.unravel_index(np.argmin(np.where(fell, self.costs, np.inf)), fell.shape)
        found = jax.tree.map(lambda leaf: leaf[at], self.points)
        return with_parameters(self.params, found)

    def __str__(self) -> str:
        if is_traced(self.code) or np.ndim(self.code) != 2:
            return f"Intervals(lower={self.lower}, upper={self.upper}, ...)"
        return _sheet(self).text()

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the table that a notebook shows."""
        return None if is_traced(self.code) or np.ndim(self.code) != 2 else _sheet(self).html()


@on_automatic_axes
def intervals(
    cost: Callable[..., Any],
    result: Any,
    data: Any = None,
    *,
    parameters: Sequence[Any] | None = None,
    sigma: float = 1.0,
    scale: float = 0.5,
    bounds: Any = None,
    fixed: Any = None,
    dtype: Any = None,
    has_aux: bool = False,
    jit: bool = True,
) -> Intervals:
    """Return profile-likelihood intervals of parameters, as MINOS finds them.

    The profile of a parameter is the lowest cost over all others, as a function of that one. Its interval reaches on either side to
    where the profile is above the minimum by

        rise = scale * sigma**2

    So no cost need be a parabola. Where it is one, the ends are `sigma` standard errors of `covariance` away.

    Args:
        cost: cost(params), or cost(params, data) where data are given, as in `minimize`.
        result: the `Result` of a fit, or the parameters at the minimum. They are where `minimize` starts once more, for the last
            digits.
        data: any pytree of arrays, or None.
        parameters: the parameters to look at, by their names, such as "w[2]" or "params['w'][2]", or their places among `names`;
            None for all that are free.
        sigma: the number of standard deviations, > 0.
        scale: the rise of the cost at one standard deviation, > 0, as in `covariance`: 0.5 for -log L, and 1 for -2 log L or a
            chi-square. It is what iminuit calls `errordef`.
        bounds: as in `minimize`. No point is outside, and an interval ends at a bound.
        fixed: as in `minimize`: parameters that are held.
        dtype: "float64" or "float32" runs the call in that precision; None follows the inputs under JAX's rules.
        has_aux: whether the cost returns a pair (cost, aux).
        jit: False calls the cost as it is, so that Python control flow may look at values; it takes long.

    Returns:
        `Intervals`, with the ends as pytrees like the parameters, a status for each end, and the points there. Ends that were not
        asked for are NaN, and their parameters HELD if they are fixed.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    All ends are looked for side by side in one compiled program: in each round the other parameters are fitted anew, from where the
    last rounds say that they go. The slope of a profile is that of the cost there, so that Newton's method for the root of the
    rise, which is straight where the cost is a parabola, needs three to five rounds to come within a millionth of a standard error.

    F. James, M. Roos, MINUIT, Comput. Phys. Commun. 10 (1975); D. J. Venzon, S. H. Moolgavkar, A method for computing
    profile-likelihood-based confidence intervals, Appl. Stat. 37 (1988), of which the nested form is taken, since it keeps to
    bounds and finds its way where the cost is far from a parabola.

    >>> import jax.numpy as jnp, jaxgd
    >>> found = jaxgd.intervals(lambda p: p["rate"] - 9 * jnp.log(p["rate"]), {"rate": 9.0}, dtype="float64")
    >>> bool(found.valid), round(float(found.lower["rate"]), 4), round(float(found.upper["rate"]), 4)
    (True, 6.3237, 12.3422)
    """
    check_arguments(cost, data, scale, has_aux=has_aux, jit=jit)
    check.positive("sigma", sigma)
    with _problem.precision(dtype) as to:
        options = Options(bounds, fixed, dtype, has_aux, jit)
        known = Known.of(result, options, to)
        chosen = _chosen(parameters, known)
        found, params = setting(cost, known, data, options, to)
        up = jnp.asarray(scale * sigma**2, found.x.dtype)
        rest = lines.others(found.x.size, np.repeat(chosen, 2)[:, None])
        plan = found, chosen, rest, up
        fields = (program_for(_ends, *plan) if jit else _ends)(*plan)
        points = found.narrowed(fields.pop("points"))
        result = Intervals(params, **fields, points=points, rise=up, names=found.names, sigma=sigma)
    return export(result)


def _chosen(parameters: Sequence[Any] | None, known: Known) -> np.ndarray:
    """Return the places, among the free ones, of the parameters to look at."""
    if parameters is None:
        return np.arange(len(known.free), dtype=np.int32)
    several = [parameters] if isinstance(parameters, str | int | np.integer) else list(parameters)
    places = [names.place(f"parameters[{k}]", one, known.names, known.free) for k, one in enumerate(several)]
    return np.array(places, np.int32)


def _ends(found: Setting, chosen: Any, rest: Any, up: Any) -> dict[str, Any]:
    """Return the fields of the result, from the searches down and up along each of the parameters chosen."""
    curvature, size = found.curvature, len(found.names)
    lengths = curvature.errors * jnp.sqrt(2 * up)
    rays = lines.axes(found.x, curvature.covariance, lengths, chosen, found.low, found.high)._replace(places=rest)
    last = follow(found.lanes(rays, Search(curvature.cost, up)))
    code = jnp.where(found.sound, last.code, IntervalStatus.NOT_CONVERGED.code).reshape(-1, 2)
    ends = jnp.take_along_axis(last.x, jnp.repeat(chosen, 2)[:, None], axis=1).reshape(-1, 2)
    lost = (code == IntervalStatus.NOT_CONVERGED.code) | (code == IntervalStatus.NEW_MINIMUM.code)
    infinite = jnp.asarray([-jnp.inf, jnp.inf], ends.dtype)
    ends = jnp.where(lost, jnp.nan, jnp.where(code == IntervalStatus.OPEN.code, infinite, ends))
    at = jnp.asarray(found.free)[chosen]

    def among_all(rows: Any, otherwise: Any) -> Any:
        rows = rows.reshape(-1, 2, *rows.shape[2:])
        return jnp.full((size, *rows.shape[1:]), otherwise, rows.dtype).at[at].set(rows)

    ends = among_all(ends, jnp.nan)
    points = among_all(last.x.reshape(-1, 2, found.x.size), jnp.nan)
    return {
        "cost": curvature.cost,
        "lower": unpack(ends[:, 0], found.everything),
        "upper": unpack(ends[:, 1], found.everything),
        "code": among_all(code, IntervalStatus.HELD.code),
        "costs": among_all(last.cost.reshape(-1, 2), jnp.nan),
        "points": found.complete(points),
    }


def _sheet(found: Intervals) -> _text.Sheet:
    """Return what there is to say of intervals."""
    trees = parameters_of(found.params), found.lower, found.upper
    values, lower, upper = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(float) for tree in trees)
    deviations = "1 standard deviation" if found.sigma == 1 else f"{found.sigma:g} standard deviations"
    amount = f"{float(found.rise):.6g}"
    wanted = ~np.isnan(found.costs).all(axis=1) | (found.code != IntervalStatus.HELD.code).any(axis=1)
    sentence = (
        f"The cost rises by {amount} at all ends ({deviations})."
        if found.valid
        else f"Some ends are not where the cost rises by {amount} ({deviations})."
    )
    rows, reasons = [], []
    for k in np.flatnonzero(wanted)[:_MOST]:
        text = _text.interval(values[k], lower[k], upper[k])
        rows.append(_text.Row(found.names[k], text))
        for side, one in zip(("lower", "upper"), found.status[k], strict=True):
            if one is not IntervalStatus.CROSSED:
                reasons.append(f"{found.names[k]}, {side} end: {one}")
    if wanted.sum() > _MOST:
        rows.append(_text.Row(f"... and {_text.plural(wanted.sum() - _MOST, 'more interval')}", ""))
    return _text.Sheet(sentence, [], rows, reasons)
