"""Pictures of profiles of the cost: over one parameter, and the contours of two."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgd._checks import check
from jaxgd._profiles.contour import Contour
from jaxgd._profiles.profile import Profile
from jaxgd.plot import _numbers, _style
from jaxgd.plot._style import Axes

_ROUND = np.linspace(0, 2 * np.pi, 200)
_LINES = ("-", "--", "-.", ":")
_HIGHEST = 5  # standard deviations whose rises are marked


def profile(found: Profile, *, parabola: bool = True, ax: "Axes | None" = None) -> "Axes":
    """Draw the profile of a parameter: how far the lowest cost over all others is above the minimum.

    Thin lines mark the rise at one standard deviation, at two and so on: where the profile crosses them the intervals end.

    Args:
        found: the `Profile`.
        parabola: whether to draw the parabola whose curvature is that of the minimum, too: the profile as `covariance` sees it.
        ax: the Axes to draw into; None makes a figure.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jax.numpy as jnp, jaxgd
    >>> found = jaxgd.profile(lambda p: p["rate"] - 9 * jnp.log(p["rate"]), {"rate": 9.0}, parameter="rate")
    >>> jaxgd.plot.profile(found).get_xlabel()
    'rate'
    """
    _style.needed()
    check.flag("parabola", parabola)
    _one("found", found, Profile)
    values, rise = np.asarray(found.values, np.float64), np.asarray(found.rise, np.float64)
    order = np.argsort(values)
    values, rise = values[order], rise[order]
    ax = _style.axes(ax)
    name, scale = _style.pretty(found.name), float(found.scale)
    top = np.nanmax(rise, initial=0.0)
    for k in range(1, _HIGHEST + 1):
        if k == 1 or scale * k**2 <= top:
            ax.axhline(scale * k**2, color="0.6", linewidth=0.6, zorder=1, gid="level")
            ax.annotate(
                rf"${k}\sigma$",
                (1, scale * k**2),
                (-2, 2),
                ("axes fraction", "data"),
                "offset points",
                ha="right",
                va="bottom",
                fontsize="small",
                color="0.4",
            )
    centre, error = float(found.value), float(found.error)
    fine = np.linspace(values[0], values[-1], 200)
    if parabola and np.isfinite(error):
        bowl = scale * ((fine - centre) / error) ** 2
        ax.plot(fine, np.where(bowl <= max(top, scale), bowl, np.nan), "--", color=_style.ORANGE, linewidth=1.2, label="parabola")
    ax.plot(values, rise, color=_style.BLUE, linewidth=1.6, marker="o" if len(values) < 30 else None, markersize=3, label="profile")
    ax.set(xlabel=name, ylabel="rise of the lowest cost", ylim=(min(0.0, np.nanmin(rise, initial=0.0)), 1.08 * max(top, scale)))
    _style.ticks(ax)
    if parabola:
        ax.legend(loc="upper center", fontsize="small", framealpha=0.85)
    return ax


def contour(found: Contour | Sequence[Contour], *, ellipse: bool = False, ax: "Axes | None" = None) -> "Axes":
    """Draw contours of two parameters, each with the probability that it holds, and the minimum.

    Args:
        found: the `Contour`, or several of the same two parameters.
        ellipse: whether to draw the ellipses that the contours would be if the cost were a parabola, too.
        ax: the Axes to draw into; None makes a figure.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: for a bad argument; the message names it.

    >>> import jaxgd
    >>> found = jaxgd.contour(lambda p: p["a"] ** 2 + (p["b"] - p["a"] ** 2) ** 2, {"a": 0.0, "b": 0.0})
    >>> ax = jaxgd.plot.contour(found, ellipse=True)
    >>> ax.get_xlabel(), ax.get_ylabel(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('a', 'b', ['68 %', 'parabola', 'minimum'])
    """
    _style.needed()
    check.flag("ellipse", ellipse)
    several: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    for k, one in enumerate(several):
        _one(f"found[{k}]" if isinstance(found, list | tuple) else "found", one, Contour)
        if one.names != several[0].names:
            raise ValueError(
                f"found[{k}]: expected a Contour of {' and '.join(several[0].names)}, got one of {' and '.join(one.names)}."
            )
    if not several:
        raise ValueError("found: expected at least one Contour, got none.")
    ax = _style.axes(ax, closed=True)
    for k, one in enumerate(sorted(several, key=lambda one: float(one.rise))):
        values = np.asarray(one.values, np.float64)
        closed = np.concatenate([values, values[:1]])
        style: dict[str, Any] = {"color": _style.BLUE, "linestyle": _LINES[k % len(_LINES)], "linewidth": 1.6}
        ax.plot(*closed.T, **style, label=f"{100 * float(one.level):.4g} %", gid="contour")
        if ellipse:
            axes, centre = np.asarray(one.axes, np.float64), np.asarray(one.centre, np.float64)
            round_ = centre + np.stack([np.cos(_ROUND), np.sin(_ROUND)], axis=1) @ axes.T
            style |= {"color": _style.ORANGE, "linewidth": 1.0}
            ax.plot(*round_.T, **style, label="parabola" if k == 0 else None, gid="ellipse")
    centre = np.asarray(several[0].centre, np.float64)
    _style.marks(ax, centre[:1], centre[1:], _style.VERMILLION, "P", 8, label="minimum", zorder=3)
    ax.set(xlabel=_style.pretty(several[0].names[0]), ylabel=_style.pretty(several[0].names[1]))
    _style.ticks(ax)
    ax.legend(loc="best", fontsize="small", framealpha=0.85)
    return ax


def _one(name: str, value: Any, kind: type) -> None:
    """Check that an object is one profile or contour."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected a {kind.__name__} of jaxgd.{kind.__name__.lower()}, got {check.show(value)}.")
    _numbers.concrete(name, value)
    if np.ndim(value.code) != 1:
        raise ValueError(f"{name}: expected one {kind.__name__}, got those of {np.shape(value.code)[0]} fits.")
