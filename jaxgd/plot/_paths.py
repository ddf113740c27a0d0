"""Pictures of the paths of runs over their cost, of one or two parameters."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxgd import _check_trees, _checks, _problem
from jaxgd._minimize import minimize
from jaxgd._trees import number_names, parameters_of
from jaxgd.methods.first_order import GradientDescent
from jaxgd.plot import _numbers, _style
from jaxgd.plot._ground import Costs, Ground
from jaxgd.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ARROWS = 30  # steps up to which each is an arrow
_HEADS = 16  # arrowheads on a longer path
_ABOVE = 4.0  # times as high above the lowest as its start is where a path ends that does not stay
_HEAD = 1e-3  # of the step is drawn behind a head
_TANGLED = 30.0  # widths of the picture, above which the line of a path is faint
_FAR = 5.0  # widths of the picture, where a path that leaves it is cut


class Walk(NamedTuple):
    """What a path is drawn from: its points (n, k), the best of them, their costs, and the names of the parameters."""

    points: np.ndarray
    best: np.ndarray
    costs: np.ndarray
    left: bool  # for infinity
    diverged: bool  # and said so
    names: tuple[str, ...]


def path(
    result: Result,
    cost: Callable[..., Any],
    data: Any = None,
    *,
    ax: "Axes | None" = None,
    minimum: Any = None,
    arrows: int | None = None,
) -> "Axes":
    """The path of a run over the cost of its one or two parameters.

    Two parameters: the path with arrows over filled contours, dark where the cost is low; the levels are those of the cost, or
    of the logarithm of what it is above the lowest, where a narrow valley would not be seen otherwise. One parameter: the curve of
    the cost with the points on it. Up to 30 steps are an arrow each, from point to point; a longer path is a line with arrowheads
    at even distances. The minimum is in the picture however far it is. A path that leaves for infinity leaves the frame.

    Args:
        result: the `Result` of a run with `history="params"`, of two numbers or of one.
        cost: its cost, cost(params), or cost(params, data).
        data: its data, or None.
        ax: the Axes to draw into; None makes a figure, with a bar that explains the levels.
        minimum: the point to mark, a pytree like the parameters; None finds it by `jaxgd.minimize` from the best point of the
            run, and marks it if that converges (bounds are not known here); False marks none.
        arrows: how many arrows at most, >= 0; None is 30 for steps, or 16 heads on a longer path.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.
        ImportError: without matplotlib.

    >>> import jax.numpy as jnp, jaxgd
    >>> def bowl(v):
    ...     return v["slope"] ** 2 + 5 * v["offset"] ** 2
    >>> descent = jaxgd.GradientDescent(0.08, momentum=0.5)
    >>> result = jaxgd.minimize(bowl, {"slope": 2.0, "offset": 1.0}, method=descent, max_steps=15, stop=(), history="params")
    >>> ax = jaxgd.plot.path(result, bowl)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('offset', 'slope')
    """
    _style.needed()
    walk = walked(result)
    if arrows is not None:
        arrows = _checks.whole("arrows", arrows, 0)
    given = known_minimum(minimum, result.params)
    ground, found = grounded(Costs(cost, data, result), [walk], minimum, given)
    own = ax is None
    ax = _style.axes(ax)
    ground.draw(ax, walk.names)
    draw(ax, ground, walk, found, arrows)
    ground.frame(ax, walk.points)
    if own:
        ground.explain(ax)
    ax.legend(loc="best", framealpha=0.85, fontsize="small")
    return ax


def walked(result: Any) -> Walk:
    """The path of a run, checked."""
    result = _numbers.one_run(result, 'a Result with history="params"')
    if result.history is None or result.history.params is None:
        raise _numbers.no_history("result", "params")
    named = one_or_two("result", result.params)
    points, costs = _numbers.rows(result.history.params), _numbers.float64(result.history.cost)
    sound = np.all(np.isfinite(points), axis=1) & np.isfinite(costs)
    if not np.any(sound):
        raise ValueError("result: expected a run with a finite start, got none.")
    diverged, left = result.status.nonfinite, _numbers.blown_up(costs, result.code)
    return Walk(points[sound], _numbers.flat(result.best.params), costs[sound], left, diverged, named)


def one_or_two(name: str, params: Any) -> tuple[str, ...]:
    """Check that there are one or two numbers in the parameters, and return their names."""
    named = number_names(parameters_of(params))
    if len(named) not in (1, 2):
        raise ValueError(f"{name}: expected one or two parameters to draw the path of, got {len(named)}.")
    return tuple(map(_style.pretty, named))


def known_minimum(minimum: Any, params: Any) -> np.ndarray | None:
    """The minimum that was given, checked."""
    if minimum is None or minimum is False:
        return None
    _numbers.concrete("minimum", minimum)
    with _problem.precision("float64") as to:
        point = _check_trees.parameters("minimum", minimum, to)
    trees = parameters_of(point), parameters_of(params)
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in trees]
    if jax.tree.structure(trees[0]) != jax.tree.structure(trees[1]) or shapes[0] != shapes[1]:
        raise ValueError(f"minimum: expected None, False or a pytree like the parameters, got {_checks.show(minimum)}.")
    return _numbers.flat(point)


def grounded(costs: Costs, walks: list[Walk], minimum: Any, given: np.ndarray | None) -> tuple[Ground, np.ndarray | None]:
    """The ground of some paths, and the minimum to mark: the one that was given, or else the one that is found."""
    found = costs.minimum() if minimum is None else given
    return Ground(costs, *limits(walks, found)), found


def limits(walks: list[Walk], minimum: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The limits of a picture of some paths: those of the paths that stay and, of several, end not far above their start."""
    lowest = min(float(walk.costs.min()) for walk in walks)
    staying = [walk for walk in walks if not walk.left]
    staying = [walk for walk in staying if walk.costs[-1] - lowest <= _ABOVE * (walk.costs[0] - lowest)] or staying
    anchors = [walk.points[0] for walk in staying or walks] + ([] if minimum is None else [minimum])
    anchors += [] if staying else [walk.best for walk in walks]
    points = np.concatenate([walk.points for walk in staying or walks])
    return _numbers.window(points, np.array(anchors), cut=not staying)


def draw(ax: "Axes", ground: Ground, walk: Walk, minimum: np.ndarray | None, arrows: int | None = None) -> None:
    """Draw a path over its ground, with its start, its end and the minimum."""
    points = _near(walk.points, ground.low, ground.high) if walk.left else walk.points
    kept = _numbers.trail(points, ground.low, ground.high)
    places = ground.places(points[kept])
    steps, flat_ground = len(points) - 1, len(ground.low) == 2
    most = (_ARROWS if steps <= _ARROWS else _HEADS) if arrows is None else arrows
    each = steps <= most and len(kept) == len(points)
    color = "black" if flat_ground else _style.ink(ax)
    if not flat_ground:
        ax.plot(*places.T, linestyle="", marker="o", markersize=4, color=color, zorder=3, gid="path", rasterized=len(kept) > 2000)
    elif not each:
        length = np.sum(_lengths(places, ground.low, ground.high))
        style: dict[str, Any] = {"linewidth": 0.9} if length < _TANGLED else {"linewidth": 0.5, "alpha": 0.4}
        ax.plot(*places.T, color=color, zorder=3, gid="path", rasterized=len(kept) > 2000, **style)
    if each:
        _arrows(ax, places[:-1], places[1:], color)
    elif flat_ground:
        tips = _evenly(places, ground.low, ground.high, most)
        steps_there = points[kept[tips]] - points[kept[tips] - 1]
        _arrows(ax, places[tips] - _HEAD * steps_there, places[tips], color, heads=True)
    paper: Any = "white" if flat_ground else ax.get_facecolor()
    style = {"color": color, "markeredgecolor": color, "markeredgewidth": 0.9, "linestyle": ""}
    if minimum is not None:
        place = ground.places(minimum[None])
        ax.plot(*place.T, marker="*", markersize=14, markerfacecolor=_style.ORANGE, zorder=5, label="minimum", **style)
    ax.plot(*places[:1].T, marker="o", markersize=7, markerfacecolor=paper, zorder=6, label="start", **style)
    if walk.left:
        ax.plot([], [], color=color, linewidth=0.9, label="diverged" if walk.diverged else "leaves the picture")
    else:
        ax.plot(*places[-1:].T, marker="s", markersize=5, markerfacecolor=_style.VERMILLION, zorder=7, label="end", **style)


def _arrows(ax: "Axes", tails: np.ndarray, tips: np.ndarray, color: Any, *, heads: bool = False) -> None:
    """Arrows from point to point, smaller ones where they are shorter than their heads; or the heads alone, all of one size."""
    if not len(tips):
        return
    width = 0.0007 if heads else 0.014  # inches; sizes of a head are in units of it
    lengths: dict[str, Any] = {
        "headwidth": 0.09 / width,
        "headlength": 0.11 / width,
        "headaxislength": (0.11 if heads else 0.09) / width,
    }
    style: dict[str, Any] = {"units": "inches", "width": width, "minshaft": 0 if heads else 1, "minlength": 0 if heads else 1}
    ax.quiver(*tails.T, *(tips - tails).T, angles="xy", scale_units="xy", scale=1, color=color, zorder=4, **style, **lengths)


def _evenly(places: np.ndarray, low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """The places on a path, never the first, that are at even distances along it, as it is seen."""
    length = np.cumsum(_lengths(places, low, high))
    wanted = (np.arange(count) + 0.5) / max(count, 1) * length[-1]
    return np.unique(1 + np.minimum(np.searchsorted(length, wanted), len(length) - 1))


def _lengths(places: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The lengths of the steps of a path, as shares of the picture."""
    return np.linalg.norm(np.diff((places - low) / (high - low), axis=0), axis=1)


def _near(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The points of a path up to the first that is far outside the picture, which is pulled near along its step."""
    seen = (points - low) / (high - low) - 0.5
    far = np.flatnonzero(np.any(abs(seen) > _FAR, axis=1))
    if not far.size or far[0] == 0:
        return points
    first = far[0]
    share = _FAR / np.max(abs(seen[first]))
    pulled = points[first - 1] + share * (points[first] - points[first - 1])
    return np.concatenate([points[:first], pulled[None]])


def paths_grid(
    cost: Callable[..., Any],
    start: Any,
    data: Any = None,
    *,
    learning_rates: Any,
    momenta: Any,
    max_steps: int,
    ax: Any = None,
    minimum: Any = None,
    jit: bool = True,
) -> np.ndarray:
    """The paths of `GradientDescent` for each pair of a learning rate and a momentum, as `path` draws them, with equal limits.

    The limits are those of the paths that stay; a path that leaves for infinity leaves its frame.

    Args:
        cost: cost(params), or cost(params, data) where data are given, of one or two parameters.
        start: where to begin, as in `minimize`.
        data: any pytree of arrays, or None.
        learning_rates: the rates, one for each column, > 0.
        momenta: the momenta, one for each row, in [0, 1].
        max_steps: the steps of each run, >= 1; all of them are run.
        ax: an array of Axes of shape (momenta, learning rates) to draw into; None makes a figure, with a legend and a bar that
            explains the levels.
        minimum: as in `path`; None finds it from the best point of all runs.
        jit: False for a cost that can't be traced, as in `minimize`.

    Returns:
        The Axes, an array of shape (momenta, learning rates).

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.
        ImportError: without matplotlib.

    >>> import jax.numpy as jnp, jaxgd
    >>> def bowl(v):
    ...     return jnp.sum(v**2)
    >>> axes = jaxgd.plot.paths_grid(bowl, [1.0, 1.0], learning_rates=[0.05, 0.5], momenta=[0, 0.5, 0.9], max_steps=5)
    >>> axes.shape, axes[0, 1].get_title()
    ((3, 2), 'learning rate 0.5')
    """
    _style.needed()
    rates = _listed("learning_rates", learning_rates)
    beyond = _listed("momenta", momenta)
    _checks.positive("learning_rates", rates, several=True)
    for momentum in beyond:
        _checks.fraction("momenta", float(momentum), closed=True)
    params = _problem.start_point(start, None, None)
    one_or_two("start", params)
    given = known_minimum(minimum, params)
    shape = len(beyond), len(rates)
    panels = None if ax is None else _panels(ax, shape)
    options: dict[str, Any] = {"max_steps": max_steps, "stop": (), "history": "params", "jit": jit}
    pairs = [(float(rate), float(momentum)) for momentum in beyond for rate in rates]
    results = [minimize(cost, start, data, method=GradientDescent(*pair), **options) for pair in pairs]
    walks = [walked(result) for result in results]
    best = min(results, key=lambda result: float(result.best.cost))
    ground, found = grounded(Costs(cost, data, best), walks, minimum, given)
    own = panels is None
    panels = _new_panels(shape) if panels is None else panels
    for panel, walk in zip(panels.flat, walks, strict=True):
        ground.draw(panel, walk.names)
        draw(panel, ground, walk, found)
        if walk.diverged:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            panel.text(0.05, 0.05, "diverged", transform=panel.transAxes, fontsize="small", color="black", bbox=box, zorder=8)
    for panel in panels.flat:
        ground.frame(panel, np.concatenate([walk.points for walk in walks]))
    _edges(panels, rates, beyond, walks[0].names)
    if own:
        ground.explain(panels)
        panels[0, 0].figure.legend(*_handles(panels), loc="outside lower center", ncols=4, frameon=False)
    return panels


def _listed(name: str, values: Any) -> np.ndarray:
    """A list of numbers, at least one."""
    _numbers.concrete(name, values)
    found = np.asarray(_checks.vector(name, values))
    if not found.size:
        raise ValueError(f"{name}: expected at least one, got none.")
    return found


def _panels(ax: Any, shape: tuple[int, int]) -> np.ndarray:
    """The Axes that were given, in the shape of the grid."""
    given = np.asarray(ax, dtype=object)
    if np.squeeze(given).shape != np.squeeze(np.empty(shape)).shape:
        raise ValueError(f"ax: expected None or an array of Axes of shape {shape}, got shape {given.shape}.")
    for one in given.flat:
        _style.axes(one)
    return given.reshape(shape)


def _new_panels(shape: tuple[int, int]) -> np.ndarray:
    """The Axes of a new figure."""
    import matplotlib.pyplot as plt

    size = 2.1 * shape[1] + 1.4, 1.9 * shape[0] + 1.0
    _, panels = plt.subplots(*shape, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat:
        _style.frame(panel, closed=True)
    return panels


def _edges(panels: np.ndarray, rates: np.ndarray, momenta: np.ndarray, names: tuple[str, ...]) -> None:
    """Say at the edges what the columns and the rows are."""
    for panel in panels.flat:
        panel.set(xlabel="", ylabel="")
    for panel, rate in zip(panels[0], rates, strict=True):
        panel.set_title(f"learning rate {rate:g}", fontsize="medium")
    for panel, momentum in zip(panels[:, -1], momenta, strict=True):
        panel.annotate(f"momentum {momentum:g}", (1.03, 0.5), xycoords="axes fraction", rotation=270, va="center", ha="left")
    for panel in panels[-1]:
        panel.set_xlabel(names[0])
    for panel in panels[:, 0]:
        panel.set_ylabel(names[1] if len(names) == 2 else "cost")


def _handles(panels: np.ndarray) -> tuple[list[Any], list[str]]:
    """One handle for each label in the panels."""
    found = [pair for panel in panels.flat for pair in zip(*panel.get_legend_handles_labels(), strict=True)]
    unique = {text: handle for handle, text in found if text in ("start", "end", "minimum")}
    return list(unique.values()), list(unique)
