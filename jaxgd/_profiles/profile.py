"""profile(): the lowest cost over all other parameters, as a function of one of them."""

from collections.abc import Callable
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
from jaxgd._profiles.setting import Known, Options, Setting, check_arguments, setting
from jaxgd._profiles.walk import Walk
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_traced, pytree, static
from jaxgd.result import Status


@pytree
class Profile:
    """The profile of a parameter: the lowest cost over all others, at given values of it.

    Attributes:
        name: where the parameter is, such as "params['w'][2]".
        values: its values, (k,).
        costs: the lowest costs there, (k,).
        points: all parameters there, each array with a leading axis of length k.
        code: how the runs ended, (k,), as the numbers of `Status`; `status` is for people.
        params: the parameters at the minimum, with the structure that came in.
        cost: the cost there.
        value: the value of the parameter there.
        error: the distance at which the cost would have risen by `scale` if it were a parabola: the standard error.
        scale: the rise of the cost at one standard deviation.

    It is a pytree, and it can be pickled.

    >>> import jax.numpy as jnp, jaxgd
    >>> found = jaxgd.profile(lambda v: (v[0] - 1) ** 2 + (v[1] - v[0]) ** 2, [1.0, 1.0], parameter=1, values=[1.0, 3.0])
    >>> found.rise.round(4).tolist(), found.points.round(4).tolist()
    ([0.0, 2.0], [[1.0, 1.0], [2.0, 3.0]])
    """

    values: Any
    costs: Any
    points: Any
    code: Any
    params: Any
    cost: Any
    value: Any
    error: Any
    scale: Any
    name: str = static(default="params")

    @property
    def rise(self) -> Any:
        """How far the lowest costs are above the minimum, (k,)."""
        return self.costs - self.cost[..., None]

    @property
    def status(self) -> Any:
        """How the runs ended, (k,): an array of `Status`."""
        return Status.of(self.code)

    def __str__(self) -> str:
        if is_traced(self.code) or np.ndim(self.code) != 1:
            return f"Profile(values={self.values}, costs={self.costs}, ...)"
        return _sheet(self).text()

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the table that a notebook shows."""
        return None if is_traced(self.code) or np.ndim(self.code) != 1 else _sheet(self).html()


@on_automatic_axes
def profile(
    cost: Callable[..., Any],
    result: Any,
    data: Any = None,
    parameter: Any = None,
    *,
    values: Any = None,
    sigma: float = 3.0,
    n_points: int = 41,
    scale: float = 0.5,
    bounds: Any = None,
    fixed: Any = None,
    dtype: Any = None,
    has_aux: bool = False,
    jit: bool = True,
) -> Profile:
    """Return the profile of a parameter: the lowest cost over all others, at many values of it.

    Args:
        cost: as in `intervals`.
        result: as in `intervals`.
        data: any pytree of arrays, or None.
        parameter: the name of the parameter, such as "w[2]" or "params['w'][2]", or its place among `Covariance.names`; None where
            one alone is free.
        values: the values to look at, (k,), in any order; None for `n_points` evenly spaced ones about the minimum.
        sigma: how many standard errors these reach to either side, > 0, as far as the bounds allow.
        n_points: their number, >= 2.
        scale: as in `intervals`; it says what a standard error is.
        bounds: as in `minimize`.
        fixed: as in `minimize`: parameters that are held.
        dtype: "float64" or "float32" runs the call in that precision; None follows the inputs under JAX's rules.
        has_aux: whether the cost returns a pair (cost, aux).
        jit: False calls the cost as it is, so that Python control flow may look at values.

    Returns:
        A `Profile`; `jaxgd.plot.profile` draws it.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it.

    Two walks, up and down from the minimum, go from each value to the next. The others begin at the last conditional minimum,
    moved on as they moved before, so that a walk stays in the valley of the minimum as long as there is one.

    >>> import jax.numpy as jnp, jaxgd
    >>> found = jaxgd.profile(lambda p: p["rate"] - 4 * jnp.log(p["rate"]), {"rate": 4.0}, parameter="rate", sigma=1, n_points=3)
    >>> found.values.tolist(), [round(rise, 3) for rise in found.rise.tolist()]
    ([2.0, 4.0, 6.0], [0.773, 0.0, 0.378])
    """
    check_arguments(cost, data, scale, has_aux=has_aux, jit=jit)
    check.positive("sigma", sigma)
    n_points = check.integer("n_points", n_points, 2)
    values = None if values is None else check.vector("values", values)
    with _problem.precision(dtype) as to:
        options = Options(bounds, fixed, dtype, has_aux, jit)
        known = Known.of(result, options, to)
        chosen = np.int32(names.place("parameter", parameter, known.names, known.free))
        found, params = setting(cost, known, data, options, to)
        _check_values(values, found, chosen)
        share = np.linspace(0, 1, n_points) if values is None else None
        rest = lines.others(found.x.size, np.full((2, 1), chosen))
        plan = found, chosen, rest, share, values, *(jnp.asarray(one, found.x.dtype) for one in (sigma, scale))
        fields = (program_for(_walked, *plan) if jit else _walked)(*plan)
        points = found.narrowed(fields.pop("points"))
        name = found.names[found.free[int(chosen)]]
        made = Profile(**fields, points=points, params=params, cost=found.curvature.cost, scale=plan[-1], name=name)
    return export(made)


def _check_values(values: Any, found: Setting, chosen: Any) -> None:
    """Check that values to look at lie within the bounds."""
    if values is None or is_traced(values, found):
        return
    low, high = (-np.inf, np.inf) if found.low is None else (float(found.low[chosen]), float(found.high[chosen]))
    outside = values[~((values >= low) & (values <= high) & np.isfinite(values))]
    if outside.size or not values.size:
        got = check.show(float(outside[0])) if outside.size else "none"
        raise ValueError(f"values: expected finite numbers within the bounds, from {low:g} to {high:g}, got {got}.")


def _walked(found: Setting, chosen: Any, rest: Any, share: Any, values: Any, sigma: Any, scale: Any) -> dict[str, Any]:
    """Return the fields of the result, from a walk down and one up."""
    x, curvature = found.x, found.curvature
    value = x[chosen]
    error = curvature.errors[chosen] * jnp.sqrt(2 * scale)
    if values is None:
        ends = value - sigma * error, value + sigma * error
        if found.low is not None:
            ends = jnp.maximum(ends[0], found.low[chosen]), jnp.minimum(ends[1], found.high[chosen])
        values = ends[0] + share.astype(x.dtype) * (ends[1] - ends[0])
    values = values.astype(x.dtype)
    lengths = jnp.full_like(x, error)
    rays = lines.axes(x, curvature.covariance, lengths, chosen[None], found.low, found.high)
    away = (values - value) / error
    order = jnp.argsort(values)
    stops = jnp.stack([jnp.maximum(-away[order[::-1]], 0), jnp.maximum(away[order], 0)])
    last = follow(found.lanes(rays._replace(places=rest, stops=stops), Walk(curvature.cost)))
    back = jnp.argsort(order)
    down, up = (jax.tree.map(lambda table, k=k: table[k], (last.costs, last.points, last.codes)) for k in range(2))
    below = values < value

    def joined(one: Any, other: Any) -> Any:
        one, other = one[::-1][back], other[back]
        return jnp.where(below.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    costs, points, code = map(joined, down, up)
    ended = (code == Status.CONVERGED.code) | (code == Status.STALLED.code)
    return {
        "values": values,
        "costs": jnp.where(ended, costs, jnp.nan),
        "points": found.complete(points),
        "code": code,
        "value": value,
        "error": error,
    }


def _sheet(found: Profile) -> _text.Sheet:
    """Return what there is to say of a profile."""
    rise = np.asarray(found.rise)
    lost = int(np.sum(np.isnan(rise)))
    facts = [
        ("minimum", f"{_text.number(found.cost)} at {_text.number(found.value)}"),
        ("values", f"{_text.number(np.min(found.values))} to {_text.number(np.max(found.values))}"),
        ("rise", f"up to {float(np.nanmax(rise, initial=0.0)):.4g}"),
    ]
    if lost:
        facts.append(("not found", f"{_text.plural(lost, 'minimum')} over the other parameters: NaN"))
    return _text.Sheet(f"Profile of {found.name} at {_text.plural(rise.size, 'value')}.", facts, [])
