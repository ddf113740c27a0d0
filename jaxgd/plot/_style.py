"""What all pictures share: the Axes to draw into, colours and markers, names, and the checks of what is drawn."""

import re
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxgd._checks import check
from jaxgd._trees import is_number, is_traced, parameters_of
from jaxgd.result import Result
from jaxgd.uncertainty import Covariance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
# In this order neighbours differ in lightness, so that a grey print keeps them apart.
COLORS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, "#737373", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # seven beside eight colours: 56 pairs
PAIRS = len(COLORS) * len(MARKERS)
_LONGEST = 28  # characters of a name


def needed() -> None:
    """Check that matplotlib is there, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('jaxgd.plot needs matplotlib: pip install "jaxgd[plot]"') from error


def axes(ax: Any, width: float = 6.4, height: float = 4.4) -> "Axes":
    """The Axes given, or those of a new figure of so many inches."""
    needed()
    from matplotlib.axes import Axes

    if ax is None:
        import matplotlib.pyplot as plt

        return framed(plt.subplots(figsize=(width, height), layout="constrained")[1])
    if not isinstance(ax, Axes):
        raise TypeError(f"ax: expected an Axes of matplotlib, or None, got {check.show(ax)}.")
    return ax


def framed(ax: "Axes", *, closed: bool = False) -> "Axes":
    """Axes with a thin frame: two sides, or all four where it is closed."""
    for side, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_visible(closed or side not in ("top", "right"))
    ax.tick_params(width=0.6, which="both")
    return ax


def ink(ax: "Axes") -> Any:
    """The colour that the Axes write in: dark on light paper, light on dark."""
    return ax.xaxis.label.get_color()


def tint(ax: "Axes", color: str) -> tuple[float, ...]:
    """A colour thinned with that of the paper, and opaque."""
    from matplotlib.colors import to_rgb

    return tuple(0.22 * part + 0.78 * paper for part, paper in zip(to_rgb(color), to_rgb(ax.get_facecolor()), strict=True))


def counted(axis: Any) -> None:
    """Let an axis count: ticks at integers, large ones by a power of ten."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    axis.set_major_formatter(ScalarFormatter(useMathText=True))


def powers(axis: Any) -> None:
    """Let a linear axis write very large and very small numbers by a power of ten."""
    from matplotlib.ticker import ScalarFormatter

    if isinstance(axis.get_major_formatter(), ScalarFormatter):
        axis.set_major_formatter(ScalarFormatter(useMathText=True))


def best(ax: "Axes", x: float, y: float, text: str) -> None:
    """Mark the best point of a picture with a star."""
    style: dict[str, Any] = {"marker": "*", "markersize": 15, "color": ORANGE, "markeredgecolor": ink(ax), "linestyle": ""}
    ax.plot([x], [y], zorder=5, label=text, clip_on=False, **style)


def bar(mappable: Any, ax: Any, text: str, **options: Any) -> Any:
    """A bar beside Axes, or an array of them, that explains colours."""
    drawn = np.ravel(ax)[0].figure.colorbar(mappable, ax=ax, label=text, pad=0.02, **options)
    drawn.outline.set_linewidth(0.6)
    drawn.ax.tick_params(width=0.6, length=2)
    return drawn


def hatched(ax: "Axes") -> None:
    """Hatch the Axes, behind everything: what stays bare of values is seen to be so."""
    from matplotlib.patches import Rectangle

    style: dict[str, Any] = {"facecolor": "0.93", "edgecolor": "0.7", "hatch": "////", "linewidth": 0, "zorder": -2}
    ax.add_artist(Rectangle((0, 0), 1, 1, transform=ax.transAxes, gid="hatched", **style))


def concrete(name: str, *trees: Any) -> None:
    """Check that nothing is being traced."""
    if is_traced(trees):
        raise TypeError(f"{name}: expected numbers, got values that JAX is tracing: draw outside jax.jit, jax.vmap and jax.grad.")


def one_run(result: Any, what: str = "a Result") -> Result:
    """Check that something is the result of one run."""
    if not isinstance(result, Result):
        raise TypeError(f"result: expected {what}, got {check.show(result)}.")
    concrete("result", result.params, result.code, result.history)
    if np.ndim(result.code):
        cure = "take one, as in jax.tree.map(lambda leaf: leaf[0], result)"
        raise ValueError(f"result: expected that of one run, got those of {np.size(result.code)}: {cure}.")
    return result


def one_covariance(covariance: Any) -> Covariance:
    """Check that something is the covariance of one fit."""
    if not isinstance(covariance, Covariance):
        raise TypeError(f"covariance: expected a jaxgd.Covariance, got {check.show(covariance)}.")
    concrete("covariance", covariance)
    if np.ndim(covariance.code):
        raise ValueError(f"covariance: expected that of one fit, got those of {np.size(covariance.code)}.")
    return covariance


def no_history(name: str, wanted: str) -> ValueError:
    """The error about what was not recorded."""
    return ValueError(f'{name}: expected a Result with history.{wanted}, got none: run with history="{wanted}".')


def numbers(array: Any) -> np.ndarray:
    """An array of NumPy's or JAX's, of any precision, in 64 bits."""
    return np.asarray(array).astype(np.float64)


def rows(params: Any) -> np.ndarray:
    """The numbers of a pytree of arrays with a common leading axis, one row each, in 64 bits."""
    leaves = jax.tree.leaves(parameters_of(params))
    return np.concatenate([numbers(leaf).reshape(np.shape(leaf)[0], -1) for leaf in leaves], axis=1)


def pretty(name: str) -> str:
    """Where a number is in the parameters, without what goes without saying: "params['w'][2]" is w[2]."""
    plain = re.sub(r"""\[(['"])(.*?)\1\]""", r".\2", name)
    return short(plain.removeprefix("params."))


def short(text: str) -> str:
    """A text, cut in the middle where it is long: names tend to differ at their ends."""
    return text if len(text) <= _LONGEST else text[:12] + "…" + text[-(_LONGEST - 13) :]


def label(value: Any) -> str:
    """A label as text: numbers in few digits."""
    return f"{float(value):g}" if is_number(value) else str(value)
