"""Paths for many learning rates and momenta, side by side."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgd import _problem
from jaxgd._checks import check
from jaxgd._minimize import minimize
from jaxgd.methods.first_order import GradientDescent
from jaxgd.plot import _style
from jaxgd.plot._path import draw, grounded, known_minimum, one_or_two, walked
from jaxgd.plot._surface import Costs


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
    check.positive("learning_rates", rates, several=True)
    for momentum in beyond:
        check.fraction("momenta", float(momentum), closed=True)
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
    _style.concrete(name, values)
    found = np.asarray(check.vector(name, values))
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
        _style.framed(panel, closed=True)
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
