"""contour(): where the profile of two parameters has risen by a given amount, as MNCONTOUR has it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgd import _problem, _text
from jaxgd._checks import check
from jaxgd._compile.program import program_for
from jaxgd._outcome import export
from jaxgd._products import matmul
from jaxgd._profiles import lines, names
from jaxgd._profiles.lanes import Line, follow
from jaxgd._profiles.search import IntervalStatus, Search, SearchState
from jaxgd._profiles.setting import Known, Options, Setting, check_arguments, setting
from jaxgd._shards import on_automatic_axes
from jaxgd._trees import is_traced, pytree, static

_RAYS = 16  # from the minimum, before gaps are filled
_TOGETHER = 32  # lines of one program
_SHORT = 1e-4  # of the extent of the contour: a gap that is none
_BACK = 4.0  # chords: how far behind the middle of one the contour is looked for
_ROUNDS = 20  # in which gaps are filled, at most
_STEPS = 200  # along the contour from one ray to the next, at most
_FOUND = IntervalStatus.CROSSED.code, IntervalStatus.AT_BOUND.code, IntervalStatus.NOT_FINITE.code


@pytree
class Contour:
    """The contour of two parameters, on which the lowest cost over all others has risen by a given amount.

    Attributes:
        values: the two parameters at points of the contour, in their order around it, (k, 2). The first is not repeated. Where the
            contour is open, or a point was not found, they are NaN.
        code: the numbers of the statuses of the points, (k,); `status` is for people.
        points: all parameters there, each array with a leading axis of length k.
        costs: their costs, (k,).
        params: the parameters at the minimum, with the structure that came in.
        cost: the cost there.
        centre: the two parameters there, (2,).
        axes: the ellipse on which the cost would have risen as much if it were a parabola: `centre + axes @ (cos, sin)`, (2, 2).
        rise: how far the cost rises.
        names: where the two are, such as "params['w'][2]".
        level: the joint probability that was asked for.

    It is a pytree, and it can be pickled.

    >>> import jaxgd
    >>> print(jaxgd.contour(lambda v: v[0] ** 2 + v[1] ** 2 / 2, [0.0, 0.0], level=0.5, n_points=20))
    Contour of params[0] and params[1] at 20 points: the cost rises by 0.693147 there (probability 0.5).
      params[0]  from -0.8326 to 0.8326
      params[1]  from -1.177 to 1.177
    """

    values: Any
    code: Any
    points: Any
    costs: Any
    params: Any
    cost: Any
    centre: Any
    axes: Any
    rise: Any
    names: tuple[str, str] = static()
    level: Any = None

    @property
    def status(self) -> Any:
        """How the search for each point went, (k,): an array of `IntervalStatus`."""
        return IntervalStatus.of(self.code)

    @property
    def valid(self) -> Any:
        """Whether every point was found where the cost rises by the given amount."""
        return (self.code == IntervalStatus.CROSSED.code).all()

    def __str__(self) -> str:
        return f"Contour(values={self.values}, ...)" if is_traced(self.code) or np.ndim(self.code) != 1 else _sheet(self).text()

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the table that a notebook shows."""
        return None if is_traced(self.code) or np.ndim(self.code) != 1 else _sheet(self).html()


@on_automatic_axes
def contour(
    cost: Callable[..., Any],
    result: Any,
    data: Any = None,
    parameters: Sequence[Any] | None = None,
    *,
    level: float = 0.68,
    n_points: int = 64,
    scale: float = 0.5,
    bounds: Any = None,
    fixed: Any = None,
    dtype: Any = None,
    has_aux: bool = False,
    jit: bool = True,
) -> Contour:
    """Return the contour of two parameters on which the lowest cost over all others has risen by a given amount.

        rise = -2 * scale * log(1 - level)

    This is the scale times the quantile of a chi-square of two degrees of freedom: for a parabola, and otherwise where data are
    many, the contour holds the true values of both parameters with the probability `level`.

    Args:
        cost: as in `intervals`.
        result: as in `intervals`.
        data: any pytree of arrays, or None.
        parameters: the two parameters, by their names or places as in `intervals`; None where two alone are free.
        level: the joint probability, in (0, 1). At 0.393 the contour touches the intervals of one standard deviation.
        n_points: how many points there are, >= 4.
        scale: as in `intervals`.
        bounds: as in `minimize`. Where the contour leaves the bounds it follows them.
        fixed: as in `minimize`: parameters that are held.
        dtype: "float64" or "float32" runs the call in that precision; None follows the inputs under JAX's rules.
        has_aux: whether the cost returns a pair (cost, aux).
        jit: False calls the cost as it is, so that Python control flow may look at values; it takes long.

    Returns:
        A `Contour`; `jaxgd.plot.contour` draws it.

    Raises:
        TypeError, ValueError: for a bad argument, before anything compiles; the message names it. A call inside `jax.jit` and the
            like is a TypeError.

    First the contour is looked for along rays from the minimum, evenly in the units of the ellipse. From each of these points
    steps lead along the contour to the next, all side by side: the profile's slope, which is that of the cost, tells its direction,
    so that a contour may bend as it likes. The search from the end of a step back to the contour is that of `intervals`. Where the
    contour follows a bound, points are looked for between two neighbours.

    F. James, MINUIT Reference Manual, CERN D506 (1994), whose contours go from point to point by chords alone.

    >>> import jaxgd
    >>> found = jaxgd.contour(lambda v: v[0] ** 2 + v[1] ** 2 / 2, [0.0, 0.0], level=0.5, dtype="float64")
    >>> bool(found.valid), float(abs(found.costs - 0.693147).max()) < 1e-5
    (True, True)
    """
    check_arguments(cost, data, scale, has_aux=has_aux, jit=jit)
    check.fraction("level", level, closed=False)
    check.positive("level", level)
    n_points = check.integer("n_points", n_points, 4)
    with _problem.precision(dtype) as to:
        options = Options(bounds, fixed, dtype, has_aux, jit)
        known = Known.of(result, options, to)
        pair = np.array(names.pair("parameters", parameters, known.names, known.free), np.int32)
        found, params = setting(cost, known, data, options, to)
        if is_traced(found):
            raise TypeError(
                "contour: expected numbers, got values that JAX is tracing: call it outside jax.jit, jax.vmap and the like."
            )
        rise = jnp.asarray(-2 * scale * np.log1p(-level), found.x.dtype)
        traced = _Tracing(found, pair, rise, jit=jit)
        made = _made(traced, traced.trace(n_points), params, level)
    return export(made)


class _Points(NamedTuple):
    """Points of a contour, in their order around it, on the host.

    Attributes:
        x: all free parameters, (k, n).
        cost: the costs, (k,).
        code: the numbers of the statuses, (k,).
        normal: the directions in which the profile rises, in the units of the ellipse, (k, 2).
        t: where on its line each was found, (k,).
    """

    x: np.ndarray
    cost: np.ndarray
    code: np.ndarray
    normal: np.ndarray
    t: np.ndarray

    def chosen(self, places: Any) -> "_Points":
        """Return some of the points."""
        return _Points(*(one[places] for one in self))

    def inserted(self, places: np.ndarray, others: "_Points") -> "_Points":
        """Return the points with one more after each of some places."""
        return _Points(*(np.insert(one, places + 1, other, axis=0) for one, other in zip(self, others, strict=True)))


class _Tracing:
    """A contour under way.

    Attributes:
        axes: the ellipse of the parabola, whose units all geometry is in.
        follow: how the other parameters follow along each axis, (n, 2).
        centre: the two parameters at the minimum.
        points: the points so far.
    """

    def __init__(self, found: Setting, pair: np.ndarray, rise: Any, *, jit: bool) -> None:
        self.found, self.pair, self.rise, self.jit = found, pair, rise, jit
        plan = found.curvature, pair, rise
        self.axes, self.follow = map(np.asarray, program_for(_ellipse, *plan)(*plan))
        self.centre = np.asarray(found.x)[pair]
        self.points: Any = None

    def trace(self, n_points: int) -> _Points:
        """Return points of the contour: along rays from the minimum, then step by step from each to the next."""
        angles = 2 * np.pi * np.arange(min(_RAYS, n_points)) / min(_RAYS, n_points)
        ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        origin = np.broadcast_to(np.asarray(self.found.x), (len(ways), self.found.x.size))
        self.points = self._crossings(origin, ways)
        self._march(2 * np.pi / n_points)
        self._fill(n_points)
        return self._thinned(n_points)

    def _at(self) -> np.ndarray:
        """Return the points in the units of the ellipse, (k, 2)."""
        return np.linalg.solve(self.axes, (self.points.x[:, self.pair] - self.centre).T).T

    def _march(self, length: float) -> None:
        """Step from each point along the contour until its neighbour is near, all neighbours side by side.

        A step goes along the tangent, and from there at right angles back to the contour. It is shortened where the contour bends.
        """
        steps = np.full(len(self.points.x), length)
        for _ in range(_STEPS):
            at, normal = self._at(), self.points.normal
            tangent = np.stack([-normal[:, 1], normal[:, 0]], axis=1)
            chords = np.roll(at, -1, axis=0) - at
            gaps = np.hypot(*chords.T)
            ahead = np.sum(tangent * chords, axis=1) > 0.7 * gaps
            ahead &= np.sum(tangent * np.roll(tangent, -1, axis=0), axis=1) > 0.5
            crossed = self.points.code == IntervalStatus.CROSSED.code
            wanted = crossed & np.roll(crossed, -1) & (steps > length / 64) & ~(ahead & (gaps <= 1.5 * np.maximum(steps, length)))
            places = np.flatnonzero(wanted)
            places = np.sort(places[np.argsort(-gaps[places], kind="stable")[:_TOGETHER]])
            if not places.size:
                break
            step = np.minimum(steps[places], np.maximum(0.6 * gaps[places], length / 4))
            moves = step[:, None] * tangent[places]
            follow = moves @ (self.follow + self._embedded(self.axes)).T
            found = self._crossings(self.points.x[places] + follow, normal[places], 2 * step)
            taken = (found.code == IntervalStatus.CROSSED.code) & (np.abs(found.t) <= step / 2)
            taken &= np.sum(found.normal * normal[places], axis=1) > 0.5
            straight = np.abs(found.t) <= step / 8
            steps[places] = np.where(taken, np.where(straight, np.minimum(1.5 * step, 8 * length), step), step / 2)
            self.points = self.points.inserted(places[taken], found.chosen(taken))
            steps = np.insert(steps, places[taken] + 1, steps[places[taken]])

    def _fill(self, n_points: int) -> None:
        """Find points between neighbours that are far from each other, until there are enough and none are far."""
        for _ in range(_ROUNDS):
            weights, missing = self._weights(), n_points - len(self.points.x)
            far = int(np.sum(weights > 2 * np.sum(weights) / n_points))
            most = min(_TOGETHER, max(far, min(missing, max(8, len(weights) // 2))))
            places = np.argsort(-weights, kind="stable")[:most]
            places = np.sort(places[weights[places] > 0])
            if not places.size:
                break
            x, at = self.points.x, self._at()
            following = (places + 1) % len(x)
            chords = at[following] - at[places]
            lengths = np.hypot(*chords.T)
            normals = np.stack([chords[:, 1], -chords[:, 0]], axis=1) / lengths[:, None]
            self.points = self.points.inserted(places, self._crossings((x[places] + x[following]) / 2, normals, _BACK * lengths))

    def _thinned(self, n_points: int) -> _Points:
        """Return points that lie evenly, denser where the contour bends, of those that there are."""
        count = len(self.points.x)
        if count <= n_points:
            return self.points
        way = np.concatenate([[0.0], np.cumsum(self._weights() + 1e-9)])
        wanted = way[-1] * np.arange(n_points) / n_points
        nearest = np.unique(np.searchsorted(way[:-1], wanted))
        left = np.setdiff1d(np.arange(count), nearest)[: n_points - len(nearest)]
        return self.points.chosen(np.sort(np.concatenate([nearest[nearest < count], left]))[:n_points])

    def _weights(self) -> np.ndarray:
        """Return how far each point is from the next, (k,), more where the contour bends.

        The unit is the extent of the contour.
        """
        at, sound = self.points.x[:, self.pair], self.sound
        extent = np.ptp(at[sound], axis=0) if np.any(sound) else np.ones(2)
        chords = (np.roll(at, -1, axis=0) - at) / np.where(extent > 0, extent, 1)
        lengths = np.hypot(*chords.T)
        angles = np.angle(chords @ [1, 1j])
        turns = np.abs(np.angle(np.exp(1j * (np.roll(angles, -1) - angles))))
        weights = lengths * (1 + turns + np.roll(turns, 1))
        return np.where(sound & np.roll(sound, -1) & (lengths > _SHORT), weights, 0)

    @property
    def sound(self) -> np.ndarray:
        """Whether each point is one of the contour, (k,)."""
        return np.isin(self.points.code, _FOUND)

    def _embedded(self, axes: np.ndarray) -> np.ndarray:
        """Return the axes among all free parameters, (n, 2)."""
        whole = np.zeros((self.found.x.size, 2))
        whole[self.pair] = axes
        return whole

    def _crossings(self, origin: np.ndarray, ways: np.ndarray, back: np.ndarray | None = None) -> _Points:
        """Return the crossings along some lines, whose ways are in the ellipse's units.

        The origins are the minimum, or near the contour, which is `back` behind them at most.
        """
        count, found, rays = len(origin), self.found, back is None
        missing = (_TOGETHER if count <= _TOGETHER else 1 << (count - 1).bit_length()) - count if self.jit else 0
        plan = [origin, ways, np.zeros(count) if back is None else back]
        plan = [np.concatenate([one, np.repeat(one[-1:], missing, axis=0)]).astype(found.x.dtype) for one in plan]
        rest = lines.others(found.x.size, np.broadcast_to(self.pair, (len(plan[0]), 2)))
        arguments: Any = found, self.pair, self.axes, self.follow, self.rise, rest, *plan, np.bool_(rays)
        last = (program_for(_found, *arguments) if self.jit else _found)(*arguments)
        x, cost, code, t, gradient = (np.asarray(one)[:count] for one in (last.x, last.cost, last.code, last.t, last.gradient))
        slopes = gradient[:, self.pair] @ self.axes
        sizes = np.hypot(*slopes.T)[:, None]
        return _Points(x, cost, code, np.divide(slopes, sizes, out=np.zeros_like(slopes), where=sizes > 0), t)


def _made(traced: _Tracing, points: _Points, params: Any, level: Any) -> Contour:
    """Return the result."""
    found, pair = traced.found, traced.pair
    sound = np.isin(points.code, _FOUND)
    code = points.code if found.sound else np.full_like(points.code, IntervalStatus.NOT_CONVERGED.code)
    return Contour(
        values=jnp.asarray(np.where(sound[:, None], points.x[:, pair], np.nan)),
        code=jnp.asarray(code),
        points=found.narrowed(found.complete(jnp.asarray(points.x))),
        costs=jnp.asarray(points.cost),
        params=params,
        cost=found.curvature.cost,
        centre=jnp.asarray(traced.centre),
        axes=jnp.asarray(traced.axes),
        rise=traced.rise,
        names=(found.names[found.free[pair[0]]], found.names[found.free[pair[1]]]),
        level=level,
    )


def _ellipse(curvature: Any, pair: Any, rise: Any) -> tuple[Any, Any]:
    return lines.pairs(curvature.covariance, curvature.errors * jnp.sqrt(2 * rise), 2 * rise, pair)


def _found(
    found: Setting, pair: Any, axes: Any, follow_: Any, rise: Any, rest: Any, origin: Any, ways: Any, back: Any, rays: Any
) -> SearchState:
    """Return the last states of the searches along some lines."""
    direction = jnp.zeros_like(origin).at[:, pair].set(matmul(ways, axes.T))
    some = lines.within(origin, direction, matmul(ways, follow_.T), found.low, found.high, inside=False)
    least = jnp.where(rays, 0, jnp.maximum(some.least, -back))
    some: Line = some._replace(places=rest, least=least, origin_is_inside=jnp.broadcast_to(rays, least.shape))
    return follow(found.lanes(some, Search(found.curvature.cost, rise)))


def _sheet(found: Contour) -> _text.Sheet:
    """Return what there is to say of a contour."""
    values, status = np.asarray(found.values), found.status
    one, other = found.names
    sentence = f"Contour of {one} and {other} at {_text.plural(len(values), 'point')}: "
    sentence += f"the cost rises by {float(found.rise):.6g} there (probability {float(found.level):g})."
    facts = []
    for name, column in zip(found.names, values.T, strict=True):
        sound = column[np.isfinite(column)]
        span = f"from {sound.min():.4g} to {sound.max():.4g}" if sound.size else "no point was found"
        facts.append((name, span))
    others = [kind for kind in IntervalStatus if kind is not IntervalStatus.CROSSED and np.any(status == kind)]
    notes = [f"{_text.plural(np.sum(status == kind), 'point')}: {kind}" for kind in others]
    return _text.Sheet(sentence, facts, [], notes)
