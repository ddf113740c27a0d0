"""The look of all pictures: their Axes, colours, markers, ticks and names."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgd._checks import check
from jaxgd._trees import is_number, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any  # matplotlib is imported only to draw

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
# In this order neighbours differ in lightness, so that a grey print keeps them apart.
_COLORS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, "#737373", "#F0E442")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # seven beside eight colours: 56 pairs
PAIRS = len(_COLORS) * len(_MARKERS)
_LONGEST = 28  # characters of a name


def needed() -> None:
    """Check that matplotlib is installed, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('jaxgd.plot needs matplotlib: pip install "jaxgd[plot]"') from error


def axes(ax: Any, width: float = 6.4, height: float = 4.4, *, closed: bool = False) -> "Axes":
    """Return the Axes given, checked, or those of a new figure of a size in inches."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
        frame(ax, closed=closed)
        return ax
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax: expected an Axes of matplotlib, or None, got {check.show(ax)}.")
    return ax


def frame(ax: "Axes", *, closed: bool) -> None:
    """Draw a thin frame: two sides, or all four where it is closed."""
    for side, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_visible(closed or side not in ("top", "right"))
    ax.tick_params(width=0.6, which="both")


def pair(place: int) -> tuple[str, str]:
    """Return the colour and the marker of one of several runs or classes."""
    return _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]


def marks(ax: "Axes", x: Any, y: Any, color: Any, marker: str, size: float, **style: Any) -> None:
    """Draw markers, edged in the colour of the paper unless `style` says otherwise, many of them as pixels."""
    style = {"markeredgecolor": ax.get_facecolor()} | style
    ax.plot(x, y, linestyle="", color=color, marker=marker, markersize=size, rasterized=len(x) > 2000, **style)


def ink(ax: "Axes") -> Any:
    """Return the colour of the labels of some Axes: dark on light paper, light on dark."""
    return ax.xaxis.label.get_color()


def ticks(ax: "Axes", *, counts: bool = False) -> None:
    """Write extreme numbers on linear axes with a power of ten; with `counts`, put the ticks of x at integers."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    if counts:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
        ax.xaxis.set_major_formatter(ScalarFormatter())
    for axis in (ax.xaxis, ax.yaxis):
        if isinstance(axis.get_major_formatter(), ScalarFormatter):
            axis.set_major_formatter(ScalarFormatter(useMathText=True))


def bar(mappable: Any, ax: Any, text: str, **options: Any) -> Any:
    """Draw a colour bar beside Axes, or beside an array of them, and return it."""
    drawn = np.ravel(ax)[0].figure.colorbar(mappable, ax=ax, label=text, pad=0.02, **options)
    drawn.outline.set_linewidth(0.6)
    drawn.ax.tick_params(width=0.6, length=2)
    return drawn


def hatch(ax: "Axes") -> None:
    """Hatch the background of the Axes, which shows where there are no values."""
    from matplotlib.patches import Rectangle

    style: dict[str, Any] = {"facecolor": "0.93", "edgecolor": "0.7", "hatch": "////", "linewidth": 0, "zorder": -2}
    ax.add_artist(Rectangle((0, 0), 1, 1, transform=ax.transAxes, gid="hatched", **style))


def pretty(name: str) -> str:
    """Return a short name for a number among the parameters: w[2] for "params['w'][2]"."""
    return short(short_name(name))


def short(text: str) -> str:
    """Return a text, cut in the middle where it is long: names tend to differ at their ends."""
    return text if len(text) <= _LONGEST else text[:12] + "…" + text[-(_LONGEST - 13) :]


def label(value: Any) -> str:
    """Return a label as text, a number in few digits."""
    return f"{float(value):g}" if is_number(value) else str(value)
