"""Pictures of the paths of runs over their cost, of one or two parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgd import _problem
from jaxgd._checks import check, check_trees
from jaxgd._minimize import minimize
from jaxgd._trees import number_names, parameters_of
from jaxgd.methods.first_order import GradientDescent
from jaxgd.plot import _numbers, _style
from jaxgd.plot._ground import Costs, Ground
from jaxgd.plot._style import Axes
from jaxgd.result import Result

_ARROWS = 30  # steps up to which each is an arrow
_HEADS = 16  # arrowheads on a longer path
_ABOVE = 4.0  # times as high above the lowest as its start is where a path ends that does not stay
_HEAD = 1e-3  # the share of its step that is drawn behind a head
_TANGLED = 30.0  # widths of the picture, above which the line of a path is faint
_FAR = 5.0  # widths of the picture, where a path that leaves it is cut


class _Walk(NamedTuple):
    """A path to draw: its points (n, k), the best of them, their costs, and the names of the parameters."""

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
    """Draw the path of a run over the cost of its one or two parameters.

    For two parameters it is drawn over filled contours, dark where the cost is low, with logarithmic levels above the lowest cost
    if a narrow valley needs them. For one parameter its points are on the curve of the cost. Up to 30 steps are an arrow each; a
    longer path is a line with arrowheads at even distances. A path that leaves for infinity leaves the frame.

    Args:
        result: the `Result` of a run with `history="params"`, of two numbers or of one.
        cost: its cost, cost(params), or cost(params, data).
        data: its data, or None.
        ax: the Axes to draw into; None makes a figure, with a bar that explains the levels.
        minimum: the point to mark, always in the picture, a pytree like the parameters; None finds it by `jaxgd.minimize` from the
            best point of the run, and marks it if that converges (bounds are not known here); False marks none.
        arrows: how many arrows at most, >= 0; None is 30 for steps, or 16 heads on a longer path.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

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
    walk = _walk(result)
    if arrows is not None:
        arrows = check.integer("arrows", arrows, 0)
    given = _given_minimum(minimum, result.params)
    ground, marked = _ground(Costs(cost, data, result), [walk], minimum, given)
    own = ax is None
    ax = _style.axes(ax)
    ground.draw(ax, walk.names, walk.points)
    _draw(ax, ground, walk, marked, arrows)
    if own:
        ground.explain(ax)
    ax.legend(loc="best", framealpha=0.85, fontsize="small")
    return ax


def _walk(result: Any) -> _Walk:
    """Return the path of a run, checked, without points that are not finite."""
    result = _numbers.one_run(result, 'a Result with history="params"')
    if result.history is None or result.history.params is None:
        raise ValueError('result: expected a Result with history.params, got none: run with history="params".')
    names = _one_or_two("result", result.params)
    costs = np.asarray(result.history.cost, np.float64)
    leaves = jax.tree.leaves(parameters_of(result.history.params))
    points = np.concatenate([np.asarray(leaf, np.float64).reshape(len(costs), -1) for leaf in leaves], axis=1)
    sound = np.all(np.isfinite(points), axis=1) & np.isfinite(costs)
    if not np.any(sound):
        raise ValueError("result: expected a run with a finite start, got none.")
    left = _numbers.blown_up(costs, result.code)
    return _Walk(points[sound], _numbers.flat(result.best.params), costs[sound], left, result.status.nonfinite, names)


def _one_or_two(name: str, params: Any) -> tuple[str, ...]:
    """Check that there are one or two numbers in the parameters, and return their names."""
    names = number_names(parameters_of(params))
    if len(names) not in (1, 2):
        raise ValueError(f"{name}: expected one or two parameters to draw the path of, got {len(names)}.")
    return tuple(map(_style.pretty, names))


def _given_minimum(minimum: Any, params: Any) -> np.ndarray | None:
    """Return the minimum that was given, checked, or None."""
    if minimum is None or minimum is False:
        return None
    _numbers.concrete("minimum", minimum)
    with _problem.precision("float64") as to:
        point = check_trees.parameters("minimum", minimum, to)
    trees = parameters_of(point), parameters_of(params)
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in trees]
    if jax.tree.structure(trees[0]) != jax.tree.structure(trees[1]) or shapes[0] != shapes[1]:
        raise ValueError(f"minimum: expected None, False or a pytree like the parameters, got {check.show(minimum)}.")
    return _numbers.flat(point)


def _ground(costs: Costs, walks: list[_Walk], minimum: Any, given: np.ndarray | None) -> tuple[Ground, np.ndarray | None]:
    """Return the ground of some paths, and the minimum to mark, found if `minimum` is None.

    The limits are those of the paths that stay and, of several, end not far above their start.
    """
    marked = costs.minimum() if minimum is None else given
    lowest = min(walk.costs.min() for walk in walks)
    staying = [walk for walk in walks if not walk.left]
    staying = [walk for walk in staying if walk.costs[-1] - lowest <= _ABOVE * (walk.costs[0] - lowest)] or staying
    anchors = [walk.points[0] for walk in staying or walks]
    if marked is not None:
        anchors.append(marked)
    if not staying:
        anchors += [walk.best for walk in walks]
    points = np.concatenate([walk.points for walk in staying or walks])
    return Ground(costs, *_numbers.window(points, np.array(anchors), cut=not staying)), marked


def _draw(ax: "Axes", ground: Ground, walk: _Walk, minimum: np.ndarray | None, arrows: int | None = None) -> None:
    """Draw a path over its ground, with its start, its end and the minimum."""
    points = _near(walk.points, ground) if walk.left else walk.points
    kept = _numbers.trail(points, ground.low, ground.high)
    places = ground.places(points[kept])
    steps, on_curve = len(points) - 1, len(ground.low) == 1
    most = (_ARROWS if steps <= _ARROWS else _HEADS) if arrows is None else arrows
    each = steps <= most and len(kept) == len(points)
    color = _style.ink(ax) if on_curve else "black"
    line: dict[str, Any] = {"color": color, "zorder": 3, "gid": "path", "rasterized": len(kept) > 2000}
    if on_curve:
        ax.plot(*places.T, linestyle="", marker="o", markersize=4, **line)
    if each:
        _arrows(ax, places[:-1], places[1:], color)
    elif not on_curve:
        lengths = np.linalg.norm(np.diff((places - ground.low) / (ground.high - ground.low), axis=0), axis=1)
        tangled = np.sum(lengths) >= _TANGLED
        ax.plot(*places.T, linewidth=0.5 if tangled else 0.9, alpha=0.4 if tangled else None, **line)
        reached = np.cumsum(lengths)
        wanted = (np.arange(most) + 0.5) / max(most, 1) * reached[-1]  # at even distances, as they are seen
        tips = 1 + np.unique(np.minimum(np.searchsorted(reached, wanted), len(lengths) - 1))
        steps_there = points[kept[tips]] - points[kept[tips] - 1]
        _arrows(ax, places[tips] - _HEAD * steps_there, places[tips], color, heads=True)
    paper: Any = ax.get_facecolor() if on_curve else "white"
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
    """Draw arrows, smaller ones where they are shorter than their heads; or the heads alone, all of one size."""
    if not len(tips):
        return
    width, back = (0.0007, 0.11) if heads else (0.014, 0.09)  # inches; sizes of a head are in units of the width
    head: dict[str, Any] = {"headwidth": 0.09 / width, "headlength": 0.11 / width, "headaxislength": back / width}
    shaft: dict[str, Any] = {"units": "inches", "width": width, "minshaft": 0 if heads else 1, "minlength": 0 if heads else 1}
    ax.quiver(*tails.T, *(tips - tails).T, angles="xy", scale_units="xy", scale=1, color=color, zorder=4, **shaft, **head)


def _near(points: np.ndarray, ground: Ground) -> np.ndarray:
    """Return a path up to its first point far outside the picture, which is pulled near along its step."""
    seen = (points - ground.low) / (ground.high - ground.low) - 0.5
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
    """Draw the path of `GradientDescent` for each pair of a learning rate and a momentum.

    The paths are drawn as by `path`, all with the limits of the paths that stay; a path that leaves for infinity leaves its frame.

    Args:
        cost: cost(params), or cost(params, data) where data are given, of one or two parameters.
        start: where to begin, as in `minimize`.
        data: any pytree of arrays, or None.
        learning_rates: the rates, one for each column, > 0.
        momenta: the momenta, one for each row, in [0, 1].
        max_steps: the steps of each run, >= 1; all of them are run.
        ax: an array of Axes of shape (momenta, learning rates); None makes a figure, with a legend and a bar for the levels.
        minimum: as in `path`; None finds it from the best point of all runs.
        jit: False for a cost that can't be traced, as in `minimize`.

    Returns:
        The Axes, an array of shape (momenta, learning rates).

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jax.numpy as jnp, jaxgd
    >>> def bowl(v):
    ...     return jnp.sum(v**2)
    >>> axes = jaxgd.plot.paths_grid(bowl, [1.0, 1.0], learning_rates=[0.05, 0.5], momenta=[0, 0.5, 0.9], max_steps=5)
    >>> axes.shape, axes[0, 1].get_title()
    ((3, 2), 'learning rate 0.5')
    """
    _style.needed()
    rates, momenta = _listed("learning_rates", learning_rates), _listed("momenta", momenta)
    check.positive("learning_rates", rates, several=True)
    for momentum in momenta:
        check.fraction("momenta", float(momentum), closed=True)
    params = _problem.start_point(start, None, None)
    _one_or_two("start", params)
    given = _given_minimum(minimum, params)
    shape = len(momenta), len(rates)
    panels = None if ax is None else _panels(ax, shape)
    options: dict[str, Any] = {"max_steps": max_steps, "stop": (), "history": "params", "jit": jit}
    pairs = [(float(rate), float(momentum)) for momentum in momenta for rate in rates]
    results = [minimize(cost, start, data, method=GradientDescent(*pair), **options) for pair in pairs]
    walks = [_walk(result) for result in results]
    best = min(results, key=lambda result: float(result.best.cost))
    ground, marked = _ground(Costs(cost, data, best), walks, minimum, given)
    if panels is None:
        import matplotlib.pyplot as plt

        size = 2.1 * shape[1] + 1.4, 1.9 * shape[0] + 1.0
        _, panels = plt.subplots(*shape, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False)
        for panel in panels.flat:
            _style.frame(panel, closed=True)
    points = np.concatenate([walk.points for walk in walks])
    for panel, walk in zip(panels.flat, walks, strict=True):
        ground.draw(panel, walk.names, points)
        _draw(panel, ground, walk, marked)
        if walk.diverged:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            panel.text(0.05, 0.05, "diverged", transform=panel.transAxes, fontsize="small", color="black", bbox=box, zorder=8)
    _name_edges(panels, rates, momenta)
    if ax is None:
        ground.explain(panels)
        lines = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
        labels = [label for label in lines if label in ("start", "end", "minimum")]
        panels[0, 0].figure.legend([lines[label] for label in labels], labels, loc="outside lower center", ncols=4, frameon=False)
    return panels


def _listed(name: str, values: Any) -> np.ndarray:
    """Return a list of numbers, checked, of which there must be at least one."""
    _numbers.concrete(name, values)
    found = check.vector(name, values)
    if not found.size:
        raise ValueError(f"{name}: expected at least one, got none.")
    return found


def _panels(ax: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return the Axes that were given, checked, in the shape of the grid."""
    given = np.asarray(ax, dtype=object)
    if np.squeeze(given).shape != np.squeeze(np.empty(shape)).shape:
        raise ValueError(f"ax: expected None or an array of Axes of shape {shape}, got shape {given.shape}.")
    for one in given.flat:
        _style.axes(one)
    return given.reshape(shape)


def _name_edges(panels: np.ndarray, rates: np.ndarray, momenta: np.ndarray) -> None:
    """Name the columns and the rows at the edges of the grid, and only there."""
    last_row, last_column = len(momenta) - 1, len(rates) - 1
    for (row, column), panel in np.ndenumerate(panels):
        if row == 0:
            panel.set_title(f"learning rate {rates[column]:g}", fontsize="medium")
        if column == last_column:
            name = f"momentum {momenta[row]:g}"
            panel.annotate(name, (1.03, 0.5), xycoords="axes fraction", rotation=270, va="center", ha="left")
        if row < last_row:
            panel.set_xlabel("")
        if column > 0:
            panel.set_ylabel("")
